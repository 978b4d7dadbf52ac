package model

func (t *turn) l2batch() { // the following messages that are READY with r = 0; freed padding is stepped over
	x := t.x
	w, lives := t.at(x.q)
	switch {
	case x.q >= x.p+t.m.Slots:
		x.pc = l2
	case lives && w.kind == ready && w.r == 0:
		x.heads |= 1 << (x.q - x.p)
		x.e, x.q = w.seq, w.seq
		x.i++
	case w == freeFor(x.q+t.m.Slots):
		x.q++
	default:
		x.pc = l2
	}
	if int(x.i) == t.style().Batch {
		x.pc = l2
	}
	if x.pc == l2 {
		x.q, x.i = 0, 0
	}
}

func (t *turn) l2() { // acqrel: CAS S[p] w -> TAKEN(e, me, r)
	x := t.x
	if !t.cas(x.p, x.w, word{kind: taken, r: x.w.r, owner: t.me, seq: x.e}) {
		t.lostRace()
		return
	}
	for p := x.p; p < x.e; p++ {
		if x.heads&(1<<(p-x.p)) != 0 {
			t.deliver(t.read(p), x.w.r, p)
		}
	}
	if !x.rescue || t.m.Mutant == RescueMoves {
		x.pos = x.e
	}
	t.took()
	x.holding, x.pc = true, l3
	if x.slept && t.m.Mutant != NoBaton {
		x.pc, x.ret = b1, l3
	}
}

// second returns the head of the second message of the lease, or its end.
func (t *turn) second() uint8 {
	x := t.x
	for p := x.p + 1; p < x.e; p++ {
		if x.heads&(1<<(p-x.p)) != 0 {
			return p
		}
	}
	return x.e
}

// behind makes the lease the one of [m, e).
func (t *turn) behind(m uint8) {
	x := t.x
	x.heads >>= m - x.p
	x.p, x.w = m, word{}
}

func (t *turn) l3() { // release, release of a first part, or Return
	x := t.x
	c := t.style()
	m := t.second()
	if c.Partial && m < x.e {
		x.pc = l3rest
		t.or()
	}
	if c.Return && t.n.returns < t.m.Returns {
		t.n.returns++
		x.holding = false
		t.returning()
		t.or()
	}
	x.holding = false
	t.consumeLease(x.e)
	t.give(x.e)
}

// consumeLease notes that the messages of the lease before end were released.
func (t *turn) consumeLease(end uint8) {
	x := t.x
	for p := x.p; p < end; p++ {
		if x.heads&(1<<(p-x.p)) != 0 {
			t.consume(t.read(p))
		}
	}
}

// give ends the lease of [p, end) in favour of the next lap: one slot at once, more through DONE.
func (t *turn) give(end uint8) {
	x := t.x
	x.heads, x.w = 0, word{}
	x.e = end
	x.pc = c6
	if end == x.p+1 {
		t.free(x.p)
		return
	}
	t.store(x.p, word{kind: done, owner: t.me, seq: end})
	x.i, x.pc = end-1, c5
	t.freeing()
}

func (t *turn) l3rest() { // S[m] = TAKEN(e, me, 0), m = head of the first message that stays leased
	t.store(t.second(), word{kind: taken, owner: t.me, seq: t.x.e})
	t.x.pc = l3part
}

func (t *turn) l3part() { // S[p] = DONE(m, me), or FREE for one slot; then C5 for [p, m)
	x := t.x
	m := t.second()
	t.consumeLease(m)
	if m == x.p+1 {
		t.free(x.p)
		t.behind(m)
		x.pc = l4
		return
	}
	t.store(x.p, word{kind: done, owner: t.me, seq: m})
	x.i, x.pc = m-1, l3free
}

func (t *turn) l3free() { // C5 for [p, m)
	x := t.x
	t.free(x.i)
	if x.i--; x.i+1 > x.p {
		return
	}
	x.i = 0
	t.behind(t.second())
	x.pc = l4
}

func (t *turn) l4() { // the rest stays leased; notify(not_full, all)
	t.x.pc = l3
	t.notify(0, all, l3)
}

// returning starts with the first message of the lease.
func (t *turn) returning() {
	t.x.pc = r1
	if t.second() == t.x.e {
		t.x.pc = r2
	}
}

func (t *turn) r1() { // the rest gets a word of its own
	t.store(t.second(), word{kind: taken, owner: t.me, seq: t.x.e})
	t.x.pc = r2
}

func (t *turn) r2() { // READY+(r+1), or lost when r + 1 reaches max_deliveries
	x := t.x
	w, _ := t.at(x.p)
	end := x.p + t.n.lengths[t.m.slot(x.p)]
	if limit := t.m.MaxDeliveries; limit > 0 && w.r+1 >= limit {
		t.count(x.p, end, w, false, r3)
		return
	}
	t.store(x.p, readyTo(end, w.r+1))
	t.returned()
}

func (t *turn) r3() { // counted lost: free its slots, the last first
	x := t.x
	t.free(x.j)
	if x.j--; x.j+1 > x.p {
		return
	}
	x.aw, x.ap, x.ae, x.j = word{}, 0, 0, 0
	t.returned()
}

// returned goes on with the next message of the lease.
func (t *turn) returned() {
	x := t.x
	if m := t.second(); m < x.e {
		t.behind(m)
		t.returning()
		return
	}
	x.pc = r4
}

func (t *turn) r4() { // returns + 1; notify both, all
	t.announce()
	t.restart()
	t.notify(all, all, c0)
}
