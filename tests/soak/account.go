//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync"

	"github.com/cd1900cf/millrace/ring"
)

// The account of one ring: what every session says that it sent and received, and what is in doubt because it was killed in the middle. It is kept apart
// from the ring's counters, which are compared with it at the end.

// fate is what the account knows of one message.
type fate struct {
	position  uint64
	delivered uint64 // bit d: delivery d was reported
	sent      uint8
	settled   uint8 // how often somebody received it and was done with it
	settledAt uint8 // which delivery that was; 0: not known
	held      uint8 // deliveries that somebody had and did not release
	mayBeDone bool  // a release was under way when somebody was killed
	mayBeBack bool  // a return was
	copied    bool  // it lies in the window of somebody who was killed while copying
	dropped   bool  // it was leased by somebody who died or left, and that loses it
}

// What is known of sending a message.
const (
	unsaid  = iota // nobody said that it was sent
	trying         // the call was killed
	sent           // the call said so
	refused        // the call said that it was not
)

// account is one ring's.
type account struct {
	mu            sync.Mutex
	drops         bool // the ring drops what a dead consumer held
	maxDeliveries int
	fates         map[uint64]fate
	unknown       int // messages that killed calls may have leased without telling
	joined, left  [2]int
	killed        [2]int // sessions that were killed after they had joined, by role
	maybeKilled   [2]int // killed while they joined or left
	faults        []string
	totals
}

// totals are added up over all rings.
type totals struct {
	Sent        uint64 `json:"sent"`        // messages committed, those of calls included that were killed after it
	Received    uint64 `json:"received"`    // messages received and released, or being released by a call that was killed
	Redelivered uint64 `json:"redelivered"` // deliveries marked as such
	Returned    uint64 `json:"returned"`
	Dropped     uint64 `json:"dropped"`  // leased by somebody who died, under Drop or at the last delivery
	InDoubt     uint64 `json:"in_doubt"` // taken by a call that was killed before it could tell; the bytes were found in its memory
	Skipped     uint64 `json:"skipped"`
	Lost        uint64 `json:"lost"`
	Duplicates  uint64 `json:"unmarked_duplicates"`
	Disorder    uint64 `json:"out_of_order"`
	Foreign     uint64 `json:"foreign"`
}

func (t *totals) add(o *totals) {
	t.Sent += o.Sent
	t.Received += o.Received
	t.Redelivered += o.Redelivered
	t.Returned += o.Returned
	t.Dropped += o.Dropped
	t.InDoubt += o.InDoubt
	t.Skipped += o.Skipped
	t.Lost += o.Lost
	t.Duplicates += o.Duplicates
	t.Disorder += o.Disorder
	t.Foreign += o.Foreign
}

func newAccount(drops bool, maxDeliveries int) *account {
	return &account{drops: drops, maxDeliveries: maxDeliveries, fates: map[uint64]fate{}}
}

// mostFaults bounds the list of examples.
const mostFaults = 20

func (a *account) fault(format string, args ...any) {
	if len(a.faults) < mostFaults {
		a.faults = append(a.faults, fmt.Sprintf(format, args...))
	}
}

// work is what one session is doing, as far as it told.
type work struct {
	role    int // 0 producer, 1 consumer
	name    string
	typed   bool
	joined  bool
	leaving bool // it was told to leave, or to finish, and may have closed its handle
	over    bool // it left
	trying  [2]uint64
	held    []report
	ending  int // of those, how many are being released
	back    bool
	closing bool
	leasing int // messages that the call under way may lease
	copying int // or copy

	last       uint64 // position + 1 of the last first delivery
	lastNumber map[uint64]uint64
}

func (a *account) change(number uint64, f func(*fate)) {
	x := a.fates[number]
	f(&x)
	a.fates[number] = x
}

// enter enters one report of a session.
func (a *account) enter(w *work, r *report) {
	switch r.kind {
	case sayJoined:
		w.joined = true
		a.joined[w.role]++
	case sayTrying:
		w.trying = [2]uint64{r.number, uint64(r.n)}
	case saySent:
		for i := range w.trying[1] {
			a.change(w.trying[0]+i, func(x *fate) {
				if x.sent = refused; i < uint64(r.n) {
					x.sent = sent
					a.Sent++
				}
			})
		}
		w.trying[1] = 0
	case sayLeasing:
		w.leasing = int(r.n)
	case sayCopying:
		w.copying = int(r.n)
	case sayNothing:
		w.leasing, w.copying = 0, 0
	case sayGot:
		w.copying = 0
		a.deliver(w, r)
		a.settle(r)
	case sayHeld:
		w.leasing = 0
		a.deliver(w, r)
		w.held = append(w.held, *r)
	case sayReleasing:
		w.ending = int(r.n)
	case sayReleased:
		for i := range w.held[:w.ending] {
			a.settle(&w.held[i])
		}
		w.held, w.ending = w.held[w.ending:], 0
	case sayReturning:
		w.back = true
	case sayReturned:
		for _, h := range w.held {
			a.Returned++
			a.change(h.number, func(x *fate) { x.held++ })
		}
		w.held, w.back = nil, false
	case sayClosing:
		w.closing = true
	case sayLeft:
		w.over = true
		a.left[w.role]++
		a.leave(w)
	default:
		a.fault("%s: report %d is none", w.name, r.kind)
		a.Foreign++
	}
}

// deliver notes a delivery.
func (a *account) deliver(w *work, r *report) {
	if r.deliveries > 1 {
		a.Redelivered++
	}
	a.change(r.number, func(x *fate) {
		bit := uint64(1) << min(r.deliveries, 63)
		if r.deliveries > 0 {
			if x.delivered&bit != 0 && r.deliveries < 49 {
				a.Duplicates++
				a.fault("%s: message %x came twice as delivery %d", w.name, r.number, r.deliveries)
			}
			if x.delivered&^1 != 0 && x.position != r.position {
				a.Foreign++
				a.fault("%s: message %x is at position %d and at %d", w.name, r.number, x.position, r.position)
			}
			x.position = r.position
		}
		x.delivered |= bit
	})
	if r.deliveries != 1 {
		return // comes late, and says so; or is not known
	}
	if w.lastNumber == nil {
		w.lastNumber = map[uint64]uint64{}
	}
	if r.position < w.last || r.number < w.lastNumber[r.number>>32] {
		a.Disorder++
		a.fault("%s: message %x at position %d came after position %d and message %x", w.name, r.number, r.position, w.last-1, w.lastNumber[r.number>>32])
	}
	w.last, w.lastNumber[r.number>>32] = r.position+1, r.number
}

func (a *account) settle(r *report) {
	a.Received++
	a.change(r.number, func(x *fate) {
		x.settled++
		x.settledAt = uint8(min(r.deliveries, 63))
	})
}

// leave notes what a session that ended properly still held.
func (a *account) leave(w *work) {
	for _, h := range w.held {
		a.change(h.number, func(x *fate) {
			x.held++
			x.dropped = x.dropped || a.drops
		})
	}
	w.held = nil
}

// kill notes what a session that was killed was doing. window is the memory that it copied into.
func (a *account) kill(w *work, window []byte) {
	if w.over {
		return
	}
	if w.joined && !w.leaving && !w.closing {
		a.killed[w.role]++
	} else {
		a.maybeKilled[w.role]++
	}
	for i := range w.trying[1] {
		a.change(w.trying[0]+i, func(x *fate) { x.sent = trying })
	}
	for i, h := range w.held {
		a.change(h.number, func(x *fate) {
			x.held++
			switch {
			case i < w.ending:
				x.mayBeDone = true
			case w.back, w.closing:
				x.mayBeBack = true
			default:
				x.dropped = x.dropped || a.drops
			}
		})
	}
	if a.unknown += w.leasing; w.typed {
		a.unknown += w.copying // which is done under a lease
	}
	for i := 0; i < w.copying; i++ {
		b := window
		if w.typed {
			b = window[i*recordSize:][:recordSize]
		} else if n := int(binary.LittleEndian.Uint32(window[8:])); n >= leastMessage && n <= len(window) {
			b = window[:n]
		}
		if number, err := decode(b); err == nil {
			a.change(number, func(x *fate) { x.copied = true })
		}
	}
}

// balance compares what was sent with what was received, once everybody has gone and nothing is left, and the ring's counters with both.
func (a *account) balance(s ring.Stats) {
	surely, perhaps := uint64(0), uint64(0) // lost by the rules of the ring
	unknown, unexplained := a.unknown, 0
	for number, x := range a.fates {
		limited := a.maxDeliveries > 0 && x.delivered>>min(a.maxDeliveries, 63) != 0
		if x.settled == 0 && (a.drops || a.maxDeliveries > 0) && (x.mayBeDone || x.mayBeBack || x.copied || x.sent != sent) {
			perhaps++
		}
		if x.sent == trying && x.delivered|uint64(x.settled) != 0 {
			a.Sent++
		}
		if most := bits.Len64(x.delivered) - 1; most > 1 && most < 49 && x.delivered&1 == 0 {
			unexplained += most - bits.OnesCount64(x.delivered)
		}
		switch {
		case x.sent == refused && x.delivered != 0:
			a.Foreign++
			a.fault("message %x came, but its sender says that it was not sent", number)
		case x.settled > 1:
			a.Duplicates++
			a.fault("message %x was received %d times", number, x.settled)
		case x.sent == unsaid:
			a.Foreign++
			a.fault("message %x came, and nobody sent it", number)
		case x.settled == 1 && x.settledAt > 0 && x.delivered>>(x.settledAt+1) != 0:
			a.Duplicates++
			a.fault("message %x came again after it had been released as delivery %d: %b", number, x.settledAt, x.delivered)
		case x.settled == 1 && x.dropped:
			a.Duplicates++
			a.fault("message %x was received after it had been dropped", number)
		case x.settled == 1 || x.sent != sent && x.delivered == 0:
		case x.mayBeDone:
			a.Received++
		case x.dropped, limited && x.held > 0 && !x.mayBeBack:
			surely++
			a.Dropped++
		case (a.drops || a.maxDeliveries > 0) && x.mayBeBack:
			a.Dropped++
		case x.copied:
			a.InDoubt++
		case (a.drops || a.maxDeliveries > 0) && unknown > 0: // leased by a call that was killed, and dropped with it
			unknown--
			perhaps++
			a.Dropped++
		default:
			a.Lost++
			a.fault("message %x was sent and never received: %+v", number, x)
		}
	}
	if unexplained > a.unknown {
		a.Foreign++
		a.fault("delivery counts that nobody explains: %d, with %d leases that nobody could report", unexplained, a.unknown)
	}
	if done := a.Received + a.Dropped + a.InDoubt + a.Lost; done != a.Sent && a.Lost+a.Duplicates+a.Foreign == 0 {
		a.Foreign++
		a.fault("%d messages sent, %d received, dropped or in doubt", a.Sent, done)
	}
	a.Skipped += s.Skipped
	if s.Lost < surely || s.Lost > surely+perhaps {
		a.Lost++
		a.fault("the ring counts %d messages as lost, the account %d, and %d that may be", s.Lost, surely, perhaps)
	}
	if s.Used != 0 {
		a.Lost++
		a.fault("%d slots are in use after everything was received: %+v", s.Used, s)
	}
	for role, died := range [2]uint64{s.ProducersDied, s.ConsumersDied} {
		least, most := uint64(a.killed[role]), uint64(a.killed[role]+a.maybeKilled[role])
		if died < least && a.killed[role] > 0 || died > most {
			a.Foreign++
			a.fault("the ring counts %d deaths of %s, the account %d to %d", died, roles[role], least, most)
		}
	}
	if most := uint64(a.killed[0] + a.maybeKilled[0]); s.Skipped > most {
		a.Foreign++
		a.fault("%d claims skipped, with %d producers killed", s.Skipped, most)
	}
}

var roles = [2]string{"producer", "consumer"}
