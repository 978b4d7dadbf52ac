//go:build linux && (amd64 || arm64)

package fuzz

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/internal/layout"
)

// looking are the commands of the tool that read whatever lies there, and the last one removes it.
var looking = [][]string{
	{"ls", "--json"}, {"info", "--json", "q"}, {"info", "q"}, {"peek", "-n", "100", "q"}, {"stat", "-n", "1", "-i", "1ms", "q"}, {"recover", "--dry-run", "q"},
	{"recover", "q"}, {"recv", "-n", "3", "--timeout", "20ms", "q"}, {"rm", "q"},
}

// The tool reads golden segments, spoilt ones and bytes of chance. Properties: it comes back with one of its exit codes, and never panics; those that look change nothing.
func TestToolOnHostileSegments(t *testing.T) {
	tool := filepath.Join(t.TempDir(), "millrace")
	out, err := exec.Command("go", "build", "-o", tool, "github.com/cd1900cf/millrace/cmd/millrace").CombinedOutput()
	require.NoError(t, err, "%s", out)
	dir := scratch(t)
	names := goldenNames(t)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	count := 8
	if testing.Short() {
		count = 2
	}
	for range count {
		name := names[random.IntN(len(names))]
		mem := append([]byte(nil), golds(t, name)...)
		if h, err := layout.Decode(mem, int64(len(mem))); err == nil && len(mem) > layout.HeaderSize {
			g := forger{h, func(below uint64) uint64 { return random.Uint64N(max(below, 1)) }}
			for range random.IntN(8) {
				at := g.target()
				put64(mem, at, g.value(get64(mem, at), get64(mem, layout.ControlOffset)))
			}
		}
		path := filepath.Join(dir, "q")
		require.NoError(t, os.WriteFile(path, mem, 0o600))
		for i, args := range looking {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			cmd := exec.CommandContext(ctx, tool, args...)
			cmd.Env = append(os.Environ(), "MILLRACE_DIR="+dir)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			err := cmd.Run()
			late := ctx.Err()
			cancel()
			require.NoError(t, late, "%s, seed %d: millrace %v does not come back", name, seed, args)
			code := cmd.ProcessState.ExitCode()
			require.Contains(t, []int{0, 1, 3, 4, 5, 6, 7}, code, "%s, seed %d: millrace %v: %v: %s", name, seed, args, err, &stderr)
			require.NotContains(t, stderr.String(), "goroutine ", "%s, seed %d: millrace %v", name, seed, args)
			if i < 6 {
				now, err := os.ReadFile(path)
				require.NoError(t, err)
				require.True(t, bytes.Equal(mem, now), "%s, seed %d: millrace %v changed the segment", name, seed, args)
			}
		}
		require.NoError(t, os.RemoveAll(path))
	}
}
