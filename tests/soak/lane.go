//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/seg"
)

// A lane has one ring after the other, of one kind and policy, and processes that join, leave, stop and are killed.
type lane struct {
	name   string
	dir    string
	kind   ring.Kind
	policy ring.DeathPolicy
	random *rand.Rand
	killed time.Duration // from one kill to the next, on average

	survivor *process // is never killed, and takes part in one ring after the other
	actors   []*actor
	rings    int
	counts   counts
	totals   totals
	faults   []string
	watchdog *watchdog
}

// actor is a participation that the lane has ordered.
type actor struct {
	*process
	role    string
	asked   bool      // to leave
	resume  time.Time // when it is stopped: until when
	spared  bool      // never killed
	started time.Time
}

// counts are of what the lane did.
type counts struct {
	Kills     atomic.Uint64
	Stops     atomic.Uint64
	Processes atomic.Uint64
	Joins     atomic.Uint64
	Leaves    atomic.Uint64
	Rings     atomic.Uint64
	Phases    atomic.Uint64
}

const (
	laneTick = 5 * time.Millisecond
	// stuckAfter is how long a ring may take to be emptied when nobody disturbs it any more.
	stuckAfter = 90 * time.Second
)

// phase is a stretch of time with so many producers and consumers.
type phase struct {
	producers, consumers int
	storm                bool // kills follow each other closely
}

// phases are full, empty, and everything between.
var phases = []phase{{1, 1, false}, {2, 2, false}, {3, 1, false}, {1, 3, false}, {3, 3, false}, {2, 2, true}, {2, 0, false}, {0, 2, false}}

var incarnations atomic.Uint64

// run has rings until the time is up.
func (l *lane) run(ctx context.Context) (err error) {
	defer func() {
		for _, a := range l.actors {
			a.end()
		}
		if l.survivor != nil {
			l.survivor.doomed = true
			l.survivor.signal(syscall.SIGKILL)
			<-l.survivor.gone
		}
	}()
	for ctx.Err() == nil && len(l.faults) == 0 {
		if err := l.ring(ctx); err != nil {
			return fmt.Errorf("lane %s, ring %d: %w", l.name, l.rings, err)
		}
	}
	return nil
}

// end kills an actor and waits for it.
func (a *actor) end() {
	a.doomed = true
	a.signal(syscall.SIGKILL)
	<-a.gone
}

// options chooses a ring.
func (l *lane) options() (o ring.Options, typed bool) {
	o = ring.Options{
		Kind: l.kind, OnConsumerDeath: l.policy, Slots: 1 << (2 + l.random.IntN(7)), SlotSize: []int{16, 24, 64, 200}[l.random.IntN(4)],
		Participants: 16, Dir: l.dir,
	}
	if l.random.IntN(3) == 0 {
		o.MaxDeliveries = 2 + l.random.IntN(6)
	}
	if l.random.IntN(6) == 0 {
		o.Backing = seg.SysV
	}
	if typed = l.random.IntN(4) == 0; typed {
		o.SlotSize = []int{recordSize, 64, 24}[l.random.IntN(3)]
	}
	return o, typed
}

// ring is the life of one ring.
func (l *lane) ring(ctx context.Context) (err error) {
	o, typed := l.options()
	name := fmt.Sprintf("%s-%d", l.name, l.rings)
	r, err := ring.Create(name, o)
	if err != nil {
		return err
	}
	l.rings++
	l.counts.Rings.Add(1)
	a := newAccount(o.OnConsumerDeath == ring.Drop, o.MaxDeliveries)
	g := &game{lane: l, r: r, name: name, typed: typed, account: a}
	if err = g.play(ctx, time.Duration(6+l.random.IntN(9))*time.Second); err == nil {
		err = g.finish()
	}
	if err != nil {
		return fmt.Errorf("%w%s; %+v", err, roster(r), r.Stats())
	}
	a.balance(r.Stats())
	for _, f := range a.faults {
		l.faults = append(l.faults, fmt.Sprintf("%s %+v: %s", name, o, f))
	}
	l.totals.add(&a.totals)
	if len(l.faults) == 0 {
		if err = lap(r, typed); err != nil {
			return fmt.Errorf("after everything was received: %w; %+v", err, r.Stats())
		}
	}
	if err = errors.Join(r.Close(), ring.Remove(name, ring.WithDir(l.dir), ring.IfDrained())); err != nil {
		return err
	}
	if l.survivor != nil {
		l.watchdog.sample("survivor of "+l.name, l.survivor.cmd.Process.Pid, slackSurvivor)
	}
	debug.FreeOSMemory() // so that what is left of the account does not look like growth
	return nil
}

// game is one ring while it is in use.
type game struct {
	*lane
	r       *ring.Ring
	name    string
	typed   bool
	account *account
	want    [2]int
	storm   bool
}

// play disturbs the ring for a while.
func (g *game) play(ctx context.Context, d time.Duration) error {
	end := time.Now().Add(d)
	var nextPhase, nextKill, nextStop time.Time
	for now := time.Now(); now.Before(end) && ctx.Err() == nil; now = time.Now() {
		if now.After(nextPhase) {
			p := phases[g.random.IntN(len(phases))]
			g.want, g.storm = [2]int{p.producers, p.consumers}, p.storm
			if g.kind == ring.SPSC {
				g.want = [2]int{min(1, p.producers), min(1, p.consumers)}
			}
			nextPhase = now.Add(time.Duration(200+g.random.IntN(1500)) * time.Millisecond)
			g.counts.Phases.Add(1)
		}
		if err := g.tend(now); err != nil {
			return err
		}
		if now.After(nextKill) {
			g.kill()
			pause := g.killed
			if g.storm {
				pause /= 8
			}
			nextKill = now.Add(time.Duration(float64(pause) * g.random.ExpFloat64()))
		}
		if now.After(nextStop) {
			g.stop(now)
			nextStop = now.Add(time.Duration(100+g.random.IntN(600)) * time.Millisecond)
		}
		time.Sleep(laneTick)
	}
	return nil
}

// tend buries the dead, wakes those who were stopped, and sees to it that as many take part as the phase wants.
func (g *game) tend(now time.Time) error {
	for _, a := range slices.Clone(g.actors) {
		if a.stopped && now.After(a.resume) {
			a.signal(syscall.SIGCONT)
			a.stopped = false
		}
		_, left := a.has()
		switch {
		case a.ended():
			if err := a.failure(); err != nil {
				return err
			}
			g.counts.Kills.Add(1)
		case left && a.spared:
			g.counts.Leaves.Add(1)
		case left && !a.doomed: // it has nothing more to do
			g.counts.Leaves.Add(1)
			a.doomed = true
			a.signal(syscall.SIGKILL)
			<-a.gone
		default:
			continue
		}
		g.actors = slices.DeleteFunc(g.actors, func(b *actor) bool { return b == a })
	}
	for role, want := range g.want {
		staying, all := g.count(roles[role])
		// In an SPSC ring the next one comes when the last one is gone: a participant that is alive has the role.
		if staying < want && (g.kind == ring.MPMC || all == 0) {
			if err := g.start(roles[role], now); err != nil {
				return err
			}
		}
		if staying > want {
			g.ask(roles[role], "leave")
		}
	}
	return nil
}

// count returns how many actors of a role stay, and how many there are.
func (g *game) count(role string) (staying, all int) {
	for _, a := range g.actors {
		if a.role == role {
			all++
			if !a.asked && !a.doomed {
				staying++
			}
		}
	}
	return staying, all
}

// ask asks one actor of a role to leave, or to finish.
func (g *game) ask(role, order string) {
	for _, a := range g.actors {
		if joined, _ := a.has(); a.role == role && !a.asked && !a.doomed && joined {
			a.asked = true
			_ = a.order(order) // it may have ended
			return
		}
	}
}

// start lets one more take part: now and then the survivor, otherwise a new process.
func (g *game) start(role string, now time.Time) (err error) {
	a := &actor{role: role, started: now}
	busy := slices.ContainsFunc(g.actors, func(b *actor) bool { return b.spared })
	if a.spared = !busy && g.random.IntN(5) == 0; a.spared {
		if g.survivor == nil {
			if g.survivor, err = newProcess(); err != nil {
				return err
			}
		}
		a.process = g.survivor
	} else {
		if a.process, err = newProcess(); err != nil {
			return err
		}
		g.counts.Processes.Add(1)
	}
	g.counts.Joins.Add(1)
	g.actors = append(g.actors, a)
	return a.join(g.account, join{role, g.dir, g.name, incarnations.Add(1), g.typed})
}

// kill kills somebody, whatever it is doing, stopped or not.
func (g *game) kill() {
	var alive []*actor
	for _, a := range g.actors {
		joined, left := a.has()
		if !a.spared && !a.doomed && !left && (joined || g.random.IntN(10) == 0) { // now and then while it joins
			alive = append(alive, a)
		}
	}
	if len(alive) > 0 {
		a := alive[g.random.IntN(len(alive))]
		a.doomed = true
		a.signal(syscall.SIGKILL)
	}
}

// stop stops somebody for a while.
func (g *game) stop(now time.Time) {
	if len(g.actors) == 0 {
		return
	}
	a := g.actors[g.random.IntN(len(g.actors))]
	if a.stopped || a.doomed {
		return
	}
	a.stopped, a.resume = true, now.Add(time.Duration(10+g.random.IntN(400))*time.Millisecond)
	a.signal(syscall.SIGSTOP)
	g.counts.Stops.Add(1)
}

// finish lets the producers leave and the consumers receive everything, undisturbed.
func (g *game) finish() error {
	deadline := time.Now().Add(stuckAfter)
	asked := false // the last consumer was asked to finish; nobody kills it any more
	for {
		now := time.Now()
		if now.After(deadline) {
			return fmt.Errorf("the ring has not been emptied for %v", stuckAfter)
		}
		if !asked {
			if g.want = [2]int{0, 1}; g.r.Stats().ProducersEver == 0 {
				g.want[0] = 1 // a ring that nobody has sent to yet does not end
			}
			if err := g.tend(now); err != nil {
				return err
			}
		} else if err := g.bury(); err != nil {
			return err
		}
		_, producers := g.count(roles[0])
		staying, consumers := g.count(roles[1])
		switch {
		case asked && consumers == 0:
			return nil
		case !asked && producers == 0 && staying == 1 && consumers == 1:
			if joined, _ := g.actors[0].has(); joined {
				g.ask(roles[1], "finish")
				asked = true
			}
		}
		time.Sleep(laneTick)
	}
}

// bury is tend without newcomers.
func (g *game) bury() error {
	for _, a := range g.actors {
		if a.ended() && !a.doomed {
			return a.failure()
		}
	}
	want := g.want
	defer func() { g.want = want }()
	g.want = [2]int{}
	return g.tend(time.Now())
}

// lap sends and receives three laps, to see that every slot is of use again.
func lap(r *ring.Ring, typed bool) error {
	if typed {
		return nil // the next participant of another kind would be refused
	}
	p, err := r.NewProducer()
	if err != nil {
		return err
	}
	q, err := r.NewConsumer()
	if err != nil {
		return err
	}
	buf := make([]byte, r.MaxMessage())
	for i := range 3 * r.Options().Slots {
		m := buf[:min(len(buf), leastMessage+i%64)]
		encode(m, uint64(i))
		if err := p.TrySend(m); err != nil {
			return fmt.Errorf("send %d: %w", i, err)
		}
		n, err := q.TryReceive(buf)
		if err != nil {
			return fmt.Errorf("receive %d: %w", i, err)
		}
		if got, err := decode(buf[:n]); err != nil || got != uint64(i) {
			return fmt.Errorf("receive %d: got %d, %w", i, got, err)
		}
	}
	return errors.Join(p.Close(), q.Close())
}

// roster says who takes part, for the message about a ring that is stuck.
func roster(r *ring.Ring) string {
	var b strings.Builder
	for _, p := range r.Participants() {
		fmt.Fprintf(&b, "; %s %d (pid %d) is %s", p.Role, p.ID, p.PID, p.State)
		if p.Holding {
			fmt.Fprintf(&b, " and has held position %d for %v", p.Position, p.Age)
		}
	}
	return b.String()
}
