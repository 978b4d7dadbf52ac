package model

// A recoverer is anybody who runs FORMAT 11 for participant d. Under the read lock on d's byte d is dead and its id cannot be reused.

func (t *turn) rest() { *t.x = process{role: recoverer, pc: v1} }

// v1 holds the read lock on d's byte: refused unless d is dead.
func (t *turn) v1() {
	begun := false
	for d := range t.n.procs {
		if t.from.procs[d].status != dead {
			if t.m.Mutant == LoadBeforeProof && t.from.procs[d].status == alive {
				begun = t.loadEarly(d, begun)
			}
			continue
		}
		if begun {
			t.or()
		}
		begun = true
		t.x.target = uint8(d) + 1
		t.x.pc = v2
		if t.m.Mutant == RetireFirst {
			t.x.pc = v6
		}
	}
	t.blocked = !begun
}

// loadEarly is V2 before V1.
func (t *turn) loadEarly(d int, begun bool) bool {
	for i := range t.m.Slots {
		if w := t.from.words[i]; w.kind == claimed && int(w.owner) == d {
			if begun {
				t.or()
			}
			begun = true
			t.x.id, t.x.q, t.x.w, t.x.pc = uint8(d), i, w, v1late
		}
	}
	return begun
}

func (t *turn) v1late() {
	x := t.x
	if d := x.id; t.n.procs[d].status == dead {
		w := x.w
		x.target, x.id, x.w = d+1, 0, word{}
		t.settle(w)
		return
	}
	t.rest()
}

func (t *turn) v2() { // acq: w = S[i] names d as owner
	x := t.x
	w := t.n.words[x.q]
	if t.names(w) {
		t.settle(w)
		return
	}
	t.nextSlot()
}

// names says whether w names the dead as its owner.
func (t *turn) names(w word) bool {
	return w.kind != free && w.kind != ready && w.owner == t.x.target-1 && (w.kind != claimed || t.m.Mutant != NoSkip)
}

// nextSlot goes on with the scan.
func (t *turn) nextSlot() {
	x := t.x
	*x = process{role: recoverer, pc: v2, target: x.target, q: x.q + 1}
	for t.m.Mutant != RetireFirst && x.q < t.m.Slots && !t.names(t.n.words[x.q]) {
		x.q++ // it never will: its owner is dead
	}
	if x.q < t.m.Slots {
		return
	}
	x.q, x.pc = 0, v4
	if t.m.Mutant == RetireFirst {
		x.pc = v7
	}
}

// settle is V3 for the word w of slot q.
func (t *turn) settle(w word) {
	x := t.x
	x.w, x.e, x.p = w, w.seq, uint8(t.m.head(w, x.q))
	x.i = x.e - 1
	switch {
	case w.kind == taken:
		x.pc = v3length
	default:
		if t.m.Mutant == FreeAscending {
			x.i = x.p + 1
		}
		t.nextOwned()
	}
}

// nextOwned finds the next interior position of a claim or of a release, last to first.
func (t *turn) nextOwned() {
	x := t.x
	if t.m.Mutant == FreeAscending && x.i < x.e || t.m.Mutant != FreeAscending && x.i > x.p {
		x.pc = v3free
		return
	}
	x.i = 0
	x.pc = v3head
	if x.w.kind == claimed && t.m.Mutant != CountLate {
		t.count(x.p, x.e, x.w, true, v3head)
	}
}

func (t *turn) v3free() { // CLAIMED, DONE: interior words of its lap -> FREE(q+N) (CAS)
	x := t.x
	if _, lives := t.at(x.i); lives {
		t.free(x.i)
	}
	if x.i--; t.m.Mutant == FreeAscending {
		x.i += 2
	}
	t.nextOwned()
}

func (t *turn) v3head() { // CAS w -> FREE(p+N)
	x := t.x
	if t.cas(x.p, x.w, freeFor(x.p+t.m.Slots)); x.w.kind == claimed && t.m.Mutant == CountLate {
		t.count(x.p, x.e, freeFor(x.p+t.m.Slots), true, v3counted)
		return
	}
	t.nextSlot()
}

func (t *turn) v3counted() { t.nextSlot() } // only where the count comes after the CAS

func (t *turn) v3length() { // TAKEN: length(p)
	x := t.x
	x.ae = x.p + t.n.lengths[t.m.slot(x.p)]
	x.pc = v3again
	if t.m.Mutant == NoLengthRecheck {
		t.behindFirst()
	}
}

func (t *turn) v3again() { // S[p] = w still: otherwise this slot is settled
	x := t.x
	if w, _ := t.at(x.p); w != x.w {
		t.nextSlot()
		return
	}
	t.behindFirst()
}

// behindFirst starts with the messages behind the first; first is the end of the first.
func (t *turn) behindFirst() {
	x := t.x
	x.first, x.ae = x.ae, 0
	x.pc = v3back
	if t.m.Mutant == RescueMoves {
		x.i = min(x.p+1, x.e-1)
	}
}

// back goes on with the next message of the lease, last to first.
func (t *turn) back() {
	x := t.x
	x.ap, x.ae, x.aw, x.j, x.acc = 0, 0, word{}, 0, account{}
	x.pc = v3back
	switch {
	case x.i == x.p:
		t.nextSlot()
		return
	case t.m.Mutant == RescueMoves:
		if x.i++; x.i == x.e {
			x.i = x.p
		}
		return
	}
	x.i--
}

func (t *turn) v3back() { // behind the first: READY with r = 0 that ends within e (CAS); then the first (CAS w)
	x := t.x
	w, lives := t.at(x.i)
	end := w.seq
	if x.i == x.p {
		end, lives, w = min(x.first, x.e), true, x.w
	} else if w.kind != ready || w.r > 0 || w.seq > x.e {
		lives = false
	}
	if !lives {
		t.back()
		return
	}
	if t.lose(w.r) {
		t.count(x.i, end, w, false, v3lost)
		return
	}
	t.cas(x.i, w, readyTo(end, w.r+1))
	t.back()
}

// lose says whether a message that was given back r times is not given back again.
func (t *turn) lose(r uint8) bool {
	return t.m.Drop || t.m.MaxDeliveries > 0 && r+1 >= t.m.MaxDeliveries
}

func (t *turn) v3lost() { // counted lost: its slots from the last to the first (CAS)
	x := t.x
	if x.j > x.ap {
		if _, lives := t.at(x.j); lives {
			t.free(x.j)
		}
		x.j--
		return
	}
	t.cas(x.ap, x.aw, freeFor(x.ap+t.m.Slots))
	t.back()
}

// settled is what A2 finds when the word is another: nothing more to do for this message.
func (t *turn) settled() {
	if t.x.skip {
		t.nextSlot()
		return
	}
	t.back()
}

func (t *turn) v4() { // sc: returns + 1; V5 advances both event words and wakes all
	if t.m.Mutant != NoReturnsBump {
		t.announce()
	}
	t.notify(all, all, v6)
}

// announce is returns + 1.
func (t *turn) announce() {
	for i := range t.n.procs {
		t.n.procs[i].seen, t.n.procs[i].gen = false, false
	}
	for i := range t.m.Slots {
		if w := t.n.words[i]; w.kind == ready && w.r > 0 {
			t.n.announced |= 1 << i
		}
	}
}

func (t *turn) v6() { // the session ends: CAS died
	x := t.x
	if d := &t.n.procs[x.target-1]; d.status == dead {
		d.status = retired
	}
	x.pc = v7
	if t.m.Mutant == RetireFirst {
		x.pc = v2
	}
}

func (t *turn) v7() { t.rest() } // unlock
