package weak

// The C form of FORMAT 8. An event word is epoch and arrivals; a full fence is the one that FORMAT 8.4 asks for between publishing and N1.

const (
	epochShift = 8
	arrivals   = 1<<epochShift - 1
)

func epoch(v int32) int32 { return v >> epochShift }

// arrive is W1: the read-modify-write and the full fence that it is.
func arrive(t *T, e Loc) (key int32) {
	v := t.Add("W1 sc REQUIRED", e, 1)
	t.FenceIf("W1 sc REQUIRED")
	return epoch(v)
}

// pending is N1 with the full fence before it.
func pending(t *T, e Loc) bool {
	t.FenceIf("N1 sc REQUIRED")
	return t.Load("N1 sc REQUIRED", e)&arrivals != 0
}

// notify is N1..N3 for n sleepers, behind a look that found arrivals.
func notify(t *T, e Loc, n int32) {
	for range tries {
		v := t.Load("N1 sc REQUIRED", e)
		if v&arrivals == 0 {
			return
		}
		next := v + 1<<epochShift
		all := n >= v&arrivals
		if all {
			next &^= arrivals
		}
		if !t.CAS("N2 acqrel", e, v, next) {
			continue
		}
		if all {
			t.Wake(e, maxThreads)
		} else if t.Wake(e, n) == 0 {
			t.CAS("N3 acqrel", e, next, (next+1<<epochShift)&^arrivals)
		}
		return
	}
}

// notifyAll advances the epoch and wakes everybody.
func notifyAll(t *T, e Loc) {
	for range tries {
		v := t.Load("N4 acq", e)
		if t.CAS("N2 acqrel", e, v, (v+1<<epochShift)&^arrivals) {
			break
		}
	}
	t.Wake(e, maxThreads)
}

// missed is the property of a store-load pair: one of the two sides saw the other.
func missed(e *End) string {
	if e.Results[0][0] == 0 && e.Results[1][0] == 0 {
		return "lost wake-up"
	}
	return ""
}

func report(t *T, yes bool) {
	if yes {
		t.Report(1)
	} else {
		t.Report(0)
	}
}

// dekker is a program of two sides: publish and look at the arrivals; arrive and look.
func dekker(name string, initial int32, publish func(t *T, s Loc), look func(t *T, s Loc) bool) *Program {
	return program(name, func(b *builder) {
		s, e := b.loc("word", initial), b.loc("event", 0)
		b.thread(func(t *T) {
			publish(t, s)
			report(t, pending(t, e))
		})
		b.thread(func(t *T) {
			arrive(t, e)
			report(t, look(t, s))
		})
		b.Check = missed
	})
}

func waitPrograms() []*Program {
	isReady := func(row string) func(*T, Loc) bool {
		return func(t *T, s Loc) bool { return t.Load(row, s) == ready(1, 0) }
	}
	isFree := func(t *T, s Loc) bool { return t.Load("P1 acq", s) == free(1) }
	return []*Program{
		dekker("sleep P6", free(0), func(t *T, s Loc) { t.Store("P6 rel", s, ready(1, 0)) }, isReady("C2 acq")),
		dekker("sleep S4", 0, func(t *T, s Loc) { t.Store("S4 rel", s, ready(1, 0)) }, isReady("D1 acq")),
		dekker("sleep C4", ready(1, 0), func(t *T, s Loc) { t.CAS("C4 acqrel", s, ready(1, 0), free(1)) }, isFree),
		dekker("sleep L3", taken(1, 1, 0), func(t *T, s Loc) { t.Store("L3 rel", s, free(1)) }, isFree),
		dekker("sleep C5", done(1, 1), func(t *T, s Loc) { t.Store("C5 rel", s, free(1)) }, isFree),
		dekker("sleep D4", 0, func(t *T, s Loc) { t.Store("D4 rel", s, 1) }, func(t *T, s Loc) bool { return t.Load("S1 acq", s) == 1 }),

		// The publish is sc, and no fence is between it and N1.
		program("sleep P6 sc", func(b *builder) {
			s, e := b.loc("word", free(0)), b.loc("event", 0)
			b.thread(func(t *T) {
				t.Store("P6 sc", s, ready(1, 0))
				report(t, t.Load("N1 sc REQUIRED", e) != 0)
			})
			b.thread(func(t *T) {
				arrive(t, e)
				report(t, t.Load("C2 acq", s) == ready(1, 0))
			})
			b.Check = missed
		}),

		// The publish is a plain store with a plain load behind it; the sleeper's barrier stands in for the fence.
		program("sleep behind a barrier", func(b *builder) {
			s, e := b.loc("word", free(0)), b.loc("event", 0)
			b.thread(func(t *T) {
				t.Store("P6 rel", s, ready(1, 0))
				report(t, t.Peer("N1 sc REQUIRED", e) != 0)
			})
			b.thread(func(t *T) {
				t.Add("W1 sc REQUIRED", e, 1)
				t.Membarrier("W2 sc REQUIRED")
				report(t, t.Load("C2 acq", s) == ready(1, 0))
			})
			b.Check = missed
		}),

		// A session begins while somebody falls asleep: either the sleeper sees it and how it publishes, or its first N1 sees the sleeper.
		program("sleep while a session begins", func(b *builder) {
			s, e := b.loc("word", free(0)), b.loc("event", 0)
			registered, publish := b.loc("registered", 0), b.loc("publish", 1)
			b.thread(func(t *T) {
				t.Store("R3 rlx", publish, 2)
				t.Add("R4 sc", registered, 1)
				t.FenceIf("R4 sc")
				t.Store("P6 rel", s, ready(1, 0))
				report(t, t.Peer("N1 sc REQUIRED", e) != 0)
			})
			b.thread(func(t *T) {
				arrive(t, e)
				if t.Load("X5 acq", registered) == 1 && t.Load("W2 acq", publish) == 2 {
					t.Membarrier("W2 sc REQUIRED")
				}
				report(t, t.Load("C2 acq", s) == ready(1, 0))
			})
			b.Check = missed
		}),
		program("sleeper", func(b *builder) { // and two messages, each with a notification of its own
			g := b.ring(false, free(0), free(1))
			e := b.loc("event", 0)
			b.thread(func(t *T) {
				for p := range 2 {
					t.Store("P6 rel", g.s(p), ready(p+1, 0))
					if pending(t, e) {
						notify(t, e, 1)
					}
				}
			})
			b.thread(func(t *T) { g.sleeper(t, 1, e) })
			b.Check = func(end *End) string {
				if end.Asleep[1] {
					return "lost wake-up"
				}
				return once(end)
			}
		}),
		program("a wake-up that meets nobody", func(b *builder) { // two have arrived and were killed
			s, e := b.loc("word", free(0)), b.loc("event", 2)
			b.thread(func(t *T) {
				t.Store("P6 rel", s, ready(1, 0))
				if pending(t, e) {
					notify(t, e, 1)
				}
			})
			b.thread(func(t *T) {
				for range 3 {
					key := arrive(t, e)
					if t.Load("C2 acq", s) == ready(1, 0) {
						return
					}
					t.Sleep(e, key)
				}
			})
			b.Check = func(end *End) string {
				if end.Asleep[1] {
					return "lost wake-up"
				}
				return ""
			}
		}),
		program("removal", func(b *builder) {
			removed, e := b.loc("removed", 0), b.loc("event", 0)
			b.thread(func(t *T) {
				t.Store("X6 rel", removed, 1)
				notifyAll(t, e)
			})
			b.thread(func(t *T) {
				key := arrive(t, e)
				for range 3 {
					if t.Load("X6 acq", removed) == 1 {
						return
					}
					t.Sleep(e, key)
					if v := t.Load("W5 acq", e); epoch(v) != key {
						key = arrive(t, e)
					}
				}
				t.Fail("the removal is overlooked")
			})
			b.Check = func(end *End) string {
				if end.Asleep[1] {
					return "lost wake-up"
				}
				return ""
			}
		}),
	}
}

// sleeper takes one message, and sleeps for it. After a sleep it does not arrive again while its arrival stands.
func (g *ring) sleeper(t *T, me int, e Loc) {
	at, seen := 0, int32(0)
	key, arrived := int32(0), false
	for range 4 {
		var id int32
		if arrived && t.Skips("W3") {
			t.Sleep(e, key)
			arrived = false
			continue
		}
		if at, id = g.receive(t, me, at, &seen); id != 0 {
			t.Report(id)
			if pending(t, e) { // the baton, for what lies behind
				if f := g.find(t, at, &seen); f.ok {
					notify(t, e, 1)
				}
			}
			return
		}
		if !arrived {
			key, arrived = arrive(t, e), true
			continue
		}
		t.Sleep(e, key)
		v := t.Load("W5 acq", e)
		arrived = epoch(v) == key && v&arrivals != 0
	}
}
