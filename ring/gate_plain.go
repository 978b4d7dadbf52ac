//go:build !race && !invariants

package ring

import (
	"sync/atomic"
	"time"

	"github.com/cd1900cf/millrace/futex"
	"github.com/cd1900cf/millrace/internal/atomicx"
)

// gate keeps the calls on one handle apart: a second goroutine that comes while one is inside is turned away with ErrMisuse.
// It is a plain word, so detection is on a best-effort basis; builds with -race or -tags invariants detect every overlap.
type gate struct {
	section
	word    uint32
	closing atomic.Uint32
}

func (g *gate) is() uint32 { return g.word }

// gateChecks says whether every overlap is detected.
const gateChecks = false

// claim says whether the gate is in a state; inside, which must follow, makes it gateInside and says whether the call may go on: the handle is
// not being closed. Two steps, because each is small enough to be inlined without a detour.
func (g *gate) claim(from uint32) bool { return g.word == from }

func (g *gate) inside() bool {
	g.word = gateInside
	// order: G1 sc, heap, pairs G2. "I am inside" is stored before "somebody closes" is read; the closer issues the barrier for both.
	return g.closing.Load() == 0
}

// leave ends a call.
func (g *gate) leave(to uint32) {
	atomicx.StoreRelease32(&g.word, to) // order: G3 rel, heap, pairs G3 of the closer: what the call did to the handle comes before it
}

// shut keeps new calls out and waits until a running one has left, or for closePatience. It returns the state that it found, gateInside if it did not leave;
// only one closer may call it.
func (g *gate) shut() (was uint32) {
	g.closing.Store(1) // order: G2 sc, heap, pairs G1
	if !futex.RegisterMembarrier() || futex.Membarrier() != nil {
		time.Sleep(time.Millisecond) // without a barrier: longer than any store stays in a store buffer
	}
	since := time.Now()
	for i := 0; ; i++ {
		was = atomic.LoadUint32(&g.word) // order: G3 acq, heap, pairs G3 of leave, and G1 by the barrier
		if was != gateInside && !g.inUse() {
			atomic.StoreUint32(&g.word, gateClosed) // order: G3 rel, heap, pairs G1
			return was
		}
		if !pauseForOwner(i, since) {
			return gateInside
		}
	}
}
