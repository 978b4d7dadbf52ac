package futex

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

const (
	childEnv = "MILLRACE_FUTEX_CHILD"
	hang     = 30 * time.Second // a wait that takes so long has lost its wake-up
	long     = time.Hour        // no tick helps
)

// children are the programs that a test starts as processes of their own; shared is the memory they have in common.
var children = map[string]func(shared []byte) error{}

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		if err := runChild(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func runChild(name string) error {
	shared, err := unix.Mmap(3, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	return children[name](shared)
}

// sharedMemory returns a mapping and the file behind it.
func sharedMemory(t *testing.T) ([]byte, *os.File) {
	fd, err := unix.MemfdCreate("futex-test", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	f := os.NewFile(uintptr(fd), "memfd")
	require.NoError(t, f.Truncate(4096))
	mem, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, unix.Munmap(mem))
		require.NoError(t, f.Close())
	})
	return mem, f
}

// startChild runs children[name] in a new process over f; the returned function waits for its success.
func startChild(t *testing.T, name string, f *os.File) (cmd *exec.Cmd, wait func()) {
	cmd = exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	cmd.ExtraFiles = []*os.File{f}
	cmd.Stderr = os.Stderr
	cmd.Stdout = os.Stdout
	require.NoError(t, cmd.Start())
	done := false
	t.Cleanup(func() {
		if !done {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return cmd, func() {
		done = true
		require.NoError(t, cmd.Wait())
	}
}

func word32(mem []byte, offset int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&mem[offset]))
}

func word64(mem []byte, offset int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&mem[offset]))
}

// bothPaths runs f with futex_waitv and without.
func bothPaths(t *testing.T, f func(t *testing.T)) {
	t.Run("waitv", func(t *testing.T) {
		if waitvAbsent.Load() {
			t.Skip("no futex_waitv here")
		}
		f(t)
		require.False(t, waitvAbsent.Load(), "the kernel refused futex_waitv")
	})
	t.Run("slices", func(t *testing.T) {
		old := waitvAbsent.Swap(true)
		defer waitvAbsent.Store(old)
		f(t)
	})
}

// inTime fails the test with all stacks when done is not closed in time.
func inTime(t *testing.T, done <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(hang):
		panic("lost wake-up: " + t.Name() + ": " + what)
	}
}

// async runs f and returns a channel that is closed after it.
func async(f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	return done
}

// settled waits until q has a leader and n followers.
func settled(t *testing.T, q *Queue, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		followers := 0
		for f := q.first; f != nil; f = f.next {
			followers++
		}
		return q.leader != nil && followers == n
	}, hang, time.Millisecond)
}

// event is the event word of docs/FORMAT.md section 8.1 in small.
type event struct{ w *atomic.Uint64 }

func (e event) epoch() *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Add(unsafe.Pointer(e.w), 4))
}

func (e event) arrive() uint32 { return uint32(e.w.Add(1) >> 32) }

func (e event) notify(n int) error {
	for {
		v := e.w.Load()
		arrivals := uint32(v)
		if arrivals == 0 {
			return nil
		}
		next := (v>>32 + 1) << 32
		if n >= int(arrivals) {
			if !e.w.CompareAndSwap(v, next) {
				continue
			}
			_, err := Wake(e.epoch(), 1<<30)
			return err
		}
		next |= uint64(arrivals)
		if !e.w.CompareAndSwap(v, next) {
			continue
		}
		k, err := Wake(e.epoch(), n)
		if k == 0 {
			e.w.CompareAndSwap(next, (next>>32+1)<<32)
		}
		return err
	}
}

// await sleeps on e until ready, or the context ends.
func (e event) await(ctx context.Context, w *Waiter, tick time.Duration, ready func() bool) error {
	w.Begin(ctx)
	defer w.End()
	for {
		if ready() {
			return nil
		}
		key := e.arrive()
		if ready() {
			return nil
		}
		if _, err := w.Wait(e.epoch(), key, tick); err != nil {
			return err
		}
	}
}

// take makes a ready function that takes one from items.
func take(items *atomic.Int64) func() bool {
	return func() bool {
		for {
			n := items.Load()
			if n <= 0 {
				return false
			}
			if items.CompareAndSwap(n, n-1) {
				return true
			}
		}
	}
}
