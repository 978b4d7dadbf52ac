package weak

// The C form of FORMAT 9. Every access has the name of its row in docs/ORDERING.md.

// tries bounds the attempts of one call; a program whose attempts end there goes on without a result.
const tries = 6

// claim is P0..P3 for k slots from the candidate t. full says that the verdict was FULL.
func (g *ring) claim(t *T, me, at, k int) (p int, full bool) {
	for range tries {
		if g.hints {
			at = max(at, int(t.Load("P0 acq", g.pp)))
		}
		w := t.Load("P1 acq", g.s(at))
		switch h := g.head(w, at); {
		case w == free(at):
			q := at + 1
			for q < at+k && t.Load("P2 acq", g.s(q)) == free(q) {
				q++
			}
			if q < at+k {
				if t.Skips("P2, the second look") || t.Load("P2 acq", g.s(at)) == w {
					return -1, true
				}
				continue
			}
			if t.CAS("P3 acqrel", g.s(at), w, claimed(at+k, me)) {
				return at, false
			}
		case h == at:
			at = seq(w)
		case h > at:
			at = g.beyond(w, at, h)
		case h+g.n == at:
			return -1, true
		default:
			t.Fail("corrupt state word")
		}
	}
	return -1, false
}

// fast is the claim of one slot without P1.
func (g *ring) fast(t *T, me, at int) bool {
	return t.CAS("P3 acqrel", g.s(at), free(at), claimed(at+1, me))
}

// fill writes message id of k slots at p: P4.
func (g *ring) fill(t *T, p, k int, id int32) {
	if g.cells == nil {
		return
	}
	for q := p; q < p+k; q++ {
		t.Write(g.cells[q%g.n], id)
	}
	t.Store("P4 rlx", g.lengths[p%g.n], length(id, k))
}

// publish is P4, P6 and P7 for the claim [p, p+k).
func (g *ring) publish(t *T, p, k int, id int32) {
	g.fill(t, p, k, id)
	t.Store("P6 rel", g.s(p), ready(p+k, 0))
	g.hint(t, "P7 rel", g.pp, p+k)
}

func (g *ring) hint(t *T, row string, x Loc, p int) {
	if g.hints {
		t.Store(row, x, int32(p))
	}
}

// send sends one message, and fails the program when the ring is called full and room says that it never is.
func (g *ring) send(t *T, me, at, k int, id int32, room bool) int {
	p, full := g.claim(t, me, at, k)
	if full && room {
		t.Fail("FULL on a ring that always has room")
	}
	if p >= 0 {
		g.publish(t, p, k, id)
		return p + k
	}
	return at
}

// found is what a consumer may take.
type found struct {
	p  int
	w  int32
	ok bool
}

// find is C0..C2 from the candidate at. seen is the consumer's copy of returns.
func (g *ring) find(t *T, at int, seen *int32) found {
	for range tries {
		var now int32
		if g.rescues {
			if now = t.Load("C0 acq", g.returns); now != *seen && !t.Skips("9.5") {
				if f := g.rescue(t, seen); f.ok {
					return f
				}
			}
		}
		if g.hints {
			at = max(at, int(t.Load("C1 acq", g.cp)))
		}
		w := t.Load("C2 acq", g.s(at))
		switch h := g.head(w, at); {
		case h == at && kind(w) == wReady:
			return found{at, w, true}
		case h == at && (kind(w) == wTaken || kind(w) == wDone):
			at = seq(w)
		case h == at || h+g.n == at:
			if g.rescues && !t.Skips("C0, the second look") && t.Load("C0 acq", g.returns) != now {
				continue
			}
			return found{p: at}
		case h > at:
			at = g.beyond(w, at, h)
		default:
			t.Fail("corrupt state word")
		}
	}
	return found{p: -1}
}

// rescue looks at every slot for a message that was given back.
func (g *ring) rescue(t *T, seen *int32) found {
	now := t.Load("C0 acq", g.returns)
	for i := range g.words {
		if w := t.Load("C2 acq", g.words[i]); kind(w) == wReady && given(w) > 0 {
			return found{g.head(w, i), w, true}
		}
	}
	*seen = now
	return found{}
}

// length loads the length word of f and checks it: C3. A word that does not fit is looked at again.
func (g *ring) length(t *T, f found) (id int32, ok bool) {
	if g.lengths == nil {
		return 0, true
	}
	l := t.Load("C3 rlx", g.lengths[f.p%g.n])
	if int(l&15) != seq(f.w)-f.p {
		if t.Skips("C3, the second look") || t.Load("C2 acq", g.s(f.p)) == f.w {
			t.Fail("corrupt length word")
		}
		return 0, false
	}
	return l >> 4, true
}

// receive copies the next message out: C0..C6. It returns where the candidate is then; id 0 is EMPTY, or a lost race.
func (g *ring) receive(t *T, me, at int, seen *int32) (next int, id int32) {
	f := g.find(t, at, seen)
	if !f.ok {
		return max(at, f.p), 0
	}
	id, ok := g.length(t, f)
	if !ok {
		return at, 0
	}
	e := seq(f.w)
	if g.cells != nil {
		for q := f.p; q < e; q++ {
			if t.Peek(g.cells[q%g.n]) != id {
				id = -1
			}
		}
	}
	to := free(f.p + g.n)
	if e > f.p+1 {
		to = done(e, me)
	}
	won := t.CAS("C4 acqrel", g.s(f.p), f.w, to)
	if g.cells != nil {
		t.Confirm(won)
	}
	switch {
	case !won:
		return at, 0
	case id < 0:
		t.Fail("torn message")
	case g.cells == nil:
		id = 100 + int32(f.p)
	}
	if e > f.p+1 {
		g.freeDone(t, f.p, e)
	}
	g.hint(t, "C6 rel", g.cp, e)
	return e, id
}

// freeDone is C5: the interior from the last slot to the first, then the head.
func (g *ring) freeDone(t *T, p, e int) {
	for q := e - 1; q > p; q-- {
		t.Store("P5 rel", g.s(q), free(q+g.n))
	}
	t.Store("C5 rel", g.s(p), free(p+g.n))
}

// lease takes the message at f, up to end, for reading in place: L1, L2. held is the word that ticks look at.
func (g *ring) lease(t *T, me int, f found, end int, held Loc) bool {
	t.Store("L4 rel", held, int32(f.p+1))
	return t.CAS("L2 acqrel", g.s(f.p), f.w, taken(end, me, given(f.w)))
}

// release ends the lease of [p, e): L3.
func (g *ring) release(t *T, me, p, e int) {
	if e == p+1 {
		t.Store("L3 rel", g.s(p), free(p+g.n))
		return
	}
	t.Store("L3 rel", g.s(p), done(e, me))
	g.freeDone(t, p, e)
}
