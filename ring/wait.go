package ring

import (
	"context"
	"errors"
	"runtime"
	"time"

	"github.com/cd1900cf/millrace/futex"
	"github.com/cd1900cf/millrace/internal/layout"
)

// Waiting, docs/FORMAT.md section 8: a short spin, then the kernel, in bounded sleeps. After each sleep the waiter looks for what nobody would
// wake it for: a dead participant in its way, the end of the stream, nobody left to read.

const (
	// tick bounds every sleep: what a waker's death costs, and with it the notice of a death (CONTRACT 10 allows 100 ms).
	tick = 40 * time.Millisecond
	// watchedTick bounds it where the kernel tells of every descriptor of the segment that is closed, and so of every death. It is the net under that.
	watchedTick = 250 * time.Millisecond
	// pollingTick bounds it while a participant is registered that neither fences nor can be fenced (FORMAT 8.4).
	pollingTick = time.Millisecond
	// heldTick bounds the first sleep at the end of a stream, while another consumer holds a message: its release wakes no consumer. The
	// sleeps double up to a tick.
	heldTick = 5 * time.Millisecond
	// lookEvery is how often a Try call that finds its way blocked looks for the dead.
	lookEvery = 20 * time.Millisecond
	// stallAfter is how long somebody holds on to one position before it is called stalled.
	stallAfter = 100 * time.Millisecond
)

// nap returns how long to sleep at most, after making sure that plain-store publishers cannot be missed (W2).
func (h *handle) nap(other Role) time.Duration {
	c := h.c
	polling, plain := false, false
	others := 0
	for id := range c.participants { // of either role: who gives back or discards wakes those who do the same as he
		m := c.participant(id)
		if id == int(h.id) || !m.producer.open() && !m.consumer.open() {
			continue
		}
		if c.session(id, other).open() {
			others++
		}
		switch how := m.publish.Load(); { // order: W2 acq, pairs R3
		case how&layout.PublishFenced != 0:
		case how&layout.PublishMembarrier != 0:
			plain = true
		default:
			polling = true
		}
	}
	h.crowded = others >= runtime.NumCPU()
	own := int(h.ring.queues.handles[other].Load()) // order: heap
	h.alone = futex.OneProcessor() || h.single && others > 0 && own >= others
	// order: W2 sc REQUIRED, pairs P6-N1: the barrier makes every running publisher's store visible before W3 reads, or its N1 see W1.
	if plain && futex.Membarrier() != nil {
		polling = true
	}
	if polling {
		return pollingTick
	}
	return h.ring.queues.tick(h.ring.seg)
}

// removed says whether the ring was removed by force, or its memory lost.
func (c *core) removed() bool {
	return c.ctl.removed.Load() != 0 || c.gone() // order: X6 acq, pairs X6
}

// await makes a call succeed, or says why it cannot. It returns what came of it.
func (p *Producer) await(ctx context.Context, s sending) (sending, error) {
	if !p.gate.begin() {
		p.overlap.Store(true) // order: heap
		return s, ErrMisuse
	}
	p.pending = s
	err := p.awaitSpace(ctx)
	s, p.pending = p.pending, sending{}
	p.gate.finish()
	if err == ErrNoConsumers && p.waiter.Closed() {
		err = ErrClosed // the last consumer may have been closed together with this handle
	}
	return s, err
}

func (p *Producer) awaitSpace(ctx context.Context) error {
	s := p.spinning()
	p.coarse = true
	for s.more() {
		if p.crammed() {
			s.renew(ctx, p.gained())
			continue
		}
		if err := p.attempt(); err != ErrFull {
			p.spun(&s, true)
			p.coarse = false
			return err
		}
	}
	p.coarse = false
	err := p.attempt() // there may be less than what it spun for
	if p.spun(&s, err != ErrFull); err != ErrFull {
		return err
	}
	defer p.abandon()
	if err := ctx.Err(); err != nil {
		return err
	}
	parked := time.Now()
	p.waiter.Begin(ctx)
	defer p.waiter.End()
	p.stalled = stallWatch{}
	e := &p.c.ctl.notFull
	for key, again := uint32(0), false; ; again = true {
		if !again || !e.stillArrived(key) {
			key = e.arrive()
		}
		nap := p.nap(ConsumerRole)
		if err := p.attempt(); err != ErrFull {
			p.slept(time.Since(parked))
			return err
		}
		p.stalled.look(p.blocked)
		if err := p.lookWhileFull(); err != ErrFull {
			return err
		}
		sleeps, err := p.waiter.Wait(e.epoch(), key, nap)
		bump(&p.me.sleeps, uint64(sleeps))
		if err != nil && err != futex.ErrTimeout {
			if last := p.attempt(); last != ErrFull {
				return last
			}
			return p.interrupted(err)
		}
	}
}

// lookWhileFull looks for what nobody would wake a producer for. It returns ErrFull to go on waiting.
func (p *Producer) lookWhileFull() error {
	c := p.c
	if c.removed() {
		return ErrSegmentLost
	}
	if p.repair() {
		if err := p.attempt(); err != ErrFull {
			return err
		}
	}
	if p.waitForConsumers {
		return ErrFull
	}
	ever, live := c.alive(ConsumerRole, &p.peer)
	if !ever || live {
		return ErrFull
	}
	c.recoverAll()
	if err := p.attempt(); err != ErrFull {
		return err
	}
	if _, live = c.alive(ConsumerRole, &p.peer); live {
		return ErrFull
	}
	return ErrNoConsumers
}

// unblock is what a Try call does that found the ring full: at most every 20 ms it looks for the dead in its way. It says whether something was repaired.
func (p *Producer) unblock() bool {
	if p.c.kind == SPSC {
		return false // space of a dead SPSC consumer is given back by its successor
	}
	now := time.Now()
	if now.Sub(p.looked) < lookEvery {
		return false
	}
	p.looked = now
	return p.repair()
}

// repair recovers a dead participant that blocks the way, and dead consumers that hold a lease.
func (h *handle) repair() (repaired bool) {
	c := h.c
	if c.kind == SPSC {
		return false
	}
	if h.blocked.owned() {
		repaired = c.recoverIfDead(int(owner(h.blocked.word)))
	}
	for id := range c.participants {
		// order: V0 acq, pairs L1
		if c.participant(id).held.Load() != 0 && c.session(id, ConsumerRole).open() && c.recoverIfDead(id) {
			repaired = true
		}
	}
	return repaired
}

// await makes a call that found nothing succeed, or says why it cannot. The section has begun.
func (q *Consumer) await(ctx context.Context, r receiving) (n int, err error) {
	now := time.Time{}
	if ctx == noWait {
		q.dry, q.words = true, 0
		if now = time.Now(); !q.due(now) {
			return 0, q.polled
		}
	}
	q.pending = r
	if ctx != noWait {
		n, err = q.awaitMessage(ctx)
	} else {
		n, err = q.poll(now)
	}
	q.pending = receiving{}
	if err == errEOF && q.waiter.Closed() {
		return n, ErrClosed // the last producer may have been closed together with this handle
	}
	return n, err
}

func (q *Consumer) awaitMessage(ctx context.Context) (int, error) {
	s := q.spinning()
	for s.more() {
		if n, err := q.attempt(); err != ErrEmpty {
			q.spun(&s, true)
			return n, err
		}
	}
	q.spun(&s, false)
	defer q.abandon()
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	parked := time.Now()
	q.waiter.Begin(ctx)
	defer q.waiter.End()
	q.stalled, q.held = stallWatch{}, 0
	e := &q.c.ctl.notEmpty
	for key, again := uint32(0), false; ; again = true {
		if !again || !e.stillArrived(key) {
			key = e.arrive()
		}
		nap := q.nap(ProducerRole)
		n, err := q.attempt()
		if err == ErrEmpty {
			q.stalled.look(q.blocked)
			n, nap, err = q.lookWhileEmpty(nap)
		}
		if err != ErrEmpty {
			q.slept(time.Since(parked))
			q.baton()
			return n, err
		}
		sleeps, err := q.waiter.Wait(e.epoch(), key, nap)
		bump(&q.me.sleeps, uint64(sleeps))
		if err != nil && err != futex.ErrTimeout {
			if n, last := q.attempt(); last != ErrEmpty {
				q.baton()
				return n, last
			}
			return 0, q.interrupted(err)
		}
	}
}

// baton wakes one more sleeper when more is ready: a message that completes a stretch wakes one consumer, and those behind it woke theirs too
// early. It walks on over what is passed: the next message may lie behind padding or a discarded slot.
func (q *Consumer) baton() {
	if e := &q.c.ctl.notEmpty; q.c.kind == MPMC && e.pending() {
		if _, err := q.mpmcFind(); err == nil {
			q.wake(e, 1)
		}
	}
}

// lookWhileEmpty looks for what nobody would wake a consumer for. It returns ErrEmpty to go on waiting, and how long to sleep at most.
func (q *Consumer) lookWhileEmpty(nap time.Duration) (int, time.Duration, error) {
	c := q.c
	if c.removed() {
		return 0, nap, ErrSegmentLost
	}
	roster := c.ctl.roster.Load() // order: E1 acq, pairs R5 X3 V6
	if q.repair() {
		if n, err := q.attempt(); err != ErrEmpty {
			return n, nap, err
		}
	}
	ever, live := c.alive(ProducerRole, &q.peer)
	if !ever || live || q.follow {
		return 0, nap, ErrEmpty
	}
	if c.recoverAll() {
		roster = c.ctl.roster.Load() // order: E1 acq, pairs R5 X3 V6
	}
	if _, live = c.alive(ProducerRole, &q.peer); live {
		return 0, nap, ErrEmpty
	}
	if n, err := q.attempt(); err != ErrEmpty {
		return n, nap, err
	}
	if c.kind == MPMC && c.unreleased() {
		return 0, q.heldNap(nap), ErrEmpty
	}
	if c.ctl.roster.Load() != roster { // order: E1 acq, pairs R5 X3 V6
		return 0, q.heldNap(nap), ErrEmpty
	}
	if left := q.graceLeft(roster); left > 0 {
		return 0, min(nap, left), ErrEmpty
	}
	return 0, nap, errEOF
}

// heldNap bounds a sleep at the end of a stream that somebody else still holds a message of.
func (q *Consumer) heldNap(nap time.Duration) time.Duration {
	q.held = min(max(heldTick, 2*q.held), tick)
	return min(nap, q.held)
}

// graceLeft returns how long to wait for a successor of a last producer that died. The time begins anew whenever the roster has changed.
func (q *Consumer) graceLeft(roster uint32) time.Duration {
	if q.grace <= 0 || !q.c.lastProducerDied() {
		return 0
	}
	if q.drained.IsZero() || q.drainedAt != roster {
		q.drained, q.drainedAt = time.Now(), roster
	}
	return q.grace - time.Since(q.drained)
}

// due says whether a Try call that found nothing has to poll: when the roster changed, and at most every 20 ms.
func (q *Consumer) due(now time.Time) bool {
	return q.c.ctl.roster.Load() != q.roster || now.Sub(q.looked) >= lookEvery // order: E1 acq, pairs R5 X3 V6
}

// poll looks for the dead and for the end of the stream, for a Try call.
func (q *Consumer) poll(now time.Time) (n int, err error) {
	q.roster, q.looked = q.c.ctl.roster.Load(), now // order: E1 acq, pairs R5 X3 V6
	n, _, err = q.lookWhileEmpty(tick)
	if q.polled = ErrEmpty; err == errEOF {
		q.polled = err // a state: it lasts as long as the roster is this
	}
	return n, err
}

// stallWatch remembers since when one word has stood in the way.
type stallWatch struct {
	blockage
	since time.Time
}

func (s *stallWatch) look(b blockage) {
	if b != s.blockage || s.since.IsZero() {
		*s = stallWatch{b, time.Now()}
	}
}

// interrupted says why a wait ended without success.
func (h *handle) interrupted(err error) error {
	if errors.Is(err, futex.ErrClosed) {
		return ErrClosed
	}
	h.stalled.look(h.blocked)
	if h.c.kind == MPMC && h.blocked.owned() && time.Since(h.stalled.since) >= stallAfter {
		id := int(owner(h.blocked.word))
		role := ConsumerRole
		if stateOf(h.blocked.word) == stateClaimed {
			role = ProducerRole
		}
		pid := 0
		if id < h.c.participants {
			pid = int(h.c.participant(id).pid.Load()) // order: E3 rlx, for people
		}
		return &PeerError{Role: role, PID: pid, Position: h.blocked.at, Err: err}
	}
	return err
}
