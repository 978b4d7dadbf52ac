package ring

import (
	"context"
	"unsafe"

	"github.com/cd1900cf/millrace/internal/atomicx"
	"github.com/cd1900cf/millrace/internal/testpoint"
)

// Batches: one claim, one word to publish, for many messages; docs/FORMAT.md sections 9.2 and 10.1.

// batch is what is left to send: byte slices, or count values of size bytes in a row.
type batch struct {
	msgs  [][]byte
	base  unsafe.Pointer
	size  uint64 // of each message, when even
	count int
	even  bool // all messages have one size
	small bool // every message takes one slot
}

func (b batch) len() int {
	if b.base != nil {
		return b.count
	}
	return len(b.msgs)
}

// bytes returns message i.
func (b batch) bytes(i int) []byte {
	if b.base != nil {
		return view(unsafe.Add(b.base, uint64(i)*b.size), b.size)
	}
	return b.msgs[i]
}

func (b batch) sizeOf(i int) uint64 {
	if b.base != nil {
		return b.size
	}
	return uint64(len(b.msgs[i]))
}

// from drops the first n messages.
func (b batch) from(n int) batch {
	if n == b.len() {
		return batch{}
	}
	if b.base != nil {
		b.base = unsafe.Add(b.base, uint64(n)*b.size)
		b.count -= n
		return b
	}
	b.msgs = b.msgs[n:]
	return b
}

// SendBatch commits copies of msgs, in order, and returns how many are committed.
//
// All sizes are checked first (*SizeError, nothing sent). A batch that needs at most half of the slots is claimed whole, and waits until it
// fits; a longer one goes as several such parts. Within a part nothing comes between.
// Blocks and fails as Send does. Failure: if the process dies within a part, a prefix of it may be committed: never a hole, never a torn message.
func (p *Producer) SendBatch(ctx context.Context, msgs [][]byte) (done int, err error) {
	if !p.gate.enter(gateOpen) {
		return 0, p.refused()
	}
	if sent := p.spsc && p.spscRunOf(msgs) || !p.spsc && p.mpmcRowOf(batch{msgs: msgs}); !sent {
		done, err = p.sendParts(ctx, batch{msgs: msgs})
		return p.left(done, err)
	}
	if p.c.gone() {
		return 0, p.lose()
	}
	p.gate.leave(gateOpen)
	return len(msgs), nil
}

// TrySendBatch commits the longest prefix of msgs that fits and returns its length; with ErrFull when that is not all. Blocks: never.
func (p *Producer) TrySendBatch(msgs [][]byte) (int, error) { return p.trySendBatch(batch{msgs: msgs}) }

// sendValues sends n values of size bytes that lie in a row.
func (p *Producer) sendValues(ctx context.Context, base unsafe.Pointer, size uint64, n int) (done int, err error) {
	if !p.gate.enter(gateOpen) {
		return 0, p.refused()
	}
	if sent := p.spsc && p.spscRunOfValues(base, size, uint64(n)) || !p.spsc && p.mpmcRowOf(batch{base: base, size: size, count: n}); !sent {
		done, err = p.sendParts(ctx, batch{base: base, size: size, count: n})
		return p.left(done, err)
	}
	if p.c.gone() {
		return 0, p.lose()
	}
	p.gate.leave(gateOpen)
	return n, nil
}

// sendParts sends b in parts, and waits for the room that each of them needs.
func (p *Producer) sendParts(ctx context.Context, b batch) (done int, err error) {
	if err = p.fits(&b); err != nil {
		return 0, err
	}
	p.coarse = ctx != noWait // who may wait gets its space a stride at a time
	for b.len() > 0 {
		var n int
		if n, err = p.tryPart(b); err == ErrFull && ctx != noWait {
			var got sending
			got, err = p.await(ctx, sending{what: sendBatch, batch: b})
			n = got.done
		}
		if err != nil {
			break
		}
		done += n
		b = b.from(n)
	}
	p.coarse = false
	return done, err
}

func (p *Producer) trySendBatch(b batch) (done int, err error) {
	if !p.gate.enter(gateOpen) {
		return 0, p.refused()
	}
	if err = p.fits(&b); err != nil {
		return p.left(0, err)
	}
	for repaired := false; b.len() > 0; {
		var n int
		if n, err = p.tryPart(b); err == ErrFull {
			if n, err = p.tryPrefix(b); n == 0 && !repaired {
				if repaired = true; p.unblock() {
					continue
				}
			}
		}
		done += n
		if b = b.from(n); err != nil {
			break
		}
	}
	return p.left(done, err)
}

// fits checks every size, and notes what the sizes have in common.
func (p *Producer) fits(b *batch) error {
	if b.len() == 0 {
		return nil
	}
	if b.base == nil {
		b.size = uint64(len(b.msgs[0]))
	}
	largest := b.size
	b.even = true
	for _, m := range b.msgs {
		if n := uint64(len(m)); n != b.size {
			b.even = false
			largest = max(largest, n)
		}
	}
	if largest > p.c.maxMessage {
		return p.tooLarge(largest)
	}
	b.small = largest <= p.c.slotSize
	return nil
}

// part returns how many messages of b make up the next part: as many as need at most maxSlots slots.
func (p *Producer) part(b batch) int {
	if b.small {
		return int(min(uint64(b.len()), p.c.maxSlots))
	}
	slots, n := uint64(0), 0
	for ; n < b.len(); n++ {
		slots += p.c.slotsFor(b.sizeOf(n))
		if slots > p.c.maxSlots {
			break
		}
	}
	return n
}

// extent returns the end of the first n messages of b when they are laid out from position t on, and the padding among them.
func (p *Producer) extent(b batch, n int, t uint64) (end, pad uint64) {
	if b.small {
		return t + uint64(n), 0
	}
	end = t
	for i := range n {
		k := p.c.slotsFor(b.sizeOf(i))
		skip := p.c.pad(end, k)
		end += skip + k
		pad += skip
	}
	return end, pad
}

// tryPart commits the whole next part of b, or returns ErrFull.
func (p *Producer) tryPart(b batch) (int, error) {
	n := p.part(b)
	if p.c.kind == SPSC {
		end, _ := p.extent(b, n, p.pos)
		if err := p.room(end); err != nil {
			return 0, err
		}
		p.spscBatch(b, n)
		return n, nil
	}
	t, err := p.mpmcClaimBatch(b, n)
	if err != nil {
		return 0, err
	}
	p.mpmcBatch(b, n, t)
	return n, nil
}

// tryPrefix commits the longest prefix of the next part that fits; ErrFull when that is not the whole.
func (p *Producer) tryPrefix(b batch) (int, error) {
	if p.c.kind == SPSC {
		if err := p.room(p.pos + p.c.slots); err != nil && err != ErrFull { // learns all there is
			return 0, err
		}
		n, _, _ := p.prefix(b, p.pos, p.limit+p.c.slots)
		if n > 0 {
			p.spscBatch(b, n)
		}
		return n, p.short(b, n)
	}
	for range p.c.maxSteps {
		t, w, err := p.mpmcPeek()
		if err != nil {
			return 0, err
		}
		room := p.c.firstUsed(t+1, t+p.c.slots)
		n, end, pad := p.prefix(b, t, room)
		if n == 0 {
			if p.c.state(t).Load() != w { // order: P2 acq, pairs P3: t was claimed meanwhile
				continue
			}
			return 0, p.full(room)
		}
		// order: P3 acqrel, pairs C4 C5 L3 and C2
		if p.c.state(t).CompareAndSwap(w, claimedWord(end, p.id)) {
			testpoint.Hit("P3")
			bump(&p.me.padding, pad)
			p.mpmcBatch(b, n, t)
			return n, p.short(b, n)
		}
	}
	return 0, ErrFull
}

// short is ErrFull when n messages are less than the next part of b; the room for all of it may have come meanwhile.
func (p *Producer) short(b batch, n int) error {
	if n < p.part(b) {
		return ErrFull
	}
	return nil
}

// prefix returns how many messages of the next part of b fit into [t, room), where they end, and the padding among them.
func (p *Producer) prefix(b batch, t, room uint64) (n int, end, pad uint64) {
	end = t
	for most := p.part(b); n < most; n++ {
		k := p.c.slotsFor(b.sizeOf(n))
		skip := p.c.pad(end, k)
		if int64(room-(end+skip+k)) < 0 {
			break
		}
		end += skip + k
		pad += skip
	}
	return n, end, pad
}

// mpmcPeek moves the own candidate to the next free position, or returns ErrFull.
func (p *Producer) mpmcPeek() (t, w uint64, err error) {
	c := p.c
	for range c.maxSteps {
		t = p.pos
		w = c.state(t).Load() // order: P1 acq, pairs C4 C5 L3
		switch stand, e := stand(w, t, c.slots); stand {
		case standFree:
			return t, w, nil
		case standOld:
			return 0, 0, p.full(t)
		case standPassed:
			p.pos = later(beyond(w, t, e, c.slots), c.hint(c.ctl.producerPosition.Load(), t)) // order: P0 acq, pairs P7
		case standCorrupt:
			return 0, 0, corrupt("state word", t, w)
		default:
			p.pos = later(e, c.hint(c.ctl.producerPosition.Load(), t)) // order: P0 acq, pairs P7
		}
	}
	return 0, 0, corrupt("state word", p.pos, w)
}

// mpmcClaimBatch claims room for the first n messages of b in one step.
func (p *Producer) mpmcClaimBatch(b batch, n int) (uint64, error) {
	c := p.c
	for range c.maxSteps {
		t, w, err := p.mpmcPeek()
		if err != nil {
			return 0, err
		}
		end, pad := p.extent(b, n, t)
		if q := c.firstUsed(t+1, end); q != end {
			if c.state(t).Load() != w { // order: P2 acq, pairs P3: t was claimed meanwhile
				continue
			}
			return 0, p.full(q)
		}
		// order: P3 acqrel, pairs C4 C5 L3 and C2
		if c.state(t).CompareAndSwap(w, claimedWord(end, p.id)) {
			testpoint.Hit("P3")
			if pad != 0 {
				bump(&p.me.padding, pad)
			}
			return t, nil
		}
	}
	return 0, corrupt("state word", p.pos, c.state(p.pos).Load()) // order: P1 acq, pairs C4 C5 L3
}

// mpmcBatch fills and publishes the extent claimed at head for the first n messages of b: everything behind the head first, the head last.
func (p *Producer) mpmcBatch(b batch, n int, head uint64) {
	if b.small && b.even {
		p.mpmcRow(b, n, head)
		return
	}
	c := p.c
	var headWord uint64
	padded := false
	x := head
	for i := range n {
		msg := b.bytes(i)
		k := c.slotsFor(uint64(len(msg)))
		pad := c.pad(x, k)
		if pad != 0 {
			padded = true
			if x == head {
				headWord = freeWord(head + c.slots) // the extent begins with padding
				p.freeStretch(x+1, x+pad)
			} else {
				p.freeStretch(x, x+pad)
			}
			x += pad
		}
		at, word := c.place(x, uint64(len(msg)))
		put(at, msg)
		testpoint.Hit("P4 payload")
		e := c.entry(x)
		atomicx.StoreRelaxed(&e.length, word) // order: P4 rlx, pairs C3: published by P6
		if x == head {
			headWord = readyWord(x+k, 0)
		} else {
			atomicx.StoreRelease(&e.state, readyWord(x+k, 0)) // order: P5 rel, pairs C2: reached only past head
			testpoint.Hit("P5")
		}
		x += k
	}
	publish(c.state(head), headWord, p.fenced) // order: P6 rel, pairs C2 and N1
	testpoint.Hit("P6")
	p.advance(head, x, uint64(n))
	p.announce(uint64(n), padded)
}

// spscBatch publishes the first n messages of b. The room was checked.
func (p *Producer) spscBatch(b batch, n int) {
	c := p.c
	if n > 1 && b.even && b.small {
		p.spscRun(b, n)
		return
	}
	x := p.pos
	for i := range n {
		msg := b.bytes(i)
		k := c.slotsFor(uint64(len(msg)))
		if pad := c.pad(x, k); pad != 0 {
			p.skipToStart(pad)
			x = p.pos
		}
		at, length := c.place(x, uint64(len(msg)))
		put(at, msg)
		testpoint.Hit("S3 payload")
		e := c.entry(x)
		atomicx.StoreRelaxed(&e.length, length) // order: S3 rlx, pairs D2: published by S4
		x += k
		publish(&e.state, spscReadyWord(x, 0), p.fenced && i == n-1) // order: S4 rel, pairs D1; the last one also N1
		testpoint.Hit("S4")
		p.pos = x
	}
	p.committed(x, uint64(n))
}

// ReceiveBatch copies the next 1 to len(bufs) messages into bufs, in order, and releases them, and returns how many. Message i goes to bufs[i], which needs
// the capacity and gets the length of the message. It waits for the first message only.
//
// Blocks and ends as Receive does. Returns io.ErrShortBuffer when the first message does not fit; it stays, as does any other that does not fit.
// Failure: if the process dies in the call, a first part of the messages has been received and the rest is in the ring; of an MPMC ring it may be
// delivered again, with a higher count, or counted as lost under Drop, as it was leased.
func (q *Consumer) ReceiveBatch(ctx context.Context, bufs [][]byte) (n int, err error) {
	if !q.gate.enter(gateOpen) {
		return 0, q.refused()
	}
	if len(bufs) == 0 {
		q.gate.leave(gateOpen)
		return 0, nil
	}
	if n, err = q.receiveAlike(&destination{bufs: bufs}, len(bufs)); n == 0 && err == nil {
		if !q.begin() {
			return 0, q.refused()
		}
		if n, err = q.tryReceiveBatch(bufs); err == ErrEmpty {
			n, err = q.await(ctx, receiving{bufs: bufs})
		}
		q.gate.finish()
	}
	if err != nil || q.c.gone() {
		return q.left(n, err)
	}
	q.gate.leave(gateOpen)
	return n, nil
}

// TryReceiveBatch is ReceiveBatch, or returns ErrEmpty, or io.EOF. Blocks: never.
func (q *Consumer) TryReceiveBatch(bufs [][]byte) (int, error) { return q.ReceiveBatch(noWait, bufs) }

// receiveAlike copies messages of one size, most at most, in one step: what is left of a run (SPSC), a row (MPMC). 0 when the next ones are not of that sort.
func (q *Consumer) receiveAlike(to *destination, most int) (int, error) {
	if q.spsc {
		n, err := q.receiveRun(to)
		return int(n), err
	}
	return q.mpmcReceiveRow(to, most)
}

// tryReceiveBatch is one attempt: messages that are alike at once, otherwise one after the other (SPSC), or under a lease that ends at once (MPMC).
func (q *Consumer) tryReceiveBatch(bufs [][]byte) (int, error) {
	if n, err := q.receiveAlike(&destination{bufs: bufs}, len(bufs)); n != 0 || err != nil {
		return n, err
	}
	if !q.spsc {
		return q.mpmcReceiveBatch(bufs)
	}
	for i, buf := range bufs {
		n, err := q.spscReceive(buf[:cap(buf)])
		if err != nil {
			if i > 0 && (err == ErrEmpty || err == errShortBuffer) {
				err = nil
			}
			return i, err
		}
		bufs[i] = buf[:n]
	}
	return len(bufs), nil
}
