package model

const torn = 255 // what a reader sees of a message whose slots do not belong together

// style says how this consumer works.
func (t *turn) style() Consumer { return t.m.Consumers[int(t.me)-len(t.m.Producers)] }

// restart ends an attempt and forgets what it found.
func (t *turn) restart() {
	x := t.x
	*x = process{role: consumer, pc: c0, ops: x.ops, pos: x.pos, seen: x.seen, event: x.event, armed: x.armed, current: x.current, slept: x.slept}
}

func (t *turn) c0() { // acq: if returns != seen: rescue
	t.restart()
	if t.x.slept && t.n.leaves < t.m.Leaves {
		t.leave()
		t.or()
		t.restart()
	}
	x := t.x
	x.pc = c1
	if !x.seen {
		x.gen, x.pc = true, c8
	}
}

func (t *turn) c8() { // look at one slot for READY+r with r > 0
	x := t.x
	w := t.n.words[x.q]
	if w.kind == ready && w.r > 0 {
		x.p, x.rescue = uint8(t.m.head(w, x.q)), true
		t.found(w)
		return
	}
	if x.q++; x.q == t.m.Slots {
		x.seen, x.gen, x.q = x.gen, false, 0
		x.pc = c1
	}
}

func (t *turn) c1() { // acq: p = max(own p, consumer_position)
	t.x.pos = max(t.x.pos, t.n.consumerPosition)
	t.x.pc = c2
}

func (t *turn) c2() { // acq: w = S[p]
	x := t.x
	w, lives := t.at(x.pos)
	h := t.m.head(w, x.pos)
	switch {
	case lives && w.kind == ready:
		x.p = x.pos
		t.found(w)
	case lives && (w.kind == taken || w.kind == done):
		x.pos = w.seq
	case lives && w.kind == claimed:
		t.park(notEmpty)
	case lives || h+int(t.m.Slots) == int(x.pos):
		if t.m.ready(&t.n) {
			t.fail("EMPTY while a message was ready")
		}
		x.pc = c2empty
		if t.m.Mutant == EmptyAtOnce {
			t.empty()
		}
	case h > int(x.pos):
		x.pos = t.jump(w, h)
		x.pc = c1
	default:
		t.fail("corrupt word")
	}
}

func (t *turn) c2empty() { // acq: EMPTY, if returns is unchanged since C0; otherwise C0
	if !t.x.seen {
		t.x.pc = c0
		return
	}
	t.empty()
}

// empty is the verdict EMPTY.
func (t *turn) empty() {
	if t.n.announced != 0 {
		t.fail("EMPTY while a message was given back")
	}
	t.park(notEmpty)
}

// found goes on with message p, whose word is w.
func (t *turn) found(w word) {
	x := t.x
	x.w, x.e, x.q, x.gen = w, w.seq, 0, false
	x.heads = 1
	x.pc = c3
	if c := t.style(); c.Lease {
		x.pc = l2
		if w.r == 0 && c.Batch > 1 {
			x.q, x.i, x.pc = x.e, 1, l2batch
		}
	}
}

func (t *turn) c3() { // length word, checked; copy the payload
	t.x.id = t.read(t.x.p)
	t.x.pc = c4
}

// read copies the message at p, whose extent ends at its length.
func (t *turn) read(p uint8) uint8 {
	i := t.m.slot(p)
	id := t.n.cells[i]
	for q := p + 1; q < p+t.n.lengths[i]; q++ {
		if t.n.cells[t.m.slot(q)] != id {
			return torn
		}
	}
	return id
}

func (t *turn) c4() { // acqrel: k = 1: CAS S[p] w -> FREE(p+N); k > 1: CAS S[p] w -> DONE(e, me)
	x := t.x
	to := freeFor(x.p + t.m.Slots)
	if x.e > x.p+1 {
		to = word{kind: done, owner: t.me, seq: x.e}
	}
	if t.m.Mutant == CopyUnproven {
		x.w = t.n.words[t.m.slot(x.p)]
	}
	if !t.cas(x.p, x.w, to) {
		t.lostRace()
		return
	}
	t.deliver(x.id, x.w.r, x.p)
	t.consume(x.id)
	t.took()
	x.w, x.id = word{}, 0
	x.i, x.pc = x.e-1, c5
	if x.e == x.p+1 {
		x.pc = c6
	}
	t.freeing()
}

// lostRace goes back to the candidate, or to the scan.
func (t *turn) lostRace() {
	rescue := t.x.rescue
	t.restart()
	if !rescue {
		t.x.pc = c2
	}
}

// took counts a delivery against the quota.
func (t *turn) took() {
	if t.style().Quota > 0 {
		t.x.ops++
	}
	t.x.armed, t.x.current, t.x.event = false, false, 0
}

// freeing prepares C5 over [p, e).
func (t *turn) freeing() {
	if t.m.Mutant == FreeAscending {
		t.x.i = t.x.p + 1
	}
}

func (t *turn) c5() { // rel: S[q] = FREE(q+N) for q = e-1 down to p+1, then S[p] = FREE(p+N)
	x := t.x
	if t.m.Mutant == FreeAscending {
		if x.i < x.e {
			t.free(x.i)
			x.i++
			return
		}
		t.free(x.p)
	} else {
		t.free(x.i)
		if x.i--; x.i+1 > x.p {
			return
		}
	}
	x.pc = c6
}

func (t *turn) c6() { // rel: (not after a rescue) own p = e; now and then consumer_position = e; C7
	x := t.x
	e := x.e
	hint := t.m.Hints && !x.rescue && t.n.consumerPosition != e
	if !x.rescue || t.m.Mutant == RescueMoves {
		x.pos = e
	}
	t.released()
	if hint {
		after := t.n
		t.or()
		t.n = after
		t.n.consumerPosition = e
	}
}

// released ends a copy or a lease: baton, C7, and on to the next attempt or to the end of the quota.
func (t *turn) released() {
	x := t.x
	next := c0
	if q := t.style().Quota; q > 0 && x.ops == q {
		next = finished
	}
	if t.m.Mutant == NoBaton {
		x.slept = false
	}
	slept := x.slept
	*x = process{role: consumer, ops: x.ops, pos: x.pos, seen: x.seen, slept: slept}
	t.notify(0, all, next)
	if slept {
		x.pc, x.ret = b1, next
	}
}
