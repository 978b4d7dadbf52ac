//go:build linux && amd64

package step

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
)

// update rewrites the table in docs/FAILURES.md: MILLRACE_STEPS=1000 go test ./tests/crash/step -run 'Killed|Table' -update
var update = flag.Bool("update", false, "rewrite the table of operations in docs/FAILURES.md")

const (
	document   = "../../../docs/FAILURES.md"
	tableBegin = "<!-- stepping: written by go test ./tests/crash/step -update -->\n"
	tableEnd   = "<!-- end -->\n"
	tableHead  = "| operation | ring | instructions | killed before | states left | what becomes of the messages | under Drop |\n|---|---|---|---|---|---|---|\n"
)

// result is what was found out about an operation in a setting.
type result struct {
	operation    string
	kind         ring.Kind
	policy       ring.DeathPolicy
	instructions int
	every        int // points when all instructions are tried
	states       int
}

// results are those of this run.
var results []result

// TestTableOfOperations: docs/FAILURES.md lists every operation of this package with its outcomes. The numbers are those of the machine that wrote them.
func TestTableOfOperations(t *testing.T) {
	b, err := os.ReadFile(document)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(b), tableBegin)
	require.True(t, ok, "%s has no table of operations", document)
	table, after, ok := strings.Cut(rest, tableEnd)
	require.True(t, ok, "the table of operations has no end")
	have, known := "", map[string]string{}
	for line := range strings.Lines(strings.TrimPrefix(table, tableHead)) {
		f := strings.SplitN(line, "|", 7)
		require.Len(t, f, 7, line)
		have += "|" + f[1] + "|" + f[2] + "|" + f[6]
		known[f[1]+f[2]] = strings.Join(f[3:6], "|") + "|"
	}
	rows, want := tableHead, ""
	for _, sc := range scenarios {
		for _, k := range []ring.Kind{ring.SPSC, ring.MPMC} {
			n := numbers(sc, k)
			if n == "" {
				n = known[" "+sc.name+"  "+k.String()+" "]
			}
			rows += row(sc, k, n)
			want += row(sc, k, "")
		}
	}
	if *update {
		require.NoError(t, os.WriteFile(document, []byte(before+tableBegin+rows+tableEnd+after), 0o600))
		return
	}
	require.Equal(t, want, have, "write it anew: MILLRACE_STEPS=1000 go test ./tests/crash/step -run 'Killed|Table' -update")
}

// row makes a row; the bar between the messages is one of the text.
func row(sc *scenario, k ring.Kind, numbers string) string {
	kept, drop := sc.fate(k, ring.Redeliver), sc.fate(k, ring.Drop)
	if drop == kept {
		drop = "the same"
	}
	return strings.ReplaceAll(fmt.Sprintf("~ %s ~ %s ~%s %s ~ %s ~\n", sc.name, k, numbers, escape(kept), escape(drop)), "~", "|")
}

func escape(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// numbers returns the columns that a machine fills in, if it has run the operation.
func numbers(sc *scenario, k ring.Kind) string {
	for _, r := range results {
		if r.operation == sc.name && r.kind == k && r.policy == ring.Redeliver {
			return fmt.Sprintf(" %d ~ %d ~ %d ~", r.instructions, r.every, r.states)
		}
	}
	return ""
}
