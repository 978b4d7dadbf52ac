//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// childArg is the argument that makes the program a child.
const childArg = "child"

// process is a child, seen from the parent. Its fields belong to the goroutine of its lane, but for those that mu guards.
type process struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	reports *os.File
	window  *os.File
	errs    strings.Builder
	gone    chan struct{} // closed when it has ended and every report was entered
	stopped bool
	doomed  bool // SIGKILL was sent

	mu      sync.Mutex
	account *account // of the ring that it is in; nil: none
	work    *work
}

// starts are the commands to start. A child dies with the thread that started it, so that one thread starts all, and stays.
var starts = make(chan func())

func startThread() {
	runtime.LockOSThread()
	for f := range starts {
		f()
	}
}

// newProcess starts a child.
func newProcess() (p *process, err error) {
	p = &process{gone: make(chan struct{})}
	p.cmd = exec.Command("/proc/self/exe", childArg)
	p.cmd.Env = append(os.Environ(), "GOMAXPROCS=2")
	p.cmd.Stderr = &p.errs
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	if p.window, err = os.CreateTemp("/dev/shm", "millrace-soak-"); err != nil {
		return nil, err
	}
	if err = errors.Join(os.Remove(p.window.Name()), p.window.Truncate(windowSize)); err != nil {
		return nil, err
	}
	p.reports = r
	p.cmd.ExtraFiles = []*os.File{w, p.window}
	done := make(chan error)
	starts <- func() { done <- p.cmd.Start() }
	if err = errors.Join(<-done, w.Close()); err != nil {
		return nil, err
	}
	go p.read()
	return p, nil
}

// read enters the reports until the child has ended.
func (p *process) read() {
	defer close(p.gone)
	buf := make([]byte, 1<<16)
	n := 0
	for {
		m, err := p.reports.Read(buf[n:])
		n += m
		used := 0
		p.mu.Lock()
		if p.account != nil {
			p.account.mu.Lock()
			for ; n-used >= reportSize; used += reportSize {
				var r report
				r.get(buf[used:])
				p.account.enter(p.work, &r)
			}
			p.account.mu.Unlock()
		}
		p.mu.Unlock()
		n = copy(buf, buf[used:n])
		if err != nil {
			break
		}
	}
	_ = p.cmd.Wait() // how it ended is looked at by the lane
	p.settle()
	_ = p.reports.Close()
	_ = p.window.Close()
	_ = p.in.Close()
}

// settle enters the death of the child.
func (p *process) settle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.account == nil {
		return
	}
	window := make([]byte, windowSize)
	if _, err := p.window.ReadAt(window, 0); err != nil {
		window = window[:0]
	}
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	p.account.kill(p.work, window)
}

// join orders the child to take part in a ring.
func (p *process) join(a *account, j join) error {
	p.mu.Lock()
	p.account = a
	p.work = &work{name: fmt.Sprintf("%s %d (pid %d)", j.role, j.incarnation, p.cmd.Process.Pid), typed: j.typed}
	if j.role == roles[1] {
		p.work.role = 1
	}
	p.mu.Unlock()
	return p.order(j.String())
}

func (p *process) order(line string) error {
	if strings.HasPrefix(line, "leave") || strings.HasPrefix(line, "finish") {
		p.mu.Lock()
		p.work.leaving = true
		p.mu.Unlock()
	}
	_, err := io.WriteString(p.in, line+"\n")
	if errors.Is(err, syscall.EPIPE) {
		return nil // it has just died
	}
	return err
}

// has says whether the child has joined, and whether it has left.
func (p *process) has() (joined, left bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.work == nil {
		return false, true
	}
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	return p.work.joined, p.work.over
}

// ended says whether the process has ended and is in the account.
func (p *process) ended() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) } // it may have ended

// failure says what is wrong with the way in which the process ended: nothing when it was killed on purpose.
func (p *process) failure() error {
	ws, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL && p.doomed {
		return nil
	}
	return fmt.Errorf("%s ended by itself: %v: %s", p.work.name, p.cmd.ProcessState, p.errs.String())
}
