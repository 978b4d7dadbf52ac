package weak

// Sessions, recovery and the end of the stream: FORMAT 7, 11 and 12.

// sessions are the producer sessions of a program.
type sessions struct {
	registered, closed, died []Loc
	roster                   Loc
}

func (b *builder) sessions(registered ...int32) *sessions {
	s := &sessions{roster: b.loc("roster", 0)}
	for _, n := range registered {
		s.registered = append(s.registered, b.loc("registered", n))
		s.closed = append(s.closed, b.loc("closed", 0))
		s.died = append(s.died, b.loc("died", 0))
	}
	return s
}

func (s *sessions) open(t *T, id int) bool {
	return t.Load("X5 acq", s.registered[id])-t.Load("X5 acq", s.closed[id])-t.Load("X5 acq", s.died[id]) == 1
}

func (s *sessions) begin(t *T, id int) {
	t.Add("R4 sc", s.registered[id], 1)
	t.FenceIf("R4 sc")
	t.Add("R5 rel", s.roster, 1)
}

func (s *sessions) close(t *T, id int) {
	t.Add("X2 rel", s.closed[id], 1)
	t.Add("X3 rel", s.roster, 1)
}

// ended is FORMAT 12 from the candidate at.
func (s *sessions) ended(t *T, g *ring, at int) bool {
	roster := t.Load("E1 acq", s.roster)
	for id := range s.registered {
		if !t.Skips("12.2") && s.open(t, id) {
			return false
		}
	}
	var seen int32
	if !t.Skips("12.3") && g.find(t, at, &seen).ok {
		return false
	}
	for _, x := range g.words {
		if t.Skips("12.4") {
			break
		}
		if k := kind(t.Load("C2 acq", x)); k != wFree && k != wDone {
			return false
		}
	}
	return t.Skips("12.5") || t.Load("E1 acq", s.roster) == roster
}

func sessionPrograms() []*Program {
	return []*Program{
		program("creation", func(b *builder) {
			word, position, isReady := b.loc("S0", 0), b.loc("producer_position", 0), b.loc("ready", 0)
			b.thread(func(t *T) {
				t.Store("F0 rlx", word, free(8))
				t.Store("F0 rlx", position, 8)
				t.Store("F1 rel", isReady, 1)
			})
			b.thread(func(t *T) {
				if t.Load("F2 acq", isReady) == 1 && (t.Load("P0 acq", position) != 8 || t.Load("C2 acq", word) != free(8)) {
					t.Fail("a ring is seen that is not ready")
				}
			})
			b.Check = func(e *End) string {
				if e.Last[isReady] != 1 {
					return "a ring that nobody can open"
				}
				return ""
			}
		}),
		program("a message that another consumer holds", func(b *builder) { // it may come back, so the stream has not ended
			g := b.ring(false, taken(1, 2, 0))
			s := b.sessions(1)
			b.thread(func(t *T) { s.close(t, 0) })
			b.thread(func(t *T) {
				if s.ended(t, g, 0) {
					t.Fail("the stream ends while a message is leased")
				}
			})
		}),
		program("type", func(b *builder) {
			typed := b.loc("typed", 0)
			for me := range int32(2) {
				b.thread(func(t *T) {
					if t.Load("Y1 acq", typed) == 0 && t.CAS("Y1 acqrel", typed, 0, me+7) {
						t.Report(1)
					}
				})
			}
			b.Check = func(e *End) string {
				if e.Last[0] == 0 || len(e.Results[0])+len(e.Results[1]) != 1 {
					return "two types of one ring"
				}
				return ""
			}
		}),
		program("last message before the close", func(b *builder) {
			g := b.ring(false, free(0))
			s := b.sessions(1)
			b.thread(func(t *T) {
				t.Store("P6 rel", g.s(0), ready(1, 0))
				s.close(t, 0)
			})
			b.thread(func(t *T) {
				if s.ended(t, g, 0) {
					t.Fail("the stream ends before its last message")
				}
			})
		}),
		program("producers take turns", func(b *builder) { // session 0 begins before session 1 ends, so the stream never ends
			g := b.ring(false, free(0))
			s := b.sessions(0, 1)
			begun := b.loc("begun", 0)
			b.thread(func(t *T) {
				s.begin(t, 0)
				t.Signal(begun, 1)
			})
			b.thread(func(t *T) {
				t.Await(begun, 1)
				s.close(t, 1)
			})
			b.thread(func(t *T) {
				if s.ended(t, g, 0) {
					t.Fail("the stream ends while a producer is there")
				}
			})
		}),
		program("poll the roster after a close", func(b *builder) {
			s := b.sessions(1)
			b.thread(func(t *T) { s.close(t, 0) })
			b.thread(func(t *T) {
				if t.Load("E1 acq", s.roster) == 1 && s.open(t, 0) {
					t.Fail("a close is noticed late")
				}
			})
			b.Check = func(e *End) string {
				if e.Last[s.roster] != 1 {
					return "a close is noticed late"
				}
				return ""
			}
		}),
		program("poll the roster after a death", func(b *builder) {
			g := b.ring(false, free(0))
			s := b.sessions(1)
			account := b.loc("account", 0)
			d := b.mortal(func(t *T) {
				t.CAS("P3 acqrel", g.s(0), free(0), claimed(1, 1))
				t.Store("P6 rel", g.s(0), ready(1, 0))
				t.Store("P7 rel", account, 0) // something to die before
			})
			b.thread(func(t *T) {
				t.Proof(d)
				g.settle(t, 1, 0, account)
				s.retire(t, 0)
			})
			b.thread(func(t *T) {
				if t.Load("E1 acq", s.roster) == 1 && s.open(t, 0) {
					t.Fail("a death is noticed late")
				}
			})
			b.Check = func(e *End) string {
				if e.Dead[0] && e.Last[s.roster] != 1 {
					return "a death is noticed late"
				}
				return ""
			}
		}),
		program("last message before a death", func(b *builder) {
			g := b.ring(false, free(0))
			s := b.sessions(1)
			account := b.loc("account", 0)
			d := b.mortal(func(t *T) {
				t.Store("P6 rel", g.s(0), ready(1, 0))
				t.Report(1)
				t.Store("P7 rel", account, 0)
			})
			for range 2 {
				b.thread(func(t *T) {
					t.Proof(d)
					g.settle(t, 1, 0, account)
					s.retire(t, 0)
				})
			}
			b.thread(func(t *T) { report(t, s.ended(t, g, 0)) })
			b.Check = func(e *End) string {
				if e.Dead[0] && e.Last[g.s(0)] == ready(1, 0) && len(e.Results[3]) > 0 && e.Results[3][0] == 1 {
					return "the stream ends before its last message"
				}
				if e.Dead[0] && e.Last[s.died[0]] != 1 {
					return "a death is not counted once"
				}
				return ""
			}
		}),
		program("a claim of the dead", func(b *builder) {
			g := b.ring(true, free(0))
			account := b.loc("account", 0)
			d := b.mortal(func(t *T) {
				if g.fast(t, 1, 0) {
					t.Report(1)
					g.fill(t, 0, 1, 1)
					t.Store("P6 rel", g.s(0), ready(1, 0))
					t.Report(2)
					t.Load("C2 acq", g.s(0))
				}
			})
			for range 2 {
				b.thread(func(t *T) {
					t.Proof(d)
					g.settle(t, 1, 0, account)
				})
			}
			b.thread(func(t *T) {
				for range 2 {
					if g.fast(t, 3, 1) {
						g.publish(t, 1, 1, 1)
						return
					}
				}
			})
			b.Check = func(e *End) string {
				skipped := e.Last[account] & 255
				if abandoned := e.Dead[0] && len(e.Results[0]) == 1; abandoned != (skipped == 1) && len(e.Results[0]) != 2 {
					return "skipped is not the number of abandoned claims"
				}
				return ""
			}
		}),
		program("a late recoverer", func(b *builder) { // participant 1 is dead; participant 2 dies in the next lap
			g := b.ring(false, claimed(1, 1))
			account := b.loc("account", 0)
			b.thread(func(t *T) {
				g.settle(t, 1, 0, account)
				if g.fast(t, 2, 1) {
					g.settle(t, 2, 1, account)
				}
			})
			b.thread(func(t *T) { g.settle(t, 1, 0, account) })
			b.Check = func(e *End) string {
				if want := int32(seq(e.Last[g.s(0)])); e.Last[account]&255 > want {
					return "a claim is counted twice"
				}
				return ""
			}
		}),
		program("a claim of two slots of the dead", func(b *builder) {
			g := b.ring(false, claimed(2, 1), free(1), free(2), free(3))
			account := b.loc("account", 0)
			for range 2 {
				b.thread(func(t *T) { g.settle(t, 1, 0, account) })
			}
			b.thread(func(t *T) {
				if p, _ := g.claim(t, 3, 4, 2); p == 4 {
					t.Store("P6 rel", g.s(4), ready(6, 0))
					t.Report(1)
				}
			})
			b.Check = func(e *End) string {
				if len(e.Results[2]) == 1 && e.Last[g.s(4)] != ready(6, 0) {
					return "a claim was taken from a live producer"
				}
				return ""
			}
		}),
		program("a lease of the dead", func(b *builder) {
			g := b.ring(true, ready(1, 0)).withReturns(b)
			held, account := b.loc("held", 0), b.loc("account", 0)
			d := b.mortal(func(t *T) {
				f := found{0, ready(1, 0), true}
				if _, ok := g.length(t, f); ok && g.lease(t, 1, f, 1, held) {
					t.Read(g.cells[0])
					g.release(t, 1, 0, 1)
					t.Store("L4 rel", held, 0)
					t.Report(10)
					t.Load("C2 acq", g.s(0))
				}
			})
			b.thread(func(t *T) {
				t.Proof(d)
				g.settle(t, 1, 0, account)
				t.Add("V4 rel", g.returns, 1)
			})
			b.thread(func(t *T) {
				var seen int32
				if _, id := g.receive(t, 2, 1, &seen); id != 0 {
					t.Report(id)
				} else if seen == 1 && t.Load("C2 acq", g.s(0)) == ready(1, 1) {
					t.Fail("a message that was given back is overlooked")
				}
			})
			b.thread(func(t *T) {
				if g.fast(t, 3, 1) {
					g.publish(t, 1, 1, 1)
				}
			})
			b.Check = once
		}),
		program("a lease of two messages of the dead", func(b *builder) {
			g := b.ring(true, taken(2, 1, 0), ready(2, 0))
			account := b.loc("account", 0)
			for range 2 {
				b.thread(func(t *T) { g.settle(t, 1, 0, account) })
			}
			b.thread(func(t *T) {
				for p := range 2 {
					if w := t.Load("C2 acq", g.s(p)); kind(w) == wReady && given(w) == 1 && t.CAS("C4 acqrel", g.s(p), w, free(p+2)) {
						t.Report(int32(p) + 1)
					}
				}
				if g.fast(t, 3, 2) {
					g.publish(t, 2, 1, 1)
				}
			})
			b.Check = func(e *End) string {
				if w := e.Last[g.s(1)]; kind(w) != wFree && w != ready(2, 1) {
					return "a message is not given back"
				}
				return once(e)
			}
		}),
	}
}

// retire is V6 for session id; the caller holds the proof of death.
func (s *sessions) retire(t *T, id int) {
	died := t.Load("V6 acq", s.died[id])
	now := t.Load("V6 acq", s.registered[id]) - t.Load("V6 acq", s.closed[id])
	if now != died && t.CAS("V6 acqrel", s.died[id], died, now) {
		t.Add("V6 rel", s.roster, 1)
	}
}
