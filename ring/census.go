package ring

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cd1900cf/millrace/futex"
	"github.com/cd1900cf/millrace/internal/atomicx"
	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/internal/testpoint"
	"github.com/cd1900cf/millrace/seg"
)

// Who is registered and who is alive, docs/FORMAT.md section 7.

var errEOF = io.EOF

// locked says whether participant id holds its lock: whether it is alive. When the kernel cannot be asked it counts as alive.
func (c *core) locked(id int) bool {
	locked, err := c.keeper.Probe(layout.LockParticipant + int64(id))
	return err != nil || locked
}

// alive says whether a session in the role was ever begun, and whether one is open and its owner alive. hint is where to look first; it is updated.
func (c *core) alive(role Role, hint *int) (ever, live bool) {
	if id := *hint; id < c.participants && c.session(id, role).open() && c.locked(id) {
		return true, true
	}
	for id := range c.participants {
		s := c.session(id, role)
		if s.registered.Load() == 0 { // order: X5 acq, pairs R4
			continue
		}
		ever = true
		if s.open() && c.locked(id) {
			*hint = id
			return true, true
		}
	}
	return ever, false
}

// recoverIfDead recovers participant id if the kernel says that it is dead.
func (c *core) recoverIfDead(id int) bool {
	if id >= c.participants || c.locked(id) {
		return false
	}
	done, err := c.recover(id)
	return done && err == nil
}

// recoverAll recovers everybody who is dead and not yet retired.
func (c *core) recoverAll() (any bool) {
	for id := range c.participants {
		if m := c.participant(id); (m.producer.open() || m.consumer.open()) && c.recoverIfDead(id) {
			any = true
		}
	}
	return any
}

// lastProducerDied says whether the producer session that ended last ended by death.
func (c *core) lastProducerDied() bool {
	last := uint64(0)
	for id := range c.participants {
		if m := c.participant(id); m.producer.registered.Load() != 0 { // order: X5 acq, pairs R4
			last = max(last, m.ended.Load()) // order: E2 rlx, pairs X2 V6
		}
	}
	return last&1 != 0
}

// unreleased says whether some message of the last N positions is claimed, ready or leased (FORMAT 12).
func (c *core) unreleased() bool {
	for i := range c.slots {
		// order: C2 acq, pairs P6 L2 L3
		if w := c.state(i).Load(); isReady(w) || isTaken(w) || stateOf(w) == stateClaimed {
			return true
		}
	}
	return false
}

// register begins a session in the role: R1..R5.
func (c *core) register(k locks, role Role) (id int, lock locker, err error) {
	if lock, err = k.newLock(); err != nil {
		return 0, nil, err
	}
	if c.kind == SPSC {
		if err = c.lockRole(lock, role); err != nil {
			return 0, nil, errors.Join(err, lock.Close())
		}
	}
	testpoint.Hit("R1")
	for i := range 100 {
		id, again, err := c.takeEntry(lock)
		if err != nil {
			return 0, nil, errors.Join(err, lock.Close())
		}
		if id >= 0 {
			c.begin(c.participant(id), role)
			return id, lock, nil
		}
		if !again && i > 0 { // a second look in any case: an entry that somebody else tries for a moment looks as if its dead owner lived
			break
		}
		time.Sleep(time.Millisecond)
	}
	return 0, nil, errors.Join(fmt.Errorf("%w (%d entries)", ErrTooManyParticipants, c.participants), lock.Close())
}

// takeEntry locks an entry of the table that no session is open in: R2. -1: there is none; again says that one was locked by somebody who recovers its
// dead owner, or is about to leave it.
func (c *core) takeEntry(lock locker) (id int, again bool, err error) {
	for _, retire := range []bool{false, true} { // free entries first, then those of the dead
		for id = range c.participants {
			m := c.participant(id)
			if m.producer.open() || m.consumer.open() {
				if !retire {
					continue
				}
				if !c.recoverIfDead(id) && (m.producer.open() || m.consumer.open()) { // it lives; otherwise somebody else has just retired it
					continue
				}
			}
			b := layout.LockParticipant + int64(id)
			if err = lock.Add(b); errors.Is(err, seg.ErrLocked) {
				again = true
				continue
			} else if err != nil {
				return -1, false, err
			}
			testpoint.Hit("R2")
			if !m.producer.open() && !m.consumer.open() {
				return id, false, nil
			}
			if err = lock.Drop(b); err != nil { // somebody came, and died, between the look and the lock
				return -1, false, err
			}
		}
	}
	return -1, again, nil
}

// lockRole takes the one role of an SPSC ring. A lock that nobody alive explains is a recoverer's, or a process on its way out: it is waited for.
func (c *core) lockRole(lock locker, role Role) error {
	hint := 0
	for range 100 {
		err := lock.Add(roleByte(role))
		if !errors.Is(err, seg.ErrLocked) {
			return err
		}
		if _, live := c.alive(role, &hint); live {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return ErrRoleTaken
}

// begin writes the entry of a new session. The caller holds the lock.
func (c *core) begin(m *participant, role Role) {
	m.pid.Store(uint32(os.Getpid()))             // order: R3 rlx, pairs E3
	m.publish.Store(publishes())                 // order: R3 rlx, pairs W2: published by R4
	m.since.Store(uint64(time.Now().UnixNano())) // order: R3 rlx, pairs E3
	m.held.Store(0)                              // order: R3 rlx, pairs V0
	testpoint.Hit("R3")
	s := &m.consumer
	if role == ProducerRole {
		s = &m.producer
	}
	s.registered.Add(1) // order: R4 sc, pairs X5; and W2 with the first N1: a sleeper that missed this session in W2 had arrived before
	testpoint.Hit("R4")
	c.ctl.roster.Add(1) // order: R5 rel, pairs E1
	testpoint.Hit("R5")
}

// publishes says how this process publishes (FORMAT 8.4).
func publishes() uint32 {
	if !futex.RegisterMembarrier() || atomicx.Fenced { // registered in any case: the gate of a handle needs it too
		return layout.PublishFenced
	}
	return layout.PublishMembarrier
}
