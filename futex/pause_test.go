package futex

import (
	"math"
	"os"
	"runtime"
	"strings"
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

// Pauses counts more hints for a longer time, in proportion, and never none. How long they take is a matter for the benchmark.
func TestPausesGrowWithTheTime(t *testing.T) {
	for _, d := range []time.Duration{-time.Second, 0, 1} {
		if n := Pauses(d); n != 1 {
			t.Errorf("%d pauses for %v", n, d)
		}
	}
	short, long := Pauses(100*time.Microsecond), Pauses(time.Millisecond)
	if short < 10 || long/10 < short-1 || long/10 > short+1 {
		t.Errorf("%d pauses for 100 µs, %d for a millisecond", short, long)
	}
}

// BenchmarkPauses shows how far from 100 ns the number of hints for 100 ns is.
func BenchmarkPauses(b *testing.B) {
	n := Pauses(100 * time.Nanosecond)
	for b.Loop() {
		Pause(n)
	}
}

// A process that may use several processors, or a list of several that are online, is not on a machine of one.
func TestOneProcessor(t *testing.T) {
	several := runtime.NumCPU() > 1
	if list, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		several = several || strings.Count("\n"+string(list), "\nprocessor\t") > 1
	}
	if got := OneProcessor(); got == several {
		t.Errorf("OneProcessor() = %v, and there are several: %v", got, several)
	}
}
