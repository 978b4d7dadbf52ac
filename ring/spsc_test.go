package ring

import (
	"context"
	"io"
	"runtime"
	"sync/atomic"
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

// A consumer that is close behind lets the producers get ahead, after a stride of messages.
func TestSlip(t *testing.T) {
	for _, kind := range []Kind{SPSC, MPMC} {
		t.Run(kind.String(), func(t *testing.T) {
			r, err := NewHeap(Options{Kind: kind, Slots: 1024, SlotSize: 8, Participants: 4})
			require.NoError(t, err)
			p, q := pair(t, r)
			position := &r.c.ctl.producerPosition
			q.alone = false
			stride := r.c.giveEvery
			require.EqualValues(t, map[Kind]int{SPSC: 255, MPMC: 128}[kind], stride)

			require.Equal(t, 1, q.slip(ctxb), "nobody goes on")
			position.Store(q.pos + stride/2 - 8)
			require.Equal(t, 1, q.slip(ctxb))
			position.Store(q.pos + stride/2)
			require.Zero(t, q.slip(ctxb), "far enough")
			position.Store(q.pos - 8)
			require.Equal(t, 1, q.slip(ctxb), "a hint may be behind")
			require.Zero(t, q.slip(noWait), "a Try call does not wait")
			q.dries = stride/8 + 1
			require.Zero(t, q.slip(ctxb), "it ran dry all the time, and nothing more has come")
			require.Zero(t, q.dries)
			next := r.c.state(q.pos + 1)
			was := next.Swap(q.fresh(q.pos + 1))
			q.dries = stride/8 + 1
			require.Equal(t, 1, q.slip(ctxb), "it ran dry all the time, and the producer would go on with more room")
			next.Store(was)
			q.alone = true
			require.Zero(t, q.slip(ctxb), "nobody runs beside it")
			q.alone, q.rivals = false, 1
			require.Zero(t, q.slip(ctxb), "other consumers are after the same messages")
			q.rivals = 0

			var stop atomic.Bool
			done := make(chan struct{})
			go func() {
				defer close(done)
				for !stop.Load() {
					position.Add(1)
				}
			}()
			for from := position.Load(); position.Load() == from; {
				runtime.Gosched()
			}
			position.Store(q.pos - 1<<40) // never ahead: it is the looks that end it
			require.LessOrEqual(t, q.slip(ctxb), slipLooks)
			stop.Store(true)
			<-done
			position.Store(p.pos)

			q.dries = 1 // it is called by Receive
			for range stride + 16 {
				require.NoError(t, p.Send(ctxb, []byte("12345678")))
				_, err := q.Receive(ctxb, make([]byte, 8))
				require.NoError(t, err)
			}
			if q.fast > 0 && (kind == SPSC || !raceDetector) { // otherwise Receive takes the long way
				require.Zero(t, q.dries)
			}
		})
	}
}

// A producer of an MPMC ring that is nearly full lets the consumers get ahead, after a stride of messages.
func TestSlipOfProducer(t *testing.T) {
	r, err := NewHeap(Options{Kind: MPMC, Slots: 1024, SlotSize: 8, Participants: 4})
	require.NoError(t, err)
	p, q := pair(t, r)
	position, stride := &r.c.ctl.consumerPosition, r.c.giveEvery
	p.alone = false
	require.EqualValues(t, 128, stride)

	require.Zero(t, p.slip(ctxb), "nothing but room")
	full := p.pos - r.c.slots
	position.Store(full)
	require.Equal(t, 1, p.slip(ctxb), "nobody goes on")
	position.Store(full + stride/2 - 8)
	require.Equal(t, 1, p.slip(ctxb))
	position.Store(full + stride/2)
	require.Zero(t, p.slip(ctxb), "far enough")
	position.Store(full - 8)
	require.Equal(t, 1, p.slip(ctxb), "a hint may be behind")
	require.Zero(t, p.slip(noWait), "a Try call does not wait")
	p.alone = true
	require.Zero(t, p.slip(ctxb), "nobody runs beside it")
	p.alone = false

	var stop atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			position.Add(1)
		}
	}()
	for from := position.Load(); position.Load() == from; {
		runtime.Gosched()
	}
	position.Store(full - 1<<40) // never far: it is the looks that end it
	require.LessOrEqual(t, p.slip(ctxb), slipLooks)
	stop.Store(true)
	<-done
	position.Store(p.pos)

	if p.fast == 0 || raceDetector { // Send takes the long way
		return
	}
	buf := make([]byte, 8)
	for range 2 * stride { // it is called by Send, and by Reserve
		require.NoError(t, p.Send(ctxb, buf))
		_, err := q.Receive(ctxb, buf)
		require.NoError(t, err)
	}
	require.NotZero(t, p.slipped)
	for was := p.slipped; p.slipped == was; {
		v, err := p.Reserve(ctxb, 8)
		require.NoError(t, err)
		require.NoError(t, v.Commit())
		_, err = q.Receive(ctxb, buf)
		require.NoError(t, err)
	}
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
