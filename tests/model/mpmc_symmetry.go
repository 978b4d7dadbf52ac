package model

import "slices"

// Processes with the same work are interchangeable: of the states that differ only in which of them is which, one is explored. In a trace such
// processes may therefore swap their names from line to line.

// canonical sorts the processes of each group.
func (m *MPMC) canonical(s *mpmcState) {
	for _, g := range m.groups {
		for i := g[0] + 1; i < g[1]; i++ {
			for j := i; j > g[0] && s.procs[j].rank() < s.procs[j-1].rank(); j-- {
				s.swap(uint8(j-1), uint8(j))
			}
		}
	}
}

// rank orders processes; equal ranks cost states, nothing else.
func (p *process) rank() (r uint64) {
	for _, v := range [...]uint8{uint8(p.status), uint8(p.pc), p.pos, p.ops, uint8(p.ret), p.p, p.q, p.i} {
		r = r<<8 | uint64(v)
	}
	return r
}

// swap exchanges processes a and b wherever they are named.
func (s *mpmcState) swap(a, b uint8) {
	other := func(id *uint8) {
		switch *id {
		case a:
			*id = b
		case b:
			*id = a
		}
	}
	owner := func(w *word) {
		if w.kind == claimed || w.kind == taken || w.kind == done {
			other(&w.owner)
		}
	}
	s.procs[a], s.procs[b] = s.procs[b], s.procs[a]
	for i := range s.words {
		owner(&s.words[i])
	}
	for i := range s.procs {
		p := &s.procs[i]
		owner(&p.w)
		owner(&p.aw)
		if p.target > 0 {
			p.target--
			other(&p.target)
			p.target++
		}
	}
}

// group finds the runs of processes with the same work.
func (m *MPMC) group() {
	same := func(lo, n int, equal func(a, b int) bool) {
		for a := 0; a < n; {
			b := a + 1
			for b < n && equal(a, b) {
				b++
			}
			if b > a+1 {
				m.groups = append(m.groups, [2]int{lo + a, lo + b})
			}
			a = b
		}
	}
	same(0, len(m.Producers), func(a, b int) bool {
		return slices.EqualFunc(m.Producers[a], m.Producers[b], func(x, y Op) bool {
			return x.Discard == y.Discard && x.Keep == y.Keep && slices.Equal(x.Slots, y.Slots)
		})
	})
	same(len(m.Producers), len(m.Consumers), func(a, b int) bool { return m.Consumers[a] == m.Consumers[b] })
	same(len(m.Producers)+len(m.Consumers), m.Recoverers, func(a, b int) bool { return true })
}
