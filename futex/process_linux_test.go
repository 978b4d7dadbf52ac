package futex

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func init() {
	children["sleeper"] = sleeper
	children["ponger"] = ponger
	children["takers"] = takers
	children["threads"] = countThreads
}

// sleeper says that it is there, sleeps once, and reports.
func sleeper(mem []byte) error {
	word32(mem, 0).Store(1)
	err := Wait(word32(mem, 64), 0, hang)
	word32(mem, 128).Store(1)
	return err
}

func TestWakeReachesAnotherProcess(t *testing.T) {
	mem, f := sharedMemory(t)
	_, wait := startChild(t, "sleeper", f)
	require.Eventually(t, func() bool { return word32(mem, 0).Load() == 1 }, hang, time.Millisecond)
	// The value never changes: only the wake-up can end the sleep.
	require.Eventually(t, func() bool {
		n, err := Wake(word32(mem, 64), 1)
		require.NoError(t, err)
		return n == 1
	}, hang, time.Millisecond)
	wait()
	require.EqualValues(t, 1, word32(mem, 128).Load())
}

func TestWakeReachesTheNextWhenTheFirstIsKilled(t *testing.T) {
	mem, f := sharedMemory(t)
	cmd, _ := startChild(t, "sleeper", f)
	require.Eventually(t, func() bool { return word32(mem, 0).Load() == 1 }, hang, time.Millisecond)
	var q Queue
	w := NewWaiter(&q)
	woken := async(func() {
		w.Begin(context.Background())
		defer w.End()
		for word32(mem, 64).Load() == 0 {
			if _, err := w.Wait(word32(mem, 64), 0, long); err != nil {
				t.Error(err)
			}
		}
	})
	settled(t, &q, 0)
	require.NoError(t, cmd.Process.Kill())
	_, _ = cmd.Process.Wait()
	word32(mem, 64).Store(1)
	_, err := Wake(word32(mem, 64), 1)
	require.NoError(t, err)
	inTime(t, woken, "the survivor")
}

const pingRounds = 20_000

// ball plays one side of a ping-pong of which each step sleeps until the other side has moved: w waits on theirs.
func ball(ours, theirs *atomic.Uint32, first bool) error {
	var q Queue
	w := NewWaiter(&q)
	for i := uint32(1); i <= pingRounds; i++ {
		if first {
			ours.Store(i)
			if _, err := Wake(ours, 1); err != nil {
				return err
			}
		}
		w.Begin(context.Background())
		for theirs.Load() != i {
			if _, err := w.Wait(theirs, i-1, hang); err != nil {
				return fmt.Errorf("round %d: %w", i, err)
			}
		}
		w.End()
		if !first {
			ours.Store(i)
			if _, err := Wake(ours, 1); err != nil {
				return err
			}
		}
	}
	return nil
}

func ponger(mem []byte) error { return ball(word32(mem, 0), word32(mem, 64), false) }

func TestPingPongLosesNoWakeUp(t *testing.T) {
	bothPaths(t, func(t *testing.T) {
		mem, f := sharedMemory(t)
		_, wait := startChild(t, "ponger", f)
		start := time.Now()
		require.NoError(t, ball(word32(mem, 64), word32(mem, 0), true))
		wait()
		t.Logf("%v a round trip", time.Since(start)/pingRounds)
	})
}

// Layout of the takers test.
const (
	takeEvent = 0   // event word
	takeItems = 128 // int64, to be taken
	takeDone  = 256 // int64, taken
	takeStop  = 384 // u32
	takeTotal = 20_000
)

// takers are eight goroutines that take what is there until the stop.
func takers(mem []byte) error {
	e := event{word64(mem, takeEvent)}
	items, done := (*atomic.Int64)(word64Pointer(mem, takeItems)), (*atomic.Int64)(word64Pointer(mem, takeDone))
	stop := word32(mem, takeStop)
	got := take(items)
	var q Queue
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for range 8 {
		wg.Go(func() {
			w := NewWaiter(&q)
			for stop.Load() == 0 {
				taken := false
				err := e.await(context.Background(), w, hang, func() bool {
					taken = got()
					return taken || stop.Load() != 0
				})
				if err != nil {
					errs <- err
					return
				}
				if taken {
					done.Add(1)
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

// TestTwoProcessesTakeEverything: no item stays while somebody sleeps, none is taken twice; the sleeps have no ticks.
func TestTwoProcessesTakeEverything(t *testing.T) {
	bothPaths(t, func(t *testing.T) {
		mem, f := sharedMemory(t)
		_, wait := startChild(t, "takers", f)
		var err error
		here := async(func() { err = takers(mem) })
		e := event{word64(mem, takeEvent)}
		items, done := (*atomic.Int64)(word64Pointer(mem, takeItems)), (*atomic.Int64)(word64Pointer(mem, takeDone))
		given := int64(0)
		for given < takeTotal {
			n := given%5 + 1
			items.Add(n)
			given += n
			require.NoError(t, e.notify(int(n)))
			if given%7 == 0 { // let them fall asleep
				for end := time.Now().Add(hang); done.Load() < given; {
					require.True(t, time.Now().Before(end), "lost wake-up: %d given, %d taken", given, done.Load())
					time.Sleep(20 * time.Microsecond)
				}
			}
		}
		require.Eventually(t, func() bool { return done.Load() == given }, hang, time.Millisecond)
		word32(mem, takeStop).Store(1)
		require.NoError(t, e.notify(1<<30))
		inTime(t, here, "takers here")
		require.NoError(t, err)
		wait()
		require.Equal(t, given, done.Load())
	})
}

// countThreads checks the cost of many waiters in a fresh process: threads stay once they were started.
func countThreads([]byte) error {
	const waiters = 1000
	before, err := threadsNow()
	if err != nil {
		return err
	}
	var q Queue
	e := event{new(atomic.Uint64)}
	items := new(atomic.Int64)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var taken, ended atomic.Int64
	var wg sync.WaitGroup
	for range waiters {
		wg.Go(func() {
			switch err := e.await(ctx, NewWaiter(&q), long, take(items)); {
			case err == nil:
				taken.Add(1)
			case errors.Is(err, context.Canceled):
				ended.Add(1)
			}
		})
	}
	for {
		q.mu.Lock()
		n := 0
		for f := q.first; f != nil; f = f.next {
			n++
		}
		q.mu.Unlock()
		if n == waiters-1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	asleep, _ := threadsNow()
	for range waiters / 2 {
		items.Add(1)
		if err := e.notify(1); err != nil {
			return err
		}
	}
	for taken.Load() < waiters/2 {
		time.Sleep(time.Millisecond)
	}
	start := time.Now()
	cancel()
	wg.Wait()
	took := time.Since(start)
	after, _ := threadsNow()
	fmt.Printf("threads: %d before, %d with %d waiters, %d after; %d taken, %d cancelled in %v\n",
		before, asleep, waiters, after, taken.Load(), ended.Load(), took)
	if after > before+8 || asleep > before+5 { // a few belong to the collector and the scheduler
		return errors.New("too many threads")
	}
	return nil
}

func threadsNow() (n int, err error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(status), "\nThreads:")
	_, err = fmt.Sscan(after, &n)
	return n, err
}

func TestThousandWaitersCostFewThreads(t *testing.T) {
	_, f := sharedMemory(t)
	_, wait := startChild(t, "threads", f)
	wait()
}
