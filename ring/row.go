package ring

import (
	"unsafe"

	"github.com/cd1900cf/millrace/internal/atomicx"
	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/internal/testpoint"
)

// Rows: batches of an MPMC ring whose messages take one slot each and lie one behind the other, which is nearly all of them; docs/FORMAT.md sections 9.2 and
// 9.4. The words and their order are those of mpmcBatch and mpmcLease; what is left out is to note each message, and to ask for each how many slots it takes.

// mpmcRow is mpmcBatch for messages of one slot each.
func (p *Producer) mpmcRow(b batch, n int, head uint64) {
	c := p.c
	for i := range n {
		x := head + uint64(i)
		e := c.entry(x)
		msg := b.bytes(i)
		size := uint64(len(msg))
		at, word := unsafe.Add(unsafe.Pointer(e), layout.EntrySize), size|layout.FlagInline
		if size > c.inline {
			at, word = c.cell(x), size
		}
		if size == wordSize {
			*(*uint64)(at) = *(*uint64)(unsafe.Pointer(unsafe.SliceData(msg)))
		} else {
			put(at, msg)
		}
		testpoint.Hit("P4 payload")
		atomicx.StoreRelaxed(&e.length, word) // order: P4 rlx, pairs C3: published by P6
		if i > 0 {
			atomicx.StoreRelease(&e.state, readyWord(x+1, 0)) // order: P5 rel, pairs C2: reached only past head
			testpoint.Hit("P5")
		}
	}
	publish(c.state(head), readyWord(head+1, 0), p.fenced) // order: P6 rel, pairs C2 and N1
	testpoint.Hit("P6")
	p.advance(head, head+uint64(n), uint64(n))
	p.announce(uint64(n), false)
}

// mpmcReceiveBatch copies the next messages into bufs, under a lease that ends at once.
func (q *Consumer) mpmcReceiveBatch(bufs [][]byte) (int, error) {
	if n, err := q.mpmcReceiveRow(destination{bufs: bufs}, len(bufs)); n > 0 || err != nil {
		return n, err
	}
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

// put copies a message of size bytes to place i, which takes it.
func (d *destination) put(i int, at unsafe.Pointer, size uint64) {
	var to unsafe.Pointer
	if d.values.base != nil {
		to = unsafe.Add(d.values.base, uint64(i)*size)
	} else {
		buf := d.bufs[i]
		if to = unsafe.Pointer(unsafe.SliceData(buf)); uint64(len(buf)) != size {
			d.bufs[i] = buf[:size]
		}
	}
	if size == wordSize {
		*(*uint64)(to) = *(*uint64)(at)
		return
	}
	copy(view(to, size), view(at, size))
}

// mpmcReceiveRow receives up to most messages of one slot each, one behind the other and never given back, which need not be noted one by one.
// 0 when the next message is not of that sort, or somebody else was quicker.
func (q *Consumer) mpmcReceiveRow(to destination, most int) (int, error) {
	c, p := q.c, q.pos
	if c.ctl.returns.Load() != q.seen { // order: C0 acq, pairs V4
		return 0, nil
	}
	limit := min(most, int(c.slots))
	if cap(q.lengths) < limit {
		q.lengths = make([]uint64, limit)
	}
	lengths := q.lengths[:limit] // each is loaded and checked once: no message of the row changes before its head does
	n := uint64(0)
	for i := range lengths {
		e := c.entry(p + n)
		if e.state.Load() != readyWord(p+n+1, 0) { // order: C2 acq, pairs P6
			break
		}
		length := e.length.Load() // order: C3 rlx, pairs P4: ordered by C2
		if _, size, ok := c.single(e, p+n, length); !ok || !to.takes(i, size) {
			break
		}
		lengths[i] = length
		n++
	}
	if n == 0 {
		return 0, nil
	}
	q.hold(p + 1)
	testpoint.Hit("L1")
	// order: L2 acqrel, pairs P6 V3
	if !c.state(p).CompareAndSwap(readyWord(p+1, 0), takenWord(p+n, q.id, 0)) {
		q.hold(0)
		return 0, nil
	}
	testpoint.Hit("L2")
	q.passed(p, p+n)
	bump(&q.me.received, n)
	testpoint.Hit("L2 counted")
	for i, length := range lengths[:n] {
		x := p + uint64(i)
		at, size, _ := c.single(c.entry(x), x, length)
		to.put(i, at, size)
	}
	q.last = Delivery{Position: p + n - 1, Deliveries: 1}
	q.free(p, p+n)
	q.hold(0)
	testpoint.Hit("L4")
	if c.ctl.notFull.pending() { // order: N1 sc, pairs W1; the publish in free is the fence
		q.wakeAll(&c.ctl.notFull)
	}
	return int(n), nil
}
