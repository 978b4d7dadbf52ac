package ring

import (
	"context"
	"unsafe"

	"github.com/cd1900cf/millrace/internal/atomicx"
	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/internal/testpoint"
)

// The fast path: one message of one slot, nobody asleep, nothing in the way. Send and Receive are the steps of spsc.go and mpmc.go for this case, each kind
// of ring in a body of its own: between two cores that pass small messages the instructions themselves are what limits. Everything else
// leaves before it has changed anything in the ring, and takes sendSlow and receiveSlow.
//
// Invariant: what is done here is what spscSend and mpmcSend, spscReceive and mpmcReceive would do, in the same order; only what comes after the fact,
// counters and hints, may change places.
//
// Messages of a word or two, inline, have a way of their own through an SPSC ring, without a branch, or a value to keep, for what they do not need. It repeats the steps, and at
// six nanoseconds a message is worth a tenth of them on either side.
//
// Where a call cannot be avoided inside of a body, what is needed behind it is carried through: given to the call and returned by it, or found again from
// what is. Otherwise the compiler would have it in memory from the beginning, on every way through the function.

// Send commits a copy of msg.
//
// Blocks: until the message fits, ctx ends, the handle closes, or nobody is left to read (ErrNoConsumers). After 128 positions of an MPMC ring that is
// more than half full a call lets busy consumers get ahead, for as long as in Receive.
// Progress: wait-free when there is space (SPSC); lock-free (MPMC). A stalled consumer, or in an MPMC ring a stalled lease, can keep the ring full.
// Units: at most MaxMessage bytes, otherwise *SizeError.
// Failure: when it returned nil the message stays until a consumer has released it, whoever dies; see docs/FAILURES.md.
func (p *Producer) Send(ctx context.Context, msg []byte) error {
	c, n := p.c, uint64(len(msg))
	if n >= p.fast || !p.gate.claim(gateOpen) {
		return p.sendSlow(ctx, msg)
	}
	if !p.gate.inside() {
		p.gate.leave(gateOpen)
		return ErrClosed
	}
	t, from := p.pos, unsafe.Pointer(unsafe.SliceData(msg))
	if n-8 < p.words {
		if t-p.limit >= c.slots { // S1
			return p.sendLeft(ctx, msg)
		}
		e := c.entry(t)
		copy16(unsafe.Add(unsafe.Pointer(e), layout.EntrySize), from, n)
		testpoint.Hit("S3 payload")
		atomicx.StoreRelaxed(&e.length, n|layout.FlagInline) // order: S3 rlx, pairs D2: published by S4
		testpoint.Hit("S3")
		atomicx.StoreRelease(&e.state, spscReadyWord(t+1, 0)) // order: S4 rel, pairs D1 and N1
		testpoint.Hit("S4")
		p.pos = t + 1
		if (t+1)&p.fetchMask == 0 && t+1-p.limit < c.slots {
			atomicx.StoreRelaxed(&c.entry(t+1).length, 0) // order: S3 rlx, pairs nothing: stored again before S4
		}
		bump(&p.me.sent, 1)
		if (t+1)&c.hintMask == 0 {
			atomicx.StoreRelease(&c.ctl.producerPosition, t+1) // order: S5 rel, pairs S5
			testpoint.Hit("S5")
			if int64(t+1-p.mapped) >= 0 {
				return p.sent()
			}
		}
		if c.ctl.notEmpty.pending() || c.gone() { // order: N1 sc, pairs W1
			return p.sent()
		}
		p.gate.leave(gateOpen)
		return nil
	}
	if p.spsc {
		if t-p.limit >= c.slots { // S1
			return p.sendLeft(ctx, msg)
		}
		e := c.entry(t)
		at, word := unsafe.Add(unsafe.Pointer(e), layout.EntrySize), n|layout.FlagInline
		if n > c.inline {
			at, word = c.cell(t), n
		}
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
			p, t, word = p.put(at, msg, t, word)
			c = p.c
			e = c.entry(t)
		}
		testpoint.Hit("S3 payload")
		atomicx.StoreRelaxed(&e.length, word) // order: S3 rlx, pairs D2: published by S4
		testpoint.Hit("S3")
		atomicx.StoreRelease(&e.state, spscReadyWord(t+1, 0)) // order: S4 rel, pairs D1 and N1
		testpoint.Hit("S4")
		p.pos = t + 1
		if (t+1)&p.fetchMask == 0 && t+1-p.limit < c.slots {
			c.fetch(t+1, n)
		}
		bump(&p.me.sent, 1)
		if (t+1)&c.hintMask == 0 {
			atomicx.StoreRelease(&c.ctl.producerPosition, t+1) // order: S5 rel, pairs S5
			testpoint.Hit("S5")
			if int64(t+1-p.mapped) >= 0 {
				return p.sent()
			}
		}
		if c.ctl.notEmpty.pending() || c.gone() { // order: N1 sc, pairs W1
			return p.sent()
		}
		p.gate.leave(gateOpen)
		return nil
	}

	e := c.entry(t)
	// order: P3 acqrel, pairs C4 C5 L3 (acquire: the consumer has read the payload that is overwritten next) and C2
	if !e.state.CompareAndSwap(freeWord(t), claimedWord(t+1, p.id)) {
		return p.sendLeft(ctx, msg)
	}
	testpoint.Hit("P3")
	at, word := unsafe.Add(unsafe.Pointer(e), layout.EntrySize), n|layout.FlagInline
	if n > c.inline {
		at, word = c.cell(t), n
	}
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
		p, t, word = p.put(at, msg, t, word)
		c = p.c
		e = c.entry(t)
	}
	testpoint.Hit("P4 payload")
	atomicx.StoreRelaxed(&e.length, word) // order: P4 rlx, pairs C3: published by P6
	testpoint.Hit("P4 length")
	atomicx.StoreRelease(&e.state, readyWord(t+1, 0)) // order: P6 rel, pairs C2 and N1
	testpoint.Hit("P6")
	p.pos = t + 1
	bump(&p.me.sent, 1)
	testpoint.Hit("P7 counted")
	if (t+1)&c.hintMask == 0 {
		atomicx.StoreRelease(&c.ctl.producerPosition, t+1) // order: P7 rel, pairs P0
		testpoint.Hit("P7")
		if t+1-p.slipped > c.giveEvery {
			return p.strode(ctx)
		}
		if int64(t+1-p.mapped) >= 0 {
			return p.sent()
		}
	}
	if c.ctl.notEmpty.pending() || c.gone() { // order: N1 sc, pairs W1
		return p.sent()
	}
	p.gate.leave(gateOpen)
	return nil
}

// sendLeft is Send once more, in general, of a call that has not changed anything.
func (p *Producer) sendLeft(ctx context.Context, msg []byte) error {
	p.gate.leave(gateOpen)
	return p.sendSlow(ctx, msg)
}

// put copies a message for which there is no shorter way to at, and carries the position, which a second goroutine may move meanwhile, and word through.
//
//go:noinline
func (p *Producer) put(at unsafe.Pointer, msg []byte, t, word uint64) (*Producer, uint64, uint64) {
	put(at, msg)
	return p, t, word
}

// sent ends a Send after which somebody is to be woken, during which the segment was lost, or with which the producer came to other pages.
func (p *Producer) sent() error {
	p.wake(&p.c.ctl.notEmpty, 1)
	p.reached(p.pos)
	return p.leave(nil)
}

// strode ends a Send with which a stride is over.
func (p *Producer) strode(ctx context.Context) error {
	p.wake(&p.c.ctl.notEmpty, 1) // before it waits
	p.slip(ctx)
	p.reached(p.pos)
	return p.leave(nil)
}
