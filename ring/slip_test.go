package ring

import (
	"io"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// A consumer that is close behind lets the producers get ahead, after a stride of messages, until what they write has left their first cache.
func TestSlip(t *testing.T) {
	for _, kind := range []Kind{SPSC, MPMC} {
		t.Run(kind.String(), func(t *testing.T) {
			r, err := NewHeap(Options{Kind: kind, Slots: 1024, SlotSize: 8, Participants: 4})
			require.NoError(t, err)
			p, q := pair(t, r)
			position := &r.c.ctl.producerPosition
			q.alone = false
			stride, near := r.c.giveEvery, r.c.near
			require.EqualValues(t, map[Kind]int{SPSC: 255, MPMC: 128}[kind], stride)

			require.Equal(t, 1, q.slip(ctxb), "nobody goes on")
			position.Store(q.pos + near - 8)
			require.Equal(t, 1, q.slip(ctxb))
			position.Store(q.pos + near)
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

			stop := moving(position)
			position.Store(q.pos - 1<<40) // never ahead: it is the looks that end it
			require.LessOrEqual(t, q.slip(ctxb), slipLooks)
			stop()
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

// A producer of an MPMC ring that is more than half full lets the consumers get ahead, after a stride of messages.
func TestSlipOfProducer(t *testing.T) {
	r, err := NewHeap(Options{Kind: MPMC, Slots: 1024, SlotSize: 8, Participants: 4})
	require.NoError(t, err)
	p, q := pair(t, r)
	position, stride, near := &r.c.ctl.consumerPosition, r.c.giveEvery, r.c.near
	p.alone = false
	require.EqualValues(t, 128, stride)

	require.Zero(t, p.slip(ctxb), "nothing but room")
	full := p.pos - r.c.slots
	position.Store(full)
	require.Equal(t, 1, p.slip(ctxb), "nobody goes on")
	position.Store(full + near - 8)
	require.Equal(t, 1, p.slip(ctxb))
	position.Store(full + near)
	require.Zero(t, p.slip(ctxb), "far enough")
	position.Store(full - 8)
	require.Equal(t, 1, p.slip(ctxb), "a hint may be behind")
	require.Zero(t, p.slip(noWait), "a Try call does not wait")
	p.alone = true
	require.Zero(t, p.slip(ctxb), "nobody runs beside it")
	p.alone = false

	stop := moving(position)
	position.Store(full - 1<<40) // never far: it is the looks that end it
	require.LessOrEqual(t, p.slip(ctxb), slipLooks)
	stop()
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
	slipped := p.slipped
	for range 2 * stride {
		v, err := p.Reserve(ctxb, 8)
		require.NoError(t, err)
		require.NoError(t, v.Commit())
		_, err = q.Receive(ctxb, buf)
		require.NoError(t, err)
	}
	require.Greater(t, p.slipped, slipped+stride)
	slipped = p.slipped
	for range 2 * stride { // and by calls that try, which do not wait
		require.NoError(t, p.TrySend(buf))
		_, err := q.TryReceive(buf)
		require.NoError(t, err)
	}
	require.Greater(t, p.slipped, slipped)
}

// Next looks how far the producers are after a stride of messages, and not more often.
func TestSlipOfNext(t *testing.T) {
	for _, kind := range []Kind{SPSC, MPMC} {
		t.Run(kind.String(), func(t *testing.T) {
			r, err := NewHeap(Options{Kind: kind, Slots: 1024, SlotSize: 8, Participants: 4})
			require.NoError(t, err)
			p, q := pair(t, r)
			slips, last := 0, q.slipped
			for range 4 * (r.c.giveEvery + 1) {
				require.NoError(t, p.Send(ctxb, []byte("12345678")))
				q.dries = 1
				m, err := q.Next(ctxb)
				require.NoError(t, err)
				if q.slipped != last {
					last = q.slipped
					require.Zero(t, q.dries)
					slips++
				} else {
					require.EqualValues(t, 1, q.dries)
				}
				require.NoError(t, m.Release())
			}
			require.Equal(t, 3, slips)
			require.NoError(t, p.Close())
			for range 3 { // the position stays
				q.slipped, q.dries = q.pos, 1
				_, err := q.Next(ctxb)
				require.ErrorIs(t, err, io.EOF)
				require.Equal(t, q.pos, q.slipped)
			}
		})
	}
}

// What is near depends on how many bytes a message has.
func TestNear(t *testing.T) {
	for _, c := range []struct {
		o         Options
		near, far int
	}{
		{Options{Kind: SPSC, Slots: 1024, SlotSize: 64}, 192, 256}, // two lines each
		{Options{Kind: SPSC, Slots: 1024, SlotSize: 256}, 127, 255},
		{Options{Kind: SPSC, Slots: 256, SlotSize: 64}, 96, 128},
		{Options{Kind: SPSC, Slots: 4, SlotSize: 1 << 20}, 0, 0},
		{Options{Kind: MPMC, Slots: 1 << 14, SlotSize: 64}, 192, 256},
		{Options{Kind: MPMC, Slots: 1 << 14, SlotSize: 4096}, 64, 128},
	} {
		r, err := NewHeap(c.o)
		require.NoError(t, err)
		require.Equal(t, []uint64{uint64(c.near), uint64(c.far)}, []uint64{r.c.near, r.c.far}, c.o)
		require.NoError(t, r.Close())
	}
}

// moving has somebody move a position on until stop is called.
func moving(position *atomic.Uint64) (stop func()) {
	var over atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !over.Load() {
			position.Add(1)
		}
	}()
	for from := position.Load(); position.Load() == from; {
		runtime.Gosched()
	}
	return func() {
		over.Store(true)
		<-done
	}
}
