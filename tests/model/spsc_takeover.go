package model

import "math/bits"

func bits8(x uint8) uint8 { return uint8(bits.OnesCount8(x)) }

func (t *spscTurn) k1() { // h = consumer_position; space_position = h
	x := t.x
	x.t = t.n.consumerPosition
	t.n.space = x.t
	x.p = x.t
	switch {
	case t.n.leaseEnd <= x.t && t.m.Mutant == JournalKept:
		*x = spscProcess{pc: d1, t: x.t}
	case t.n.leaseEnd <= x.t:
		x.pc = k2
	default:
		t.nextRun()
	}
}

func (t *spscTurn) k2() { // no lease is open: journal = 0
	t.n.journal = journal{}
	*t.x = spscProcess{pc: d1, t: t.x.t}
}

// nextRun walks x.p over [h, lease_end) to a run, which J4 rewrites; then it goes on with the messages.
func (t *spscTurn) nextRun() {
	x := t.x
	for x.p < t.n.leaseEnd {
		e, ok := t.m.valid(&t.n, x.p)
		l := t.n.lengths[t.m.slot(x.p)]
		if !ok && !t.m.inRun(&t.n, x.p) {
			t.fail("nothing where a lease was")
			break
		}
		if !ok || l.run {
			x.bytes = l.bytes
			if !ok {
				e, x.bytes = t.n.runEnd, t.n.runLength
			}
			x.e, x.q = e, e-1
			if x.pc = j4length; x.q == x.p && ok && t.m.Mutant != LengthFirst {
				x.pc = j4word // a run of one: its word is right already
			}
			if t.m.Mutant == RunForward {
				x.q = x.p
			}
			return
		}
		x.p = e
	}
	x.p, x.e, x.q, x.bytes = x.t, 0, 0, 0
	t.nextBack()
}

// j4length stores the length word of an entry in a run. The head of a run that still has its word gets the word first: with a length word that
// is not RUN, its word would speak for one message of many slots.
func (t *spscTurn) j4length() {
	x := t.x
	t.n.lengths[t.m.slot(x.q)] = lengthWord{bytes: x.bytes}
	if _, ok := t.m.valid(&t.n, x.q); ok && x.q == x.p && t.m.Mutant != LengthFirst {
		t.rewritten()
		return
	}
	x.pc = j4word
}

func (t *spscTurn) j4word() { // rel: S[x] = READY(x + 1)
	x := t.x
	_, ok := t.m.valid(&t.n, x.q)
	t.n.words[t.m.slot(x.q)] = spscWord{written: true, seq: x.q + 1}
	if ok && x.q == x.p && t.m.Mutant != LengthFirst {
		x.pc = j4length
		return
	}
	t.rewritten()
}

func (t *spscTurn) rewritten() {
	x := t.x
	done := x.q == x.p
	x.q--
	if t.m.Mutant == RunForward {
		x.q += 2
		done = x.q == x.e
	}
	if done {
		x.p, x.q = x.e, 0
		t.nextRun()
		return
	}
	x.pc = j4length
	if _, ok := t.m.valid(&t.n, x.q); ok && x.q == x.p && t.m.Mutant != LengthFirst {
		x.pc = j4word
	}
}

// nextBack walks x.p to the next message that is given back or dropped; at the end come J3, or the position behind what was dropped.
func (t *spscTurn) nextBack() {
	x := t.x
	drops := t.m.Drop && !x.returns
	for x.p < t.n.leaseEnd {
		e, ok := t.m.valid(&t.n, x.p)
		if !ok {
			t.fail("nothing where a lease was")
			break
		}
		j := t.n.journal
		if l := t.n.lengths[t.m.slot(x.p)]; !l.pad && (drops || !j.set || x.p >= j.position) {
			x.e = e
			if x.pc = j1; drops {
				x.pc = jLost
			} else if t.m.Mutant == NoJournal {
				t.afterJournal(t.n.words[t.m.slot(x.p)].r + 1)
			}
			return
		}
		x.p = e
	}
	x.p, x.e = 0, 0
	if x.pc = j3; drops {
		x.pc = jDrop
	}
}

func (t *spscTurn) j1() { // journal = x << 8 | r + 1; a count that is there already is used again
	x := t.x
	if j := t.n.journal; !j.set || j.position != x.p {
		t.n.journal = journal{true, x.p, t.n.words[t.m.slot(x.p)].r + 1}
	}
	t.afterJournal(t.n.journal.r)
}

func (t *spscTurn) afterJournal(r uint8) {
	x := t.x
	x.k = r
	x.pc = j2
	if t.m.MaxDeliveries > 0 && r >= t.m.MaxDeliveries {
		x.pc = jLost
	}
}

func (t *spscTurn) jLost() { // count it lost: only this process touches the account of a leased slot
	x := t.x
	if acc := &t.n.accounts[t.m.slot(x.p)]; acc.tag != x.p/t.m.Slots+1 || t.m.Mutant == CountUntagged {
		acc.tag = x.p/t.m.Slots + 1
		acc.lost++
	}
	if x.pc = j2; t.m.Drop && !x.returns {
		x.p = x.e
		t.nextBack()
	}
}

func (t *spscTurn) j2() { // S[x] = READY(e, r + 1)
	x := t.x
	t.n.words[t.m.slot(x.p)] = spscWord{true, x.k, x.e}
	x.p, x.k = x.e, 0
	t.nextBack()
}

func (t *spscTurn) jDrop() { // consumer_position = lease_end
	t.x.t = t.n.leaseEnd
	t.n.consumerPosition = t.x.t
	t.x.pc = j5
	if t.m.Mutant == JournalKeptByDrop {
		*t.x = spscProcess{pc: d6, t: t.x.t}
	}
}

func (t *spscTurn) j3() { // lease_end = h
	t.n.leaseEnd = t.x.t
	t.x.pc = j5
}

func (t *spscTurn) j5() { // journal = 0
	t.n.journal = journal{}
	*t.x = spscProcess{pc: d6, t: t.x.t}
}
