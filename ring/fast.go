package ring

import (
	"context"
	"unsafe"

	"github.com/cd1900cf/millrace/internal/atomicx"
	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/internal/testpoint"
)

// The fast path: one message of one slot, nobody asleep, nothing in the way. Send and Receive are the steps of spsc.go and mpmc.go for this case,
// for both kinds of ring, in one function without a call but that of a large copy: between two cores that pass small messages the calls themselves are
// what limits. Everything else leaves before it has changed anything, and takes sendSlow and receiveSlow.
//
// Invariant: what is done here is what spscSend and mpmcSend, spscReceive and mpmcReceive would do, in the same order.

// Send commits a copy of msg.
//
// Blocks: until the message fits, ctx ends, the handle closes, or nobody is left to read (ErrNoConsumers).
// Progress: wait-free when there is space (SPSC); lock-free (MPMC). A stalled consumer, or in an MPMC ring a stalled lease, can keep the ring full.
// Units: at most MaxMessage bytes, otherwise *SizeError.
// Failure: when it returned nil the message stays until a consumer has released it, whoever dies; see docs/FAILURES.md.
func (p *Producer) Send(ctx context.Context, msg []byte) error {
	c, n := p.c, uint64(len(msg))
	if n > c.slotSize || !p.gate.claim(gateOpen) {
		return p.sendSlow(ctx, msg)
	}
	if !p.gate.inside() {
		p.gate.leave(gateOpen)
		return ErrClosed
	}
	t := p.pos
	e := c.entry(t)
	next := spscReadyWord(t+1, 0)
	if p.spsc {
		if t-p.limit >= c.slots { // S1
			return p.sendLeft(ctx, msg)
		}
	} else {
		next = readyWord(t+1, 0)
		// order: P3 acqrel, pairs C4 C5 L3 (acquire: the consumer has read the payload that is overwritten next) and C2
		if !e.state.CompareAndSwap(freeWord(t), claimedWord(t+1, p.id)) {
			return p.sendLeft(ctx, msg)
		}
	}
	testpoint.Either(p.spsc, "", "P3")
	at, word := unsafe.Add(unsafe.Pointer(e), layout.EntrySize), n|layout.FlagInline
	if n > c.inline {
		at, word = c.cell(t), n
	}
	from := unsafe.Pointer(unsafe.SliceData(msg))
	switch {
	case n-8 <= 8:
		copy16(at, from, n)
	case n-8 <= 24:
		copy32(at, from, n)
	case n-8 <= 56:
		copy64(at, from, n)
	case n-8 <= 504:
		copy512(at, from, n)
	default:
		put(at, msg)
	}
	testpoint.Either(p.spsc, "S3 payload", "P4 payload")
	atomicx.StoreRelaxed(&e.length, word) // order: P4 rlx, pairs C3: published by P6; S3 rlx, pairs D2: published by S4
	testpoint.Either(p.spsc, "S3", "P4 length")
	publish(&e.state, next, p.fenced) // order: P6 rel, pairs C2 and N1; S4 rel, pairs D1 and N1
	testpoint.Either(p.spsc, "S4", "P6")
	p.pos = t + 1
	due := false
	if (t+1)&c.hintMask == 0 {
		atomicx.StoreRelease(&c.ctl.producerPosition, t+1) // order: P7 rel, pairs P0; S5 rel, pairs S5
		testpoint.Either(p.spsc, "S5", "P7")
		due = int64(t+1-p.mapped) >= 0
	}
	bump(&p.me.sent, 1)
	testpoint.Either(p.spsc, "", "P7 counted")
	if due || c.ctl.notEmpty.pending() || c.gone() { // order: N1 sc, pairs W1
		return p.sent()
	}
	p.gate.leave(gateOpen)
	return nil
}

// Receive copies the next message into buf and releases it, as one step: before it the message is in the ring, after it it has been received.
//
// Blocks: until a message is ready, ctx ends, the stream ends (io.EOF) or the handle closes.
// Returns io.ErrShortBuffer, and the size that is needed, when buf is too small; the message stays.
// Progress: wait-free (SPSC); lock-free (MPMC). A stalled producer delays the messages behind its claim.
func (q *Consumer) Receive(ctx context.Context, buf []byte) (int, error) {
	if !q.gate.claim(gateOpen) {
		return q.receiveSlow(ctx, buf)
	}
	c, h := q.c, q.pos
	if !q.gate.inside() {
		q.gate.leave(gateOpen)
		return 0, ErrClosed
	}
	e, want := c.entry(h), q.fresh(h)
	// order: D1 acq, pairs S4; C2 acq, pairs P6; C0 acq, pairs V4
	if e.state.Load() != want || !q.spsc && (c.ctl.returns.Load() != q.seen || raceDetector) {
		if !q.watch(ctx) {
			return q.receiveLeft(ctx, buf)
		}
		c, h = q.c, q.pos // once more, so that they need not be kept in memory for this case
		e, want = c.entry(h), q.fresh(h)
	}
	length := e.length.Load() // order: D2 rlx, pairs S3: ordered by D1; C3 rlx, pairs P4: ordered by C2
	at, n, ok := c.single(e, h, length)
	if !ok || !q.accepts(n, buf) {
		return q.receiveLeft(ctx, buf)
	}
	to := unsafe.Pointer(unsafe.SliceData(buf))
	switch {
	case n-8 <= 8:
		copy16(to, at, n)
	case n-8 <= 24:
		copy32(to, at, n)
	case n-8 <= 56:
		copy64(to, at, n)
	case n-8 <= 504:
		copy512(to, at, n)
	default:
		move(buf, view(at, n))
	}
	testpoint.Either(q.spsc, "D3", "C3")
	if q.spsc {
		q.pos = h + 1
		publish(&c.ctl.consumerPosition, h+1, q.fenced) // order: D4 rel, pairs S1 and N1
		testpoint.Either(q.spsc, "D4", "")
		if h+1-q.given > c.stride8 {
			q.given = h + 1
			atomicx.StoreRelease(&c.ctl.spacePosition, h+1) // order: D5 rel, pairs S1
			testpoint.Either(q.spsc, "D5", "")
		}
	} else {
		// order: C4 acqrel, pairs P3 (release: the payload has been read before the slot is handed back) and C2
		if !e.state.CompareAndSwap(want, freeWord(h+c.slots)) {
			q.rivals = rivalry
			q.gate.leave(gateOpen)
			return q.receiveSlow(ctx, buf)
		}
		testpoint.Either(q.spsc, "", "C4")
		q.pos = h + 1
		if (h+1)&c.hintMask == 0 {
			atomicx.StoreRelease(&c.ctl.consumerPosition, h+1) // order: C6 rel, pairs C1
			testpoint.Either(q.spsc, "", "C6")
		}
	}
	q.last = Delivery{Position: h, Deliveries: 1}
	bump(&q.me.received, 1)
	testpoint.Either(q.spsc, "", "C6 counted")
	if c.ctl.notFull.pending() || c.gone() { // order: N1 sc, pairs W1; C4 is the fence in an MPMC ring
		return q.took(n)
	}
	q.gate.leave(gateOpen)
	return int(n), nil
}

// sendLeft is Send once more, in general, of a call that has not changed anything.
func (p *Producer) sendLeft(ctx context.Context, msg []byte) error {
	p.gate.leave(gateOpen)
	return p.sendSlow(ctx, msg)
}

// receiveLeft is Receive once more, in the same way.
func (q *Consumer) receiveLeft(ctx context.Context, buf []byte) (int, error) {
	q.gate.leave(gateOpen)
	return q.receiveSlow(ctx, buf)
}

// sent ends a Send after which somebody is to be woken, during which the segment was lost, or with which the producer came to other pages.
func (p *Producer) sent() error {
	p.wake(&p.c.ctl.notEmpty, 1)
	p.reached(p.pos)
	return p.leave(nil)
}

// took ends a Receive of n bytes in the same way.
func (q *Consumer) took(n uint64) (int, error) {
	q.wakeAll(&q.c.ctl.notFull)
	return q.left(int(n), nil)
}
