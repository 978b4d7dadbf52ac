package ptrace

import (
	"fmt"
	"syscall"
	"unsafe"
)

// Register sets.
const (
	requestSetRegSet = 0x4205
	setBreakpoints   = 0x402 // NT_ARM_HW_BREAK
	breakEnable      = 1 | 2<<1 | 0xf<<5
)

func (t *Tracee) registers() (regs syscall.PtraceRegs, err error) {
	if err = syscall.PtraceGetRegs(t.PID, &regs); err != nil {
		err = fmt.Errorf("registers of %d: %w", t.PID, err)
	}
	return regs, err
}

// PC returns the address of the next instruction.
func (t *Tracee) PC() (uint64, error) {
	regs, err := t.registers()
	return regs.Pc, err
}

// Return returns where the function goes back to at whose first instruction the thread is.
func (t *Tracee) Return() (uint64, error) {
	regs, err := t.registers()
	return regs.Regs[30], err
}

// breakpoints is struct user_hwdebug_state up to the second breakpoint.
type breakpoints struct {
	info, _ uint32
	slots   [2]struct {
		addr       uint64
		control, _ uint32
	}
}

// setBreaks sets up to two breakpoints of the processor; 0 stands for none. They hold for this thread only, and change no code.
func (t *Tracee) setBreaks(pcs ...uint64) error {
	var b breakpoints
	for i, pc := range pcs {
		if pc != 0 {
			b.slots[i].addr, b.slots[i].control = pc, breakEnable
		}
	}
	v := syscall.Iovec{Base: (*byte)(unsafe.Pointer(&b)), Len: uint64(unsafe.Sizeof(b))}
	if _, _, e := syscall.RawSyscall6(syscall.SYS_PTRACE, requestSetRegSet, uintptr(t.PID), setBreakpoints, uintptr(unsafe.Pointer(&v)), 0, 0); e != 0 {
		return fmt.Errorf("breakpoints of %d: %w", t.PID, e)
	}
	return nil
}

// IsSyscall says whether code is that of a system call.
func IsSyscall(code []byte) bool {
	return code[0] == 0x01 && code[1] == 0 && code[2] == 0 && code[3] == 0xd4
}
