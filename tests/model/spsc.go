package model

import (
	"fmt"
	"math/bits"
	"strings"
)

// The SPSC protocol of docs/FORMAT.md section 10, one model step for each access to shared memory.
//
//	model step FORMAT file
//	S1 … S6    10.1   spsc_producer.go
//	T1 … T4    10.3   spsc_producer.go   a new producer: walk, account, PAD|SKIP, positions
//	D1 … D6    10.2   spsc_consumer.go   LE is the store of lease_end, LR the end of a lease or of its first message
//	K1, K2     10.4   spsc_takeover.go   a new consumer: space_position, then journal or give-back
//	J1 … J5    10.4   spsc_takeover.go   J4 rewrites a run; J5 is journal = 0
//
// A verdict EMPTY or FULL and falling asleep are one step: that nothing is missed in between is checked by the MPMC model (wait.go). Sizes are
// numbers that tell the operations apart. Whoever holds a role may be killed at any step; then another process takes the role.

const maxSPSC = 8 // slots and messages

// SPSCOp is one operation of the producer.
type SPSCOp struct {
	Slots   []uint8
	Run     bool // published as one RUN
	Reserve bool // through a reservation
	Discard bool // which is discarded
}

// SPSCConfig is one configuration of the SPSC model.
type SPSCConfig struct {
	Name          string
	Slots, First  uint8
	Ops           []SPSCOp
	Batch         uint8 // messages in a lease at most; 0: copy
	Partial       bool  // leases may be released in parts
	Returns       uint8 // so often the consumer may return what it holds, or close with it
	Crashes       uint8
	Drop          bool
	MaxDeliveries uint8
	Mutant        Mutant
	LeftOut       string // the name of a step that is left out
}

// spscWord is a state word: READY+r with sequence seq, or never written.
type spscWord struct {
	written bool
	r, seq  uint8
}

type lengthWord struct {
	bytes          uint8
	run, pad, skip bool
}

type journal struct {
	set         bool
	position, r uint8
}

type spscProcess struct {
	dead, asleep bool
	pc           spscPC
	ops          uint8
	t, limit     uint8 // producer; the consumer's h is t
	p, e, q      uint8 // extent or run at hand, loop
	k, bytes     uint8
	id           uint8
	heads, wrong uint8 // lease: messages, and those whose length was read wrong, by position - p
	leased       bool
	returns      bool // gives back what it holds itself, whatever the policy is
}

type spscState struct {
	words                             [maxSPSC]spscWord
	lengths                           [maxSPSC]lengthWord
	cells                             [maxSPSC]uint8
	accounts                          [maxSPSC]account
	producerPosition, reserved        uint8
	consumerPosition, leaseEnd, space uint8
	journal                           journal
	runEnd, runLength                 uint8
	procs                             [2]spscProcess
	crashes, returns                  uint8
	committed, consumed               uint8 // messages, as bits
	deliveries                        [maxSPSC]uint8
	published, firsts, abandoned      uint8
}

const (
	theProducer = 0
	theConsumer = 1
)

// SPSC is the model of one configuration.
type SPSC struct {
	SPSCConfig
	ids  []uint8 // first message of each operation
	turn spscTurn
	drop spscPC // the step that is left out
}

// NewSPSC returns the model of c.
func NewSPSC(c SPSCConfig) *SPSC {
	m := &SPSC{SPSCConfig: c, drop: spscStep(c.LeftOut)}
	id := uint8(1)
	for _, op := range c.Ops {
		m.ids = append(m.ids, id)
		id += uint8(len(op.Slots))
	}
	return m
}

// Start implements Model.
func (m *SPSC) Start() (s spscState) {
	f := m.First
	s.producerPosition, s.consumerPosition, s.leaseEnd, s.space, s.runEnd = f, f, f, f, f
	s.published, s.firsts = f, f
	s.procs[theProducer] = spscProcess{pc: s1, t: f, limit: f}
	s.procs[theConsumer] = spscProcess{pc: d1, t: f}
	return s
}

type spscTurn struct {
	m       *SPSC
	from    *spscState
	n       spscState
	x       *spscProcess
	step    Step
	emit    func(*spscState, Step)
	blocked bool
	drops   bool // this step is left out
}

var spscNames = [2]string{"P", "C"}

// Next implements Model.
func (m *SPSC) Next(s *spscState, emit func(*spscState, Step)) {
	t := &m.turn
	emitted := func(n *spscState, step Step) {
		if t.drops {
			t.undo(n)
		}
		emit(n, step)
	}
	for i := range s.procs {
		begin := func() {
			t.m, t.from, t.n, t.emit, t.blocked, t.drops = m, s, *s, emitted, false, false
			t.x = &t.n.procs[i]
			t.step = Step{Who: spscNames[i], Name: spscSteps[t.x.pc].name}
		}
		begin()
		if t.x.dead {
			t.step.Name = "takes the role"
			*t.x = spscProcess{ops: t.x.ops, pc: [2]spscPC{t1, k1}[i]}
			emit(&t.n, t.step)
			continue
		}
		if t.x.asleep {
			if s.crashes == 0 {
				continue
			}
			t.step.Name = "tick"
			t.x.asleep = false
		} else {
			t.do(t.x.pc)
		}
		if !t.blocked {
			emitted(&t.n, t.step)
		}
		if s.crashes < m.Crashes && s.procs[i].pc != sEnd {
			begin()
			t.crash(i)
			emit(&t.n, t.step)
		}
	}
}

func (t *spscTurn) crash(i int) {
	t.step.Name, t.step.Crash = "killed at "+t.step.Name, true
	t.n.crashes++
	if i == theProducer && t.m.open(t.x) {
		t.n.abandoned++
	}
	ops := t.x.ops
	if i == theProducer && t.x.pc >= s2 && t.x.pc <= s6 {
		ops++ // what was begun is not begun again
	}
	*t.x = spscProcess{dead: true, ops: ops}
}

func (t *spscTurn) or() {
	t.emit(&t.n, t.step)
	t.n, t.step.Violates = *t.from, ""
}

func (t *spscTurn) fail(property string) { t.step.Violates = property }

func (m *SPSC) slot(p uint8) uint8 { return p % m.Slots }

// valid returns the end of the extent that the word of position p speaks for (FORMAT 5.2).
func (m *SPSC) valid(s *spscState, p uint8) (e uint8, ok bool) {
	w := s.words[m.slot(p)]
	return w.seq, w.written && w.seq > p && w.seq-p <= m.Slots
}

// inRun says whether position p, which has no valid word, is inside the run that was entered last.
func (m *SPSC) inRun(s *spscState, p uint8) bool { return s.runEnd > p && s.runEnd-p <= m.Slots }

// wake is notify: the other role tries again.
func (t *spscTurn) wake(who int) { t.n.procs[who].asleep = false }

// deliver notes that message id at p, given back r times, was handed out.
func (t *spscTurn) deliver(id, r, p uint8) {
	n := &t.n
	switch {
	case id == 0 || n.committed&bit(id) == 0:
		t.fail("delivered what nobody committed")
		return
	case n.consumed&bit(id) != 0:
		t.fail("delivered again after its release")
	case r == 0 && n.deliveries[id-1] > 0:
		t.fail("unmarked duplicate")
	case r != n.deliveries[id-1]:
		t.fail("wrong delivery count")
	case r == 0 && p < n.firsts:
		t.fail("first deliveries out of order")
	}
	if n.deliveries[id-1]++; r == 0 {
		n.firsts = p + 1
	}
}

// Goal implements Model: everything was sent and received, and both roles are held.
func (m *SPSC) Goal(s *spscState) bool {
	p, c := &s.procs[theProducer], &s.procs[theConsumer]
	return !p.dead && !c.dead && p.pc == sEnd && s.consumerPosition == s.published && s.leaseEnd <= s.consumerPosition && c.pc == d1
}

// Check implements Model.
func (m *SPSC) Check(s *spscState) string {
	if !m.Goal(s) {
		if s.crashes == 0 && m.overslept(s) {
			return "lost wake-up"
		}
		return ""
	}
	var lost, skipped uint8
	for _, a := range s.accounts {
		lost += a.lost
		skipped += a.skipped
	}
	missing := s.committed &^ s.consumed
	switch {
	case int(lost) < bits.OnesCount8(missing):
		return "a committed message is gone"
	case int(lost) > bits.OnesCount8(missing):
		return "lost counts too much"
	case skipped != s.abandoned:
		return "skipped is not the number of abandoned reservations"
	}
	for i, n := range s.deliveries {
		if missing>>i&1 == 1 && (n == 0 || !m.Drop && (m.MaxDeliveries == 0 || n < m.MaxDeliveries)) {
			return "lost before its time"
		}
	}
	return ""
}

func (m *SPSC) overslept(s *spscState) bool {
	p, c := &s.procs[theProducer], &s.procs[theConsumer]
	if !c.asleep || !p.asleep && p.pc != sEnd {
		return false
	}
	_, ready := m.valid(s, c.t)
	return ready || p.asleep && m.plan(&m.Ops[p.ops], p.t)-s.consumerPosition <= m.Slots
}

// Format implements Model.
func (m *SPSC) Format(s *spscState) string {
	var b strings.Builder
	for i := range m.Slots {
		w, l := s.words[i], s.lengths[i]
		flag := ""
		if l.run {
			flag = "run"
		} else if l.pad {
			flag = "pad"
		}
		fmt.Fprintf(&b, "R%d+%d%-4s ", w.seq, w.r, flag)
	}
	fmt.Fprintf(&b, "| producer %d reserved %d consumer %d lease %d run %d journal %d+%d", s.producerPosition, s.reserved, s.consumerPosition,
		s.leaseEnd, s.runEnd, s.journal.position, s.journal.r)
	for i, p := range s.procs {
		at := spscSteps[p.pc].name
		if p.dead {
			at = "dead"
		} else if p.asleep {
			at = "asleep"
		}
		fmt.Fprintf(&b, " | %s %s@%d", spscNames[i], at, p.t)
	}
	return b.String()
}
