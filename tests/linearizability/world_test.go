//go:build linux

package linearizability

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/internal/testpoint"
	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/internal/clock"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

const (
	durationEnv = "MILLRACE_LINEARIZABILITY" // how long histories are made; 10m is a long run
	patienceEnv = "MILLRACE_PATIENCE"        // how long one may take before it hangs
	lanes       = 4                          // histories at once
	processes   = 3                          // child processes of a lane
	mostCheck   = 30 * time.Second           // for one history; a checker that takes longer has failed
	mostDeaths  = 3                          // in one history
	drainer     = maxActors - 1              // the actor that receives what is left
)

var seedFlag = flag.Uint64("seed", 0, "seed of the histories; 0: a new one")

func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", strconv.Itoa(lanes)); err != nil { // most of the time of a lane is waiting
		panic(err)
	}
	proc.Main(m, map[string]func(*proc.Child) error{"child": child})
}

// tally is what was covered.
type tally struct {
	mu                                                                       sync.Mutex
	kinds                                                                    map[string]int
	histories, withKills, kills, processes, calls, steps, unfinished, actors int
	outcomes                                                                 [failed + 1]int
	redelivered, lost, skipped, messages                                     int
	slowest                                                                  time.Duration
}

// TestHistories makes short random histories, across processes and goroutines that are killed, and checks each against the queue: every call must have
// happened at one moment between its begin and its end, a call that was cut short by a death at one moment or not at all.
func TestHistories(t *testing.T) {
	duration := fromEnv(t, durationEnv, 3*time.Second)
	first := *seedFlag
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	total := &tally{kinds: map[string]int{}}
	stop := time.Now().Add(duration)
	var failed atomic.Bool
	t.Run("lanes", func(t *testing.T) {
		for i := range lanes {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				l := newLane(t, first+uint64(i), total)
				for n := 0; n == 0 || time.Now().Before(stop) && !failed.Load(); n++ {
					if err := l.history(n); err != nil {
						failed.Store(true)
						t.Fatalf("seed %d, history %d: %v", first+uint64(i), n, err)
					}
				}
			})
		}
	})
	if t.Failed() {
		return
	}
	labels := "without labels"
	if testpoint.Enabled {
		labels = "disturbed and killed at labelled steps too"
	}
	t.Logf("LINEARIZABILITY %s: %d histories (%d with kills) of %d actors in %d processes; %d calls (%d cut short by a death), %d steps, %d messages; %d kills",
		labels, total.histories, total.withKills, total.actors, total.processes, total.calls, total.unfinished, total.steps, total.messages, total.kills)
	t.Logf("LINEARIZABILITY %d full, %d empty, %d EOF, %d nobody to read; %d redelivered, %d lost, %d skipped; slowest check %v; seed %d; %v",
		total.outcomes[full], total.outcomes[empty], total.outcomes[eof], total.outcomes[noConsumers], total.redelivered, total.lost, total.skipped, total.slowest.Round(time.Millisecond), first,
		total.kinds)
	if duration >= 10*time.Second { // the rare branches ran
		for what, n := range map[string]int{"kills": total.kills, "calls cut short": total.unfinished, "full": total.outcomes[full], "empty": total.outcomes[empty],
			"EOF": total.outcomes[eof], "nobody to read": total.outcomes[noConsumers], "redelivered": total.redelivered, "lost": total.lost} {
			require.NotZero(t, n, what)
		}
		if testpoint.Enabled {
			require.NotZero(t, total.skipped)
		}
	}
}

// fromEnv reads a duration from the environment.
func fromEnv(t *testing.T, name string, otherwise time.Duration) time.Duration {
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	d, err := time.ParseDuration(v)
	require.NoError(t, err)
	return d
}

// lane makes one history after the other, with processes of its own.
type lane struct {
	t       *testing.T
	dir     string
	rnd     *rand.Rand
	j       *journal
	workers [processes]*proc.Proc
	total   *tally
	hung    atomic.Bool
}

func newLane(t *testing.T, seed uint64, total *tally) *lane {
	l := &lane{t: t, dir: proc.Dir(t), rnd: rand.New(rand.NewPCG(seed, 0)), total: total}
	j, err := openJournal(filepath.Join(l.dir, "journal"))
	require.NoError(t, err)
	l.j = j
	base, err := ring.Create("base", ring.Options{Slots: 1, SlotSize: 1, Participants: 1, Dir: l.dir})
	require.NoError(t, err)
	require.NoError(t, base.Close())
	stop, err := keepWatching(l.dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stop()) })
	t.Cleanup(func() { require.NoError(t, j.close()) })
	for i := range l.workers {
		l.start(i)
	}
	return l
}

func (l *lane) start(i int) {
	l.workers[i] = proc.Start(l.t, []string{"child", l.dir})
	l.total.mu.Lock()
	l.total.processes++
	l.total.mu.Unlock()
}

// options chooses the ring of a history.
func (l *lane) options() ring.Options {
	o := ring.Options{Kind: ring.MPMC, Slots: 2 << l.rnd.IntN(3), SlotSize: slotSize, Participants: maxActors, Dir: l.dir}
	if l.rnd.IntN(3) == 0 {
		o.Kind = ring.SPSC
	}
	if l.rnd.IntN(3) == 0 {
		o.OnConsumerDeath = ring.Drop
	}
	if l.rnd.IntN(4) == 0 {
		o.MaxDeliveries = 1 + l.rnd.IntN(3)
	}
	return o
}

// cast chooses who takes part, and in which process.
func (l *lane) cast(o ring.Options) (parts [processes][]part) {
	producers, consumers, budget := 1, 1, 10
	how := style(l.rnd.IntN(int(styles)))
	if o.Kind == ring.MPMC {
		producers, consumers, budget = 2+l.rnd.IntN(3), 2+l.rnd.IntN(3), 5
	}
	for i := range producers + consumers {
		p := part{actor: uint8(i), producer: i < producers, budget: 1 + l.rnd.IntN(budget), style: how, seed: l.rnd.Uint64()}
		at := l.rnd.IntN(processes)
		parts[at] = append(parts[at], p)
	}
	return parts
}

// run is one history while it is made.
type run struct {
	*lane
	h      *history
	name   string
	parts  [processes][]part
	actors int
	deaths int
}

// history makes one history and checks it.
func (l *lane) history(n int) (err error) {
	o := l.options()
	name := fmt.Sprintf("h%d", n)
	r, err := ring.Create(name, o)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, r.Close())
		if err == nil {
			err = ring.Remove(name, ring.WithDir(l.dir))
		}
	}()
	o = r.Options()
	w := &run{lane: l, name: name, parts: l.cast(o), h: &history{
		queue: queue{kind: o.Kind, slots: o.Slots, drop: o.OnConsumerDeath == ring.Drop, max: o.MaxDeliveries}}}
	hang := time.AfterFunc(fromEnv(l.t, patienceEnv, proc.Patience), func() {
		l.hung.Store(true)
		for _, p := range l.workers {
			_ = p.Cmd.Process.Kill() // that it hangs is what is reported
		}
	})
	err = w.play()
	if err == nil {
		err = w.drain(r)
	}
	hang.Stop()
	if l.hung.Load() {
		return fmt.Errorf("it hangs: %+v, %+v; %v", r.Stats(), r.Participants(), w.text())
	}
	if err != nil {
		return fmt.Errorf("%w; %s", err, w.text())
	}
	return w.finish(o)
}

// text is what the journal says, for a report.
func (w *run) text() string {
	if err := w.h.read(w.j); err != nil {
		return err.Error()
	}
	return w.h.describe()
}

// command is the line that starts the parts in a child. In builds with labels a child may be told to kill itself at one of them.
func (w *run) command(parts []part, deadly bool) string {
	hits := 0
	if deadly && testpoint.Enabled {
		hits = 1 + w.rnd.IntN(150)
	}
	line := fmt.Sprintf("run %s %d", w.name, hits)
	for _, p := range parts {
		line += " " + p.String()
		if p.producer {
			w.h.producers |= bit(p.actor)
		}
	}
	return line
}

// play lets the children make their calls, kills some of them, and starts others in their place.
func (w *run) play() error {
	w.j.reset()
	deadly := w.rnd.IntN(3) == 0
	byLabel := testpoint.Enabled && w.rnd.IntN(3) > 0 // it kills itself, otherwise it is killed
	victim := w.rnd.IntN(processes)
	for i, p := range w.workers {
		p.Tell(w.command(w.parts[i], deadly && byLabel && i == victim))
		for _, a := range w.parts[i] {
			w.h.initial |= bit(a.actor)
			w.actors++
		}
	}
	for i, p := range w.workers {
		if line, ok := p.Line(); !ok || line != "ready" {
			return fmt.Errorf("child %d said %q: %s", i, line, p.Errors())
		}
	}
	var killed uint64
	w.j.start.Store(1)
	if deadly && !byLabel {
		w.await(w.parts[victim], w.rnd.IntN(20))
		killed = clock.Now()
		w.workers[victim].Signal(syscall.SIGKILL)
	}
children:
	for i := range w.workers {
		for {
			line, ok := w.workers[i].Line()
			sentKill := i == victim && killed != 0
			switch {
			case ok && line == "done" && !sentKill:
				continue children
			case ok: // it is ready, or was done when it was killed
				continue
			}
			if err := w.died(i, killed); err != nil {
				return err
			}
			killed = 0
		}
	}
	return nil
}

// await lets time pass until the actors have begun so many calls, or seem to be done.
func (w *run) await(parts []part, calls int) {
	for begin := time.Now(); time.Since(begin) < 2*time.Millisecond; runtime.Gosched() {
		n := uint64(0)
		for _, p := range parts {
			n += w.j.areas[p.actor].records.Load()
		}
		if n >= uint64(calls) {
			return
		}
	}
}

// died puts somebody else in the place of a child that is gone, who may die as well. killed is when it was told to, or 0.
func (w *run) died(i int, killed uint64) error {
	p := w.workers[i]
	if signal, code := p.Result(); signal != syscall.SIGKILL {
		return fmt.Errorf("child %d ended with %v, %d: %s", i, signal, code, p.Errors())
	}
	if w.hung.Load() {
		return errors.New("killed because it hangs")
	}
	d := death{from: killed, to: clock.Now()}
	var heirs []part
	for _, a := range w.parts[i] {
		d.actors |= bit(a.actor)
		heir := part{actor: uint8(w.actors), producer: a.producer, late: true, budget: 1 + w.rnd.IntN(3), style: a.style, seed: w.rnd.Uint64()}
		if w.actors < drainer && (w.h.kind == ring.SPSC || w.rnd.IntN(4) > 0) {
			heirs = append(heirs, heir)
			w.actors++
		}
	}
	if d.actors != 0 {
		w.h.deaths = append(w.h.deaths, d)
	}
	w.parts[i] = heirs
	w.deaths++
	w.start(i)
	w.workers[i].Tell(w.command(heirs, w.deaths < mostDeaths && w.rnd.IntN(2) == 0))
	return nil
}

// drain receives what is left, and takes the account.
func (w *run) drain(r *ring.Ring) error {
	a := &actor{part: part{actor: drainer}, r: r, area: &w.j.areas[drainer], buf: make([]byte, r.MaxMessage())}
	if a.do(callRegister, 0, nil, func() error { return a.register() }, nil) != fine {
		return a.err
	}
	a.consumeAll()
	if a.err != nil {
		return a.err
	}
	s := r.Stats()
	w.h.account = &step{kind: stepAccount, lost: int(s.Lost), skipped: int(s.Skipped), used: s.Used}
	return nil
}

// consumeAll copies messages until the stream ends.
func (a *actor) consumeAll() {
	for o := fine; o == fine && a.room(3); {
		n := -1
		o = a.do(callReceive, 1, nil, func() (err error) { n, err = failing(a.q.Receive(forever, a.buf)); return err }, a.received(&n))
	}
	if a.err == nil {
		a.do(callClose, 0, nil, func() error { return a.q.Close() }, nil)
	}
}

// finish checks what was made.
func (w *run) finish(o ring.Options) error {
	h := w.h
	if err := h.read(w.j); err != nil {
		return err
	}
	if err := h.makeSteps(); err != nil {
		return err
	}
	begin := time.Now()
	if err := h.check(mostCheck); err != nil {
		return err
	}
	t := w.total
	t.mu.Lock()
	defer t.mu.Unlock()
	t.slowest = max(t.slowest, time.Since(begin))
	t.kinds[strings.Join([]string{o.Kind.String(), o.OnConsumerDeath.String()}, "/")]++
	t.histories++
	t.kills += w.deaths
	if w.deaths > 0 {
		t.withKills++
	}
	t.actors += w.actors
	t.calls += len(h.calls)
	t.steps += len(h.ops)
	t.messages += len(h.messages)
	for _, c := range h.calls {
		t.outcomes[c.outcome]++
		if c.returned == 0 {
			t.unfinished++
		}
		for _, d := range c.got {
			if d.count > 1 {
				t.redelivered++
			}
		}
	}
	t.lost += h.account.lost
	t.skipped += h.account.skipped
	return nil
}
