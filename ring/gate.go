package ring

import (
	"runtime"
	"time"
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
