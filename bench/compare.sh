#!/bin/bash
# compare.sh REF [ROUNDS] [ROWS] [MECHS]: measures millrace as it is here and as it was at REF, by turns, and has benchstat compare the two.
set -euo pipefail
cd "$(dirname "$0")/.."
ref=${1:?compare.sh REF: with which commit?}
rounds=${2:-10} rows=${3:-'^(SPSC|Batch32|Typed32|MPMC/pairs=[12]|RoundTrip|Wake)/'} mechs=${4:-'^millrace-(spsc|mpmc)'}

dir=$(mktemp -d)
trap 'git worktree remove --force "$dir/tree" 2>/dev/null; rm -rf "$dir"' EXIT
git worktree add --quiet --detach "$dir/tree" "$ref"
# What measures is the same on both sides; only what is measured differs.
rm -rf "$dir/tree/bench" "$dir/tree/internal/measure"
cp -r bench "$dir/tree/bench"
cp -r internal/measure "$dir/tree/internal/measure"
cp jumps.mk "$dir/tree/"
rm -rf "$dir/tree/bench/peers/bin"
(cd "$dir/tree/bench" && go build -o "$dir/old" ./millbench)
(cd bench && go build -o "$dir/new" ./millbench)
inC=()
clients=(millrace-c-{spsc,mpmc}{,-zerocopy})
if printf '%s\n' "${clients[@]}" | grep -Eq -- "$mechs"; then
	for tree in "$dir/tree" .; do
		make --no-print-directory -C "$tree/bench/peers" "${clients[@]/#/bin/}" >/dev/null
	done
	inC=(-peers bench/peers/bin -ref-peers "$dir/tree/bench/peers/bin")
fi

"$dir/new" run -ref "$dir/old" "${inC[@]}" -rounds "$rounds" -rows "$rows" -mechs "$mechs" -o "$dir/all.txt"
grep -v '^#\|^Benchmark' "$dir/all.txt"

# compare STATE...: the runs in those states.
compare() {
	"$dir/new" runs "$dir/all.txt" "$@" | grep '^Benchmark' >"$dir/some.txt" || true
	grep '@ref ' "$dir/some.txt" | sed 's/@ref / /' >"$dir/was.txt" || true
	grep -v '@ref ' "$dir/some.txt" >"$dir/is.txt" || true
	echo "runs that were $*:"
	(cd bench && go tool -modfile=../internal/tools/lint/go.mod benchstat -filter '.unit:(ns/op OR p50-ns OR p99-ns)' "$ref=$dir/was.txt" "here=$dir/is.txt")
}
# enough STATE...: whether there are six such runs of each mechanism in each row.
cells=$(grep '^Benchmark' "$dir/all.txt" | cut -d' ' -f1 | sort -u | wc -l)
enough() {
	[ "$("$dir/new" runs "$dir/all.txt" "$@" | grep '^Benchmark' | cut -d' ' -f1 | sort | uniq -c | awk '$1 >= 6' | wc -l)" = "$cells" ]
}
if enough near || enough shared; then
	if enough near; then compare near; fi
	if enough shared; then compare shared; fi
elif enough near shared; then
	compare near shared
else
	echo "fewer than six runs of some row were near and undisturbed: all of them are compared, and say little; more ROUNDS may help"
	compare near shared mixed close far disturbed
fi
