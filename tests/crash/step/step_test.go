//go:build linux && amd64

package step

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
)

// stepsEnv says before which instructions a child is killed or stopped, beside those that change something: 1 stands for all, n for every n-th. Without
// it a few are tried, for a run of seconds.
const stepsEnv = "MILLRACE_STEPS"

// thorough says that this is to be more than a run of seconds.
var thorough = os.Getenv(stepsEnv) != ""

// stride returns how far apart they are.
func stride(t testing.TB) int {
	v := os.Getenv(stepsEnv)
	if v == "" {
		return 997
	}
	n, err := strconv.Atoi(v)
	require.NoError(t, err, stepsEnv)
	require.Positive(t, n, stepsEnv)
	return n
}

// setting is a kind of ring and a policy, and the rings for it.
type setting struct {
	*program
	kind   ring.Kind
	policy ring.DeathPolicy
	worlds []*world
}

// workers is how many children are stepped at a time. Each spends most of its life waiting for the kernel to register it.
const workers = 16

// settings calls f for both kinds of ring under both policies.
func settings(t *testing.T, f func(t *testing.T, s *setting)) {
	p, err := build()
	require.NoError(t, err)
	for _, policy := range []ring.DeathPolicy{ring.Redeliver, ring.Drop} {
		for _, k := range []ring.Kind{ring.SPSC, ring.MPMC} {
			t.Run(fmt.Sprintf("%s/%s", k, policy), func(t *testing.T) {
				s := &setting{program: p, kind: k, policy: policy}
				for range workers {
					s.worlds = append(s.worlds, newWorld(t, k, policy))
				}
				err := spread(s.worlds[:1], 1, func(w *world, _ int) error {
					c, err := p.launch(w.dir, "recover", null)
					if err != nil {
						return err
					}
					return c.Kill()
				})
				if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
					t.Skipf("no process may be traced here (ptrace): %v", err)
				}
				require.NoError(t, err)
				f(t, s)
			})
		}
	}
}

// each calls f for every scenario. Where the policy has no say only some instructions are tried under Drop.
func (s *setting) each(t *testing.T, apart int, f func(t *testing.T, sc *scenario, apart int)) {
	for _, sc := range scenarios {
		apart := apart
		if s.policy == ring.Drop && !sc.leases {
			if !thorough {
				continue
			}
			apart *= 50
		}
		if sc.sampled {
			apart *= 10
		}
		if !t.Run(strings.ReplaceAll(sc.name, " ", "_"), func(t *testing.T) { f(t, sc, apart) }) {
			return // something of it may be left in the rings
		}
	}
}

// begin brings all worlds to where the scenario begins, and records a run of it.
func (s *setting) begin(t *testing.T, sc *scenario) (r *run) {
	require.NoError(t, spread(s.worlds[:1], 1, func(w *world, _ int) (err error) {
		if err = s.prepare(w, sc); err == nil {
			r, err = s.record(w, sc.operation(), everything)
		}
		return err
	}))
	for _, w := range s.worlds[1:] {
		w.situation = s.worlds[0].situation
	}
	return r
}

// prepare brings a world to where the scenario begins.
func (s *setting) prepare(w *world, sc *scenario) error {
	w.tried, w.victims = sc.tried, 0
	if err := w.prepare(sc.skip, sc.fill, sc.batch); err != nil {
		return err
	}
	w.keep()
	if sc.dead == "" {
		return nil
	}
	for _, op := range strings.Split(sc.dead, ", ") {
		if err := s.victim(w, op); err != nil {
			return err
		}
	}
	if sc.recovered {
		if _, err := w.r.Recover(false); err != nil {
			return err
		}
	}
	w.keep()
	return nil
}

// victim lets a child do something and kills it; one that waits, when it is about to sleep.
func (s *setting) victim(w *world, op string) error {
	w.victims++
	end := s.end
	if op == "wait" {
		end = s.sleep
	}
	c, err := s.launch(w.dir, op, null)
	if err != nil {
		return err
	}
	_, err = c.RunTo(end, 1, 0)
	return errors.Join(err, c.Kill())
}

// points returns before which instructions to kill or stop: those that change the segment, those behind them, system calls and what follows them, and
// every apart-th. Of a recovery these are those of package ring, and few of the others; of a long operation some at random.
func (r *run) points(sc *scenario, apart int) (list []int) {
	random := map[int]bool{}
	for i := 0; sc.long && i < 200; i += apart {
		random[rand.IntN(len(r.pcs))] = true
	}
	special := func(k int) bool { return k >= 0 && k < len(r.pcs) && (r.changes[k] || r.isSyscall(r.pcs[k])) }
	for k := range len(r.pcs) + 1 {
		take := k == len(r.pcs) || special(k) || special(k-1)
		switch {
		case sc.long:
			take = take || random[k]
		case r.op == "recover" && k < len(r.pcs) && !r.inRing(r.pcs[k]):
			take = take || k%(50*apart) == 0
		default:
			take = take || k%apart == 0
		}
		if take {
			list = append(list, k)
		}
	}
	return list
}

// death is what a kill left behind.
type death struct {
	at      int  // instructions executed before
	exact   bool // by the clock and the memory of the runtime it may be somewhere near
	outcome string
	state   uint64
	image   []byte
}

// A child is killed before every instruction of an operation. Properties, whatever the instruction: the survivors go on at once; no message is torn, comes
// twice or out of order; the drained ring takes three more laps; every word of it is back at rest and its table is empty; and what became of the messages
// is what the operation can leave behind, step by step: as the instructions go by, each outcome follows the one before it and none is left out.
//
// Then the second order: in every state that a kill left, another child recovers it, and is killed at each of its changes. Properties: the same, and
// the outcome is the one without the second death.
func TestKilledBeforeEveryInstruction(t *testing.T) {
	apart := stride(t)
	settings(t, func(t *testing.T, s *setting) {
		known := map[uint64]bool{}
		s.each(t, apart, func(t *testing.T, sc *scenario, apart int) {
			begin := time.Now()
			r := s.begin(t, sc)
			points := r.points(sc, apart)
			deaths := s.kill(t, r, points)
			requireFates(t, sc.fate(s.kind, s.policy), r, deaths)
			here, states := distinct(deaths, known)
			results = append(results, result{sc.name, s.kind, s.policy, len(r.pcs), len(r.points(sc, 1)), here})
			if !thorough {
				states = every(states, 20)
			}
			second := 0
			if sc.leases || s.policy == ring.Redeliver {
				second = s.killRecoverers(t, sc, states)
			}
			t.Logf("%d instructions, killed at %d, %d states, %d kills of recoverers, %.1f s: %s", len(r.pcs), len(points), here, second, time.Since(begin).Seconds(),
				sc.fate(s.kind, s.policy))
		})
	})
}

// kill kills a child at each of these points of the run, and lets the others survive.
func (s *setting) kill(t *testing.T, r *run, points []int) []death {
	deaths := make([]death, len(points))
	require.NoError(t, spread(s.worlds, len(points), func(w *world, i int) error {
		d, err := r.killAt(w, points[i])
		if err != nil {
			return fmt.Errorf("killed after %d of %d instructions, before %s: %w", points[i], len(r.pcs), r.at(points[i]), err)
		}
		deaths[i] = d
		return nil
	}))
	return deaths
}

// killAt kills a child at point k. A survivor that is late is given two more chances: the machine may have been busy.
func (r *run) killAt(w *world, k int) (d death, err error) {
	for range 3 {
		if d, err = r.killOnce(w, k); !errors.Is(err, errLate) {
			break
		}
	}
	return d, err
}

func (r *run) killOnce(w *world, k int) (d death, err error) {
	c, exact, err := r.reach(w, k, null)
	if err != nil {
		return d, err
	}
	if !exact {
		elsewhere.Add(1)
	}
	if err := c.Kill(); err != nil {
		return d, err
	}
	kills.Add(1)
	d = death{at: k, exact: exact, state: fingerprint(w.mem), image: slices.Clone(w.mem)}
	d.outcome, err = w.survive()
	return d, err
}

// What was done in all.
var kills, stops, elsewhere atomic.Int64

// at describes instruction k of the run.
func (r *run) at(k int) string {
	if k == len(r.pcs) {
		return "its end"
	}
	return r.where(r.pcs[k])
}

// requireFates checks that the outcomes are those that are expected, in this order.
func requireFates(t *testing.T, want string, r *run, deaths []death) {
	fates := strings.Split(want, "; ")
	i := 0
	var seen []string
	for _, d := range deaths {
		if len(seen) == 0 || seen[len(seen)-1] != d.outcome {
			seen = append(seen, d.outcome)
		}
	}
	for _, d := range deaths {
		if !d.exact {
			require.Contains(t, fates, d.outcome, "killed after about %d instructions", d.at)
			continue
		}
		if d.outcome != fates[i] {
			i++
		}
		require.True(t, i < len(fates) && d.outcome == fates[i], "killed after %d of %d instructions, before %s: %q; expected one after the other: %q; seen %q", d.at, len(r.pcs),
			r.at(d.at), d.outcome, want, strings.Join(seen, "; "))
	}
	require.Equal(t, len(fates)-1, i, "not everything was seen that was expected: %q, and not %q", strings.Join(seen, "; "), want)
}

// distinct returns how many states there are among these, and one death of each that is not known yet.
func distinct(deaths []death, known map[uint64]bool) (n int, unknown []death) {
	here := map[uint64]bool{}
	for _, d := range deaths {
		here[d.state] = true
		if !known[d.state] {
			known[d.state] = true
			unknown = append(unknown, d)
		}
	}
	slices.SortFunc(unknown, func(a, b death) int { return cmp.Compare(a.at, b.at) })
	return len(here), unknown
}

// every returns every n-th element.
func every[T any](list []T, n int) (some []T) {
	for i := 0; i < len(list); i += n {
		some = append(some, list[i])
	}
	return some
}
