//go:build !race && !invariants

package ring

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Two calls that a plain gate could not keep apart, step by step. Properties: the reservation that the handle knows of is as good as ever; the other one is turned
// away, and its claim stands in nobody's way.
func TestOverlappingReservations(t *testing.T) {
	for _, size := range []int{8, 40} { // one slot, and three
		r := newHeapAt(t, Options{Kind: MPMC, Slots: 8, SlotSize: 16}, 6)
		p, err := r.NewProducer()
		require.NoError(t, err)
		q, err := r.NewConsumer()
		require.NoError(t, err)
		buf := make([]byte, r.MaxMessage())

		first, err := p.TryReserve(size)
		require.NoError(t, err)
		p.gate.leave(gateOpen) // what the other goroutine saw
		second, err := p.TryReserve(8)
		require.NoError(t, err)
		copy(second.Bytes(), "second!!")
		require.Nil(t, first.Bytes())
		require.Equal(t, ErrMisuse, first.Commit())
		require.Equal(t, ErrMisuse, first.Discard())
		require.NoError(t, second.Commit())
		n, err := q.TryReceive(buf)
		require.NoError(t, err)
		require.Equal(t, "second!!", string(buf[:n]))

		third, err := p.TryReserve(8)
		require.NoError(t, err)
		copy(third.Bytes(), "third!!!")
		p.gate.leave(gateOpen) // a send of the other goroutine has come to its end
		require.NoError(t, third.Commit())
		n, err = q.TryReceive(buf)
		require.NoError(t, err)
		require.Equal(t, "third!!!", string(buf[:n]))
		require.Equal(t, ErrMisuse, third.Commit())
		require.NoError(t, p.TrySend([]byte("fourth")))
		require.EqualValues(t, 1, r.Stats().Discarded)
		require.Equal(t, 1, r.Stats().Used)
	}
}
