package ring

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// One call of a consumer may step over any number of abandoned reservations: the first gives the space back that the next producer dies with. That is progress,
// not a corrupt segment, however small the ring.
func TestSkipsThatFollowEachOther(t *testing.T) {
	r, err := NewHeap(Options{Kind: SPSC, Slots: 1, SlotSize: 8})
	require.NoError(t, err)
	q, err := r.NewConsumer()
	require.NoError(t, err)
	const deaths = 3000
	over := make(chan error, 1)
	go func() {
		for range deaths {
			p, err := r.NewProducer(WaitForConsumers())
			if err == nil {
				_, err = p.Reserve(context.Background(), 8)
			}
			if err != nil {
				over <- err
				return
			}
			r.forget(&p.handle)
			if err := p.lock.Close(); err != nil {
				over <- err
				return
			}
		}
		over <- nil
	}()
	for done := false; !done; {
		select {
		case err := <-over:
			require.NoError(t, err)
			done = true
		default:
		}
		_, err := q.TryReceive(nil)
		require.Contains(t, []error{ErrEmpty, io.EOF}, err)
	}
	require.GreaterOrEqual(t, r.Stats().Skipped, uint64(deaths-1))
	require.NoError(t, r.Close())
}

// What a producer would like to be free before it goes on after a full ring is a wish: with one slot free it goes on when its time for spinning is up.
func TestOneFreeSlotIsEnough(t *testing.T) {
	const slots = 16
	forms(t, Options{Slots: slots, SlotSize: 128 << 10}, func(t *testing.T, r *Ring) {
		require.Greater(t, r.c.stretch, uint64(1))
		p, q := pair(t, r)
		for range slots {
			require.NoError(t, p.TrySend([]byte{1}))
		}
		for range slots {
			sent := make(chan error)
			go func() { sent <- p.Send(t.Context(), []byte{2}) }()
			_, err := q.Receive(t.Context(), make([]byte, 1))
			require.NoError(t, err)
			require.NoError(t, <-sent)
		}
	})
}

func TestStretch(t *testing.T) {
	for _, c := range []struct {
		kind                   Kind
		slots, bytes, expected uint64
	}{
		{SPSC, 1024, 128, 0},                  // small: strides do
		{MPMC, 1024, 128, stretchMost},        //
		{MPMC, stretchLeast, 128, 8},          // half of a ring of few slots
		{MPMC, stretchLeast / 2, 128, 0},      //
		{SPSC, 1024, 4096, 768},               // as many bytes as it takes
		{MPMC, 256, 16 << 10, 192},            //
		{SPSC, 16, 256 << 10, 12},             // a quarter is left
		{SPSC, 8, 1 << 20, 3},                 // or as many bytes
		{SPSC, 8, 256 << 10, 4},               // or four slots
		{SPSC, 4, 1 << 20, 0},                 //
		{SPSC, 1, 1 << 20, 0},                 //
		{SPSC, 1 << 20, 192, (3 << 20) / 192}, // less than a stride: nothing changes
	} {
		require.Equal(t, c.expected, stretchOf(c.kind, c.slots, c.bytes), "%+v", c)
	}
}

// A spin that gets news of space all the time ends all the same.
func TestRenewedSpinEnds(t *testing.T) {
	s := spinner{budget: time.Microsecond}
	began := time.Now()
	news := uint64(1)
	for ; s.more(); news++ {
		s.renew(news)
	}
	require.Greater(t, time.Since(began), stretchTime)
	require.Greater(t, news, uint64(spinClose+spinLook))
}
