package ring

import (
	"time"

	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/internal/testpoint"
)

// Recovery, docs/FORMAT.md section 11: what a dead participant held is repaired by whoever needs it, several at once, each of whom may die
// at any step.
//
// The proof of death is the read lock on the participant's byte. While it is held the participant is dead and its id cannot be used
// again, so words that name it are changed by recoverers only; and as no state word ever repeats, each CAS below succeeds once. Words are
// loaded after the lock was taken: what the dead one published before it died is seen as published.
//
// After LTTng-UST's per-buffer owner ids and fix-ups (2025) and the anonymous-claim analysis in docs/FORMAT.md section 17.

// account fields, FORMAT 11.3: tag:24 | lost:20 | skipped:20.
const (
	accountSkipped = 1
	accountLost    = 1 << 20
	accountMask    = 1<<20 - 1
	accountTag     = 40
)

// count adds one to the account of position p, once for that position however often it is tried. w is the state word that the decision rests on.
// It says whether the word still stood: if not, the message is settled, and nothing more may be done with its slots.
func (c *core) count(p, w uint64, what uint64) (stands bool) {
	a := c.account(p)
	tag := (p/c.slots&(1<<23-1))<<1 | 1
	for range casTries { // a CAS fails only when another recoverer counted
		v := a.Load()               // order: V8 acq, pairs V8
		if c.state(p).Load() != w { // order: V9 acq, pairs V3: if the word still stands after v was loaded, nobody has counted behind our back
			return false
		}
		if v>>accountTag == tag {
			return true
		}
		next := v&(1<<accountTag-1) | tag<<accountTag
		if field := v / what & accountMask; field != accountMask { // saturates
			next += what
		}
		if a.CompareAndSwap(v, next) { // order: V8 acqrel, pairs V8
			testpoint.Hit("V8")
			return true
		}
	}
	return false
}

// lost says whether a message that was given back r times before is lost now.
func (c *core) lost(r uint64, byPolicy bool) bool {
	return byPolicy && c.policy == Drop || c.maxDeliveries > 0 && r+1 >= c.maxDeliveries
}

// recover settles what participant id left behind when it died. done is false when it lives, or when nothing was left to do.
func (c *core) recover(id int) (done bool, err error) {
	release, dead, err := c.keeper.Hold(layout.LockParticipant + int64(id)) // V1
	if err != nil || !dead {
		return false, err
	}
	defer release()
	m := c.participant(id)
	if !m.producer.open() && !m.consumer.open() {
		return false, nil
	}
	testpoint.Hit("V1")
	if c.kind == MPMC {
		r := repair{c, 8*c.slots + 64}
		r.scan(uint32(id))
	}
	c.ctl.returns.Add(1) // order: V4 rel, pairs C0
	testpoint.Hit("V4")
	c.ctl.notEmpty.notifyAll() // V5
	testpoint.Hit("V5")
	c.ctl.notFull.notifyAll()
	m.held.Store(0) // order: V6 rlx, pairs nothing: nobody registers while the lock is held
	if m.producer.open() {
		m.ended.Store(uint64(time.Now().UnixNano())<<1 | 1) // order: V6 rlx, pairs E2
	}
	retired := m.producer.retire()
	if m.consumer.retire() || retired {
		testpoint.Hit("V6")
		c.ctl.recoveries.Add(1) // order: V6 rlx, counter
		c.ctl.roster.Add(1)     // order: V6 rel, pairs E1
	}
	return true, nil
}

// retire counts every session that is neither closed nor counted as died, once, and says whether it did. The caller holds the lock, so the
// other two counts do not move.
func (s *session) retire() bool {
	died := s.died.Load()                                  // order: V6 acq, pairs V6
	now := s.registered.Load() - s.closed.Load()           // order: V6 acq, pairs R4 X2
	return now != died && s.died.CompareAndSwap(died, now) // order: V6 acqrel, pairs X5
}

// repair is one scan for the remains of one dead participant. left bounds its steps: extents of honest participants do not overlap.
type repair struct {
	*core
	left uint64
}

// scan settles every word that names owner id, V2, V3.
func (c *repair) scan(id uint32) {
	for i := range c.slots {
		w := c.state(i).Load() // order: V2 acq, pairs P3 P6 L2 L3
		if owner(w) != id {
			continue
		}
		e := sequence(w, c.ctl.producerPosition.Load()) // order: P0 rlx, pairs P7: only widens the sequence
		p := e - 1 - (e-1-i)&c.mask
		switch {
		case stateOf(w) == stateClaimed:
			c.freeInterior(p, e)
			if c.count(p, w, accountSkipped) {
				c.freeHead(p, w)
				testpoint.Hit("V3 skip")
			}
		case stateOf(w) == stateDone:
			c.freeInterior(p, e)
			c.freeHead(p, w)
			testpoint.Hit("V3 done")
		case isTaken(w):
			c.giveBack(p, e, w)
		}
	}
}

// freeHead frees the first slot of an extent, last.
func (c *repair) freeHead(p, w uint64) {
	c.state(p).CompareAndSwap(w, freeWord(p+c.slots)) // order: V3 acqrel, pairs P1 C2
}

// freeInterior frees the slots behind p that are still of its lap.
func (c *repair) freeInterior(p, e uint64) {
	for q := e - 1; int64(q-p) > 0 && c.left > 0; q-- {
		c.left--
		s := c.state(q)
		for range 4 { // a CAS fails only when another recoverer did the same; hostile bytes end here
			v := s.Load() // order: V2 acq, pairs P5 L3
			if stand, _ := stand(v, q, c.slots); stand == standPassed || stand == standOld || stand == standCorrupt {
				break
			}
			if s.CompareAndSwap(v, freeWord(q+c.slots)) { // order: V3 acqrel, pairs P2 C2
				testpoint.Hit("V3 interior")
				break
			}
		}
	}
}

// giveBack gives back the lease [p, e): the messages behind the first, last to first, then the first, whose word w is the lease's.
func (c *repair) giveBack(p, e, w uint64) {
	n := c.entry(p).length.Load() & layout.LengthMask // order: C3 acq, pairs P4: before the next load
	if c.state(p).Load() != w {                       // order: V3 acq, pairs V3: settled by another recoverer, and n may be of a later message
		return
	}
	first := min(p+c.slotsFor(min(n, c.maxMessage)), e)
	for x := e - 1; int64(x-first) >= 0 && c.left > 0; x-- {
		c.left--
		v := c.state(x).Load() // order: V2 acq, pairs P6 L3
		if stand, end := stand(v, x, c.slots); stand == standReady && givenBack(v) == 0 && int64(e-end) >= 0 {
			c.giveBackOne(x, end, v)
		}
	}
	c.giveBackOne(p, first, w)
}

// giveBackOne makes the message [p, e), whose word is v, readable again, or loses it.
func (c *repair) giveBackOne(p, e, v uint64) {
	if r := givenBack(v); !c.lost(r, true) {
		// order: V3 acqrel, pairs C2
		c.state(p).CompareAndSwap(v, readyWord(e, nextGivenBack(r)))
		testpoint.Hit("V3 back")
		return
	}
	if c.count(p, v, accountLost) {
		c.freeInterior(p, e)
		c.freeHead(p, v)
		testpoint.Hit("V3 lost")
	}
}

// spscGiveBack gives back the messages of an SPSC ring in [from, leased), FORMAT 10.4, and returns the position where reading goes on.
// The caller holds the consumer's role. A death in the middle repeats the work.
func (c *core) spscGiveBack(from, leased uint64, byPolicy bool) uint64 {
	c.explode(from, leased)
	if byPolicy && c.policy == Drop {
		c.spscEach(from, leased, func(x, e, w uint64) { c.count(x, w, accountLost) })
		testpoint.Hit("SPSC dropped")
		c.ctl.consumerPosition.Store(leased) // order: D4 rel, pairs S1
		c.ctl.journal.Store(0)               // order: J1 rel, pairs J1: what a Return that died in here wrote names a message that may stand
		return leased
	}
	done := c.ctl.journal.Load() // order: J1 acq, pairs J1 of the last owner of the role
	c.spscEach(from, leased, func(x, e, w uint64) {
		r := givenBack(w)
		if c.maxDeliveries > 0 && r >= c.maxDeliveries && done>>8 != x&(1<<56-1) {
			return // counted before, and waits to be stepped over
		}
		next := nextGivenBack(r)
		switch behind := int64((done>>8 - x) << 8); {
		case done == 0 || behind < 0:
		case behind == 0:
			next = done & layout.DeliveriesMask // the last owner of the role died here
		default:
			return // settled before it died
		}
		c.ctl.journal.Store(x<<8 | next) // order: J1 rel, pairs J1
		testpoint.Hit("J1")
		if c.maxDeliveries > 0 && next >= c.maxDeliveries {
			c.count(x, w, accountLost)
		}
		c.state(x).Store(spscReadyWord(e, next)) // order: J2 rel, pairs D1 of the next owner
		testpoint.Hit("J2")
	})
	c.ctl.leaseEnd.Store(from) // order: J3 rel, pairs J1 of the next owner
	testpoint.Hit("J3")
	c.ctl.journal.Store(0) // order: J1 rel, pairs J1
	return from
}

// spscEach calls f for every message of [from, to), which are single entries, in order: position, end, state word.
func (c *core) spscEach(from, to uint64, f func(x, e, w uint64)) {
	for x := from; int64(to-x) > 0; {
		w := c.state(x).Load() // order: D1 acq, pairs S4 J4
		e, ok := spscEnd(w, x, c.slots)
		if !ok {
			return
		}
		if c.entry(x).length.Load()&layout.FlagPad == 0 { // order: D2 rlx, pairs S3
			f(x, e, w)
		}
		x = e
	}
}

// explode rewrites every run that reaches into [from, to) as single entries, the last first, so that a reader finds the same messages throughout.
// An entry that is not valid yet gets its length word first. The head of a run, if its word is valid, becomes a run of one first: with the
// length word first it would be one message of all slots for a moment.
func (c *core) explode(from, to uint64) {
	for x := from; int64(to-x) > 0; {
		e, valid := spscEnd(c.state(x).Load(), x, c.slots) // order: D1 acq, pairs S4 J4
		length := c.entry(x).length.Load()                 // order: D2 rlx, pairs S3
		if !valid {
			var inside bool
			if e, length, inside = c.insideRun(x); !inside {
				return
			}
		}
		if length&layout.FlagRun != 0 {
			size := length & layout.LengthMask
			for m := e - 1; m != x; m-- {
				c.writeSingle(m, size)
			}
			if valid {
				c.state(x).Store(spscReadyWord(x+1, 0)) // order: J4 rel, pairs D1
				testpoint.Hit("J4 head")
			}
			c.writeSingle(x, size)
		}
		x = e
	}
}

// writeSingle makes the entry at m that of a message of size bytes in its data cell.
func (c *core) writeSingle(m, size uint64) {
	c.entry(m).length.Store(size)           // order: S3 rel, pairs D2: at the head of a run not before J4
	c.state(m).Store(spscReadyWord(m+1, 0)) // order: J4 rel, pairs D1
	testpoint.Hit("J4")
}

// insideRun says whether position x, which has no valid word of its own, is inside the run that the consumer entered last.
func (c *core) insideRun(x uint64) (e, length uint64, ok bool) {
	e = c.ctl.runEnd.Load()         // order: D2 acq, pairs D2 of the last owner of the role
	length = c.ctl.runLength.Load() // order: D2 rlx, pairs D2
	return e, length | layout.FlagRun, e-x-1 < c.slots && length <= c.slotSize
}
