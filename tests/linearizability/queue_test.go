//go:build linux

package linearizability

import (
	"fmt"
	"math/bits"
	"slices"

	"github.com/cd1900cf/millrace/ring"
)

// The queue as the contract promises it, one step at a time. A call is one step or several, each of which happens at one moment between the call and
// its return: Send is a claim and a commit (the order is that of the claims), a Return is one step for each message and one that announces it.
//
// What recovery does for the dead has no moment that anybody could observe, so it is no step. Where a step needs that a dead participant's claim
// has been skipped, or its lease given back, and nothing forbids that it has, it has.

// Bounds of a history.
const (
	maxActors = 16
	maxSlots  = 8
)

// standing is what became of a message.
type standing uint8

const (
	claimed   standing = 1 + iota
	ready              // committed; nobody has come by yet (SPSC: or given back)
	held               // leased by owner
	back               // MPMC: given back by owner, not announced yet
	announced          // MPMC: given back
	done               // MPMC: received or released, its slots are not free yet
	skip               // SPSC: no message, the consumer steps over
)

// entry is what occupies the slots [pos, end): one message, or all that one claim took.
type entry struct {
	pos, end uint16
	msg      uint8 // number of the message in the history; of a claim: its first
	is       standing
	owner    uint8 // actor that claims or holds it
	given    uint8 // times given back
}

// state is the queue at one moment. It is comparable.
type state struct {
	tail          uint16 // the next position to be claimed
	n             uint8
	in            [maxSlots]entry // what is not free, in the order of the positions
	live, dead    uint16          // actors, a bit each
	over          uint16          // actors whose last call has done all that it will
	next          [maxActors]uint16
	lost, skipped uint8
}

// kindOf a step.
type kindOf uint8

const (
	stepClaim kindOf = 1 + iota
	stepCommit
	stepDiscard
	stepPad  // SPSC: skip to the start of the ring, if the next message would wrap
	stepSend // SPSC: claim and commit are one
	stepFull
	stepNoConsumers
	stepTake
	stepTakeUnknown
	stepTakeMore
	stepEmpty
	stepEOF
	stepRelease
	stepDone
	stepFree
	stepFreeAny // whatever the actor has received
	stepBack
	stepBackByPolicy
	stepAnnounce
	stepRegister
	stepClose
	stepHalt // a process was killed
	stepAccount
)

// delivery is a message as a consumer got it.
type delivery struct {
	msg   uint8
	pos   uint16
	count uint8
}

// step is one operation of the checker.
type step struct {
	kind  kindOf
	actor uint8
	halts uint16 // stepHalt: the actors of the process
	index uint16 // place among the actor's steps
	msgs  []uint8
	got   []delivery
	limit int  // stepTakeUnknown: the most it may take
	some  bool // stepClaim, stepSend, stepCommit: some of the messages, see prefixes
	keep  bool // a lease
	lost, skipped,
	used int // stepAccount
}

// message is what is known of a message before the check begins.
type message struct {
	slots uint8 // that it takes as it was committed
	room  uint8 // that were claimed for it, when that is more
	apart bool  // MPMC: of one slot, and may yet be received in the way of several
	at    int   // its position, if somebody received it, or -1
}

// queue is the sequential specification for one history.
type queue struct {
	kind      ring.Kind
	slots     int
	drop      bool
	max       int // deliveries
	producers uint16
	messages  []message
	steps     [maxActors]uint16 // that each actor has
}

func bit(actor uint8) uint16 { return 1 << actor }

func (s *state) isDead(e *entry) bool { return s.dead&bit(e.owner) != 0 }

// remove takes entry i out: its slots are free.
func (s *state) remove(i int) {
	copy(s.in[i:], s.in[i+1:int(s.n)])
	s.n--
	s.in[s.n] = entry{}
}

func (s *state) add(e entry) bool {
	if int(s.n) == len(s.in) {
		return false
	}
	s.in[s.n] = e
	s.n++
	return true
}

// find returns the entry of a message that actor owns in that standing.
func (s *state) find(msg, actor uint8, is standing) int {
	for i := range int(s.n) {
		if e := &s.in[i]; e.msg == msg && e.owner == actor && e.is == is {
			return i
		}
	}
	return -1
}

// lose says whether a message that was given back so often before is lost when it comes back once more.
func (q *queue) lose(given uint8, byPolicy bool) bool {
	return byPolicy && q.drop || q.max > 0 && int(given)+1 >= q.max
}

// settle does what recovery may have done about entry i; gone says that its slots are free now. Only in an MPMC ring: in an SPSC ring a successor does it.
func (q *queue) settle(s *state, i int) (gone bool) {
	e := &s.in[i]
	if q.kind == ring.SPSC || !s.isDead(e) {
		return false
	}
	switch {
	case e.is == claimed:
		s.skipped++
	case e.is == done:
	case e.is == held && q.lose(e.given, true):
		s.lost++
	case e.is == held:
		e.is, e.owner, e.given = back, 0, e.given+1
		return false
	default:
		return false
	}
	s.remove(i)
	return true
}

func (q *queue) settleAll(s *state) {
	for i := 0; i < int(s.n); {
		if !q.settle(s, i) {
			i++
		}
	}
}

// extent lays messages out from the tail on, with their padding, and says where each begins.
func (q *queue) extent(s *state, msgs []uint8) (at []uint16, end uint16) {
	end = s.tail
	for _, m := range msgs {
		k := uint16(max(q.messages[m].slots, q.messages[m].room))
		if left := uint16(q.slots) - end%uint16(q.slots); k > left {
			end += left
		}
		at = append(at, end)
		end += k
	}
	return at, end
}

// fits says whether the positions from the tail to end are free. With settle it frees what recovery may have freed.
func (q *queue) fits(s *state, end uint16, settle bool) bool {
	for i := 0; i < int(s.n); {
		e := &s.in[i]
		inUse := int(e.pos)+q.slots < int(end)
		if q.kind == ring.SPSC && settle && inUse && i == 0 && e.is == skip {
			s.remove(0) // the consumer looks by and by
			continue
		}
		if !inUse {
			i++
			continue
		}
		if !settle || !q.settle(s, i) {
			return false
		}
	}
	return true
}

// step returns the states that may follow s.
//
// When a process halts, the calls of its actors are not over: what is left of their steps happens no more. That must be accounted for at once, so that the
// checker need not try when. The kernel releases the locks of the dead a little later; as nobody has to notice that, it is no step.
func (q *queue) step(s state, o *step) []state {
	silent := s.dead | s.over
	for rest := silent; rest != 0; rest &= rest - 1 {
		if a := uint8(bits.TrailingZeros16(rest)); s.next[a] < q.steps[a] {
			if o.actor != a {
				return nil
			}
			break
		}
	}
	switch {
	case o.kind == stepHalt:
		s.live &^= o.halts
		s.dead |= o.halts
		return []state{s}
	case s.next[o.actor] != o.index:
		return nil
	}
	s.next[o.actor]++
	if silent&bit(o.actor) != 0 {
		return []state{s}
	}
	switch o.kind {
	case stepClaim, stepSend, stepCommit:
		if o.some {
			return q.prefixes(s, o)
		}
	case stepTakeUnknown:
		return q.takeUnknown(s, o)
	case stepTakeMore:
		return q.takeMore(s, o)
	}
	if !q.apply(&s, o) {
		return nil
	}
	return []state{s}
}

// apply does a step that has one outcome; false when it cannot happen now.
func (q *queue) apply(s *state, o *step) bool {
	switch o.kind {
	case stepClaim, stepSend:
		return q.claim(s, o)
	case stepPad:
		return q.pad(s, o.msgs[0])
	case stepCommit:
		return q.commit(s, o)
	case stepDiscard:
		i := s.find(o.msgs[0], o.actor, claimed)
		if i < 0 {
			return false
		}
		if q.kind == ring.SPSC {
			s.tail = s.in[i].pos
		}
		s.remove(i)
		return true
	case stepFull:
		_, end := q.extent(s, o.msgs)
		return !q.fits(s, end, false)
	case stepNoConsumers:
		q.settleAll(s)
		_, end := q.extent(s, o.msgs)
		return s.live&^q.producers == 0 && !q.fits(s, end, false)
	case stepTake:
		for _, d := range o.got {
			if len(o.got) > 1 && q.kind == ring.MPMC && d.count > 1 || !q.take(s, d, o.actor, o.keep) {
				return false
			}
		}
		return true
	case stepEmpty:
		return q.empty(s)
	case stepEOF:
		return q.eof(s)
	case stepRegister:
		return q.register(s, o.actor)
	case stepClose:
		s.live &^= bit(o.actor)
		return true
	case stepFreeAny:
		for i := int(s.n) - 1; i >= 0; i-- {
			if e := &s.in[i]; e.is == done && e.owner == o.actor {
				s.remove(i)
			}
		}
		return true
	case stepAnnounce:
		for i := range int(s.n) {
			if s.in[i].is == back {
				s.in[i].is = announced
			}
		}
		return true
	case stepAccount:
		q.settleAll(s)
		return int(s.lost) == o.lost && int(s.skipped) == o.skipped && o.used == 0 &&
			!slices.ContainsFunc(s.in[:s.n], func(e entry) bool { return e.is != skip && (e.is != claimed || q.kind == ring.MPMC) })
	}
	return q.give(s, o)
}

// claim takes positions for messages, and in an SPSC ring commits them too unless they are reserved.
func (q *queue) claim(s *state, o *step) bool {
	at, end := q.extent(s, o.msgs)
	for i, m := range o.msgs {
		if known := q.messages[m].at; known >= 0 && known != int(at[i]) {
			return false
		}
	}
	if !q.fits(s, end, true) {
		return false
	}
	e := entry{pos: s.tail, end: end, msg: o.msgs[0], is: claimed, owner: o.actor}
	s.tail = end
	return s.add(e) && (o.kind == stepClaim || q.commit(s, o))
}

// prefixes is the same for a TrySendBatch whose result nobody has seen: any prefix may have been claimed, and a short one ends the call.
func (q *queue) prefixes(s state, o *step) (all []state) {
	for n := 1; n <= len(o.msgs); n++ {
		next, part := s, *o
		part.msgs = o.msgs[:n]
		if o.kind == stepCommit {
			i := s.find(o.msgs[0], o.actor, claimed)
			was := s
			if i < 0 {
				return nil
			}
			was.tail = s.in[i].pos
			if _, end := q.extent(&was, part.msgs); end != s.in[i].end {
				continue
			}
		}
		if !q.apply(&next, &part) {
			continue
		}
		if n < len(o.msgs) && o.kind != stepClaim {
			next.over |= bit(o.actor)
		}
		all = append(all, next)
	}
	return all
}

// pad publishes the rest of the ring as padding.
func (q *queue) pad(s *state, msg uint8) bool {
	at, end := q.extent(s, []uint8{msg})
	if at[0] == s.tail {
		return true
	}
	if !q.fits(s, end, true) || !s.add(entry{pos: s.tail, end: at[0], is: skip}) {
		return false
	}
	s.tail = at[0]
	return true
}

// commit makes the messages of a claim ready, all at once; what it took and does not need is free.
func (q *queue) commit(s *state, o *step) bool {
	i := s.find(o.msgs[0], o.actor, claimed)
	if i < 0 {
		return false
	}
	was := *s
	was.tail = s.in[i].pos
	at, _ := q.extent(&was, o.msgs)
	rest := slices.Clone(s.in[i+1 : s.n])
	s.n = uint8(i)
	for j, m := range o.msgs {
		end := at[j] + uint16(q.messages[m].slots)
		if !s.add(entry{pos: at[j], end: end, msg: m, is: ready}) {
			return false
		}
		if q.kind == ring.SPSC {
			s.tail = end
		}
	}
	for _, e := range rest {
		if !s.add(e) {
			return false
		}
	}
	for j := int(s.n); j < len(s.in); j++ {
		s.in[j] = entry{}
	}
	return true
}

func (o *step) String() string {
	names := [...]string{"", "claim", "commit", "discard", "pad", "send", "full", "no consumers", "take", "take?", "more?", "empty", "eof", "release", "done", "free", "free?",
		"back", "back by policy", "announce", "register", "close", "halt", "account"}
	text := fmt.Sprintf("%d.%d %s", o.actor, o.index, names[o.kind])
	if len(o.msgs) > 0 {
		text += fmt.Sprintf(" %v", o.msgs)
	}
	for _, d := range o.got {
		text += fmt.Sprintf(" %d@%d/%d", d.msg, d.pos, d.count)
	}
	if o.kind == stepHalt {
		text += fmt.Sprintf(" %016b", o.halts)
	}
	if o.kind == stepAccount {
		text += fmt.Sprintf(" lost %d skipped %d used %d", o.lost, o.skipped, o.used)
	}
	return text
}
