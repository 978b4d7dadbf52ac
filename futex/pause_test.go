package futex

import (
	"math"
	"testing"
	"time"
)

func TestPauseTakesAnyCount(t *testing.T) {
	for _, n := range []int{math.MinInt, -1, 0, 1, 2, 1000} {
		Pause(n)
	}
}

func BenchmarkPause(b *testing.B) {
	for b.Loop() {
		Pause(1)
	}
}

// Pauses counts as many hints as a time takes: more for a longer one, and never none.
func TestPausesTakeAboutTheTime(t *testing.T) {
	for _, d := range []time.Duration{-time.Second, 0, 1} {
		if n := Pauses(d); n != 1 {
			t.Errorf("%d pauses for %v", n, d)
		}
	}
	const d = 100 * time.Microsecond
	n := Pauses(d)
	best := time.Hour // the machine may take the core away
	for range 20 {
		start := time.Now()
		Pause(n)
		best = min(best, time.Since(start))
	}
	if best < d/2 || best > 2*d {
		t.Errorf("%d pauses take %v, not about %v", n, best, d)
	}
}
