package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cd1900cf/millrace/ring"
)

// Verb is the hidden command that worker processes are started with.
const Verb = "demo-worker"

const (
	// tick is how often the parent looks at the whole.
	tick = 100 * time.Millisecond
	// silence is how long nothing may be received before the demo is called stuck.
	silence = 30 * time.Second
	// mostBarren is how many processes of one worker may be killed in a row before they do anything: where processes take longer
	// to start than kill-every, the others must get somewhere.
	mostBarren = 2
	// lastOrders is how long processes get to end by themselves after an interrupt.
	lastOrders = 5 * time.Second
)

// fleet is all worker processes and what they share.
type fleet struct {
	*Config
	account  *account
	ring     *ring.Ring
	keeper   *ring.Producer // keeps the stream from ending while every producer is dead; MPMC only
	name     string
	exe      string
	lanes    []lane
	manifest *os.File
	orders   orders
	progress []progress

	workers []*worker
	exits   chan exit
	readers sync.WaitGroup
	stopped bool // the producers were told to stop
	sending int  // producers that have not finished
	began   time.Time
	over    time.Time // when a consumer saw the end of the stream while producers had not finished

	lastRole string // of the last process that was killed
}

func newFleet(c *Config, r *ring.Ring, name string, files []file) (f *fleet, err error) {
	lanes := share(files, c.Producers)
	f = &fleet{Config: c, ring: r, name: name, lanes: lanes, exits: make(chan exit), sending: c.Producers}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	if f.exe, err = os.Executable(); err != nil {
		return nil, err
	}
	if f.manifest, err = scratch(); err != nil {
		return nil, err
	}
	if err = writeManifest(f.manifest, files); err != nil {
		return nil, err
	}
	if f.orders.file, err = scratch(); err != nil {
		return nil, err
	}
	if err = f.orders.store(f.passes(), false); err != nil {
		return nil, err
	}
	for range c.Producers {
		file, err := scratch()
		if err != nil {
			return nil, err
		}
		f.progress = append(f.progress, progress{file})
		if err := f.progress[len(f.progress)-1].store(0); err != nil {
			return nil, err
		}
	}
	if c.Kind == ring.MPMC {
		if f.keeper, err = r.NewProducer(); err != nil {
			return nil, err
		}
	}
	f.account = newAccount(files, lanes)
	for i := range c.Producers {
		f.workers = append(f.workers, f.worker(roleProducer, i))
	}
	for i := range c.Consumers {
		f.workers = append(f.workers, f.worker(roleConsumer, i))
	}
	return f, nil
}

// passes is how often the producers go through the input if nothing stops them.
func (f *fleet) passes() uint64 {
	if f.Duration == 0 && f.KillEvery == 0 {
		return 1
	}
	return endless
}

func (f *fleet) worker(role string, i int) *worker {
	return &worker{Worker: Worker{Role: role, Ring: f.name, Dir: f.Dir, Index: i, Producers: f.Producers}}
}

// close ends what run left running.
func (f *fleet) close() {
	for _, w := range f.workers {
		if w.cmd != nil {
			_ = w.cmd.Process.Kill()
		}
	}
	for f.running() > 0 {
		(<-f.exits).w.cmd = nil
	}
	f.readers.Wait()
	for _, file := range []*os.File{f.manifest, f.orders.file} {
		if file != nil {
			_ = file.Close()
		}
	}
	for _, p := range f.progress {
		_ = p.file.Close()
	}
}

func (f *fleet) running() (n int) {
	for _, w := range f.workers {
		if w.cmd != nil {
			n++
		}
	}
	return n
}

// run starts everybody, kills, restarts, and returns when all have finished and every report is in the account.
func (f *fleet) run(ctx context.Context) error {
	// Children die with the thread that started them (see childAttributes), so it is this one, and it stays.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	f.began = time.Now()
	for _, w := range f.workers {
		if err := f.start(w); err != nil {
			return err
		}
	}
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	var killing <-chan time.Time
	if f.KillEvery > 0 {
		k := time.NewTicker(f.KillEvery)
		defer k.Stop()
		killing = k.C
	}
	var deadline <-chan time.Time
	interrupt := ctx.Done()
	for f.running() > 0 {
		var err error
		select {
		case e := <-f.exits:
			err = f.ended(e)
		case <-killing:
			f.killOne()
		case <-ticks.C:
			err = f.look()
		case <-interrupt:
			interrupt, deadline = nil, time.After(lastOrders)
			err = f.stop()
		case <-deadline:
			err = fmt.Errorf("processes did not end within %v of the interrupt: %w", lastOrders, ctx.Err())
		}
		if err != nil {
			return err
		}
	}
	f.readers.Wait()
	return nil
}

// ended deals with the end of a process: the next one starts at once, unless the work is done.
func (f *fleet) ended(e exit) error {
	w := e.w
	w.cmd = nil
	if killedBySignal(e.state) {
		if w.kill == 0 { // by somebody else
			f.account.killed(w.Role, w.Index, w.Incarnation+1, time.Now())
		}
		w.kill = 0
		w.Incarnation++
		if err := f.start(w); err != nil || w.Role == roleConsumer {
			return err
		}
		return f.again()
	}
	if w.kill > 0 {
		f.account.spared(w.kill - 1)
	}
	if e.err != nil {
		return fmt.Errorf("%s %d ended by itself: %w: %s", w.Role, w.Index, e.err, w.stderr)
	}
	w.done = true
	if w.Role == roleConsumer {
		if f.sending > 0 && f.over.IsZero() {
			f.over = time.Now()
		}
		return nil
	}
	if f.sending--; f.sending == 0 && f.keeper != nil {
		return f.keeper.Close()
	}
	return nil
}

// again starts the consumers that have seen the end of the stream, because a producer was killed between closing and ending,
// and its successor begins another one.
func (f *fleet) again() error {
	for _, w := range f.workers {
		if w.Role == roleConsumer && w.done {
			w.done = false
			w.Incarnation++
			if err := f.start(w); err != nil {
				return err
			}
		}
	}
	f.over = time.Time{}
	return nil
}

// killOne sends SIGKILL to somebody: to producer and consumer in turn on an SPSC ring, at random on an MPMC ring. When the
// producers were told to stop, nobody is killed any more, so that it ends.
func (f *fleet) killOne() {
	if f.stopped || f.sending == 0 {
		return
	}
	var alive []*worker
	for _, w := range f.workers {
		if w.cmd != nil && w.kill == 0 && (w.barren < mostBarren || f.account.resumed(w.last-1)) {
			alive = append(alive, w)
		}
	}
	if f.Kind == ring.SPSC {
		alive = slices.DeleteFunc(alive, func(w *worker) bool { return w.Role == f.lastRole })
	}
	if len(alive) == 0 {
		return
	}
	w := alive[rand.IntN(len(alive))]
	n := f.account.killed(w.Role, w.Index, w.Incarnation+1, time.Now())
	if err := w.cmd.Process.Kill(); err != nil { // it has just ended
		f.account.spared(n)
		return
	}
	w.barren++
	if w.last == 0 || f.account.resumed(w.last-1) {
		w.barren = 0
	}
	w.kill, w.last, f.lastRole = n+1, n+1, w.Role
}

// stop tells the producers to stop before the next file.
func (f *fleet) stop() error {
	if f.stopped {
		return nil
	}
	f.stopped = true
	return f.orders.store(f.passes(), true)
}

// look decides whether it is enough, whether it is stuck, and shows how far it has come.
func (f *fleet) look() error {
	s := f.account.snapshot()
	if quiet := time.Since(s.last); quiet > silence {
		return fmt.Errorf("nothing was received for %v: stuck%s", quiet.Round(time.Second), f.roster())
	}
	if !f.over.IsZero() && f.sending > 0 && time.Since(f.over) > lastOrders {
		return fmt.Errorf("a consumer was told that the stream had ended while %d producers were sending%s", f.sending, f.roster())
	}
	least := endless
	for i, p := range f.progress {
		if f.lanes[i].pass == 0 {
			continue
		}
		n, err := p.load()
		if err != nil {
			return err
		}
		least = min(least, n/f.lanes[i].pass)
	}
	if f.Progress != nil {
		seconds := s.last.Sub(f.began).Seconds() + 1e-9
		f.Progress(fmt.Sprintf("%5.1f s  pass %d  %.0f messages/s  %.1f MB/s  killed %d+%d  redelivered %d  resent %d  faults %d", time.Since(f.began).Seconds(),
			least+1, float64(s.messages)/seconds, float64(s.bytes)/1e6/seconds, s.producers, s.consumers, s.redelivered, s.resent, s.faulty()))
	}
	switch {
	case f.Duration > 0 && time.Since(f.began) >= f.Duration,
		f.Duration == 0 && f.KillEvery > 0 && least >= 1 && s.producers+s.consumers >= f.wanted():
		return f.stop()
	}
	return nil
}

// roster says who is registered, for the message about a demo that is stuck.
func (f *fleet) roster() string {
	var b strings.Builder
	for _, p := range f.ring.Participants() {
		fmt.Fprintf(&b, "; %s %d (pid %d) is %s", p.Role, p.ID, p.PID, p.State)
		if p.Holding {
			fmt.Fprintf(&b, " and has held position %d for %v", p.Position, p.Age)
		}
	}
	return b.String()
}

// totals returns how many messages each producer sent, from the records of those that finished.
func (f *fleet) totals() ([]uint64, error) {
	totals := make([]uint64, len(f.progress))
	var errs []error
	for i, p := range f.progress {
		var err error
		totals[i], err = p.load()
		errs = append(errs, err)
	}
	return totals, errors.Join(errs...)
}
