//go:build linux

package linearizability

import (
	"slices"

	"github.com/cd1900cf/millrace/ring"
)

// The consumers' half of the queue: what may be taken, what is empty, where the stream ends, and what becomes of leases.

// first returns the first message that waits in order, settling claims of the dead on the way, or -1.
func (q *queue) first(s *state) int {
	for i := 0; i < int(s.n); {
		switch e := &s.in[i]; e.is {
		case ready:
			return i
		case claimed:
			if !q.settle(s, i) {
				return -1
			}
		case skip:
			if i == 0 {
				s.remove(0)
			} else {
				i++
			}
		default:
			i++
		}
	}
	return -1
}

// takeAt makes the consumer take entry i.
func (q *queue) takeAt(s *state, i int, actor uint8, keep bool) {
	e := &s.in[i]
	switch {
	case keep:
		e.is, e.owner = held, actor
	case q.kind == ring.MPMC && (e.end-e.pos > 1 || q.messages[e.msg].apart):
		e.is, e.owner = done, actor
	default:
		s.remove(i)
	}
}

// take is one delivery.
func (q *queue) take(s *state, d delivery, actor uint8, keep bool) bool {
	next := *s
	i := q.first(&next)
	if i >= 0 && next.in[i].msg == d.msg {
		*s = next
	} else { // nothing is settled that need not be
		i = q.returned(s, d.msg)
	}
	if i < 0 || s.in[i].pos != d.pos || s.in[i].given+1 != d.count {
		return false
	}
	q.takeAt(s, i, actor, keep)
	return true
}

// returned returns the entry of a message that was given back out of order, or may have been.
func (q *queue) returned(s *state, msg uint8) int {
	for i := range int(s.n) {
		if e := &s.in[i]; e.msg == msg && q.kind == ring.MPMC {
			if e.is == held && s.isDead(e) && !q.lose(e.given, true) {
				q.settle(s, i)
			}
			if e.is == back || e.is == announced {
				return i
			}
		}
	}
	return -1
}

// empty says whether nothing was ready at this moment.
func (q *queue) empty(s *state) bool {
	for s.n > 0 && s.in[0].is == skip {
		s.remove(0)
	}
	for i := range int(s.n) {
		switch s.in[i].is {
		case announced, ready:
			return false
		case claimed: // and what is behind it is not ready
			return !slices.ContainsFunc(s.in[:s.n], func(e entry) bool { return e.is == announced })
		}
	}
	return true
}

// eof says whether the stream had ended at this moment: no live producer, nothing ready, nobody holds anything.
func (q *queue) eof(s *state) bool {
	q.settleAll(s)
	return s.live&q.producers == 0 && !slices.ContainsFunc(s.in[:s.n], func(e entry) bool {
		return e.is == ready || e.is == held || e.is == back || e.is == announced || e.is == claimed && q.kind == ring.MPMC
	})
}

// register begins a session. In an SPSC ring it settles what the last owner of the role left.
func (q *queue) register(s *state, actor uint8) bool {
	s.live |= bit(actor)
	if q.kind == ring.MPMC {
		return true
	}
	producer := q.producers&bit(actor) != 0
	for i := 0; i < int(s.n); {
		e := &s.in[i]
		if producer && e.is == claimed {
			*e = entry{pos: e.pos, end: e.pos + 1, is: skip}
			s.tail = e.end
			s.skipped++
		}
		if !producer && e.is == held && q.giveInPlace(s, i, true) {
			continue
		}
		i++
	}
	return true
}

// giveInPlace gives entry i of an SPSC ring back; it says whether it is gone.
func (q *queue) giveInPlace(s *state, i int, byPolicy bool) (gone bool) {
	e := &s.in[i]
	if !q.lose(e.given, byPolicy) {
		e.is, e.owner, e.given = ready, 0, e.given+1
		return false
	}
	s.lost++
	if byPolicy && q.drop {
		s.remove(i)
		return true
	}
	*e = entry{pos: e.pos, end: e.end, is: skip}
	return false
}

// give ends leases: release, and give back.
func (q *queue) give(s *state, o *step) bool {
	for _, m := range o.msgs {
		is := held
		if o.kind == stepFree {
			is = done
		}
		i := s.find(m, o.actor, is)
		if i < 0 {
			if o.kind == stepFree { // it was given back, not lost
				continue
			}
			return false
		}
		e := &s.in[i]
		switch {
		case o.kind == stepRelease || o.kind == stepFree:
			s.remove(i)
		case o.kind == stepDone:
			e.is = done
		case q.kind == ring.SPSC:
			q.giveInPlace(s, i, o.kind == stepBackByPolicy)
		case q.lose(e.given, o.kind == stepBackByPolicy):
			s.lost++
			e.is = done
		default:
			e.is, e.owner, e.given = back, 0, e.given+1
		}
	}
	return true
}

// takeUnknown is a receipt whose result nobody has seen, because the consumer died.
func (q *queue) takeUnknown(s state, o *step) (all []state) {
	s0 := s
	for range o.limit {
		i := q.first(&s0)
		if i < 0 {
			break
		}
		q.takeAt(&s0, i, o.actor, o.keep)
		all = append(all, s0)
	}
	return append(all, q.takeOneBack(s, o, -1)...)
}

// takeMore is what such a receipt may have taken of what was given back, after its first.
func (q *queue) takeMore(s state, o *step) []state {
	last := -1
	for i := range int(s.n) {
		if e := &s.in[i]; e.is == held && e.owner == o.actor && e.given > 0 && q.kind == ring.MPMC {
			last = max(last, int(e.pos))
		}
	}
	all := []state{s}
	if last >= 0 {
		all = append(all, q.takeOneBack(s, o, last)...)
	}
	return all
}

// takeOneBack takes any one message behind position after that was given back.
func (q *queue) takeOneBack(s state, o *step, after int) (all []state) {
	for i := range int(s.n) {
		next := s
		if j := q.returned(&next, s.in[i].msg); j >= 0 && int(next.in[j].pos) > after {
			q.takeAt(&next, j, o.actor, o.keep)
			all = append(all, next)
		}
	}
	return all
}
