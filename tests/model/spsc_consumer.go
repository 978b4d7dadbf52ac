package model

// While nothing is leased, the consumer's position h is t; a lease is collected in [p, t).

func (t *spscTurn) d1() { // acq: w = S[h]; not valid for h: EMPTY
	x := t.x
	e, ok := t.m.valid(&t.n, x.t)
	switch {
	case ok:
		x.e, x.pc = e, d2
	case t.m.inRun(&t.n, x.t) && t.m.Mutant != NoRunEnd:
		t.found(1, t.n.runLength)
	case x.heads != 0:
		x.pc = le
	default:
		*x = spscProcess{pc: d1, t: x.t, asleep: true}
	}
}

func (t *spscTurn) d2() { // length word
	x := t.x
	l := t.n.lengths[t.m.slot(x.t)]
	w := t.n.words[t.m.slot(x.t)]
	switch {
	case l.pad || t.m.MaxDeliveries > 0 && w.r >= t.m.MaxDeliveries:
		x.t, x.e, x.pc = x.e, 0, d1
		if x.heads == 0 {
			x.pc = d2pad
		}
	case l.run && x.heads != 0 && t.m.Mutant != RunInLease:
		x.pc = le // a batch ends before a run
	case l.run:
		x.bytes, x.pc = l.bytes, d2length
	default:
		t.found(x.e-x.t, l.bytes)
	}
}

func (t *spscTurn) d2pad() { // rel: consumer_position = h, behind padding or a lost message
	t.n.consumerPosition = t.x.t
	t.x.pc = d6
	if t.m.Mutant == PadQuiet {
		t.x.pc = d1
	}
}

func (t *spscTurn) d2length() { // run_length = bytes
	t.n.runLength = t.x.bytes
	t.x.pc = d2end
}

func (t *spscTurn) d2end() { // rel: run_end = e
	x := t.x
	t.n.runEnd = x.e
	t.found(1, x.bytes)
}

// found goes on with the message of k slots at h.
func (t *spscTurn) found(k, bytes uint8) {
	x := t.x
	if t.m.Batch == 0 {
		x.k, x.bytes, x.e = k, bytes, 0
		x.pc = d3
		if t.m.Mutant == ReleaseFirst {
			x.pc = d4
		}
		return
	}
	if x.heads == 0 {
		x.p = x.t
	}
	at := uint8(1) << (x.t - x.p)
	x.heads |= at
	if bytes != t.m.bytes(t.n.cells[t.m.slot(x.t)]) {
		x.wrong |= at
	}
	x.t += k
	x.e, x.bytes = 0, 0
	if x.pc = d1; bits8(x.heads) == t.m.Batch {
		x.pc = le
	}
}

// bytes returns the size of message id.
func (m *SPSC) bytes(id uint8) uint8 {
	for i := len(m.ids) - 1; i >= 0; i-- {
		if id >= m.ids[i] {
			return uint8(i) + 1
		}
	}
	return 0
}

func (t *spscTurn) d3() { // copy the payload
	x := t.x
	x.id = t.read(x.t, x.k, x.bytes)
	x.pc = d4
	if t.m.Mutant == ReleaseFirst {
		t.taken(x.t-x.k, x.id)
		x.pc = d5
	}
}

// read returns the message in k slots at p, and torn when they, or its size, do not belong together.
func (t *spscTurn) read(p, k, bytes uint8) uint8 {
	id := t.n.cells[t.m.slot(p)]
	for q := p; q < p+k; q++ {
		if t.n.cells[t.m.slot(q)] != id {
			return torn
		}
	}
	if bytes != t.m.bytes(id) {
		return torn
	}
	return id
}

// taken notes that message id at p was received.
func (t *spscTurn) taken(p, id uint8) {
	if id == torn {
		t.fail("delivered torn, or with a wrong length")
		return
	}
	var r uint8
	if _, ok := t.m.valid(&t.n, p); ok {
		r = t.n.words[t.m.slot(p)].r
	}
	t.deliver(id, r, p)
	t.n.consumed |= bit(id)
}

func (t *spscTurn) d4() { // rel: consumer_position = h + k
	x := t.x
	if t.m.Mutant == ReleaseFirst {
		x.t += x.k
		t.n.consumerPosition = x.t
		x.pc = d3
		return
	}
	t.taken(x.t, x.id)
	x.t += x.k
	t.n.consumerPosition = x.t
	x.k, x.bytes, x.id = 0, 0, 0
	x.pc = d5
}

func (t *spscTurn) d5() { // rel: space_position = consumer_position
	t.n.space = t.n.consumerPosition
	t.x.pc = d6
}

func (t *spscTurn) d6() { // notify(not_full, all)
	x := t.x
	t.wake(theProducer)
	if x.heads != 0 {
		x.pc = lr
		return
	}
	*x = spscProcess{pc: d1, t: x.t}
}

func (t *spscTurn) le() { // rel: lease_end = e, before the views are handed out
	x := t.x
	if t.m.Mutant != LeaseLate {
		t.n.leaseEnd = x.t
	}
	for p := x.p; p < x.t; p++ {
		at := uint8(1) << (p - x.p)
		if x.heads&at == 0 {
			continue
		}
		id, r := t.n.cells[t.m.slot(p)], uint8(0)
		if _, ok := t.m.valid(&t.n, p); ok {
			r = t.n.words[t.m.slot(p)].r
		}
		if x.wrong&at != 0 {
			t.fail("delivered torn, or with a wrong length")
		}
		t.deliver(id, r, p)
	}
	x.leased, x.pc = true, lr
	if t.m.Mutant == LeaseLate {
		x.pc = leLate
	}
}

func (t *spscTurn) leLate() {
	t.n.leaseEnd = t.x.t
	t.x.pc = lr
}

func (t *spscTurn) lr() { // rel: consumer_position = end of the released part
	x := t.x
	second := x.p + 1
	for second < x.t && x.heads&(1<<(second-x.p)) == 0 {
		second++
	}
	if t.m.Partial && second < x.t {
		e, ok := t.m.valid(&t.n, x.p)
		if !ok || t.n.lengths[t.m.slot(x.p)].run {
			e = x.p + 1
		}
		t.release(e, second)
		t.or()
	}
	if t.n.returns < t.m.Returns {
		t.giveUp(true)
		t.or()
		if t.m.Drop {
			t.giveUp(false)
			t.or()
		}
	}
	t.release(t.x.t, t.x.t)
}

// giveUp begins to give back what is held, as to a successor: by policy when the handle is closed, never when it returns. Padding between it
// and what was released stays behind.
func (t *spscTurn) giveUp(returns bool) {
	t.n.returns++
	*t.x = spscProcess{t: t.x.p, p: t.x.p, returns: returns}
	t.nextRun()
}

// release makes e the position of the consumer; next is the next message that is held, behind padding perhaps.
func (t *spscTurn) release(e, next uint8) {
	x := t.x
	for p := x.p; p < e; p++ {
		if id := t.n.cells[t.m.slot(p)]; x.heads&(1<<(p-x.p)) != 0 && id != 0 {
			t.n.consumed |= bit(id)
		}
	}
	t.n.consumerPosition = e
	x.heads >>= next - x.p
	x.wrong >>= next - x.p
	x.p = next
	if x.heads == 0 {
		x.p, x.leased = 0, false
	}
	x.pc = d5
}
