package ring

import (
	"context"
	"io"
	"math/rand/v2"
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

// What a producer would like to be free before it goes on after a full ring is a wish: with one slot free it goes on when its time for spinning is up, and
// does not sleep.
func TestOneFreeSlotIsEnough(t *testing.T) {
	const slots = 16
	forms(t, Options{Slots: slots, SlotSize: 128 << 10}, func(t *testing.T, r *Ring) {
		require.True(t, r.c.large)
		p, q := pair(t, r)
		for range slots {
			require.NoError(t, p.TrySend([]byte{1}))
		}
		for range slots {
			_, err := q.TryReceive(make([]byte, 1))
			require.NoError(t, err)
			require.True(t, p.crammed())
			p.pending = sending{what: sendOne, msg: []byte{2}}
			require.NoError(t, p.awaitSpace(ctxb))
		}
		require.Zero(t, r.Stats().Sleeps)
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
		stretch, large := stretchOf(c.kind, c.slots, c.bytes)
		require.Equal(t, c.expected, stretch, "%+v", c)
		require.Equal(t, c.slots*c.bytes > ownCache && c.slots > stretchLeft, large, "%+v", c)
	}
}

// A spin that gets news of space is renewed, for a time; not without news, and not when the context has ended.
func TestSpinsAreRenewed(t *testing.T) {
	var s spinner
	s.renew(ctxb, 1)
	began := s.start
	require.NotZero(t, began)
	require.Equal(t, began, s.renewed)
	s.renew(ctxb, 1)
	require.Equal(t, began, s.start, "no news")
	ended, cancel := context.WithCancel(ctxb)
	cancel()
	s.renew(ended, 2)
	require.Equal(t, began, s.start, "the context has ended")
	s.renewed = time.Now().Add(-stretchTime)
	s.renew(ctxb, 2)
	require.Equal(t, began, s.start, "its time is over")
	s.renewed = time.Now()
	s.renew(ctxb, 3)
	require.NotEqual(t, began, s.start)
}

// Padding goes past a place for a hint, and stores it: what follows one slot at a time would not, and a successor stops N slots behind it.
func TestHintAfterPadding(t *testing.T) {
	r, err := NewHeap(Options{Kind: SPSC, Slots: 128, SlotSize: 16})
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()) }()
	p, q := pair(t, r)
	buf := make([]byte, 16)
	for range 65 {
		require.NoError(t, p.Send(ctxb, buf))
		_, err := q.Receive(ctxb, buf)
		require.NoError(t, err)
	}
	v, err := p.Reserve(ctxb, 64*16)
	require.NoError(t, err)
	require.NoError(t, v.Discard())
	require.EqualValues(t, 128, p.pos)
	require.NoError(t, p.Send(ctxb, buf))
	require.EqualValues(t, 128, r.c.ctl.producerPosition.Load())
}

// However messages are received, less than a stride of space is kept back, FORMAT D5.
func TestSpaceKeptBack(t *testing.T) {
	for _, slots := range []int{1, 2, 4, 64, 1024} {
		r, err := NewHeap(Options{Kind: SPSC, Slots: slots, SlotSize: 16})
		require.NoError(t, err)
		p, q := pair(t, r)
		random, message := rand.New(rand.NewPCG(1, uint64(slots))), make([]byte, slots*16/2+16)
		for range 6 * slots {
			n := 1 + random.IntN(max(1, slots/3))
			for range n {
				size := []int{8, 16, 3, 0, slots * 16 / 8}[random.IntN(5)]
				if err := p.TrySend(message[:min(size, r.MaxMessage())]); err != ErrFull {
					require.NoError(t, err)
				}
			}
			for range n + 1 {
				err := error(nil)
				switch random.IntN(4) {
				case 0:
					_, err = q.TryReceive(message) // and finds nothing, after which a message goes the longer way
				case 1:
					var b Batch
					if b, err = q.TryNextBatch(1 + random.IntN(8)); err == nil {
						err = b.Release()
					}
				case 2:
					var m Message
					if m, err = q.TryNext(); err == nil {
						err = m.Release()
					}
				default:
					if q.c.state(q.pos).Load() == spscReadyWord(q.pos+1, 0) {
						_, err = q.Receive(ctxb, message)
					}
				}
				if err != ErrEmpty {
					require.NoError(t, err)
				}
				kept := r.c.ctl.consumerPosition.Load() - r.c.ctl.spacePosition.Load()
				require.LessOrEqual(t, kept, r.c.giveEvery)
			}
		}
	}
}
