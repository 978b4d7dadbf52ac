//go:build amd64 || arm64

package seg

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cd1900cf/millrace/internal/layout"
)

const (
	childEnv   = "MILLRACE_SEG_CHILD"
	privateEnv = "MILLRACE_SEG_PRIVATE" // children create under private names
)

// TestMain turns the test binary into a child process with one task when the environment says so.
func TestMain(m *testing.M) {
	task := os.Getenv(childEnv)
	if task == "" {
		os.Exit(m.Run())
	}
	f := strings.Split(task, " ")
	unnamedFiles = os.Getenv(privateEnv) == ""
	if err := childTasks[f[0]](f[1:]); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	os.Exit(0)
}

var childTasks = map[string]func(args []string) error{
	// create DIR NAME BACKING: race for the name, then stay attached until standard input ends.
	"create": func(a []string) error {
		b, _ := strconv.Atoi(a[2])
		fmt.Println("starting")
		s, err := Create(a[1], options(a[0], Backing(b)))
		if errors.Is(err, fs.ErrExist) {
			if s, err = Open(a[1], OpenOptions{Dir: a[0]}); err != nil {
				return err
			}
			if got := binary.LittleEndian.Uint64(s.Bytes()[layout.ControlOffset:]); got != mark {
				return fmt.Errorf("half-made segment: %#x", got)
			}
			fmt.Println("exists")
		} else if err != nil {
			return err
		} else {
			fmt.Println("created")
		}
		untilEOF()
		return s.Close()
	},
	// lock DIR NAME BYTE: hold a byte until standard input ends.
	"lock": func(a []string) error {
		s, err := Open(a[1], OpenOptions{Dir: a[0]})
		if err != nil {
			return err
		}
		b, _ := strconv.ParseInt(a[2], 0, 64)
		l, err := s.Lock(b)
		if err != nil {
			return err
		}
		fmt.Println("locked", os.Getpid())
		untilEOF()
		return errors.Join(l.Close(), s.Close())
	},
	// probe DIR NAME BYTE: as an observer.
	"probe": func(a []string) error {
		s, err := Open(a[1], OpenOptions{Dir: a[0], ReadOnly: true})
		if err != nil {
			return err
		}
		b, _ := strconv.ParseInt(a[2], 0, 64)
		locked, err := s.Probe(b)
		if err != nil {
			return err
		}
		fmt.Println("probed", locked)
		return s.Close()
	},
	// open DIR NAME: report the result.
	"open": func(a []string) error {
		o, err := Open(a[1], OpenOptions{Dir: a[0]})
		if err == nil {
			fmt.Println("opened")
			return o.Close()
		}
		ro, rerr := Open(a[1], OpenOptions{Dir: a[0], ReadOnly: true})
		if rerr == nil {
			fmt.Println("observed", errors.Is(err, fs.ErrPermission))
			return ro.Close()
		}
		fmt.Println("refused", errors.Is(err, fs.ErrPermission), errors.Is(rerr, fs.ErrPermission))
		return nil
	},
	// remove DIR NAME
	"remove": func(a []string) error {
		if err := Remove(a[1], RemoveOptions{Dir: a[0]}); err != nil {
			return err
		}
		fmt.Println("removed")
		return nil
	},
	// sweep DIR
	"sweep": func(a []string) error {
		_, err := Sweep(a[0])
		return err
	},
	// descriptor: attach to descriptor 3, answer in the memory, hold a byte.
	"descriptor": func([]string) error {
		f := os.NewFile(3, "ring")
		s, err := OpenFile(f, OpenOptions{})
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		l, err := s.Lock(layout.LockParticipant)
		if err != nil {
			return err
		}
		s.Bytes()[layout.ControlOffset+64] = 42
		fmt.Println("attached", s.Name())
		untilEOF()
		return errors.Join(l.Close(), s.Close())
	},
}

func untilEOF() { _, _ = io.Copy(io.Discard, os.Stdin) }

// mark is what the Init of the tests writes into the control page.
const mark = 0x1122334455667788

// options describe a small segment.
func options(dir string, b Backing) CreateOptions {
	return CreateOptions{
		Dir: dir, Backing: b,
		Header: layout.Header{Kind: layout.KindMPMC, Policy: layout.PolicyRedeliver, Slots: 16, SlotSize: 5011, EntryStride: 64, Participants: 67},
		Init:   func(mem []byte) { binary.LittleEndian.PutUint64(mem[layout.ControlOffset:], mark) },
	}
}

// child is a running child process.
type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Scanner
	out   io.ReadCloser
}

func start(t *testing.T, prepare func(*exec.Cmd), task ...string) *child {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+strings.Join(task, " "), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	check(t, err)
	out, err := cmd.StdoutPipe()
	check(t, err)
	if prepare != nil {
		prepare(cmd)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{t, cmd, in, bufio.NewScanner(out), out}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // may have ended
		_ = cmd.Wait()
	})
	return c
}

// line returns the next line that the child prints; "" at its end.
func (c *child) line() string {
	c.lines.Scan()
	return c.lines.Text()
}

func (c *child) want(line string) {
	c.t.Helper()
	if got := c.line(); !strings.HasPrefix(got, line) {
		c.t.Fatalf("child says %q, want %q", got, line)
	}
}

func (c *child) kill() {
	c.t.Helper()
	check(c.t, c.cmd.Process.Kill())
	_ = c.cmd.Wait() // "signal: killed"
}

func (c *child) finish() {
	c.t.Helper()
	_ = c.in.Close()
	check(c.t, c.cmd.Wait())
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantIs(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("got %v, want %v", err, target)
	}
}

// shm returns a fresh directory on /dev/shm.
func shm(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "millrace-seg-test-")
	if err != nil {
		t.Skipf("no /dev/shm: %v", err)
	}
	t.Cleanup(func() {
		infos, _ := List(dir)
		for _, i := range infos {
			_ = Remove(i.Name, RemoveOptions{Dir: dir, Force: func([]byte, layout.Header) error { return nil }})
		}
		_, _ = Sweep(dir)
		_ = os.RemoveAll(dir)
	})
	return dir
}

func create(t testing.TB, name string, o CreateOptions) *Segment {
	t.Helper()
	s, err := Create(name, o)
	check(t, err)
	t.Cleanup(func() { check(t, s.Close()) })
	return s
}

// files lists everything in a directory.
func files(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// shmKeys lists the System V segments of this namespace that are as large as those of the tests. Other processes may
// have others, at any time.
func shmKeys(t testing.TB) map[string]bool {
	t.Helper()
	b, err := os.ReadFile("/proc/sysvipc/shm")
	if err != nil {
		t.Skipf("no System V segments: %v", err)
	}
	o := options("", SysV)
	check(t, o.Header.Geometry(layout.Page))
	keys := map[string]bool{}
	for _, line := range strings.Split(string(b), "\n")[1:] {
		if f := strings.Fields(line); len(f) > 3 && f[3] == fmt.Sprint(o.Header.SegmentSize) {
			keys[f[0]+" "+f[1]] = true
		}
	}
	return keys
}

// wantAlive checks that a System V segment was not removed. One that is only marked for removal still works for those
// who have it.
func wantAlive(t testing.TB, s *Segment) {
	t.Helper()
	const shmDest = 0o1000
	var d unix.SysvShmDesc
	_, err := unix.SysvShmCtl(int(int32(s.Header().SysvID)), unix.IPC_STAT, &d)
	check(t, err)
	if d.Perm.Mode&shmDest != 0 {
		t.Fatal("the System V segment was removed")
	}
}

// eventually waits until f is true; it fails the test after half a minute, which says that something hangs.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("still waiting: " + what)
		}
	}
}

// root skips the test unless it runs as root.
func root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// mountFS mounts a file system for the length of the test, in a directory of its own.
func mountFS(t testing.TB, kind, data string) string {
	t.Helper()
	root(t)
	dir := filepath.Join(t.TempDir(), "mnt")
	check(t, os.Mkdir(dir, 0o755))
	if err := unix.Mount("none", dir, kind, 0, data); err != nil {
		t.Skipf("mount %s: %v", kind, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func stop(t testing.TB, c *child) {
	t.Helper()
	check(t, c.cmd.Process.Signal(syscall.SIGSTOP))
	eventually(t, "stopped", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
		check(t, err)
		return strings.Contains(string(b), ") T ")
	})
}
