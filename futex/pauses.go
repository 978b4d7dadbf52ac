package futex

import (
	"sync"
	"time"
)

// Pauses returns how many hints of one Pause take about d, and at least 1: they take 1 to 140 cycles each, by processor. The first call measures it, which
// takes some microseconds.
func Pauses(d time.Duration) int { return max(1, int(pausesTimed*d/manyPauses())) }

// pausesTimed is how many pauses are timed at once.
const pausesTimed = 100

// manyPauses returns how long pausesTimed pauses take when nothing disturbs them.
var manyPauses = sync.OnceValue(func() time.Duration {
	best := time.Second
	for range 5 {
		start := time.Now()
		Pause(pausesTimed)
		best = min(best, time.Since(start))
	}
	return max(best, pausesTimed) // a clock that does not tell such short times apart
})
