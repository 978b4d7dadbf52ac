package weak

// exact gives the property that a successor finds: each of the messages at 0 .. n-1 was delivered once, and says so.
func (g *spsc) marked(t *T, n int) {
	for x := range n {
		w := t.Load("D1 acq", g.s(x))
		l := t.Load("D2 rlx", g.lengths[x%g.n])
		switch e, ok := g.valid(w, x); {
		case !ok || e != x+1 || l&15 != 1 || l>>4 != 10+int32(x):
			t.Fail("a leased message is gone, or has another length")
		case given(w) != 1:
			t.Fail("wrong delivery count")
		}
	}
}

// first is the length word of the message that the ring has in slot i at first.
func first(i int) int32 { return length(10+int32(i), 1) }

func spscPrograms() []*Program {
	var all []*Program
	for _, coarse := range []bool{false, true} {
		name := map[bool]string{false: "spsc copy", true: "spsc copy by strides"}[coarse]
		all = append(all, program(name, func(b *builder) {
			g := b.spsc(0, 0).withSpace(b, 0)
			b.thread(func(t *T) {
				for p := range 3 {
					if !g.room(t, p+1, coarse) {
						return
					}
					g.payload(t, p, 1, int32(p)+1)
					g.put(t, p, 1, length(int32(p)+1, 1))
					t.Store("S5 rel", g.producer, int32(p)+1)
				}
			})
			b.thread(func(t *T) {
				h := 0
				for range 4 {
					e, id := g.take(t, h)
					if e == h {
						continue
					}
					t.Report(id)
					g.pass(t, e)
					h = e
				}
			})
			b.Check = func(e *End) string { return inOrder(e.Results[1], 1) }
		}))
	}
	return append(all,
		program("spsc padding", func(b *builder) { // slot 3 is padding before a message of two slots
			g := b.spsc(0, 0, 0, ready(4, 0)).withSpace(b, 7)
			b.thread(func(t *T) {
				t.Store("S3 rlx", g.lengths[3], flagPad)
				t.Store("S2 rel", g.s(7), ready(8, 0))
				g.payload(t, 8, 2, 1)
				g.put(t, 8, 2, length(1, 2))
			})
			b.thread(func(t *T) {
				h := 7
				for range 3 {
					e, id := g.take(t, h)
					if id != 0 {
						t.Report(id)
					}
					h = e
				}
			})
			b.Check = func(e *End) string { return inOrder(e.Results[1], 1) }
		}),
		program("spsc run", func(b *builder) {
			g := b.spsc(0, 0)
			b.thread(func(t *T) {
				g.payload(t, 0, 1, 1)
				g.payload(t, 1, 1, 2)
				t.Store("S3 rlx", g.lengths[0], flagRun|1)
				t.Store("S4 rel", g.s(0), ready(2, 0))
			})
			b.thread(func(t *T) {
				if _, ok := g.valid(t.Load("D1 acq", g.s(0)), 0); !ok {
					return
				}
				if t.Load("D2 rlx", g.lengths[0]) != flagRun|1 || t.Read(g.cells[0]) != 1 || t.Read(g.cells[1]) != 2 {
					t.Fail("torn run")
				}
			})
		}),
		program("spsc observer of the producer", func(b *builder) {
			g := b.spsc(0, 0).withSpace(b, 0)
			b.thread(func(t *T) {
				for p := range 2 {
					t.Store("S4 rel", g.s(p), ready(p+1, 0))
					t.Store("S5 rel", g.producer, int32(p)+1)
				}
			})
			b.thread(func(t *T) {
				end := int(t.Load("S5 acq", g.producer))
				for p := range end {
					if _, ok := g.valid(t.Load("D1 acq", g.s(p)), p); !ok {
						t.Fail("an observer misses what lies below producer_position")
					}
				}
			})
		}),
		program("spsc observer of the consumer", func(b *builder) { // there is always a message
			g := b.spsc(ready(1, 0), 0)
			b.thread(func(t *T) { t.Store("S4 rel", g.s(1), ready(2, 0)) })
			b.thread(func(t *T) {
				if _, ok := g.valid(t.Load("D1 acq", g.s(1)), 1); ok {
					t.Store("D4 rel", g.consumer, 1)
				}
			})
			b.thread(func(t *T) {
				h := int(t.Load("D4 acq", g.consumer))
				if _, ok := g.valid(t.Load("D1 acq", g.s(h)), h); !ok {
					t.Fail("an observer finds nothing where a message is")
				}
			})
		}),
		program("spsc: a reservation of the dead", func(b *builder) {
			g := b.spsc(0, 0).withReserved(b)
			d := b.mortal(func(t *T) {
				t.Store("S3 rlx", g.reserved, 1)
				t.Report(1)
				g.payload(t, 0, 1, 1)
				g.put(t, 0, 1, length(1, 1))
				t.Report(2)
				t.Store("S5 rel", g.reserved, 0)
				t.Store("S5 rel", g.producer, 1)
				t.Load("D1 acq", g.s(0))
			})
			b.thread(func(t *T) {
				t.Proof(d)
				at := g.adoptProducer(t)
				g.payload(t, at, 1, 2)
				g.put(t, at, 1, length(2, 1))
				for x := range at {
					if _, ok := g.valid(t.Load("D1 acq", g.s(x)), x); !ok {
						t.Fail("a hole that no consumer passes")
					}
				}
				report(t, t.Load("D2 rlx", g.lengths[0])&flagSkip == 0 && at == 1)
			})
			b.thread(func(t *T) {
				h := 0
				for range 3 {
					h, _ = g.take(t, h)
				}
			})
			b.Check = func(e *End) string {
				if len(e.Results[0]) == 2 && len(e.Results[1]) == 1 && e.Results[1][0] == 0 && e.Last[g.account] == 0 {
					return "an abandoned reservation is not counted"
				}
				return ""
			}
		}),
		program("spsc: positions of the dead", func(b *builder) {
			g := b.spsc(0, 0).withReserved(b)
			d := b.mortal(func(t *T) {
				for p := range 2 {
					t.Store("S4 rel", g.s(p), ready(p+1, 0))
					t.Store("S5 rel", g.producer, int32(p)+1)
				}
				t.Load("D1 acq", g.s(0))
			})
			b.thread(func(t *T) {
				t.Proof(d)
				for x := range g.adoptProducer(t) {
					if _, ok := g.valid(t.Load("D1 acq", g.s(x)), x); !ok {
						t.Fail("a hole that no consumer passes")
					}
				}
			})
		}),
		program("spsc: a give-back that is repeated", func(b *builder) { // somebody died with a lease of [0, 2); the one who settles it dies too
			g := b.spsc(ready(1, 0), ready(2, 0)).withLease(b, 2)
			d := b.mortal(func(t *T) {
				g.adoptConsumer(t)
				t.Load("D1 acq", g.s(0))
			})
			b.thread(func(t *T) {
				t.Proof(d)
				g.adoptConsumer(t)
				g.marked(t, 2)
			})
		}),
		program("spsc: a run that is rewritten", func(b *builder) {
			g := b.spsc(ready(2, 0), 0).withLease(b, 2)
			b.Initial[g.lengths[0]] = flagRun | first(0)
			b.Initial[g.lengths[1]] = length(9, 2)
			d := b.mortal(func(t *T) {
				g.explode(t, 0, 2)
				t.Load("D1 acq", g.s(0))
			})
			b.thread(func(t *T) {
				t.Proof(d)
				g.explode(t, 0, 2)
				g.giveBack(t, 0, 2)
				for x := range 2 { // both messages of the run have its length
					w, l := t.Load("D1 acq", g.s(x)), t.Load("D2 rlx", g.lengths[x])
					if e, ok := g.valid(w, x); !ok || e != x+1 || l != first(0) || given(w) != 1 {
						t.Fail("a message of a run is gone, or has another length")
					}
				}
			})
		}),
		program("spsc: inside a run of the dead", func(b *builder) {
			g := b.spsc(ready(2, 0), 0).withLease(b, 0)
			b.Initial[g.lengths[0]] = flagRun | first(0)
			d := b.mortal(func(t *T) {
				t.Store("D2 rlx", g.runLength, first(0))
				t.Store("D2 rel", g.runEnd, 2)
				t.Store("L2 rel", g.leaseEnd, 1)
				t.Store("D4 rel", g.consumer, 1)
				t.Load("D1 acq", g.s(0))
			})
			b.thread(func(t *T) {
				t.Proof(d)
				h, leased := int(t.Load("D4 acq", g.consumer)), int(t.Load("L2 acq", g.leaseEnd))
				if leased > h {
					g.explode(t, h, leased)
					return
				}
				if _, ok := g.valid(t.Load("D1 acq", g.s(h)), h); ok {
					return
				}
				if e, word, inside := g.insideRun(t, h); !inside || e != 2 || word != flagRun|first(0) {
					t.Fail("a successor does not know the run")
				}
			})
		}),
		program("spsc: leases of the dead", func(b *builder) { // one message released, the next leased
			g := b.spsc(ready(1, 0), ready(2, 0)).withLease(b, 0)
			d := b.mortal(func(t *T) {
				t.Store("L2 rel", g.leaseEnd, 1)
				t.Store("D4 rel", g.consumer, 1)
				t.Report(1)
				t.Store("L2 rel", g.leaseEnd, 2)
				t.Report(2)
				t.Load("D1 acq", g.s(0))
			})
			b.thread(func(t *T) {
				t.Proof(d)
				g.adoptConsumer(t)
				t.Report(given(t.Load("D1 acq", g.s(0))))
			})
			b.Check = func(e *End) string {
				if len(e.Results[0]) == 2 && len(e.Results[1]) == 1 && e.Results[1][0] != 0 {
					return "given back after its release"
				}
				return ""
			}
		}),
	)
}
