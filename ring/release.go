package ring

import (
	"time"
	"unsafe"
)

// The ends of leases that take more than Message.Release alone: batches, messages given back, and tokens that the handle does not know.

// endOf is what a lease, or a part of it, is ended by: a Message, or a whole Batch.
type endOf struct {
	message    Message
	generation uint64 // of a batch
	back       bool
}

// lease returns the generation of the lease that t belongs to.
func (t *endOf) lease() uint64 {
	if t.message.q == nil {
		return t.generation
	}
	return t.message.word >> generationShift
}

// index returns which message of the open lease is the last that t ends, or -1.
func (q *Consumer) index(t endOf) int {
	l := &q.lease
	switch {
	case (t.lease()^l.generation)&generationMask != 0:
		return -1
	case t.message.q != nil:
		return l.index(t.message.position)
	case uint32(t.generation) != uint32(l.generation):
		return -1
	}
	return l.count - 1
}

// holds says whether the lease of the message of one slot at p of an MPMC ring stands. What is held and what not is asked of the slot.
func (q *Consumer) holds(p, word uint64) bool {
	return q.c.state(p).Load() == takenWord(p+1, q.id, item{word: word}.given()) // order: L3 rlx, own word
}

// holdsOne says whether the lease of the fast path is open.
func (q *Consumer) holdsOne() bool {
	return q.one.word != none && (q.spsc || q.holds(q.one.p, q.one.word))
}

// leaseOne makes the lease of a message of one slot the open lease.
func (q *Consumer) leaseOne(m one, data unsafe.Pointer) {
	l := &q.lease
	l.reset()
	l.add(item{m.p, m.p + 1, data, m.word})
	l.shared, l.end = item{word: m.word}.given() == 0, m.p+1
}

// end releases, or gives back, the messages of the lease up to the one that t names.
func (q *Consumer) end(t endOf) error {
	if q == nil {
		return ErrMisuse
	}
	if q.enter(gateHeld) {
		return q.ended(q.endInside(t))
	}
	if gateChecks || q.spsc { // an overlap is always turned away, or cannot leave anything behind
		return q.refused()
	}
	for i, since := 0, time.Now(); ; i++ {
		late := time.Since(since) > overlapPatience
		if done, err := q.endOverlapped(t, late); done {
			return err
		}
		pauseForOwner(i/64, since)
	}
}

// enter enters the gate and its section.
func (q *Consumer) enter(from uint32) bool {
	if !q.gate.enter(from) {
		return false
	}
	if !q.gate.begin() {
		q.overlap.Store(true) // order: heap
		q.gate.leave(from)
		return false
	}
	return true
}

// endInside is end inside of the section.
func (q *Consumer) endInside(t endOf) error {
	l, m := &q.lease, one{t.message.position, t.message.word}
	var other lease
	i := q.index(t)
	switch {
	case l.open() && i >= l.next:
	case t.message.q == nil || !q.holdsApart(m):
		return ErrMisuse
	default:
		if l.open() { // of an overlapping call
			other, *l = *l, lease{}
		}
		if m != q.one {
			q.overlap.Store(true) // order: heap
		}
		q.leaseOne(m, t.message.data)
		i = 0
		if m == q.one || q.spsc {
			q.one.word = none
		}
	}
	switch {
	case t.back && i != l.next: // the ones before must have been released
		return ErrMisuse
	case t.back:
		q.giveBackLease(false)
	case q.c.kind == SPSC:
		q.spscRelease(i)
	default:
		q.mpmcRelease(i)
	}
	if other.open() {
		*l = other
	}
	if !l.open() && (t.lease()^q.generation)&generationMask == 0 {
		q.generation++
	}
	return nil
}

// ended leaves the section and the gate.
func (q *Consumer) ended(err error) error {
	held := q.lease.open() || q.holdsOne()
	q.gate.finish()
	switch {
	case q.c.gone():
		return q.lose()
	case held:
		q.gate.leave(gateHeld)
	default:
		q.gate.leave(gateOpen)
	}
	return err
}

// endOverlapped is one attempt of end on a handle that looks as if nothing were held, or that somebody is inside of. For most tokens it is a stale one: ErrMisuse. But
// calls of two goroutines at the very same time, which a plain gate cannot always tell, may both lease a message, and the handle knows of one. What the
// slot says counts: a lease that stands is ended, or it would be in everybody's way for as long as this process lives.
//
// Under the ring's lock, because without the gate nothing else keeps the memory where it is.
func (q *Consumer) endOverlapped(t endOf, late bool) (done bool, err error) {
	q.ring.mu.Lock()
	defer q.ring.mu.Unlock()
	m, s := t.message, q.c.state(t.message.position)
	switch {
	case q.closed() || q.gate.is() == gateBroken || q.ring.closed.Load(): // order: heap
		return true, q.refused()
	case m.q != nil && !q.namesMe(s.Load()): // order: L3 rlx, own word
		return true, ErrMisuse
	case q.enter(gateHeld) || q.enter(gateOpen):
		return true, q.ended(q.endInside(t))
	case !late:
		return false, nil
	case m.q == nil || !q.gate.inUse(): // the call that is inside does not wait, so it may be about to end the same lease
		return true, q.refused()
	}
	q.overlap.Store(true) // order: heap
	next, r := freeWord(m.position+q.c.slots), item{word: m.word}.given()
	if t.back && !q.c.lost(r, false) {
		next = readyWord(m.position+1, nextGivenBack(r))
	}
	// order: L3 rel, pairs P1 C2 and N1
	s.CompareAndSwap(takenWord(m.position+1, q.id, r), next) // others, of several slots, stay until Close
	q.c.ctl.returns.Add(1)                                   // order: V4 rel, pairs C0
	q.wakeEverybody()
	return true, ErrMisuse
}

// leased says whether m is still to be released.
func (q *Consumer) leased(m Message) bool {
	if q.spsc {
		return q.current(m.word) && q.gate.is() == gateHeld
	}
	return q.namesMe(q.c.state(m.position).Load()) // order: L3 rlx, own word
}

// giveBackLease gives everything that is still leased back.
func (q *Consumer) giveBackLease(byPolicy bool) {
	if q.c.kind == SPSC {
		q.spscReturn(byPolicy)
	} else {
		q.mpmcReturn(q.lease.count-1, byPolicy)
	}
}

// holdsApart says whether m is leased, and not as the open lease or a part of it.
func (q *Consumer) holdsApart(m one) bool {
	if q.spsc { // it does not matter which: the position is what counts
		return q.one.word != none && (m.p == q.one.p || m.word == q.one.word)
	}
	if q.one.word != none && q.one.p == m.p && q.one != m {
		return false
	}
	return q.holds(m.p, m.word) && (!q.lease.open() || q.lease.index(m.p) < 0)
}

// namesMe says whether w is the word of a lease of this consumer.
func (q *Consumer) namesMe(w uint64) bool { return isTaken(w) && owner(w) == q.id }
