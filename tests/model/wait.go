package model

import "math/bits"

// Waiting, FORMAT 8. The membarrier of W2 is about memory order and has no step here. A tick ends a sleep only after somebody was killed: without
// a death nobody may depend on it.

// park is what follows a verdict EMPTY, BLOCKED or FULL: try again, arrive, or, after the look of W3, sleep.
func (t *turn) park(e uint8) {
	x := t.x
	x.event = e
	switch {
	case !t.m.Wait:
		x.event, x.pc = 0, t.retry()
	case x.armed:
		x.pc = w4
	default:
		x.pc = w1
	}
	if x.role == consumer {
		at := x.pc
		t.restart()
		x.pc = at
		return
	}
	x.p, x.e, x.q, x.full = 0, 0, 0, false
}

func (t *turn) w1() { // sc: arrivals + 1; W3 is a new attempt
	x := t.x
	e := t.n.events[x.event]
	t.change(x.event, min(e.arrivals+1, manyArrivals))
	x.armed, x.current = true, true
	x.pc = t.retry()
	if t.m.Mutant == NoLookBeforeSleep {
		x.pc = w4
	}
}

func (t *turn) w4() { // FUTEX_WAIT(epoch, key)
	x := t.x
	if x.current {
		x.pc = asleep
		return
	}
	t.awake(x)
}

// awake starts another attempt of x, which has to arrive again.
func (t *turn) awake(x *process) {
	x.armed, x.current, x.event = false, false, 0
	x.pc = c0
	if x.role == producer {
		x.pc = p0
	}
}

func (t *turn) sleep() { // a tick, or the end of the caller's patience
	x := t.x
	if t.n.leaves < t.m.Leaves && x.role == consumer {
		t.step.Name = "leaves"
		t.leave()
		t.or()
	}
	if t.n.crashes == 0 || t.m.Mutant == NoTick {
		t.blocked = true
		return
	}
	t.step.Name = "tick"
	x.slept = x.role == consumer
	if x.current && t.n.events[x.event].arrivals > 0 {
		x.pc = t.retry() // need not arrive again
		return
	}
	t.awake(x)
}

// leave is a consumer that stops waiting without a message.
func (t *turn) leave() {
	t.n.leaves++
	x := t.x
	x.armed, x.event, x.current, x.slept = false, 0, false, false
	x.note, x.ret, x.pc = [2]uint8{}, finished, b1
	if t.m.Mutant == NoBaton {
		x.pc = finished
	}
}

func (t *turn) b1() { // acq: on from the candidate as in C2; at a READY message: notify(not_empty, 1)
	x := t.x
	w, lives := t.at(x.pos)
	h := t.m.head(w, x.pos)
	switch {
	case lives && w.kind == ready:
		x.note[notEmpty] = 1
	case t.m.Mutant == BatonOneWord:
	case lives && (w.kind == taken || w.kind == done):
		x.pos = w.seq
		return
	case h > int(x.pos):
		x.pos = t.jump(w, h)
		return
	}
	x.slept, x.pc = false, n1
}

// notify starts notify(not_empty, consumers) and notify(not_full, producers), and goes on at then.
func (t *turn) notify(consumers, producers uint8, then pc) {
	x := t.x
	x.ret = then
	if !t.m.Wait {
		x.pc = n1
		t.nextNote()
		return
	}
	x.note = [2]uint8{consumers, producers}
	x.pc = n1
	t.nextNote()
}

// nextNote goes on with the next notification, if there is one.
func (t *turn) nextNote() {
	x := t.x
	x.unchanged = false
	if x.pc = n1; x.note != [2]uint8{} {
		return
	}
	x.pc, x.ret = x.ret, 0
	if x.role == producer {
		*x = process{role: producer, pc: x.pc, ops: x.ops, pos: x.pos, slept: x.slept}
	}
}

// noted returns which event word is notified, and by how much.
func (t *turn) noted() (e uint8, n *uint8) {
	if t.x.note[notEmpty] == 0 {
		e = notFull
	}
	return e, &t.x.note[e]
}

// change stores arrivals, which everybody who has loaded the event word will notice.
func (t *turn) change(e, arrivals uint8) {
	t.n.events[e].arrivals = arrivals
	for i := range t.n.procs {
		if p := &t.n.procs[i]; p.unchanged && (p.note[notEmpty] == 0) == (e == notFull) {
			p.unchanged = false
		}
	}
}

// advance moves the epoch: no key is current any more.
func (t *turn) advance(e, arrivals uint8) {
	t.change(e, arrivals)
	for i := range t.n.procs {
		if p := &t.n.procs[i]; p.armed && p.event == e && t.m.Mutant != NoEpoch {
			p.current = false
		}
	}
}

func (t *turn) n1() { // sc: v = load E; no arrivals: return
	x := t.x
	if x.note == [2]uint8{} {
		t.nextNote()
		return
	}
	e, n := t.noted()
	if t.n.events[e].arrivals == 0 {
		*n = 0
		t.nextNote()
		return
	}
	x.unchanged, x.pc = true, n2
}

func (t *turn) n2() { // acqrel: CAS E v -> {epoch+1, 0} if n >= arrivals, else {epoch+1, same}
	x := t.x
	e, n := t.noted()
	if !x.unchanged {
		x.pc = n1
		return
	}
	left := t.n.events[e].arrivals
	if *n >= left {
		left, *n = 0, all
	}
	t.advance(e, left)
	x.unchanged = *n != all
	x.pc = n2wake
}

func (t *turn) n2wake() { // wake all, or k = wake n: any n of those who sleep
	e, _ := t.noted()
	var sleepers uint
	for i, p := range t.n.procs {
		if p.status == alive && p.pc == asleep && p.event == e {
			sleepers |= 1 << i
		}
	}
	count := min(int(t.x.note[e]), bits.OnesCount(sleepers))
	for woken := range sleepers + 1 {
		if woken&^sleepers != 0 || bits.OnesCount(woken) != count {
			continue
		}
		t.n = *t.from
		for i := range t.n.procs {
			if p := &t.n.procs[i]; woken>>i&1 == 1 {
				t.awake(p)
				p.slept = p.role == consumer
			}
		}
		if count == 0 && t.x.note[e] != all {
			t.x.pc = n3
		} else {
			t.x.note[e] = 0
			t.nextNote()
		}
		t.emit(&t.n, t.step)
	}
	t.blocked = true
}

func (t *turn) n3() { // k == 0: CAS E {epoch+1, same} -> {epoch+2, 0}
	x := t.x
	e, n := t.noted()
	if x.unchanged || t.m.Mutant == BlindClear {
		t.advance(e, 0)
	}
	*n = 0
	t.nextNote()
}
