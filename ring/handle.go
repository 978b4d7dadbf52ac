package ring

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/cd1900cf/millrace/futex"
	"github.com/cd1900cf/millrace/internal/atomicx"
	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/internal/testpoint"
)

// Role says what a participant is.
type Role uint32

const (
	ProducerRole Role = 1
	ConsumerRole Role = 2
)

func (r Role) String() string {
	switch r {
	case ProducerRole:
		return "producer"
	case ConsumerRole:
		return "consumer"
	}
	return "nobody"
}

// handle is what producers and consumers have in common: a registration.
type handle struct {
	c    *core
	ring *Ring
	me   *participant
	id   uint32
	kind Role

	spsc      bool // the ring's kind
	fenced    bool // publish with a full fence (FORMAT 8.4)
	unguarded bool // asked for: a fault may end the process
	exposed   bool // slices into the ring were handed out

	gate    gate
	overlap atomic.Bool // two calls were seen to overlap
	blocked blockage
	broken  error

	lock     locker
	waiter   *futex.Waiter
	spin     time.Duration // how long it paid to spin
	distance int           // extra pauses before the first attempt of a spin
	apart    int           // MPMC: pauses between two looks of a spin
	alone    bool          // nobody of the other role can run beside this goroutine
	single   bool          // at most one thread of this process runs Go code at a time
	crowded  bool          // at the last sleep there were as many on the other side as there are processors
	looked   time.Time     // last look for the dead by a Try call
	roster   uint32        // roster at that look
	peer     int           // a participant of the other role that was alive at the last look
	stalled  stallWatch
}

// blockage notes what an unsuccessful attempt found in its way: the state word w at a position.
type blockage struct {
	at, word uint64
}

// owned says whether somebody's claim, lease or unfinished release stands in the way.
func (b blockage) owned() bool {
	st := stateOf(b.word)
	return st == stateClaimed || st == stateDone || isTaken(b.word)
}

// full notes that position at is in the way and returns ErrFull.
func (p *Producer) full(at uint64) error {
	p.blocked = blockage{at: at}
	if p.c.kind == MPMC {
		p.blocked.word = p.c.state(at).Load() // order: P1 acq, pairs P3 L2
	}
	return ErrFull
}

// plain says whether a release store is all that publishing needs: nothing more is asked for, or the store is a fence as well.
func (h *handle) plain() bool { return !h.fenced || atomicx.Fenced }

// hold notes the first position of an open lease or reservation (position + 1), or that there is none (0).
func (h *handle) hold(v uint64) {
	atomicx.StoreRelease(&h.me.held, v) // order: L4 rel, pairs V0: not before the release it follows; and before the claim by L2
}

// fresh is the state word of a message of one slot at p that was never given back.
func (h *handle) fresh(p uint64) uint64 {
	if h.spsc {
		return spscReadyWord(p+1, 0)
	}
	return readyWord(p+1, 0)
}

// expose keeps the address range of the mapping for ever, because slices into it are handed out.
func (h *handle) expose() {
	if !h.exposed {
		h.exposed = true
		h.ring.expose()
	}
}

// refused says why a call could not enter.
func (h *handle) refused() error {
	switch {
	case h.closed():
		return ErrClosed
	case h.gate.is() == gateBroken:
		return h.broken
	}
	if h.gate.is() == gateInside {
		h.overlap.Store(true) // order: heap
	}
	return ErrMisuse
}

func (h *handle) closed() bool {
	return h.gate.closing.Load() != 0 // order: G1 acq, heap, pairs G2
}

// leave ends a call that comes to err, and returns what it answers. After corruption, and when the segment is lost, nobody enters again.
func (h *handle) leave(err error) error {
	switch {
	case h.c.gone():
		return h.lose()
	case err != nil && errors.Is(err, ErrCorrupt):
		h.broken = err
		h.gate.leave(gateBroken)
		h.ring.log("corrupt segment", "error", err)
	case err == ErrFull && h.c.removed(): // it will stay full: nobody new can come
		h.gate.leave(gateOpen)
		return ErrSegmentLost
	default:
		h.gate.leave(gateOpen)
	}
	return err
}

// left is leave for a call that also returns how much was done.
func (h *handle) left(n int, err error) (int, error) {
	if err = h.leave(err); h.c.gone() { // nobody knows what became of them
		n = 0
	}
	return n, err
}

// lose ends a call during which, or before which, the segment was lost.
func (h *handle) lose() error {
	h.broken = ErrSegmentLost
	h.gate.leave(gateBroken)
	return ErrSegmentLost
}

// abandon ends a call that panics while it waits, as a context can make it: the panic goes on, and a Close on its way must not wait for the call.
func (h *handle) abandon() {
	if e := recover(); e != nil {
		h.broken = ErrMisuse
		h.gate.finish()
		h.gate.leave(gateBroken)
		panic(e)
	}
}

// wake wakes up to n sleepers after something was published.
func (h *handle) wake(e *event, n uint64) {
	if calls := e.notify(n); calls > 0 {
		bump(&h.me.wakes, calls)
	}
}

// wakeAll wakes every sleeper of e, if there may be one.
func (h *handle) wakeAll(e *event) { h.wake(e, 1<<32) }

// wakeEverybody makes every sleeper look again.
func (h *handle) wakeEverybody() {
	h.c.ctl.notEmpty.notifyAll()
	h.c.ctl.notFull.notifyAll()
	bump(&h.me.wakes, 2)
}

// close is Close of both roles; settle gives up what the handle still holds.
func (h *handle) close(settle func(was uint32)) error {
	if !h.ring.forget(h) {
		return nil
	}
	h.waiter.Close()
	was := h.gate.shut()
	if was == gateInside { // whoever is still inside must not reach the segment once the lock is gone and others take the session for dead
		return h.ring.cut(h.lock)
	}
	err := h.endSession(was, settle)
	return errors.Join(err, h.lock.Close()) // X5
}

// endSession is X1..X4. When the segment is lost there is no session left to end.
func (h *handle) endSession(was uint32, settle func(was uint32)) (err error) {
	settle(was) // X1
	testpoint.Hit("X1")
	if was == gateBroken { // nobody knows what it still holds: the session ends as a death does, so that others recover it
		h.wakeEverybody()
		return nil
	}
	if h.overlap.Load() && h.c.kind == MPMC { // order: heap, such calls may have claimed what no token ended
		time.Sleep(overlapGrace)
		(&repair{h.c, 8*h.c.slots + 64}).scan(h.id)
		h.c.ctl.returns.Add(1) // order: V4 rel, pairs C0
	}
	if h.kind == ProducerRole {
		h.c.recoverAll()                                     // so that who died before this close is known to have ended before it (Grace)
		h.me.ended.Store(uint64(time.Now().UnixNano()) << 1) // order: X2 rlx, pairs E2
	}
	h.c.session(int(h.id), h.kind).closed.Add(1) // order: X2 rel, pairs X5
	testpoint.Hit("X2")
	h.c.ctl.roster.Add(1) // order: X3 rel, pairs E1
	testpoint.Hit("X3")
	h.wakeEverybody() // X4
	testpoint.Hit("X4")
	h.ring.fault(&err)
	return err
}

// locks is where a ring gets the lock that a participant holds for its life.
type locks interface{ newLock() (locker, error) }

// locker is a description of its own with write locks on bytes.
type locker interface {
	Add(b int64) error
	Drop(b int64) error
	Close() error
}

// roleByte is the byte that the one producer, or consumer, of an SPSC ring locks.
func roleByte(role Role) int64 {
	if role == ProducerRole {
		return layout.LockProducer
	}
	return layout.LockConsumer
}
