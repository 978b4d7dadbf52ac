package ring

import (
	"runtime"
	"sync/atomic"
	"time"

	"github.com/cd1900cf/millrace/internal/atomicx"
)

// The states of a gate: who is inside the handle.
const (
	gateOpen   = 0 // nobody
	gateInside = 1 // a call
	gateHeld   = 2 // nobody, but a lease or a reservation is open
	gateBroken = 3 // nobody ever again: the ring is corrupt, the segment lost, or a call panicked
	gateClosed = 4 // nobody ever again: the handle is closed
)

// enter goes from a state to gateInside, unless the handle is being closed.
func (g *gate) enter(from uint32) bool {
	if !g.claim(from) {
		return false
	}
	if !g.inside() {
		g.leave(from)
		return false
	}
	return true
}

// section is the part of a call that works on what the handle keeps from call to call: what a waiting call wants, a lease. A plain gate does not always
// keep two calls apart; this does. What goes without it rests on the words of the ring alone, so that an overlap hurts nobody else.
type section struct{ busy uint32 }

// begin enters the section. When it is false another call is inside, and this one is misuse.
func (s *section) begin() bool { return atomic.CompareAndSwapUint32(&s.busy, 0, 1) } // order: heap

func (s *section) finish() { atomicx.StoreRelease32(&s.busy, 0) } // order: G3 rel, heap

func (s *section) inUse() bool { return atomic.LoadUint32(&s.busy) != 0 } // order: G3 acq, heap

// closePatience is how long a Close waits for a call that should be on its way out: calls are short, and blocked ones have been told to end. A call that
// never leaves has panicked, by a fault in the caller's own memory, say, and the caller went on.
var closePatience = 10 * time.Second

// pauseForOwner waits a little for such a call, for the i-th time since a Close came; false when it has been too long.
func pauseForOwner(i int, since time.Time) bool {
	if i < 100 {
		runtime.Gosched()
		return true
	}
	time.Sleep(50 * time.Microsecond)
	return time.Since(since) < closePatience
}
