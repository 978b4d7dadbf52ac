package yardstick

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkBareCall is what the bare loop costs when no line has to travel, as BenchmarkCall of package ring measures a ring: 256 messages sent and
// received by one goroutine.
func BenchmarkBareCall(b *testing.B) {
	const slots, many = 1024, 256
	for _, size := range []int{8, 64, 256} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			mem := make([]byte, BareBytes(slots, size))
			p, q, msg := NewBare(mem, slots, size), NewBare(mem, slots, size), make([]byte, size)
			var sending time.Duration
			b.ResetTimer()
			for n := 0; n < b.N; n += many {
				start := time.Now()
				for range many {
					if !p.TrySend(msg) {
						b.Fatal("full")
					}
				}
				sending += time.Since(start)
				for range many {
					if !q.TryReceive(msg) {
						b.Fatal("empty")
					}
				}
			}
			b.ReportMetric(float64(sending.Nanoseconds())/float64(b.N), "ns/send")
		})
	}
}
