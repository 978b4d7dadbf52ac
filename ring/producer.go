package ring

import (
	"context"
	"unsafe"

	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/internal/testpoint"
)

// A Producer sends messages into a ring. It is used by one goroutine at a time; misuse is detected. Several may exist per process.
type Producer struct {
	handle
	pos    uint64 // own candidate: every position below it is claimed
	limit  uint64 // SPSC: private copy of the space that was given back
	coarse bool   // SPSC: do not ask for the exact position
	hinted uint64 // SPSC: producer_position as stored last
	fast   uint64 // messages of fewer bytes may take the fast path; none where a release store is not enough to publish
	mapped uint64 // where the next look at memory is due, see pages.go
	looks  uint64 // how many spans were looked at
	glance byte   // what was there, so that the look is not left out

	resv             reservation
	generation       uint64
	waitForConsumers bool
	typed            bool

	pending     sending // what a blocked call is trying to do
	pendingDone int     // messages of pending.batch that the last attempt sent
}

// reservation is an open claim.
type reservation struct {
	head uint64 // first position of the extent, padding included
	at   uint64 // position of the message
	end  uint64 // behind the last slot
	data unsafe.Pointer
	n    uint64
	word uint64 // length word for n bytes
}

// sending is the argument of a blocking call, so that trying again needs no closure.
type sending struct {
	what  uint8
	msg   []byte
	n     uint64
	batch batch
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
			p.pending = sending{what: sendOne, msg: msg}
			err = p.await(ctx)
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
	p.coarse = ctx != noWait // as in sendSlow
	err := p.tryReserve(uint64(n))
	if err == ErrFull {
		if ctx != noWait {
			p.pending = sending{what: sendReserve, n: uint64(n)}
			err = p.await(ctx)
		} else if p.unblock() {
			err = p.tryReserve(uint64(n))
		}
	}
	p.coarse = false
	return p.reserved(err)
}

func (p *Producer) tryReserve(n uint64) error {
	if n > p.c.maxMessage {
		return p.tooLarge(n)
	}
	k := p.c.slotsFor(n)
	var head, at uint64
	var err error
	if p.c.kind == SPSC {
		head, at, err = p.spscReserve(k)
	} else {
		head, at, err = p.mpmcClaim(k)
	}
	if err != nil {
		return err
	}
	p.resv = reservation{head: head, at: at, end: at + k, n: n}
	p.resv.data, p.resv.word = p.c.place(at, n)
	p.hold(head + 1)
	testpoint.Hit("reserved")
	return nil
}

// reserved ends a successful or failed reserve call.
func (p *Producer) reserved(err error) (Reservation, error) {
	if err != nil || p.c.gone() {
		return Reservation{}, p.leave(err)
	}
	p.expose()
	p.generation++
	r := Reservation{p, p.resv.data, p.resv.head, p.generation<<reservationBits | p.resv.n}
	p.gate.leave(gateHeld)
	return r, nil
}

// tooLarge makes the error for a message that can never fit. A negative int arrives as a huge n.
func (p *Producer) tooLarge(n uint64) error {
	return &SizeError{Got: int(n), Max: int(p.c.maxMessage)}
}

// finish ends the open reservation: n bytes of it are committed, or none.
func (p *Producer) finish(r Reservation, n int, commit bool) error {
	if p == nil {
		return ErrMisuse
	}
	switch held := p.gate.enter(gateHeld); {
	case held && !r.current():
		p.gate.leave(gateHeld)
		return p.orphan(r)
	case held:
	case gateChecks: // an overlap is always turned away, so there is nothing to mend
		return p.refused()
	case !r.current():
		return p.orphan(r)
	case !p.gate.enter(gateOpen): // open, if a call of another goroutine overlapped the reserve and left the gate as if nothing were held
		return p.refused()
	}
	if commit && uint64(n) > p.resv.n {
		p.gate.leave(gateHeld)
		return &SizeError{Got: n, Max: int(p.resv.n)}
	}
	p.generation++
	p.settleReservation(uint64(n), commit)
	return p.leave(nil)
}

// orphan turns a stale token away. Two goroutines that reserve at the very same time, which a plain gate cannot always tell, both have a claim, and
// the handle knows of one: the other one is given up here, or it would be in everybody's way for as long as this process lives.
func (p *Producer) orphan(r Reservation) error {
	p.ring.mu.Lock()
	defer p.ring.mu.Unlock()
	if p.closed() || p.gate.is() == gateBroken || p.ring.closed.Load() { // order: heap
		return p.refused()
	}
	if gateChecks || p.spsc || r.head == p.resv.head {
		return ErrMisuse
	}
	c := p.c
	k := c.slotsFor(r.n())
	end := r.head + c.pad(r.head, k) + k
	w := claimedWord(end, p.id)
	if s := c.state(r.head); s.Load() == w { // order: P1 acq, own word
		p.freeStretch(r.head+1, end)
		s.CompareAndSwap(w, freeWord(r.head+c.slots)) // order: P6 rel, pairs C2 P1 and N1
		bump(&p.me.discarded, 1)
		p.wakeEverybody()
	}
	return ErrMisuse
}

// settleReservation commits the first n bytes of the open reservation, or discards it.
func (p *Producer) settleReservation(n uint64, commit bool) {
	if p.c.kind == SPSC {
		p.spscFinish(n, commit)
	} else {
		p.mpmcFinish(n, commit)
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
// Blocks: until a running call on the handle has left, which is short. May come from any goroutine; idempotent.
// Failure: ErrMisuse when a call does not leave for ten seconds, because it has panicked; then the whole Ring is cut off in this process.
func (p *Producer) Close() error {
	return p.close(func(was uint32) {
		if was == gateHeld {
			p.settleReservation(0, false)
		}
	})
}

func (p *Producer) role() Role { return ProducerRole }

// attempt tries the pending call once more.
func (p *Producer) attempt() error {
	switch p.pending.what {
	case sendOne:
		return p.trySend(p.pending.msg)
	case sendReserve:
		return p.tryReserve(p.pending.n)
	}
	var err error
	p.pendingDone, err = p.tryPart(p.pending.batch)
	return err
}

// shorter is the length word of n bytes that lie where a larger reservation put them.
func shorter(word, n uint64) uint64 { return word&^uint64(layout.LengthMask) | n }
