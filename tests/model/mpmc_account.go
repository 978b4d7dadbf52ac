package model

// count starts counting the message (or claim) [p, e) whose word is w in the account of p's slot, and goes on at then.
func (t *turn) count(p, e uint8, w word, skip bool, then pc) {
	x := t.x
	x.ap, x.ae, x.aw, x.skip, x.ret = p, e, w, skip, then
	x.pc = a1
}

func (t *turn) a1() { // acq: load the account
	t.x.acc = t.n.accounts[t.m.slot(t.x.ap)]
	t.x.pc = a2
}

func (t *turn) a2() { // acq: the state word is another by now: settled, touch nothing more
	x := t.x
	if w, _ := t.at(x.ap); w != x.aw && t.m.Mutant != CountUnchecked {
		t.settled()
		return
	}
	x.pc = a3
	if x.acc.tag == x.ap/t.m.Slots+1 && t.m.Mutant != CountUntagged {
		t.counted()
	}
}

func (t *turn) a3() { // acqrel: CAS to {tag of p, count + 1}
	x := t.x
	if acc := &t.n.accounts[t.m.slot(x.ap)]; *acc != x.acc {
		x.pc = a1
		return
	} else if acc.tag = x.ap/t.m.Slots + 1; x.skip {
		acc.skipped++
	} else {
		acc.lost++
	}
	t.counted()
}

func (t *turn) counted() {
	x := t.x
	x.acc, x.j = account{}, x.ae-1
	x.pc, x.ret = x.ret, 0
}
