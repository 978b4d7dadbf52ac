package weak

// The C form of FORMAT 11.

// accountOf is an account: tag of the lap, and how often it was counted.
func accountOf(tag, counts int32) int32 { return tag<<8 | counts }

// count counts position p, whose word was w, once: 11.3. It says whether the word still stood.
func (g *ring) count(t *T, account Loc, p int, w int32) bool {
	tag := int32(p/g.n) + 1
	for range tries {
		v := t.Load("V8 acq", account)
		if !t.Skips("V9") && t.Load("V9 acq", g.s(p)) != w {
			return false
		}
		if v>>8 == tag || t.CAS("V8 acqrel", account, v, accountOf(tag, v&255+1)) {
			return true
		}
	}
	return false
}

// settle is V2 and V3 for the slot of position i: what d left there. The caller has the proof of death.
func (g *ring) settle(t *T, d, i int, account Loc) {
	w := t.Load("V2 acq", g.s(i))
	if k := kind(w); k == wFree || k == wReady || owner(w) != d {
		return
	}
	p, e := g.head(w, i), seq(w)
	if kind(w) == wTaken {
		g.giveBack(t, p, e, w)
		return
	}
	for q := e - 1; q > p; q-- {
		g.freeInterior(t, q)
	}
	if kind(w) == wDone || g.count(t, account, p, w) {
		t.CAS("V3 acqrel", g.s(p), w, free(p+g.n))
	}
}

// freeInterior frees the slot of q if it is still of its lap.
func (g *ring) freeInterior(t *T, q int) {
	for range tries {
		v := t.Load("V2 acq", g.s(q))
		if h := g.head(v, q); h != q || t.CAS("V3 acqrel", g.s(q), v, free(q+g.n)) {
			return
		}
	}
}

// giveBack is V3 for the lease [p, e), whose word is w.
func (g *ring) giveBack(t *T, p, e int, w int32) {
	first := p + 1
	if g.lengths != nil {
		first = p + int(t.Load("C3 acq", g.lengths[p%g.n])&15)
		if !t.Skips("V3, the second look") && t.Load("V3 acq", g.s(p)) != w {
			return
		}
	}
	for x := e - 1; x >= first; x-- {
		if v := t.Load("V2 acq", g.s(x)); g.head(v, x) == x && kind(v) == wReady && given(v) == 0 && seq(v) <= e {
			t.CAS("V3 acqrel", g.s(x), v, ready(seq(v), 1))
		}
	}
	t.CAS("V3 acqrel", g.s(p), w, ready(min(first, e), given(w)+1))
}
