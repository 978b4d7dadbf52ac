package ring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/futex"

	"github.com/cd1900cf/millrace/internal/layout"
)

// vanish lets a handle end as if its process had been killed: its lock is gone, its registration is not.
func vanish(t *testing.T, h *handle) {
	t.Helper()
	require.True(t, h.ring.forget(h))
	require.NoError(t, h.lock.Close())
}

func peeked(t *testing.T, r *Ring, n int) (list []string) {
	t.Helper()
	require.NoError(t, r.Peek(n, func(position uint64, deliveries int, payload []byte) bool {
		list = append(list, fmt.Sprintf("%d %d %s", position, deliveries, payload))
		return true
	}))
	return list
}

// Peek shows the unreleased messages in order, leased and redelivered ones included, up to a number or until told to stop, and takes nothing.
func TestPeek(t *testing.T) {
	forms(t, Options{Slots: 8, SlotSize: 4}, func(t *testing.T, r *Ring) {
		p, q := pair(t, r)
		require.Empty(t, peeked(t, r, 5))
		require.NoError(t, errors.Join(p.TrySend([]byte("one")), p.TrySend([]byte("longer")), p.TrySend(nil), p.TrySend([]byte("four"))))
		want := []string{"0 1 one", "1 1 longer", "3 1 ", "4 1 four"}
		require.Equal(t, want, peeked(t, r, 10))
		require.Equal(t, want[:2], peeked(t, r, 2))
		require.Empty(t, peeked(t, r, 0))
		seen := 0
		require.NoError(t, r.Peek(10, func(uint64, int, []byte) bool { seen++; return seen < 3 }))
		require.Equal(t, 3, seen)
		b, err := q.TryNextBatch(3)
		require.NoError(t, err)
		require.Equal(t, want, peeked(t, r, 10))
		require.NoError(t, b.At(0).Release())
		require.Equal(t, want[1:], peeked(t, r, 10))
		require.NoError(t, b.At(1).Return())
		require.Equal(t, []string{"1 2 longer", "3 2 ", "4 1 four"}, peeked(t, r, 10))
		_, err = p.TryReserve(2)
		require.NoError(t, err)
		require.Len(t, peeked(t, r, 10), 3)
		require.EqualValues(t, 4, r.Stats().Sent)
		require.NoError(t, r.Peek(1, func(_ uint64, _ int, payload []byte) bool {
			payload[0] = 'X' // a copy
			return true
		}))
		require.Equal(t, "1 2 longer", peeked(t, r, 1)[0])
	})
}

// Participants names everybody, what he holds and since when. Properties: an open reservation or lease that is seen for 100 ms makes its owner stalled, and live
// again when it ends; somebody whose lock is gone is dead until he has been recovered; nothing is taken from the stalled.
func TestParticipants(t *testing.T) {
	forms(t, Options{Slots: 8, SlotSize: 4}, func(t *testing.T, r *Ring) {
		p, q := pair(t, r)
		states := func() (list []string) {
			for _, x := range r.Participants() {
				list = append(list, fmt.Sprint(x.Role, " ", x.State, " ", x.Holding))
			}
			return list
		}
		require.Equal(t, []string{"producer live false", "consumer live false"}, states())
		require.NoError(t, p.TrySend([]byte("held")))
		m, err := q.TryNext()
		require.NoError(t, err)
		res, err := p.TryReserve(2)
		require.NoError(t, err)
		begin := time.Now()
		states()
		for time.Since(begin) < 2*stallAfter {
			time.Sleep(stallAfter / 4) // two looks at least 100 ms apart
		}
		require.Equal(t, []string{"producer stalled true", "consumer stalled true"}, states())
		for _, x := range r.Participants() {
			require.GreaterOrEqual(t, x.Age, stallAfter)
			require.NotZero(t, x.PID)
			if x.Role == ConsumerRole {
				require.Zero(t, x.Position)
			} else {
				require.EqualValues(t, 1, x.Position)
			}
		}
		list, err := r.Recover(false)
		require.NoError(t, err)
		require.Empty(t, list)
		require.NoError(t, m.Release())
		require.NoError(t, res.Commit())
		require.Equal(t, []string{"producer live false", "consumer live false"}, states())
		_, err = q.TryNext()
		require.NoError(t, err)
		vanish(t, &q.handle)
		require.Equal(t, []string{"producer live false", "consumer dead true"}, states())
		s := r.Stats()
		require.EqualValues(t, 1, s.ConsumersDied)
		require.Zero(t, s.ConsumersLive)
		list, err = r.Recover(true)
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.Equal(t, ConsumerRole, list[0].Role)
		require.Equal(t, []uint64{1}, list[0].Held)
		require.Zero(t, r.Stats().Recoveries, "a dry run")
		again, err := r.Recover(false)
		require.NoError(t, err)
		require.Equal(t, list, again)
		require.Equal(t, []string{"producer live false"}, states())
		s = r.Stats()
		require.EqualValues(t, 1, s.Recoveries)
		require.EqualValues(t, 1, s.ConsumersDied)
		again, err = r.Recover(false)
		require.NoError(t, err)
		require.Empty(t, again)
	})
}

// A wait that ends behind a stalled participant says who that is; errors.Is finds the context's error. A claim that is young gets the bare error.
func TestPeerError(t *testing.T) {
	r := newHeapAt(t, Options{Kind: MPMC, Slots: 4, SlotSize: 4}, 0)
	p, q := pair(t, r)
	_, err := p.TryReserve(1)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(ctxb, 3*stallAfter)
	defer cancel()
	_, err = q.Receive(ctx, make([]byte, 4))
	var peer *PeerError
	require.ErrorAs(t, err, &peer)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, ProducerRole, peer.Role)
	require.Zero(t, peer.Position)
	_, err = q.Receive(ended, make([]byte, 4))
	require.Equal(t, context.Canceled, err)

	p2, err := r.NewProducer()
	require.NoError(t, err)
	for p2.TrySend(nil) == nil {
	}
	require.NoError(t, p.Close()) // discards
	m, err := q.TryNext()
	require.NoError(t, err)
	require.NoError(t, p2.TrySend(nil)) // position 4: slot 0 is free, slot 1 is leased
	ctx, cancel = context.WithTimeout(ctxb, 3*stallAfter)
	defer cancel()
	err = p2.Send(ctx, nil)
	require.ErrorAs(t, err, &peer)
	require.Equal(t, ConsumerRole, peer.Role)
	require.EqualValues(t, m.Position(), peer.Position-4)
	require.NoError(t, r.Close())
}

// All releases each message after its step. Properties: a body may release or return it itself; break releases; a panic keeps the lease; an error is yielded once
// and ends it; a call inside the body is ErrMisuse; the end of the stream ends it silently.
func TestAll(t *testing.T) {
	forms(t, Options{Slots: 16, SlotSize: 8}, func(t *testing.T, r *Ring) {
		p, q := pair(t, r)
		for i := range byte(10) {
			require.NoError(t, p.TrySend([]byte{i}))
		}
		want := byte(0)
		for m, err := range q.All(ctxb) {
			require.NoError(t, err)
			require.Equal(t, []byte{want}, m.Bytes())
			_, again := q.TryNext()
			require.Equal(t, ErrMisuse, again)
			if want == 1 {
				require.NoError(t, m.Release())
			}
			if want++; want == 3 {
				break
			}
		}
		require.EqualValues(t, 7, r.Stats().Used, "break has released too")
		returned := false
		for m, err := range q.All(ctxb) {
			require.NoError(t, err)
			if !returned {
				returned = true
				require.NoError(t, m.Return())
				continue
			}
			require.Equal(t, []byte{3}, m.Bytes())
			require.Equal(t, 2, m.Deliveries())
			break
		}
		require.PanicsWithValue(t, "body", func() {
			for range q.All(ctxb) {
				panic("body")
			}
		})
		_, err := q.TryNext()
		require.Equal(t, ErrMisuse, err, "the lease is kept")
		yielded := 0
		for m, err := range q.All(ctxb) {
			yielded++
			require.Equal(t, ErrMisuse, err)
			require.Equal(t, Message{}, m)
		}
		require.Equal(t, 1, yielded)
		require.NoError(t, q.Close())
		q, err = r.NewConsumer()
		require.NoError(t, err)
		require.NoError(t, p.Close())
		want = 4
		for m, err := range q.All(ctxb) {
			require.NoError(t, err)
			require.Equal(t, []byte{want}, m.Bytes())
			require.Equal(t, want == 4, m.Redelivered())
			want++
		}
		require.EqualValues(t, 10, want)
		for range q.All(ctxb) {
			t.Fatal("after the end")
		}
		q2, err := r.NewProducer()
		require.NoError(t, err)
		yielded = 0
		for _, err := range q.All(ended) {
			yielded++
			require.Equal(t, context.Canceled, err)
		}
		require.Equal(t, 1, yielded)
		require.NoError(t, q2.Close())
	})
}

// All consumers see the end of the stream, and Follow does not; a producer that registers ends that state; Grace waits for a successor of one that died, not of one that closed.
func TestEndOfStream(t *testing.T) {
	forms(t, Options{Slots: 4, SlotSize: 8}, func(t *testing.T, r *Ring) {
		buf := make([]byte, 8)
		q, err := r.NewConsumer()
		require.NoError(t, err)
		_, err = q.TryReceive(buf)
		require.Equal(t, ErrEmpty, err, "no producer yet: the stream has not begun")
		for range 3 {
			p, err := r.NewProducer()
			require.NoError(t, err)
			require.NoError(t, p.TrySend([]byte("x")))
			_, err = q.TryReceive(buf)
			require.NoError(t, err)
			_, err = q.TryReceive(buf)
			require.Equal(t, ErrEmpty, err)
			require.NoError(t, p.Close())
			_, err = q.TryReceive(buf)
			require.Equal(t, io.EOF, err, "a Try call looks at once when the roster has changed")
			_, err = q.Receive(ctxb, buf)
			require.Equal(t, io.EOF, err)
		}
		if r.Options().Kind == MPMC {
			holder, err := r.NewConsumer()
			require.NoError(t, err)
			p, err := r.NewProducer()
			require.NoError(t, err)
			require.NoError(t, p.TrySend([]byte("x")))
			m, err := holder.TryNext()
			require.NoError(t, err)
			require.NoError(t, p.Close())
			_, err = q.Receive(ended, buf)
			require.Equal(t, context.Canceled, err, "somebody holds a message that may come back")
			require.NoError(t, m.Return())
			_, err = q.Receive(ctxb, buf)
			require.NoError(t, err)
			_, err = holder.Receive(ctxb, buf)
			require.Equal(t, io.EOF, err)
		}
		require.NoError(t, q.Close())
		q, err = r.NewConsumer(Follow())
		require.NoError(t, err)
		_, err = q.TryReceive(buf)
		require.Equal(t, ErrEmpty, err)
		require.NoError(t, q.Close())
		q, err = r.NewConsumer(Grace(200 * time.Millisecond))
		require.NoError(t, err)
		_, err = q.Receive(ctxb, buf)
		require.Equal(t, io.EOF, err, "the last one closed")
		p, err := r.NewProducer()
		require.NoError(t, err)
		vanish(t, &p.handle)
		begin := time.Now()
		_, err = q.Receive(ctxb, buf)
		require.Equal(t, io.EOF, err)
		require.GreaterOrEqual(t, time.Since(begin), 200*time.Millisecond)
		require.EqualValues(t, 1, r.Stats().ProducersDied)
	})
}

// A full ring that nobody will read again ends blocking sends. Properties: not before there ever was a consumer; not with WaitForConsumers; not for Try calls; also when the last consumer dies or
// closes during the wait; what was sent is kept.
func TestNobodyLeftToRead(t *testing.T) {
	for _, dies := range []bool{false, true} {
		forms(t, Options{Slots: 2, SlotSize: 8}, func(t *testing.T, r *Ring) {
			p, err := r.NewProducer()
			require.NoError(t, err)
			n, err := p.TrySendBatch([][]byte{{1}, {2}, {3}})
			require.Equal(t, ErrFull, err)
			require.Equal(t, 2, n)
			require.Equal(t, context.Canceled, p.Send(ended, []byte{3}), "there never was a consumer")
			q, err := r.NewConsumer()
			require.NoError(t, err)
			ended := make(chan error)
			go func() { ended <- p.Send(patient(t), []byte{3}) }()
			for r.Stats().Sleeps == 0 {
				runtime.Gosched()
			}
			if dies {
				vanish(t, &q.handle)
			} else {
				require.NoError(t, q.Close())
			}
			require.Equal(t, ErrNoConsumers, <-ended)
			require.Equal(t, ErrFull, p.TrySend(nil))
			_, err = p.Reserve(ctxb, 1)
			require.Equal(t, ErrNoConsumers, err)
			n, err = p.SendBatch(ctxb, [][]byte{{1}})
			require.Equal(t, ErrNoConsumers, err)
			require.Zero(t, n)
			require.NoError(t, p.Close())
			p, err = r.NewProducer(WaitForConsumers())
			require.NoError(t, err)
			require.Equal(t, context.Canceled, p.Send(newEnded(), []byte{3}))
			q, err = r.NewConsumer()
			require.NoError(t, err)
			b, err := q.TryNextBatch(4)
			require.NoError(t, err)
			require.Equal(t, 2, b.Len())
		})
	}
}

// newEnded is ended, where that name is taken.
func newEnded() context.Context { return ended }

// Who only observes cannot recover, and is told so.
func TestObserverCannotRecover(t *testing.T) {
	dir := t.TempDir()
	r, err := Create("q", Options{Dir: dir})
	require.NoError(t, err)
	defer func() { require.NoError(t, r.Close()) }()
	look, err := Open("q", WithDir(dir), ReadOnly())
	require.NoError(t, err)
	defer func() { require.NoError(t, look.Close()) }()
	_, err = look.Recover(true)
	require.NoError(t, err)
	_, err = look.Recover(false)
	require.ErrorIs(t, err, fs.ErrPermission)
}

// A producer that only tries learns that its ring was removed when it is full: it would stay full.
func TestFullRingThatWasRemoved(t *testing.T) {
	for _, k := range []Kind{SPSC, MPMC} {
		dir := t.TempDir()
		r, err := Create("q", Options{Kind: k, Slots: 4, SlotSize: 8, Dir: dir})
		require.NoError(t, err)
		p, err := r.NewProducer()
		require.NoError(t, err)
		for range 4 {
			require.NoError(t, p.TrySend([]byte("x")))
		}
		require.Equal(t, ErrFull, p.TrySend([]byte("x")))
		require.NoError(t, Remove("q", WithDir(dir), WithForce()))
		require.Equal(t, ErrSegmentLost, p.TrySend([]byte("x")))
		_, err = p.TryReserve(3)
		require.Equal(t, ErrSegmentLost, err)
		n, err := p.TrySendBatch([][]byte{{1}, {2}})
		require.Equal(t, ErrSegmentLost, err)
		require.Zero(t, n)
		require.NoError(t, r.Close())
	}
}

// What a dead SPSC participant held is settled by Recover, whoever has counted it as died before.
func TestRecoverWhatWasRetired(t *testing.T) {
	heap := func(t *testing.T) (*Ring, *Producer, *Consumer) {
		r, err := NewHeap(Options{Kind: SPSC, Slots: 4, SlotSize: 16, OnConsumerDeath: Drop})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, r.Close()) })
		p, q := pair(t, r)
		return r, p, q
	}
	t.Run("consumer", func(t *testing.T) {
		r, p, q := heap(t)
		for range 4 {
			require.NoError(t, p.TrySend([]byte("x")))
		}
		_, err := q.TryNextBatch(4)
		require.NoError(t, err)
		vanish(t, &q.handle)
		require.Equal(t, ErrNoConsumers, p.Send(ctxb, []byte("y")), "retires it")
		_, err = r.Recover(false)
		require.NoError(t, err)
		s := r.Stats()
		require.EqualValues(t, 4, s.Lost)
		require.Zero(t, s.Used)
	})
	t.Run("producer", func(t *testing.T) {
		r, p, q := heap(t)
		_, err := p.TryReserve(4)
		require.NoError(t, err)
		vanish(t, &p.handle)
		_, err = q.Receive(ctxb, make([]byte, 16))
		require.Equal(t, io.EOF, err, "retires it")
		_, err = r.Recover(false)
		require.NoError(t, err)
		require.EqualValues(t, 1, r.Stats().Skipped)
	})
}

// A registration waits for somebody who is just recovering the owner of the only free entry.
func TestRegisterBesideARecoverer(t *testing.T) {
	dir := t.TempDir()
	r, err := Create("q", Options{Slots: 4, SlotSize: 16, Participants: 2, Dir: dir})
	require.NoError(t, err)
	p, _ := pair(t, r)
	id := int64(p.id)
	vanish(t, &p.handle)
	other, err := Open("q", WithDir(dir))
	require.NoError(t, err)
	release, dead, err := other.seg.Hold(layout.LockParticipant + id)
	require.NoError(t, err)
	require.True(t, dead)
	time.AfterFunc(10*time.Millisecond, release)
	_, err = r.NewProducer()
	require.NoError(t, err)
	require.NoError(t, errors.Join(other.Close(), r.Close()))
}

// The end of the stream is a state for calls that only try as well.
func TestTriedEndOfStream(t *testing.T) {
	forms(t, Options{Slots: 4, SlotSize: 16}, func(t *testing.T, r *Ring) {
		p, q := pair(t, r)
		require.NoError(t, p.Close())
		for range 5 {
			_, err := q.TryReceive(nil)
			require.Equal(t, io.EOF, err)
		}
		p, err := r.NewProducer()
		require.NoError(t, err)
		_, err = q.TryReceive(nil)
		require.Equal(t, ErrEmpty, err)
		require.NoError(t, p.TrySend(nil))
		_, err = q.TryReceive(nil)
		require.NoError(t, err)
	})
}

// A sleeper heeds everybody who may wake it: a polling participant of its own role, which gives back or discards, as well as one of the other.
func TestSleepersHeedEitherRole(t *testing.T) {
	r, err := NewHeap(Options{Kind: MPMC, Slots: 4, SlotSize: 16})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	p, q := pair(t, r)
	second, err := r.NewConsumer()
	require.NoError(t, err)
	require.Greater(t, q.nap(ProducerRole), pollingTick)
	require.Greater(t, p.nap(ConsumerRole), pollingTick)
	was := second.me.publish.Swap(0)
	require.Equal(t, pollingTick, q.nap(ProducerRole))
	require.Equal(t, pollingTick, p.nap(ConsumerRole))
	second.me.publish.Store(was)
}

// A process that runs one goroutine at a time spins for other processes, but not for its own goroutines, which cannot do anything meanwhile.
func TestSpinsForWhoCanRun(t *testing.T) {
	if futex.OneProcessor() {
		t.Skip("on one processor there is nobody to spin for")
	}
	forms(t, Options{Slots: 4, SlotSize: 16}, func(t *testing.T, r *Ring) {
		p, q := pair(t, r)
		for _, h := range []*handle{&p.handle, &q.handle} {
			other := ConsumerRole
			if h.kind == ConsumerRole {
				other = ProducerRole
			}
			h.single = false
			h.nap(other)
			require.NotZero(t, h.spinning().budget)
			h.single = true
			h.nap(other)
			require.Zero(t, h.spinning().budget, "nobody runs beside this goroutine")
			r.queues.handles[other].Add(-1) // it is another process's
			h.nap(other)
			require.NotZero(t, h.spinning().budget, "another process runs")
			r.queues.handles[other].Add(1)
		}
	})
}
