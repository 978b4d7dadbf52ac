package futex

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestPromotionsUnderRandomCancels: goroutines take items and are cancelled at random moments, as leader, as follower, and while
// they are promoted. Properties: every item is taken while somebody waits, without any tick; the queue is empty in the end.
func TestPromotionsUnderRandomCancels(t *testing.T) {
	bothPaths(t, func(t *testing.T) {
		const waiters = 50
		total := int64(20_000)
		if testing.Short() || raceEnabled {
			total = 4_000
		}
		var q Queue
		e := event{new(atomic.Uint64)}
		items := new(atomic.Int64)
		got := take(items)
		var taken, cancelled, promotedLate atomic.Int64
		all, stop := context.WithCancel(context.Background())
		defer stop()
		var wg sync.WaitGroup
		for i := range waiters {
			wg.Go(func() {
				w := NewWaiter(&q)
				defer w.Close()
				for all.Err() == nil {
					ctx, cancel := context.WithCancel(all)
					if i > 0 { // one is patient, so that somebody always waits
						time.AfterFunc(time.Duration(rand.IntN(300))*time.Microsecond, cancel)
					}
					err := e.await(ctx, w, long, got)
					cancel()
					switch {
					case err == nil:
						taken.Add(1)
					case errors.Is(err, context.Canceled):
						cancelled.Add(1)
					default:
						t.Error(err)
					}
					if len(w.turn) != 0 {
						promotedLate.Add(1)
					}
				}
			})
		}
		for given := int64(0); given < total; {
			n := rand.Int64N(4) + 1
			items.Add(n)
			given += n
			if err := e.notify(int(n)); err != nil {
				t.Error(err)
			}
			if rand.IntN(8) == 0 { // all of it must go away although nothing more comes
				gone := func() bool { return items.Load() == 0 }
				require.Eventually(t, gone, hang, 100*time.Microsecond, "lost wake-up")
			}
		}
		require.Eventually(t, func() bool { return items.Load() == 0 }, hang, time.Millisecond, "lost wake-up")
		stop()
		inTime(t, async(wg.Wait), "waiters")
		require.Nil(t, q.leader, "somebody left with the leadership")
		require.Nil(t, q.first)
		require.Nil(t, q.last)
		require.Zero(t, promotedLate.Load(), "a token of a promotion is left over")
		require.NotZero(t, cancelled.Load())
		t.Logf("%d taken, %d cancelled", taken.Load(), cancelled.Load())
	})
}

// TestCancelledWaiterLosesNoItem: half of the waiters are cancelled while as many items come as there are waiters. A cancelled one may
// have used up a wake-up; those who stay, and look only when they are woken, must get theirs all the same.
func TestCancelledWaiterLosesNoItem(t *testing.T) {
	bothPaths(t, func(t *testing.T) {
		const waiters = 8
		rounds := 1000
		if testing.Short() || raceEnabled {
			rounds = 150
		}
		var q Queue
		for range rounds {
			e := event{new(atomic.Uint64)}
			items := new(atomic.Int64)
			ctx, cancel := context.WithCancel(context.Background())
			var stay, leave sync.WaitGroup
			for i := range waiters {
				if i%2 == 0 {
					leave.Go(func() { _ = e.await(ctx, NewWaiter(&q), long, take(items)) })
					continue
				}
				stay.Go(func() {
					if err := e.await(context.Background(), NewWaiter(&q), long, take(items)); err != nil {
						t.Error(err)
					}
				})
			}
			if rand.IntN(2) == 0 {
				settled(t, &q, waiters-1)
			}
			go func() { Pause(rand.IntN(300)); cancel() }()
			for range waiters {
				items.Add(1)
				if err := e.notify(1); err != nil {
					t.Error(err)
				}
			}
			inTime(t, async(stay.Wait), "those who stay")
			leave.Wait()
			require.Nil(t, q.leader)
		}
	})
}

// TestPromotionMeetsCancel lets the leader end and a follower be cancelled in the same moment; the next follower must lead.
func TestPromotionMeetsCancel(t *testing.T) {
	rounds := 2000
	if testing.Short() || raceEnabled {
		rounds = 400
	}
	var q Queue
	word := new(atomic.Uint32)
	for range rounds {
		start := func(ctx context.Context, place int) <-chan struct{} {
			done := async(func() {
				w := NewWaiter(&q)
				w.Begin(ctx)
				defer w.End()
				for ctx.Err() == nil {
					if _, err := w.Wait(word, 0, long); err != nil && !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
				}
			})
			for n := -1; n < place; runtime.Gosched() {
				q.mu.Lock()
				n = -1
				if q.leader != nil {
					n = 0
				}
				for f := q.first; f != nil; f = f.next {
					n++
				}
				q.mu.Unlock()
			}
			return done
		}
		ctxA, cancelA := context.WithCancel(context.Background())
		ctxB, cancelB := context.WithCancel(context.Background())
		ctxC, cancelC := context.WithCancel(context.Background())
		a, b, c := start(ctxA, 0), start(ctxB, 1), start(ctxC, 2)
		go cancelA()
		Pause(rand.IntN(600))
		cancelB()
		inTime(t, a, "leader")
		inTime(t, b, "follower")
		settled(t, &q, 0)
		cancelC()
		inTime(t, c, "last")
		cancelA()
		require.Nil(t, q.leader)
	}
}

// TestLeaderWithoutLuckLetsOthersLook: the goroutines of one queue wait for different things; each comes with a wake-up of one
// sleeper only, and no tick helps. Whoever leads must not keep it from the one that it is for.
func TestLeaderWithoutLuckLetsOthersLook(t *testing.T) {
	bothPaths(t, func(t *testing.T) {
		const waiters = 6
		var q Queue
		e := event{new(atomic.Uint64)}
		var open [waiters]atomic.Bool
		var ended [waiters]<-chan struct{}
		for i := range waiters {
			ended[i] = async(func() {
				w := NewWaiter(&q)
				if err := e.await(context.Background(), w, rotateAfter, open[i].Load); err != nil && !errors.Is(err, ErrTimeout) {
					t.Error(err)
				}
				for !open[i].Load() { // the tick ended: wait on
					if err := e.await(context.Background(), w, rotateAfter, open[i].Load); err != nil && !errors.Is(err, ErrTimeout) {
						t.Error(err)
					}
				}
			})
			settled(t, &q, i)
		}
		for _, n := range []int{5, 1, 3, 4, 2, 0} {
			open[n].Store(true)
			require.NoError(t, e.notify(1))
			inTime(t, ended[n], "the one that the wake-up was for")
		}
	})
}

// TestRotation pins the rules of Queue.due, one by one.
func TestRotation(t *testing.T) {
	var q Queue
	leading, following := NewWaiter(&q), NewWaiter(&q)
	word := new(atomic.Uint32)
	require.Equal(t, leader, q.enter(leading, word, 0))
	require.False(t, q.due(leading, 0), "nobody follows")
	require.Equal(t, follower, q.enter(following, word, 0))
	recent, old := time.Now().Add(time.Hour), time.Now().Add(-rotateAfter)
	for _, c := range []struct {
		slept bool
		key   uint32
		since time.Time
		want  bool
		why   string
	}{
		{false, 0, recent, false, "promoted, nothing new"},
		{false, 1, recent, false, "promoted, the word has changed since the follower looked"},
		{false, 0, old, false, "promoted, a tick has passed"},
		{false, 1, old, true, "promoted, both"},
		{true, 0, recent, false, "woken for nothing"},
		{true, 1, recent, true, "woken by an event that was not for the leader"},
		{true, 0, old, true, "a tick has passed"},
		{true, 1, old, true, "both"},
	} {
		leading.slept, following.since = c.slept, c.since
		require.Equal(t, c.want, q.due(leading, c.key), c.why)
	}
	word.Store(1)
	require.Equal(t, follower, q.enter(leading, word, 1), "hands over")
	require.Same(t, following, q.leader)
	require.NoError(t, following.follow())
	following.End()
	require.NoError(t, leading.follow())
	require.Equal(t, lookAgain, q.enter(leading, word, 0))
	leading.End()
	require.Nil(t, q.leader)
}
