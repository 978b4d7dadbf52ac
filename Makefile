# The two commands that matter: make demo, make test. Each sets up what it needs, or names it.

SHELL := /bin/bash
GO ?= go
TESTFLAGS ?=
# The tools are pinned in a module of their own, so that the root module stays almost free of dependencies.
TOOL := $(GO) tool -modfile=internal/tools/lint/go.mod
# Packages in which the race detector is of use: heap memory. It does not see what is mapped.
RACE := ./ring ./futex ./seg ./internal/...

# The C client: where it is installed, the version of its binary interface, its version, its warnings.
PREFIX ?= /usr/local
CABI := 0
CVERSION := 0.1.0
CWARN := -Wall -Wextra -pedantic -Wconversion -Werror

# Suites with a target of their own, which `make test` leaves out and .ci/run runs.
SUITES_APART := tests/(model|weak|linearizability|recovery|mutants|arm64|soak|interop)(/|$$)

.DEFAULT_GOAL := help
.PHONY: help build demo test race lint generate generate-check tidy-check cross header crash crash-mutants model golden bench clean
.PHONY: linearizability linearizability-mutants
.PHONY: rust-test python-test interop
.PHONY: weak
.PHONY: bench-peers bench-compare bench-plot
.PHONY: c-test lib install

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: go-version ## build bin/millrace
	$(GO) build -trimpath -o bin/millrace ./cmd/millrace

demo: build ## real files between processes that are killed all the time, in both kinds of ring; under a minute
	bin/millrace demo --kind mpmc --producers 4 --consumers 4
	bin/millrace demo --kind spsc

test: go-version ## vet, formatting, the tests, and the crash tests at labels; some minutes
	$(GO) vet ./...
	cd bench && $(GO) vet ./... && $(GO) test ./harness
	@bad="$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go' 2>/dev/null || find . -name '*.go'))"; \
	if [ -n "$$bad" ]; then echo "not formatted, run gofmt -w on:"; echo "$$bad"; exit 1; fi
	$(GO) test $(TESTFLAGS) $$($(GO) list ./... | grep -vE '$(SUITES_APART)')
	$(MAKE) --no-print-directory crash-labels

crash: crash-labels crash-steps ## kill and stop processes at each labelled step, then before each instruction (amd64); some minutes

.PHONY: crash-steps
crash-steps: ## kill and stop processes before each instruction, by ptrace (amd64); some minutes, or MILLRACE_STEPS=5 for every fifth
	@set -o pipefail; MILLRACE_STEPS=$${MILLRACE_STEPS:-1} $(GO) test $(TESTFLAGS) -v -count=1 -timeout=30m ./tests/crash/step | grep -Ev '^ *(===|---) '

.PHONY: crash-labels
crash-labels: ## kill and stop processes at each labelled step
	$(GO) test -tags testpoint $(TESTFLAGS) ./tests/crash ./seg

crash-mutants: ## break the ring in one place after the other: stepping must notice each time; some minutes
	@set -o pipefail; MILLRACE_MUTANTS=all $(GO) test $(TESTFLAGS) -v -count=1 -timeout=1h -run TestMutants ./tests/crash/step | grep -Ev '^ *(===|---) '

race: ## the race detector, on heap memory; needs a C compiler
	@command -v $${CC:-cc} >/dev/null || { echo "make race: the race detector needs a C compiler; apt-get install gcc libc6-dev"; exit 1; }
	CGO_ENABLED=1 $(GO) test -race -short $(TESTFLAGS) $(RACE)

model: ## explore the protocols on paper: every interleaving of small configurations, and every mutant
	@out="$$($(GO) test -v $(TESTFLAGS) ./tests/model/...)" || { echo "$$out"; exit 1; }; grep -E '^(model:|ok)' <<<"$$out"

linearizability: ## histories of processes that are killed, each checked against a queue; MILLRACE_LINEARIZABILITY=10m for longer than 2 x 25 s
	MILLRACE_LINEARIZABILITY=$${MILLRACE_LINEARIZABILITY:-25s} $(GO) test -count=1 -v -timeout=2h $(TESTFLAGS) ./tests/linearizability
	MILLRACE_LINEARIZABILITY=$${MILLRACE_LINEARIZABILITY:-25s} $(GO) test -count=1 -v -timeout=2h $(TESTFLAGS) -tags testpoint -run TestHistories ./tests/linearizability

linearizability-mutants: ## break the ring in one place after the other: the histories must notice each time; two minutes
	MILLRACE_MUTANTS=all $(GO) test -count=1 -v -timeout=1h $(TESTFLAGS) -run TestMutants ./tests/linearizability

weak: ## the algorithms in C form under the C11 memory model, and every order lowered
	@out="$$($(GO) test -v $(TESTFLAGS) ./tests/weak)" || { echo "$$out"; exit 1; }; grep -E '^(weak:|ok)' <<<"$$out"

.PHONY: recover-time
recover-time: ## kill a participant in each state while another waits for it: how long until that one goes on; MILLRACE_KILLS=100 for figures
	$(GO) test -count=1 -v -timeout=1h -tags testpoint ./tests/recovery $(TESTFLAGS)

.PHONY: mutants mutants-check mutants-update
SUITES ?=
mutants: ## every mutant of every suite in one table; half an hour, or SUITES="model weak" for half a minute
	$(GO) run ./tests/mutants $(SUITES)

mutants-check: ## run the mutants of the model and of the C form, and fail when docs/MUTANTS.md has others
	$(GO) run ./tests/mutants -check model weak

mutants-update: ## run the mutants, SUITES or all, and write docs/MUTANTS.md
	$(GO) run ./tests/mutants -update $(SUITES)

.PHONY: arm64
arm64: ## the core's tests and an exchange of messages on arm64, under qemu-user; needs qemu-aarch64
	MILLRACE_ARM64=1 $(GO) test -count=1 -v $(TESTFLAGS) ./tests/arm64

lint: ## vet, staticcheck, the rules of the project
	$(GO) vet ./...
	$(GO) vet -tags testpoint,invariants ./...
	$(TOOL) staticcheck ./...
	$(TOOL) staticcheck -tags testpoint,invariants ./...
	cd bench && $(GO) tool -modfile=../internal/tools/lint/go.mod staticcheck ./...
	$(GO) test $(TESTFLAGS) ./internal/rules

generate: ## write what follows from the tables of docs/FORMAT.md, and the places in docs/ORDERING.md
	$(GO) generate ./...
	$(GO) test ./internal/rules -run Ordering -update

generate-check: ## fail when a generated file is not what the tables say
	$(GO) run ./internal/tools/layoutgen -check

tidy-check: ## fail when go.mod or go.sum is not tidy
	$(GO) mod tidy -diff
	cd internal/tools/lint && $(GO) mod tidy -diff
	cd bench && $(GO) mod tidy -diff

cross: ## vet for linux/arm64, build where it is not supported
	GOOS=linux GOARCH=arm64 $(GO) vet ./...
	GOOS=linux GOARCH=386 $(GO) build ./ring ./seg ./futex
	GOOS=darwin GOARCH=arm64 $(GO) build ./...
	GOOS=windows GOARCH=amd64 $(GO) build ./...

header: ## compile the C client as C11, C17, C++17 and C++20 without a warning, with gcc and with clang if it is there
	@command -v $${CC:-cc} >/dev/null && command -v $${CXX:-c++} >/dev/null || { echo "make header: needs a C and a C++ compiler; apt-get install gcc g++"; exit 1; }
	@for c in $${CC:-cc} clang; do for std in c11 c17; do \
		command -v $$c >/dev/null || { echo "skipped: $$c is missing"; continue; }; \
		echo "$$c -std=$$std"; $$c -std=$$std $(CWARN) -O2 -Iinclude -c -xc include/millrace.h -o /dev/null || exit 1; done; done
	@for c in $${CXX:-c++} clang++; do for std in c++17 c++20; do \
		command -v $$c >/dev/null || { echo "skipped: $$c is missing"; continue; }; \
		echo "$$c -std=$$std"; $$c -std=$$std $(CWARN) -O2 -Iinclude -c -xc++ include/millrace.h -o /dev/null || exit 1; done; done

c-test: go-version ## the C client: its own tests, against the Go one, and under the sanitizers; needs a C compiler
	$(GO) test -count=1 $(TESTFLAGS) ./tests/interop/c/... ./tests/interop/gopeer

.PHONY: soak soak-mutants
DURATION ?= 1m
SOAKFLAGS ?=
soak: ## processes that are killed, stopped, starved and flooded for DURATION=1h, with an account of every message; SOAKFLAGS=-json=FILE
	$(GO) build -trimpath -o bin/soak ./tests/soak
	bin/soak -duration $(DURATION) $(SOAKFLAGS)

soak-mutants: ## break the ring in one place after the other: the soak must notice each time; five minutes
	$(GO) run ./internal/tools/mutants -table tests/soak/mutants.txt -by soak -- $(GO) run -overlay {overlay} ./tests/soak -duration 40s -kill 200ms

python-test: ## install the Python client without a network, for each Python that is here, and run its tests
	bindings/python/tests/run.sh

interop: ## every language against every language: the matrix, crowds, kills, recovery; those whose tools are missing are named
	MILLRACE_INTEROP=1 $(GO) test -v -count=1 -timeout=15m $(TESTFLAGS) ./tests/interop

include jumps.mk

lib: ## build bin/lib/libmillrace.so, the C client as a shared library
	@command -v $${CC:-cc} >/dev/null || { echo "make lib: needs a C compiler; apt-get install gcc libc6-dev"; exit 1; }
	@mkdir -p bin/lib
	$${CC:-cc} -std=c11 $(CWARN) -O2 $(JUMPS) -g -fPIC -shared -fvisibility=hidden -Wl,-soname,libmillrace.so.$(CABI) -Iinclude bindings/c/millrace.c -o bin/lib/libmillrace.so.$(CABI) -pthread
	ln -sf libmillrace.so.$(CABI) bin/lib/libmillrace.so

install: lib ## install the C client below PREFIX (default /usr/local): headers, shared library, pkg-config files
	install -d $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/lib/pkgconfig
	install -m 644 include/*.h $(DESTDIR)$(PREFIX)/include
	install -m 755 bin/lib/libmillrace.so.$(CABI) $(DESTDIR)$(PREFIX)/lib
	ln -sf libmillrace.so.$(CABI) $(DESTDIR)$(PREFIX)/lib/libmillrace.so
	for f in millrace millrace-shared; do sed 's,@PREFIX@,$(PREFIX),; s,@VERSION@,$(CVERSION),' bindings/c/$$f.pc.in >$(DESTDIR)$(PREFIX)/lib/pkgconfig/$$f.pc; done

.PHONY: fuzz-smoke fuzz fuzz-mutants
FUZZTIME ?= 10m
FUZZERS := FuzzOpen FuzzMutated FuzzMeanwhile
fuzz-smoke: ## hostile segments: golden files, random inputs, and the fuzzing engine for a moment; half a minute
	MILLRACE_FUZZ=4s $(GO) test -count=1 $(TESTFLAGS) -run 'Golden|Forged|Hostile' ./fuzz
	@for f in $(FUZZERS); do $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime 3s -fuzzminimizetime 1x ./fuzz || exit 1; done

fuzz: ## the same for FUZZTIME=10m each; inputs that fail are added to fuzz/testdata, what crashed workers say to fuzz/testdata/crashes
	@mkdir -p fuzz/testdata/crashes
	MILLRACE_FUZZ=$(FUZZTIME) $(GO) test -count=1 -timeout=24h -run Hostile ./fuzz
	@for f in $(FUZZERS); do MILLRACE_FUZZ_CRASHES=$(CURDIR)/fuzz/testdata/crashes $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1x ./fuzz || exit 1; done
	@find fuzz/testdata/crashes -empty -delete

fuzz-mutants: ## remove one check after the other: the fuzzers must notice each time; three minutes
	MILLRACE_FUZZ=1s MILLRACE_FUZZ_CRASHES=$${TMPDIR:-/tmp} $(GO) run ./internal/tools/mutants -table fuzz/mutants.txt -by fuzz-smoke -- $(GO) test -overlay {overlay} -count=1 -run 'Golden|Forged|Hostile|Fuzz' ./fuzz

golden: ## write the golden segments that are missing; those that exist are never changed
	$(GO) test -count=1 ./fuzz -run TestGolden -update

rust-test: ## build the Rust client without a network, format, clippy, its tests, alone and against Go; needs cargo
	@command -v cargo >/dev/null || { echo "make rust-test: SKIP, there is no cargo; see https://rustup.rs"; exit 0; }; \
	set -e; cd bindings/rust; export CARGO_NET_OFFLINE=true; \
	cargo build --release --locked --examples; \
	cargo fmt --check; \
	cargo clippy --locked --all-targets -- -D warnings; \
	RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps --quiet; \
	cargo test --locked --quiet; \
	cd ../..; $(GO) test -count=1 $(TESTFLAGS) ./tests/interop/rust

ROUNDS ?= 10
ROWS ?=
MECHS ?=
LIMIT ?= 16m
RESULTS ?= bench/results/$$(git describe --always --dirty --abbrev=12).txt

bench: bench-peers ## measure every row of the plan between processes: ROUNDS=10, ROWS= and MECHS= are regular expressions, RESULTS= the file
	@mkdir -p bench/results
	cd bench && $(GO) build -o ../bin/millbench ./millbench
	bin/millbench run -peers bench/peers/bin -rounds $(ROUNDS) -limit $(LIMIT) -rows '$(ROWS)' -mechs '$(MECHS)' -o "$(RESULTS)"
	bin/millbench report "$(RESULTS)"
	@file="$(RESULTS)"; charts="$${file%.txt}.charts"; mkdir -p "$$charts" && bin/millbench plot "$$file" "$$charts" && echo "charts: $$charts"

bench-compare: ## measure this tree and the commit REF by turns: benchstat, REF=main ROUNDS=10 ROWS= MECHS=
	@test -n "$(REF)" || { echo "make bench-compare REF=COMMIT: with which commit?"; exit 2; }
	bench/compare.sh "$(REF)" "$(ROUNDS)" $(if $(ROWS),'$(ROWS)',"") $(if $(MECHS),'$(MECHS)',"")

bench-plot: ## draw the charts of a file of results into docs/images: RESULTS=bench/results/FILE
	cd bench && $(GO) build -o ../bin/millbench ./millbench
	bin/millbench plot "$(RESULTS)" docs/images

bench-peers: ## build the mechanisms of others that millrace is measured against, those that are installed
	$(MAKE) --no-print-directory -C bench/peers

clean: ## remove what was built
	rm -rf bin dist

.PHONY: go-version
go-version:
	@command -v $(GO) >/dev/null || { echo "Go is missing: install 1.25 or later from https://go.dev/dl/"; exit 1; }
