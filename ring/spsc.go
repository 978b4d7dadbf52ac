package ring

import (
	"unsafe"

	"github.com/cd1900cf/millrace/internal/atomicx"
	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/internal/testpoint"
)

// The SPSC ring, docs/FORMAT.md section 10.
//
// From producer to consumer: the state word beside the message, as in FastForward (Giacomoni, Moseley, Vachharajani, PPoPP 2008), so that a small
// message and the news of it travel in one cache line. From consumer to producer: a position, as in Lamport's queue, read only when the private
// copy is used up. Deviations: the word carries the position, so stale words never look new and nobody has to clear them; a batch of equal
// messages is published by one word (RUN); the exact position and the space given back are two words, so that the consumer's line
// moves to the producer once in a stride.
//
// Who owns a slot: the producer from limit + N down to its own position, the consumer from there to its own. S4 hands slots to the
// consumer, D4 hands them back. Progress: every operation is wait-free.

// strideMost is the largest stride, a power of two: space is given back where a position passes a multiple of it, or of a quarter of the ring. An MPMC ring has half of both,
// between two slips.
const strideMost = 256

// prefetchMost is how many bytes of a run are asked for when it is leased: as many lines as a core can wait for at once.
const prefetchMost = 1024

// room says whether the positions up to e are free, S1. ErrFull left a note of what stands in the way. While it spins, coarse, a producer goes
// by the space given back in strides only: the exact position is on the line that the consumer writes at every message, which fetchForAnswers may look at once for each of them.
func (p *Producer) room(e uint64) error {
	c := p.c
	for try := 0; e-p.limit > c.slots; try++ {
		var now uint64
		switch try {
		case 0:
			now = c.ctl.spacePosition.Load() // order: S1 acq, pairs D5: the consumer has read what is overwritten next
		case 1:
			if p.coarse {
				return p.full(e - c.slots)
			}
			now = c.ctl.consumerPosition.Load() // order: S1 acq, pairs D4
		default:
			return p.full(e - c.slots)
		}
		if int64(p.pos-now) < 0 || try == 1 && p.pos-now > c.slots { // ahead of the producer, or more than the ring behind
			return corrupt("consumer position", p.pos, now)
		}
		if int64(now-p.limit) > 0 {
			p.limit = now
			p.fetchForAnswers()
		}
	}
	return nil
}

// spscSend sends one message, S1..S6.
func (p *Producer) spscSend(msg []byte) error {
	c := p.c
	n := uint64(len(msg))
	if n > c.maxMessage {
		return p.tooLarge(n)
	}
	k := c.slotsFor(n)
	pad := c.pad(p.pos, k)
	if err := p.room(p.pos + pad + k); err != nil {
		return err
	}
	if pad != 0 {
		p.skipToStart(pad)
	}
	t := p.pos
	e := c.entry(t)
	at, word := c.place(t, n)
	put(at, msg)
	testpoint.Hit("S3 payload")
	atomicx.StoreRelaxed(&e.length, word) // order: S3 rlx, pairs D2: published by S4
	testpoint.Hit("S3")
	publish(&e.state, spscReadyWord(t+k, 0), p.fenced) // order: S4 rel, pairs D1 and N1
	testpoint.Hit("S4")
	p.committed(t+k, 1)
	return nil
}

// committed notes that everything below position e is published, S5, S6.
func (p *Producer) committed(e, messages uint64) {
	c := p.c
	if p.hinted/hintEvery != e/hintEvery || c.slots <= hintSmall {
		p.hinted = e
		atomicx.StoreRelease(&c.ctl.producerPosition, e) // order: S5 rel, pairs S5: who walks on from it, after a death too, finds everything below published
		testpoint.Hit("S5")
		p.reached(e)
	}
	p.pos = e
	bump(&p.me.sent, messages)
	if c.ctl.notEmpty.pending() { // order: N1 sc, pairs W1
		p.wake(&c.ctl.notEmpty, messages)
	}
}

// skipToStart publishes padding up to the end of the ring, S2. The room was checked.
func (p *Producer) skipToStart(pad uint64) {
	c := p.c
	t := p.pos
	atomicx.StoreRelaxed(&c.entry(t).length, layout.FlagPad)  // order: S3 rlx, pairs D2: published by S2
	atomicx.StoreRelease(c.state(t), spscReadyWord(t+pad, 0)) // order: S2 rel, pairs D1
	testpoint.Hit("S2")
	p.pos = t + pad
	bump(&p.me.padding, pad)
	p.hinted = p.pos                                     // here, because what follows one slot at a time does not see that padding went past a place for a hint
	atomicx.StoreRelease(&c.ctl.producerPosition, p.pos) // order: S5 rel, pairs S5
}

// spscReserve makes room for k slots that do not wrap.
func (p *Producer) spscReserve(k uint64) (head uint64, err error) {
	t := p.pos
	pad := p.c.pad(t, k)
	if err := p.room(t + pad + k); err != nil {
		return 0, err
	}
	if pad != 0 {
		p.skipToStart(pad)
		t = p.pos
	}
	atomicx.StoreRelaxed(&p.c.ctl.reservedPosition, t+1) // order: S3 rlx, pairs nothing: read by observers and by the next producer
	testpoint.Hit("S1 reserved")
	return t, nil
}

// spscFinish ends the open reservation.
func (p *Producer) spscFinish(r reservation, n uint64, commit bool) {
	c := p.c
	if !commit {
		atomicx.StoreRelease(&c.ctl.reservedPosition, 0) // order: S5 rel, pairs S5 of the next owner: not before S4
		testpoint.Hit("discarded")
		return
	}
	end := r.head + c.slotsFor(n)
	_, word := c.place(r.head, r.n)
	atomicx.StoreRelaxed(&c.entry(r.head).length, shorter(word, n)) // order: S3 rlx, pairs D2: published by S4
	testpoint.Hit("S3")
	publish(c.state(r.head), spscReadyWord(end, 0), p.fenced) // order: S4 rel, pairs D1 and N1
	testpoint.Hit("S4")
	atomicx.StoreRelease(&c.ctl.reservedPosition, 0) // order: S5 rel, pairs S5 of the next owner: not before S4
	p.committed(end, 1)
}

// spscFind finds the message at the own position, D1, D2. The fields of the item are set; nothing is taken.
func (q *Consumer) spscFind(it *item) error {
	c := q.c
	for range c.maxSteps { // what is stepped over makes room for more of it
		h := q.pos
		if int64(q.runEnd-h) > 0 {
			*it = q.item(h, h+1, 0, q.runLength)
			return nil
		}
		ent := c.entry(h)
		w := ent.state.Load() // order: D1 acq, pairs S4 S2
		e, ok := spscEnd(w, h, c.slots)
		if !ok {
			return ErrEmpty
		}
		length := ent.length.Load() // order: D2 rlx, pairs S3: ordered by D1
		r := givenBack(w)
		if length&layout.FlagPad != 0 {
			if !q.stepOver(h, e) {
				return corrupt("state word", h, w)
			}
			continue
		}
		if length&layout.FlagRun != 0 {
			n := length &^ layout.FlagRun
			if n > c.slotSize || r != 0 {
				return corrupt("length word", h, length)
			}
			if q.lease.open() {
				return ErrEmpty // a batch ends before a run
			}
			q.enterRun(e, n)
			continue
		}
		if _, _, ok := c.payload(h, e-h, length); !ok {
			return corrupt("length word", h, length)
		}
		if c.maxDeliveries > 0 && r >= c.maxDeliveries { // given back beyond the limit, and already counted as lost
			if !q.stepOver(h, e) {
				return corrupt("state word", h, w)
			}
			continue
		}
		*it = q.item(h, e, r, length)
		return nil
	}
	return corrupt("state word", q.pos, c.state(q.pos).Load()) // order: D1 acq, pairs S4
}

// stepOver passes an extent that holds no message to receive.
func (q *Consumer) stepOver(h, e uint64) bool {
	if !q.lease.open() {
		q.giveSpace(e)
	}
	q.pos = e
	return e != h
}

// giveSpace makes e the exact position, D4, and gives the space below it back in strides, D5.
func (q *Consumer) giveSpace(e uint64) {
	c := q.c
	publish(&c.ctl.consumerPosition, e, q.fenced) // order: D4 rel, pairs S1 and N1
	testpoint.Hit("D4")
	if e^q.given > c.giveEvery {
		q.given = e
		atomicx.StoreRelease(&c.ctl.spacePosition, e) // order: D5 rel, pairs S1
		testpoint.Hit("D5")
	}
	if c.ctl.notFull.pending() { // order: N1 sc, pairs W1
		q.wakeAll(&c.ctl.notFull)
	}
}

// spscReceive copies the next message into buf, D1..D6. It changes nothing when buf is too small.
func (q *Consumer) spscReceive(buf []byte) (int, error) {
	var it item
	if err := q.spscFind(&it); err != nil {
		return 0, err
	}
	if !q.accepts(it.size(), buf) {
		return int(it.size()), errShortBuffer
	}
	move(buf, it.bytes())
	testpoint.Hit("D3")
	q.consumed(it.p, it.e, it.deliveries())
	return int(it.size()), nil
}

// consumed ends the receipt by copying of the message [p, e).
func (q *Consumer) consumed(p, e uint64, count int) {
	q.pos = e
	q.giveSpace(e)
	q.last = Delivery{Position: p, Deliveries: count}
	bump(&q.me.received, 1)
	if count > 1 {
		bump(&q.me.redelivered, 1)
	}
}

// spscLease takes the next 1..limit messages: those of one run, or single ones up to the next run. A run stays noted as long as one of its
// messages is leased.
func (q *Consumer) spscLease(limit int) error {
	l := &q.lease
	l.reset()
	var it item
	if err := q.spscFind(&it); err != nil {
		return err
	}
	if !q.fits(0, it.size()) {
		return errShortBuffer
	}
	if left := q.runEnd - it.p; int64(left) > 0 {
		l.isRun, l.run, l.cell = true, it, q.c.slotSize
		l.count = int(min(left, uint64(limit), q.c.slots-it.p&q.c.mask)) // in a row: not over the end of the ring
		q.pos = it.p + uint64(l.count)
		atomicx.Prefetch(it.data, min(uint64(l.count)*l.cell, prefetchMost))
		atomicx.Prefetch(unsafe.Pointer(q.c.entry(q.pos)), 1)
	} else {
		for err := error(nil); err == nil && q.fits(l.count, it.size()); err = q.spscFind(&it) {
			l.add(it)
			if q.pos = it.e; l.count == limit {
				break
			}
		}
	}
	q.hold(l.at(0).p + 1)
	atomicx.StoreRelease(&q.c.ctl.leaseEnd, q.pos) // order: L2 rel, pairs nothing concurrent: read by the next consumer
	testpoint.Hit("D lease")
	q.countTaken()
	return nil
}

// spscRelease releases the messages up to index i.
func (q *Consumer) spscRelease(i int) {
	l := &q.lease
	e := l.at(i).e
	if l.next = i + 1; !l.open() {
		e = q.pos // padding behind the last message goes with it
	}
	q.giveSpace(e)
	q.unhold()
}

// spscReturn gives the messages that are still held up to index i back, and everything behind them that was looked at becomes unread again.
func (q *Consumer) spscReturn(byPolicy bool) {
	l := &q.lease
	from := l.at(l.next).p
	l.next = l.count
	q.pos = q.c.spscGiveBack(from, q.pos, byPolicy)
	q.given = min(q.given, q.pos)
	q.runEnd = q.pos
	q.unhold()
	q.wakeEverybody()
}
