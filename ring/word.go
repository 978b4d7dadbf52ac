package ring

import "github.com/cd1900cf/millrace/internal/layout"

// State words, docs/FORMAT.md section 5: sequence | owner | state. Sequences are positions modulo 2^44 (MPMC) or 2^56 (SPSC);
// words are compared with private 64-bit positions by the sign of the difference, so the modulus never shows.

const (
	mpmcShift = layout.MpmcSequenceShift
	spscShift = layout.SpscSequenceShift

	stateFree    = layout.StateFree
	stateClaimed = layout.StateClaimed
	stateDone    = layout.StateDone
	stateReady   = layout.StateReady // + times given back
	stateTaken   = layout.StateTaken // + times given back

	classMask = 0xC0 // READY and TAKEN carry a count in the low six bits
)

func freeWord(p uint64) uint64     { return p<<mpmcShift | stateFree }
func readyWord(e, r uint64) uint64 { return e<<mpmcShift | stateReady | r }
func claimedWord(e uint64, o uint32) uint64 {
	return e<<mpmcShift | uint64(o)<<layout.OwnerShift | stateClaimed
}
func doneWord(e uint64, o uint32) uint64 {
	return e<<mpmcShift | uint64(o)<<layout.OwnerShift | stateDone
}
func takenWord(e uint64, o uint32, r uint64) uint64 {
	return e<<mpmcShift | uint64(o)<<layout.OwnerShift | stateTaken | r
}

func spscReadyWord(e, r uint64) uint64 { return e<<spscShift | stateReady | r }

// spscEnd returns the end of the extent that w publishes at position h, if it is valid for h.
func spscEnd(w, h, slots uint64) (e uint64, ok bool) {
	d := uint64(int64(w-h<<spscShift) >> spscShift)
	return h + d, w&classMask == stateReady && d-1 < slots
}

func owner(w uint64) uint32     { return uint32(w>>layout.OwnerShift) & layout.OwnerMask }
func isReady(w uint64) bool     { return w&classMask == stateReady }
func isTaken(w uint64) bool     { return w&classMask == stateTaken }
func stateOf(w uint64) uint64   { return w & 0xFF }
func givenBack(w uint64) uint64 { return w & layout.DeliveriesMask }

// deliveries is the count that a message with r give-backs reports; it saturates.
func deliveries(r uint64) int { return int(min(r, layout.DeliveriesWrap)) + 1 }

// nextGivenBack counts one more give-back. Beyond the field it returns to deliveriesWrap, so that the state word still changes every time.
func nextGivenBack(r uint64) uint64 {
	if r >= layout.DeliveriesMask {
		return layout.DeliveriesWrap
	}
	return r + 1
}

// sequence widens the sequence of w to 64 bits, as the position nearest to near.
func sequence(w, near uint64) uint64 {
	return near + uint64(int64(w-near<<mpmcShift)>>mpmcShift)
}

// standing is how a state word relates to a position p of its slot.
type standing uint8

const (
	standFree    standing = iota // FREE(p): p is not claimed
	standOld                     // the slot is still in use by the lap before: p is not claimed
	standClaimed                 // p is claimed and not committed
	standReady                   // p is committed and waits
	standTaken                   // p is leased
	standDone                    // p is received, its slots are being given back
	standPassed                  // p was claimed and its slot is free again
	standCorrupt                 // no such word can stand there
)

// beyond returns the first position that may still be unclaimed or held, given that w stands in the slot of p and is passed, with sequence e (I5).
func beyond(w, p, e, slots uint64) uint64 {
	if stateOf(w) == stateFree {
		e -= slots
	} else {
		e = e - 1 - (e-1-p)&(slots-1)
	}
	return later(p+1, e-slots+1)
}

// later returns the higher of two positions.
func later(a, b uint64) uint64 {
	if int64(a-b) > 0 {
		return a
	}
	return b
}

// stand classifies w for position p, and returns the sequence of w as a position. Only for slots of position p.
func stand(w, p, slots uint64) (standing, uint64) {
	e := sequence(w, p)
	st := stateOf(w)
	if st == stateFree {
		switch d := int64(e - p); {
		case owner(w) != 0 || uint64(d)&(slots-1) != 0 || d < -int64(slots):
			return standCorrupt, e
		case d == 0:
			return standFree, e
		case d > 0:
			return standPassed, e
		default:
			return standCorrupt, e // FREE of the lap before: p - N was never claimed, so p cannot be next
		}
	}
	head := e - 1 - (e-1-p)&(slots-1)
	switch d := int64(head - p); {
	case d == -int64(slots):
		if st == stateClaimed || st == stateDone || isReady(w) || isTaken(w) {
			return standOld, e
		}
		return standCorrupt, e
	case d > 0:
		if st == stateClaimed || st == stateDone || isReady(w) || isTaken(w) {
			return standPassed, e
		}
		return standCorrupt, e
	case d < 0:
		return standCorrupt, e
	}
	switch {
	case st == stateClaimed:
		return standClaimed, e
	case st == stateDone:
		return standDone, e
	case isReady(w):
		return standReady, e
	case isTaken(w):
		return standTaken, e
	}
	return standCorrupt, e
}
