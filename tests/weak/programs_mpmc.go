package weak

import "slices"

// The programs: small configurations of the algorithms, each with what must hold in it.

// program makes one.
func program(name string, f func(b *builder)) *Program {
	b := &builder{}
	b.Name = name
	f(b)
	return &b.Program
}

// inOrder says that the results are what was sent, in order, without a gap; received by one consumer.
func inOrder(got []int32, first int32) string {
	for i, id := range got {
		if id != first+int32(i) {
			return "out of order, lost or twice"
		}
	}
	return ""
}

// once says that no message was received twice.
func once(e *End) string {
	var all []int32
	for _, r := range e.Results {
		all = append(all, r...)
	}
	slices.Sort(all)
	if len(slices.Compact(slices.Clone(all))) != len(all) {
		return "a message is delivered twice"
	}
	return ""
}

// takes receives n messages at most, and reports them.
func (g *ring) takes(t *T, me, at, n, attempts int) {
	var seen int32
	for range attempts {
		var id int32
		if at, id = g.receive(t, me, at, &seen); id != 0 {
			t.Report(id)
			if n--; n == 0 {
				return
			}
		}
	}
}

func mpmcPrograms() []*Program {
	return []*Program{
		program("one slot", func(b *builder) {
			g := b.ring(true, free(0))
			b.thread(func(t *T) {
				for p := range 3 {
					for try := 0; !g.fast(t, 1, p); try++ {
						if try == 1 {
							return
						}
					}
					g.publish(t, p, 1, int32(p)+1)
				}
			})
			b.thread(func(t *T) { g.takes(t, 2, 0, 3, 4) })
			b.Check = func(e *End) string { return inOrder(e.Results[1], 1) }
		}),
		program("claims race", func(b *builder) {
			g := b.ring(true, free(0), free(1))
			b.thread(func(t *T) { g.send(t, 1, 0, 1, 1, true) })
			b.thread(func(t *T) { g.send(t, 2, 0, 1, 2, true) })
			b.thread(func(t *T) { g.takes(t, 3, 0, 2, 2) })
			b.Check = once
		}),
		program("two consumers", func(b *builder) {
			g := b.ring(true, ready(1, 0), free(1))
			b.thread(func(t *T) { g.send(t, 1, 1, 1, 1, true); g.send(t, 1, 2, 1, 2, false) })
			b.thread(func(t *T) { g.takes(t, 2, 0, 2, 2) })
			b.thread(func(t *T) { g.takes(t, 3, 0, 1, 1) })
			b.Check = once
		}),
		program("always a message", func(b *builder) { // so EMPTY is always wrong
			g := b.ring(false, ready(1, 0), free(1)).withHints(b, 1, 0)
			there := b.loc("there", 0)
			b.thread(func(t *T) {
				g.send(t, 1, 1, 1, 0, true)
				t.Signal(there, 1)
			})
			b.thread(func(t *T) {
				t.Await(there, 1)
				g.takes(t, 2, 0, 1, 1)
			})
			b.thread(func(t *T) {
				var seen int32
				if f := g.find(t, 0, &seen); !f.ok && f.p >= 0 {
					t.Fail("EMPTY on a ring that always has a message")
				}
			})
		}),
		program("always room", func(b *builder) { // so FULL is always wrong
			g := b.ring(false, free(2), free(3)).withHints(b, 2, 2)
			gone := b.loc("gone", 0)
			b.thread(func(t *T) {
				at := g.send(t, 1, 2, 1, 0, true)
				t.Await(gone, 1)
				g.send(t, 1, at, 1, 0, true)
			})
			b.thread(func(t *T) {
				var seen int32
				for range 2 {
					if _, id := g.receive(t, 2, 2, &seen); id != 0 {
						t.Signal(gone, 1)
						return
					}
				}
			})
			b.thread(func(t *T) { g.send(t, 3, 2, 1, 0, true) })
		}),
		program("always room for two", func(b *builder) {
			g := b.ring(false, free(0), free(1), free(2), free(3))
			b.thread(func(t *T) { g.send(t, 1, g.send(t, 1, 0, 1, 0, true), 1, 0, true) })
			b.thread(func(t *T) { g.send(t, 2, 0, 2, 0, true) })
		}),
		program("interior of a claim", func(b *builder) {
			g := b.ring(true, free(4), ready(2, 0), ready(3, 0), ready(4, 0))
			b.thread(func(t *T) { g.takes(t, 1, 1, 1, 1) })
			b.thread(func(t *T) { g.send(t, 2, 4, 2, 1, false) })
		}),
		program("interior of a release", func(b *builder) {
			g := b.ring(true, free(0), free(1), free(2), free(3))
			b.thread(func(t *T) {
				g.send(t, 1, 0, 2, 1, true)
				g.send(t, 1, 2, 2, 2, true)
			})
			b.thread(func(t *T) { g.takes(t, 2, 0, 1, 1) })
			b.thread(func(t *T) {
				g.send(t, 3, g.send(t, 3, 4, 1, 3, false), 1, 4, false)
			})
			b.Check = once
		}),
		program("batch", func(b *builder) {
			g := b.ring(true, free(0), free(1))
			b.thread(func(t *T) {
				if p, _ := g.claim(t, 1, 0, 2); p == 0 {
					g.fill(t, 0, 1, 1)
					g.fill(t, 1, 1, 2)
					t.Store("P5 rel", g.s(1), ready(2, 0))
					t.Store("P6 rel", g.s(0), ready(1, 0))
				}
			})
			b.thread(func(t *T) { g.takes(t, 2, 0, 2, 2) })
			b.thread(func(t *T) { g.takes(t, 3, 0, 2, 2) })
			b.Check = once
		}),
		program("padding", func(b *builder) { // slots 2 and 3 are padding before a message of two slots
			g := b.ring(true, free(4), free(5), free(2), free(3))
			b.thread(func(t *T) {
				if p, _ := g.claim(t, 1, 2, 4); p == 2 {
					g.fill(t, 4, 2, 1)
					t.Store("P5 rel", g.s(4), ready(6, 0))
					t.Store("P5 rel", g.s(3), free(7))
					t.Store("P6 rel", g.s(2), free(6))
				}
			})
			b.thread(func(t *T) { g.takes(t, 2, 2, 1, 2) })
			b.thread(func(t *T) { g.takes(t, 3, 2, 1, 1) })
			b.Check = once
		}),
		program("lease", func(b *builder) {
			g := b.ring(true, ready(1, 0))
			held := b.loc("held", 0)
			b.thread(func(t *T) {
				var seen int32
				f := g.find(t, 0, &seen)
				if id, ok := g.length(t, f); ok && g.lease(t, 1, f, 1, held) {
					if t.Read(g.cells[0]) != id {
						t.Fail("torn message")
					}
					g.release(t, 1, 0, 1)
				}
				t.Store("L4 rel", held, 0)
			})
			b.thread(func(t *T) { // a tick: who holds a lease is found by held
				if w := t.Load("C2 acq", g.s(0)); kind(w) == wTaken {
					if t.Load("V0 acq", held) == 0 && t.Load("C2 acq", g.s(0)) == w {
						t.Fail("a lease that no tick looks for")
					}
				}
			})
			b.thread(func(t *T) {
				if g.fast(t, 3, 1) {
					g.publish(t, 1, 1, 1)
				}
			})
		}),
		program("part of a lease", func(b *builder) {
			g := b.ring(false, ready(1, 0), ready(2, 0))
			held := b.loc("held", 0)
			b.thread(func(t *T) {
				var seen int32
				f := g.find(t, 0, &seen)
				if !f.ok || f.p != 0 || t.Load("C2 acq", g.s(1)) != ready(2, 0) || !g.lease(t, 1, f, 2, held) {
					return
				}
				t.Report(100)
				t.Report(101)
				t.Store("L3 rel", g.s(1), taken(2, 1, 0))
				g.release(t, 1, 0, 1)
			})
			b.thread(func(t *T) { g.takes(t, 2, 0, 1, 2) })
			b.Check = once
		}),
		program("lease of two slots", func(b *builder) {
			g := b.ring(true, taken(2, 1, 0), free(1), ready(3, 0), ready(4, 0))
			b.thread(func(t *T) {
				t.Read(g.cells[0])
				t.Read(g.cells[1])
				g.release(t, 1, 0, 2)
			})
			b.thread(func(t *T) { g.send(t, 2, g.send(t, 2, 4, 1, 1, false), 1, 2, false) })
			b.thread(func(t *T) { g.send(t, 3, 4, 2, 3, false) })
		}),
		program("return", func(b *builder) {
			g := b.ring(true, taken(1, 1, 0)).withReturns(b)
			b.thread(func(t *T) {
				t.Read(g.cells[0])
				w := t.Load("L3 rlx", g.s(0))
				t.Store("L3 rel", g.s(0), ready(seq(w), 1))
				t.Add("V4 rel", g.returns, 1)
			})
			b.thread(func(t *T) {
				var seen int32
				_, id := g.receive(t, 2, 1, &seen)
				if id == 0 && seen == 1 {
					t.Fail("a message that was given back is overlooked")
				}
			})
			b.thread(func(t *T) {
				if g.fast(t, 3, 1) {
					g.publish(t, 1, 1, 1)
				}
			})
		}),
		program("rescue", func(b *builder) { // participant 1 died with a lease
			g := b.ring(true, taken(1, 1, 0)).withReturns(b)
			account := b.loc("account", 0)
			for me := range 2 {
				b.thread(func(t *T) {
					g.settle(t, 1, 0, account)
					t.Add("V4 rel", g.returns, 1)
					if me == 0 {
						return
					}
					var seen int32
					if _, id := g.receive(t, 2, 1, &seen); id != 0 {
						t.Report(id)
					}
				})
			}
			b.thread(func(t *T) {
				var seen int32
				_, id := g.receive(t, 3, 1, &seen)
				if id == 0 && seen > 0 && t.Load("C2 acq", g.s(0)) == ready(1, 1) {
					t.Fail("a message that was given back is overlooked")
				}
				if id != 0 {
					t.Report(id)
				}
			})
			b.Check = once
		}),
	}
}
