package model

// Leaving a step out, for mutants that nobody has to think of: a step that stores keeps what its process believes and changes nothing that others see; a
// step that looks goes on as if it had seen what it hopes for.

// mpmcStep returns the step of that name.
func mpmcStep(name string) pc {
	for i := range steps {
		if name != "" && steps[i].name == name {
			return pc(i)
		}
	}
	return finished
}

// looks are the steps that decide something, as they are when nobody looks.
var looks = map[pc]func(*turn){
	p0:      func(t *turn) { h := t.n.producerPosition; t.n.producerPosition = 0; t.p0(); t.n.producerPosition = h },
	p2:      func(t *turn) { t.without(p3) },
	p2again: func(t *turn) { t.isFull() },
	c0:      func(t *turn) { t.restart(); t.without(c1) },
	c1:      func(t *turn) { t.without(c2) },
	c2empty: func(t *turn) { t.empty() },
	c8: func(t *turn) {
		t.x.seen, t.x.gen, t.x.q = t.x.gen, false, 0
		t.without(c1)
	},
	l2batch: func(t *turn) { t.x.q, t.x.i = 0, 0; t.without(l2) },
	a2:      func(t *turn) { t.without(a3) },
	v2:      func(t *turn) { t.x.q = t.m.Slots; t.without(v4); t.x.q = 0 },
	v3again: func(t *turn) { t.behindFirst() },
	v7:      func(t *turn) { t.blocked = true },
	l4:      func(t *turn) { t.without(l3) },
	w4:      func(t *turn) { t.without(asleep) },
	b1:      func(t *turn) { t.x.slept = false; t.without(n1) },
	n1: func(t *turn) {
		if t.x.note == [2]uint8{} {
			t.nextNote()
			return
		}
		t.x.unchanged = true
		t.without(n2)
	},
}

// notLeftOut are the steps without which there is nothing to decide on, or that only end something.
var notLeftOut = map[pc]string{
	finished:  "no step",
	p1:        "the look that everything else follows from",
	c2:        "the look that everything else follows from",
	v1:        "mutant LoadBeforeProof",
	v1late:    "part of the mutant LoadBeforeProof",
	v3counted: "part of the mutant CountLate",
	v3length:  "without the length there is no end to give back to",
	asleep:    "the end of a sleep: mutant NoTick",
	a1:        "without the load there is nothing to change",
	c3:        "without the copy there is nothing to deliver",
}

// spscNotLeftOut is the same for SPSC.
var spscNotLeftOut = map[spscPC]string{
	sEnd:   "no step",
	d1:     "the look that everything else follows from",
	d2:     "without the length word there is nothing to deliver",
	d3:     "without the copy there is nothing to deliver",
	leLate: "part of the mutant LeaseLate",
	jDrop:  "as D4",
}

func (t *turn) without(next pc) { t.x.pc = next }

// do takes step p, or leaves it out.
func (t *turn) do(p pc) {
	if p != t.m.drop || p == finished {
		steps[p].do(t)
		return
	}
	if f := looks[p]; f != nil {
		f(t)
		return
	}
	t.drops = true
	steps[p].do(t)
}

// undo takes back what a step did to anything but its own process.
func (m *MPMC) undo(s, n *mpmcState) {
	n.words, n.cells, n.lengths, n.accounts = s.words, s.cells, s.lengths, s.accounts
	n.producerPosition, n.consumerPosition, n.events = s.producerPosition, s.consumerPosition, s.events
	n.announced |= s.announced
	for i := range n.procs {
		if i != int(m.turn.me) {
			n.procs[i] = s.procs[i]
		}
	}
}

// spscStep returns the step of that name.
func spscStep(name string) spscPC {
	for i := range spscSteps {
		if name != "" && spscSteps[i].name == name {
			return spscPC(i)
		}
	}
	return sEnd
}

// spscLooks are the steps that decide something, as they are when nobody looks.
var spscLooks = map[spscPC]func(*spscTurn){
	s1: func(t *spscTurn) {
		if t.s1(); t.x.pc != sEnd {
			t.x.pc = s1exact
		}
	},
	s1exact: func(t *spscTurn) { t.room() },
	t1: func(t *spscTurn) { // does not walk on
		t.x.t, t.x.limit, t.x.pc = t.n.producerPosition, t.n.consumerPosition, t4
		if t.n.reserved == t.x.t+1 {
			t.x.pc = t3
		}
	},
}

// do takes step p, or leaves it out.
func (t *spscTurn) do(p spscPC) {
	if p != t.m.drop || p == sEnd {
		spscSteps[p].do(t)
		return
	}
	if f := spscLooks[p]; f != nil {
		f(t)
		return
	}
	t.drops = true
	spscSteps[p].do(t)
}

// undo takes back what a step did to anything but its own process.
func (t *spscTurn) undo(n *spscState) {
	s := t.from
	n.words, n.lengths, n.cells, n.accounts = s.words, s.lengths, s.cells, s.accounts
	n.producerPosition, n.reserved, n.consumerPosition, n.leaseEnd, n.space = s.producerPosition, s.reserved, s.consumerPosition, s.leaseEnd, s.space
	n.journal, n.runEnd, n.runLength = s.journal, s.runEnd, s.runLength
	for i := range n.procs {
		if &t.n.procs[i] != t.x {
			n.procs[i] = s.procs[i]
		}
	}
}
