//go:build amd64 || arm64

package seg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cd1900cf/millrace/internal/layout"
)

const someByte = layout.LockParticipant + 5

func probe(t testing.TB, s *Segment, b int64) bool {
	t.Helper()
	locked, err := s.Probe(b)
	check(t, err)
	return locked
}

func TestLockWithinOneProcess(t *testing.T) {
	for _, b := range []Backing{POSIX, SysV, Memfd} {
		t.Run(b.String(), func(t *testing.T) {
			s := create(t, "a", options(shm(t), b))
			l, err := s.Lock(someByte)
			check(t, err)
			if !probe(t, s, someByte) || probe(t, s, someByte+1) {
				t.Fatal("probe is wrong about the byte or its neighbour")
			}
			_, err = s.Lock(someByte)
			wantIs(t, err, ErrLocked)
			check(t, l.Add(someByte)) // again, by its holder
			other, err := s.NewLock()
			check(t, err)
			wantIs(t, other.Add(someByte), ErrLocked)
			check(t, other.Add(layout.LockProducer))
			check(t, other.Add(someByte+1))
			check(t, other.Drop(someByte+1))
			if probe(t, s, someByte+1) || !probe(t, s, layout.LockProducer) {
				t.Fatal("Drop dropped the wrong byte")
			}
			_, ok, err := s.Hold(someByte)
			if ok || err != nil {
				t.Fatalf("held a locked byte: %v, %v", ok, err)
			}
			check(t, l.Close())
			check(t, l.Close())
			wantIs(t, l.Add(someByte), os.ErrClosed)
			if probe(t, s, someByte) {
				t.Fatal("locked after Close")
			}
			check(t, other.Close())
		})
	}
}

func TestHoldersDoNotReleaseEachOther(t *testing.T) {
	dir := shm(t)
	s := create(t, "a", options(dir, POSIX))
	o, err := Open("a", OpenOptions{Dir: dir})
	check(t, err)
	defer o.Close()
	first, ok, err := s.Hold(someByte)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	second, ok, err := s.Hold(someByte)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	third, ok, err := o.Hold(someByte)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	if probe(t, s, someByte) || probe(t, o, someByte) {
		t.Fatal("a holder looks like a participant")
	}
	for _, release := range []func(){first, first, third} {
		release()
		_, err = o.Lock(someByte)
		wantIs(t, err, ErrLocked)
	}
	second()
	l, err := o.Lock(someByte)
	check(t, err)
	check(t, l.Close())
}

func TestHoldByManyGoroutines(t *testing.T) {
	s := create(t, "a", options(shm(t), POSIX))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				release, ok, err := s.Hold(someByte)
				if !ok || err != nil {
					t.Error(ok, err)
					return
				}
				if _, err := s.Lock(someByte); !errors.Is(err, ErrLocked) {
					t.Errorf("locked while held: %v", err)
				}
				release()
			}
		})
	}
	wg.Wait()
	l, err := s.Lock(someByte)
	check(t, err)
	check(t, l.Close())
}

// A lock ends with its process, however that dies, and only then; a stopped one keeps it.
func TestLockEndsWithItsProcess(t *testing.T) {
	for _, b := range named {
		t.Run(b.String(), func(t *testing.T) {
			dir := shm(t)
			s := create(t, "a", options(dir, b))
			c := start(t, nil, "lock", dir, "a", fmt.Sprint(int64(someByte)))
			c.want("locked")
			if !probe(t, s, someByte) {
				t.Fatal("not seen")
			}
			stop(t, c)
			if !probe(t, s, someByte) {
				t.Fatal("a stopped process lost its lock")
			}
			if _, ok, err := s.Hold(someByte); ok || err != nil {
				t.Fatal(ok, err)
			}
			c.kill()
			eventually(t, "lock of the dead", func() bool { return !probe(t, s, someByte) })
			release, ok, err := s.Hold(someByte)
			if !ok || err != nil {
				t.Fatal(ok, err)
			}
			// While it is held nobody can register.
			refused := start(t, nil, "lock", dir, "a", fmt.Sprint(int64(someByte)))
			refused.want("error")
			release()
			again := start(t, nil, "lock", dir, "a", fmt.Sprint(int64(someByte)))
			again.want("locked")
			again.finish()
			if probe(t, s, someByte) {
				t.Fatal("locked after its process ended")
			}
		})
	}
}

func TestLockAcrossPIDNamespaces(t *testing.T) {
	root(t)
	dir := shm(t)
	s := create(t, "a", options(dir, POSIX))
	c := start(t, func(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID} },
		"lock", dir, "a", fmt.Sprint(int64(someByte)))
	c.want("locked 1") // its own pid
	if !probe(t, s, someByte) {
		t.Fatal("not seen from outside its namespace")
	}
	sibling := start(t, func(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID} },
		"probe", dir, "a", fmt.Sprint(int64(someByte)))
	sibling.want("probed true")
	check(t, s.Close())
	remover := start(t, func(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID} }, "remove", dir, "a")
	remover.want("error seg: remove a: seg: segment is in use")
	c.kill()
	o, err := Open("a", OpenOptions{Dir: dir})
	check(t, err)
	eventually(t, "lock of the dead", func() bool { return !probe(t, o, someByte) })
	check(t, o.Close())
}

func TestObserversOnlyLook(t *testing.T) {
	dir := shm(t)
	s := create(t, "a", options(dir, POSIX))
	r, err := Open("a", OpenOptions{Dir: dir, ReadOnly: true})
	check(t, err)
	defer r.Close()
	_, err = r.Lock(someByte)
	wantIs(t, err, fs.ErrPermission)
	l, err := s.Lock(someByte)
	check(t, err)
	if !probe(t, r, someByte) {
		t.Fatal("not seen by an observer")
	}
	check(t, l.Close())
	release, ok, err := r.Hold(someByte)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	release()
}

func TestLateAccessAfterCloseDoesNotFault(t *testing.T) {
	for _, b := range []Backing{POSIX, SysV, Memfd} {
		for _, exposed := range []bool{false, true} {
			t.Run(fmt.Sprint(b, " exposed ", exposed), func(t *testing.T) {
				dir := shm(t)
				s, err := Create("a", options(dir, b))
				check(t, err)
				var o *Segment
				if b != Memfd {
					o, err = Open("a", OpenOptions{Dir: dir})
					check(t, err)
					defer o.Close()
				}
				if exposed {
					s.Expose()
				}
				mem := s.Bytes()
				m := s.m
				done := make(chan struct{})
				var wg sync.WaitGroup
				for range 2 {
					wg.Go(func() {
						for i := layout.HeaderSize; ; i = layout.HeaderSize + (i+64)%(len(mem)-layout.HeaderSize) {
							select {
							case <-done:
								return
							default:
								mem[i|8] = 1
							}
						}
					})
				}
				check(t, s.Close())
				for i := range mem {
					mem[i] = 0xee
				}
				close(done)
				wg.Wait()
				if o != nil && o.Bytes()[len(o.Bytes())-1] == 0xee {
					t.Fatal("a store after Close reached the segment")
				}
				if o != nil && b == SysV {
					if n, err := o.Attached(); n != 1 || err != nil {
						t.Fatalf("attached %d, %v", n, err)
					}
				}
				for _, err := range []error{second(s.Probe(someByte)), second(s.Lock(someByte)), second(s.NewLock())} {
					wantIs(t, err, os.ErrClosed)
				}
				if b != SysV {
					wantIs(t, second(s.File()), os.ErrClosed)
				}
				_, _, err = s.Hold(someByte)
				wantIs(t, err, os.ErrClosed)
				runtime.KeepAlive(s)

				// The addresses go when the segment is unreachable, unless slices of them are outside.
				s = nil
				addr := uintptr(m.addr)
				if exposed {
					for range 5 {
						runtime.GC()
						time.Sleep(time.Millisecond)
					}
					if !isMapped(t, addr) {
						t.Fatal("exposed memory was unmapped")
					}
					check(t, m.unmap())
					return
				}
				eventually(t, "unmapping", func() bool { runtime.GC(); return !isMapped(t, addr) })
			})
		}
	}
}

func second[T any](_ T, err error) error { return err }

// isMapped says whether there is a mapping at addr.
func isMapped(t testing.TB, addr uintptr) bool {
	b, err := os.ReadFile("/proc/self/maps")
	check(t, err)
	for len(b) > 0 {
		var from, to uintptr
		n := 0
		for n < len(b) && b[n] != '\n' {
			n++
		}
		if _, err := fmt.Sscanf(string(b[:n]), "%x-%x", &from, &to); err == nil && from <= addr && addr < to {
			return true
		}
		b = b[min(n+1, len(b)):]
	}
	return false
}

func TestSegmentThatIsNeverClosedStaysAttached(t *testing.T) {
	dir := shm(t)
	fd := func() int {
		s, err := Create("a", options(dir, POSIX))
		check(t, err)
		l, err := s.Lock(someByte)
		check(t, err)
		_ = l
		return s.fd
	}()
	for range 5 {
		runtime.GC()
	}
	wantIs(t, Remove("a", RemoveOptions{Dir: dir}), ErrInUse)
	o, err := Open("a", OpenOptions{Dir: dir})
	check(t, err)
	if !probe(t, o, someByte) {
		t.Fatal("a forgotten lock was given up")
	}
	check(t, o.Close())
	_ = syscall.Close(fd)
}

func TestCloseFromManyGoroutines(t *testing.T) {
	s := create(t, "a", options(shm(t), POSIX))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				if _, err := s.Probe(someByte); err != nil {
					if !errors.Is(err, os.ErrClosed) {
						t.Error(err)
					}
					return
				}
				if release, ok, err := s.Hold(someByte); err == nil && ok {
					release()
				}
			}
		})
		wg.Go(func() { check(t, s.Close()) })
	}
	wg.Wait()
}

func BenchmarkProbe(b *testing.B) {
	s := create(b, "a", options(shm(b), POSIX))
	l, err := s.Lock(someByte)
	check(b, err)
	defer l.Close()
	b.ReportAllocs()
	for b.Loop() {
		if locked, err := s.Probe(someByte); !locked || err != nil {
			b.Fatal(err)
		}
	}
}
