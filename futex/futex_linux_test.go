package futex

import (
	"errors"
	"math"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestErrorsAreStandardErrors(t *testing.T) {
	require.ErrorIs(t, ErrClosed, os.ErrClosed)
	require.ErrorIs(t, ErrUnsupported, errors.ErrUnsupported)
	require.NotErrorIs(t, ErrTimeout, ErrClosed)
}

func TestWaitReturnsWhenValueDiffers(t *testing.T) {
	word := new(atomic.Uint32)
	word.Store(1)
	require.NoError(t, Wait(word, 0, long))
}

func TestWaitEndsAtDeadline(t *testing.T) {
	word := new(atomic.Uint32)
	for _, d := range []time.Duration{-1, 0, time.Microsecond, 20 * time.Millisecond} {
		start := time.Now()
		require.ErrorIs(t, Wait(word, 0, d), ErrTimeout)
		require.GreaterOrEqual(t, time.Since(start), d)
	}
}

func TestWakeCountsSleepersAndLimits(t *testing.T) {
	word := new(atomic.Uint32)
	n, err := Wake(word, 5)
	require.NoError(t, err)
	require.Zero(t, n)

	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := Wait(word, 0, long); err != nil {
				t.Error(err)
			}
		})
	}
	woken := 0
	for _, limit := range []int{0, -1, 1, math.MaxInt} {
		require.Eventually(t, func() bool {
			n, err := Wake(word, limit)
			require.NoError(t, err)
			require.LessOrEqual(t, n, max(0, limit))
			woken += n
			return limit < 1 || n > 0 && (limit == 1 || woken == 3)
		}, hang, time.Millisecond)
	}
	require.Equal(t, 3, woken)
	wg.Wait()
}

func TestWakeOfBadAddressIsAnError(t *testing.T) {
	mem, _ := sharedMemory(t)
	_, err := Wake(word32(mem, 2), 1)
	require.ErrorIs(t, err, unix.EINVAL)
	if runtime.GOARCH == "amd64" { // elsewhere the load that saves the system call faults
		require.ErrorIs(t, Wait(word32(mem, 2), 0, long), unix.EINVAL)
	}
}

// TestSignalsDoNotEndWaits sends signals at the sleeping threads: those of the runtime and those that somebody handles.
func TestSignalsDoNotEndWaits(t *testing.T) {
	c := make(chan os.Signal, 100)
	signal.Notify(c, unix.SIGUSR1)
	defer signal.Stop(c)

	bothPaths(t, func(t *testing.T) {
		const sleep = 150 * time.Millisecond
		word := new(atomic.Uint32)
		var q Queue
		w := NewWaiter(&q)
		start := time.Now()
		var returns, sleeps int
		var raw error
		leads := async(func() {
			w.Begin(t.Context())
			defer w.End()
			for err := error(nil); err == nil; returns++ {
				var n int
				n, err = w.Wait(word, 0, sleep-time.Since(start))
				sleeps += n
			}
		})
		plain := async(func() { raw = Wait(word, 0, sleep) })

		sent := 0
		for time.Since(start) < sleep {
			for _, tid := range threads(t) {
				_ = unix.Tgkill(os.Getpid(), tid, unix.SIGURG)
				_ = unix.Tgkill(os.Getpid(), tid, unix.SIGUSR1)
				sent++
			}
			time.Sleep(time.Millisecond)
		}
		inTime(t, leads, "waiter")
		inTime(t, plain, "Wait")
		require.ErrorIs(t, raw, ErrTimeout)
		require.Equal(t, 1, returns, "a signal became a return")
		require.GreaterOrEqual(t, time.Since(start), sleep)
		t.Logf("%d signals, %d system calls", 2*sent, sleeps)
	})
}

func threads(t *testing.T) (tids []int) {
	entries, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	for _, e := range entries {
		tid := 0
		for _, c := range e.Name() {
			tid = 10*tid + int(c-'0')
		}
		tids = append(tids, tid)
	}
	return tids
}

func TestMembarrier(t *testing.T) {
	if !hasMembarrier() {
		require.False(t, RegisterMembarrier())
		require.ErrorIs(t, Membarrier(), ErrUnsupported)
		t.Skip("no membarrier here")
	}
	require.True(t, RegisterMembarrier())
	require.True(t, RegisterMembarrier())
	require.NoError(t, Membarrier())
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = Membarrier() }))
}

// TestMembarrierOrdersTheOtherSide is the store-load litmus test: both sides store, then load; only one has a fence, the other
// stores and loads with plain moves. Without the barrier both can read 0.
func TestMembarrierOrdersTheOtherSide(t *testing.T) {
	if !RegisterMembarrier() {
		t.Skip("no membarrier here")
	}
	rounds := 20_000
	if testing.Short() || raceEnabled {
		rounds = 2_000
	}
	both := litmus(t, rounds, func() { require.NoError(t, Membarrier()) })
	require.Zero(t, both, "both sides missed each other's store")
	t.Logf("without the barrier: %d of %d rounds", litmus(t, rounds, func() {}), rounds)
}
