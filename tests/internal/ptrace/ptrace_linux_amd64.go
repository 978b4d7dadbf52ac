package ptrace

import (
	"fmt"
	"syscall"
	"unsafe"
)

// Requests for single registers, and the offsets of registers in struct user.
const (
	requestPeekUser = 3
	requestPokeUser = 6
	offsetRIP       = 128
	offsetRSP       = 152
	offsetDebug     = 848
	offsetControl   = offsetDebug + 7*8
)

// peek reads a word of the registers or of memory.
func (t *Tracee) peek(what, at uintptr) (v uint64, err error) {
	if _, _, e := syscall.RawSyscall6(syscall.SYS_PTRACE, what, uintptr(t.PID), at, uintptr(unsafe.Pointer(&v)), 0, 0); e != 0 {
		return 0, fmt.Errorf("read %#x of %d: %w", at, t.PID, e)
	}
	return v, nil
}

// PC returns the address of the next instruction.
func (t *Tracee) PC() (uint64, error) { return t.peek(requestPeekUser, offsetRIP) }

// Return returns where the function goes back to at whose first instruction the thread is.
func (t *Tracee) Return() (uint64, error) {
	sp, err := t.peek(requestPeekUser, offsetRSP)
	if err != nil {
		return 0, err
	}
	return t.peek(syscall.PTRACE_PEEKDATA, uintptr(sp))
}

// setBreaks sets up to two breakpoints of the processor; 0 stands for none. They hold for this thread only, and change no code.
func (t *Tracee) setBreaks(pcs ...uint64) error {
	control := uintptr(0)
	if err := request(requestPokeUser, t.PID, offsetControl, 0); err != nil {
		return err
	}
	for i, pc := range pcs {
		if pc == 0 {
			continue
		}
		if err := request(requestPokeUser, t.PID, offsetDebug+8*uintptr(i), uintptr(pc)); err != nil {
			return err
		}
		control |= 1 << (2 * i)
	}
	if control == 0 {
		return nil
	}
	return request(requestPokeUser, t.PID, offsetControl, control)
}

// IsSyscall says whether code is that of a system call.
func IsSyscall(code []byte) bool { return code[0] == 0x0f && code[1] == 0x05 }
