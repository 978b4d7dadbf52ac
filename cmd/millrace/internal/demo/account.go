package demo

import (
	"fmt"
	"sync"
	"time"
)

// account is what the parent knows of every message, from the consumers' reports and the files on disk alone. It does not
// rest on the ring's counters, nor on the consumers' own.
//
// Two identities count. A message of the ring is a position; it may be delivered several times, each time with another
// delivery count. A message of a producer is its number in the producer's lane; it may be sent several times, each time by
// another incarnation and so at another position. Everything else that comes twice came twice unmarked.
//
// What is remembered of each message is forgotten again when it lies far enough back: a position is used again only when
// the message there was released, so nothing of it can come once the ring has gone round, but what waits in a pipe.
type account struct {
	mu    sync.Mutex
	files []file
	lanes []lane
	where []place // by file

	positions []positionEntry
	numbers   [][]numberEntry // by producer

	tally
	got      []uint64 // chunks received for the first time, by file
	bad      []bool   // by file: something of it was wrong
	began    time.Time
	last     time.Time // of the last report
	stall    time.Duration
	latency  histogram
	kills    kills
	problems []string
}

// place is where a file is: in which lane, and at which index of it.
type place struct{ producer, k int }

// tally is what can be counted while the demo runs.
type tally struct {
	reports     uint64 // deliveries, whatever they were
	messages    uint64 // messages of the ring
	redelivered uint64 // deliveries marked as such
	resent      uint64 // messages sent again by a successor
	bytes       uint64 // of chunks received for the first time
	faults      [numFaults]uint64
}

// fault is a way in which the account can fail to balance.
type fault int

const (
	faultForeign   fault = iota // a message that nobody sent
	faultContent                // bytes that are not those of the file
	faultDuplicate              // received twice unmarked
	faultOrder                  // before an earlier one of the same producer
	numFaults
)

func (f fault) String() string {
	return [...]string{"foreign", "wrong content", "unmarked duplicate", "out of order"}[f]
}

type positionEntry struct {
	position    uint64 // + 1; 0: none
	number      uint64
	producer    uint32
	incarnation uint32
	deliveries  uint64 // bit n: delivery n was reported
}

type numberEntry struct {
	number       uint64 // + 1; 0: none
	incarnations uint64 // bit n mod 64: a copy of incarnation n was received
}

// How many positions, and messages of each producer, are remembered: many times what the ring holds. Powers of two.
const (
	rememberPositions = 32 * slots
	rememberNumbers   = 16 * slots
)

// manyDeliveries is where the ring's delivery count ends; from there on it does not tell one delivery from the next.
const manyDeliveries = 49

// maxProblems bounds the list of examples.
const maxProblems = 10

func newAccount(files []file, lanes []lane) *account {
	a := &account{
		files: files, lanes: lanes, positions: make([]positionEntry, rememberPositions),
		got: make([]uint64, len(files)), bad: make([]bool, len(files)),
	}
	a.where = make([]place, len(files))
	for p := range lanes {
		a.numbers = append(a.numbers, make([]numberEntry, rememberNumbers))
		for k, i := range lanes[p].files {
			a.where[i] = place{p, k}
		}
	}
	a.began = time.Now()
	a.last = a.began
	return a
}

// source is one consumer process, as the account sees it.
type source struct {
	index, incarnation int
	position           uint64 // + 1 of the last first delivery
	last               []lastSent
}

// lastSent is the newest message of one producer that a consumer received as a first delivery.
type lastSent struct {
	number      uint64 // + 1
	incarnation uint32
}

func (a *account) newSource(index, incarnation int) *source {
	return &source{index: index, incarnation: incarnation, last: make([]lastSent, len(a.lanes))}
}

// take enters the reports in b, and returns how many bytes of it they were. What is left is the beginning of a report.
func (a *account) take(s *source, b []byte) int {
	if len(b) < reportSize {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	a.stall = max(a.stall, now.Sub(a.last))
	a.last = now
	n := 0
	for ; len(b)-n >= reportSize; n += reportSize {
		var r report
		r.get(b[n:])
		a.enter(s, &r)
		a.kills.note(s, &r, now)
	}
	return n
}

// enter enters one report.
func (a *account) enter(s *source, r *report) {
	a.reports++
	if r.deliveries > 1 {
		a.redelivered++
	}
	if !a.known(r) {
		a.fault(faultForeign, s, r)
		return
	}
	f := &a.files[r.file]
	if int(r.length) != f.chunk(uint64(r.seq)) || r.sum != f.sums[r.seq] {
		a.fault(faultContent, s, r)
	}
	number := a.number(r)
	a.order(s, r, number)
	if !a.enterPosition(s, r, number) {
		return
	}
	a.messages++
	a.latency.add(r.received - r.sent)
	if a.enterNumber(s, r, number) {
		a.got[r.file]++
		a.bytes += uint64(r.length)
	}
}

// known says whether the header can have been sent: a chunk of a file, by the producer that has the file.
func (a *account) known(r *report) bool {
	if uint64(r.file) >= uint64(len(a.files)) || a.where[r.file].producer != int(r.producer) || r.deliveries == 0 {
		return false
	}
	return uint64(r.total) == a.files[r.file].chunks() && r.seq < r.total && r.offset == uint64(r.seq)*chunkSize
}

// number returns the message's number in its producer's lane.
func (a *account) number(r *report) uint64 {
	l := &a.lanes[r.producer]
	return uint64(r.pass)*l.pass + l.first[a.where[r.file].k] + uint64(r.seq)
}

// order checks that a consumer gets first deliveries in the order of their positions, and those of one producer in the order
// in which they were sent.
func (a *account) order(s *source, r *report, number uint64) {
	if r.deliveries > 1 {
		return // comes late, and says so
	}
	last := &s.last[r.producer]
	if r.position < s.position || r.incarnation < last.incarnation || r.incarnation == last.incarnation && number < last.number {
		a.fault(faultOrder, s, r)
	}
	s.position = r.position + 1
	*last = lastSent{number + 1, r.incarnation}
}

// enterPosition says whether the position is seen for the first time.
func (a *account) enterPosition(s *source, r *report, number uint64) bool {
	e := &a.positions[r.position%rememberPositions]
	bit := uint64(1) << min(r.deliveries, manyDeliveries)
	switch {
	case e.position > r.position+1: // long ago: it must have been received before
		if r.deliveries == 1 {
			a.fault(faultDuplicate, s, r)
		}
		return false
	case e.position < r.position+1:
		*e = positionEntry{r.position + 1, number, r.producer, r.incarnation, bit}
		return true
	case e.number != number || e.producer != r.producer || e.incarnation != r.incarnation:
		a.fault(faultForeign, s, r)
	case e.deliveries&bit != 0 && r.deliveries < manyDeliveries:
		a.fault(faultDuplicate, s, r)
	}
	e.deliveries |= bit
	return false
}

// enterNumber says whether the producer's message is received for the first time.
func (a *account) enterNumber(s *source, r *report, number uint64) bool {
	e := &a.numbers[r.producer][number%rememberNumbers]
	bit := uint64(1) << (r.incarnation % 64)
	switch {
	case e.number > number+1:
		a.fault(faultDuplicate, s, r)
		return false
	case e.number < number+1:
		*e = numberEntry{number + 1, bit}
		return true
	case e.incarnations&bit != 0:
		a.fault(faultDuplicate, s, r)
		return false
	}
	e.incarnations |= bit
	a.resent++
	return false
}

// fault counts one, marks the file and keeps some examples.
func (a *account) fault(f fault, s *source, r *report) {
	a.faults[f]++
	if uint64(r.file) < uint64(len(a.bad)) {
		a.bad[r.file] = true
	}
	a.problem("%v: file %d pass %d chunk %d of %d, producer %d.%d, position %d, delivery %d, received by consumer %d.%d",
		f, r.file, r.pass, r.seq, r.total, r.producer, r.incarnation, r.position, r.deliveries, s.index, s.incarnation)
}

func (a *account) problem(format string, args ...any) {
	if len(a.problems) < maxProblems {
		a.problems = append(a.problems, fmt.Sprintf(format, args...))
	}
}
