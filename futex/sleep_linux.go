package futex

import (
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fallbackSlice is how long a leader sleeps at most without looking at its cancel word and the nudges, when the kernel cannot watch
// several words at once. It is the cancellation latency of such systems.
const fallbackSlice = 10 * time.Millisecond

// size32 is FUTEX2_SIZE_U32.
const size32 = 2

// sysWaitv is a variable so that a test can ask the kernel for a call that is not there.
var sysWaitv uintptr = unix.SYS_FUTEX_WAITV

// waitvAbsent is set for good once futex_waitv was refused: ENOSYS before Linux 5.16, EPERM by a container's seccomp filter.
var waitvAbsent atomic.Bool

// waitv is struct futex_waitv, uapi/linux/futex.h.
type waitv struct {
	val      uint64
	uaddr    uint64
	flags    uint32
	reserved uint32
}

// timespec64 is struct __kernel_timespec, which futex_waitv takes on 32-bit machines too.
type timespec64 struct{ sec, nsec int64 }

// kernelSleep is what sleep hands to the kernel. It lives in the Waiter, on the heap, because its addresses are hidden from
// the stack copier; word keeps alive what words[0] points to, and makes the word of every caller escape.
type kernelSleep struct {
	word  *atomic.Uint32
	words [3]waitv
}

// sleep sleeps in the kernel while *word is val and nobody has cancelled, at most max; it returns the number of futex wait
// system calls and what ended the last one. The caller leads.
func (w *Waiter) sleep(word *atomic.Uint32, val uint32, max time.Duration) (sleeps int, err error) {
	if max <= 0 {
		return 0, ErrTimeout
	}
	deadline, err := deadlineIn(max)
	if err != nil {
		return 0, err
	}
	w.arm()
	w.kernel.word = word
	defer func() { w.kernel.word = nil }() // it may be unmapped later
	// order: F1 rlx, pairs F2. Missing the flag costs one refused system call.
	if waitvAbsent.Load() {
		return w.sleepInSlices(word, val, deadline, 0)
	}
	for {
		sleeps++
		errno := w.waitThree(val, deadline)
		switch errno {
		case unix.EINTR: // not seen on kernels up to 6.18, which restart the call; the deadline is absolute
			continue
		case unix.ENOSYS, unix.EPERM:
			waitvAbsent.Store(true) // order: F2 rlx, pairs F1
			return w.sleepInSlices(word, val, deadline, sleeps)
		}
		return sleeps, w.outcome(word, val, errno)
	}
}

// waitThree is one futex_waitv on the shared word, the cancel word and the nudges.
func (w *Waiter) waitThree(val uint32, deadline int64) syscall.Errno {
	k := &w.kernel
	k.words[0] = waitv{val: uint64(val), uaddr: uint64(uintptr(unsafe.Pointer(k.word))), flags: size32}
	k.words[1] = waitv{val: uint64(w.gen), uaddr: uint64(uintptr(unsafe.Pointer(&w.cancel))), flags: size32 | flagPrivate}
	k.words[2] = waitv{val: uint64(w.nudge), uaddr: uint64(uintptr(unsafe.Pointer(&w.q.nudges))), flags: size32 | flagPrivate}
	ts := timespec64{deadline / 1e9, deadline % 1e9}
	_, _, errno := unix.Syscall6(sysWaitv, uintptr(unsafe.Pointer(&k.words[0])), uintptr(len(k.words)), 0,
		uintptr(unsafe.Pointer(&ts)), unix.CLOCK_MONOTONIC, 0)
	return errno
}

// sleepInSlices is sleep for kernels without futex_waitv: it looks at the cancel word between short sleeps.
func (w *Waiter) sleepInSlices(word *atomic.Uint32, val uint32, deadline int64, sleeps int) (int, error) {
	for {
		end, err := deadlineIn(fallbackSlice)
		if err != nil {
			return sleeps, err
		}
		end = min(end, deadline)
		if w.cancelled() || w.nudged() {
			return sleeps, w.outcome(word, val, 0)
		}
		sleeps++
		errno := waitBitset(word, val, end)
		if errno == unix.EINTR || errno == unix.ETIMEDOUT && end < deadline {
			continue
		}
		return sleeps, w.outcome(word, val, errno)
	}
}

// outcome says what the end of a kernel sleep means to the caller.
func (w *Waiter) outcome(word *atomic.Uint32, val uint32, errno syscall.Errno) error {
	// order: W4 sc, pairs N2. The word goes first: we may have used up a wake-up that was meant for a message, so the caller
	// looks at its condition before it hears of the cancellation, in its next Wait.
	if word.Load() != val {
		return nil
	}
	if w.cancelled() {
		return w.ended()
	}
	switch errno {
	case 0, unix.EAGAIN:
		return nil
	case unix.ETIMEDOUT:
		return ErrTimeout
	}
	return os.NewSyscallError("futex_wait", errno)
}

// wakeCancel wakes the goroutine that sleeps on its cancel word, if it does. An error is impossible: the word is ours.
func (w *Waiter) wakeCancel() {
	_, _ = wake(&w.cancel, 1, flagPrivate)
}

// wakeNudged wakes the leader of q, if it sleeps. An error is impossible: the word is ours.
func (q *Queue) wakeNudged() {
	_, _ = wake(&q.nudges, 1, flagPrivate)
}
