package ring

import (
	"unsafe"

	"github.com/cd1900cf/millrace/internal/atomicx"
	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/internal/testpoint"
)

// Rows: batches of an MPMC ring whose messages have one size, take one slot each and lie one behind the other, which is nearly all of them; docs/FORMAT.md
// sections 9.2 and 9.4. The words and their order are those of mpmcBatch and mpmcLease; what is left out is to note each message, and to ask for each where it is.

// mpmcRowOf sends b as one row when it is one and there is room at the own position; otherwise nothing.
func (p *Producer) mpmcRowOf(b batch) bool {
	c, t, n := p.c, p.pos, uint64(b.len())
	if n == 0 || n > c.maxSlots || p.fits(&b) != nil || !b.small || !b.even {
		return false
	}
	s := c.state(t)
	// order: P1 acq, pairs C4 C5 L3; P3 acqrel, pairs C4 C5 L3 and C2
	if s.Load() != freeWord(t) || c.firstUsed(t+1, t+n) != t+n || !s.CompareAndSwap(freeWord(t), claimedWord(t+n, p.id)) {
		return false
	}
	testpoint.Hit("P3")
	p.mpmcRow(b, int(n), t)
	return true
}

// mpmcRow fills and publishes the extent claimed at head for the first n messages of b, which is a row: everything behind the head first, the head last.
func (p *Producer) mpmcRow(b batch, n int, head uint64) {
	c, x, size, i := p.c, head, b.size, 0
	word := size | layout.FlagInline
	if size > c.inline {
		word = size
	}
	for i < n { // once, or twice where the ring ends
		row := min(n-i, int(c.slots-x&c.mask))
		at, step := c.rowAt(x, word)
		if b.base != nil {
			copyValues(at, step, unsafe.Add(b.base, uint64(i)*size), size, row, size)
		} else {
			fill(at, step, b.msgs[i:i+row], size)
		}
		x, i = x+uint64(row), i+row
	}
	testpoint.Hit("P4 payload")
	e, ready := c.entry(head), readyWord(head+1, 0)
	atomicx.StoreRelaxed(&e.length, word) // order: P4 rlx, pairs C3: published by P6
	for i = 1; i < n; i++ {
		e = c.after(e)
		ready += nextWord
		atomicx.StoreRelaxed(&e.length, word) // order: P4 rlx, pairs C3: published by P6
		atomicx.StoreRelease(&e.state, ready) // order: P5 rel, pairs C2: reached only past head
		testpoint.Hit("P5")
	}
	publish(c.state(head), readyWord(head+1, 0), p.fenced) // order: P6 rel, pairs C2 and N1
	testpoint.Hit("P6")
	p.advance(head, head+uint64(n), uint64(n))
	p.announce(uint64(n), false)
}

// rowAt returns where the payload of a message at position x with that length word is, and how many bytes it is from there to the next one.
func (c *core) rowAt(x, length uint64) (at unsafe.Pointer, step uint64) {
	if length&layout.FlagInline != 0 {
		return unsafe.Add(unsafe.Pointer(c.entry(x)), layout.EntrySize), c.stride
	}
	return c.cell(x), c.slotSize
}

// nextWord is what lies between the words of two positions.
const nextWord = 1 << mpmcShift

// after returns the entry behind e.
func (c *core) after(e *entry) *entry {
	if next := unsafe.Add(unsafe.Pointer(e), c.stride); next != c.entriesEnd {
		return (*entry)(next)
	}
	return (*entry)(c.entries)
}

// mpmcReceiveBatch copies the next messages into bufs, under a lease that ends at once.
func (q *Consumer) mpmcReceiveBatch(bufs [][]byte) (int, error) {
	q.into = destination{bufs: bufs}
	err := q.mpmcLease(q.leaseRoom(len(bufs)))
	q.into = destination{}
	if err != nil {
		return 0, err
	}
	l := &q.lease
	for i, it := range l.items {
		bufs[i] = append(bufs[i][:0], it.bytes()...)
	}
	last := &l.items[l.count-1]
	q.last = Delivery{Position: last.p, Deliveries: last.deliveries()}
	q.mpmcRelease(l.count - 1)
	return l.count, nil
}

// destination is where a batch is copied to: a buffer for each message, or values behind each other.
type destination struct {
	bufs   [][]byte
	values typedBuffer
}

func (d *destination) wanted() bool { return d.bufs != nil || d.values.base != nil }

// takes says whether a message of size bytes can be copied to place i.
func (d *destination) takes(i int, size uint64) bool {
	if d.values.base != nil {
		return size == d.values.size
	}
	return size <= uint64(cap(d.bufs[i]))
}

// room returns how many of the first n places take a message of size bytes, one behind the other.
func (d *destination) room(size uint64, n int) int {
	if d.bufs == nil {
		if size != d.values.size {
			return 0
		}
		return n
	}
	for i, buf := range d.bufs[:n] {
		if size > uint64(cap(buf)) {
			return i
		}
	}
	return n
}

// mpmcReceiveRow receives up to most messages of one slot and one size each, one behind the other and never given back, which need not be noted one by one.
// 0 when the next message is not of that sort, when one of another size stands behind them, or when somebody else was quicker.
func (q *Consumer) mpmcReceiveRow(to *destination, most int) (int, error) {
	c, p := q.c, q.pos
	if c.ctl.returns.Load() != q.seen { // order: C0 acq, pairs V4
		return 0, nil
	}
	n, length := c.alike(p, min(most, int(c.slots)))
	size := length & layout.LengthMask
	if n == 0 || to.room(size, n) < n {
		return 0, nil
	}
	q.hold(p + 1)
	testpoint.Hit("L1")
	end := p + uint64(n)
	// order: L2 acqrel, pairs P6 V3
	if !c.state(p).CompareAndSwap(readyWord(p+1, 0), takenWord(end, q.id, 0)) {
		q.hold(0)
		return 0, nil
	}
	testpoint.Hit("L2")
	q.passed(p, end)
	bump(&q.me.received, uint64(n))
	testpoint.Hit("L2 counted")
	for i := 0; i < n; { // once, or twice where the ring ends
		x := p + uint64(i)
		row := min(n-i, int(c.slots-x&c.mask))
		at, step := c.rowAt(x, length)
		if to.bufs == nil {
			copyValues(unsafe.Add(to.values.base, uint64(i)*size), size, at, step, row, size)
		} else {
			drain(to.bufs[i:i+row], at, step, size)
		}
		if c.takeLines {
			c.takeRow(at, step, uint64(row), size)
		}
		i += row
	}
	q.last = Delivery{Position: end - 1, Deliveries: 1}
	q.free(p, end)
	q.hold(0)
	testpoint.Hit("L4")
	if c.ctl.notFull.pending() { // order: N1 sc, pairs W1; the publish in free is the fence
		q.wakeAll(&c.ctl.notFull)
	}
	return n, nil
}

// alike returns how many messages from p on, at most `most`, are ready and have the same length word, and the word; 0 when the one behind them, also of one
// slot, has another word, or theirs is not that of a message of one slot. None of them changes before the first one does.
func (c *core) alike(p uint64, most int) (n int, length uint64) {
	e, ready := c.entry(p), readyWord(p+1, 0)
	if e.state.Load() != ready { // order: C2 acq, pairs P6
		return 0, 0
	}
	length = e.length.Load() // order: C3 rlx, pairs P4: ordered by C2
	if _, _, ok := c.single(e, p, length); !ok {
		return 0, 0
	}
	for n = 1; n < most; n++ {
		e = c.after(e)
		ready += nextWord
		if e.state.Load() != ready { // order: C2 acq, pairs P6
			break
		}
		if e.length.Load() != length { // order: C3 rlx, pairs P4: ordered by C2
			return 0, 0
		}
	}
	return n, length
}
