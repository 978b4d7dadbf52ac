package ring

import (
	"unsafe"

	"github.com/cd1900cf/millrace/internal/atomicx"
	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/internal/testpoint"
)

// Runs: a batch of equally long messages of one slot each in an SPSC ring, published by one state word; docs/FORMAT.md sections 10.1 and 10.2. The payload
// lies in the data cells, one message behind the other, so that it is copied as fast as memory is; who copies what is left of a run receives it in one step.

// spscRunOf publishes msgs as one run when they are equally long, of one slot each, and there is room; otherwise nothing. What it has copied by then is
// in slots that nobody reads. It is spscRun with one look at each message.
func (p *Producer) spscRunOf(msgs [][]byte) bool {
	c, t, n := p.c, p.pos, uint64(len(msgs))
	if !p.runFits(n) {
		return false
	}
	size := uint64(len(msgs[0]))
	first := min(n, c.slots-t&c.mask)
	if size > c.slotSize || !c.fill(c.cell(t), msgs[:first], size) || !c.fill(c.data, msgs[first:], size) {
		return false
	}
	testpoint.Hit("S3 payload")
	p.publishRun(t, n, size)
	return true
}

// spscRunOfValues publishes n values of the size of a slot as one run, if there is room.
func (p *Producer) spscRunOfValues(base unsafe.Pointer, size, n uint64) bool {
	c, t := p.c, p.pos
	if size != c.slotSize || !p.runFits(n) {
		return false
	}
	c.putValues(t, base, n)
	testpoint.Hit("S3 payload")
	p.publishRun(t, n, size)
	return true
}

// putValues copies n values of the size of a slot into the cells from t on.
func (c *core) putValues(t uint64, base unsafe.Pointer, n uint64) {
	values := view(base, n*c.slotSize)
	first, second := c.cells(t, int(n))
	if copy(first, values); len(second) > 0 {
		copy(second, values[len(first):])
	}
}

// runFits says whether n messages of one slot each can be a run, and whether there is room for it that was given back in strides.
func (p *Producer) runFits(n uint64) bool {
	if n < 2 || n > p.c.maxSlots {
		return false
	}
	e := p.pos + n
	if e-p.limit <= p.c.slots {
		return true
	}
	p.coarse = true
	err := p.room(e)
	p.coarse = false
	return err == nil
}

// fill copies messages of one size into the cells from `to` on; false when one has another size.
func (c *core) fill(to unsafe.Pointer, msgs [][]byte, size uint64) bool {
	if size == wordSize { // a loop of its own: it is as short as the copy
		for _, m := range msgs {
			if len(m) != wordSize {
				return false
			}
			*(*uint64)(to) = *(*uint64)(unsafe.Pointer(unsafe.SliceData(m)))
			to = unsafe.Add(to, c.slotSize)
		}
		return true
	}
	for _, m := range msgs {
		if uint64(len(m)) != size {
			return false
		}
		from := unsafe.Pointer(unsafe.SliceData(m))
		switch {
		case size-8 <= 8:
			copy16(to, from, size)
		case size-8 <= 24:
			copy32(to, from, size)
		case size-8 <= 56:
			copy64(to, from, size)
		default:
			put(to, m)
		}
		to = unsafe.Add(to, c.slotSize)
	}
	return true
}

// wordSize is the size of the messages for which fill and drain have loops of their own.
const wordSize = 8

// spscRun publishes n equally long messages, one slot each, by one word.
func (p *Producer) spscRun(b batch, n int) {
	c := p.c
	t := p.pos
	size := b.size
	if b.base != nil && size == c.slotSize {
		c.putValues(t, b.base, uint64(n))
	} else {
		for i := range n {
			put(c.cell(t+uint64(i)), b.bytes(i))
			testpoint.Hit("S3 payload")
		}
	}
	p.publishRun(t, uint64(n), size)
}

// publishRun publishes n messages of size bytes, whose payload is in the cells from t on.
func (p *Producer) publishRun(t, n, size uint64) {
	e := p.c.entry(t)
	atomicx.StoreRelaxed(&e.length, size|layout.FlagRun) // order: S3 rlx, pairs D2: published by S4
	testpoint.Hit("S3")
	publish(&e.state, spscReadyWord(t+n, 0), p.fenced) // order: S4 rel, pairs D1 and N1
	testpoint.Hit("S4")
	p.committed(t+n, n)
}

// cells returns the data cells of n positions from t on: up to the end of the ring, and from its start.
func (c *core) cells(t uint64, n int) (first, second []byte) {
	k := min(uint64(n), c.slots-t&c.mask)
	return view(c.cell(t), k*c.slotSize), view(c.data, (uint64(n)-k)*c.slotSize)
}

// run is what is left of a run at the consumer's position: the messages [h, e), of length bytes each, in the data cells from h on.
type run struct{ h, e, length uint64 }

// spscRun finds the run at the own position; it is empty when there is none. Nothing is taken.
func (q *Consumer) spscRun() run {
	c, h := q.c, q.pos
	if int64(q.runEnd-h) > 0 {
		return run{h, q.runEnd, q.runLength}
	}
	ent := c.entry(h)
	w := ent.state.Load() // order: D1 acq, pairs S4
	e, ok := spscEnd(w, h, c.slots)
	if !ok {
		return run{}
	}
	length := ent.length.Load() ^ layout.FlagRun // order: D2 rlx, pairs S3: ordered by D1
	if length > c.slotSize || givenBack(w) != 0 {
		return run{}
	}
	atomicx.Prefetch(unsafe.Pointer(c.entry(e)), 1) // where the next one begins
	return run{h, e, length}
}

// spscRunToValues copies the values of a run into b and receives them, in one step; none when there is no run of such values.
func (q *Consumer) spscRunToValues(b typedBuffer) int {
	c := q.c
	if b.size != c.slotSize {
		return 0
	}
	r := q.spscRun()
	if r.h == r.e || r.length != b.size {
		return 0
	}
	n := min(r.e-r.h, uint64(b.count))
	first, second := c.cells(r.h, int(n))
	values := view(b.base, n*b.size)
	if copy(values, first); len(second) > 0 {
		copy(values[len(first):], second)
	}
	testpoint.Hit("D3")
	q.consumedRun(r, n)
	return int(n)
}

// consumedRun ends the receipt by copying of the first n messages of a run, which is one step as well.
func (q *Consumer) consumedRun(r run, n uint64) {
	if r.h+n != r.e && q.runEnd != r.e {
		q.enterRun(r.e, r.length) // the position will be inside the run
	}
	q.pos = r.h + n
	q.giveSpace(q.pos)
	q.last = Delivery{Position: q.pos - 1, Deliveries: 1}
	bump(&q.me.received, n)
}

// enterRun notes a run for oneself and, before the position moves into it, for a successor.
func (q *Consumer) enterRun(e, n uint64) {
	q.runEnd, q.runLength = e, n
	atomicx.StoreRelaxed(&q.c.ctl.runLength, n) // order: D2 rlx, pairs D2 of a successor: published by the next store
	atomicx.StoreRelease(&q.c.ctl.runEnd, e)    // order: D2 rel, pairs D2 of a successor
	testpoint.Hit("D2 run")
}

// drain copies messages of one size from the cells of the positions from p on, one for each of bufs. It stops before the first one that is too small, and returns how
// many it copied.
func (c *core) drain(bufs [][]byte, p, size uint64) uint64 {
	first := min(uint64(len(bufs)), c.slots-p&c.mask)
	n := c.drainCells(bufs[:first], c.cell(p), size)
	if n == first {
		n += c.drainCells(bufs[first:], c.data, size)
	}
	return n
}

// drainCells is drain for cells behind each other.
func (c *core) drainCells(bufs [][]byte, from unsafe.Pointer, size uint64) uint64 {
	if size == wordSize {
		for i, buf := range bufs {
			if cap(buf) < wordSize {
				return uint64(i)
			}
			*(*uint64)(unsafe.Pointer(unsafe.SliceData(buf))) = *(*uint64)(from)
			if len(buf) != wordSize {
				bufs[i] = buf[:wordSize]
			}
			from = unsafe.Add(from, c.slotSize)
		}
		return uint64(len(bufs))
	}
	for i, buf := range bufs {
		if uint64(cap(buf)) < size {
			return uint64(i)
		}
		to := unsafe.Pointer(unsafe.SliceData(buf))
		switch {
		case size-8 <= 8:
			copy16(to, from, size)
		case size-8 <= 24:
			copy32(to, from, size)
		case size-8 <= 56:
			copy64(to, from, size)
		default:
			copy(buf[:size], view(from, size))
		}
		if uint64(len(buf)) != size {
			bufs[i] = buf[:size]
		}
		from = unsafe.Add(from, c.slotSize)
	}
	return uint64(len(bufs))
}
