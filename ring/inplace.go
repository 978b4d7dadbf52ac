package ring

import (
	"context"
	"unsafe"

	"github.com/cd1900cf/millrace/internal/atomicx"
	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/internal/testpoint"
)

// The fast path of messages that are written and read in place: Reserve, Commit, Next and Release of one message of one slot, nobody asleep, nothing in
// the way. Each is one function for both kinds of ring, without a call but a slip now and then; everything else leaves before it has changed anything.
//
// Invariant: what is done here is what spscReserve and mpmcClaim, spscFinish and mpmcFinish, spscLease and mpmcLease, spscRelease and mpmcRelease
// would do, in the same order.

// Reserve claims room for a message of n bytes, to be filled in place.
//
// Blocks: as Send does. Returns a Reservation that must be committed or discarded; until then every other call on the handle is ErrMisuse.
// Lifetime: its Bytes alias the ring and die with Commit, Discard and Close.
// Visibility: nothing is readable before Commit. Failure: if the process dies before, the claim is skipped and counted.
func (p *Producer) Reserve(ctx context.Context, n int) (Reservation, error) {
	c := p.c
	if uint64(n) > c.slotSize || !p.gate.claim(gateOpen) {
		return p.reserveSlow(ctx, n)
	}
	if !p.gate.inside() {
		p.gate.leave(gateOpen)
		return Reservation{}, ErrClosed
	}
	t := p.pos
	e := c.entry(t)
	ok := p.resv.n == none && t+1-p.limit <= c.slots // S1
	if !p.spsc {
		if t-p.slipped > c.giveEvery {
			p.slip(ctx)
			c, t = p.c, p.pos
			e = c.entry(t)
		}
		// order: P3 acqrel, pairs C4 C5 L3 (acquire: the consumer has read the payload that is overwritten next) and C2
		ok = p.resv.n == none && e.state.CompareAndSwap(freeWord(t), claimedWord(t+1, p.id))
	}
	if !ok {
		p.gate.leave(gateOpen)
		return p.reserveSlow(ctx, n)
	}
	testpoint.Either(p.spsc, "", "P3")
	if p.spsc {
		atomicx.StoreRelaxed(&c.ctl.reservedPosition, t+1) // order: S3 rlx, pairs nothing: read by observers and by the next producer
		testpoint.Hit("S1 reserved")
	}
	at := unsafe.Add(unsafe.Pointer(e), layout.EntrySize)
	if uint64(n) > c.inline {
		at = c.cell(t)
	}
	p.resv = reservation{t, uint64(n)}
	p.hold(t + 1)
	testpoint.Hit("reserved")
	if !p.exposed {
		p.expose()
	}
	p.generation++
	r := Reservation{p, at, t, p.generation<<reservationBits | uint64(n)}
	if c.gone() {
		return Reservation{}, p.lose()
	}
	p.gate.leave(gateHeld)
	return r, nil
}

// Commit publishes the whole message. Blocks: never. Progress: wait-free. A second or stale call is ErrMisuse.
func (r Reservation) Commit() error {
	p := r.p
	if p == nil {
		return ErrMisuse
	}
	if !p.gate.claim(gateHeld) {
		return p.finish(r, int(r.n()), true)
	}
	c, t, word := p.c, r.head, r.n()
	e := c.entry(t)
	// order: P6 rlx, own word
	if !p.gate.inside() || !r.current() || word > c.slotSize || !p.spsc && e.state.Load() != claimedWord(t+1, p.id) {
		p.gate.leave(gateHeld)
		return p.finish(r, int(r.n()), true)
	}
	next := p.fresh(t)
	p.resv.n = none
	p.generation++
	if word <= c.inline {
		word |= layout.FlagInline
	}
	atomicx.StoreRelaxed(&e.length, word) // order: P4 rlx, pairs C3: published by P6; S3 rlx, pairs D2: published by S4
	testpoint.Either(p.spsc, "S3", "P4 length")
	publish(&e.state, next, p.fenced) // order: P6 rel, pairs C2 and N1; S4 rel, pairs D1 and N1
	testpoint.Either(p.spsc, "S4", "P6")
	if p.spsc {
		atomicx.StoreRelease(&c.ctl.reservedPosition, 0) // order: S5 rel, pairs S5 of the next owner: not before S4
	}
	p.pos = t + 1
	if (t+1)&c.hintMask == 0 {
		atomicx.StoreRelease(&c.ctl.producerPosition, t+1) // order: P7 rel, pairs P0; S5 rel, pairs S5
		testpoint.Either(p.spsc, "S5", "P7")
		p.reached(t + 1)
	}
	bump(&p.me.sent, 1)
	testpoint.Either(p.spsc, "", "P7 counted")
	if c.ctl.notEmpty.pending() { // order: N1 sc, pairs W1
		p.wake(&c.ctl.notEmpty, 1)
	}
	p.hold(0) // not before S4, P6
	if c.gone() {
		return p.lose()
	}
	p.gate.leave(gateOpen)
	return nil
}

// Next leases the next message: its Bytes alias the ring until Release.
//
// Blocks and ends as Receive does, and lets busy producers get ahead as it does. One lease at a time: a further Next or Receive before Release is ErrMisuse.
// Failure: if the process dies before Release, the ring's policy decides: redelivered with a higher count, or counted as lost.
func (q *Consumer) Next(ctx context.Context) (Message, error) {
	if !q.gate.claim(gateOpen) {
		return q.nextSlow(ctx)
	}
	if !q.gate.inside() {
		q.gate.leave(gateOpen)
		return Message{}, ErrClosed
	}
	c, h := q.c, q.pos
	if h-q.slipped > c.giveEvery {
		q.slip(ctx)
		c, h = q.c, q.pos
	}
	e, want := c.entry(h), q.fresh(h)
	// order: D1 acq, pairs S4; C2 acq, pairs P6; C0 acq, pairs V4
	for e.state.Load() != want || !q.spsc && c.ctl.returns.Load() != q.seen {
		q.answer = 0 // it has been looked for
		if _, _, _, found := q.watch(ctx, nil); !found {
			q.gate.leave(gateOpen)
			return q.nextSlow(ctx)
		}
		c, h = q.c, q.pos // once more, so that they need not be kept in memory for this case
		e, want = c.entry(h), q.fresh(h)
	}
	length := e.length.Load() // order: D2 rlx, pairs S3: ordered by D1; C3 rlx, pairs P4: ordered by C2
	at, n, ok := c.single(e, h, length)
	if !ok || q.one.word != none {
		q.gate.leave(gateOpen)
		return q.nextSlow(ctx)
	}
	q.hold(h + 1) // before the claim by L2
	if q.spsc {
		atomicx.StoreRelease(&c.ctl.leaseEnd, h+1) // order: L2 rel, pairs nothing concurrent: read by the next consumer
		testpoint.Hit("D lease")
	} else {
		testpoint.Hit("L1")
		// order: L2 acqrel, pairs P6 V3
		if !e.state.CompareAndSwap(want, takenWord(h+1, q.id, 0)) {
			q.hold(0)
			q.gate.leave(gateOpen)
			return q.nextSlow(ctx)
		}
		testpoint.Hit("L2")
		if (h+1)&c.hintMask == 0 {
			atomicx.StoreRelease(&c.ctl.consumerPosition, h+1) // order: C6 rel, pairs C1
			testpoint.Hit("C6")
		}
	}
	q.pos = h + 1
	q.generation++
	word := n<<lengthShift | (q.generation&generationMask)<<generationShift
	q.one = one{h, word}
	bump(&q.me.received, 1)
	testpoint.Hit("L2 counted")
	if !q.exposed {
		q.expose()
	}
	if c.gone() {
		return Message{}, q.lose()
	}
	q.gate.leave(gateHeld)
	return Message{q, at, h, word}, nil
}

// Release ends the lease. For a message of a Batch it releases that message and all before it. A second or stale call is ErrMisuse.
// Blocks: never. Progress: wait-free.
func (m Message) Release() error {
	q := m.q
	if q == nil {
		return ErrMisuse
	}
	if !q.gate.claim(gateHeld) {
		return q.end(endOf{message: m})
	}
	if !q.gate.inside() || q.one != (one{m.position, m.word}) || !q.spsc && !q.holds(m.position, m.word) {
		q.gate.leave(gateHeld)
		return q.end(endOf{message: m})
	}
	c := q.c
	q.one.word = none
	if q.spsc {
		h := q.pos                                    // padding behind the message goes with it
		publish(&c.ctl.consumerPosition, h, q.fenced) // order: D4 rel, pairs S1 and N1
		testpoint.Hit("D4")
		if h^q.given > c.giveEvery {
			q.given = h
			atomicx.StoreRelease(&c.ctl.spacePosition, h) // order: D5 rel, pairs S1
			testpoint.Hit("D5")
		}
	} else {
		publish(c.state(m.position), freeWord(m.position+c.slots), q.fenced) // order: L3 rel, pairs P1 and N1
		testpoint.Hit("L3")
	}
	q.hold(0) // not before the release
	testpoint.Hit("L4")
	if c.ctl.notFull.pending() { // order: N1 sc, pairs W1
		q.wakeAll(&c.ctl.notFull)
	}
	q.generation++
	if c.gone() {
		return q.lose()
	}
	q.gate.leave(gateOpen)
	return nil
}
