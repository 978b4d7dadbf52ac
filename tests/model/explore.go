// Package model checks the protocols of docs/FORMAT.md by exploring every interleaving of a small configuration.
//
// explore.go knows nothing of rings: it walks the states of a Model breadth first. mpmc*.go and wait.go hold the MPMC protocol (FORMAT 8, 9, 11),
// spsc*.go the SPSC protocol (FORMAT 10). A mutation of the protocol is a Mutant; the tests show that each is caught.
//
// The exploration is sequentially consistent: it says nothing about memory order, which is the subject of docs/ORDERING.md.
package model

import (
	"fmt"
	"hash/maphash"
	"strings"
)

// Model is a transition system with comparable states.
type Model[S comparable] interface {
	// Start returns the first state.
	Start() S
	// Next calls emit once for every step that is enabled in s.
	Next(s *S, emit func(n *S, step Step))
	// Check returns the property that s itself violates, or "".
	Check(s *S) string
	// Goal says whether s is a good end: everything settled. From every state a goal must be reachable without another crash.
	Goal(s *S) bool
	// Format shows s on one line.
	Format(s *S) string
}

// Step is one transition: who did what. Crash marks the death of a process; Violates names the property that the step breaks.
type Step struct {
	Who      string
	Name     string
	Crash    bool
	Violates string
}

func (s Step) String() string { return fmt.Sprintf("%-3s %s", s.Who, s.Name) }

// Result is what an exploration found.
type Result struct {
	States, Edges, Depth, Goals int
	Truncated                   bool   // more than the allowed number of states
	Violates                    string // the violated property, or ""
	Trace                       []string
}

func (r Result) String() string {
	s := fmt.Sprintf("%d states, %d edges, depth %d, %d goals", r.States, r.Edges, r.Depth, r.Goals)
	if r.Violates != "" {
		s += "\nviolates: " + r.Violates + "\n" + strings.Join(r.Trace, "\n")
	}
	return s
}

// stuck is the progress property: the protocol must be able to settle everything without another crash.
const stuck = "stuck: no good end is reachable"

// Explore visits every state of m, at most limit of them, and stops at the first violation. With progress it then checks that a goal is reachable
// from every state.
//
// A state is remembered as a 128-bit hash; among 10^8 states two would collide with a probability below 10^-22.
func Explore[S comparable](m Model[S], limit int, progress bool) Result {
	x := &explorer[S]{m: m, seen: newTable(), progress: progress}
	return x.run(limit)
}

type explorer[S comparable] struct {
	m        Model[S]
	seen     *table
	progress bool
	parent   []uint32
	first    []uint32 // where the edges of a state start in to
	to       []uint32 // targets of the edges that are no crash
	goal     []bool
	result   Result
}

func (x *explorer[S]) run(limit int) Result {
	start := x.m.Start()
	x.visit(&start, 0)
	level, next := []S{start}, []S(nil)
	for at := uint32(0); len(level) > 0; x.result.Depth++ {
		next = next[:0]
		for i := range level {
			s := &level[i]
			if bad := x.m.Check(s); bad != "" {
				return x.fail(bad, at, nil)
			}
			x.goal = append(x.goal, x.m.Goal(s))
			if x.goal[at] {
				x.result.Goals++
			}
			x.first = append(x.first, uint32(len(x.to)))
			var bad Step
			x.m.Next(s, func(n *S, step Step) {
				if step.Violates != "" && bad.Violates == "" {
					bad = step
				}
				id, fresh := x.visit(n, at)
				if fresh {
					next = append(next, *n)
				}
				if x.progress && !step.Crash && id != at {
					x.to = append(x.to, id)
				}
				x.result.Edges++
			})
			if bad.Violates != "" {
				return x.fail(bad.Violates, at, &bad)
			}
			if len(x.parent) > limit {
				x.result.Truncated = true
				return x.result
			}
			at++
		}
		level, next = next, level
	}
	if x.progress {
		x.first = append(x.first, uint32(len(x.to)))
		if s, found := x.hopeless(); found {
			return x.fail(stuck, s, nil)
		}
	}
	return x.result
}

// visit numbers a state that is new.
func (x *explorer[S]) visit(s *S, parent uint32) (id uint32, fresh bool) {
	id, fresh = x.seen.add(x.hash(s), uint32(len(x.parent)))
	if fresh {
		x.parent = append(x.parent, parent)
		x.result.States++
	}
	return id, fresh
}

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func (x *explorer[S]) hash(s *S) [2]uint64 {
	return [2]uint64{maphash.Comparable(seeds[0], *s), maphash.Comparable(seeds[1], *s)}
}

// hopeless returns the first state from which no goal is reachable, by walking the edges backwards from the goals.
func (x *explorer[S]) hopeless() (uint32, bool) {
	n := len(x.goal)
	start := make([]uint32, n+2) // where the reversed edges of a state start, counted up while they are filled in
	for _, t := range x.to {
		start[t+2]++
	}
	for i := 2; i < n+2; i++ {
		start[i] += start[i-1]
	}
	back := make([]uint32, len(x.to))
	for s := range n {
		for _, t := range x.to[x.first[s]:x.first[s+1]] {
			back[start[t+1]] = uint32(s)
			start[t+1]++
		}
	}
	good := append([]bool(nil), x.goal...)
	var todo []uint32
	for s, is := range good {
		if is {
			todo = append(todo, uint32(s))
		}
	}
	for len(todo) > 0 {
		t := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, s := range back[start[t]:start[t+1]] {
			if !good[s] {
				good[s] = true
				todo = append(todo, s)
			}
		}
	}
	for s, is := range good {
		if !is {
			return uint32(s), true
		}
	}
	return 0, false
}

// fail finds the way to state at again and shows it, with the step that broke the property at the end.
func (x *explorer[S]) fail(property string, at uint32, last *Step) Result {
	path := []uint32{at}
	for path[len(path)-1] != 0 {
		path = append(path, x.parent[path[len(path)-1]])
	}
	s := x.m.Start()
	show := func(name string, s *S) {
		x.result.Trace = append(x.result.Trace, fmt.Sprintf("%3d %-22s %s", len(x.result.Trace), name, x.m.Format(s)))
	}
	show("start", &s)
	for i := len(path) - 2; i >= 0; i-- {
		var taken S
		var name string
		x.m.Next(&s, func(n *S, step Step) {
			if id, known := x.seen.find(x.hash(n)); known && id == path[i] {
				taken, name = *n, step.String()
			}
		})
		s = taken
		show(name, &s)
	}
	if last != nil {
		x.m.Next(&s, func(n *S, step Step) {
			if step == *last {
				show(step.String(), n)
				*last = Step{}
			}
		})
	}
	x.result.Violates = property
	return x.result
}

// table is an open-addressed map from hash to state number.
type table struct {
	keys   [][2]uint64
	ids    []uint32 // number + 1, or 0
	filled int
}

const tableStart = 1 << 16

func newTable() *table {
	return &table{keys: make([][2]uint64, tableStart), ids: make([]uint32, tableStart)}
}

// place returns the cell of a key, or the empty cell where it belongs.
func (t *table) place(key [2]uint64) int {
	mask := len(t.ids) - 1
	i := int(key[0]) & mask
	for t.ids[i] != 0 && t.keys[i] != key {
		i = (i + 1) & mask
	}
	return i
}

func (t *table) find(key [2]uint64) (uint32, bool) {
	i := t.place(key)
	return t.ids[i] - 1, t.ids[i] != 0
}

func (t *table) add(key [2]uint64, id uint32) (uint32, bool) {
	if t.filled*4 > len(t.ids)*3 {
		t.grow()
	}
	i := t.place(key)
	if t.ids[i] != 0 {
		return t.ids[i] - 1, false
	}
	t.keys[i], t.ids[i] = key, id+1
	t.filled++
	return id, true
}

func (t *table) grow() {
	old := *t
	t.keys, t.ids = make([][2]uint64, 2*len(old.ids)), make([]uint32, 2*len(old.ids))
	for i, id := range old.ids {
		if id != 0 {
			j := t.place(old.keys[i])
			t.keys[j], t.ids[j] = old.keys[i], id
		}
	}
}
