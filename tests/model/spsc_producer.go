package model

// plan returns the end of the extents of op when they start at position t.
func (m *SPSC) plan(op *SPSCOp, t uint8) uint8 {
	for _, k := range op.Slots {
		t += m.padding(t, k) + k
	}
	return t
}

func (m *SPSC) padding(t, k uint8) uint8 {
	if at := m.slot(t); at+k > m.Slots {
		return m.Slots - at
	}
	return 0
}

// entry is one state word that an operation publishes.
type entry struct {
	p, e    uint8
	length  lengthWord
	message uint8 // number of the first message, 0 for padding
	count   uint8
}

// entries returns what op i publishes when it starts at t.
func (m *SPSC) entries(i, t uint8) (all []entry) {
	op := &m.Ops[i]
	if op.Run {
		n := uint8(len(op.Slots))
		return []entry{{t, t + n, lengthWord{bytes: i + 1, run: true}, m.ids[i], n}}
	}
	for j, k := range op.Slots {
		if pad := m.padding(t, k); pad > 0 {
			all = append(all, entry{p: t, e: t + pad, length: lengthWord{pad: true}})
			t += pad
		}
		all = append(all, entry{t, t + k, lengthWord{bytes: i + 1}, m.ids[i] + uint8(j), 1})
		t += k
	}
	return all
}

// fits says whether the operation fits below the private limit.
func (t *spscTurn) fits() bool {
	x := t.x
	return t.m.plan(&t.m.Ops[x.ops], x.t)-x.limit <= t.m.Slots
}

func (t *spscTurn) s1() { // the private limit; then acq: limit = space_position
	x := t.x
	if int(x.ops) == len(t.m.Ops) {
		*x = spscProcess{pc: sEnd, ops: x.ops, t: x.t}
		return
	}
	if !t.fits() {
		x.limit = t.n.space
	}
	x.pc = s1exact
	if t.fits() {
		t.room()
	}
}

func (t *spscTurn) s1exact() { // acq: limit = consumer_position; then FULL
	x := t.x
	x.limit = t.n.consumerPosition
	if t.fits() {
		t.room()
		return
	}
	x.pc, x.asleep = s1, true
}

// room starts the operation: padding first, then the reservation.
func (t *spscTurn) room() {
	x := t.x
	x.q = 0
	x.p = x.t
	x.pc = s3
	if op := &t.m.Ops[x.ops]; op.Reserve {
		if x.pc = s2reserve; t.m.padding(x.t, op.Slots[0]) > 0 {
			x.pc = s2
		}
	}
}

func (t *spscTurn) s2() { // length(t) = PAD, S[t] = READY(t + pad) (rel); t += pad
	x := t.x
	all := t.m.entries(x.ops, x.p)
	t.n.lengths[t.m.slot(x.p)] = all[0].length
	t.publish(all[0])
	x.q, x.pc = 1, s2reserve
}

func (t *spscTurn) s2reserve() { // reserved_position = t + 1
	x := t.x
	all := t.m.entries(x.ops, x.p)
	x.t = all[x.q].p
	t.n.reserved = x.t + 1
	x.pc = s3
	if t.m.Ops[x.ops].Discard {
		x.pc = s5clear
	}
}

func (t *spscTurn) s3() { // payload; length words
	x := t.x
	for _, y := range t.m.entries(x.ops, x.p)[x.q:] {
		t.n.lengths[t.m.slot(y.p)] = y.length
		for q := y.p; q < y.e && y.message > 0; q++ {
			t.overwrites(q)
			t.n.cells[t.m.slot(q)] = y.message
			if y.length.run {
				t.n.cells[t.m.slot(q)] += q - y.p
			}
		}
	}
	x.pc = s4
	switch {
	case t.m.Mutant == BatchHeadLast && len(t.m.Ops[x.ops].Slots) > 1:
		x.q = uint8(len(t.m.entries(x.ops, x.p))) - 1
	case t.m.Mutant == ClearEarly && t.n.reserved > 0:
		x.pc = s5clear
	}
}

func (t *spscTurn) s4() { // rel: S[t] = READY(t + k), in ascending order: commit point
	x := t.x
	all := t.m.entries(x.ops, x.p)
	t.publish(all[x.q])
	last := len(all) - 1
	if t.m.Mutant == BatchHeadLast && last > 0 {
		if x.q == 0 {
			x.pc = s5
		}
		x.q--
		return
	}
	if x.q++; int(x.q) <= last {
		return
	}
	x.pc = s5
	if t.n.reserved > 0 {
		x.pc = s5clear
	}
}

func (t *spscTurn) publish(y entry) {
	t.n.words[t.m.slot(y.p)] = spscWord{written: true, seq: y.e}
	t.n.published = max(t.n.published, y.e)
	for i := range y.count {
		t.n.committed |= bit(y.message + i)
	}
}

func (t *spscTurn) s5clear() { // reserved_position = 0
	x := t.x
	t.n.reserved = 0
	x.pc = s5
	if t.m.Mutant == ClearEarly && !t.m.Ops[x.ops].Discard && x.q < uint8(len(t.m.entries(x.ops, x.p))) {
		x.pc = s4
	}
}

func (t *spscTurn) s5() { // rlx: t += k; producer_position = t
	x := t.x
	if op := &t.m.Ops[x.ops]; !op.Discard {
		x.t = t.m.plan(op, x.p)
		t.n.producerPosition = x.t
	}
	x.pc = s6
}

func (t *spscTurn) s6() { // notify(not_empty); Discard: both
	x := t.x
	t.wake(theConsumer)
	*x = spscProcess{pc: s1, ops: x.ops + 1, t: x.t, limit: x.limit}
}

// overwrites checks that nobody's message is in the slot of q.
func (t *spscTurn) overwrites(q uint8) {
	if q-t.n.consumerPosition >= t.m.Slots {
		t.fail("payload changed before it was released")
	}
}

func (t *spscTurn) t1() { // t = producer_position; while S[t] is valid for t: t = e
	x := t.x
	x.t = t.n.producerPosition
	for e, ok := t.m.valid(&t.n, x.t); ok; e, ok = t.m.valid(&t.n, x.t) {
		x.t = e
	}
	x.limit = t.n.consumerPosition
	x.pc = t4
	if t.n.reserved == x.t+1 && t.m.Mutant != ReservedIgnored {
		x.pc = t3
	}
}

// open says whether the producer holds a reservation that its death leaves behind.
func (m *SPSC) open(p *spscProcess) bool {
	if p.pc == sEnd || int(p.ops) == len(m.Ops) || !m.Ops[p.ops].Reserve {
		return false
	}
	return p.pc == s3 || p.pc == s4 || p.pc == s5clear && (m.Ops[p.ops].Discard || m.Mutant == ClearEarly)
}

func (t *spscTurn) t3() { // count it in the account of slot t
	x := t.x
	if acc := &t.n.accounts[t.m.slot(x.t)]; acc.tag != x.t/t.m.Slots+1 {
		acc.tag = x.t/t.m.Slots + 1
		acc.skipped++
	}
	x.pc = t3length
}

func (t *spscTurn) t3length() { // length(t) = PAD|SKIP
	t.n.lengths[t.m.slot(t.x.t)] = lengthWord{pad: true, skip: true}
	t.x.pc = t3pad
}

func (t *spscTurn) t3pad() { // rel: S[t] = READY(t + 1)
	x := t.x
	t.publish(entry{p: x.t, e: x.t + 1})
	x.t++
	x.pc = t4
}

func (t *spscTurn) t4() { // reserved_position = 0
	t.n.reserved = 0
	t.x.pc = t5
}

func (t *spscTurn) t5() { // producer_position = t; registration notifies both
	x := t.x
	t.n.producerPosition = x.t
	t.wake(theConsumer)
	*x = spscProcess{pc: s1, ops: x.ops, t: x.t, limit: x.limit}
}
