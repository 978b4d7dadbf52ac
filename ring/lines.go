package ring

import (
	"context"
	"math"
	"unsafe"

	"github.com/cd1900cf/millrace/internal/atomicx"
	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/internal/testpoint"
)

// Lines: what either side does so that a line is where the other one, or it itself, wants it next.
//
// A line that a consumer has only read is in both cores' caches, and where writing to such a line is slow (atomicx.SharedIsSlow) that is what a message
// costs. There the consumer writes to each line that it has read, before it gives the slot back: what it finds. Then only its core has the line, and the
// producer's asks for it ahead as for any that it does not have. Not for a message that was waited for: the answer would wait for those stores. In an SPSC ring
// that is one that was waited for as the one before it was; a consumer that waits now and then is only faster than its producer, which lines that it does not
// take would make slower still.
//
// A message that nobody takes leaves its lines shared, and an answer waits for that. The producer of an SPSC ring whose messages lie behind their words, in one line
// or two, so stores into the next one when it has sent a message, while it has nothing to do, into words that it stores again with that message, if that is as long. In a stream it has
// to do: there it does not, from the first time on that it gets space and the consumer is not right behind it. A consumer that looked for the answer
// too early would take the lines away again: see watch.
//
// Invariant: in an SPSC ring D1 made the slot the consumer's and D4 gives it back, in an MPMC ring C4 or L2 and C5 or L3; in between nobody else writes to it, and
// nothing changes. The next slot is the producer's own: S1 has seen it given back.

const (
	takeMost   = 4 << 20  // bytes of the largest ring whose lines are taken: in a larger one they have left all caches
	firstCache = 32 << 10 // about what a core's first cache holds
	askMost    = 8        // how many positions ahead a consumer asks for a message, at most,
	askLeast   = 16       // in a ring of so many slots
	answering  = 8        // how many positions a consumer is behind, at most, that is taken for one whose answers are waited for
)

// lineSize is how many bytes go from core to core at once.
const lineSize = 64

// takeEntry takes the line of an entry for this core.
func takeEntry(e *entry) {
	atomicx.StoreRelaxed(&e.length, e.length.Load()) // order: D3 rlx, pairs nothing: what is there
}

// fetch stores into the lines of a message of n bytes at position p, inline, which is sent next.
func (c *core) fetch(p, n uint64) {
	e := c.entry(p)
	atomicx.StoreRelaxed(&e.length, 0) // order: S3 rlx, pairs nothing: stored again before S4
	if n > c.beside && n <= c.inline { // more in a ring where it is not done, at a position that hostile memory made up
		*(*uint64)(unsafe.Add(unsafe.Pointer(e), layout.EntrySize+n-wordSize)) = 0
	}
}

// fetchForAnswers decides, when space has come back, whether this producer stores into the next line in advance.
func (p *Producer) fetchForAnswers() {
	c := p.c
	p.fetchMask = math.MaxUint64
	if c.fetchesNext && p.pos-p.limit <= c.giveEvery+1 && // otherwise the consumer is further behind than it keeps space for itself
		p.pos-c.ctl.consumerPosition.Load() <= answering { // order: D4 rlx, pairs nothing: a hint
		p.fetchMask = c.fetchMask
	}
}

// takePayload takes the lines of the n bytes of the message at h, other than that of the entry. It carries n through, see send.go.
//
//go:noinline
func (q *Consumer) takePayload(h, n uint64) uint64 {
	c := q.c
	if c.ahead != 0 {
		c.askFor(h+c.ahead, n)
	}
	if n <= c.inline {
		atomicx.TakeLines(unsafe.Add(unsafe.Pointer(c.entry(h)), lineSize), n-c.beside)
	} else {
		atomicx.TakeLines(c.cell(h), n)
	}
	return n
}

// askAhead asks for the message that is some positions ahead of h, and expected to have n bytes, too. It carries h and n through.
//
//go:noinline
func (q *Consumer) askAhead(h, n uint64) (*Consumer, uint64, uint64) {
	q.c.askFor(h+q.c.ahead, n)
	return q, h, n
}

// askFor asks for the lines of the message of n bytes at position p.
func (c *core) askFor(p, n uint64) {
	e := unsafe.Pointer(c.entry(p))
	if n <= c.inline {
		atomicx.Prefetch(e, layout.EntrySize+n)
		return
	}
	atomicx.Prefetch(e, 1)
	atomicx.Prefetch(c.cell(p), n)
}

// aheadOf returns how far ahead a consumer asks for messages: not at all in a ring that does not fit into a core's first cache. Lines that the producer's core
// still has there are slow to come, and a core has no more than two or three messages under way by itself.
func (c *core) aheadOf() uint64 {
	if c.slots < askLeast || c.slots*c.bytes() > firstCache {
		return 0
	}
	return min(c.slots/8, askMost)
}

// bytes returns how many bytes of memory a message of one slot has.
func (c *core) bytes() uint64 {
	if c.slotSize > c.inline {
		return c.stride + c.slotSize
	}
	return c.stride
}

// receiveTaking is the rest of Receive for a message of n bytes at h of an MPMC ring, copied into buf, whose payload is in lines of its own. It goes the way of
// a message of several slots, so that nobody else has those lines when it takes them.
func (q *Consumer) receiveTaking(ctx context.Context, buf []byte, h, n uint64) (int, error) {
	c := q.c
	e := c.entry(h)
	// order: C4 acqrel, pairs P3 C2
	if !e.state.CompareAndSwap(readyWord(h+1, 0), doneWord(h+1, q.id)) {
		q.rivals = rivalry
		return q.receiveLeft(ctx, buf)
	}
	testpoint.Hit("C4")
	q.takePayload(h, n)
	atomicx.StoreRelease(&e.state, freeWord(h+c.slots)) // order: C5 rel, pairs P1 and N1
	testpoint.Hit("C5")
	q.received(h, h+1, 1)
	if h+1-q.slipped > c.giveEvery {
		return q.strode(ctx, n)
	}
	if c.ctl.notFull.pending() || c.gone() { // order: N1 sc, pairs W1
		return q.took(n)
	}
	q.gate.leave(gateOpen)
	return int(n), nil
}

// takeRow takes the lines of n messages of size bytes in a row, whose payload is at `at` and step bytes apart, other than those of the entries.
func (c *core) takeRow(at unsafe.Pointer, step uint64, n, size uint64) {
	switch {
	case size > c.inline:
		takeCells(at, step, n, size)
	case size > c.beside:
		for range n {
			atomicx.TakeLines(unsafe.Add(at, c.beside), size-c.beside)
			at = unsafe.Add(at, step)
		}
	}
}

// takeRun takes the lines of n messages of size bytes in cells from position h on, and of the entry there.
func (c *core) takeRun(h, n, size uint64) {
	takeEntry(c.entry(h))
	row := min(n, c.slots-h&c.mask)
	takeCells(c.cell(h), c.slotSize, row, size)
	if n > row {
		takeCells(c.data, c.slotSize, n-row, size)
	}
}

// takeCells takes the lines of n messages of size bytes, step bytes apart.
func takeCells(at unsafe.Pointer, step, n, size uint64) {
	if step-size < lineSize {
		atomicx.TakeLines(at, n*step)
		return
	}
	for range n {
		atomicx.TakeLines(at, size)
		at = unsafe.Add(at, step)
	}
}
