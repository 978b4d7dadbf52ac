package ring

import (
	"context"
	"errors"
	"io"
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

// The first look for an answer is held off, for longer after each that was a bit too early, up to a limit, and for less after each that was not. Properties: what was waited for
// for long is no answer, nor is what was not waited for; a call that does not wait does not hold off, and expects none.
func TestAnswersAreHeldOff(t *testing.T) {
	r, err := NewHeap(Options{Kind: SPSC, Slots: 64, SlotSize: 16})
	require.NoError(t, err)
	p, q := pair(t, r)
	q.alone, q.answerMost = false, 0
	q.words, q.open = 0, 0 // the shorter way is closed while answers are expected
	learn := func(soon bool, want int) {
		q.learnAnswer(soon)
		require.Equal(t, want, q.answer)
	}
	receive := func(ctx context.Context, want int) {
		require.NoError(t, p.Send(ctxb, make([]byte, 8)))
		_, err := q.Receive(ctx, make([]byte, 8))
		require.NoError(t, err)
		require.Equal(t, want, q.answer)
	}
	receive(ctxb, 0)
	q.waited = true
	learn(true, 0) // nothing is fetched in this ring
	q.answerMost, q.waited = answerMost, false
	learn(true, 0) // the one before was there
	q.waited = true
	for _, want := range []int{16, 32, 48, 56, 56} {
		learn(true, want)
	}
	learn(false, 0)
	learn(true, 16)
	for want := 15; want >= 0; want-- {
		receive(ctxb, want)
		require.True(t, q.waited, "it is expected to be an answer")
	}
	receive(ctxb, 0)
	require.False(t, q.waited)
	q.answer = answerMost
	receive(noWait, 0)
	q.answer = answerMost
	_, err = q.TryReceive(make([]byte, 8))
	require.ErrorIs(t, err, ErrEmpty)
	require.Zero(t, q.answer)
	q.answer = answerMost
	_, _, _, found := q.watch(ctxb, nil)
	require.False(t, found)
	require.Zero(t, q.answer, "it did not come for long")
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

// However messages are received, less than a stride of space is kept back, FORMAT D5. Each way goes from before a multiple of the stride to behind it, and the shorter way on.
func TestSpaceKeptBack(t *testing.T) {
	buf, bufs := make([]byte, 64), make([][]byte, 8)
	for i := range bufs {
		bufs[i] = make([]byte, 12)
	}
	single := func(size int) func(p *Producer) error {
		return func(p *Producer) error { return p.TrySend(buf[:size]) }
	}
	batch := func(p *Producer) error {
		_, err := p.TrySendBatch(bufs)
		return err
	}
	receive := func(q *Consumer) error {
		_, err := q.TryReceive(buf)
		return err
	}
	receiveBatch := func(q *Consumer) error {
		_, err := q.TryReceiveBatch(bufs)
		return err
	}
	next := func(q *Consumer) error {
		m, err := q.TryNext()
		return errors.Join(err, m.Release())
	}
	nextBatch := func(q *Consumer) error {
		b, err := q.TryNextBatch(3)
		return errors.Join(err, b.Release())
	}
	for _, way := range []struct {
		name    string
		send    func(p *Producer) error
		receive func(q *Consumer) error
	}{
		{"a word", single(8), receive}, {"three bytes", single(3), receive}, {"several slots", single(40), receive}, {"a batch", batch, receiveBatch}, {"some of a batch", batch, receive},
		{"in place", single(12), next}, {"large in place", single(40), next}, {"batches in place", batch, nextBatch}, {"single ones in batches", single(12), nextBatch},
	} {
		const stride, before = 256, 100
		r := newHeapAt(t, Options{Kind: SPSC, Slots: 4 * stride, SlotSize: 16}, before)
		r.c.ahead = 0 // so that there is a shorter way
		require.EqualValues(t, stride-1, r.c.giveEvery)
		p, q := pair(t, r)
		step := func(receive func(q *Consumer) error) {
			require.NoError(t, receive(q), way.name)
			require.Less(t, r.c.ctl.consumerPosition.Load()-r.c.ctl.spacePosition.Load(), uint64(stride), way.name)
		}
		for q.pos < before+200 {
			if q.pos == p.pos {
				require.NoError(t, way.send(p))
			}
			step(way.receive)
		}
		for q.pos != p.pos {
			step(receive)
		}
		for q.pos < 3*stride {
			require.NoError(t, p.TrySend(buf[:8]))
			step(receive)
		}
	}
}

// What comes after the fact does so on every way of a message: hints, looks at memory, wakes, the look at lost memory, and the end of the shorter way where nothing was found.
func TestAfterTheFact(t *testing.T) {
	for _, size := range []int{8, 16, 20, 48} {
		r, err := NewHeap(Options{Kind: SPSC, Slots: 1024, SlotSize: 48})
		require.NoError(t, err)
		r.c.ahead = 0 // so that there is a shorter way
		p, q := pair(t, r)
		msg, buf := make([]byte, size), make([]byte, size)
		open := q.words
		require.Equal(t, p.fast > 0, open > 0)
		for i := range 3 * r.c.slots {
			asleep := i >= r.c.slots // not in the first laps, because who wakes somebody looks at memory, too
			_, err = q.TryReceive(buf)
			require.ErrorIs(t, err, ErrEmpty)
			require.Zero(t, q.words)
			for range 2 { // the second one has the shorter way, if it is short
				empty, full := r.c.ctl.notEmpty.epoch().Load(), r.c.ctl.notFull.epoch().Load()
				if asleep {
					empty, full = r.c.ctl.notEmpty.arrive(), r.c.ctl.notFull.arrive()
				}
				require.NoError(t, p.Send(ctxb, msg))
				require.Less(t, p.pos-r.c.ctl.producerPosition.Load(), uint64(hintEvery))
				require.Greater(t, int64(p.mapped-p.pos), int64(-hintEvery))
				_, err = q.Receive(ctxb, buf)
				require.NoError(t, err)
				require.Equal(t, open, q.words)
				require.Equal(t, asleep, empty != r.c.ctl.notEmpty.epoch().Load(), "who was woken by Send")
				require.Equal(t, asleep, full != r.c.ctl.notFull.epoch().Load(), "who was woken by Receive")
			}
		}
		var lost atomic.Uintptr
		require.NoError(t, p.Send(ctxb, msg))
		r.c.fault = &lost
		lost.Store(1)
		_, err = q.Receive(ctxb, buf)
		require.ErrorIs(t, err, ErrSegmentLost)
		require.ErrorIs(t, p.Send(ctxb, msg), ErrSegmentLost)
	}
}
