package ring

import (
	"math"
	"sync/atomic"
	"unsafe"

	"github.com/cd1900cf/millrace/futex"
	"github.com/cd1900cf/millrace/internal/testpoint"
)

// event is an event count, docs/FORMAT.md section 8.1 (after Vyukov, and folly's EventCount): epoch in the high half, which is the futex
// word, arrivals in the low half. Deviation: arrivals are never taken back, because a killed sleeper could not do it; a notifier
// that finds nobody asleep clears them, and only if nobody arrived meanwhile.
type event struct{ word atomic.Uint64 }

const (
	arrivalsMask = 1<<32 - 1
	// casTries bounds a CAS loop that honest participants leave at once. Who gives up costs a sleeper one tick at most.
	casTries = 1 << 12
)

// epoch is the futex word: the high half, which lies at offset 4 in the little-endian format.
func (e *event) epoch() *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Add(unsafe.Pointer(e), 4))
}

// arrive announces a sleeper and returns the epoch to sleep on. The caller looks at its condition once more afterwards.
func (e *event) arrive() (key uint32) {
	// order: W1 sc REQUIRED, pairs N1. Store "somebody waits", then re-read the condition (W3); the notifier stores the condition, then
	// reads "somebody waits". With anything weaker both can read the old value, and the sleeper sleeps a whole tick.
	v := e.word.Add(1)
	testpoint.Hit("W1")
	return uint32(v >> 32)
}

// stillArrived says whether an arrival under key still stands, so that the next sleep needs no new one.
func (e *event) stillArrived(key uint32) bool {
	v := e.word.Load() // order: W5 acq, pairs N2 N3
	return uint32(v>>32) == key && v&arrivalsMask != 0
}

// pending says whether somebody may be asleep. It is all that the fast path does about waking.
func (e *event) pending() bool {
	// order: N1 sc REQUIRED, pairs W1: see there. After a plain-store publish the sleeper's membarrier stands in for the fence (W2).
	return uint32(e.word.Load()) != 0 // the arrivals
}

// notify wakes at least min(n, sleepers) after something was published. It returns the number of wake system calls made.
func (e *event) notify(n uint64) (calls uint64) {
	for range casTries {
		v := e.word.Load() // order: N1 sc, pairs W1
		arrivals := v & arrivalsMask
		if arrivals == 0 {
			return calls
		}
		next := v + 1<<32
		all := n >= arrivals
		if all {
			next &^= arrivalsMask
		}
		if !e.word.CompareAndSwap(v, next) { // order: N2 acqrel, pairs W4: a sleeper that comes late finds another epoch
			continue
		}
		testpoint.Hit("N2")
		calls++
		if all {
			e.wake(math.MaxInt32)
			testpoint.Hit("N2 woken")
			return calls
		}
		if e.wake(int(n)) == 0 {
			e.word.CompareAndSwap(next, (next+1<<32)&^uint64(arrivalsMask)) // order: N3 acqrel, pairs W1: fails when somebody arrived meanwhile
		}
		testpoint.Hit("N3")
		return calls
	}
	return calls
}

// notifyAll advances the epoch and wakes everybody, also those who are about to sleep.
func (e *event) notifyAll() {
	for range casTries {
		v := e.word.Load()                                             // order: N4 acq, pairs W1
		if e.word.CompareAndSwap(v, (v+1<<32)&^uint64(arrivalsMask)) { // order: N2 acqrel, pairs W4
			break
		}
	}
	e.wake(math.MaxInt32)
}

// wake wakes n sleepers. The only failure is a mapping that is gone; then nobody can be asleep on it.
func (e *event) wake(n int) int {
	k, err := futex.Wake(e.epoch(), n)
	if err != nil {
		return 0
	}
	return k
}
