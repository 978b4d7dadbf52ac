//go:build testpoint && linux

package crash

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

func TestMain(m *testing.M) {
	proc.Main(m, map[string]func(*proc.Child) error{"act": act, "segment": segment})
}

var kinds = []ring.Kind{ring.SPSC, ring.MPMC}

// runs calls f for every scenario that has labels, with every kind and policy that it is for.
func runs(t *testing.T, f func(t *testing.T, name string, k ring.Kind, policy ring.DeathPolicy)) {
	for _, k := range kinds {
		for name, s := range scenarios {
			policies := []ring.DeathPolicy{ring.Redeliver}
			switch {
			case s.drop:
				policies = []ring.DeathPolicy{ring.Drop}
			case s.both:
				policies = append(policies, ring.Drop)
			}
			if len(s.labelsFor(k)) == 0 {
				continue
			}
			if s.later == 0 {
				s.later = 4
			}
			for _, policy := range policies {
				t.Run(fmt.Sprintf("%s/%s/%s", k, strings.ReplaceAll(name, " ", "_"), policy), func(t *testing.T) { f(t, name, k, policy) })
			}
		}
	}
}

// A child is killed by SIGKILL at every labelled step of every operation, the first time that it gets there and a later time. Properties:
//   - it is killed there: the table of labels is true;
//   - the survivors go on within the bound of the contract, without any further call: blocked sends and receives, the end of the stream, successors;
//   - every message whose send returned is received exactly once, or is redelivered with a count above 1 if the child held it (Redeliver), or is counted
//     as lost (Drop, MaxDeliveries);
//   - a message whose send did not return is received whole, once, or not at all, and its claim is counted as skipped exactly when the child died between
//     the claim and the commit;
//   - the order of each sender is kept;
//   - afterwards the ring is drained, no slot is in use, and three more laps of messages of all sizes go through.
func TestKilled(t *testing.T) {
	runs(t, func(t *testing.T, name string, k ring.Kind, policy ring.DeathPolicy) {
		t.Parallel()
		s := scenarios[name]
		for _, label := range s.labelsFor(k) {
			hits := []int64{1}
			if !s.onlyOnce(label) {
				hits = append(hits, s.later)
			}
			for _, n := range hits {
				t.Run(fmt.Sprintf("%s/%d", strings.ReplaceAll(label, " ", "_"), n), func(t *testing.T) {
					w := newWorld(t, name, k, policy)
					c := w.killed(w.begin(label, n, "kill"))
					missing, stats := w.finish()
					w.checkFate(c, label, missing, stats)
				})
			}
		}
	})
}

// A child is stopped by SIGSTOP at the same steps, and goes on later. Properties: nothing is taken from it, however hard others try; it finishes without an error;
// the account balances, with nothing in doubt.
func TestStopped(t *testing.T) {
	runs(t, func(t *testing.T, name string, k ring.Kind, policy ring.DeathPolicy) {
		t.Parallel()
		for _, label := range scenarios[name].labelsFor(k) {
			t.Run(strings.ReplaceAll(label, " ", "_"), func(t *testing.T) {
				w := newWorld(t, name, k, policy)
				p := w.begin(label, 1, "stop")
				if !p.WaitStopped() {
					t.Fatalf("the child ended: %s%s", p.Errors(), strings.Join(p.All(), "\n"))
				}
				before := w.r.Stats()
				list, err := w.r.Recover(false)
				require.NoError(t, err)
				for _, r := range list {
					require.NotEqual(t, p.Cmd.Process.Pid, r.PID, "recovered from a stopped process")
				}
				after := w.r.Stats()
				if len(w.s.before) == 0 {
					require.Empty(t, list)
					require.Zero(t, after.Recoveries)
					require.Zero(t, after.Skipped)
				}
				require.Zero(t, after.ProducersDied+after.ConsumersDied-uint64(len(w.s.before)), "%+v, before %+v", after, before)
				if w.s.late && !w.s.alone {
					w.ended.Store(true)
					w.otherSide()
				}
				p.Signal(syscall.SIGCONT)
				p.Succeeds()
				c := w.read(p)
				_, stats := w.finish()
				require.Empty(t, c.trying)
				require.Empty(t, c.held)
				require.Zero(t, c.taking)
				require.EqualValues(t, w.claimVictims(), stats.Skipped)
			})
		}
	})
}

// claimVictims counts the victims that died with a claim.
func (w *world) claimVictims() (n int) {
	for _, v := range w.s.before {
		if scenarios[v.scenario].role == ring.ProducerRole {
			n++
		}
	}
	return n
}

// What a kill at a label must leave behind.
var (
	beforeCommit = []string{"P3", "P4 payload", "P4 length", "P5", "P5 free", "reserved", "discarding", "S1 reserved"}
	afterCommit  = []string{"P6", "P7", "P7 counted", "S4", "S5", "N2", "N2 woken", "N3"}
	beforeTaking = []string{"C3", "D3", "L1", "W1", "D2 run"}
	leased       = []string{"L2", "C6", "L2 counted", "D lease"}
)

// checkFate checks the operation in which the child died: a claim that was not committed is skipped and counted, one that was is kept; a message that
// was received is gone, one that was not is there.
func (w *world) checkFate(c *childAccount, label string, missing int, s ring.Stats) {
	t := w.t
	skipped := w.claimVictims()
	switch {
	case w.s.role == ring.ProducerRole && len(w.s.before) == 0:
		committed := w.account.committed(c)
		switch {
		case slices.Contains(beforeCommit, label), label == "S3" && w.name == "reserve":
			skipped++
			require.Zero(t, committed, "killed at %s, and yet received", label)
		case slices.Contains(afterCommit, label) && !c.discards && w.name != "send batch":
			require.Equal(t, len(c.trying), committed, "killed at %s, and yet not received", label)
		case w.kind == ring.MPMC && slices.Contains(afterCommit, label) && !c.discards: // all of a part
			require.NotZero(t, committed)
		}
	case (label == "D4" || label == "D5") && len(w.s.sizes) == len(large): // also reached when padding is stepped over
	case strings.HasPrefix(w.name, "receive"), strings.HasPrefix(w.name, "next"):
		want := 1
		if slices.Contains(beforeTaking, label) {
			want = 0
		} else if strings.HasPrefix(w.name, "next") && slices.Contains(leased, label) && !w.account.drops {
			want = 0
		}
		require.Equal(t, want, missing, "killed at %s", label)
	}
	require.EqualValues(t, skipped, s.Skipped, "killed at %s", label)
	if want := uint64(len(w.s.before) + 1); w.kind == ring.MPMC {
		require.LessOrEqual(t, s.Recoveries, want)
	}
	require.LessOrEqual(t, s.ProducersDied+s.ConsumersDied, uint64(len(w.s.before)+1))
}

// Every label in the sources of ring and seg is reached by at least one scenario, and every label of a scenario exists.
func TestEveryLabelHasAScenario(t *testing.T) {
	used := map[string]string{}
	for name, s := range scenarios {
		for _, k := range kinds {
			for _, l := range s.labelsFor(k) {
				used[l] = name
			}
		}
	}
	for _, l := range segmentLabels() {
		used[l] = "segment"
	}
	labels := sourceLabels(t, "../../ring", "../../seg")
	require.Greater(t, len(labels), 50)
	for _, l := range labels {
		if used[l] == "" {
			t.Errorf("no scenario gets to %q", l)
		}
	}
	for l, name := range used {
		if !slices.Contains(labels, l) {
			t.Errorf("scenario %q names %q, which does not exist", name, l)
		}
	}
}

// sourceLabels finds the labels that testpoint.Hit and testpoint.Either are called with.
func sourceLabels(t *testing.T, dirs ...string) (labels []string) {
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		for _, name := range files {
			src, err := os.ReadFile(name)
			require.NoError(t, err)
			f, err := parser.ParseFile(token.NewFileSet(), name, src, 0)
			require.NoError(t, err)
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				sel, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || sel.Sel.Name != "Hit" && sel.Sel.Name != "Either" {
					return true
				}
				if pkg, ok := sel.X.(*ast.Ident); !ok || pkg.Name != "testpoint" {
					return true
				}
				args := call.Args
				if sel.Sel.Name == "Either" {
					args = args[1:]
				}
				for _, arg := range args {
					lit, ok := arg.(*ast.BasicLit)
					require.True(t, ok, "%s: a label must be a literal", name)
					label, err := strconv.Unquote(lit.Value)
					require.NoError(t, err)
					if label != "" && !slices.Contains(labels, label) {
						labels = append(labels, label)
					}
				}
				return true
			})
		}
	}
	return labels
}
