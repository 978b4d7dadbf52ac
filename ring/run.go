package ring

import (
	"unsafe"

	"github.com/cd1900cf/millrace/internal/atomicx"
	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/internal/testpoint"
)

// Runs: a batch of equally long messages of one slot each in an SPSC ring, published by one state word; docs/FORMAT.md sections 10.1 and 10.2. The payload
// lies in the data cells, one message behind the other, so that it is copied as fast as memory is; who copies what is left of a run receives it in one step.
//
// Invariant: publishRun does what committed in spsc.go would do, and receiveRun what giveSpace would, in the same order. A call of them is a good part of a batch.

// spscRunOf publishes msgs as one run when they are equally long, of one slot each, and there is room; otherwise nothing. What it has copied by then is
// in slots that nobody reads. It is spscRun with one look at each message.
func (p *Producer) spscRunOf(msgs [][]byte) bool {
	c, t, n := p.c, p.pos, uint64(len(msgs))
	if n < 2 || n > c.maxSlots || t+n-p.limit > c.slots && !p.strideCame(n) {
		return false
	}
	size := uint64(len(msgs[0]))
	first := min(n, c.slots-t&c.mask)
	if size > c.slotSize || !fill(c.cell(t), c.slotSize, msgs[:first], size) || first != n && !fill(c.data, c.slotSize, msgs[first:], size) {
		return false
	}
	testpoint.Hit("S3 payload")
	p.publishRun(t, n, size)
	return true
}

// spscRunOfValues publishes n values of the size of a slot as one run, if there is room.
func (p *Producer) spscRunOfValues(base unsafe.Pointer, size, n uint64) bool {
	c, t := p.c, p.pos
	if size != c.slotSize || n < 2 || n > c.maxSlots || t+n-p.limit > c.slots && !p.strideCame(n) {
		return false
	}
	c.putValues(t, base, n)
	testpoint.Hit("S3 payload")
	p.publishRun(t, n, size)
	return true
}

// putValues copies n values of the size of a slot into the cells from t on.
func (c *core) putValues(t uint64, base unsafe.Pointer, n uint64) {
	row := c.slots - t&c.mask // cells up to the end of the ring
	values := view(base, n*c.slotSize)
	if k := move(view(c.cell(t), row*c.slotSize), values); n > row {
		move(view(c.data, (n-row)*c.slotSize), values[k:])
	}
}

// strideCame says whether room for n slots was given back meanwhile, in strides.
func (p *Producer) strideCame(n uint64) bool {
	p.coarse = true
	err := p.room(p.pos + n)
	p.coarse = false
	return err == nil
}

// fill copies messages of one size to `to` and on, step bytes from one to the next; false when one has another size.
func fill(to unsafe.Pointer, step uint64, msgs [][]byte, size uint64) bool {
	i := 0
	if size == wordSize {
		for ; i+4 <= len(msgs); i += 4 {
			m := fourOf(msgs, i)
			if !m.areWords() {
				return false
			}
			*(*uint64)(to) = *m.word(0)
			*(*uint64)(unsafe.Add(to, step)) = *m.word(1)
			*(*uint64)(unsafe.Add(to, 2*step)) = *m.word(2)
			*(*uint64)(unsafe.Add(to, 3*step)) = *m.word(3)
			to = unsafe.Add(to, 4*step)
		}
	}
	for _, m := range msgs[i:] {
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
		case size-8 <= 504:
			copy512(to, from, size)
		default:
			put(to, m)
		}
		to = unsafe.Add(to, step)
	}
	return true
}

// copyValues copies n values of size bytes, which lie so many bytes from one to the next here and there.
func copyValues(to unsafe.Pointer, toStep uint64, from unsafe.Pointer, fromStep uint64, n int, size uint64) {
	switch {
	case toStep == size && fromStep == size:
		move(view(to, uint64(n)*size), view(from, uint64(n)*size))
	case size == wordSize:
		for i := range uint64(n) {
			*(*uint64)(unsafe.Add(to, i*toStep)) = *(*uint64)(unsafe.Add(from, i*fromStep))
		}
	default:
		for i := range uint64(n) {
			copy(view(unsafe.Add(to, i*toStep), size), view(unsafe.Add(from, i*fromStep), size))
		}
	}
}

// prefetchRun is how many bytes the next run has at most to be asked for: it is expected to be as long as this one. More than that delays this one.
const prefetchRun = 512

// four is a part of a batch. Messages of a word are copied so many at a time, without the checks of an index, which would take longer than the copies.
type four [4][]byte

// wordSize is how many bytes a word has.
const wordSize = 8

// fourOf returns the messages from i on, of which there are enough.
func fourOf(msgs [][]byte, i int) *four {
	return (*four)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(msgs)), uintptr(i)*unsafe.Sizeof(msgs[0])))
}

// areWords says whether each has the size of a word.
func (m *four) areWords() bool {
	return (len(m[0])^wordSize)|(len(m[1])^wordSize)|(len(m[2])^wordSize)|(len(m[3])^wordSize) == 0
}

// word returns message i as a word.
func (m *four) word(i int) *uint64 { return (*uint64)(unsafe.Pointer(unsafe.SliceData(m[i]))) }

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

// publishRun publishes n messages of size bytes, whose payload is in the cells from t on: S3..S6 in one function.
func (p *Producer) publishRun(t, n, size uint64) {
	c, next := p.c, t+n
	e := c.entry(t)
	atomicx.StoreRelaxed(&e.length, size|layout.FlagRun) // order: S3 rlx, pairs D2: published by S4
	testpoint.Hit("S3")
	publish(&e.state, spscReadyWord(next, 0), p.fenced) // order: S4 rel, pairs D1 and N1
	testpoint.Hit("S4")
	if p.hinted/hintEvery != next/hintEvery || c.slots <= hintSmall {
		p.hinted = next
		atomicx.StoreRelease(&c.ctl.producerPosition, next) // order: S5 rel, pairs S5
		testpoint.Hit("S5")
		p.reached(next)
	}
	p.pos = next
	bump(&p.me.sent, n)
	if c.ctl.notEmpty.pending() { // order: N1 sc, pairs W1
		p.wake(&c.ctl.notEmpty, n)
	}
}

// receiveRun copies the first messages of the run at the own position to a destination, and receives them in one step: D1..D6 in one function. It gets none
// where there is no run, or one of other values.
func (q *Consumer) receiveRun(to *destination) (uint64, error) {
	c, h, e, length := q.c, q.pos, q.runEnd, q.runLength
	if int64(e-h) <= 0 {
		ent := c.entry(h)
		w := ent.state.Load() // order: D1 acq, pairs S4
		var ok bool
		if e, ok = spscEnd(w, h, c.slots); !ok {
			return 0, nil
		}
		length = ent.length.Load() ^ layout.FlagRun // order: D2 rlx, pairs S3: ordered by D1
		if length > c.slotSize || givenBack(w) != 0 {
			return 0, nil
		}
		atomicx.Prefetch(unsafe.Pointer(c.entry(e)), 1)  // where the next one begins,
		if n := (e - h) * c.slotSize; n <= prefetchRun { // and a short one whole
			atomicx.Prefetch(c.cell(e), n)
		}
	}
	row := c.slots - h&c.mask // cells up to the end of the ring
	n := e - h
	switch v := to.values; {
	case to.bufs != nil:
		bufs := to.bufs[:min(n, uint64(len(to.bufs)))]
		if n = uint64(len(bufs)); n <= row {
			n = drain(bufs, c.cell(h), c.slotSize, length)
		} else if n = drain(bufs[:row], c.cell(h), c.slotSize, length); n == row {
			n += drain(bufs[row:], c.data, c.slotSize, length)
		}
		if n == 0 {
			return 0, errShortBuffer
		}
	case length == v.size && length == c.slotSize:
		n = min(n, uint64(v.count))
		values := view(v.base, n*length)
		if k := move(values, view(c.cell(h), row*length)); n > row {
			move(values[k:], view(c.data, (n-row)*length))
		}
	default:
		return 0, nil
	}
	testpoint.Hit("D3")
	if c.takeLines {
		c.takeRun(h, n, length)
	}
	next := h + n
	if next != e && q.runEnd != e {
		q.enterRun(e, length) // the position will be inside the run
	}
	q.pos = next
	publish(&c.ctl.consumerPosition, next, q.fenced) // order: D4 rel, pairs S1 and N1
	testpoint.Hit("D4")
	if next^q.given > c.giveEvery {
		q.given = next
		atomicx.StoreRelease(&c.ctl.spacePosition, next) // order: D5 rel, pairs S1
		testpoint.Hit("D5")
	}
	q.last = Delivery{Position: next - 1, Deliveries: 1}
	bump(&q.me.received, n)
	if c.ctl.notFull.pending() { // order: N1 sc, pairs W1
		q.wakeAll(&c.ctl.notFull)
	}
	return n, nil
}

// enterRun notes a run for oneself and, before the position moves into it, for a successor.
func (q *Consumer) enterRun(e, n uint64) {
	q.runEnd, q.runLength = e, n
	atomicx.StoreRelaxed(&q.c.ctl.runLength, n) // order: D2 rlx, pairs D2 of a successor: published by the next store
	atomicx.StoreRelease(&q.c.ctl.runEnd, e)    // order: D2 rel, pairs D2 of a successor
	testpoint.Hit("D2 run")
}

// drain copies messages of one size from `from` and on, step bytes from one to the next, one for each of bufs. It stops before the first one that is too
// small, and returns how many it copied. Behind a buffer of another length than a word it goes on singly.
func drain(bufs [][]byte, from unsafe.Pointer, step, size uint64) uint64 {
	i := 0
	if size == wordSize {
		for ; i+4 <= len(bufs); i += 4 {
			m := fourOf(bufs, i)
			if !m.areWords() {
				break
			}
			*m.word(0) = *(*uint64)(from)
			*m.word(1) = *(*uint64)(unsafe.Add(from, step))
			*m.word(2) = *(*uint64)(unsafe.Add(from, 2*step))
			*m.word(3) = *(*uint64)(unsafe.Add(from, 3*step))
			from = unsafe.Add(from, 4*step)
		}
	}
	for ; i < len(bufs); i++ {
		buf := bufs[i]
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
		case size-8 <= 504:
			copy512(to, from, size)
		default:
			move(buf[:size], view(from, size))
		}
		if uint64(len(buf)) != size {
			bufs[i] = buf[:size]
		}
		from = unsafe.Add(from, step)
	}
	return uint64(len(bufs))
}
