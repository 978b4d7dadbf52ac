package rules

import (
	"go/ast"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What the documents say and what the code does are compared here where a machine can.

const failuresFile = "docs/FAILURES.md"

// labels collects the labels of the testpoints.
func labels(t *testing.T) map[string]string {
	found := map[string]string{}
	fset := token.NewFileSet()
	for _, path := range files(t, func(path string) bool { return isGo(path) && !isTest(path) }) {
		if !slices.Contains(core, filepath.ToSlash(filepath.Dir(path))) {
			continue
		}
		ast.Inspect(parse(t, fset, path), func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			f, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := f.X.(*ast.Ident); !ok || pkg.Name != "testpoint" || f.Sel.Name != "Hit" && f.Sel.Name != "Either" {
				return true
			}
			at := fset.Position(call.Pos()).String()
			args := call.Args
			if f.Sel.Name == "Either" {
				args = args[1:]
			}
			for _, arg := range args {
				lit, ok := arg.(*ast.BasicLit)
				if !ok {
					t.Errorf("%s: a label that is no constant", at)
					continue
				}
				label, err := strconv.Unquote(lit.Value)
				if err != nil {
					t.Fatal(err)
				}
				if label != "" {
					found[label] = at
				}
			}
			return true
		})
	}
	return found
}

// TestEveryLabelHasARowOfFailures: where a process can be killed, the documents say what follows.
func TestEveryLabelHasARowOfFailures(t *testing.T) {
	have := map[string]bool{}
	quoted := regexp.MustCompile("`([^`]*)`")
	for _, line := range strings.Split(string(read(t, failuresFile)), "\n") {
		if first, _, ok := strings.Cut(strings.TrimPrefix(line, "|"), "|"); ok && strings.HasPrefix(line, "| ") {
			for _, m := range quoted.FindAllStringSubmatch(first, -1) {
				have[m[1]] = true
			}
		}
	}
	code := labels(t)
	for label, at := range code {
		if !have[label] {
			t.Errorf("%s: %s has no row that begins with `%s`", at, failuresFile, label)
		}
	}
	if len(code) < 20 {
		t.Errorf("only %d labels found: the rule looks in the wrong place", len(code))
	}
	label := regexp.MustCompile(`^([A-Z]\d+( [a-z]+)?|seg\.[a-z.]+|10\.\d.*)$`)
	for name := range have {
		if label.MatchString(name) && code[name] == "" {
			t.Errorf("%s has a row for `%s`, which no testpoint is called", failuresFile, name)
		}
	}
}

// TestOrderingNamesRealTests: the last column of the table names tests and mutants that exist.
func TestOrderingNamesRealTests(t *testing.T) {
	real := map[string]bool{}
	name := regexp.MustCompile(`(?m)^func (Test\w+)\(|^\t(\w+) +Mutant = `)
	for _, path := range files(t, func(path string) bool { return isTest(path) || strings.HasPrefix(path, "tests/") && isGo(path) }) {
		for _, m := range name.FindAllStringSubmatch(string(read(t, path)), -1) {
			real[m[1]+m[2]] = true
		}
	}
	for i, line := range strings.Split(string(read(t, orderingFile)), "\n") {
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if !strings.HasPrefix(line, "| ") || len(cells) != orderingColumns {
			continue
		}
		for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(cells[orderingColumns-1], -1) {
			if !real[m[1]] {
				t.Errorf("%s:%d: no test and no mutant is called %s", orderingFile, i+1, m[1])
			}
		}
	}
}

// TestLinksLeadSomewhere: relative links of the documents, and the paths of the repository that they name.
func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	for _, path := range files(t, func(path string) bool { return strings.HasSuffix(path, ".md") }) {
		for _, m := range link.FindAllStringSubmatch(string(read(t, path)), -1) {
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(path), m[1])); err != nil {
				t.Errorf("%s: the link %s leads nowhere", path, m[1])
			}
		}
	}
}

const readmeFile = "README.md"

// TestReadmeFitsAndNamesRealTargets: the README is short, and each make target that the documents name exists.
func TestReadmeFitsAndNamesRealTargets(t *testing.T) {
	if n := strings.Count(string(read(t, readmeFile)), "\n"); n > 250 {
		t.Errorf("%s has %d lines, at most 250", readmeFile, n)
	}
	targets := regexp.MustCompile(`(?m)^([a-z-]+):`)
	have := map[string]bool{}
	for _, m := range targets.FindAllStringSubmatch(string(read(t, "Makefile")), -1) {
		have[m[1]] = true
	}
	named := regexp.MustCompile("`make ([a-z-]+)`|^make ([a-z-]+)")
	for _, path := range files(t, func(path string) bool { return strings.HasSuffix(path, ".md") || path == ".ci/run" }) {
		for _, line := range strings.Split(string(read(t, path)), "\n") {
			for _, m := range named.FindAllStringSubmatch(line, -1) {
				if target := m[1] + m[2]; !have[target] {
					t.Errorf("%s: make %s is no target of the Makefile", path, target)
				}
			}
		}
	}
}

// TestReadmeProgramRuns compiles the Go program of the README, runs it, and compares what it prints with the block behind it.
func TestReadmeProgramRuns(t *testing.T) {
	m := regexp.MustCompile("(?s)```go\n(.*?)```.*?```text\n(.*?)```").FindStringSubmatch(string(read(t, readmeFile)))
	if m == nil {
		t.Fatal("no ```go block with a ```text block behind it")
	}
	dir := t.TempDir()
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
	if err := os.WriteFile(source, []byte(m[1]), 0o666); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("gofmt", "-l", source).CombinedOutput(); err == nil && len(out) > 0 {
		t.Error("the program is not formatted")
	}
	build := exec.Command("go", "build", "-o", program, source)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	rings, err := os.MkdirTemp("/dev/shm", "millrace-readme-")
	if err != nil {
		t.Skipf("no /dev/shm: %v", err)
	}
	defer os.RemoveAll(rings)
	for range 2 { // twice: nothing of the first run is in the way of the second
		cmd := exec.Command(program)
		cmd.Env = append(os.Environ(), "MILLRACE_DIR="+rings)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if string(out) != m[2] {
			t.Errorf("it prints\n%s\nthe README says\n%s", out, m[2])
		}
	}
}

// TestFingerprintIsInTheDocument: a stranger cannot generate it.
func TestFingerprintIsInTheDocument(t *testing.T) {
	m := regexp.MustCompile(`const Fingerprint uint64 = (0x[0-9a-f]{16})`).FindSubmatch(read(t, "internal/layout/zz_generated.go"))
	if m == nil {
		t.Fatal("no fingerprint among the generated constants")
	}
	if !strings.Contains(string(read(t, "docs/FORMAT.md")), "`"+string(m[1])+"`") {
		t.Errorf("docs/FORMAT.md does not say that the layout fingerprint is %s", m[1])
	}
}
