package ring

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// BenchmarkCall is what the calls cost when no line has to travel: one goroutine sends 256 messages and receives them, on heap memory.
// ns/op is one message, sent and received. Between two cores the lines come on top; see bench/.
func BenchmarkCall(b *testing.B) {
	ctx := context.Background()
	const many, batch = 256, 32
	for _, kind := range []Kind{SPSC, MPMC} {
		for _, size := range []int{8, 64, 256} {
			for _, guard := range []bool{false, true} {
				open := func(b *testing.B) (*Producer, *Consumer) {
					r, err := Create(fmt.Sprintf("call-%d-%d-%v", kind, size, guard), Options{Kind: kind, Slots: 1024, SlotSize: size, Participants: 4, Dir: b.TempDir()})
					if err != nil {
						b.Fatal(err)
					}
					b.Cleanup(func() { _ = r.Close() })
					var po []ProducerOption
					var co []ConsumerOption
					if !guard {
						po, co = append(po, WithoutFaultGuard()), append(co, WithoutFaultGuard())
					}
					p, err := r.NewProducer(po...)
					if err != nil {
						b.Fatal(err)
					}
					q, err := r.NewConsumer(co...)
					if err != nil {
						b.Fatal(err)
					}
					return p, q
				}
				name := fmt.Sprintf("kind=%v/size=%d/guard=%v", kind, size, guard)
				b.Run("one/"+name, func(b *testing.B) {
					p, q := open(b)
					msg := make([]byte, size)
					b.ResetTimer()
					var sending time.Duration
					for n := 0; n < b.N; n += many {
						start := time.Now()
						for range many {
							if err := p.Send(ctx, msg); err != nil {
								b.Fatal(err)
							}
						}
						sending += time.Since(start)
						for range many {
							if _, err := q.Receive(ctx, msg); err != nil {
								b.Fatal(err)
							}
						}
					}
					b.ReportMetric(float64(sending.Nanoseconds())/float64(b.N), "ns/send")
				})
				b.Run("inplace/"+name, func(b *testing.B) {
					p, q := open(b)
					b.ResetTimer()
					var sending time.Duration
					for n := 0; n < b.N; n += many {
						start := time.Now()
						for range many {
							r, err := p.Reserve(ctx, size)
							if err != nil {
								b.Fatal(err)
							}
							r.Bytes()[0] = 1
							if err := r.Commit(); err != nil {
								b.Fatal(err)
							}
						}
						sending += time.Since(start)
						for range many {
							m, err := q.Next(ctx)
							if err != nil {
								b.Fatal(err)
							}
							if m.Bytes()[0] != 1 {
								b.Fatal("not what was written")
							}
							if err := m.Release(); err != nil {
								b.Fatal(err)
							}
						}
					}
					b.ReportMetric(float64(sending.Nanoseconds())/float64(b.N), "ns/send")
				})
				b.Run("mixed/"+name, func(b *testing.B) { // sent in batches, received one by one
					p, q := open(b)
					msgs := make([][]byte, batch)
					for i := range msgs {
						msgs[i] = make([]byte, size)
					}
					b.ResetTimer()
					for n := 0; n < b.N; n += batch {
						if _, err := p.SendBatch(ctx, msgs); err != nil {
							b.Fatal(err)
						}
						for range batch {
							if _, err := q.Receive(ctx, msgs[0]); err != nil {
								b.Fatal(err)
							}
						}
					}
				})
				for way, receive := range map[string]func(*Consumer, [][]byte) (int, error){"batch": leaseBatch, "batchcopy": copyBatch} {
					b.Run(way+"/"+name, func(b *testing.B) {
						p, q := open(b)
						msgs := make([][]byte, batch)
						for i := range msgs {
							msgs[i] = make([]byte, size)
						}
						b.ResetTimer()
						var sending time.Duration
						for n := 0; n < b.N; n += many {
							start := time.Now()
							for range many / batch {
								if _, err := p.SendBatch(ctx, msgs); err != nil {
									b.Fatal(err)
								}
							}
							sending += time.Since(start)
							for range many / batch {
								if n, err := receive(q, msgs); err != nil || n != batch {
									b.Fatal(n, err)
								}
							}
						}
						b.ReportMetric(float64(sending.Nanoseconds())/float64(b.N), "ns/send")
					})
				}
			}
		}
	}
}

func copyBatch(q *Consumer, bufs [][]byte) (int, error) {
	return q.ReceiveBatch(context.Background(), bufs)
}

func leaseBatch(q *Consumer, bufs [][]byte) (int, error) {
	l, err := q.NextBatch(context.Background(), len(bufs))
	if err != nil {
		return 0, err
	}
	for i := range l.Len() {
		copy(bufs[i], l.At(i).Bytes())
	}
	return l.Len(), l.Release()
}
