//go:build race || invariants

package ring

import (
	"sync/atomic"
	"time"
)

// gate keeps the calls on one handle apart: a second goroutine that comes while one is inside is turned away with ErrMisuse.
// In this build every overlap is detected.
type gate struct {
	section
	word    atomic.Uint32
	closing atomic.Uint32
}

func (g *gate) is() uint32 { return g.word.Load() } // order: G1 acq, heap, pairs G2

// gateChecks says whether every overlap is detected.
const gateChecks = true

// claim goes from a state to gateInside. inside, which must follow, says whether the call may go on: the handle is not being closed.
func (g *gate) claim(from uint32) bool {
	// order: G1 sc, heap, pairs G2
	return g.word.CompareAndSwap(from, gateInside)
}

func (g *gate) inside() bool {
	// order: G1 sc, heap, pairs G2
	return g.closing.Load() == 0
}

// leave ends a call.
func (g *gate) leave(to uint32) { g.word.Store(to) } // order: G2 rel, heap, pairs G1

// shut keeps new calls out and waits until a running one has left, or for closePatience. It returns the state that it found, gateInside if it did not leave;
// only one closer may call it.
func (g *gate) shut() (was uint32) {
	g.closing.Store(1) // order: G2 sc, heap, pairs G1
	since := time.Now()
	for i := 0; ; i++ {
		was = g.word.Load() // order: G3 acq, heap, pairs G2
		// order: G3 acqrel, heap, pairs G1
		if was != gateInside && g.word.CompareAndSwap(was, gateClosed) {
			return was
		}
		if !pauseForOwner(i, since) {
			return gateInside
		}
	}
}
