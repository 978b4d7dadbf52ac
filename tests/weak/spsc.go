package weak

// The C form of FORMAT 10. A state word is READY of an end, or 0; it is valid for p when its end is at most N behind p.

const (
	flagRun int32 = 1 << (20 + iota)
	flagPad
	flagSkip
)

// spsc is the memory of an SPSC ring: the parts that a program needs.
type spsc struct {
	*ring
	space, consumer, producer   Loc
	reserved, leaseEnd, journal Loc
	runEnd, runLength, account  Loc
}

func (b *builder) spsc(words ...int32) *spsc {
	g := &spsc{ring: b.ring(true, words...)}
	g.consumer = b.loc("consumer_position", 0)
	return g
}

// withSpace gives the ring what both sides use while they live.
func (g *spsc) withSpace(b *builder, at int) *spsc {
	g.space = b.loc("space_position", int32(at))
	b.Initial[g.consumer] = int32(at)
	g.producer = b.loc("producer_position", int32(at))
	return g
}

// withReserved gives it what a producer leaves to its successor.
func (g *spsc) withReserved(b *builder) *spsc {
	g.producer, g.reserved, g.account = b.loc("producer_position", 0), b.loc("reserved_position", 0), b.loc("account", 0)
	return g
}

// withLease gives it what a consumer leaves to its successor.
func (g *spsc) withLease(b *builder, end int) *spsc {
	g.leaseEnd, g.journal = b.loc("lease_end", int32(end)), b.loc("journal", 0)
	g.runEnd, g.runLength = b.loc("run_end", 0), b.loc("run_length", 0)
	return g
}

// valid says whether w speaks for position p, and to where.
func (g *spsc) valid(w int32, p int) (e int, ok bool) {
	e = seq(w)
	return e, kind(w) == wReady && e > p && e-p <= g.n
}

// room is S1 up to e: first the space given back in strides, then, unless coarse, the exact position.
func (g *spsc) room(t *T, e int, coarse bool) bool {
	for range tries {
		if e-int(t.Load("S1 acq", g.space)) <= g.n {
			return true
		}
		if !coarse && e-int(t.Load("S1 acq", g.consumer)) <= g.n {
			return true
		}
	}
	return false
}

// put is S3 and S4: message id in k slots at p, or, with flags, something else.
func (g *spsc) put(t *T, p, k int, word int32) {
	t.Store("S3 rlx", g.lengths[p%g.n], word)
	t.Store("S4 rel", g.s(p), ready(p+k, 0))
}

func (g *spsc) payload(t *T, p, k int, id int32) {
	for q := p; q < p+k; q++ {
		t.Write(g.cells[q%g.n], id)
	}
}

// take is D1..D3 at h. A message of k slots goes on at e.
func (g *spsc) take(t *T, h int) (e int, id int32) {
	e, ok := g.valid(t.Load("D1 acq", g.s(h)), h)
	if !ok {
		return h, 0
	}
	l := t.Load("D2 rlx", g.lengths[h%g.n])
	if l&flagPad != 0 {
		return e, 0
	}
	if int(l&15) != e-h {
		t.Fail("corrupt length word")
	}
	id = l >> 4
	for q := h; q < e; q++ {
		if t.Read(g.cells[q%g.n]) != id {
			t.Fail("torn message")
		}
	}
	return e, id
}

// pass is D4 and D5.
func (g *spsc) pass(t *T, e int) {
	t.Store("D4 rel", g.consumer, int32(e))
	t.Store("D5 rel", g.space, int32(e))
}

// adoptProducer is 10.3. It returns where the new producer goes on.
func (g *spsc) adoptProducer(t *T) int {
	at := int(t.Load("P0 acq", g.producer))
	for range g.n {
		e, ok := g.valid(t.Load("D1 acq", g.s(at)), at)
		if !ok {
			break
		}
		at = e
	}
	if t.Load("S5 acq", g.reserved) == int32(at)+1 {
		w := t.Load("V9 acq", g.s(at))
		g.count(t, g.account, at, w)
		g.put(t, at, 1, flagPad|flagSkip)
		at++
	}
	t.Store("S5 rel", g.reserved, 0)
	t.Store("S5 rel", g.producer, int32(at))
	return at
}

// insideRun says whether x is inside the run that was entered last.
func (g *spsc) insideRun(t *T, x int) (e int, word int32, ok bool) {
	e = int(t.Load("D2 acq", g.runEnd))
	word = t.Load("D2 rlx", g.runLength) | flagRun
	return e, word, e > x && e-x <= g.n
}

// explode rewrites the runs of [from, to) as single entries, the last first: 10.4.1.
func (g *spsc) explode(t *T, from, to int) {
	for x := from; x < to; {
		e, ok := g.valid(t.Load("D1 acq", g.s(x)), x)
		word := t.Load("D2 rlx", g.lengths[x%g.n])
		if !ok {
			var inside bool
			if e, word, inside = g.insideRun(t, x); !inside {
				t.Fail("nothing where a lease was")
			}
		}
		if word&flagRun != 0 {
			for m := e - 1; m > x; m-- {
				g.single(t, m, word&^flagRun)
			}
			if ok {
				t.Store("J4 rel", g.s(x), ready(x+1, 0))
			}
			g.single(t, x, word&^flagRun)
		}
		x = e
	}
}

// single makes the entry at m that of one message of one slot.
func (g *spsc) single(t *T, m int, word int32) {
	t.Store("S3 rel", g.lengths[m%g.n], word)
	t.Store("J4 rel", g.s(m), ready(m+1, 0))
}

// giveBack is 10.4.3: the messages of [from, to) in ascending order, by the journal.
func (g *spsc) giveBack(t *T, from, to int) {
	was := t.Load("J1 acq", g.journal)
	for x := from; x < to; {
		w := t.Load("D1 acq", g.s(x))
		e, ok := g.valid(w, x)
		if !ok {
			t.Fail("nothing where a lease was")
		}
		t.Load("D2 rlx", g.lengths[x%g.n])
		r, at := given(w)+1, int(was>>8)
		if was != 0 && at == x {
			r = was & 255
		}
		if was == 0 || at <= x {
			t.Store("J1 rel", g.journal, int32(x)<<8|r)
			t.Store("J2 rel", g.s(x), ready(e, r))
		}
		x = e
	}
	t.Store("J3 rel", g.leaseEnd, int32(from))
	t.Store("J1 rel", g.journal, 0)
}

// adoptConsumer is 10.4. It returns where reading goes on.
func (g *spsc) adoptConsumer(t *T) int {
	h, leased := int(t.Load("D4 acq", g.consumer)), int(t.Load("L2 acq", g.leaseEnd))
	if leased <= h || leased-h > g.n {
		t.Store("J1 rel", g.journal, 0)
		return h
	}
	g.explode(t, h, leased)
	g.giveBack(t, h, leased)
	return h
}
