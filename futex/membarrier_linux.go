package futex

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Commands of membarrier(2), uapi/linux/membarrier.h.
const (
	cmdQuery             = 0
	cmdGlobalExpedited   = 1 << 1
	cmdRegisterExpedited = 1 << 2 // MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED
)

var (
	// hasMembarrier asks the kernel once. Before Linux 4.16, and behind a filter that refuses the call, it is false.
	hasMembarrier = sync.OnceValue(func() bool {
		cmds, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, cmdQuery, 0, 0)
		return errno == 0 && cmds&cmdGlobalExpedited != 0 && cmds&cmdRegisterExpedited != 0
	})

	// registered waits for an RCU grace period, some milliseconds, so it tells the scheduler.
	registered = sync.OnceValue(func() bool {
		if !hasMembarrier() {
			return false
		}
		_, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, cmdRegisterExpedited, 0, 0)
		return errno == 0
	})
)

// RegisterMembarrier makes this process one that Membarrier of any process reaches, and reports whether it is. From then on
// its running threads execute a full fence whenever a process calls Membarrier.
//
// Blocks: some milliseconds in the first call.
// Failure: the registration ends with the process, or with exec. A forked child has it too.
func RegisterMembarrier() bool { return registered() }

// Membarrier executes a full fence on each running thread of each registered process, and on the caller.
//
// Blocks: for some microseconds, until the other cores have answered. It needs no registration of the caller.
// Failure: ErrUnsupported where the kernel lacks the call or refuses it.
func Membarrier() error {
	if !hasMembarrier() {
		return ErrUnsupported
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_MEMBARRIER, cmdGlobalExpedited, 0, 0); errno != 0 {
		return os.NewSyscallError("membarrier", errno)
	}
	return nil
}
