package ring

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

type (
	point struct{ X, Y int32 }
	quote struct {
		Price  float64
		At     point
		Symbol [8]uint8
		Sizes  [2][3]uint16
		Flags  uint32
	}
	point2 struct{ A, B int32 } // the same layout as point: names do not matter
	padded struct {
		A uint8
		B uint32
	}
	padEnd struct {
		A uint64
		B uint8
	}
	withPointer struct{ P *int32 }
	withBool    struct{ A, B bool }
	nested      struct{ In [3]withString }
	withString  struct{ S string }
)

// refused checks that no handle can be made for T, that the error says why, and that nothing is left of the attempt.
func refused[T any](t *testing.T, why string) {
	t.Helper()
	r, err := NewHeap(Options{Slots: 4, SlotSize: 64})
	require.NoError(t, err)
	_, err = NewTypedProducer[T](r)
	require.ErrorIs(t, err, ErrNotPlain)
	require.ErrorContains(t, err, why)
	_, err = NewTypedConsumer[T](r)
	require.ErrorIs(t, err, ErrNotPlain)
	require.Empty(t, r.Participants())
	_, err = r.NewProducer()
	require.NoError(t, err, "the ring is not typed")
	require.NoError(t, r.Close())
}

// Types that mean nothing in another process, or whose bytes are not all defined, are refused when the handle is made.
func TestTypesThatAreRefused(t *testing.T) {
	refused[int](t, "int")
	refused[uint](t, "uint")
	refused[uintptr](t, "uintptr")
	refused[bool](t, "bool")
	refused[string](t, "pointer")
	refused[[]byte](t, "pointer")
	refused[*int32](t, "pointer")
	refused[map[int32]int32](t, "pointer")
	refused[chan int32](t, "pointer")
	refused[func()](t, "pointer")
	refused[any](t, "pointer")
	refused[error](t, "pointer")
	refused[unsafe.Pointer](t, "pointer")
	refused[padded](t, "3 bytes of padding before B")
	refused[padEnd](t, "7 bytes of padding at its end")
	refused[withPointer](t, "withPointer.P")
	refused[withBool](t, "withBool.A")
	refused[nested](t, "nested.In[0].S")
	refused[[2]padEnd](t, "padding")
}

// roundTrip sends a value of T and gets it back.
func roundTrip[T comparable](t *testing.T, v T) {
	t.Helper()
	forms(t, Options{Slots: 4, SlotSize: 24}, func(t *testing.T, r *Ring) {
		p, err := NewTypedProducer[T](r)
		require.NoError(t, err)
		q, err := NewTypedConsumer[T](r)
		require.NoError(t, err)
		for range 10 {
			var got T
			require.NoError(t, p.TrySend(&v))
			require.NoError(t, q.TryReceive(&got))
			require.Equal(t, v, got)
			require.NoError(t, p.Send(ctxb, &v))
			require.NoError(t, q.Receive(ctxb, &got))
			require.Equal(t, v, got)
		}
	})
}

func TestTypesThatAreTaken(t *testing.T) {
	roundTrip(t, int8(-1))
	roundTrip(t, uint64(1)<<63)
	roundTrip(t, float32(1.5))
	roundTrip(t, complex(1, -2))
	roundTrip(t, point{1, -2})
	roundTrip(t, [5]int16{1, 2, 3, 4, 5})
	roundTrip(t, struct{}{})
	roundTrip(t, [0]int64{})
	roundTrip(t, quote{Price: 1.25, At: point{3, 4}, Symbol: [8]uint8{'M', 'R'}, Sizes: [2][3]uint16{{1, 2, 3}, {4, 5, 6}}, Flags: 7})
}

// The first typed handle decides what the ring carries. Properties: another layout is ErrMismatch, also at the same size; the same layout under another name is
// not; an untyped producer afterwards is ErrMismatch, an untyped consumer is not; a T larger than MaxMessage is *SizeError and decides nothing.
func TestTypeIsDecidedOnce(t *testing.T) {
	forms(t, Options{Slots: 4, SlotSize: 16}, func(t *testing.T, r *Ring) {
		var size *SizeError
		_, err := NewTypedProducer[[33]uint8](r)
		require.ErrorAs(t, err, &size)
		require.Equal(t, SizeError{Got: 33, Max: 32}, *size)
		p, err := NewTypedProducer[point](r)
		require.NoError(t, err)
		_, err = NewTypedConsumer[int64](r)
		require.ErrorIs(t, err, ErrMismatch)
		_, err = NewTypedConsumer[[2]uint32](r)
		require.ErrorIs(t, err, ErrMismatch)
		require.NoError(t, p.Close())
		_, err = r.NewProducer()
		require.ErrorIs(t, err, ErrMismatch)
		p2, err := NewTypedProducer[point2](r)
		require.NoError(t, err)
		q, err := r.NewConsumer()
		require.NoError(t, err)
		require.NoError(t, p2.TrySend(&point2{1, 2}))
		n, err := q.TryReceive(make([]byte, 8))
		require.NoError(t, err)
		require.Equal(t, 8, n)
	})
}

// Batches of values. Properties: order and content over many laps; ReceiveBatch takes 1 to len; empty slices do nothing; TrySendBatch sends the longest prefix; io.EOF, ErrEmpty, ErrClosed and
// the context as for messages; ReceiveBatch of values that do not fit into one slot.
func TestTypedBatches(t *testing.T) {
	forms(t, Options{Slots: 8, SlotSize: 12}, func(t *testing.T, r *Ring) {
		p, err := NewTypedProducer[[2]int64](r) // two slots each
		require.NoError(t, err)
		q, err := NewTypedConsumer[[2]int64](r)
		require.NoError(t, err)
		typedLaps(t, p, q, 4)
	})
	forms(t, Options{Slots: 8, SlotSize: 16}, func(t *testing.T, r *Ring) {
		p, err := NewTypedProducer[[2]int64](r) // exactly one slot: a batch is one copy
		require.NoError(t, err)
		q, err := NewTypedConsumer[[2]int64](r)
		require.NoError(t, err)
		typedLaps(t, p, q, 8)
		require.NoError(t, p.Close())
		_, err = q.ReceiveBatch(ctxb, make([][2]int64, 1))
		require.Equal(t, io.EOF, err)
		require.NoError(t, q.Close())
		_, err = q.TryReceiveBatch(make([][2]int64, 1))
		require.Equal(t, ErrClosed, err)
		_, err = p.TrySendBatch(make([][2]int64, 1))
		require.Equal(t, ErrClosed, err)
	})
}

func typedLaps(t *testing.T, p *TypedProducer[[2]int64], q *TypedConsumer[[2]int64], fit int) {
	next, want := int64(0), int64(0)
	for lap := range 60 {
		vs := make([][2]int64, lap%(fit+3))
		for i := range vs {
			vs[i] = [2]int64{next + int64(i), -next - int64(i)}
		}
		n, err := p.TrySendBatch(vs)
		if n < len(vs) {
			require.Equal(t, ErrFull, err)
		} else {
			require.NoError(t, err)
		}
		require.GreaterOrEqual(t, n, min(len(vs), fit-2)) // padding may take two
		next += int64(n)
		for want < next {
			got := make([][2]int64, 3)
			n, err := q.ReceiveBatch(ctxb, got)
			require.NoError(t, err)
			require.NotZero(t, n)
			for _, v := range got[:n] {
				require.Equal(t, [2]int64{want, -want}, v)
				want++
			}
		}
		n, err = q.TryReceiveBatch(make([][2]int64, 2))
		require.Equal(t, ErrEmpty, err)
		require.Zero(t, n)
		n, err = q.TryReceiveBatch(nil)
		require.NoError(t, err)
		require.Zero(t, n)
		n, err = p.SendBatch(ctxb, nil)
		require.NoError(t, err)
		require.Zero(t, n)
	}
	ctx, cancel := context.WithTimeout(ctxb, time.Millisecond)
	defer cancel()
	_, err := q.ReceiveBatch(ctx, make([][2]int64, 2))
	require.Equal(t, context.DeadlineExceeded, err)
	n, err := p.SendBatch(ctx, make([][2]int64, fit+5))
	require.Equal(t, context.DeadlineExceeded, err)
	require.NotZero(t, n, "what fitted was sent")
	for n > 0 {
		got, err := q.ReceiveBatch(ctxb, make([][2]int64, n))
		require.NoError(t, err)
		n -= got
	}
}

// A message that is no value, left by an untyped producer from before the ring was typed, is ErrMismatch and comes after the values before it. Neither it nor the
// values behind it were delivered, so that none is lost where one delivery is all there is.
func TestMessageThatIsNoValue(t *testing.T) {
	forms(t, Options{Slots: 8, SlotSize: 16, MaxDeliveries: 1}, func(t *testing.T, r *Ring) {
		p, err := r.NewProducer()
		require.NoError(t, err)
		require.NoError(t, errors.Join(p.TrySend(make([]byte, 8)), p.TrySend(make([]byte, 8)), p.TrySend([]byte("odd")), p.TrySend(make([]byte, 8))))
		q, err := NewTypedConsumer[int64](r)
		require.NoError(t, err)
		n, err := q.TryReceiveBatch(make([]int64, 8))
		require.NoError(t, err)
		require.Equal(t, 2, n)
		n, err = q.TryReceiveBatch(make([]int64, 8))
		require.ErrorIs(t, err, ErrMismatch)
		require.ErrorContains(t, err, "3 bytes where values of 8")
		require.Zero(t, n)
		var v int64
		for range 2 { // it is not lost
			require.ErrorIs(t, q.TryReceive(&v), ErrMismatch)
			require.ErrorContains(t, q.Receive(patient(t), &v), "3 bytes where values of 8")
		}
		require.NoError(t, q.Close())
		untyped, err := r.NewConsumer()
		require.NoError(t, err)
		buf := make([]byte, 16)
		n, err = untyped.TryReceive(buf)
		require.NoError(t, err)
		require.Equal(t, "odd", string(buf[:n]))
		n, err = untyped.TryReceive(buf)
		require.NoError(t, err)
		require.Equal(t, 8, n)
		require.Equal(t, 1, untyped.Last().Deliveries)
		require.Zero(t, r.Stats().Lost)
	})
}
