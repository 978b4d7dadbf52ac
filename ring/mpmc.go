package ring

import (
	"github.com/cd1900cf/millrace/internal/atomicx"
	"github.com/cd1900cf/millrace/internal/testpoint"
)

// The MPMC ring, docs/FORMAT.md section 9.
//
// After Dmitry Vyukov, "Bounded MPMC queue" (1024cores.net): one sequence word per slot. The deviation is where a claim happens. There a
// producer claims by moving a shared index, and the slot learns of it later; a death in between leaves a hole that nobody owns. Here the claim
// is a CAS on the slot's own word, and the word names the owner, the end of the extent and the lap. So every word says at every instant who
// may act on it, one CAS by a recoverer repairs it, and the shared positions are hints that may lag or be wrong.
//
// Who owns a slot, and which store hands it over:
//
//	FREE     nobody      -> CLAIMED by a producer's CAS (P3)
//	CLAIMED  producer    -> READY by its store (P6), FREE by a discard or by a recoverer
//	READY    the ring    -> FREE, DONE by a copying consumer's CAS (C4); TAKEN by a leasing one's (L2)
//	TAKEN    consumer    -> FREE, DONE by its store (L3); READY by a give-back or a recoverer
//	DONE     consumer    -> FREE by its store (C5) or by a recoverer
//
// Invariants: I1 a position is claimed only when every lower one has been; I2 READY with no give-backs at p means that no consumer has passed p;
// I3 the interior of an extent is changed by its owner only, and freed from the last slot to the first; I4 any word but FREE(p) or one of the lap before
// means that p has been claimed. Producers and consumers walk from word to word by these, never by the hints alone.

// hintEvery is how many positions go by between two stores of a position hint. A hint saves others a walk, and in an SPSC ring a successor rests on
// it being at most N/2 + 8 behind (FORMAT 3.2).
const hintEvery = 8

// hintSmall is the ring size up to which hints are stored every time: a lap must not go by between two.
const hintSmall = 8 * hintEvery

// mpmcSend sends one message. Progress: lock-free; a retry means that another producer claimed.
func (p *Producer) mpmcSend(msg []byte) error {
	c := p.c
	n := uint64(len(msg))
	if n > c.maxMessage {
		return p.tooLarge(n)
	}
	k := c.slotsFor(n)
	head, at, err := p.mpmcClaim(k)
	if err != nil {
		return err
	}
	to, word := c.place(at, n)
	put(to, msg)
	testpoint.Hit("P4 payload")
	p.mpmcPublish(head, at, at+k, n, word)
	return nil
}

// advance notes what was committed or given up in [head, end), after the fact.
func (p *Producer) advance(head, end, messages uint64) {
	p.pos = end
	if (head^end)/hintEvery != 0 || p.c.slots <= hintSmall {
		atomicx.StoreRelease(&p.c.ctl.producerPosition, end) // order: P7 rel, pairs P0
		testpoint.Hit("P7")
		p.reached(end)
	}
	bump(&p.me.sent, messages)
	testpoint.Hit("P7 counted")
}

// mpmcClaim claims k slots that do not wrap, P0..P3. It returns the head of the extent and the position of the message behind the padding.
func (p *Producer) mpmcClaim(k uint64) (head, at uint64, err error) {
	c := p.c
	t := p.pos
	for step := 0; step < c.maxSteps; step++ {
		s := c.state(t)
		w := s.Load() // order: P1 acq, pairs C4 C5 L3
		stand, e := stand(w, t, c.slots)
		switch stand {
		case standFree:
			at = t + c.pad(t, k)
			e = at + k
			if q := c.firstUsed(t+1, e); q != e {
				if s.Load() != w { // order: P2 acq, pairs P3: t was claimed meanwhile, so nothing is known about q
					continue
				}
				return 0, 0, p.full(q)
			}
			// order: P3 acqrel, pairs C4 C5 L3 and C2
			if s.CompareAndSwap(w, claimedWord(e, p.id)) {
				testpoint.Hit("P3")
				if at != t {
					bump(&p.me.padding, at-t)
				}
				return t, at, nil
			}
		case standOld:
			p.pos = t
			return 0, 0, p.full(t)
		case standPassed:
			t = later(beyond(w, t, e, c.slots), c.hint(c.ctl.producerPosition.Load(), t)) // order: P0 acq, pairs P7
		case standCorrupt:
			return 0, 0, corrupt("state word", t, w)
		default: // claimed by somebody
			t = later(e, c.hint(c.ctl.producerPosition.Load(), t)) // order: P0 acq, pairs P7
		}
	}
	return 0, 0, corrupt("state word", t, c.state(t).Load()) // order: P1 acq, pairs C4 C5 L3
}

// hint returns position h if it can be reached from p by ordinary traffic, otherwise p: a hint is input.
func (c *core) hint(h, p uint64) uint64 {
	if h-p < 1<<40 {
		return h
	}
	return p
}

// firstUsed returns the first position of [q, e) whose slot is not free for it, or e.
func (c *core) firstUsed(q, e uint64) uint64 {
	ent := c.entry(q)
	for free := freeWord(q); q != e; q++ {
		if ent.state.Load() != free { // order: P2 acq, pairs C5 L3: what the consumer read there is done with
			return q
		}
		free += nextWord
		ent = c.after(ent)
	}
	return e
}

// mpmcPublish commits the n bytes of payload at position at of the extent [head, end), whose length word is word: P4..P8.
func (p *Producer) mpmcPublish(head, at, end, n, word uint64) {
	c := p.c
	e := at + c.slotsFor(n)
	atomicx.StoreRelaxed(&c.entry(at).length, word) // order: P4 rlx, pairs C3: published by P6
	testpoint.Hit("P4 length")
	p.freeStretch(e, end) // slots that were reserved and not needed
	if at == head {
		publish(c.state(at), readyWord(e, 0), p.fenced) // order: P6 rel, pairs C2 and N1
	} else {
		publish(c.state(at), readyWord(e, 0), false) // order: P5 rel, pairs C2: reached only past head
		testpoint.Hit("P5")
		p.freeStretch(head+1, at)
		publish(c.state(head), freeWord(head+c.slots), p.fenced) // order: P6 rel, pairs C2 and N1
	}
	testpoint.Hit("P6")
	p.advance(head, end, 1)
	p.announce(1, at != head || e != end)
}

// announce wakes whom a commit concerns: consumers, and producers too when it freed slots.
func (p *Producer) announce(messages uint64, freed bool) {
	c := p.c
	if c.ctl.notEmpty.pending() { // order: N1 sc, pairs W1
		p.wake(&c.ctl.notEmpty, messages)
	}
	if freed && c.ctl.notFull.pending() { // order: N1 sc, pairs W1
		p.wakeAll(&c.ctl.notFull)
	}
}

// freeStretch frees the interior slots [q, e) of an own extent, before its head is handed over. It goes from the last to the first: whoever
// steps over a free slot must not land in the interior of something live (I3).
func (h *handle) freeStretch(q, e uint64) {
	free := freeWord(e - 1 + h.c.slots)
	for e--; int64(e-q) >= 0; e-- {
		atomicx.StoreRelease(h.c.state(e), free) // order: P5 rel, pairs P2 C2
		free -= nextWord
		testpoint.Hit("P5 free")
	}
}

// mpmcFinish ends the open reservation.
func (p *Producer) mpmcFinish(r reservation, n uint64, commit bool) {
	at, end := p.c.extent(r)
	if commit {
		_, word := p.c.place(at, r.n)
		p.mpmcPublish(r.head, at, end, n, shorter(word, n))
		return
	}
	p.freeStretch(r.head+1, end)
	testpoint.Hit("discarding")
	publish(p.c.state(r.head), freeWord(r.head+p.c.slots), p.fenced) // order: P6 rel, pairs C2 P1 and N1
	testpoint.Hit("discarded")
	p.advance(r.head, end, 0)
	// The slots are free, and the consumers have one claim less to wait for.
	p.wakeAll(&p.c.ctl.notEmpty)
	p.wakeAll(&p.c.ctl.notFull)
}

// found is a message that a consumer may take.
type found struct {
	p uint64 // position
	w uint64 // state word as loaded
	e uint64 // end
}

// mpmcFind finds the next message, C0..C2. ErrEmpty left a note of what stands in the way in q.blocked.
func (q *Consumer) mpmcFind() (found, error) {
	c := q.c
	g := c.ctl.returns.Load() // order: C0 acq, pairs V4
	if g != q.seen {
		if f, ok := q.rescue(); ok {
			return f, nil
		}
	}
	p := q.pos
	q.blocked = blockage{}
	for step := 0; step < c.maxSteps; step++ {
		w := c.state(p).Load() // order: C2 acq, pairs P6
		stand, e := stand(w, p, c.slots)
		switch stand {
		case standReady:
			q.pos = p
			return found{p, w, e}, nil
		case standClaimed:
			q.blocked = blockage{at: p, word: w}
			fallthrough
		case standFree, standOld:
			q.pos = p
			// order: C0 acq, pairs V4: no give-back was announced up to the load of w, so nothing was ready then
			if now := c.ctl.returns.Load(); now != g {
				if g = now; now != q.seen {
					if f, ok := q.rescue(); ok {
						return f, nil
					}
				}
				continue
			}
			return found{}, ErrEmpty
		case standTaken, standDone:
			p = later(e, c.hint(c.ctl.consumerPosition.Load(), p)) // order: C1 acq, pairs C6
		case standPassed:
			p = later(beyond(w, p, e, c.slots), c.hint(c.ctl.consumerPosition.Load(), p)) // order: C1 acq, pairs C6
		default:
			return found{}, corrupt("state word", p, w)
		}
	}
	return found{}, corrupt("state word", p, c.state(p).Load()) // order: C2 acq, pairs P6
}

// rescue looks for a message that was given back, at any position, lowest first (FORMAT 9.5). A scan that finds none makes returns seen.
func (q *Consumer) rescue() (best found, ok bool) {
	c := q.c
	g := c.ctl.returns.Load() // order: C0 acq, pairs V4
	for i := range c.slots {
		w := c.state(i).Load() // order: C2 acq, pairs V3
		if !isReady(w) || givenBack(w) == 0 {
			continue
		}
		e := sequence(w, q.pos)
		p := e - 1 - (e-1-i)&c.mask
		if !ok || int64(p-best.p) < 0 {
			best, ok = found{p, w, e}, true
		}
	}
	if !ok {
		q.seen = g
	}
	return best, ok
}

// mpmcMessage loads the length word of the message f and checks it.
func (c *core) mpmcMessage(f found) (length uint64, ok bool) {
	length = c.entry(f.p).length.Load() // order: C3 rlx, pairs P4: ordered by C2
	_, _, ok = c.payload(f.p, f.e-f.p, length)
	return length, ok
}

// mpmcReceive copies the next message into buf, C0..C7. It changes nothing when buf is too small.
func (q *Consumer) mpmcReceive(buf []byte) (int, error) {
	c := q.c
	for step := 0; step < c.maxSteps; step++ {
		f, err := q.mpmcFind()
		if err != nil {
			return 0, err
		}
		length, ok := c.mpmcMessage(f)
		at, n, _ := c.payload(f.p, f.e-f.p, length)
		if ok && q.accepts(n, buf) {
			if !raceDetector { // a copy that turns out to be stale is thrown away, which the race detector cannot know
				move(buf, view(at, n))
			}
			testpoint.Hit("C3")
		} else if c.state(f.p).Load() != f.w { // order: C2 acq, pairs C4: somebody took it meanwhile
			continue
		} else if !ok {
			return 0, corrupt("length word", f.p, c.entry(f.p).length.Load()) // order: C3 rlx, pairs P4
		} else {
			return int(n), errShortBuffer
		}
		next := freeWord(f.p + c.slots)
		if f.e-f.p > 1 || raceDetector {
			next = doneWord(f.e, q.id)
		}
		// order: C4 acqrel, pairs P3 (release: the payload has been read before the slot is handed back) and C2
		if !c.state(f.p).CompareAndSwap(f.w, next) {
			continue
		}
		testpoint.Hit("C4")
		if raceDetector {
			move(buf, view(at, n))
		}
		if f.e-f.p > 1 || raceDetector {
			q.freeDone(f.p, f.e)
		}
		q.received(f.p, f.e, deliveries(givenBack(f.w)))
		if c.ctl.notFull.pending() { // order: N1 sc, pairs W1; C4 or the publish in freeDone is the fence
			q.wakeAll(&c.ctl.notFull)
		}
		return int(n), nil
	}
	return 0, corrupt("state word", q.pos, c.state(q.pos).Load()) // order: C2 acq, pairs P6
}

// freeDone gives the slots of a received extent back, C5: the interior first, so that whoever sees the head free sees all of it free.
func (q *Consumer) freeDone(p, e uint64) {
	q.freeStretch(p+1, e)
	publish(q.c.state(p), freeWord(p+q.c.slots), q.fenced) // order: C5 rel, pairs P1 and N1
	testpoint.Hit("C5")
}

// received notes one received message, after the fact.
func (q *Consumer) received(p, e uint64, count int) {
	if p == q.pos { // after a rescue the own candidate stays
		q.passed(p, e)
	}
	q.last = Delivery{Position: p, Deliveries: count}
	bump(&q.me.received, 1)
	if count > 1 {
		bump(&q.me.redelivered, 1)
	}
	testpoint.Hit("C6 counted")
}

// passed moves the own candidate to e, and the hint now and then.
func (q *Consumer) passed(p, e uint64) {
	q.pos = e
	if (p^e)/hintEvery != 0 || q.c.slots <= hintSmall {
		atomicx.StoreRelease(&q.c.ctl.consumerPosition, e) // order: C6 rel, pairs C1
		testpoint.Hit("C6")
	}
}
