package futex

import (
	"math"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Operations and flags of futex(2), uapi/linux/futex.h; x/sys has the call numbers only.
const (
	opWake       = 1   // FUTEX_WAKE
	opWaitBitset = 9   // FUTEX_WAIT_BITSET: like FUTEX_WAIT, but its deadline is absolute, CLOCK_MONOTONIC
	flagPrivate  = 128 // FUTEX_PRIVATE_FLAG and FUTEX2_PRIVATE: only for words of this process

	bitsetAny = math.MaxUint32 // FUTEX_BITSET_MATCH_ANY
)

// maxSleep keeps now + max within an int64, and the seconds within 32 bits, where the kernel wants them so: 36 years.
const maxSleep time.Duration = 1 << 60

// Wake wakes at most n sleepers of any process on word and returns how many it woke.
//
// Blocks: never. One system call; none when n < 1.
// Progress: bounded by n and by the kernel's bucket lock.
// Failure: a woken process that dies before it acts has used up the wake-up; bound the sleeps (docs/FORMAT.md section 8.2).
func Wake(word *atomic.Uint32, n int) (int, error) {
	return wake(word, n, 0)
}

// wake does not tell the scheduler about the system call: it never sleeps, and a hand-off of the P would cost 0.1 µs.
func wake(word *atomic.Uint32, n int, flags uintptr) (int, error) {
	if n < 1 {
		return 0, nil // the kernel would take 0 for 1
	}
	woken, _, errno := unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), opWake|flags,
		uintptr(min(n, math.MaxInt32)), 0, 0, 0)
	if errno != 0 {
		return 0, os.NewSyscallError("futex_wake", errno)
	}
	return int(woken), nil
}

// Yield lets the other threads of the machine that want this core run first, if there are any. sched_yield cannot fail.
//
// Blocks: for as long as they run, some milliseconds each; a fraction of a microsecond when there are none.
func Yield() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// Wait sleeps while *word is val, at most max. It returns nil when it was woken, when the value differs, or for no reason at
// all: the caller looks at its condition again. ErrTimeout says that max has passed and the value was val to the end.
//
// Blocks: in the kernel, and the goroutine keeps its thread: use a Waiter where many goroutines wait, or a context matters.
// Lifetime: the memory behind word must stay mapped until Wait returns.
func Wait(word *atomic.Uint32, val uint32, max time.Duration) error {
	// order: W4 sc, pairs N2. Saves the system call; the kernel compares again under its lock.
	if word.Load() != val {
		return nil
	}
	if max <= 0 {
		return ErrTimeout
	}
	deadline, err := deadlineIn(max)
	if err != nil {
		return err
	}
	for {
		switch errno := waitBitset(word, val, deadline); errno {
		case 0, unix.EAGAIN:
			return nil
		case unix.EINTR: // a signal, often the runtime's own; the deadline is absolute, so nothing is lost
		case unix.ETIMEDOUT:
			// order: W4 sc, pairs N2. A change in the last moment is a change, not a timeout.
			if word.Load() != val {
				return nil
			}
			return ErrTimeout
		default:
			return os.NewSyscallError("futex_wait", errno)
		}
	}
}

// waitBitset is one FUTEX_WAIT_BITSET until the monotonic clock shows deadline. It goes through Syscall6, which hands the P
// on: RawSyscall6 would stop all other goroutines of the P for 10 ms.
func waitBitset(word *atomic.Uint32, val uint32, deadline int64) syscall.Errno {
	ts := unix.NsecToTimespec(deadline)
	_, _, errno := unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), opWaitBitset,
		uintptr(val), uintptr(unsafe.Pointer(&ts)), 0, bitsetAny)
	return errno
}

// deadlineIn returns the value of CLOCK_MONOTONIC in nanoseconds after d.
func deadlineIn(d time.Duration) (int64, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0, os.NewSyscallError("clock_gettime", err)
	}
	return ts.Nano() + int64(min(d, maxSleep)), nil
}
