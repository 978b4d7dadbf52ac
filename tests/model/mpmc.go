package model

import (
	"fmt"
	"strings"
)

// The MPMC protocol of docs/FORMAT.md, one model step for each access to shared memory.
//
//	model step    FORMAT   file
//	P0 … P7       9.1, 9.2 mpmc_producer.go   (P8 is notify; "P2 again" is the second look at S[t])
//	C0 … C6       9.3      mpmc_consumer.go   (C7 is notify; "C2 empty" is the second load of returns)
//	C8            9.5      mpmc_consumer.go   one slot of a rescue scan
//	L2, L3, L4    9.4      mpmc_lease.go      take and release, whole or in parts
//	R1 … R4       9.4      mpmc_lease.go      Return: the rest gets a word, the first is given back, a lost one is freed, returns + 1
//	B1            9.4      wait.go            baton: one look on the way from the candidate to the next READY message
//	W1, W4, N1-N3 8.1      wait.go            W2 is a matter of memory order; W3 is a new attempt; "N2 wake" is FUTEX_WAKE
//	V1 … V7       11       mpmc_recover.go    "V3 x" are the parts of V3
//	A1-A3         11.3     mpmc_account.go    load, look at the word, CAS
//	R5            7        mpmc.go            registration of a successor with the same id
//
// Positions start at 0 and stay small, so nothing wraps: that words never repeat (FORMAT 5.1) is assumed, not checked. A load and the CAS that
// depends on it are one step where a failed CAS means "leave it". Payload is one number for each slot: the message it belongs to. Left out: held
// (L1, L4), which only tells ticks where to look; Close; the end of the stream (12); hostile bytes (14).

const (
	maxSlots     = 4
	maxProcesses = 5
	maxMessages  = 8
)

// Op is one operation of a producer: messages of so many slots each, sent as one extent.
type Op struct {
	Slots   []uint8
	Discard bool  // reserve, then discard
	Keep    uint8 // CommitN: slots kept of a single message; 0: all
}

// Send is the operation that sends messages of the given numbers of slots as one batch.
func Send(slots ...uint8) Op { return Op{Slots: slots} }

// Consumer says how a consumer works.
type Consumer struct {
	Lease   bool
	Batch   int   // messages in a lease at most; 0: one
	Partial bool  // may release the first message of a lease on its own
	Return  bool  // may return a lease
	New     bool  // registered when give-backs may be going on: it has to look for them
	Quota   uint8 // messages after which it stops; 0: never
}

// Config is one configuration of the MPMC model.
type Config struct {
	Name          string
	Slots         uint8
	First         uint8 // first position
	Producers     [][]Op
	Consumers     []Consumer
	Recoverers    int
	Crashes       uint8 // processes that may be killed, in sum
	Returns       uint8 // leases that may be returned, in sum
	Leaves        uint8 // waiting consumers that may give up, in sum
	Wait          bool  // EMPTY and FULL sleep; otherwise they are tried again
	NoHeirs       bool  // nobody registers with the id of the dead
	Hints         bool  // P7 and C6 may store their hint
	Drop          bool
	MaxDeliveries uint8
	Mutant        Mutant
	LeftOut       string // the name of a step that is left out
}

type kind uint8

const (
	free kind = iota
	claimed
	ready
	taken
	done
)

// word is a state word with its fields apart (FORMAT 5.1).
type word struct {
	kind          kind
	r, owner, seq uint8
}

func freeFor(p uint8) word { return word{kind: free, seq: p} }

func readyTo(e, r uint8) word { return word{kind: ready, r: r, seq: e} }

func (w word) String() string {
	switch w.kind {
	case free:
		return fmt.Sprintf("F%d", w.seq)
	case ready:
		return fmt.Sprintf("R%d+%d", w.seq, w.r)
	}
	return fmt.Sprintf("%c%d+%d/%d", ".C.TD"[w.kind], w.seq, w.r, w.owner)
}

type account struct{ tag, lost, skipped uint8 }

// event is an event word. The epoch has no value here: who remembers it only asks whether it moved since (process.current, process.unchanged).
// Arrivals are counted up to manyArrivals: more is not told apart.
type event struct{ arrivals uint8 }

const manyArrivals = 4

const (
	notEmpty = iota
	notFull
)

const all = 255 // notify everybody

type role uint8

const (
	absent role = iota
	producer
	consumer
	recoverer
)

type status uint8

const (
	alive   status = iota
	dead           // the session is open
	retired        // the session was ended by V6
)

// process is the private memory of one process; the fields mean what FORMAT calls them.
type process struct {
	role                  role
	status                status
	pc, ret               pc
	ops                   uint8 // operations claimed (producer), messages taken (consumer with a quota)
	pos                   uint8 // own t, own p
	p, e                  uint8 // extent at hand
	q, i, j               uint8 // loops over slots
	heads                 uint8 // lease: bit x says that a message starts at p + x
	id                    uint8 // the message that was read
	seen, gen             bool  // returns is still what it was at the last scan (seen), when it was loaded (gen)
	event                 uint8
	note                  [2]uint8
	armed, current        bool // arrived; the epoch is still the key
	unchanged             bool // the event word is still what N1 loaded
	slept                 bool
	rescue, full, holding bool
	target                uint8 // recoverer: id + 1 whose lock is held
	w, aw                 word  // word at hand; word that an account depends on
	ap, ae                uint8 // message that is counted
	first                 uint8 // end of the first message of a lease
	acc                   account
	skip                  bool
}

type mpmcState struct {
	words                              [maxSlots]word
	cells, lengths                     [maxSlots]uint8
	accounts                           [maxSlots]account
	producerPosition, consumerPosition uint8
	events                             [2]event
	procs                              [maxProcesses]process
	crashes, returns, leaves           uint8 // used up

	// What really happened, for the properties.
	committed, consumed  uint8 // messages, as bits
	deliveries           [maxMessages]uint8
	claims               uint8 // messages ever claimed; the last one's number
	next                 uint8 // every position below has been claimed
	firsts               uint8 // end of the last first delivery
	abandoned, announced uint8 // claims of the dead; slots with a give-back that returns tells of
}

// MPMC is the model of one configuration.
type MPMC struct {
	Config
	names  [maxProcesses]string
	groups [][2]int
	turn   turn
	drop   pc // the step that is left out
}

// NewMPMC returns the model of c.
func NewMPMC(c Config) *MPMC {
	m := &MPMC{Config: c, drop: mpmcStep(c.LeftOut)}
	for i := range c.Producers {
		m.names[i] = fmt.Sprintf("P%d", i)
	}
	for i := range c.Consumers {
		m.names[len(c.Producers)+i] = fmt.Sprintf("C%d", len(c.Producers)+i)
	}
	for i := range c.Recoverers {
		m.names[len(c.Producers)+len(c.Consumers)+i] = fmt.Sprintf("R%d", i)
	}
	m.group()
	return m
}

// Start implements Model.
func (m *MPMC) Start() (s mpmcState) {
	for p := m.First; p < m.First+m.Slots; p++ {
		s.words[m.slot(p)] = freeFor(p)
	}
	s.producerPosition, s.consumerPosition, s.next, s.firsts = m.First, m.First, m.First, m.First
	for i := range m.Producers {
		s.procs[i] = process{role: producer, pc: p0, pos: m.First}
	}
	for i := range m.Consumers {
		s.procs[len(m.Producers)+i] = process{role: consumer, pc: c0, pos: m.First, seen: !m.Consumers[i].New}
	}
	for i := range m.Recoverers {
		s.procs[len(m.Producers)+len(m.Consumers)+i] = process{role: recoverer, pc: v1}
	}
	return s
}

// turn is one step of one process in the making.
type turn struct {
	m       *MPMC
	from    *mpmcState
	n       mpmcState
	x       *process
	me      uint8
	step    Step
	emit    func(*mpmcState, Step)
	blocked bool
	drops   bool // this step is left out
}

// Next implements Model.
func (m *MPMC) Next(s *mpmcState, emit func(*mpmcState, Step)) {
	m.turn.emit = func(n *mpmcState, step Step) {
		if m.turn.drops {
			m.undo(s, n)
		}
		m.canonical(n)
		emit(n, step)
	}
	for i := range s.procs {
		p := &s.procs[i]
		t := m.begin(s, i)
		switch {
		case p.role == absent || p.pc == finished && p.status == alive:
			continue
		case p.status == dead:
			continue
		case p.status == retired:
			t.register()
		default:
			t.step.Name = steps[p.pc].name
			t.do(p.pc)
			for !t.blocked && t.private() {
				steps[t.x.pc].do(t)
			}
			t.end()
			t.drops = false
			if s.crashes < m.Crashes && (p.role != recoverer || p.pc != v1) {
				t = m.begin(s, i)
				t.crash()
			}
		}
		t.end()
		t.drops = false
	}
}

func (m *MPMC) begin(s *mpmcState, i int) *turn {
	t := &m.turn
	t.m, t.from, t.n, t.me, t.blocked = m, s, *s, uint8(i), false
	t.step = Step{Who: m.names[i]}
	t.x = &t.n.procs[i]
	return t
}

func (t *turn) end() {
	if !t.blocked {
		t.emit(&t.n, t.step)
	}
	t.blocked = true
}

// or emits one outcome of the step and starts another from the same state.
func (t *turn) or() {
	t.emit(&t.n, t.step)
	t.n, t.step.Violates = *t.from, ""
}

func (t *turn) fail(property string) { t.step.Violates = property }

// crash is SIGKILL: the lock goes with the process. A recoverer is whoever comes next.
func (t *turn) crash() {
	t.step.Name, t.step.Crash = "killed at "+steps[t.x.pc].name, true
	t.n.crashes++
	if t.x.role == recoverer {
		*t.x = process{role: recoverer, pc: v1}
		return
	}
	for _, w := range t.n.words[:t.m.Slots] {
		if w.kind == claimed && w.owner == t.me {
			t.n.abandoned++
		}
	}
	*t.x = process{role: t.x.role, status: dead, ops: t.x.ops}
}

// register is a new session with the id of the dead: refused while a recoverer holds the lock.
func (t *turn) register() {
	for i := range t.n.procs {
		if t.n.procs[i].target == t.me+1 || t.m.NoHeirs {
			t.blocked = true
			return
		}
	}
	t.step.Name = "R5"
	*t.x = process{role: t.x.role, pos: t.m.First, ops: t.x.ops}
	t.notify(all, all, t.retry())
}

// retry is where an attempt of the process starts.
func (t *turn) retry() pc {
	switch t.x.role {
	case producer:
		return p0
	case consumer:
		return c0
	}
	return v1
}

// slot returns the index of position p.
func (m *MPMC) slot(p uint8) uint8 { return p % m.Slots }

// head returns the head position of a word in the slot of position at (FORMAT 5.1), and -1 for none.
func (m *MPMC) head(w word, at uint8) int {
	if w.kind == free {
		return int(w.seq)
	}
	n, e := int(m.Slots), int(w.seq)
	return e - 1 - ((e-1-int(m.slot(at)))%n+n)%n
}

// at returns the word of position p and whether its head is p.
func (t *turn) at(p uint8) (w word, lives bool) {
	w = t.n.words[t.m.slot(p)]
	return w, t.m.head(w, p) == int(p)
}

func (t *turn) store(p uint8, w word) {
	i := t.m.slot(p)
	t.n.words[i] = w
	t.n.announced &^= 1 << i
	if w.kind == free {
		t.n.cells[i] = 0 // whatever is read there from now on counts as torn
	}
}

// cas changes the word of position p if it is w.
func (t *turn) cas(p uint8, w, to word) bool {
	if t.n.words[t.m.slot(p)] != w {
		return false
	}
	t.store(p, to)
	return true
}

// free gives the slot of position p to the next lap.
func (t *turn) free(p uint8) { t.store(p, freeFor(p+t.m.Slots)) }

// private says that the next step of the process touches nothing that others change, so that it needs no moment of its own.
func (t *turn) private() bool {
	switch t.x.pc {
	case p0, p7, c1, c6:
		return !t.m.Hints
	case c0, c2empty:
		return t.m.Crashes == 0 && t.m.Returns == 0 && t.m.Leaves == 0
	}
	return false
}

// Format implements Model.
func (m *MPMC) Format(s *mpmcState) string {
	var b strings.Builder
	for i := range m.Slots {
		fmt.Fprintf(&b, "%-7s", s.words[i])
	}
	fmt.Fprintf(&b, "| hints %d %d", s.producerPosition, s.consumerPosition)
	if m.Wait {
		fmt.Fprintf(&b, " arrivals %d %d", s.events[notEmpty].arrivals, s.events[notFull].arrivals)
	}
	for i, p := range s.procs {
		if p.role != absent {
			at := steps[p.pc].name
			if p.status != alive {
				at = []string{"", "dead", "retired"}[p.status]
			}
			fmt.Fprintf(&b, " | %s %s@%d", m.names[i], at, p.pos)
		}
	}
	return b.String()
}
