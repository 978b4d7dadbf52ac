//go:build linux

// Package proc lets a test binary start itself again as child processes with one task each, and watch, stop and kill them.
package proc

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/seg"
)

// taskEnv names the task of a child, its arguments separated by the unit separator.
const (
	taskEnv   = "MILLRACE_TEST_TASK"
	separator = "\x1f"
)

// Patience is how long a test waits for what must happen soon, before it calls it a hang. It is far above anything that a busy machine does to a test.
const Patience = 60 * time.Second

// Notice is the bound of the contract on noticing a death, 100 ms, with slack for a busy machine.
const Notice = 100*time.Millisecond + 2*time.Second

// A Child is the view of a child process from inside.
type Child struct {
	Args []string
	in   *bufio.Reader
}

// Main is TestMain: it runs the task that the environment names, or the tests.
func Main(m *testing.M, tasks map[string]func(*Child) error) {
	task := os.Getenv(taskEnv)
	if task == "" {
		os.Exit(m.Run())
	}
	f := strings.Split(task, separator)
	c := &Child{Args: f[1:], in: bufio.NewReader(os.Stdin)}
	if err := tasks[f[0]](c); err != nil {
		fmt.Fprintf(os.Stderr, "task %s: %v\n", f[0], err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Say prints one line, with one system call.
func (c *Child) Say(format string, args ...any) {
	if _, err := fmt.Fprintf(os.Stdout, format+"\n", args...); err != nil {
		os.Exit(2) // the parent is gone
	}
}

// Wait waits for a line from the parent; it ends the process when the parent closes the pipe.
func (c *Child) Wait() string {
	s, err := c.in.ReadString('\n')
	if err != nil {
		os.Exit(0)
	}
	return strings.TrimSpace(s)
}

// A Proc is a running child, seen from the test.
type Proc struct {
	t     testing.TB
	Cmd   *exec.Cmd
	in    io.WriteCloser
	mu    sync.Mutex
	more  *sync.Cond
	lines []string
	next  int
	eof   bool
	errs  strings.Builder
	ended bool
}

// Option changes the command before it starts.
type Option func(*exec.Cmd)

// Env adds variables.
func Env(kv ...string) Option {
	return func(c *exec.Cmd) { c.Env = append(c.Env, kv...) }
}

// Start starts a child with a task. It is killed at the end of the test at the latest.
func Start(t testing.TB, task []string, opts ...Option) *Proc {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(os.Environ(), taskEnv+"="+strings.Join(task, separator), "GOMAXPROCS=2")
	p := &Proc{t: t, Cmd: cmd}
	p.more = sync.NewCond(&p.mu)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	errs, err := cmd.StderrPipe()
	require.NoError(t, err)
	for _, o := range opts {
		o(cmd)
	}
	p.in = in
	require.NoError(t, cmd.Start())
	var pumps sync.WaitGroup
	pumps.Add(2)
	go p.pump(out, &pumps)
	go func() {
		defer pumps.Done()
		s := bufio.NewScanner(errs)
		for s.Scan() {
			p.mu.Lock()
			p.errs.WriteString(s.Text() + "\n")
			p.mu.Unlock()
		}
	}()
	go func() {
		pumps.Wait()
		p.mu.Lock()
		p.eof = true
		p.more.Broadcast()
		p.mu.Unlock()
	}()
	t.Cleanup(func() {
		if !p.ended {
			_ = cmd.Process.Kill() // may have ended
			_ = p.wait()
		}
	})
	return p
}

// pump collects the lines of the child, so that it never waits for the test.
func (p *Proc) pump(out io.Reader, done *sync.WaitGroup) {
	defer done.Done()
	s := bufio.NewScanner(out)
	s.Buffer(make([]byte, 1<<16), 1<<26)
	for s.Scan() {
		p.mu.Lock()
		p.lines = append(p.lines, s.Text())
		p.more.Broadcast()
		p.mu.Unlock()
	}
}

// Line returns the next line; ok is false at the end of the child's output.
func (p *Proc) Line() (line string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.next == len(p.lines) {
		if p.eof {
			return "", false
		}
		p.more.Wait()
	}
	p.next++
	return p.lines[p.next-1], true
}

// Want reads lines up to one that begins with prefix, and returns the rest of it.
func (p *Proc) Want(prefix string) string {
	p.t.Helper()
	for {
		line, ok := p.Line()
		require.True(p.t, ok, "the child ended before it said %q; it said %q and %q", prefix, p.lines, p.Errors())
		if rest, found := strings.CutPrefix(line, prefix); found {
			return strings.TrimSpace(rest)
		}
	}
}

// All waits for the end of the output and returns every line, those that were read before included.
func (p *Proc) All() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.eof {
		p.more.Wait()
	}
	return p.lines
}

// Errors returns what the child wrote to standard error so far.
func (p *Proc) Errors() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.errs.String()
}

// Tell sends the child a line.
func (p *Proc) Tell(line string) {
	_, err := io.WriteString(p.in, line+"\n")
	require.NoError(p.t, err)
}

// End closes the child's input.
func (p *Proc) End() { _ = p.in.Close() }

// Signal sends a signal.
func (p *Proc) Signal(s syscall.Signal) { require.NoError(p.t, p.Cmd.Process.Signal(s)) }

// Kill kills the child and waits until it is gone.
func (p *Proc) Kill() {
	_ = p.Cmd.Process.Signal(syscall.SIGKILL) // may have ended
	_ = p.wait()
}

// WaitStopped waits until the child is stopped by a signal; false when it ended instead.
func (p *Proc) WaitStopped() bool {
	for {
		var ws syscall.WaitStatus
		// WNOWAIT is not in syscall; when the child ends instead, it is reaped here.
		_, err := syscall.Wait4(p.Cmd.Process.Pid, &ws, syscall.WUNTRACED, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || !ws.Stopped() {
			p.ended = true
			return false
		}
		return true
	}
}

// Result waits for the end of the child and returns the signal that killed it, or 0, and its exit code.
func (p *Proc) Result() (killed syscall.Signal, code int) {
	_ = p.wait()
	ws, ok := p.Cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.True(p.t, ok)
	if ws.Signaled() {
		return ws.Signal(), -1
	}
	return 0, ws.ExitStatus()
}

// Succeeds waits for the end and requires exit code 0.
func (p *Proc) Succeeds() {
	p.t.Helper()
	killed, code := p.Result()
	require.Zero(p.t, code, "the child failed (signal %v): %s", killed, p.Errors())
}

// wait reads everything before it waits, as exec wants it.
func (p *Proc) wait() error {
	p.All()
	p.ended = true
	_ = p.in.Close()
	return p.Cmd.Wait()
}

// Dir makes a directory in /dev/shm for the rings of one test, and removes them with it, System V segments included.
func Dir(t testing.TB) string {
	t.Helper()
	base := "/dev/shm"
	if _, err := os.Stat(base); err != nil {
		base = ""
	}
	dir, err := os.MkdirTemp(base, "millrace-test-")
	require.NoError(t, err)
	t.Cleanup(func() {
		if _, err := seg.Sweep(dir); err != nil {
			t.Errorf("sweep: %v", err)
		}
		names, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, n := range names {
			_ = ring.Remove(filepath.Base(n), ring.WithDir(dir), ring.WithForce()) // what cannot be removed goes with the directory
		}
		require.NoError(t, os.RemoveAll(dir))
	})
	return dir
}
