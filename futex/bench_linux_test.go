package futex

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkRoundTrip sends one item at a time to n goroutines that sleep on one word, and sleeps until the answer.
func BenchmarkRoundTrip(b *testing.B) {
	for _, n := range []int{1, 2, 8, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var asked, answered Queue
			ask, answer := event{new(atomic.Uint64)}, event{new(atomic.Uint64)}
			items, answers := new(atomic.Int64), new(atomic.Int64)
			ctx, stop := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			for range n {
				wg.Go(func() {
					w := NewWaiter(&asked)
					for ask.await(ctx, w, long, take(items)) == nil {
						answers.Add(1)
						_ = answer.notify(1)
					}
				})
			}
			w := NewWaiter(&answered)
			b.ReportAllocs()
			for b.Loop() {
				items.Add(1)
				_ = ask.notify(1)
				_ = answer.await(context.Background(), w, long, take(answers))
			}
			stop()
			wg.Wait()
		})
	}
}
