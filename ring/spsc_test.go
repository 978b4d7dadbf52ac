package ring

import (
	"context"
	"io"
	"testing"

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
