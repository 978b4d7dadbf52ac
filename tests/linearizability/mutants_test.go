//go:build linux

package linearizability

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// mutant is the ring with one thing wrong.
type mutant struct {
	name, file string
	old, new   string // old is there once
}

var mutants = []mutant{
	{"copy after the slot was handed back", "receive.go",
		"\ttestpoint.Hit(\"C4\")\n",
		"\ttestpoint.Hit(\"C4\")\n\tcopy(buf, view(at, n))\n"},
	{"receive without compare-and-swap", "receive.go",
		"\tif !e.state.CompareAndSwap(readyWord(h+1, 0), freeWord(h+c.slots)) {\n",
		"\tif e.state.Store(freeWord(h + c.slots)); false {\n"},
	{"lease without compare-and-swap", "inplace.go",
		"\t\tif !e.state.CompareAndSwap(want, takenWord(h+1, q.id, 0)) {\n",
		"\t\tif e.state.Store(takenWord(h+1, q.id, 0)); false {\n"},
	{"empty where somebody holds a message", "mpmc.go",
		"\t\tcase standTaken, standDone:\n",
		"\t\tcase standTaken, standDone:\n\t\t\tif stand == standTaken {\n\t\t\t\treturn found{}, ErrEmpty\n\t\t\t}\n"},
	{"give-back not announced", "lease.go",
		"\tc.ctl.returns.Add(1) // order: V4 rel, pairs C0\n\ttestpoint.Hit(\"V4\")\n\tq.wakeEverybody()\n",
		"\tq.wakeEverybody()\n"},
	{"full where somebody claims", "mpmc.go",
		"\t\tdefault: // claimed by somebody\n",
		"\t\tcase standClaimed:\n\t\t\treturn 0, 0, p.full(t)\n\t\tdefault: // claimed by somebody\n"},
	{"full without a second look", "mpmc.go",
		"\t\t\tif q := c.firstUsed(t+1, e); q != e {\n\t\t\t\tif s.Load() != w { // order: P2 acq, pairs P3: t was claimed meanwhile, so nothing is known about q\n",
		"\t\t\ttestpoint.Hit(\"\")\n\t\t\tif q := c.firstUsed(t+1, e); q != e {\n\t\t\t\tif false {\n"},
	{"batch published head first", "row.go",
		"\tfor i = 1; i < n; i++ {\n",
		"\tatomicx.StoreRelease(&e.state, ready)\n\tfor i = 1; i < n; i++ {\n"},
	{"claim jumped by the consumer", "mpmc.go",
		"\t\t\tq.blocked = blockage{at: p, word: w}\n\t\t\tfallthrough\n",
		"\t\t\tp = e\n"},
	{"drop not honoured", "recover.go",
		"return byPolicy && c.policy == Drop || ",
		"return "},
	{"count not incremented", "word.go",
		"\treturn r + 1\n",
		"\treturn 1\n"},
	{"no limit on deliveries", "recover.go",
		"|| c.maxDeliveries > 0 && r+1 >= c.maxDeliveries\n",
		"|| c.maxDeliveries > 0 && r >= c.maxDeliveries\n"},
	{"end of stream while somebody holds a message", "wait.go",
		"if c.kind == MPMC && c.unreleased() {",
		"if false {"},
	{"space given before the copy", "receive.go",
		"\t\ttestpoint.Hit(\"D4\")\n\t\tq.last",
		"\t\ttestpoint.Hit(\"D4\")\n\t\tcopy(buf, view(at, n))\n\t\tq.last"},
	{"space given before a word is copied", "receive.go",
		"\t\t\t\ttestpoint.Hit(\"D4\")\n",
		"\t\t\t\ttestpoint.Hit(\"D4\")\n\t\t\t\tcopy(buf, view(unsafe.Add(unsafe.Pointer(e), layout.EntrySize), n))\n"},
	{"successor does not give back", "open.go",
		"\tif d := leased - h; d-1 < c.slots {\n",
		"\tif d := leased - h; false && d-1 < c.slots {\n"},
	{"abandoned claim committed", "recover.go",
		"\t\t\tif c.count(p, w, accountSkipped) {\n\t\t\t\tc.freeHead(p, w)\n",
		"\t\t\tif c.count(p, w, accountSkipped) {\n\t\t\t\tc.state(p).CompareAndSwap(w, readyWord(e, 0))\n"},
}

const mutantsEnv = "MILLRACE_MUTANTS"

// TestMutantsFitTheCode: what the mutants replace is there, so that a change of the ring does not go by unnoticed until somebody runs them.
func TestMutantsFitTheCode(t *testing.T) {
	for _, m := range mutants {
		source, err := os.ReadFile(filepath.Join("../../ring", m.file))
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(string(source), m.old), m.name)
	}
}

// TestMutants breaks the ring in one place after the other, and requires that TestHistories notices each time.
func TestMutants(t *testing.T) {
	only := os.Getenv(mutantsEnv)
	if only == "" {
		t.Skipf("make linearizability-mutants builds and runs the ring %d times; %s=all, or a part of a name, does it here", len(mutants), mutantsEnv)
	}
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	for _, m := range mutants {
		if only != "all" && !strings.Contains(m.name, only) {
			continue
		}
		caught, how := m.run(t, root)
		name := strings.ReplaceAll(m.name, " ", "-")
		if !caught {
			fmt.Printf("MUTANT %s survived\n", name)
			t.Errorf("%s: %s", m.name, how)
			continue
		}
		fmt.Printf("MUTANT %s caught-by linearizability\n", name)
		t.Logf("%s", how)
	}
}

// run builds the mutant and lets it make histories, three minutes at most: on a busy machine few processes run side by side.
func (m mutant) run(t *testing.T, root string) (caught bool, how string) {
	dir := t.TempDir()
	path := filepath.Join(root, "ring", m.file)
	source, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(source), m.old), "%s: the text that mutant %q replaces is not there once", path, m.name)
	changed := filepath.Join(dir, m.file)
	require.NoError(t, os.WriteFile(changed, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o600))
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{path: changed}})
	require.NoError(t, err)
	overlay := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(overlay, list, 0o600))
	program := filepath.Join(dir, "histories")
	build := exec.Command("go", "test", "-c", "-vet=off", "-tags", "testpoint", "-overlay", overlay, "-o", program, "./tests/linearizability")
	build.Dir = root
	out, err := build.CombinedOutput()
	require.NoError(t, err, "mutant %q: %s", m.name, out)

	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	begin := time.Now()
	cmd := exec.CommandContext(ctx, program, "-test.run=^TestHistories$", "-test.v")
	cmd.Env = append(os.Environ(), durationEnv+"=3m", patienceEnv+"=5s")
	cmd.Dir = dir
	out, err = cmd.CombinedOutput()
	seconds := time.Since(begin).Round(100 * time.Millisecond).String()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || ctx.Err() != nil {
		return false, seconds
	}
	for _, sign := range []string{"not linearizable", "torn or never sent", "which was at", "it hangs", "corrupt", "did not finish"} {
		if strings.Contains(string(out), sign) {
			return true, sign + " after " + seconds
		}
	}
	return false, seconds + ", for another reason: " + string(out[:min(len(out), 2000)])
}
