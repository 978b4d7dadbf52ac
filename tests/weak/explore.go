package weak

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"math/bits"
	"slices"
	"strings"
)

// Program is threads on a memory, and what must be true when nobody can go on.
type Program struct {
	Name    string
	Initial []int32 // values of the locations
	Names   []string
	Cells   []int32
	Threads []func(*T)
	Mortal  []int // threads that may die at any step; at most one does
	// Check names the property that an execution violates at its end, or "".
	Check func(*End) string
}

// End is how an execution ended.
type End struct {
	Results [][]int32 // what each thread reported
	Dead    []bool
	Done    []bool
	Asleep  []bool
	Last    []int32 // the last message of each location
}

// Result is what an exploration found.
type Result struct {
	States, Ends, Cut int
	Violates          string
	Trace             []string
	Outcomes          map[string]bool // results of all threads, of ends without a violation
}

// maxOps bounds the operations of one thread, maxStates the states of one exploration; what goes on longer is cut, and counted.
const (
	maxOps    = 60
	maxStates = 1 << 20
)

// Explore walks every execution of p, and stops at the first violation.
func Explore(p *Program, orders Orders) Result {
	x := &explorer{p: p, orders: orders, seen: map[[2]uint64]bool{}, result: Result{Outcomes: map[string]bool{}}}
	x.known = make([]map[string]known, len(p.Threads))
	s := &state{cells: make([]cell, len(p.Cells)), threads: make([]thread, len(p.Threads))}
	for _, v := range p.Initial {
		s.memory = append(s.memory, []message{{value: v}})
	}
	for c, v := range p.Cells {
		s.cells[c].value = v
	}
	for i := range p.Threads {
		x.known[i] = map[string]known{}
		x.plainSteps(s, i)
	}
	x.walk(s)
	return x.result
}

type known struct {
	next    op
	results []int32
}

type explorer struct {
	p      *Program
	orders Orders
	seen   map[[2]uint64]bool
	known  []map[string]known // for each thread, by history
	path   []string
	key    []byte
	result Result
}

// at says what thread i does next.
func (x *explorer) at(s *state, i int) known {
	x.key = x.key[:0]
	for _, v := range s.threads[i].history {
		x.key = binary.LittleEndian.AppendUint32(x.key, uint32(v))
	}
	k, ok := x.known[i][string(x.key)]
	if !ok {
		k.next, k.results = resume(x.p.Threads[i], i, x.orders, s.threads[i].history)
		x.known[i][string(x.key)] = k
	}
	return k
}

func (x *explorer) fail(property string) {
	if x.result.Violates == "" {
		x.result.Violates = property
		x.result.Trace = slices.Clone(x.path)
	}
}

// walk visits s and what follows it.
func (x *explorer) walk(s *state) {
	s.forget()
	if x.result.Violates != "" || !x.fresh(s) {
		return
	}
	if x.result.States++; x.result.States > maxStates {
		x.result.Cut++
		return
	}
	moved := false
	delaying := slices.ContainsFunc(s.threads, func(t thread) bool { return len(t.delayed) > 0 && !t.dead })
	for i := range s.threads {
		if t := &s.threads[i]; t.done || t.dead || t.asleep || delaying && len(t.delayed) == 0 {
			continue
		}
		if len(s.threads[i].history) >= maxOps {
			x.result.Cut++
			return
		}
		moved = x.step(s, i) || moved
		if x.mortal(s, i) {
			x.die(s, i)
			moved = true
		}
	}
	if !moved {
		x.end(s)
	}
}

// mortal says whether thread i may die in s.
func (x *explorer) mortal(s *state, i int) bool {
	return slices.Contains(x.p.Mortal, i) && !slices.ContainsFunc(s.threads, func(t thread) bool { return t.dead })
}

func (x *explorer) die(s *state, i int) {
	n := s.clone(i)
	n.threads[i].dead = true
	x.follow(n, i, "killed")
}

// follow goes on with n, which came from a step of thread i.
func (x *explorer) follow(n *state, i int, what string) {
	x.path = append(x.path, fmt.Sprintf("%d %s", i, what))
	x.plainSteps(n, i)
	x.walk(n)
	x.path = x.path[:len(x.path)-1]
}

// plainSteps lets thread i go on to its next access that others see.
func (x *explorer) plainSteps(n *state, i int) {
	for t := &n.threads[i]; !t.dead; {
		o := x.at(n, i).next
		if o.kind == opEnd {
			t.done = true
			return
		}
		if !o.kind.plain() {
			return
		}
		var v int32
		race := ""
		switch o.kind {
		case opRead:
			v, race = n.readCell(i, Cell(o.at))
		case opWrite:
			race = n.writeCell(i, Cell(o.at), o.a)
		case opPeek:
			v = n.peekCell(i, Cell(o.at))
		case opConfirm:
			race = n.confirm(i, o.a == 1)
		case opFail:
			race = o.text
		}
		x.path = append(x.path, fmt.Sprintf("%d %s %d", i, o.kind, o.at))
		if race != "" {
			x.fail(race)
		}
		x.path = x.path[:len(x.path)-1]
		if race != "" {
			t.done = true
			return
		}
		t.history = append(t.history, v)
	}
}

// step takes every step that thread i can take in s, and says whether there was one.
func (x *explorer) step(s *state, i int) (moved bool) {
	o := x.at(s, i).next
	t := &s.threads[i]
	if len(t.delayed) > 0 && !o.passes(t.delayed) {
		return false // the program order holds, or it makes no difference any more
	}
	take := func(v int32, what string, f func(n *state, t *thread)) {
		n := s.clone(i)
		f(n, &n.threads[i])
		n.threads[i].history = append(n.threads[i].history, v)
		x.follow(n, i, what)
		moved = true
	}
	loc := Loc(o.at)
	show := func(v int32) string { return fmt.Sprintf("%s %s %s: %s", o.kind, o.row, x.p.name(loc), word(v)) }
	switch o.kind {
	case opLoad, opAwait:
		for m := s.oldest(t, loc, o.ord); m < len(s.memory[loc]); m++ {
			v := s.memory[loc][m].value
			if o.kind == opAwait && v != o.a {
				continue
			}
			take(v, show(v), func(n *state, t *thread) { n.read(t, loc, m, o.ord) })
		}
	case opStore:
		for m := s.oldest(t, loc, o.ord) + 1; m <= len(s.memory[loc]); m++ {
			if m < len(s.memory[loc]) && s.memory[loc][m].rmw {
				continue
			}
			take(0, show(o.a), func(n *state, t *thread) { n.write(t, loc, m, o.a, o.ord, nil) })
		}
		if x.mortal(s, i) && len(t.delayed) < 2 {
			take(0, "delayed "+show(o.a), func(n *state, t *thread) { t.delayed = append(t.delayed, loc) })
		}
	case opCAS, opAdd:
		x.change(s, i, o, take)
	case opFence:
		take(0, "fence "+o.row, func(n *state, t *thread) { n.fence(t, o.ord) })
	case opMembarrier:
		take(0, "membarrier", func(n *state, t *thread) { n.membarrier(t) })
	case opSleep:
		x.sleep(s, i, o, take)
		return true
	case opWake:
		return x.wake(s, i, o)
	case opProof:
		if d := &s.threads[o.at]; d.dead {
			take(0, "V1", func(n *state, t *thread) {
				t.cur.join(&d.cur)
				t.acq.join(&t.cur)
			})
		}
	}
	return moved
}

// change takes the steps of a read-modify-write.
func (x *explorer) change(s *state, i int, o op, take func(int32, string, func(*state, *thread))) {
	t, loc := &s.threads[i], Loc(o.at)
	for m := s.oldest(t, loc, o.ord); m < len(s.memory[loc]); m++ {
		was := s.memory[loc][m].value
		to, load := o.b, o.ord
		if o.kind == opAdd {
			to = was + o.a
		} else if was != o.a {
			if load == AcqRel {
				load = Acq
			}
			take(was, fmt.Sprintf("cas %s %s failed: %s", o.row, x.p.name(loc), word(was)), func(n *state, t *thread) { n.read(t, loc, m, load) })
			continue
		}
		if s.glued(loc, m) {
			continue // somebody else has changed this one
		}
		take(was, fmt.Sprintf("%s %s %s: %s -> %s", o.kind, o.row, x.p.name(loc), word(was), word(to)), func(n *state, t *thread) {
			from := n.memory[loc][m].view
			n.read(t, loc, m, o.ord)
			n.write(t, loc, m+1, to, o.ord, &from)
		})
	}
}

// sleep compares under the lock, and sleeps.
func (x *explorer) sleep(s *state, i int, o op, take func(int32, string, func(*state, *thread))) {
	t, loc := &s.threads[i], Loc(o.at)
	low := max(t.cur[loc], s.kernel[loc])
	for m := int(low); m < len(s.memory[loc]); m++ {
		if epoch(s.memory[loc][m].value) != o.a {
			take(0, "does not sleep", func(n *state, t *thread) {
				n.locked(t)
				t.cur[loc] = uint8(m)
				t.acq.join(&t.cur)
			})
			continue
		}
		n := s.clone(i)
		n.locked(&n.threads[i])
		n.threads[i].asleep = true
		x.follow(n, i, "sleeps")
	}
}

// wake wakes any o.a of the sleepers.
func (x *explorer) wake(s *state, i int, o op) bool {
	var sleepers uint
	for j := range s.threads {
		if s.threads[j].asleep {
			sleepers |= 1 << j
		}
	}
	count := min(int(o.a), bits.OnesCount(sleepers))
	for woken := range sleepers + 1 {
		if woken&^sleepers != 0 || bits.OnesCount(woken) != count {
			continue
		}
		n := s.clone(i)
		n.locked(&n.threads[i])
		n.threads[i].history = append(n.threads[i].history, int32(count))
		for j := range n.threads {
			if t := &n.threads[j]; woken>>j&1 == 1 {
				t.asleep = false
				t.history = append(t.history[:len(t.history):len(t.history)], 0)
				n.locked(t)
			}
		}
		for j := range n.threads {
			if woken>>j&1 == 1 {
				x.plainSteps(n, j)
			}
		}
		x.follow(n, i, fmt.Sprintf("wakes %d", count))
	}
	return true
}

// passes says whether o may come before the delayed stores: a compiler may move a relaxed store or a load of another location up.
func (o op) passes(delayed []Loc) bool {
	switch {
	case slices.Contains(delayed, Loc(o.at)):
		return false
	case o.kind == opStore:
		return !o.ord.releases()
	}
	return o.kind == opLoad && o.ord != SC
}

// end checks an execution that is over.
func (x *explorer) end(s *state) {
	e := &End{}
	for i := range s.threads {
		if len(s.threads[i].delayed) > 0 && !s.threads[i].dead {
			return // delayed for nothing
		}
		e.Results = append(e.Results, x.at(s, i).results)
		e.Dead = append(e.Dead, s.threads[i].dead)
		e.Done = append(e.Done, s.threads[i].done)
		e.Asleep = append(e.Asleep, s.threads[i].asleep)
	}
	for _, list := range s.memory {
		e.Last = append(e.Last, list[len(list)-1].value)
	}
	x.result.Ends++
	if x.p.Check != nil {
		if bad := x.p.Check(e); bad != "" {
			x.fail(bad)
			return
		}
	}
	x.result.Outcomes[fmt.Sprint(e.Results)] = true
}

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

// fresh says whether s is new. A state is remembered as a 128-bit hash.
func (x *explorer) fresh(s *state) bool {
	b := x.key[:0]
	b = append(append(b, s.sc[:]...), s.kernel[:]...)
	for i := range s.threads {
		t := &s.threads[i]
		b = append(append(append(b, t.cur[:]...), t.acq[:]...), t.rel[:]...)
		for _, v := range t.history {
			b = binary.LittleEndian.AppendUint32(b, uint32(v))
		}
		for _, d := range t.delayed {
			b = append(b, byte(d))
		}
		for _, p := range t.peeks {
			b = append(b, byte(p.cell), p.clock, p.write[0], p.write[1], bit(p.racy))
		}
		b = append(b, byte(len(t.history)), byte(len(t.delayed)), byte(len(t.peeks)), bit(t.done)|bit(t.dead)<<1|bit(t.asleep)<<2)
	}
	for _, list := range s.memory {
		for _, m := range list {
			b = append(append(binary.LittleEndian.AppendUint32(b, uint32(m.value)), bit(m.rmw)), m.view[:]...)
		}
		b = append(b, byte(len(list)))
	}
	for _, c := range s.cells {
		b = append(binary.LittleEndian.AppendUint32(b, uint32(c.value)), c.writer, c.wrote)
		b = append(b, c.reads[:]...)
	}
	x.key = b
	h := [2]uint64{maphash.Bytes(seeds[0], b), maphash.Bytes(seeds[1], b)}
	if x.seen[h] {
		return false
	}
	x.seen[h] = true
	return true
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// name returns the name of a location.
func (p *Program) name(x Loc) string {
	if int(x) < len(p.Names) {
		return p.Names[x]
	}
	return fmt.Sprint("x", x)
}

func (r Result) String() string {
	s := fmt.Sprintf("%d states, %d ends", r.States, r.Ends)
	if r.Violates != "" {
		s += "\nviolates: " + r.Violates + "\n" + strings.Join(r.Trace, "\n")
	}
	return s
}
