// Package weak runs the algorithms of docs/FORMAT.md under the C11 memory model instead of sequential consistency.
//
// machine.go is the memory, explore.go walks every execution, thread.go is what a program is written in; the litmus tests show that the three agree
// with C11 on the classic programs. ring.go, mpmc.go, spsc.go, recover.go and wait.go hold the C form of the algorithms: every access names its row of
// docs/ORDERING.md, and has the order that the row gives it. A mutant gives one row a weaker order.
//
// The memory is a promise-free view machine. A location is the list of the messages written to it, in modification order. Each thread has a view:
// how far down each list it has seen. A load reads any message that its view has not passed; a store goes anywhere behind the view; a
// read-modify-write reads a message and stands right behind it for good. A release message carries the view of its writer, which an acquire load
// joins. Fences are as in C11, sc is a view that all sc operations share. So every execution of RC11 (Lahav et al., PLDI 2017) without sc accesses
// is found. Two limits: loads are not delayed past later stores (LB), which RC11 forbids too; where it matters, a reader's last look at payload, the race
// check stands in. And sc accesses take effect in the order of execution, which is a little stronger than C11; the protocol's sc rows are fences.
package weak

import "fmt"

// Order is a memory order.
type Order uint8

// The orders of C11. AcqRel is for read-modify-writes and fences.
const (
	Rlx Order = iota
	Acq
	Rel
	AcqRel
	SC
)

func (o Order) String() string { return [...]string{"rlx", "acq", "rel", "acqrel", "sc"}[o] }

func (o Order) acquires() bool { return o == Acq || o >= AcqRel }
func (o Order) releases() bool { return o == Rel || o >= AcqRel }

// Loc is an atomic location, Cell a plain one.
type (
	Loc  uint8
	Cell uint8
)

const (
	maxLocs    = 20
	maxThreads = 4
)

// view says how many messages of each location are behind, and, after the locations, how many plain accesses of each thread are known of.
type view [maxLocs + maxThreads]uint8

func (v *view) join(w *view) {
	for i := range v {
		v[i] = max(v[i], w[i])
	}
}

type message struct {
	value int32
	rmw   bool // stands right behind the message it read
	view  view
}

// cell is a plain location, with what the race check needs: the last write and the reads since, as clocks of their threads.
type cell struct {
	value  int32
	writer uint8
	wrote  uint8
	reads  [maxThreads]uint8
}

// peek is a read of payload that does not count before it is confirmed.
type peek struct {
	cell  Cell
	clock uint8
	racy  bool
	write [2]uint8 // the write that it saw
}

type thread struct {
	cur, acq, rel view
	history       []int32 // what its operations returned; it determines where the program is
	peeks         []peek
	delayed       []Loc // stores that a death will undo
	done, dead    bool
	asleep        bool
}

type state struct {
	memory  [][]message
	cells   []cell
	sc      view
	kernel  view // what the lock of the futex hands on
	threads []thread
}

// clone copies what changes when thread i takes a step.
func (s *state) clone(i int) *state {
	n := &state{sc: s.sc, kernel: s.kernel}
	n.memory = append(n.memory, s.memory...)
	n.cells = append(n.cells, s.cells...)
	n.threads = append(n.threads, s.threads...)
	t := &n.threads[i]
	t.history = t.history[:len(t.history):len(t.history)]
	t.peeks = t.peeks[:len(t.peeks):len(t.peeks)]
	t.delayed = t.delayed[:len(t.delayed):len(t.delayed)]
	return n
}

// eachView visits every view.
func (s *state) eachView(f func(*view)) {
	f(&s.sc)
	f(&s.kernel)
	for i := range s.threads {
		t := &s.threads[i]
		f(&t.cur)
		f(&t.acq)
		f(&t.rel)
	}
	for x := range s.memory {
		s.memory[x] = append([]message(nil), s.memory[x]...)
		for m := range s.memory[x] {
			f(&s.memory[x][m].view)
		}
	}
}

// read lets t read message m of x.
func (s *state) read(t *thread, x Loc, m int, o Order) {
	msg := &s.memory[x][m]
	t.cur[x] = max(t.cur[x], uint8(m))
	if o == SC {
		s.sc[x] = max(s.sc[x], uint8(m))
	}
	if t.acq.join(&msg.view); o.acquires() {
		t.cur.join(&msg.view)
	}
	t.acq.join(&t.cur)
}

// write lets t put a message at place m of x. from is the view of the message that a read-modify-write read.
func (s *state) write(t *thread, x Loc, m int, value int32, o Order, from *view) {
	list := s.memory[x]
	if m < len(list) {
		s.eachView(func(v *view) {
			if int(v[x]) >= m {
				v[x]++
			}
		})
		list = s.memory[x]
	}
	t.cur[x] = uint8(m)
	t.acq[x] = max(t.acq[x], uint8(m))
	msg := message{value: value, rmw: from != nil}
	if msg.view = t.rel; o.releases() {
		msg.view = t.cur
	}
	if from != nil {
		msg.view.join(from)
	}
	msg.view[x] = uint8(m)
	if o == SC {
		s.sc[x] = max(s.sc[x], uint8(m))
	}
	next := make([]message, 0, len(list)+1)
	next = append(append(append(next, list[:m]...), msg), list[m:]...)
	s.memory[x] = next
}

// oldest is the first message of x that t may read.
func (s *state) oldest(t *thread, x Loc, o Order) int {
	if o == SC {
		return int(max(t.cur[x], s.sc[x]))
	}
	return int(t.cur[x])
}

// glued says whether message m of x is followed by a read-modify-write of it.
func (s *state) glued(x Loc, m int) bool { return m+1 < len(s.memory[x]) && s.memory[x][m+1].rmw }

// fence is a fence by t.
func (s *state) fence(t *thread, o Order) {
	if o.acquires() {
		t.cur = t.acq
	}
	if o == SC {
		t.cur.join(&s.sc)
		s.sc = t.cur
		t.acq.join(&t.cur)
	}
	if o.releases() {
		t.rel = t.cur
	}
}

// membarrier is a full fence in every thread that lives, with one in the caller before and behind.
func (s *state) membarrier(t *thread) {
	s.fence(t, SC)
	for i := range s.threads {
		s.fence(&s.threads[i], SC)
	}
	s.fence(t, SC)
}

// locked is what a system call on a futex does to the view of t: it holds the lock of the bucket.
func (s *state) locked(t *thread) {
	t.cur.join(&s.kernel)
	t.acq.join(&t.cur)
	s.kernel.join(&t.cur)
}

// tick counts a plain access of thread i.
func (s *state) tick(i int) uint8 {
	t := &s.threads[i]
	t.cur[maxLocs+i]++
	t.acq[maxLocs+i] = t.cur[maxLocs+i]
	return t.cur[maxLocs+i]
}

// sees says whether thread t knows of the last write to c.
func (t *thread) sees(c *cell) bool { return t.cur[maxLocs+int(c.writer)] >= c.wrote }

// writeCell is a plain write by thread i; it names the race, if there is one.
func (s *state) writeCell(i int, x Cell, value int32) (race string) {
	t, c := &s.threads[i], &s.cells[x]
	if !t.sees(c) {
		race = fmt.Sprintf("race: payload %d is written twice", x)
	}
	for r, clock := range c.reads {
		if r != i && t.cur[maxLocs+r] < clock {
			race = fmt.Sprintf("race: payload %d is written before it was read", x)
		}
	}
	*c = cell{value: value, writer: uint8(i), wrote: s.tick(i)}
	return race
}

// readCell is a plain read by thread i.
func (s *state) readCell(i int, x Cell) (value int32, race string) {
	t, c := &s.threads[i], &s.cells[x]
	if !t.sees(c) {
		race = fmt.Sprintf("race: payload %d is read before it was written", x)
	}
	c.reads[i] = s.tick(i)
	return c.value, race
}

// peekCell is a read that counts when it is confirmed.
func (s *state) peekCell(i int, x Cell) int32 {
	t, c := &s.threads[i], &s.cells[x]
	p := peek{cell: x, racy: !t.sees(c), write: [2]uint8{c.writer, c.wrote}}
	p.clock = s.tick(i)
	t.peeks = append(t.peeks, p)
	return c.value
}

// confirm makes the peeks of thread i count, or drops them.
func (s *state) confirm(i int, counts bool) (race string) {
	t := &s.threads[i]
	for _, p := range t.peeks {
		c := &s.cells[p.cell]
		if counts && (p.racy || p.write != [2]uint8{c.writer, c.wrote}) {
			race = fmt.Sprintf("race: payload %d is read before it was written", p.cell)
		}
		if counts {
			c.reads[i] = max(c.reads[i], p.clock)
		}
	}
	t.peeks = nil
	return race
}

// forget drops the messages that nobody can read any more, so that states that differ only in the past are one.
func (s *state) forget() {
	for x := range s.memory {
		low := len(s.memory[x]) - 1
		for i := range s.threads {
			if t := &s.threads[i]; !t.done && !t.dead {
				low = min(low, int(t.cur[x]))
			}
		}
		if low <= 0 {
			continue
		}
		s.eachView(func(v *view) { v[x] -= min(v[x], uint8(low)) })
		s.memory[x] = append([]message(nil), s.memory[x][low:]...)
		s.memory[x][0].rmw = false
	}
}
