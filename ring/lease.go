package ring

import (
	"unsafe"

	"github.com/cd1900cf/millrace/internal/atomicx"
	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/internal/testpoint"
)

// Leases: messages that a consumer has taken and not yet released, docs/FORMAT.md sections 9.4 and 10.2.

// lease is what a consumer holds: the messages next .. count-1 of those that it was taken with. Messages are released from the front.
type lease struct {
	next, count int
	items       []item // the messages, room for one at least; unused for a run
	run         item   // SPSC: the first of count messages of one run, when isRun: they lie in a row,
	cell        uint64 // so many bytes from one to the next
	isRun       bool
	shared      bool   // MPMC: all items are in one extent, whose word is the first one's; otherwise each has its own
	end         uint64 // MPMC: end of that extent
	generation  uint64 // of its tokens
}

// item is one leased message: its positions, its payload, and what else there is to know of it packed into one word, so that a Message travels in
// four registers.
type item struct {
	p, e uint64
	data unsafe.Pointer
	word uint64 // bytes << 24 | generation of the lease << 6 | times given back before
}

const (
	itemSize        = uint64(unsafe.Sizeof(item{}))
	generationShift = 6
	generationMask  = 1<<18 - 1
	lengthShift     = 24
)

// item describes the message [p, e) of the lease that was given back r times, from its length word, which was checked.
func (q *Consumer) item(p, e, r, length uint64) item {
	it := item{p: p, e: e, word: length&layout.LengthMask<<lengthShift | (q.lease.generation&generationMask)<<generationShift | r}
	if length&layout.FlagInline != 0 {
		it.data = unsafe.Add(unsafe.Pointer(q.c.entry(p)), layout.EntrySize)
	} else {
		it.data = q.c.cell(p)
	}
	return it
}

func (it item) size() uint64    { return it.word >> lengthShift }
func (it item) given() uint64   { return it.word & layout.DeliveriesMask }
func (it item) deliveries() int { return deliveries(it.given()) }
func (it item) bytes() []byte   { return view(it.data, it.size()) }

// current says whether word belongs to the open lease, or the last one.
func (q *Consumer) current(word uint64) bool {
	return (word>>generationShift^q.generation)&generationMask == 0
}

func (l *lease) open() bool { return l.next < l.count }

// reset makes the lease empty, ready for items.
func (l *lease) reset() {
	l.items, l.next, l.count, l.isRun, l.shared = l.items[:0], 0, 0, false, false
}

// add adds a message.
func (l *lease) add(it item) {
	l.items = append(l.items, it)
	l.count++
}

// at returns message i.
func (l *lease) at(i int) item {
	if l.isRun {
		it := l.run
		it.p, it.e, it.data = it.p+uint64(i), it.e+uint64(i), unsafe.Add(it.data, uint64(i)*l.cell)
		return it
	}
	return l.items[i]
}

// index finds the leased message at position p, or returns -1.
func (l *lease) index(p uint64) int {
	if l.isRun {
		if i := p - l.run.p; i < uint64(l.count) {
			return int(i)
		}
		return -1
	}
	for i := l.next; i < l.count; i++ {
		if l.items[i].p == p {
			return i
		}
	}
	return -1
}

// mpmcLease takes the next 1..limit messages, L1, L2.
func (q *Consumer) mpmcLease(limit int) error {
	c := q.c
	for step := 0; step < c.maxSteps; step++ {
		f, err := q.mpmcFind()
		if err != nil {
			return err
		}
		length, ok := c.mpmcMessage(f)
		if !ok || !q.fits(0, length&layout.LengthMask) {
			if c.state(f.p).Load() != f.w { // order: C2 acq, pairs C4: somebody took it meanwhile
				continue
			}
			if !ok {
				return corrupt("length word", f.p, c.entry(f.p).length.Load()) // order: C3 rlx, pairs P4
			}
			return errShortBuffer
		}
		r := givenBack(f.w)
		l := &q.lease
		l.reset()
		l.add(q.item(f.p, f.e, r, length))
		end := f.e
		if r == 0 && limit > 1 {
			end = q.extend(f.p, limit)
		}
		q.hold(f.p + 1) // L1
		testpoint.Hit("L1")
		// order: L2 acqrel, pairs P6 V3
		if !c.state(f.p).CompareAndSwap(f.w, takenWord(end, q.id, r)) {
			q.hold(0)
			l.reset()
			continue
		}
		testpoint.Hit("L2")
		if l.end, l.shared = end, r == 0; r > 0 {
			q.takeReturned(limit)
		}
		q.taken()
		return nil
	}
	return corrupt("state word", q.pos, c.state(q.pos).Load()) // order: C2 acq, pairs P6
}

// fits says whether a message of size bytes may be number i of the lease: whether it can be copied to where ReceiveBatch wants it.
func (q *Consumer) fits(i int, size uint64) bool {
	if !q.into.wanted() || q.into.takes(i, size) {
		return true
	}
	q.odd = size
	return false
}

// extend adds the committed messages behind p that nobody has passed, up to limit in all, and returns the end of the last (I2).
func (q *Consumer) extend(p uint64, limit int) (end uint64) {
	c, l := q.c, &q.lease
	end = l.items[0].e
	generation := (l.generation & generationMask) << generationShift
	for x := end; l.count < limit && x-p < c.slots; {
		ent := c.entry(x)
		w := ent.state.Load()       // order: C2 acq, pairs P6
		if w == readyWord(x+1, 0) { // what follows, for most messages
			at, n, ok := c.single(ent, x, ent.length.Load()) // order: C3 rlx, pairs P4: ordered by C2
			if !ok || !q.fits(l.count, n) {
				break
			}
			l.add(item{x, x + 1, at, n<<lengthShift | generation})
			x++
			end = x
			continue
		}
		stand, e := stand(w, x, c.slots)
		if stand == standPassed { // skipped, discarded or padding
			x++
			continue
		}
		if stand != standReady || givenBack(w) != 0 || e-p > c.slots {
			break
		}
		length, ok := c.mpmcMessage(found{x, w, e})
		if !ok || !q.fits(l.count, length&layout.LengthMask) {
			break
		}
		l.add(q.item(x, e, 0, length))
		x, end = e, e
	}
	return end
}

// takeReturned takes further messages that were given back, one word each, up to limit messages in all.
func (q *Consumer) takeReturned(limit int) {
	c, l := q.c, &q.lease
	for tries := uint64(0); l.count < limit && tries < c.slots; tries++ {
		f, ok := q.rescue()
		if !ok {
			return
		}
		length, ok := c.mpmcMessage(f)
		if !ok || int64(f.p-l.items[l.count-1].p) < 0 || !q.fits(l.count, length&layout.LengthMask) {
			return // positions in a batch ascend
		}
		r := givenBack(f.w)
		// order: L2 acqrel, pairs V3
		if c.state(f.p).CompareAndSwap(f.w, takenWord(f.e, q.id, r)) {
			l.add(q.item(f.p, f.e, r, length))
		}
	}
}

// taken notes what the new lease holds, after the fact.
func (q *Consumer) taken() {
	l := &q.lease
	if first := &l.items[0]; first.p == q.pos { // after a rescue the own candidate stays
		q.passed(q.pos, l.end)
	}
	q.countTaken()
}

// countTaken counts the messages of the new lease.
func (q *Consumer) countTaken() {
	l := &q.lease
	bump(&q.me.received, uint64(l.count))
	if !l.shared && !l.isRun {
		again := uint64(0)
		for i := range l.items {
			if l.items[i].given() > 0 {
				again++
			}
		}
		if again > 0 {
			bump(&q.me.redelivered, again)
		}
	}
	testpoint.Hit("L2 counted")
}

// mpmcRelease releases the messages up to index i, L3, L4.
func (q *Consumer) mpmcRelease(i int) {
	l := &q.lease
	if !l.shared {
		for ; l.next <= i; l.next++ {
			q.free(l.items[l.next].p, l.items[l.next].e)
		}
	} else {
		p, m := q.cut(i)
		q.free(p, m)
	}
	q.unhold()
	if q.c.ctl.notFull.pending() { // order: N1 sc, pairs W1
		q.wakeAll(&q.c.ctl.notFull)
	}
}

// cut ends the part of the lease that goes up to index i, and gives the rest, if any, a word of its own. It returns the part's extent.
func (q *Consumer) cut(i int) (p, m uint64) {
	l := &q.lease
	p, m = l.items[l.next].p, l.end
	if i+1 < l.count {
		m = l.items[i+1].p
		// order: L3 rel, pairs V2: while both words stand, both name this consumer
		atomicx.StoreRelease(q.c.state(m), takenWord(l.end, q.id, 0))
		testpoint.Hit("L3 rest")
	}
	l.next = i + 1
	return p, m
}

// free ends the lease of the extent [p, e).
func (q *Consumer) free(p, e uint64) {
	c := q.c
	if e-p == 1 {
		publish(c.state(p), freeWord(p+c.slots), q.fenced) // order: L3 rel, pairs P1 and N1
		testpoint.Hit("L3")
		return
	}
	atomicx.StoreRelease(c.state(p), doneWord(e, q.id)) // order: L3 rel, pairs V2
	testpoint.Hit("L3 done")
	q.freeDone(p, e)
}

// unhold notes the first message that is still held, or none. L4
func (q *Consumer) unhold() {
	if l := &q.lease; l.open() {
		q.hold(l.at(l.next).p + 1)
	} else {
		q.hold(0)
	}
	testpoint.Hit("L4")
}

// mpmcReturn gives the messages from the first one held up to index i back: redelivered, or, with byPolicy, as the policy says for a dead consumer.
func (q *Consumer) mpmcReturn(i int, byPolicy bool) {
	c, l := q.c, &q.lease
	for l.next <= i {
		it := l.items[l.next]
		if l.shared {
			q.cut(l.next)
		} else {
			l.next++
		}
		w := c.state(it.p).Load() // order: L3 rlx, own word
		if c.lost(it.given(), byPolicy) {
			c.count(it.p, w, accountLost)
			q.free(it.p, it.e)
		} else {
			atomicx.StoreRelease(c.state(it.p), readyWord(it.e, nextGivenBack(it.given()))) // order: L3 rel, pairs C2
			testpoint.Hit("given back")
		}
	}
	c.ctl.returns.Add(1) // order: V4 rel, pairs C0
	testpoint.Hit("V4")
	q.wakeEverybody()
	q.unhold()
}
