//go:build linux

package c

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/tests/interop/peer"
)

// expectation is the part of a golden segment's JSON that the calls of a client can show.
type expectation struct {
	Refused *struct{ Class string }
	Only    string
	Stats   map[string]uint64
	Receive []struct {
		Position   uint64
		Deliveries int
		Payload    string
	}
	End   string
	After struct{ Lost, Skipped uint64 }
}

// TestGoldenSegments lets the C client read every golden segment, recover the dead in it, and receive to the end.
func TestGoldenSegments(t *testing.T) {
	program := compile(t, "golden", "gcc", []string{"-std=c11", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"}, "tests/interop/c/golden/golden.c")
	files, err := filepath.Glob(filepath.Join(peer.Root(t), "fuzz/golden/*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		name := strings.TrimSuffix(file, ".json")
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			var want expectation
			require.NoError(t, json.Unmarshal(text, &want))
			if want.Only != "" {
				t.Skip("the anchor of a System V segment that does not exist")
			}
			mem, err := os.ReadFile(name + ".bin")
			require.NoError(t, err)
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "q"), mem, 0o600))
			cmd := exec.Command(program)
			cmd.Env = append(os.Environ(), "MILLRACE_DIR="+dir, "ASAN_OPTIONS=handle_sigbus=0")
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.Equal(t, want.lines(), inOrder(t, string(out)))
		})
	}
}

// lines are what the program must print, what was received in the order of positions.
func (e expectation) lines() (lines []string) {
	if e.Refused != nil {
		return []string{"refused " + e.Refused.Class}
	}
	stats := "stats"
	for _, key := range []string{"slots", "used", "producer_position", "consumer_position", "sent", "received", "redelivered", "lost", "skipped", "padding", "discarded", "recoveries",
		"sleeps", "wakes", "producers_ever", "producers_live", "producers_died", "consumers_ever", "consumers_live", "consumers_died"} {
		stats += fmt.Sprintf(" %s=%d", key, e.Stats[key])
	}
	lines = append(lines, stats)
	for _, m := range e.Receive {
		lines = append(lines, fmt.Sprintf("receive %d %d %s", m.Position, m.Deliveries, m.Payload))
	}
	lines = append(lines, "end "+e.End)
	if e.End != "removed" {
		lines = append(lines, fmt.Sprintf("after %d %d", e.After.Lost, e.After.Skipped))
	}
	return lines
}

// inOrder splits the output, with the received messages in the order of positions.
func inOrder(t *testing.T, out string) []string {
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	position := func(line string) (uint64, bool) {
		f := strings.Split(line, " ")
		if f[0] != "receive" {
			return 0, false
		}
		p, err := strconv.ParseUint(f[1], 10, 64)
		require.NoError(t, err)
		return p, true
	}
	first := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "receive ") })
	last := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "end ") })
	if first >= 0 && last > first {
		slices.SortFunc(lines[first:last], func(a, b string) int {
			p, _ := position(a)
			q, _ := position(b)
			return int(int64(p - q))
		})
	}
	return lines
}
