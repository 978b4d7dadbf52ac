package model

import "math/bits"

// The properties, kept by what really happened (the second half of mpmcState).

func bit(id uint8) uint8 { return 1 << (id - 1) }

// deliver notes that a consumer was handed message id at position p, given back r times before.
func (t *turn) deliver(id, r, p uint8) {
	n := &t.n
	switch {
	case id == 0 || id == torn || n.committed&bit(id) == 0:
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

// consume notes that message id was received for good.
func (t *turn) consume(id uint8) {
	if id != 0 && id != torn {
		t.n.consumed |= bit(id)
	}
}

// overwrites checks that a producer does not write into a leased slot.
func (t *turn) overwrites(q uint8) {
	for i := range t.n.procs {
		p := &t.n.procs[i]
		if p.role != consumer || !p.holding {
			continue
		}
		for leased := p.p; leased < p.e; leased++ {
			if t.m.slot(leased) == t.m.slot(q) && (p.pc != l3free || leased >= p.i) {
				t.fail("payload changed under a lease")
			}
		}
	}
}

// Goal implements Model: every operation is done, every slot is free again, everybody who died was recovered and replaced.
func (m *MPMC) Goal(s *mpmcState) bool {
	for i := range s.procs {
		p := &s.procs[i]
		switch {
		case p.status == dead, p.status == retired && !m.NoHeirs:
			return false
		case p.status == retired:
		case p.role == producer && p.pc != finished, p.role == recoverer && p.pc != v1:
			return false
		}
	}
	for i := range m.Slots {
		if s.words[i].kind != free {
			return false
		}
	}
	return true
}

// full says whether producer i finds no room for its next operation at this moment.
func (m *MPMC) full(s *mpmcState, i uint8) bool {
	op := &m.Producers[i][s.procs[i].ops]
	for p := s.next; p < m.plan(op, s.next); p++ {
		if s.words[m.slot(p)] != freeFor(p) {
			return true
		}
	}
	return false
}

// ready says whether a message can be taken that was never delivered.
func (m *MPMC) ready(s *mpmcState) bool {
	for p := s.firsts; p < s.next; p++ {
		w := s.words[m.slot(p)]
		if m.head(w, p) != int(p) {
			continue
		}
		if w.kind == claimed {
			return false // what lies behind has to wait
		}
		if w.kind == ready && w.r == 0 {
			return true
		}
	}
	return false
}

// Check implements Model: at a good end nothing is missing and the accounts are exact. Before, nobody
// sleeps for ever.
func (m *MPMC) Check(s *mpmcState) string {
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
		return "skipped is not the number of abandoned claims"
	}
	for i, n := range s.deliveries {
		if missing>>i&1 == 1 && (n == 0 || !m.Drop && (m.MaxDeliveries == 0 || n < m.MaxDeliveries)) {
			return "lost before its time"
		}
	}
	return ""
}

// overslept says whether somebody sleeps who would find what it waits for, while nobody has a step left to wake it.
func (m *MPMC) overslept(s *mpmcState) bool {
	needless := false
	for i := range s.procs {
		switch p := &s.procs[i]; {
		case p.role == absent, p.role == recoverer, p.pc == finished:
		case p.pc != asleep:
			return false
		case p.role == producer:
			needless = needless || !m.full(s, uint8(i))
		default:
			needless = needless || s.announced != 0 || m.ready(s)
		}
	}
	return needless
}
