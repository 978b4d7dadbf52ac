//go:build amd64 || arm64

package seg

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cd1900cf/millrace/internal/layout"
)

// word is an aligned word of the segment's memory.
func (s *Segment) word(at int) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&s.Bytes()[at]))
}

// Whatever touches a truncated mapping finds zeros, and the note says where it was first. Other mappings, of the same file too, are not concerned.
func TestGuard(t *testing.T) {
	for name, access := range map[string]func(s *Segment, at int){
		"load":    func(s *Segment, at int) { s.word(at).Load() },
		"store":   func(s *Segment, at int) { s.word(at).Store(1) },
		"swap":    func(s *Segment, at int) { s.word(at).CompareAndSwap(0, 1) },
		"copy":    func(s *Segment, at int) { copy(make([]byte, 8192), s.Bytes()[at:]) },
		"copy in": func(s *Segment, at int) { copy(s.Bytes()[at:], bytes.Repeat([]byte{1}, 8192)) },
		"bytes":   func(s *Segment, at int) { bytes.IndexByte(s.Bytes()[at:], 1) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := shm(t)
			s, other := create(t, "a", options(dir, POSIX)), create(t, "b", options(dir, POSIX))
			observer, err := Open("a", OpenOptions{Dir: dir, ReadOnly: true})
			check(t, err)
			defer observer.Close()
			const end = 3 * layout.Page
			check(t, os.Truncate(s.Path(), end))
			if s.Lost().Load() != 0 {
				t.Fatal("lost before anything was touched")
			}
			access(s, end+8)
			if fault := s.Lost().Load(); fault-uintptr(unsafe.Pointer(&s.Bytes()[0]))-end >= 8192+8 {
				t.Fatalf("the fault is noted at %#x", fault)
			}
			if s.word(layout.ControlOffset).Load() != 0 {
				t.Error("what the file still has is seen in the mapping")
			}
			if observer.Lost().Load() != 0 || observer.word(layout.ControlOffset).Load() != mark || other.Lost().Load() != 0 || other.word(layout.ControlOffset).Load() != mark {
				t.Error("another mapping is lost")
			}
		})
	}
}

// More mappings than a table has, and threads that meet faults while others open and close.
func TestGuardOfManyMappings(t *testing.T) {
	dir := shm(t)
	const many = 2*guardRanges + 10
	segments := make([]*Segment, many)
	for i := range segments {
		segments[i] = create(t, fmt.Sprint("a", i), options(dir, POSIX))
	}
	var wg sync.WaitGroup
	for i, s := range segments {
		if i%3 != 0 {
			continue
		}
		check(t, os.Truncate(s.Path(), 0))
		for range 2 {
			wg.Go(func() { s.word(layout.ControlOffset + 64).Add(1) })
		}
		wg.Go(func() {
			o, err := Open(fmt.Sprint("a", i+1), OpenOptions{Dir: dir})
			if err != nil {
				t.Error(err)
				return
			}
			if o.word(layout.ControlOffset).Load() != mark {
				t.Error("zeros in a sound segment")
			}
			if err := o.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, s := range segments {
		if lost := s.Lost().Load() != 0; lost != (i%3 == 0) {
			t.Errorf("mapping %d: lost is %v", i, lost)
		}
	}
	if handling.Load() != 0 {
		t.Errorf("%d threads are counted in the handler", handling.Load())
	}
}

// Slices that are out may be read while the segment is closed, also when the file was cut: no moment of it faults.
func TestCloseWhileOthersFault(t *testing.T) {
	dir := shm(t)
	for i := range 400 {
		s, err := Create(fmt.Sprint("a", i), options(dir, POSIX))
		check(t, err)
		s.Expose()
		mem := s.Bytes()
		check(t, os.Truncate(s.Path(), 0))
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for at := 0; at < len(mem); at += layout.Page {
					_ = (*atomic.Uint64)(unsafe.Pointer(&mem[at])).Load()
				}
			})
		}
		check(t, s.Close())
		wg.Wait()
	}
}

// A segment that is cut while it is made is not made.
func TestCutWhileCreating(t *testing.T) {
	for _, unnamed := range []bool{true, false} {
		dir := shm(t)
		defer func(was bool) { unnamedFiles = was }(unnamedFiles)
		unnamedFiles = unnamed
		o := options(dir, POSIX)
		o.Init = func(mem []byte) {
			fds, err := os.ReadDir("/proc/self/fd")
			check(t, err)
			for _, fd := range fds {
				path := "/proc/self/fd/" + fd.Name()
				if to, _ := os.Readlink(path); strings.HasPrefix(to, dir+"/") {
					check(t, os.Truncate(path, 0))
				}
			}
			mem[layout.ControlOffset] = 1
		}
		_, err := Create("a", o)
		wantIs(t, err, layout.ErrCorrupt)
		if left := files(t, dir); len(left) != 0 {
			t.Errorf("left: %q", left)
		}
	}
}

// torn maps a page behind the end of a file, without the guard.
func torn(dir string) ([]byte, error) {
	f, err := os.Create(filepath.Join(dir, "torn"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return unix.Mmap(int(f.Fd()), 0, layout.Page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

// A fault elsewhere is the Go runtime's, as if there were no handler before its own.
func TestFaultElsewhere(t *testing.T) {
	dir := shm(t)
	create(t, "a", options(dir, POSIX))
	mem, err := torn(dir)
	check(t, err)
	defer unix.Munmap(mem)
	for name, fault := range map[string]func(){"behind the end of a file": func() { mem[0] = 1 }, "nil": func() { var p *int; *p = 1 }} {
		func() {
			defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
			defer func() {
				if recover() == nil {
					t.Errorf("%s: swallowed", name)
				}
			}()
			fault()
		}()
	}
}

func init() {
	// fault DIR WHAT: end by a SIGBUS that is none of the guard's.
	childTasks["fault"] = func(a []string) error {
		s, err := Create("a", options(a[0], POSIX))
		if err != nil {
			return err
		}
		switch a[1] {
		case "elsewhere":
			mem, err := torn(a[0])
			if err != nil {
				return err
			}
			mem[0] = 1
		case "unguarded":
			s.Unguard()
			if err := os.Truncate(s.Path(), 0); err != nil {
				return err
			}
			s.word(layout.ControlOffset).Load()
		case "sent":
			if err := syscall.Kill(os.Getpid(), syscall.SIGBUS); err != nil {
				return err
			}
			select {}
		}
		return fmt.Errorf("still alive, lost at %#x", s.Lost().Load())
	}
}

// What is not the guard's ends the process, as in any Go program.
func TestFaultsThatEndTheProcess(t *testing.T) {
	for what, want := range map[string]string{"elsewhere": "unexpected fault address", "unguarded": "unexpected fault address", "sent": "SIGBUS"} {
		t.Run(what, func(t *testing.T) {
			var stderr bytes.Buffer
			c := start(t, func(cmd *exec.Cmd) { cmd.Stderr = &stderr }, "fault", shm(t), what)
			if err := c.cmd.Wait(); err == nil || !strings.Contains(stderr.String(), want) {
				t.Errorf("%v: %s", err, &stderr)
			}
		})
	}
}
