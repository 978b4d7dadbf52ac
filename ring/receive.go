package ring

import (
	"context"
	"unsafe"

	"github.com/cd1900cf/millrace/internal/atomicx"
	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/internal/testpoint"
)

// The fast path of a consumer; see send.go.
//
// A message of a word or two, inline, that an SPSC ring has at once, has a way of its own, without a branch, or a value to keep, for what it does not need: a quarter of a
// Receive, which is what limits. It is closed by a limit that no message is below, q.words, after one that was waited for, after a Try call that found nothing, and to a
// consumer that asks for messages ahead; so all that is left of the question whether lines are taken is takeMask. Where it gives space back its position is a multiple of the
// stride; the general way may go past one, and gives it back there.

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
	if words := q.words; words != 0 {
		e := c.entry(h)
		if e.state.Load() == spscReadyWord(h+1, 0) { // order: D1 acq, pairs S4
			n := e.length.Load() ^ layout.FlagInline // order: D2 rlx, pairs S3: ordered by D1
			if n-8 < words && n <= uint64(len(buf)) {
				copy16(unsafe.Pointer(unsafe.SliceData(buf)), unsafe.Add(unsafe.Pointer(e), layout.EntrySize), n)
				testpoint.Hit("D3")
				if (h+1)&c.takeMask == 0 {
					takeEntry(e)
				}
				ctl := c.ctl
				q.pos = h + 1
				atomicx.StoreRelease(&ctl.consumerPosition, h+1) // order: D4 rel, pairs S1 and N1
				testpoint.Hit("D4")
				q.last = Delivery{Position: h, Deliveries: 1}
				bump(&q.me.received, 1)
				if (h+1)&c.giveEvery == 0 {
					return q.gave(ctx, n)
				}
				if ctl.notFull.pending() || c.gone() { // order: N1 sc, pairs W1
					return q.took(n)
				}
				q.gate.leave(gateOpen)
				return int(n), nil
			}
		}
	}

	e, found := c.entry(h), false
	if q.spsc {
		if q.answer != 0 || e.state.Load() != spscReadyWord(h+1, 0) { // order: D1 acq, pairs S4
			if q, ctx, buf, found = q.watch(ctx, buf); !found {
				return q.receiveLeft(ctx, buf)
			}
			c, h = q.c, q.pos
			e = c.entry(h)
		}
		takes := !(found && q.waited) && !q.dry
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
		if takes && (h+1)&c.takeMask == 0 {
			takeEntry(c.entry(h))
			if n > c.beside {
				n = q.takePayload(h, n)
			} else if c.ahead != 0 {
				q, h, n = q.askAhead(h, n)
				c = q.c
			}
		}
		if q.dry, q.words = false, q.open; q.waited {
			q.words = 0
		}
		q.pos = h + 1
		atomicx.StoreRelease(&c.ctl.consumerPosition, h+1) // order: D4 rel, pairs S1 and N1
		testpoint.Hit("D4")
		q.last = Delivery{Position: h, Deliveries: 1}
		bump(&q.me.received, 1)
		if (h+1)^q.given > c.giveEvery {
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

// receiveLeft is Receive once more, in general, of a call that has not changed anything.
func (q *Consumer) receiveLeft(ctx context.Context, buf []byte) (int, error) {
	q.gate.leave(gateOpen)
	return q.receiveSlow(ctx, buf)
}

// get copies a message of n bytes for which there is no shorter way into buf, and carries the position and n through.
//
//go:noinline
func (q *Consumer) get(buf []byte, at unsafe.Pointer, h, n uint64) (*Consumer, uint64, uint64) {
	move(buf, view(at, n))
	return q, h, n
}

// took ends a Receive of n bytes after which somebody is to be woken, or during which the segment was lost.
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
