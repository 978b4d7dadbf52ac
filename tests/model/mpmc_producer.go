package model

// plan returns the end of the extent of op when it starts at position t.
func (m *MPMC) plan(op *Op, t uint8) (e uint8) {
	for _, k := range op.Slots {
		t += m.padding(t, k) + k
	}
	return t
}

// padding returns the slots before a message of k slots at position t.
func (m *MPMC) padding(t, k uint8) uint8 {
	if at := m.slot(t); at+k > m.Slots {
		return m.Slots - at
	}
	return 0
}

// part is what a position of an extent becomes.
type part uint8

const (
	gap      part = iota // padding, discarded or not kept: freed
	head                 // the first slot of a message
	interior             // left alone
)

// part says what position q of the extent of op at t becomes, and for a message its number and its end.
func (m *MPMC) part(op *Op, t, q uint8) (what part, index, end uint8) {
	for i, k := range op.Slots {
		t += m.padding(t, k)
		kept := k
		if op.Keep > 0 {
			kept = op.Keep
		}
		switch {
		case op.Discard || q < t:
			return gap, 0, 0
		case q == t:
			return head, uint8(i), t + kept
		case q < t+kept:
			return interior, uint8(i), 0
		case q < t+k:
			return gap, 0, 0
		}
		t += k
	}
	return gap, 0, 0
}

// op returns the operation that is not claimed yet, or the claimed one.
func (t *turn) op(claimed bool) *Op {
	i := t.x.ops
	if claimed {
		i--
	}
	return &t.m.Producers[t.me][i]
}

func (t *turn) p0() { // acq: t = max(own t, producer_position)
	x := t.x
	if int(x.ops) == len(t.m.Producers[t.me]) {
		*x = process{role: producer, pc: finished, ops: x.ops}
		return
	}
	x.pos = max(x.pos, t.n.producerPosition)
	x.pc = p1
}

func (t *turn) p1() { // acq: w = S[t]
	x := t.x
	w, lives := t.at(x.pos)
	h := t.m.head(w, x.pos)
	x.full = t.m.full(&t.n, t.me)
	switch {
	case lives && w.kind == free:
		op := t.op(false)
		x.p, x.e, x.q = x.pos, t.m.plan(op, x.pos), x.pos+1
		x.pc = p3
		if x.q < x.e {
			x.pc = p2
		}
	case lives:
		x.pos = w.seq
	case h > int(x.pos):
		x.pos = t.jump(w, h)
		x.pc = p0
	case h+int(t.m.Slots) == int(x.pos):
		t.isFull()
	default:
		t.fail("corrupt word")
	}
}

// jump returns the next candidate after a word with head h that proves that the own one was passed (I5).
func (t *turn) jump(w word, h int) uint8 {
	c := h
	if w.kind == free {
		c -= int(t.m.Slots)
	}
	to := c - int(t.m.Slots) + 1
	if t.m.Mutant == JumpToHead {
		if to = c; w.kind == free {
			to = c + 1
		}
	}
	return uint8(max(int(t.x.pos)+1, to))
}

func (t *turn) p2() { // acq: S[q] = FREE(q)?
	x := t.x
	x.full = x.full || t.m.full(&t.n, t.me)
	if w, lives := t.at(x.q); lives && w.kind == free {
		if x.q++; x.q == x.e {
			x.pc = p3
		}
		return
	}
	x.pc = p2again
	if t.m.Mutant == NoSecondLook {
		t.isFull()
	}
}

func (t *turn) p2again() { // no: if S[t] is still FREE(t): FULL, else P1
	if w, lives := t.at(t.x.pos); lives && w.kind == free {
		t.isFull()
	} else {
		t.x.pc = p1
	}
}

func (t *turn) p3() { // acqrel: CAS S[t] FREE(t) -> CLAIMED(e, me)
	x := t.x
	if !t.cas(x.p, freeFor(x.p), word{kind: claimed, owner: t.me, seq: x.e}) {
		x.pc = p1
		return
	}
	if t.m.Mutant == "" && x.p != t.n.next {
		t.fail("I1: claimed out of order")
	}
	t.n.next = max(t.n.next, x.e)
	x.ops++
	x.id = t.n.claims + 1
	t.n.claims += uint8(len(t.op(true).Slots))
	x.q = x.e - 1
	x.armed, x.current, x.event = false, false, 0
	x.pc = p4
	if t.m.Mutant == PublishFirst {
		t.afterPayload()
	}
}

func (t *turn) p4() { // payload; length words
	op := t.op(true)
	if !op.Discard {
		t.write(op, t.x.id)
	}
	t.afterPayload()
	if t.m.Mutant == PublishFirst {
		t.x.pc = p7
	}
}

func (t *turn) write(op *Op, id uint8) {
	for q := t.x.p; q < t.x.e; q++ {
		what, index, end := t.m.part(op, t.x.p, q)
		if what == gap {
			continue
		}
		t.overwrites(q)
		t.n.cells[t.m.slot(q)] = id + index
		if what == head {
			t.n.lengths[t.m.slot(q)] = end - q
		}
	}
}

func (t *turn) afterPayload() {
	t.x.pc = p6
	if t.m.Mutant != HeadFirst {
		t.nextInterior()
	}
}

// nextInterior finds the next position, downwards, that P5 changes; when there is none it goes on at P6.
func (t *turn) nextInterior() {
	x := t.x
	op := t.op(true)
	for ; x.q > x.p; x.q-- {
		if what, _, _ := t.m.part(op, x.p, x.q); what != interior {
			x.pc = p5
			return
		}
	}
	x.pc = p6
	if t.m.Mutant == HeadFirst {
		x.pc = p7
	}
}

func (t *turn) p5() { // rel: S[h] = READY for the heads behind the first; padding and what is not kept is freed; last to first
	t.publish(t.x.q)
	t.x.q--
	t.nextInterior()
}

func (t *turn) p6() { // rel: the head of the extent: commit point
	x := t.x
	if t.n.words[t.m.slot(x.p)] != (word{kind: claimed, owner: t.me, seq: x.e}) {
		t.fail("a claim was taken from a live producer")
	}
	t.publish(x.p)
	op := t.op(true)
	if !op.Discard {
		for i := range op.Slots {
			t.n.committed |= bit(x.id + uint8(i))
		}
	}
	x.pc = p7
	switch t.m.Mutant {
	case HeadFirst:
		t.nextInterior()
	case PublishFirst:
		x.pc = p4
	}
}

// publish gives position q of the own extent its final word.
func (t *turn) publish(q uint8) {
	op := t.op(true)
	if what, _, end := t.m.part(op, t.x.p, q); what == head {
		t.store(q, readyTo(end, 0))
	} else {
		t.free(q)
	}
}

func (t *turn) p7() { // rel: own t = e; now and then producer_position = e; then P8
	x := t.x
	op := t.op(true)
	x.pos = x.e
	toConsumers, toProducers := uint8(len(op.Slots)), uint8(0)
	if t.m.plan(op, x.p) > x.p+sum(op.Slots) && t.m.Mutant != PadSilent {
		toProducers = all
	}
	if op.Discard {
		toConsumers, toProducers = all, all
		if t.m.Mutant == DiscardSilent {
			toConsumers = 0
		}
	}
	e := x.e
	t.notify(toConsumers, toProducers, p0)
	if t.m.Hints && t.n.producerPosition != e {
		after := t.n
		t.or()
		t.n = after
		t.n.producerPosition = e
	}
}

func sum(slots []uint8) (n uint8) {
	for _, k := range slots {
		n += k
	}
	return n
}

// isFull is the verdict FULL: right if the ring was full at a moment of this attempt.
func (t *turn) isFull() {
	if !t.x.full {
		t.fail("FULL while there was room")
	}
	t.x.full = false
	t.park(notFull)
}
