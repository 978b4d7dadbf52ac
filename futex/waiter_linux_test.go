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
	"golang.org/x/sys/unix"
)

// latency is what cancellation may cost in a test. It is far above the promise (1 ms, 10 ms) for the sake of busy machines, and far
// below the sleep that it ends.
const latency = 2 * time.Second

func TestWaiterReturnsWhenValueDiffers(t *testing.T) {
	var q Queue
	w := NewWaiter(&q)
	word := new(atomic.Uint32)
	w.Begin(context.Background())
	sleeps, err := w.Wait(word, 1, long)
	require.NoError(t, err)
	require.Zero(t, sleeps, "a system call for nothing")
	w.End()
	require.Nil(t, q.leader)
}

func TestWaiterTimeOut(t *testing.T) {
	bothPaths(t, func(t *testing.T) {
		var q Queue
		w := NewWaiter(&q)
		word := new(atomic.Uint32)
		w.Begin(t.Context())
		defer w.End()
		for _, d := range []time.Duration{-1, 0, time.Millisecond, 35 * time.Millisecond} {
			start := time.Now()
			sleeps, err := w.Wait(word, 0, d)
			require.ErrorIs(t, err, ErrTimeout)
			require.GreaterOrEqual(t, time.Since(start), d)
			require.Equal(t, d > 0, sleeps > 0)
		}
	})
}

// TestRefusedCallFallsBack asks the kernel for a futex_waitv that it does not have.
func TestRefusedCallFallsBack(t *testing.T) {
	oldCall, oldAbsent := sysWaitv, waitvAbsent.Swap(false)
	sysWaitv = 1 << 20
	defer func() { sysWaitv = oldCall; waitvAbsent.Store(oldAbsent) }()
	var q Queue
	w := NewWaiter(&q)
	word := new(atomic.Uint32)
	w.Begin(t.Context())
	defer w.End()
	sleeps, err := w.Wait(word, 0, 5*time.Millisecond)
	require.ErrorIs(t, err, ErrTimeout)
	require.GreaterOrEqual(t, sleeps, 2, "the refused call counts, too")
	require.True(t, waitvAbsent.Load())
	sleeps, err = w.Wait(word, 0, 25*time.Millisecond)
	require.ErrorIs(t, err, ErrTimeout)
	require.GreaterOrEqual(t, sleeps, 2)
}

func TestBadWordIsAnError(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the load that saves the system call faults on a word that is not aligned")
	}
	bothPaths(t, func(t *testing.T) {
		mem, _ := sharedMemory(t)
		var q Queue
		w := NewWaiter(&q)
		w.Begin(t.Context())
		_, err := w.Wait(word32(mem, 2), 0, long)
		require.ErrorIs(t, err, unix.EINVAL)
		w.End()
		require.Nil(t, q.leader)
	})
}

func TestContextEndsLeaderAndFollowers(t *testing.T) {
	bothPaths(t, func(t *testing.T) {
		const waiters = 5
		var q Queue
		word := new(atomic.Uint32)
		var cancels [waiters]context.CancelFunc
		var ended [waiters]<-chan struct{}
		for i := range waiters {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			cancels[i] = cancel
			ended[i] = async(func() {
				w := NewWaiter(&q)
				w.Begin(ctx)
				defer w.End()
				for {
					if _, err := w.Wait(word, 0, long); err != nil {
						if !errors.Is(err, context.Canceled) {
							t.Error(err)
						}
						return
					}
				}
			})
			settled(t, &q, i)
		}
		for i, n := range []int{2, 0, 4, 1, 3} { // a follower, the leader, and what comes of it
			start := time.Now()
			cancels[n]()
			inTime(t, ended[n], "cancelled waiter")
			took := time.Since(start)
			require.Less(t, took, latency)
			t.Logf("waiter %d ended after %v", n, took)
			if i < waiters-1 {
				settled(t, &q, waiters-2-i)
			}
		}
		require.Nil(t, q.leader)
	})
}

func TestContextThatHasEndedMakesNoSystemCall(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var q Queue
	w := NewWaiter(&q)
	w.Begin(ctx)
	sleeps, err := w.Wait(new(atomic.Uint32), 0, long)
	w.End()
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, sleeps)
}

func TestContextDeadline(t *testing.T) {
	bothPaths(t, func(t *testing.T) {
		var q Queue
		w := NewWaiter(&q)
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Millisecond)
		defer cancel()
		w.Begin(ctx)
		_, err := w.Wait(new(atomic.Uint32), 0, long)
		w.End()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.GreaterOrEqual(t, time.Since(start), 15*time.Millisecond)
		require.Less(t, time.Since(start), latency)
	})
}

// TestLateCancelSparesTheNextCall ends each call and its context together, so that the AfterFunc of one often runs in the next, which
// must never hear of it.
func TestLateCancelSparesTheNextCall(t *testing.T) {
	bothPaths(t, func(t *testing.T) {
		var q Queue
		w := NewWaiter(&q)
		word := new(atomic.Uint32)
		late := 0
		for range 2000 {
			ctx, cancel := context.WithCancel(context.Background())
			w.Begin(ctx)
			_, err := w.Wait(word, 0, time.Microsecond)
			require.ErrorIs(t, err, ErrTimeout)
			gen := w.gen
			go cancel()
			if rand.IntN(2) == 0 {
				Pause(rand.IntN(1000))
			} else {
				cancel()
			}
			w.End()
			if w.gen != gen {
				late++
			}
			w.Begin(context.Background())
			_, err = w.Wait(word, 0, 10*time.Microsecond)
			if err != nil { // nil: woken for nothing
				require.ErrorIs(t, err, ErrTimeout)
			}
			require.False(t, w.cancelled())
			w.End()
			cancel()
		}
		require.NotZero(t, late, "no AfterFunc was late: the test shows nothing")
	})
}

func TestCloseEndsOnlyItsWaiter(t *testing.T) {
	bothPaths(t, func(t *testing.T) {
		const waiters = 4
		var q Queue
		word := new(atomic.Uint32)
		var ws [waiters]*Waiter
		var ended [waiters]<-chan struct{}
		for i := range waiters {
			w := NewWaiter(&q)
			ws[i] = w
			ended[i] = async(func() {
				w.Begin(context.Background())
				defer w.End()
				for {
					if _, err := w.Wait(word, 0, long); err != nil {
						if !errors.Is(err, ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			})
			settled(t, &q, i)
		}
		for i, n := range []int{1, 0, 3, 2} {
			require.False(t, ws[n].Closed())
			var wg sync.WaitGroup
			for range 3 {
				wg.Go(ws[n].Close)
			}
			inTime(t, ended[n], "closed waiter")
			wg.Wait()
			require.True(t, ws[n].Closed())
			if i < waiters-1 {
				settled(t, &q, waiters-2-i)
			}
		}
		for _, w := range ws {
			w.Begin(context.Background())
			_, err := w.Wait(word, 0, long)
			require.ErrorIs(t, err, ErrClosed)
			w.End()
		}
		require.Nil(t, q.leader)
	})
}

// TestCloseBetweenCalls closes at every moment of a busy Waiter, also in End after a late AfterFunc.
func TestCloseBetweenCalls(t *testing.T) {
	bothPaths(t, func(t *testing.T) {
		for range 300 {
			var q Queue
			w := NewWaiter(&q)
			word := new(atomic.Uint32)
			ended := async(func() {
				for err := error(nil); !errors.Is(err, ErrClosed); {
					ctx, cancel := context.WithCancel(context.Background())
					w.Begin(ctx)
					if rand.IntN(4) == 0 {
						_, err = w.Wait(word, 0, long) // only Close ends it
					} else {
						_, err = w.Wait(word, 0, 5*time.Microsecond)
					}
					go cancel()
					w.End()
					cancel()
				}
			})
			time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
			w.Close()
			inTime(t, ended, "closed waiter")
		}
	})
}

func TestWaitWithoutCancellationAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	bothPaths(t, func(t *testing.T) {
		var q Queue
		w := NewWaiter(&q)
		word := new(atomic.Uint32)
		require.Zero(t, testing.AllocsPerRun(200, func() {
			w.Begin(context.Background())
			_, _ = w.Wait(word, 1, long)
			_, _ = w.Wait(word, 0, 20*time.Microsecond)
			_, _ = Wake(word, 1)
			w.End()
		}))
	})
}

func BenchmarkWaitNothing(b *testing.B) {
	var q Queue
	w := NewWaiter(&q)
	word := new(atomic.Uint32)
	b.ReportAllocs()
	for b.Loop() {
		w.Begin(context.Background())
		_, _ = w.Wait(word, 1, long)
		w.End()
	}
}

func BenchmarkWakeNobody(b *testing.B) {
	word := new(atomic.Uint32)
	for b.Loop() {
		_, _ = Wake(word, 1)
	}
}

// TestNudgeMakesEverybodyLook: one leader and many followers, each with a condition of its own, none of which the word tells of. Properties: a Nudge makes each of
// them look at least once, also one that comes between a look and the sleep; the word stays as it is; nobody looks for ever.
func TestNudgeMakesEverybodyLook(t *testing.T) {
	bothPaths(t, func(t *testing.T) {
		var q Queue
		word := new(atomic.Uint32)
		const many = 20
		var looks [many]atomic.Int64
		var done atomic.Bool
		var wg sync.WaitGroup
		for i := range many {
			wg.Add(1)
			go func() {
				defer wg.Done()
				w := NewWaiter(&q)
				w.Begin(t.Context())
				defer w.End()
				for looks[i].Add(1); !done.Load(); looks[i].Add(1) {
					if _, err := w.Wait(word, 0, long); err != nil {
						panic(err)
					}
				}
			}()
		}
		asleep := func() bool { // one leads, all others follow, and nobody looks any more
			before := [many]int64{}
			for i := range looks {
				before[i] = looks[i].Load()
			}
			time.Sleep(2 * fallbackSlice)
			q.mu.Lock()
			defer q.mu.Unlock()
			n := 0
			for f := q.first; f != nil; f = f.next {
				n++
			}
			for i := range looks {
				if looks[i].Load() != before[i] {
					return false
				}
			}
			return q.leader != nil && n == many-1
		}
		for round := range 4 {
			require.Eventually(t, asleep, time.Minute, time.Millisecond, "round %d", round)
			before := [many]int64{}
			for i := range looks {
				before[i] = looks[i].Load()
			}
			q.Nudge()
			for i := range looks {
				require.Eventually(t, func() bool { return looks[i].Load() > before[i] }, time.Minute, time.Millisecond, "%d did not look", i)
			}
		}
		done.Store(true)
		q.Nudge()
		wg.Wait()

		w := NewWaiter(&q) // between the look and the sleep
		w.Begin(t.Context())
		defer w.End()
		q.Nudge()
		sleeps, err := w.Wait(word, 0, long)
		require.NoError(t, err)
		require.Zero(t, sleeps)
	})
}
