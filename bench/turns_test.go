package bench

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/cd1900cf/millrace/internal/measure"
	"github.com/cd1900cf/millrace/ring"
)

// BenchmarkTurns is what a message costs each side when the two do not get in each other's way: a producer on one core sends half a ring, then a consumer on
// another receives it, and so on, so that every line comes from the other core. ns/send and ns/receive are medians over the turns.
func BenchmarkTurns(b *testing.B) {
	const slots, part = 1024, 512
	ctx := context.Background()
	for _, kind := range []ring.Kind{ring.SPSC, ring.MPMC} {
		for _, size := range []int{8, 64, 256} {
			b.Run(fmt.Sprintf("kind=%v/size=%d", kind, size), func(b *testing.B) {
				r, err := ring.Create("turns", ring.Options{Kind: kind, Slots: slots, SlotSize: size, Dir: b.TempDir()})
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = r.Close() }()
				var sends, receives []int64
				turn, over := make(chan struct{}), make(chan error)
				go func() { over <- receiveTurns(ctx, r, part, size, turn, over, &receives) }()
				p, err := r.NewProducer(ring.WithoutFaultGuard())
				if err != nil {
					b.Fatal(err)
				}
				if err := measure.Pin(0); err != nil {
					b.Fatal(err)
				}
				msg := make([]byte, size)
				for b.Loop() {
					start := measure.Now()
					for range part {
						if err := p.Send(ctx, msg); err != nil {
							b.Fatal(err)
						}
					}
					sends = append(sends, measure.Now()-start)
					select {
					case turn <- struct{}{}:
						err = <-over
					case err = <-over: // it could not begin
					}
					if err != nil {
						b.Fatal(err)
					}
				}
				close(turn)
				if err := <-over; err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(medianOf(sends)/part, "ns/send")
				b.ReportMetric(medianOf(receives)/part, "ns/receive")
			})
		}
	}
}

// receiveTurns receives n messages at each turn.
func receiveTurns(ctx context.Context, r *ring.Ring, n, size int, turn <-chan struct{}, over chan<- error, took *[]int64) error {
	if err := measure.Pin(1); err != nil {
		return err
	}
	q, err := r.NewConsumer(ring.WithoutFaultGuard())
	if err != nil {
		return err
	}
	buf := make([]byte, size)
	for range turn {
		start := measure.Now()
		for range n {
			if _, err := q.Receive(ctx, buf); err != nil {
				return err
			}
		}
		*took = append(*took, measure.Now()-start)
		over <- nil
	}
	return nil
}

func medianOf(v []int64) float64 {
	slices.Sort(v)
	return float64(v[len(v)/2])
}
