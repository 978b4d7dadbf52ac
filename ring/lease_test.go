package ring

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A batch that was released is stale whatever the consumer leases next. Properties: its messages are the zero Message, and the new lease stays as it is.
func TestStaleBatch(t *testing.T) {
	for _, sizes := range [][]int{{8, 8, 8}, {8, 5, 8}} { // a run in an SPSC ring, and none
		forms(t, Options{Slots: 16, SlotSize: 16}, func(t *testing.T, r *Ring) {
			p, q := pair(t, r)
			var msgs [][]byte
			for _, n := range sizes {
				msgs = append(msgs, make([]byte, n))
			}
			lease := func() Batch {
				n, err := p.TrySendBatch(msgs)
				require.NoError(t, err)
				require.Equal(t, len(msgs), n)
				b, err := q.TryNextBatch(3)
				require.NoError(t, err)
				require.Equal(t, 3, b.Len())
				return b
			}
			old := lease()
			require.NoError(t, old.Release())
			b := lease()
			require.Nil(t, old.At(0).Bytes())
			require.Equal(t, ErrMisuse, old.At(2).Release())
			require.Equal(t, ErrMisuse, old.Release())
			require.Len(t, b.At(2).Bytes(), 8)
			require.NoError(t, b.Release())
			require.Nil(t, b.At(0).Bytes())
		})
	}
}

// The generation in a token has 18 bits. Properties: nothing happens when they begin anew, with batches, single messages, and nothing held at all.
func TestGenerationsBeginAnew(t *testing.T) {
	forms(t, Options{Slots: 8, SlotSize: 16}, func(t *testing.T, r *Ring) {
		p, q := pair(t, r)
		for i := range 2*generationMask + 10 {
			if err := p.TrySend(nil); err != nil {
				require.NoError(t, err)
			}
			var err error
			if i&1<<17 != 0 && i%3 == 0 {
				var m Message
				if m, err = q.TryNext(); err == nil {
					err = m.Release()
				}
			} else {
				var b Batch
				if b, err = q.TryNextBatch(2); err == nil {
					err = b.Release()
				}
			}
			if err != nil {
				require.NoError(t, err, i)
			}
		}
		require.Zero(t, r.Stats().Used)
	})
}

// Close may come while a lease is being released in parts. Under -race: what Release looks at is the handle's, and it looks inside the gate only.
func TestCloseBesideRelease(t *testing.T) {
	forms(t, Options{Slots: 64, SlotSize: 16}, func(t *testing.T, r *Ring) {
		p, err := r.NewProducer()
		require.NoError(t, err)
		for range 50 {
			_, err := p.TrySendBatch(make([][]byte, 32))
			require.True(t, err == nil || err == ErrFull, err)
			q, err := r.NewConsumer()
			require.NoError(t, err)
			b, err := q.TryNextBatch(32)
			require.NoError(t, err)
			closed := make(chan error)
			go func() { closed <- q.Close() }()
			for i := range b.Len() {
				if err := b.At(i).Release(); err != nil {
					require.Contains(t, []error{ErrClosed, ErrMisuse}, err)
					break
				}
			}
			require.NoError(t, <-closed)
		}
	})
}
