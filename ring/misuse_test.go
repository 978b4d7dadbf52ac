package ring

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/cd1900cf/millrace/internal/invariants"
)

// pair is a ring with one producer and one consumer.
func pair(t *testing.T, r *Ring) (*Producer, *Consumer) {
	t.Helper()
	p, err := r.NewProducer()
	require.NoError(t, err)
	q, err := r.NewConsumer()
	require.NoError(t, err)
	return p, q
}

// patient is a context that ends long after everything should have happened.
func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// Every token works once. Properties: a second Commit, CommitN, Discard, Release or Return through the token, or a copy of it, is ErrMisuse and changes nothing; so is one
// of an earlier reservation or lease while a later one is open; the zero tokens are harmless.
func TestTokensWorkOnce(t *testing.T) {
	forms(t, Options{Slots: 8, SlotSize: 16}, func(t *testing.T, r *Ring) {
		p, q := pair(t, r)
		var old []Reservation
		for i, end := range []func(Reservation) error{Reservation.Commit, func(r Reservation) error { return r.CommitN(2) }, Reservation.Discard} {
			res, err := p.TryReserve(4)
			require.NoError(t, err)
			again := res
			for _, o := range old {
				require.Equal(t, ErrMisuse, o.Commit())
				require.Equal(t, ErrMisuse, o.CommitN(0))
				require.Equal(t, ErrMisuse, o.Discard())
				require.Nil(t, o.Bytes())
			}
			require.Equal(t, &SizeError{Got: 5, Max: 4}, res.CommitN(5))
			require.Equal(t, &SizeError{Got: -1, Max: 4}, res.CommitN(-1))
			require.Len(t, res.Bytes(), 4)
			require.NoError(t, end(res))
			for _, o := range []Reservation{res, again} {
				require.Equal(t, ErrMisuse, o.Commit())
				require.Equal(t, ErrMisuse, o.CommitN(1))
				require.Equal(t, ErrMisuse, o.Discard())
				require.Nil(t, o.Bytes())
			}
			old = append(old, res)
			require.EqualValues(t, min(i+1, 2), r.Stats().Sent)
		}
		m, err := q.TryNext()
		require.NoError(t, err)
		same := m
		require.NoError(t, m.Release())
		require.Equal(t, ErrMisuse, m.Release())
		require.Equal(t, ErrMisuse, same.Return())
		n, err := q.TryNext()
		require.NoError(t, err)
		require.Len(t, n.Bytes(), 2)
		require.Equal(t, ErrMisuse, m.Release())
		require.Equal(t, ErrMisuse, m.Return())
		require.NoError(t, n.Return())
		require.Equal(t, ErrMisuse, n.Release())
		b, err := q.TryNextBatch(4)
		require.NoError(t, err)
		require.Equal(t, 1, b.Len())
		require.NoError(t, b.At(0).Release())
		require.Equal(t, ErrMisuse, b.Release())
		require.Equal(t, ErrMisuse, b.At(0).Release())
		require.Zero(t, r.Stats().Used)

		require.Equal(t, ErrMisuse, Reservation{}.Commit())
		require.Equal(t, ErrMisuse, Reservation{}.Discard())
		require.Nil(t, Reservation{}.Bytes())
		require.Equal(t, ErrMisuse, Message{}.Release())
		require.Equal(t, ErrMisuse, Message{}.Return())
		require.Nil(t, Message{}.Bytes())
		require.Zero(t, Message{}.Position())
		require.Equal(t, ErrMisuse, Batch{}.Release())
		require.Equal(t, Message{}, Batch{}.At(0))
		require.Zero(t, Batch{}.Len())
	})
}

// calls are all calls on handles that can be refused. Those on tokens need the tokens.
func calls(p *Producer, q *Consumer, buf []byte) map[string]func(context.Context) error {
	first := func(_ any, err error) error { return err }
	return map[string]func(context.Context) error{
		"Send":            func(ctx context.Context) error { return p.Send(ctx, buf) },
		"TrySend":         func(context.Context) error { return p.TrySend(buf) },
		"SendBatch":       func(ctx context.Context) error { return first(p.SendBatch(ctx, [][]byte{buf})) },
		"TrySendBatch":    func(context.Context) error { return first(p.TrySendBatch([][]byte{buf})) },
		"Reserve":         func(ctx context.Context) error { return first(p.Reserve(ctx, 1)) },
		"TryReserve":      func(context.Context) error { return first(p.TryReserve(1)) },
		"Receive":         func(ctx context.Context) error { return first(q.Receive(ctx, buf)) },
		"TryReceive":      func(context.Context) error { return first(q.TryReceive(buf)) },
		"Next":            func(ctx context.Context) error { return first(q.Next(ctx)) },
		"TryNext":         func(context.Context) error { return first(q.TryNext()) },
		"NextBatch":       func(ctx context.Context) error { return first(q.NextBatch(ctx, 2)) },
		"TryNextBatch":    func(context.Context) error { return first(q.TryNextBatch(2)) },
		"ReceiveBatch":    func(ctx context.Context) error { return first(q.ReceiveBatch(ctx, [][]byte{buf})) },
		"TryReceiveBatch": func(context.Context) error { return first(q.TryReceiveBatch([][]byte{buf})) },
		"All": func(ctx context.Context) (err error) {
			for _, e := range q.All(ctx) {
				err = e
			}
			return err
		},
	}
}

// Everything on a closed handle, and on the handles of a closed ring, is ErrClosed, which is os.ErrClosed; Close itself is idempotent. Properties: nothing panics or blocks, tokens included.
func TestUseAfterClose(t *testing.T) {
	for _, whole := range []bool{false, true} {
		forms(t, Options{Slots: 8, SlotSize: 16}, func(t *testing.T, r *Ring) {
			p, q := pair(t, r)
			require.NoError(t, p.TrySend([]byte("left")))
			m, err := q.TryNext()
			require.NoError(t, err)
			res, err := p.TryReserve(3)
			require.NoError(t, err)
			if whole {
				require.NoError(t, r.Close())
			} else {
				require.NoError(t, p.Close())
				require.NoError(t, q.Close())
			}
			for range 2 {
				for name, call := range calls(p, q, make([]byte, 16)) {
					require.Equal(t, ErrClosed, call(patient(t)), name)
				}
				require.Equal(t, ErrClosed, m.Release())
				require.Equal(t, ErrClosed, m.Return())
				require.Equal(t, ErrClosed, res.Commit())
				require.Equal(t, ErrClosed, res.Discard())
				require.NoError(t, p.Close())
				require.NoError(t, q.Close())
			}
			if !whole {
				q, err = r.NewConsumer() // what was leased is there again
				require.NoError(t, err)
				n, err := q.TryReceive(make([]byte, 16))
				require.NoError(t, err)
				require.Equal(t, 4, n)
				require.Equal(t, 2, q.Last().Deliveries)
				return
			}
			require.NoError(t, r.Close())
			_, err = r.NewProducer()
			require.Equal(t, ErrClosed, err)
			_, err = r.NewConsumer()
			require.Equal(t, ErrClosed, err)
			_, err = NewTypedProducer[int64](r)
			require.Equal(t, ErrClosed, err)
			_, err = r.File()
			require.Equal(t, ErrClosed, err)
			_, err = r.Recover(true)
			require.Equal(t, ErrClosed, err)
			require.Equal(t, ErrClosed, r.Peek(1, nil))
			require.Zero(t, r.Stats())
			require.Nil(t, r.Participants())
			require.Equal(t, 64, r.MaxMessage())
		})
	}
}

// A handle that a blocked call is in turns every other call away with ErrMisuse, and can be closed from another goroutine, which ends the blocked call with ErrClosed.
// Properties: for each blocking call; no goroutine is left.
func TestSecondGoroutineIsTurnedAway(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, name := range []string{"Send", "SendBatch", "Reserve", "Receive", "Next", "NextBatch", "ReceiveBatch", "All"} {
		for _, whole := range []bool{false, true} {
			forms(t, Options{Slots: 2, SlotSize: 16}, func(t *testing.T, r *Ring) {
				p, q := pair(t, r)
				buf := make([]byte, 16)
				sends := name == "Send" || name == "SendBatch" || name == "Reserve"
				if sends {
					require.NoError(t, p.TrySend(buf))
					require.NoError(t, p.TrySend(buf))
				}
				ended := make(chan error)
				go func() { ended <- calls(p, q, buf)[name](patient(t)) }()
				for r.Stats().Sleeps == 0 { // it sleeps for the second time
					runtime.Gosched()
				}
				for other, call := range calls(p, q, buf) {
					if _, isSend := map[string]bool{"Send": true, "TrySend": true, "SendBatch": true, "TrySendBatch": true, "Reserve": true, "TryReserve": true}[other]; isSend == sends {
						require.Equal(t, ErrMisuse, call(patient(t)), "%s during %s", other, name)
					}
				}
				switch {
				case whole:
					require.NoError(t, r.Close())
				case sends:
					require.NoError(t, p.Close())
				default:
					require.NoError(t, q.Close())
				}
				require.Equal(t, ErrClosed, <-ended, name)
			})
		}
	}
}

// Two goroutines use one handle at once, again and again. Properties: whatever the misuse does to the messages of that handle, those of another producer arrive
// whole, once, and in order, and the ring works afterwards; in builds that check, every overlap is turned away and nothing is damaged at all.
func TestMisuseHurtsNobodyElse(t *testing.T) {
	r := newHeapAt(t, Options{Kind: MPMC, Slots: 16, SlotSize: 16}, 0)
	shared, err := r.NewProducer()
	require.NoError(t, err)
	honest, err := r.NewProducer()
	require.NoError(t, err)
	q, err := r.NewConsumer()
	require.NoError(t, err)
	ctx := patient(t)
	var stop atomic.Bool
	var misusers sync.WaitGroup
	var accepted, refused atomic.Int64
	for range 2 {
		misusers.Add(1)
		go func() {
			defer misusers.Done()
			msg := []byte("misused!")
			for i := 0; !stop.Load(); i++ {
				var err error
				switch i % 7 {
				case 0, 3:
					var res Reservation
					if res, err = shared.TryReserve(8 + 32*(i&1)); err == nil {
						copy(res.Bytes(), msg) // nil when the other one has ended it
						err = res.CommitN(8)
					}
				case 5:
					short, cancel := context.WithTimeout(ctx, 10*time.Microsecond)
					err = shared.Send(short, msg)
					cancel()
				case 6:
					var n int
					n, err = shared.TrySendBatch([][]byte{msg, msg, msg})
					accepted.Add(int64(n))
					if err == nil {
						continue
					}
				default:
					err = shared.TrySend(msg)
				}
				switch err {
				case nil:
					accepted.Add(1)
				case ErrMisuse:
					refused.Add(1)
				}
				if i%64 == 0 {
					runtime.Gosched()
				}
			}
		}()
	}
	const messages = 20000
	sent := make(chan error, 1)
	go func() {
		msg := make([]byte, 12)
		for i := range uint64(messages) {
			binary.LittleEndian.PutUint64(msg, i)
			binary.LittleEndian.PutUint32(msg[8:], 0xC0FFEE)
			if err := honest.Send(ctx, msg); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	buf := make([]byte, r.MaxMessage())
	misused := int64(0)
	for want := uint64(0); want < messages || invariants.Enabled && refused.Load() == 0; {
		n, err := q.Receive(ctx, buf)
		require.NoError(t, err)
		if n == 12 && binary.LittleEndian.Uint32(buf[8:]) == 0xC0FFEE {
			require.Equal(t, want, binary.LittleEndian.Uint64(buf))
			want++
			continue
		}
		if misused++; invariants.Enabled {
			require.Equal(t, "misused!", string(buf[:n]))
		}
	}
	require.NoError(t, <-sent)
	stop.Store(true)
	misusers.Wait()
	for {
		n, err := q.TryReceive(buf)
		if errors.Is(err, ErrEmpty) {
			break
		}
		require.NoError(t, err)
		misused++
		_ = n
	}
	if invariants.Enabled {
		require.Equal(t, accepted.Load(), misused)
		require.NotZero(t, refused.Load())
	}
	require.NoError(t, shared.Close())
	require.NoError(t, honest.Close())
	_, err = q.Receive(ctx, buf)
	require.Equal(t, io.EOF, err, "%+v", r.Stats())
	require.Zero(t, r.Stats().Used)
	require.NoError(t, r.Close())
}

// Two goroutines use one consumer at once, again and again. Properties: the producer and another consumer come to the end of the stream; what that other one gets
// is whole, in order, and nothing twice unless it says so; when the handles are closed no slot is held.
func TestMisuseOfConsumerHurtsNobodyElse(t *testing.T) {
	r := newHeapAt(t, Options{Kind: MPMC, Slots: 16, SlotSize: 16}, 0)
	p, err := r.NewProducer()
	require.NoError(t, err)
	shared, err := r.NewConsumer()
	require.NoError(t, err)
	honest, err := r.NewConsumer()
	require.NoError(t, err)
	ctx := patient(t)
	var stop atomic.Bool
	var misusers sync.WaitGroup
	for range 2 {
		misusers.Go(func() {
			buf, bufs := make([]byte, r.MaxMessage()), make([][]byte, 3)
			for i := 0; !stop.Load(); i++ {
				switch i % 7 {
				case 0:
					_, _ = shared.TryReceive(buf)
				case 4:
					if b, err := shared.TryNextBatch(3); err == nil {
						_ = b.At(0).Release()
						_ = b.Release()
					}
				case 5:
					bufs[0], bufs[1], bufs[2] = buf[:0:40], buf[40:40:56], buf[56:56]
					_, _ = shared.TryReceiveBatch(bufs)
				case 6:
					short, cancel := context.WithTimeout(ctx, 10*time.Microsecond)
					_, _ = shared.Receive(short, buf)
					cancel()
				case 1:
					if m, err := shared.TryNext(); err == nil {
						copy(buf, m.Bytes())
						_ = m.Release()
					}
				case 2:
					if m, err := shared.TryNext(); err == nil {
						_ = m.Return()
					}
				case 3:
					if b, err := shared.TryNextBatch(1); err == nil {
						_ = b.Release()
					}
				}
				if i%64 == 0 {
					runtime.Gosched()
				}
			}
		})
	}
	const messages = 20000
	sent := make(chan error, 1)
	go func() {
		msg := make([]byte, 40) // some take three slots
		for i := range uint64(messages) {
			binary.LittleEndian.PutUint64(msg, i)
			binary.LittleEndian.PutUint64(msg[8:], ^i)
			n := 16
			if i%8 == 0 {
				n = 40
			}
			if err := p.Send(ctx, msg[:n]); err != nil {
				sent <- err
				return
			}
		}
		sent <- p.Close()
	}()
	buf := make([]byte, r.MaxMessage())
	got, last := 0, uint64(0)
	for {
		n, err := honest.Receive(ctx, buf)
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		require.GreaterOrEqual(t, n, 16)
		i := binary.LittleEndian.Uint64(buf)
		require.Equal(t, ^i, binary.LittleEndian.Uint64(buf[8:]))
		if honest.Last().Deliveries == 1 {
			require.True(t, got == 0 || i > last)
			got, last = got+1, i
		}
	}
	require.NoError(t, <-sent)
	stop.Store(true)
	misusers.Wait()
	require.NoError(t, shared.Close())
	require.NoError(t, honest.Close())
	require.Zero(t, r.Stats().Used)
	require.NoError(t, r.Close())
}

// A call without a context does not wait: SendBatch commits what fits, as the others return at once.
func TestSendBatchWithoutContext(t *testing.T) {
	forms(t, Options{Slots: 8, SlotSize: 16}, func(t *testing.T, r *Ring) {
		p, _ := pair(t, r)
		msgs := make([][]byte, 12)
		n, err := p.SendBatch(noWait, msgs)
		require.Equal(t, ErrFull, err)
		require.Equal(t, 8, n)
		require.Equal(t, ErrFull, p.TrySend(nil), "the handle is in order")
	})
}
