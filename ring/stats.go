package ring

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/seg"
)

// Observers: they take nothing and change nothing, and everything they return is a guess as soon as it is returned.

// Stats are counters and positions of a ring, of all its participants since it was created. The counters of a participant that was killed may lack its last
// operation; Lost, Skipped and the numbers of participants are exact.
type Stats struct {
	Slots            int    `json:"slots"`
	Used             int    `json:"used"`              // slots that are not free
	ProducerPosition uint64 `json:"producer_position"` // next position to claim
	ConsumerPosition uint64 `json:"consumer_position"` // next position to receive for the first time
	Sent             uint64 `json:"sent"`              // messages committed
	Received         uint64 `json:"received"`          // messages received, redeliveries included; leases count when they are taken
	Redelivered      uint64 `json:"redelivered"`       // of those, with a delivery count above 1
	Lost             uint64 `json:"lost"`              // committed messages that were given up: Drop, or MaxDeliveries
	Skipped          uint64 `json:"skipped"`           // claims that dead producers left uncommitted
	Padding          uint64 `json:"padding"`           // slots stepped over so that messages do not wrap
	Discarded        uint64 `json:"discarded"`         // reservations discarded
	Recoveries       uint64 `json:"recoveries"`        // dead participants whose remains were settled
	Sleeps           uint64 `json:"sleeps"`            // futex waits
	Wakes            uint64 `json:"wakes"`             // futex wakes

	ProducersEver uint64 `json:"producers_ever"` // registered since creation
	ProducersLive uint64 `json:"producers_live"` // registered now
	ProducersDied uint64 `json:"producers_died"` // ended without Close
	ConsumersEver uint64 `json:"consumers_ever"`
	ConsumersLive uint64 `json:"consumers_live"`
	ConsumersDied uint64 `json:"consumers_died"`
}

// Stats reads the counters, also those of rings that others use. It takes time in proportion to Slots and Participants. The zero Stats after Close, or when the segment is lost.
func (r *Ring) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed.Load() { // order: heap
		return Stats{}
	}
	if s := r.c.stats(); !r.c.gone() {
		return s
	}
	return Stats{}
}

func (c *core) stats() Stats {
	s := Stats{Slots: int(c.slots), Recoveries: c.ctl.recoveries.Load()} // order: K2 rlx, counter
	for i := range c.slots {
		v := c.account(i).Load() // order: K2 rlx, counter
		s.Lost += v / accountLost & accountMask
		s.Skipped += v & accountMask
	}
	for id := range c.participants {
		m := c.participant(id)
		s.Sent += m.sent.Load()               // order: K2 rlx, counter
		s.Received += m.received.Load()       // order: K2 rlx, counter
		s.Redelivered += m.redelivered.Load() // order: K2 rlx, counter
		s.Padding += m.padding.Load()         // order: K2 rlx, counter
		s.Discarded += m.discarded.Load()     // order: K2 rlx, counter
		s.Sleeps += m.sleeps.Load()           // order: K2 rlx, counter
		s.Wakes += m.wakes.Load()             // order: K2 rlx, counter
		c.count2(&m.producer, id, &s.ProducersEver, &s.ProducersLive, &s.ProducersDied)
		c.count2(&m.consumer, id, &s.ConsumersEver, &s.ConsumersLive, &s.ConsumersDied)
	}
	used, next, taken := c.positions()
	s.Used, s.ProducerPosition, s.ConsumerPosition = int(used), next, taken
	return s
}

// count2 adds one participant's sessions in one role.
func (c *core) count2(s *session, id int, ever, live, died *uint64) {
	*ever += uint64(s.registered.Load()) // order: X5 acq, pairs R4
	*died += uint64(s.died.Load())       // order: X5 acq, pairs V6
	if s.open() {
		if c.locked(id) {
			*live++
		} else {
			*died++
		}
	}
}

// positions returns how many slots are in use, the next position to claim and the next position to receive.
func (c *core) positions() (used, next, taken uint64) {
	if c.kind == SPSC {
		next = c.ctl.producerPosition.Load()  // order: S5 acq, pairs S5
		taken = c.ctl.consumerPosition.Load() // order: D4 acq, pairs D4
		for range c.slots {
			e, ok := spscEnd(c.state(next).Load(), next, c.slots) // order: D1 acq, pairs S4
			if !ok {
				break
			}
			next = e
		}
		return min(next-taken, c.slots), next, taken
	}
	next = c.ctl.producerPosition.Load()  // order: P0 acq, pairs P7
	taken = c.ctl.consumerPosition.Load() // order: C1 acq, pairs C6
	for range 4 * c.slots {
		w := c.state(next).Load() // order: P1 acq, pairs P3
		s, e := stand(w, next, c.slots)
		if s == standFree || s == standOld || s == standCorrupt {
			break
		}
		if s == standPassed {
			e = beyond(w, next, e, c.slots)
		}
		next = e
	}
	for range 4 * c.slots {
		w := c.state(taken).Load() // order: C2 acq, pairs P6
		s, e := stand(w, taken, c.slots)
		if s != standTaken && s != standDone && s != standPassed {
			break
		}
		if s == standPassed {
			e = beyond(w, taken, e, c.slots)
		}
		taken = e
	}
	for p := c.oldest(next); int64(next-p) > 0; {
		w := c.state(p).Load() // order: C2 acq, pairs P6
		switch s, e := stand(w, p, c.slots); s {
		case standClaimed, standReady, standTaken, standDone:
			used += e - p
			p = e
		default:
			p++
		}
	}
	return min(used, c.slots), next, taken
}

// oldest returns the lowest position that can be in use when next is the next to claim.
func (c *core) oldest(next uint64) uint64 { return later(next-c.slots, c.start) }

// walk visits every message in use, in the order of positions: claimed, ready, leased, being freed. It stops when f returns false.
// A lease's word is that of its first message; those behind it are visited as ready.
// For SPSC the extents are the published ones and w is their state word; a run is visited message by message.
func (c *core) walk(f func(p, e, w uint64, s standing, length uint64) bool) {
	if c.kind == SPSC {
		c.walkSPSC(f)
		return
	}
	_, next, _ := c.positions() // the hint alone may lag by laps
	p := c.oldest(next)
	for steps := uint64(0); steps < 4*c.slots; steps++ {
		w := c.state(p).Load() // order: C2 acq, pairs P6
		s, e := stand(w, p, c.slots)
		switch s {
		case standFree, standOld: // behind the end, or inside a message of several slots that is leased
			if int64(p-next) >= 0 {
				return
			}
			p++
			continue
		case standCorrupt:
			return
		case standPassed:
			p++
			continue
		}
		if e-p > c.slots {
			return
		}
		length := c.entry(p).length.Load() // order: C3 rlx, pairs P4
		if !f(p, e, w, s, length) {
			return
		}
		if s == standTaken { // the messages behind the first have words of their own
			e = min(p+c.slotsFor(min(length&layout.LengthMask, c.maxMessage)), e)
		}
		p = e
	}
}

func (c *core) walkSPSC(f func(p, e, w uint64, s standing, length uint64) bool) {
	p := c.ctl.consumerPosition.Load() // order: D4 acq, pairs D4
	for steps := uint64(0); steps <= c.slots; steps++ {
		w := c.state(p).Load() // order: D1 acq, pairs S4
		e, ok := spscEnd(w, p, c.slots)
		length := c.entry(p).length.Load() // order: D2 rlx, pairs S3
		if !ok {
			if e, length, ok = c.insideRun(p); !ok {
				return
			}
		}
		switch {
		case length&layout.FlagPad != 0:
		case length&layout.FlagRun != 0:
			for x := p; x != e; x++ {
				if !f(x, x+1, spscReadyWord(x+1, 0), standReady, length&^layout.FlagRun) {
					return
				}
			}
		case c.maxDeliveries > 0 && givenBack(w) >= c.maxDeliveries: // lost, and waits to be stepped over
		default:
			if !f(p, e, w, standReady, length) {
				return
			}
		}
		p = e
	}
}

// State says how a participant is doing.
type State uint32

const (
	Live    State = 1
	Stalled State = 2 // alive, but it has held the same claim or lease in two looks at least 100 ms apart
	Dead    State = 3 // its lock is gone, and what it held is not recovered yet
)

func (s State) String() string {
	switch s {
	case Live:
		return "live"
	case Stalled:
		return "stalled"
	case Dead:
		return "dead"
	}
	return "unknown"
}

// Participant is one registered producer or consumer.
type Participant struct {
	ID       int           `json:"id"`
	Role     Role          `json:"role"`
	PID      int           `json:"pid"` // for people: pids differ between namespaces
	State    State         `json:"state"`
	Position uint64        `json:"position"` // of the first claim or lease that it holds
	Holding  bool          `json:"holding"`  // whether it holds one
	Age      time.Duration `json:"age"`      // of the hold since it was first seen here; without one, of the session
}

// LockByte returns the byte of the segment's file whose lock is the participant's proof of life.
func (p Participant) LockByte() int64 { return layout.LockParticipant + int64(p.ID) }

// Participants returns everybody who is registered. Stalled needs two looks at least 100 ms apart through the same Ring; the first look that finds something held waits for the second. Nil after Close.
func (r *Ring) Participants() []Participant {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed.Load() { // order: heap
		return nil
	}
	if list := r.look(time.Now()); !r.c.gone() {
		return list
	}
	return nil
}

// sight is what one participant was seen to hold, and since when.
type sight struct {
	position uint64
	session  uint64
	since    time.Time
}

// look lists the participants and compares what they hold with the look before.
func (r *Ring) look(now time.Time) []Participant {
	c := r.c
	held := c.holdings()
	seen := map[int]sight{}
	var list []Participant
	for id := range c.participants {
		m := c.participant(id)
		role := ProducerRole
		if !m.producer.open() {
			if role = ConsumerRole; !m.consumer.open() {
				continue
			}
		}
		since := m.since.Load()                                                   // order: E3 rlx, for people
		p := Participant{ID: id, Role: role, PID: int(m.pid.Load()), State: Live} // order: E3 rlx, for people
		p.Age = now.Sub(time.Unix(0, int64(since)))
		if pos, ok := held[id]; ok {
			s := sight{pos, since, now}
			if old, ok := r.sights[id]; ok && old.position == pos && old.session == since {
				s.since = old.since
			}
			seen[id] = s
			p.Position, p.Holding, p.Age = pos, true, now.Sub(s.since)
			if p.Age >= stallAfter {
				p.State = Stalled
			}
		}
		if !c.locked(id) {
			p.State = Dead
		}
		list = append(list, p)
	}
	r.sights = seen
	return list
}

// holdings returns the first position that each participant holds: from the state words for MPMC, from their entries for SPSC.
func (c *core) holdings() map[int]uint64 {
	held := map[int]uint64{}
	if c.kind == SPSC {
		for id := range c.participants {
			if v := c.participant(id).held.Load(); v != 0 { // order: V0 acq, pairs L1
				held[id] = v - 1
			}
		}
		return held
	}
	c.walk(func(p, e, w uint64, s standing, length uint64) bool {
		if s != standReady {
			if id := int(owner(w)); id < c.participants {
				if _, ok := held[id]; !ok {
					held[id] = p
				}
			}
		}
		return true
	})
	return held
}

// Peek calls f for up to n unreleased messages in the order of their positions, without receiving them, until f returns false. The payload is a copy.
//
// Messages that are released meanwhile are left out. Works on rings opened ReadOnly. Blocks: never.
func (r *Ring) Peek(n int, f func(position uint64, deliveries int, payload []byte) bool) (err error) {
	type message struct {
		position   uint64
		deliveries int
		payload    []byte
	}
	var found []message
	read := func() (err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.closed.Load() { // order: heap
			return ErrClosed
		}
		defer r.fault(&err)
		c := r.c
		c.walk(func(p, e, w uint64, s standing, length uint64) bool {
			if len(found) >= n {
				return false
			}
			if s != standReady && s != standTaken {
				return true
			}
			k := e - p
			if s == standTaken { // the word speaks for the lease, which may be longer
				k = min(k, c.slotsFor(min(length&layout.LengthMask, c.maxMessage)))
			}
			at, size, ok := c.payload(p, k, length)
			if !ok {
				return true
			}
			copied := append([]byte(nil), view(at, size)...)
			if c.kind == MPMC && c.state(p).Load() != w || c.kind == SPSC && int64(c.ctl.consumerPosition.Load()-p) > 0 { // order: C2 acq, pairs C4 D4: still the same message
				return true
			}
			found = append(found, message{p, deliveries(givenBack(w)), copied})
			return true
		})
		return nil
	}
	if err := read(); err != nil {
		return err
	}
	for _, m := range found {
		if !f(m.position, m.deliveries, m.payload) {
			break
		}
	}
	return nil
}

// Recovered tells what a dead participant held.
type Recovered struct {
	ID   int      `json:"id"`
	Role Role     `json:"role"`
	PID  int      `json:"pid"`
	Held []uint64 `json:"held"` // positions
}

// Recover gives back what dead participants hold, and returns what that was. With dryRun it only looks. Rings repair themselves as they are
// used; Recover does it for one that nobody uses.
func (r *Ring) Recover(dryRun bool) (list []Recovered, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed.Load() { // order: heap
		return nil, ErrClosed
	}
	if !dryRun && r.seg != nil && r.seg.ReadOnly() {
		return nil, fmt.Errorf("ring: recover %s, which is open for observing only: %w", r.Name(), fs.ErrPermission)
	}
	defer r.fault(&err)
	c := r.c
	held := map[int][]uint64{}
	c.walk(func(p, e, w uint64, s standing, length uint64) bool {
		if c.kind == MPMC && s != standReady {
			held[int(owner(w))] = append(held[int(owner(w))], p)
		}
		return true
	})
	if c.kind == SPSC && !dryRun { // whoever found them dead may have retired them, and settled nothing
		for _, role := range []Role{ProducerRole, ConsumerRole} {
			if err := r.settleRole(role); err != nil && !errors.Is(err, seg.ErrLocked) { // locked: somebody lives, or a successor has settled it
				return nil, err
			}
		}
	}
	for id := range c.participants {
		m := c.participant(id)
		role := ProducerRole
		if !m.producer.open() {
			if role = ConsumerRole; !m.consumer.open() {
				continue
			}
		}
		if c.locked(id) {
			continue
		}
		if v := m.held.Load(); c.kind == SPSC && v != 0 { // order: V0 acq, pairs L1
			held[id] = []uint64{v - 1}
		}
		list = append(list, Recovered{ID: id, Role: role, PID: int(m.pid.Load()), Held: held[id]}) // order: E3 rlx, for people
		if dryRun {
			continue
		}
		c.recoverIfDead(id)
		r.log("recovered", "id", id, "role", role.String())
	}
	return list, nil
}

// settleRole takes over the role of a dead SPSC participant for as long as it takes to settle what it held.
func (r *Ring) settleRole(role Role) (err error) {
	lock, err := r.locks.newLock()
	if err != nil {
		return err
	}
	defer func() {
		if e := lock.Close(); err == nil {
			err = e
		}
	}()
	if err = lock.Add(roleByte(role)); err != nil {
		return fmt.Errorf("ring: take over the dead %s's role: %w", role, err)
	}
	if role == ConsumerRole {
		r.c.spscSettle()
		return nil
	}
	p := &Producer{handle: handle{c: r.c, ring: r}}
	return p.adopt()
}
