//go:build linux && (amd64 || arm64)

// Package ptrace starts a process whose main thread is under the control of the caller: it executes one instruction at a time, runs to an address, is
// killed or stopped anywhere. Everything that a Tracee does must come from the thread that started it: from one goroutine that is locked to its thread.
package ptrace

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// What the syscall package does not name.
const (
	requestSingleStep = 9
	requestSetOptions = 0x4200
	requestSeize      = 0x4206
	requestInterrupt  = 0x4207
	optionExitKill    = 0x100000 // the tracee dies with the tracer
	waitAll           = 0x40000000
)

// ErrEnded says that the tracee is no more.
var ErrEnded = errors.New("the process has ended")

// A Tracee is a process whose main thread stands still between two calls.
type Tracee struct {
	PID     int
	frozen  int // another thread that stands still, or 0
	status  syscall.WaitStatus
	pending syscall.Signal // delivered when the thread goes on
}

// request is one ptrace call for a thread. What addr and data are depends on what is asked for.
func request(what, tid int, addr, data uintptr) error {
	if _, _, e := syscall.RawSyscall6(syscall.SYS_PTRACE, uintptr(what), uintptr(tid), addr, data, 0, 0); e != 0 {
		if e == syscall.ESRCH {
			return ErrEnded
		}
		return fmt.Errorf("ptrace request %d: %w", what, e)
	}
	return nil
}

// Start starts a program and lets it run up to its first instruction. files are its standard files. The error is EPERM where nobody may be traced.
func Start(path string, argv, env []string, files ...*os.File) (*Tracee, error) {
	attr := &syscall.ProcAttr{Env: env, Sys: &syscall.SysProcAttr{Ptrace: true}}
	for _, f := range files {
		attr.Files = append(attr.Files, f.Fd())
	}
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	t := &Tracee{PID: pid}
	if err := t.wait(pid); err != nil {
		return nil, err
	}
	if s := t.status.StopSignal(); s != syscall.SIGTRAP {
		return nil, fmt.Errorf("start %s: stopped by %v", path, s)
	}
	return t, request(requestSetOptions, pid, 0, optionExitKill)
}

// wait waits until a thread stops or ends.
func (t *Tracee) wait(tid int) error {
	for {
		switch _, err := syscall.Wait4(tid, &t.status, waitAll, nil); {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("wait for %d: %w", tid, err)
		case t.status.Exited() || t.status.Signaled():
			return ErrEnded
		}
		return nil
	}
}

// resume lets the thread go on until it traps. Signals for it are delivered.
func (t *Tracee) resume(what int) error {
	for {
		if err := request(what, t.PID, 0, uintptr(t.pending)); err != nil {
			return err
		}
		t.pending = 0
		if err := t.wait(t.PID); err != nil {
			return err
		}
		s := t.status.StopSignal()
		if s == syscall.SIGTRAP {
			return nil
		}
		if t.pending = s; what == requestSingleStep {
			return nil // the next step is the first instruction of its handler
		}
	}
}

// Step executes one instruction; a system call is one.
func (t *Tracee) Step() error { return t.resume(requestSingleStep) }

// RunTo lets the thread go on until it is about to execute the instruction at pc for the n-th time. The one that it stands at does not count. When it
// comes to the instruction at limit before, if limit is not 0, it stops there, and ok is false.
func (t *Tracee) RunTo(pc uint64, n int, limit uint64) (ok bool, err error) {
	if err := t.setBreaks(pc, limit); err != nil {
		return false, err
	}
	for range n {
		if err := t.resume(syscall.PTRACE_CONT); err != nil {
			return false, err
		}
		switch at, err := t.PC(); {
		case err != nil:
			return false, err
		case at == limit && limit != pc:
			return false, t.setBreaks(0, 0)
		case at != pc:
			return false, fmt.Errorf("trapped at %#x on the way to %#x", at, pc)
		}
	}
	return true, t.setBreaks(0, 0)
}

// Freeze stops the thread that the process started first, for as long as the process is traced. In a Go program that is the monitor, which would
// otherwise have the main thread yield whenever it is slow, and it is always slow here. It is stopped in its sleep, where it holds no lock of the runtime's.
func (t *Tracee) Freeze() error {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/task", t.PID))
	if err != nil {
		return err
	}
	defer dir.Close()
	tasks, err := dir.Readdirnames(2) // in the order in which they were started
	if err != nil {
		return err
	}
	if len(tasks) < 2 {
		return fmt.Errorf("process %d has one thread", t.PID)
	}
	tid, err := strconv.Atoi(tasks[1])
	if err != nil {
		return err
	}
	if err := request(requestSeize, tid, 0, 0); err != nil {
		return err
	}
	t.frozen = tid
	for range freezeTries {
		asleep, pc, err := t.where(tid)
		if err != nil {
			return err
		}
		if !asleep {
			time.Sleep(100 * time.Microsecond)
			continue
		}
		if err := request(requestInterrupt, tid, 0, 0); err != nil {
			return err
		}
		if err := t.wait(tid); err != nil {
			return err
		}
		if _, at, err := t.where(tid); err != nil || at == pc || at == pc-arm64Instruction {
			return err
		}
		if err := request(syscall.PTRACE_CONT, tid, 0, 0); err != nil { // it woke meanwhile
			return err
		}
	}
	return fmt.Errorf("thread %d of process %d does not sleep", tid, t.PID)
}

// arm64Instruction is what the program counter goes back by on arm64 when a system call is interrupted.
const arm64Instruction = 4

// freezeTries is how often Freeze looks for the thread to be asleep, a tenth of a millisecond apart.
const freezeTries = 100_000

// where says whether a thread is in nanosleep, and where it is when it runs no code of its own: in a system call, or stopped.
func (t *Tracee) where(tid int) (asleep bool, pc uint64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", t.PID, tid))
	if err != nil {
		return false, 0, err
	}
	words := strings.Fields(string(text)) // the number, arguments, stack pointer and program counter; or "running"
	if len(words) < 3 {
		return false, 0, nil
	}
	pc, err = strconv.ParseUint(words[len(words)-1], 0, 64)
	return words[0] == strconv.Itoa(syscall.SYS_NANOSLEEP), pc, err
}

// Kill kills the process where it stands and waits until the kernel has taken it apart.
func (t *Tracee) Kill() error {
	if err := syscall.Kill(t.PID, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill %d: %w", t.PID, err)
	}
	if _, err := t.end(); err != nil {
		return err
	}
	if !t.status.Signaled() || t.status.Signal() != syscall.SIGKILL {
		return fmt.Errorf("process %d ended by itself: %#x", t.PID, uint32(t.status))
	}
	return nil
}

// Stop stops the process by SIGSTOP where it stands, and lets go of it.
func (t *Tracee) Stop() error {
	if err := syscall.Kill(t.PID, syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stop %d: %w", t.PID, err)
	}
	if err := t.detach(); err != nil {
		return err
	}
	for {
		switch _, err := syscall.Wait4(t.PID, &t.status, syscall.WUNTRACED, nil); {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("wait for %d: %w", t.PID, err)
		case !t.status.Stopped():
			return fmt.Errorf("process %d did not stop: %#x", t.PID, uint32(t.status))
		}
		return nil
	}
}

// detach lets go of the process.
func (t *Tracee) detach() error {
	if t.frozen != 0 {
		if err := request(syscall.PTRACE_DETACH, t.frozen, 0, 0); err != nil {
			return err
		}
		t.frozen = 0
	}
	return request(syscall.PTRACE_DETACH, t.PID, 0, uintptr(t.pending))
}

// Continue lets a process that was stopped by Stop go on to its end, and returns its exit code.
func (t *Tracee) Continue() (code int, err error) {
	if err := syscall.Kill(t.PID, syscall.SIGCONT); err != nil {
		return 0, fmt.Errorf("continue %d: %w", t.PID, err)
	}
	return t.end()
}

// Finish lets go of the process and returns its exit code.
func (t *Tracee) Finish() (code int, err error) {
	if err := t.detach(); err != nil {
		return 0, err
	}
	return t.end()
}

// end waits for the end of the process, and returns its exit code, or -1 when a signal ended it. The main thread is the last to be waited for.
func (t *Tracee) end() (code int, err error) {
	for _, tid := range []int{t.frozen, t.PID} {
		for err = nil; err == nil && tid != 0; {
			err = t.wait(tid)
		}
		if err != nil && err != ErrEnded {
			return 0, err
		}
	}
	if t.status.Signaled() {
		return -1, nil
	}
	return t.status.ExitStatus(), nil
}

// Pin keeps the calling thread, and the processes that it starts, on one of the processors that it may use, the i-th or another: stepping is then a
// switch between two threads and no more.
func Pin(i int) error {
	var mask [128]uint64
	size := unsafe.Sizeof(mask)
	n, _, e := syscall.RawSyscall(syscall.SYS_SCHED_GETAFFINITY, 0, size, uintptr(unsafe.Pointer(&mask)))
	if e != 0 {
		return fmt.Errorf("processors: %w", e)
	}
	var may []int
	for cpu := range int(n) * 8 {
		if mask[cpu/64]>>(cpu%64)&1 != 0 {
			may = append(may, cpu)
		}
	}
	mask = [128]uint64{}
	cpu := may[i%len(may)]
	mask[cpu/64] = 1 << (cpu % 64)
	if _, _, e := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, size, uintptr(unsafe.Pointer(&mask))); e != 0 {
		return fmt.Errorf("pin to processor %d: %w", cpu, e)
	}
	return nil
}
