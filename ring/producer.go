package ring

import (
	"context"
	"time"
	"unsafe"

	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/internal/testpoint"
)

// A Producer sends messages into a ring. It is used by one goroutine at a time; misuse is detected. Several may exist per process.
type Producer struct {
	handle
	pos       uint64 // own candidate: every position below it is claimed
	limit     uint64 // SPSC: private copy of the space that was given back
	fetchMask uint64 // SPSC: core.fetchMask, or what fits no position, see fetchForAnswers
	coarse    bool   // SPSC: do not ask for the exact position
	hinted    uint64 // SPSC: producer_position as stored last
	words     uint64 // core.words, of messages that go the shorter way; 0: none
	fast      uint64 // messages of fewer bytes may take the fast path; none where a release store is not enough to publish
	mapped    uint64 // where the next look at memory is due, see pages.go
	slipped   uint64 // MPMC: where it was looked how far the consumers are,
	slips     int    // and how many pauses there are between two looks then
	looks     uint64 // how many spans were looked at
	glance    byte   // what was there, so that the look is not left out

	resv             reservation
	generation       uint64
	waitForConsumers bool
	typed            bool

	pending sending // what a blocked call is trying to do
}

// reservation is an open claim: of the slots for n bytes, from position head on, padding included. No claim when n is none.
type reservation struct{ head, n uint64 }

// none is no number of bytes, and no word of an item.
const none = ^uint64(0)

// extent returns where the message of the claim is, and where the claim ends.
func (c *core) extent(r reservation) (at, end uint64) {
	k := c.slotsFor(r.n)
	at = r.head + c.pad(r.head, k)
	return at, at + k
}

// sending is the argument of a blocking call, so that trying again needs no closure.
type sending struct {
	what  uint8
	msg   []byte
	n     uint64
	batch batch
	done  int    // messages of batch that the last attempt sent
	head  uint64 // position that it reserved
}

const (
	sendOne uint8 = iota
	sendReserve
	sendBatch
)

// TrySend commits a copy of msg, or returns ErrFull.
//
// Blocks: never. Progress: wait-free (SPSC); lock-free (MPMC).
// Units: at most MaxMessage bytes, otherwise *SizeError.
func (p *Producer) TrySend(msg []byte) error { return p.Send(noWait, msg) }

// sendSlow is Send for every case.
func (p *Producer) sendSlow(ctx context.Context, msg []byte) error {
	if !p.gate.enter(gateOpen) {
		return p.refused()
	}
	p.coarse = ctx != noWait // who may wait gets its space a stride at a time
	err := p.trySend(msg)
	if err == ErrFull {
		if ctx != noWait {
			_, err = p.await(ctx, sending{what: sendOne, msg: msg})
		} else if p.unblock() {
			err = p.trySend(msg)
		}
	}
	p.coarse = false
	return p.leave(err)
}

// trySend is one attempt. ErrFull left a note of what stands in the way in p.blocked.
func (p *Producer) trySend(msg []byte) error {
	if p.c.kind == SPSC {
		return p.spscSend(msg)
	}
	return p.mpmcSend(msg)
}

// TryReserve claims room for a message of n bytes, or returns ErrFull. Blocks: never. See Reserve.
func (p *Producer) TryReserve(n int) (Reservation, error) { return p.Reserve(noWait, n) }

// reserveSlow is Reserve for every case.
func (p *Producer) reserveSlow(ctx context.Context, n int) (Reservation, error) {
	if !p.gate.enter(gateOpen) {
		return Reservation{}, p.refused()
	}
	if p.holds() { // a call that overlapped the one before left the gate as if nothing were held
		p.gate.leave(gateHeld)
		return Reservation{}, ErrMisuse
	}
	p.coarse = ctx != noWait // as in sendSlow
	head, err := p.tryReserve(uint64(n))
	if err == ErrFull {
		if ctx != noWait {
			var got sending
			got, err = p.await(ctx, sending{what: sendReserve, n: uint64(n)})
			head = got.head
		} else if p.unblock() {
			head, err = p.tryReserve(uint64(n))
		}
	}
	p.coarse = false
	return p.reserved(reservation{head, uint64(n)}, err)
}

// tryReserve claims the slots for n bytes, and returns the first position.
func (p *Producer) tryReserve(n uint64) (head uint64, err error) {
	if n > p.c.maxMessage {
		return 0, p.tooLarge(n)
	}
	k := p.c.slotsFor(n)
	if p.c.kind == SPSC {
		head, err = p.spscReserve(k)
	} else {
		head, _, err = p.mpmcClaim(k)
	}
	if err == nil {
		p.hold(head + 1)
		testpoint.Hit("reserved")
	}
	return head, err
}

// reserved ends a successful or failed reserve call.
func (p *Producer) reserved(r reservation, err error) (Reservation, error) {
	if err != nil || p.c.gone() {
		return Reservation{}, p.leave(err)
	}
	p.expose()
	p.resv = r
	p.generation++
	at, _ := p.c.extent(r)
	data, _ := p.c.place(at, r.n)
	token := Reservation{p, data, r.head, p.generation<<reservationBits | r.n}
	p.gate.leave(gateHeld)
	return token, nil
}

// tooLarge makes the error for a message that can never fit. A negative int arrives as a huge n.
func (p *Producer) tooLarge(n uint64) error {
	return &SizeError{Got: int(n), Max: int(p.c.maxMessage)}
}

// finish ends the reservation r: n bytes of it are committed, or none.
func (p *Producer) finish(r Reservation, n int, commit bool) error {
	if p == nil {
		return ErrMisuse
	}
	known := p.gate.enter(gateHeld)
	if known && !r.current() {
		known = false
		p.gate.leave(p.rest())
	}
	if !known {
		if gateChecks { // an overlap is always turned away, so there is nothing to mend
			return p.refused()
		}
		if err := p.overlapped(r); err != nil {
			return err
		}
	}
	if commit && uint64(n) > r.n() {
		p.gate.leave(gateHeld)
		return &SizeError{Got: n, Max: int(r.n())}
	}
	p.generation++
	p.settleReservation(r.claim(), uint64(n), commit)
	return p.leave(nil)
}

const (
	// overlapPatience is how long the end of a claim or a lease waits for the call of another goroutine that is inside the handle.
	overlapPatience = 200 * time.Millisecond
	// overlapGrace is how long Close gives such a call to end, when the gate cannot tell.
	overlapGrace = 50 * time.Millisecond
)

// overlapped is for the end of a reservation on a handle that looks as if there were none, or another one. For most it is a stale token: ErrMisuse. But calls
// of two goroutines at the very same time, which a plain gate cannot always tell, may both make a claim, and the handle knows of one. What the slot
// says counts: a claim that stands has no other token. It enters the gate and returns nil when the reservation is good after all;
// otherwise the claim is given up, or it would be in everybody's way for as long as this process lives.
func (p *Producer) overlapped(r Reservation) error {
	for i, since := 0, time.Now(); ; i++ {
		late := time.Since(since) > overlapPatience
		if again, err := p.resolve(r, late); !again {
			return err
		}
		pauseForOwner(i, since)
	}
}

// resolve is one attempt at it. Under the ring's lock, because without the gate nothing else keeps the memory where it is.
func (p *Producer) resolve(r Reservation, late bool) (again bool, err error) {
	p.ring.mu.Lock()
	defer p.ring.mu.Unlock()
	switch {
	case p.closed() || p.gate.is() == gateBroken || p.ring.closed.Load(): // order: heap
		return false, p.refused()
	case p.spsc && r.current() && p.gate.enter(gateOpen): // a call that overlapped the reserve left the gate as if nothing were held
		return false, nil
	case p.spsc || !p.owns(r.claim()):
		return false, ErrMisuse
	}
	inside := p.gate.enter(gateHeld) || p.gate.enter(gateOpen)
	switch {
	case inside && r.current():
		return false, nil
	case inside:
	case !late:
		return true, nil
	case !p.gate.inUse(): // it does not wait, so it may be about to end the same claim
		return false, p.refused()
	}
	p.overlap.Store(true) // order: heap
	_, end := p.c.extent(r.claim())
	p.freeStretch(r.head+1, end)
	p.c.state(r.head).CompareAndSwap(claimedWord(end, p.id), freeWord(r.head+p.c.slots)) // order: P6 rel, pairs C2 P1 and N1
	bump(&p.me.discarded, 1)
	p.wakeEverybody()
	if inside {
		p.gate.leave(p.rest())
	}
	return false, ErrMisuse
}

// owns says whether a claim of an MPMC ring stands.
func (p *Producer) owns(r reservation) bool {
	_, end := p.c.extent(r)
	return p.c.state(r.head).Load() == claimedWord(end, p.id) // order: P6 rlx, own word
}

// rest is the state of the gate when no call is inside.
func (p *Producer) rest() uint32 {
	if p.holds() {
		return gateHeld
	}
	return gateOpen
}

// holds says whether the reservation that the handle knows is open.
func (p *Producer) holds() bool { return p.resv.n != none && (p.spsc || p.owns(p.resv)) }

// settleReservation commits the first n bytes of r, or discards it.
func (p *Producer) settleReservation(r reservation, n uint64, commit bool) {
	if r == p.resv {
		p.resv.n = none
	}
	if p.c.kind == SPSC {
		p.spscFinish(r, n, commit)
	} else {
		p.mpmcFinish(r, n, commit)
	}
	p.hold(0)
	if !commit {
		bump(&p.me.discarded, 1)
	}
}

// A Reservation is room for one message that is being filled in place. It is a small value; copies stand for the same room.
type Reservation struct {
	p     *Producer
	data  unsafe.Pointer
	head  uint64 // first position of the claim
	token uint64 // generation << reservationBits | bytes
}

// reservationBits: no message is longer than 2^40 bytes.
const reservationBits = 40

func (r Reservation) n() uint64 { return r.token & (1<<reservationBits - 1) }

func (r Reservation) claim() reservation { return reservation{r.head, r.n()} }

// current says whether the reservation is the open one.
func (r Reservation) current() bool {
	return (r.token>>reservationBits^r.p.generation)<<reservationBits == 0 && r.head == r.p.resv.head
}

// Bytes returns the reserved room. It aliases the ring and is dead after Commit, CommitN, Discard or Close.
func (r Reservation) Bytes() []byte {
	if r.p == nil || !r.current() {
		return nil
	}
	return view(r.data, r.n())
}

// CommitN publishes the first n bytes; *SizeError when more were asked for than reserved, and the reservation stays open.
func (r Reservation) CommitN(n int) error { return r.p.finish(r, n, true) }

// Discard gives the room back; the message never existed. It is counted.
func (r Reservation) Discard() error { return r.p.finish(r, 0, false) }

// Close ends the registration. An open Reservation is discarded, a blocked call returns ErrClosed.
//
// Blocks: until a running call on the handle has left, which is short; 50 ms more when calls were seen to overlap. May come from any goroutine; idempotent.
// Failure: ErrMisuse when a call does not leave for ten seconds, because it has panicked; then the whole Ring is cut off in this process.
func (p *Producer) Close() error {
	return p.close(func(was uint32) {
		if was != gateBroken && p.holds() {
			p.settleReservation(p.resv, 0, false)
		}
	})
}

func (p *Producer) role() Role { return ProducerRole }

// attempt tries the pending call once more.
func (p *Producer) attempt() (err error) {
	switch p.pending.what {
	case sendOne:
		return p.trySend(p.pending.msg)
	case sendReserve:
		p.pending.head, err = p.tryReserve(p.pending.n)
	default:
		p.pending.done, err = p.tryPart(p.pending.batch)
	}
	return err
}

// shorter is the length word of n bytes that lie where a larger reservation put them.
func shorter(word, n uint64) uint64 { return word&^uint64(layout.LengthMask) | n }
