package ring

import (
	"context"
	"encoding/binary"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

var ctxb = context.Background()

// forms runs f on both kinds of ring.
func forms(t *testing.T, o Options, f func(t *testing.T, r *Ring)) {
	for _, k := range []Kind{SPSC, MPMC} {
		t.Run(k.String(), func(t *testing.T) {
			o := o
			o.Kind = k
			r, err := NewHeap(o)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, r.Close()) })
			f(t, r)
		})
	}
}

func TestSendAndReceiveEverySizeAcrossManyLaps(t *testing.T) {
	forms(t, Options{Slots: 8, SlotSize: 16}, func(t *testing.T, r *Ring) {
		p, err := r.NewProducer()
		require.NoError(t, err)
		q, err := r.NewConsumer()
		require.NoError(t, err)
		buf := make([]byte, r.MaxMessage())
		for round := 0; round < 20; round++ {
			for n := 0; n <= r.MaxMessage(); n++ {
				msg := make([]byte, n)
				for i := range msg {
					msg[i] = byte(i + n + round)
				}
				require.NoError(t, p.Send(ctxb, msg), "n=%d", n)
				got, err := q.Receive(ctxb, buf)
				require.NoError(t, err)
				require.Equal(t, msg, append([]byte{}, buf[:got]...))
			}
		}
		s := r.Stats()
		require.EqualValues(t, 20*(r.MaxMessage()+1), s.Sent)
		require.EqualValues(t, s.Sent, s.Received)
		require.Zero(t, s.Used)
		require.NotZero(t, s.Padding)
		require.Equal(t, s.ProducerPosition, s.ConsumerPosition)
		require.NoError(t, p.Close())
		_, err = q.Receive(ctxb, buf)
		require.Equal(t, io.EOF, err)
	})
}

func TestFullIsExact(t *testing.T) {
	forms(t, Options{Slots: 8, SlotSize: 16}, func(t *testing.T, r *Ring) {
		p, err := r.NewProducer()
		require.NoError(t, err)
		q, err := r.NewConsumer()
		require.NoError(t, err)
		buf := make([]byte, 16)
		for lap := 0; lap < 50; lap++ {
			for i := 0; i < 8; i++ {
				require.NoError(t, p.TrySend([]byte{byte(i)}))
			}
			require.Equal(t, ErrFull, p.TrySend([]byte{99}))
			require.Equal(t, 8, r.Stats().Used)
			n, err := q.TryReceive(buf)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.NoError(t, p.TrySend([]byte{8}))
			require.Equal(t, ErrFull, p.TrySend([]byte{99}))
			for i := 1; i <= 8; i++ {
				_, err := q.TryReceive(buf)
				require.NoError(t, err)
				require.Equal(t, byte(i), buf[0])
			}
			_, err = q.TryReceive(buf)
			require.Equal(t, ErrEmpty, err)
		}
	})
}

// A producer that waits in front of a full ring spins for more room than it needs, and takes one slot when no more comes free.
func TestOneSlotIsEnough(t *testing.T) {
	forms(t, Options{Slots: 64, SlotSize: 16}, func(t *testing.T, r *Ring) {
		p, err := r.NewProducer()
		require.NoError(t, err)
		q, err := r.NewConsumer()
		require.NoError(t, err)
		for range 64 {
			require.NoError(t, p.TrySend([]byte{1}))
		}
		for range 200 {
			sent := make(chan error)
			go func() { sent <- p.Send(ctxb, []byte{2}) }()
			_, err := q.TryReceive(make([]byte, 16))
			require.NoError(t, err)
			require.NoError(t, <-sent)
			require.Equal(t, 64, r.Stats().Used)
		}
	})
}

func TestBatchesKeepOrderAndReleaseInParts(t *testing.T) {
	forms(t, Options{Slots: 16, SlotSize: 8}, func(t *testing.T, r *Ring) {
		p, err := r.NewProducer()
		require.NoError(t, err)
		q, err := r.NewConsumer()
		require.NoError(t, err)
		next := uint64(0)
		want := uint64(0)
		for round := 0; round < 300; round++ {
			var msgs [][]byte
			for i := 0; i < round%8+1; i++ {
				size := 8
				if round%3 == 0 {
					size = 8 + i*3
				}
				m := make([]byte, size)
				binary.LittleEndian.PutUint64(m, next)
				next++
				msgs = append(msgs, m)
			}
			n, err := p.TrySendBatch(msgs)
			if err != nil {
				require.Equal(t, ErrFull, err)
				next -= uint64(len(msgs) - n)
			}
			for want < next {
				b, err := q.NextBatch(ctxb, 5)
				require.NoError(t, err)
				for i := 0; i < b.Len(); i++ {
					m := b.At(i)
					require.Equal(t, want, binary.LittleEndian.Uint64(m.Bytes()))
					want++
					if i == b.Len()/2 {
						require.NoError(t, m.Release())
						require.Equal(t, ErrMisuse, m.Release())
					}
				}
				if b.Len()/2 != b.Len()-1 {
					require.NoError(t, b.Release())
				}
				require.Equal(t, ErrMisuse, b.Release())
			}
		}
		require.Zero(t, r.Stats().Used)
	})
}

func TestReturnRedelivers(t *testing.T) {
	forms(t, Options{Slots: 8, SlotSize: 16}, func(t *testing.T, r *Ring) {
		p, err := r.NewProducer()
		require.NoError(t, err)
		q, err := r.NewConsumer()
		require.NoError(t, err)
		require.NoError(t, p.Send(ctxb, []byte("one")))
		require.NoError(t, p.Send(ctxb, []byte("two")))
		for i := 1; i < 100; i++ {
			m, err := q.Next(ctxb)
			require.NoError(t, err)
			require.Equal(t, "one", string(m.Bytes()))
			require.Equal(t, min(i, 49), m.Deliveries())
			require.NoError(t, m.Return())
			require.Nil(t, m.Bytes())
		}
		m, err := q.Next(ctxb)
		require.NoError(t, err)
		require.True(t, m.Redelivered())
		require.NoError(t, m.Release())
		m, err = q.Next(ctxb)
		require.NoError(t, err)
		require.Equal(t, "two", string(m.Bytes()))
		require.False(t, m.Redelivered())
		require.NoError(t, m.Release())
	})
}

// What a ring's entries are apart, by kind and size.
func TestEntryStride(t *testing.T) {
	for _, x := range []struct {
		kind               Kind
		slots, size        int
		elsewhere, sharing uint32 // where shared lines are slow
	}{
		{SPSC, 64, 1, 32, 32}, {SPSC, 512, 16, 32, 32}, {SPSC, 1024, 16, 32, 64}, {SPSC, 1024, 17, 64, 64}, {SPSC, 1024, 48, 64, 64},
		{SPSC, 1024, 49, 128, 128}, {SPSC, 1024, 112, 128, 128}, {SPSC, 1024, 113, 64, 64},
		{MPMC, 64, 1, 64, 128}, {MPMC, 1024, 48, 64, 128}, {MPMC, 1024, 49, 64, 64}, {MPMC, 1024, 112, 64, 64}, {MPMC, 1024, 113, 64, 64},
	} {
		o := Options{Kind: x.kind, Slots: x.slots, SlotSize: x.size}
		require.Equal(t, x.elsewhere, entryStride(o, false), "%v", o)
		require.Equal(t, x.sharing, entryStride(o, true), "%v", o)
	}
}
