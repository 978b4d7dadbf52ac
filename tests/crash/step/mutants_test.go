//go:build linux && amd64

package step

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// mutantsEnv asks for the mutants: each takes the compilation of a test and its run.
const mutantsEnv = "MILLRACE_MUTANTS"

// mutant is a protocol with one fault in it: in a file of package ring some text is replaced by another. run is the test that must notice.
type mutant struct {
	name, file string
	old, new   string
	run        string
}

const (
	killed  = "TestKilledBeforeEveryInstruction"
	stopped = "TestStoppedBeforeEveryInstruction"
)

var mutants = []mutant{
	{
		name: "receive-frees-before-it-reads", file: "receive.go", run: stopped + "/mpmc/redeliver/receive_on$",
		old: "\ttestpoint.Hit(\"C6 counted\")\n", new: "\tcopy(buf, view(at, n))\n", // a stop between it and C4 is one before the counter
	},
	{
		name: "send-publishes-before-the-length", file: "send.go", run: killed + "/mpmc/redeliver/send$",
		old: "\tatomicx.StoreRelaxed(&e.length, word) // order: P4 rlx, pairs C3: published by P6\n",
		new: "\te.state.Store(readyWord(t+1, 0))\n\tatomicx.StoreRelaxed(&e.length, word)\n", // no plain store: the compiler would leave it out, for the one that follows
	},
	{
		name: "spsc-send-publishes-before-the-payload", file: "send.go", run: killed + "/spsc/redeliver/send$",
		old: "\t\tswitch {\n\t\tcase n-8 <= 8:\n\t\t\tcopy16(at, from, n)\n",
		new: "\t\tatomicx.StoreRelaxed(&e.length, word)\n\t\tatomicx.StoreRelease(&e.state, spscReadyWord(t+1, 0))\n\t\tswitch {\n\t\tcase n-8 <= 8:\n\t\t\tcopy16(at, from, n)\n",
	},
	{
		name: "spsc-send-publishes-before-the-word", file: "send.go", run: killed + "/spsc/redeliver/send_word$",
		old: "\t\tcopy16(unsafe.Add(unsafe.Pointer(e), layout.EntrySize), from, n)\n",
		new: "\t\tatomicx.StoreRelaxed(&e.length, n|layout.FlagInline)\n\t\tatomicx.StoreRelease(&e.state, spscReadyWord(t+1, 0))\n" +
			"\t\tcopy16(unsafe.Add(unsafe.Pointer(e), layout.EntrySize), from, n)\n",
	},
	{
		name: "claim-names-another-owner", file: "send.go", run: killed + "/mpmc/redeliver/send$",
		old: "claimedWord(t+1, p.id)", new: "claimedWord(t+1, p.id+1)",
	},
	{
		name: "recovery-skips-the-interior", file: "recover.go", run: killed + "/mpmc/redeliver/send_over_the_end$",
		old: "\t\t\tc.freeInterior(p, e)\n\t\t\tif c.count(p, w, accountSkipped) {", new: "\t\t\tif c.count(p, w, accountSkipped) {",
	},
	{
		name: "recovery-counts-again", file: "recover.go", run: killed + "/mpmc/redeliver/recover_a_claim$",
		old: "\t\tif v>>accountTag == tag {\n\t\t\treturn true\n\t\t}\n", new: "",
	},
	{
		name: "recovery-retires-first", file: "recover.go", run: killed + "/mpmc/redeliver/recover_a_claim$",
		old: "\ttestpoint.Hit(\"V1\")\n", new: "\tm.producer.retire()\n",
	},
	{
		name: "recovery-frees-the-head-first", file: "recover.go", run: killed + "/mpmc/redeliver/recover_a_large_claim$",
		old: "\t\t\tc.freeInterior(p, e)\n\t\t\tif c.count(p, w, accountSkipped) {\n\t\t\t\tc.freeHead(p, w)\n",
		new: "\t\t\tif c.count(p, w, accountSkipped) {\n\t\t\t\tc.freeHead(p, w)\n\t\t\t\tc.freeInterior(p, e)\n",
	},
	{
		name: "return-does-not-tell", file: "lease.go", run: stopped + "/mpmc/redeliver/next_return$",
		old: "\tc.ctl.returns.Add(1) // order: V4 rel, pairs C0\n", new: "",
	},
	{
		name: "release-frees-the-head-first", file: "mpmc.go", run: killed + "/mpmc/redeliver/next_release_large$",
		old: "\tq.freeStretch(p+1, e)\n\tpublish(q.c.state(p), freeWord(p+q.c.slots), q.fenced) // order: C5 rel, pairs P1 and N1\n",
		new: "\tpublish(q.c.state(p), freeWord(p+q.c.slots), q.fenced)\n\tq.freeStretch(p+1, e)\n",
	},
	{
		name: "release-forgets-the-rest", file: "lease.go", run: killed + "/mpmc/redeliver/batch_release$",
		old: "\t\tatomicx.StoreRelease(q.c.state(m), takenWord(l.end, q.id, 0))\n", new: "",
	},
	{
		name: "lock-dropped-too-early", file: "census.go", run: stopped + "/mpmc/redeliver/commit$",
		old: "\t\t\tc.begin(c.participant(id), role)\n", new: "\t\t\tc.begin(c.participant(id), role)\n\t\t\t_ = lock.Drop(layout.LockParticipant + int64(id))\n",
	},
	{
		name: "lease-names-another-owner", file: "inplace.go", run: killed + "/mpmc/redeliver/next_on$",
		old: "takenWord(h+1, q.id, 0)", new: "takenWord(h+1, q.id+1, 0)",
	},
	{
		name: "batch-freed-before-it-is-copied", file: "row.go", run: stopped + "/mpmc/redeliver/receive_a_batch_on$",
		old: "\tfor i := 0; i < n; { // once, or twice where the ring ends\n\t\tx := p", new: "\tq.free(p, end)\n\tfor i := 0; i < n; {\n\t\tx := p",
	},
	{
		name: "row-from-the-head-on", file: "row.go", run: killed + "/mpmc/redeliver/send_words$",
		old: "\tfor i = 1; i < n; i++ {\n", new: "\tatomicx.StoreRelease(&e.state, ready)\n\tfor i = 1; i < n; i++ {\n",
	},
	{
		name: "spsc-lease-unnoted", file: "inplace.go", run: killed + "/spsc/redeliver/next_release$",
		old: "\t\tatomicx.StoreRelease(&c.ctl.leaseEnd, h+1) // order: L2 rel, pairs nothing concurrent: read by the next consumer\n", new: "",
	},
	{
		name: "spsc-reservation-cleared-early", file: "inplace.go", run: killed + "/spsc/redeliver/commit$",
		old: "\tnext := p.fresh(t)\n", new: "\tnext := p.fresh(t)\n\tatomicx.StoreRelease(&c.ctl.reservedPosition, 0)\n",
	},
	{
		name: "spsc-return-without-journal", file: "recover.go", run: killed + "/spsc/redeliver/batch_return$",
		old: "\t\tc.ctl.journal.Store(x<<8 | next) // order: J1 rel, pairs J1\n", new: "",
	},
}

// TestMutantsFitTheCode: what the mutants replace is there, so that a change of the ring does not go by unnoticed until somebody runs them.
func TestMutantsFitTheCode(t *testing.T) {
	for _, m := range mutants {
		source, err := os.ReadFile(filepath.Join("../../../ring", m.file))
		require.NoError(t, err)
		require.Equal(t, 1, strings.Count(string(source), m.old), m.name)
	}
}

// TestMutantsAreCaught: with one fault in the protocol some test of this package fails.
func TestMutantsAreCaught(t *testing.T) {
	if os.Getenv(mutantsEnv) == "" {
		t.Skipf("mutants are compiled and run when %s is set", mutantsEnv)
	}
	source, err := filepath.Abs("../../../ring")
	require.NoError(t, err)
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			by, err := m.caughtBy(source, t.TempDir())
			require.NoError(t, err)
			if by == "" {
				fmt.Printf("MUTANT %s survived\n", m.name)
				t.Fatalf("%s does not notice that %s", m.run, m.name)
			}
			fmt.Printf("MUTANT %s caught-by %s\n", m.name, by)
		})
	}
}

var failed = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)`)

// caughtBy runs the mutant's test on the changed source and returns the test that failed, or nothing.
func (m *mutant) caughtBy(source, dir string) (string, error) {
	original := filepath.Join(source, m.file)
	b, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(b), m.old); n != 1 {
		return "", fmt.Errorf("%s contains %d times what the mutant changes: %q", m.file, n, m.old)
	}
	changed, overlay := filepath.Join(dir, m.file), filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(changed, []byte(strings.Replace(string(b), m.old, m.new, 1)), 0o600); err != nil {
		return "", err
	}
	o, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(overlay, o, 0o600); err != nil {
		return "", err
	}
	program := filepath.Join(dir, "mutant.test")
	if out, err := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", program, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("the mutant does not compile: %w\n%s", err, out)
	}
	cmd := exec.Command(program, "-test.run", m.run, "-test.timeout", "5m")
	cmd.Env = append(os.Environ(), overlayEnv+"="+overlay, stepsEnv+"=5000", mutantsEnv+"=")
	out, err := cmd.CombinedOutput()
	if err == nil {
		if strings.Contains(string(out), "no tests to run") {
			return "", fmt.Errorf("there is no test %s", m.run)
		}
		return "", nil
	}
	all := failed.FindAllStringSubmatch(string(out), -1)
	if len(all) == 0 {
		return "", fmt.Errorf("the test failed in another way: %w\n%s", err, out)
	}
	return all[len(all)-1][1], nil
}
