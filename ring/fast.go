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
// leaves before it has changed anything, and takes sendSlow and receiveSlow.
//
// Invariant: what is done here is what spscSend and mpmcSend, spscReceive and mpmcReceive would do, in the same order; only what comes after the fact,
// counters and hints, may change places.
//
// Where a call cannot be avoided inside of a body, what is needed behind it is carried through: given to the call and returned by it, or found again from
// what is. Otherwise the compiler would have it in memory from the beginning, on every way through the function.

// Send commits a copy of msg.
//
// Blocks: until the message fits, ctx ends, the handle closes, or nobody is left to read (ErrNoConsumers). After 128 positions of an MPMC ring that is
// nearly full a call lets busy consumers get ahead, for as long as in Receive.
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
		if c.fetchesNext && (t+1)&c.lineMask == 0 && t+1-p.limit < c.slots {
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

// Receive copies the next message into buf and releases it, as one step: before it the message is in the ring, after it it has been received.
//
// Blocks: until a message is ready, ctx ends, the stream ends (io.EOF) or the handle closes. After 128, or 256, positions in front of busy
// producers a call lets them get ahead, for some five microseconds, and six for each KiB of a slot, up to eight.
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
	e, found := c.entry(h), false
	if q.spsc {
		if e.state.Load() != spscReadyWord(h+1, 0) { // order: D1 acq, pairs S4
			if q, ctx, buf, found = q.watch(ctx, buf); !found {
				return q.receiveLeft(ctx, buf)
			}
			c, h = q.c, q.pos
			e = c.entry(h)
		}
		takes := c.takeLines && !(found && q.waited) && !q.dry
		q.waited = found
		length := e.length.Load() // order: D2 rlx, pairs S3: ordered by D1
		n, at := length^layout.FlagInline, unsafe.Add(unsafe.Pointer(e), layout.EntrySize)
		if n > c.inline {
			n, at = length, c.cell(h)
		}
		if n-q.least >= q.fast || n > uint64(len(buf)) {
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
			q, h, n = q.get(buf, at, h, n)
			c = q.c
		}
		testpoint.Hit("D3")
		if takes && h&c.lineMask == c.lineMask {
			takeEntry(c.entry(h))
			if n > c.beside {
				n = q.takePayload(h, n)
			} else if c.ahead != 0 {
				q, h, n = q.askAhead(h, n)
				c = q.c
			}
		}
		q.dry = false
		q.pos = h + 1
		atomicx.StoreRelease(&c.ctl.consumerPosition, h+1) // order: D4 rel, pairs S1 and N1
		testpoint.Hit("D4")
		q.last = Delivery{Position: h, Deliveries: 1}
		bump(&q.me.received, 1)
		if h+1-q.given > c.giveEvery {
			return q.gave(ctx, n)
		}
		if c.ctl.notFull.pending() || c.gone() { // order: N1 sc, pairs W1
			return q.took(n)
		}
		q.gate.leave(gateOpen)
		return int(n), nil
	}

	w := e.state.Load()                                 // order: C2 acq, pairs P6
	if c.ctl.returns.Load() != q.seen || raceDetector { // order: C0 acq, pairs V4
		w = 0
	}
	if w != readyWord(h+1, 0) {
		if q, ctx, buf, found = q.watch(ctx, buf); !found {
			return q.receiveLeft(ctx, buf)
		}
		c, h = q.c, q.pos
		e = c.entry(h)
	}
	length := e.length.Load() // order: C3 rlx, pairs P4: ordered by C2
	n, at := length^layout.FlagInline, unsafe.Add(unsafe.Pointer(e), layout.EntrySize)
	if n > c.inline {
		n, at = length, c.cell(h)
	}
	if n-q.least >= q.fast || n > uint64(len(buf)) {
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
		q, h, n = q.get(buf, at, h, n)
		c = q.c
		e = c.entry(h)
	}
	testpoint.Hit("C3")
	if n > c.beside && c.takeLines && !found {
		return q.receiveTaking(ctx, buf, h, n)
	}
	// order: C4 acqrel, pairs P3 (release: the payload has been read before the slot is handed back) and C2
	if !e.state.CompareAndSwap(readyWord(h+1, 0), freeWord(h+c.slots)) {
		q.rivals = rivalry
		return q.receiveLeft(ctx, buf)
	}
	testpoint.Hit("C4")
	q.pos = h + 1
	q.last = Delivery{Position: h, Deliveries: 1}
	bump(&q.me.received, 1)
	testpoint.Hit("C6 counted")
	if (h+1)&c.hintMask == 0 {
		atomicx.StoreRelease(&c.ctl.consumerPosition, h+1) // order: C6 rel, pairs C1
		testpoint.Hit("C6")
		if h+1-q.slipped > c.giveEvery {
			return q.strode(ctx, n)
		}
	}
	if c.ctl.notFull.pending() || c.gone() { // order: N1 sc, pairs W1: C4 is the fence
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

// put copies a message for which there is no shorter way to at, and carries the position, which a second goroutine may move meanwhile, and word through.
//
//go:noinline
func (p *Producer) put(at unsafe.Pointer, msg []byte, t, word uint64) (*Producer, uint64, uint64) {
	put(at, msg)
	return p, t, word
}

// get copies a message of n bytes for which there is no shorter way into buf, and carries the position and n through.
//
//go:noinline
func (q *Consumer) get(buf []byte, at unsafe.Pointer, h, n uint64) (*Consumer, uint64, uint64) {
	move(buf, view(at, n))
	return q, h, n
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

// took ends a Receive of n bytes in the same way.
func (q *Consumer) took(n uint64) (int, error) {
	q.wakeAll(&q.c.ctl.notFull)
	return q.left(int(n), nil)
}

// gave ends a Receive of n bytes with which space is given back.
func (q *Consumer) gave(ctx context.Context, n uint64) (int, error) {
	q.given = q.pos
	atomicx.StoreRelease(&q.c.ctl.spacePosition, q.pos) // order: D5 rel, pairs S1
	testpoint.Hit("D5")
	return q.strode(ctx, n)
}

// strode ends a Receive of n bytes with which a stride is over.
func (q *Consumer) strode(ctx context.Context, n uint64) (int, error) {
	q.wakeAll(&q.c.ctl.notFull)
	q.slip(ctx)
	return q.left(int(n), nil)
}
