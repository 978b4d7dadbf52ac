//go:build amd64 || arm64

package seg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cd1900cf/millrace/internal/layout"
)

var named = []Backing{POSIX, SysV}

// ways are the ways in which a segment gets its name.
var ways = map[string]Backing{"unnamed": POSIX, "private": POSIX, "sysv": SysV}

// privateNamesFor makes this process and its children create under private names, if the way says so.
func privateNamesFor(t *testing.T, way string) {
	if way == "private" {
		t.Setenv(privateEnv, "1")
		unnamedFiles = false
		t.Cleanup(func() { unnamedFiles = true })
	}
}

func TestCreateOpenRemove(t *testing.T) {
	for _, b := range named {
		t.Run(b.String(), func(t *testing.T) {
			before := shmKeys(t)
			dir := shm(t)
			s := create(t, "a", options(dir, b))
			if n := uint64(len(s.Bytes())); n != s.Header().SegmentSize || n%layout.Page != 0 {
				t.Fatalf("%d bytes mapped, segment_size %d", n, s.Header().SegmentSize)
			}
			if s.Name() != "a" || s.Path() != filepath.Join(dir, "a") || s.ReadOnly() || s.Sealed() != (b == SysV) || s.Huge() != NoHuge {
				t.Fatalf("%+v", s)
			}
			if got := files(t, dir); len(got) != 1 || got[0] != "a" {
				t.Fatalf("files %q", got)
			}
			_, err := Create("a", options(dir, b))
			wantIs(t, err, fs.ErrExist)

			o, err := Open("a", OpenOptions{Dir: dir})
			check(t, err)
			if o.Header() != s.Header() {
				t.Fatalf("headers differ:\n%+v\n%+v", o.Header(), s.Header())
			}
			if got := binary.LittleEndian.Uint64(o.Bytes()[layout.ControlOffset:]); got != mark {
				t.Fatalf("Init's word reads %#x", got)
			}
			s.Bytes()[len(s.Bytes())-1] = 7
			if o.Bytes()[len(o.Bytes())-1] != 7 {
				t.Fatal("the memory is not shared")
			}
			r, err := Open("a", OpenOptions{Dir: dir, ReadOnly: true})
			check(t, err)
			if !r.ReadOnly() || r.Bytes()[len(r.Bytes())-1] != 7 {
				t.Fatal("the observer sees something else")
			}
			n, err := s.Attached()
			if b == SysV && (n != 3 || err != nil) || b != SysV && !errors.Is(err, ErrUnsupported) {
				t.Fatalf("attached %d, %v", n, err)
			}

			wantIs(t, Remove("a", RemoveOptions{Dir: dir}), ErrInUse)
			check(t, o.Close())
			check(t, o.Close())
			wantIs(t, Remove("a", RemoveOptions{Dir: dir}), ErrInUse)
			check(t, s.Close())
			// The observer does not count.
			check(t, Remove("a", RemoveOptions{Dir: dir}))
			wantIs(t, Remove("a", RemoveOptions{Dir: dir}), fs.ErrNotExist)
			_, err = Open("a", OpenOptions{Dir: dir})
			wantIs(t, err, fs.ErrNotExist)
			check(t, r.Close())
			if got := files(t, dir); len(got) != 0 {
				t.Fatalf("left %q", got)
			}
			if after := shmKeys(t); len(after) != len(before) {
				t.Fatalf("System V segments %v, before %v", after, before)
			}
		})
	}
}

func TestRemoveRefusesWhileAnotherProcessIsAttached(t *testing.T) {
	for _, b := range named {
		t.Run(b.String(), func(t *testing.T) {
			dir := shm(t)
			c := start(t, nil, "create", dir, "a", fmt.Sprint(uint32(b)))
			c.want("starting")
			c.want("created")
			wantIs(t, Remove("a", RemoveOptions{Dir: dir}), ErrInUse)
			stop(t, c)
			wantIs(t, Remove("a", RemoveOptions{Dir: dir}), ErrInUse)
			c.kill()
			check(t, Remove("a", RemoveOptions{Dir: dir}))
			if got := files(t, dir); len(got) != 0 {
				t.Fatalf("left %q", got)
			}
		})
	}
}

func TestRemoveCheckAndForce(t *testing.T) {
	for _, b := range named {
		t.Run(b.String(), func(t *testing.T) {
			dir := shm(t)
			s := create(t, "a", options(dir, b))
			called := false
			o := RemoveOptions{Dir: dir, Check: func(mem []byte, h layout.Header) error { called = true; return nil }}
			wantIs(t, Remove("a", o), ErrInUse)
			if called {
				t.Fatal("Check was called while somebody is attached")
			}
			f := RemoveOptions{Dir: dir, Force: func(mem []byte, h layout.Header) error {
				mem[layout.ControlOffset+80] = 9
				return errors.ErrUnsupported
			}}
			wantIs(t, Remove("a", f), errors.ErrUnsupported)
			if s.Bytes()[layout.ControlOffset+80] != 9 {
				t.Fatal("Force did not reach the segment")
			}
			f.Force = func([]byte, layout.Header) error { return nil }
			check(t, Remove("a", f))
			if s.Bytes()[layout.ControlOffset+80] != 9 {
				t.Fatal("the memory went from under an attached handle")
			}
			if got := files(t, dir); len(got) != 0 {
				t.Fatalf("left %q", got)
			}

			check(t, create(t, "a", options(dir, b)).Close())
			no := errors.New("not drained")
			o.Check = func(mem []byte, h layout.Header) error {
				if _, err := Open("a", OpenOptions{Dir: dir, ReadOnly: true}); err != nil {
					return err
				}
				if binary.LittleEndian.Uint64(mem[layout.ControlOffset:]) != mark || uint64(len(mem)) != h.SegmentSize {
					t.Error("Check sees something else")
				}
				return no
			}
			wantIs(t, Remove("a", o), no)
			o.Check = func([]byte, layout.Header) error { return nil }
			check(t, Remove("a", o))
		})
	}
}

// A waiting opener must not come back with a segment that was removed while it waited.
func TestOpenDoesNotReturnARemovedSegment(t *testing.T) {
	dir := shm(t)
	check(t, create(t, "a", options(dir, POSIX)).Close())
	opened := make(chan error)
	err := Remove("a", RemoveOptions{Dir: dir, Check: func([]byte, layout.Header) error {
		go func() {
			_, err := Open("a", OpenOptions{Dir: dir})
			opened <- err
		}()
		// The opener has the file open when a second description of it shows up.
		eventually(t, "opener", func() bool { return descriptors(t, filepath.Join(dir, "a")) > 1 })
		return nil
	}})
	check(t, err)
	wantIs(t, <-opened, fs.ErrNotExist)
}

// descriptors counts the descriptors of this process that lead to path.
func descriptors(t testing.TB, path string) int {
	entries, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	n := 0
	for _, e := range entries {
		if link, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(link, path) {
			n++
		}
	}
	return n
}

func TestOpenIsNotBlockedForEverByARemover(t *testing.T) {
	dir := shm(t)
	check(t, create(t, "a", options(dir, POSIX)).Close())
	check(t, Remove("a", RemoveOptions{Dir: dir, Check: func([]byte, layout.Header) error {
		_, err := Open("a", OpenOptions{Dir: dir})
		wantIs(t, err, ErrInUse)
		return nil
	}}))
}

func TestModeIsExact(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	for _, b := range []Backing{POSIX, SysV, Memfd} {
		for _, mask := range []int{0, 0o077, 0o777} {
			for _, perm := range []fs.FileMode{0, 0o600, 0o666, 0o640, 0o400, 0o222} {
				t.Run(fmt.Sprintf("%v umask %#o perm %#o", b, mask, perm), func(t *testing.T) {
					dir := shm(t)
					unix.Umask(mask)
					defer unix.Umask(0)
					o := options(dir, b)
					o.Perm = perm
					s := create(t, "a", o)
					want := perm
					if want == 0 {
						want = 0o600
					}
					var st unix.Stat_t
					check(t, unix.Fstat(s.fd, &st))
					if got := fs.FileMode(st.Mode & 0o7777); got != want {
						t.Errorf("mode %#o, want %#o", got, want)
					}
					if b == SysV {
						var d unix.SysvShmDesc
						_, err := unix.SysvShmCtl(int(s.Header().SysvID), unix.IPC_STAT, &d)
						check(t, err)
						if got := fs.FileMode(d.Perm.Mode & 0o777); got != want {
							t.Errorf("mode of the System V segment %#o, want %#o", got, want)
						}
					}
					if s.Header().Mode != uint32(want) {
						t.Errorf("mode in the header %#o", s.Header().Mode)
					}
				})
			}
		}
	}
}

func TestCreateRefusesBadOptions(t *testing.T) {
	dir := shm(t)
	for _, spoil := range []func(o *CreateOptions){
		func(o *CreateOptions) { o.Backing = 4 },
		func(o *CreateOptions) { o.Huge = 4 },
		func(o *CreateOptions) { o.Perm = fs.ModeSetuid | 0o600 },
		func(o *CreateOptions) { o.Header.Slots = 3 },
		func(o *CreateOptions) { o.Header.Flags = 4 },
	} {
		o := options(dir, POSIX)
		spoil(&o)
		_, err := Create("a", o)
		var e *OptionError
		if !errors.As(err, &e) || !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("got %v", err)
		}
	}
	if got := files(t, dir); len(got) != 0 {
		t.Fatalf("left %q", got)
	}
}

func TestNames(t *testing.T) {
	dir := shm(t)
	for _, name := range []string{"", ".", "..", "a.b", ".hidden", "a/b", "/a", "../a", "a\x00b", "a\nb", "a\x7f", strings.Repeat("x", 201)} {
		_, cerr := Create(name, options(dir, POSIX))
		_, oerr := Open(name, OpenOptions{Dir: dir})
		_, ierr := Inspect(name, dir)
		for _, err := range []error{cerr, oerr, ierr, Remove(name, RemoveOptions{Dir: dir})} {
			wantIs(t, err, fs.ErrInvalid)
			wantIs(t, err, ErrName)
			if !strings.Contains(err.Error(), "1 to 200 bytes") {
				t.Errorf("%q: the rule is not in the text: %v", name, err)
			}
		}
	}
	for _, name := range []string{"a", strings.Repeat("x", 200), "größe", "a b", "-rf", "\xff"} {
		for _, b := range named {
			s, err := Create(name, options(dir, b))
			check(t, err)
			check(t, s.Close())
			check(t, Remove(name, RemoveOptions{Dir: dir}))
		}
	}
}

func TestPlantedLinksAndOtherFiles(t *testing.T) {
	dir := shm(t)
	elsewhere := shm(t)
	check(t, create(t, "target", options(elsewhere, POSIX)).Close())
	check(t, os.Symlink(filepath.Join(elsewhere, "target"), filepath.Join(dir, "link")))
	check(t, os.Symlink(filepath.Join(elsewhere, "absent"), filepath.Join(dir, "dangling")))
	check(t, os.Mkdir(filepath.Join(dir, "dir"), 0o755))
	check(t, unix.Mkfifo(filepath.Join(dir, "pipe"), 0o666))
	for _, name := range []string{"link", "dangling", "dir", "pipe"} {
		for _, ro := range []bool{false, true} {
			_, err := Open(name, OpenOptions{Dir: dir, ReadOnly: ro})
			if strings.HasSuffix(name, "link") || name == "dangling" {
				wantIs(t, err, syscall.ELOOP)
			} else {
				wantIs(t, err, layout.ErrNotSegment)
			}
		}
		_, err := Create(name, options(dir, POSIX))
		wantIs(t, err, fs.ErrExist)
		if err := Remove(name, RemoveOptions{Dir: dir}); err == nil {
			t.Errorf("%s was removed", name)
		}
		if _, err := Inspect(name, dir); err == nil {
			t.Errorf("%s was inspected", name)
		}
	}
	if got := files(t, elsewhere); len(got) != 1 {
		t.Fatalf("behind the links: %q", got)
	}
	infos, err := List(dir)
	if err != nil || len(infos) != 0 {
		t.Fatalf("List: %v, %v", infos, err)
	}
}

func TestFullDirectory(t *testing.T) {
	dir := mountFS(t, "tmpfs", "size=1m")
	o := options(dir, POSIX)
	o.Header.Slots, o.Header.SlotSize = 1024, 4096
	defer func() { unnamedFiles = true }()
	for _, unnamedFiles = range []bool{true, false} {
		_, err := Create("a", o)
		wantIs(t, err, syscall.ENOSPC)
		var e *fs.PathError
		if !errors.As(err, &e) {
			t.Errorf("%v is no *fs.PathError", err)
		}
		for _, s := range []string{"1048576", "--shm-size", "remount", "SlotSize"} {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("no %q in: %v", s, err)
			}
		}
		if got := files(t, dir); len(got) != 0 {
			t.Fatalf("left %q", got)
		}
		var st unix.Statfs_t
		check(t, unix.Statfs(dir, &st))
		if st.Bfree != st.Blocks {
			t.Errorf("%d of %d blocks free", st.Bfree, st.Blocks)
		}
	}
	o.Header.Slots = 64
	check(t, create(t, "a", o).Close())
}

func TestTooLargeForTheMachine(t *testing.T) {
	for _, b := range []Backing{POSIX, SysV, Memfd} {
		dir := shm(t)
		o := options(dir, b)
		o.Header.Slots, o.Header.SlotSize = 1<<20, 1<<20
		_, err := Create("a", o)
		if !errors.Is(err, syscall.ENOMEM) {
			t.Skipf("this machine has more than 1 TiB, or does not tell: %v", err)
		}
		if !strings.Contains(err.Error(), "has ") || !strings.Contains(err.Error(), "bytes left") {
			t.Errorf("%v", err)
		}
		if got := files(t, dir); len(got) != 0 {
			t.Fatalf("left %q", got)
		}
	}
}

func TestInitPanicLeavesNothing(t *testing.T) {
	before := shmKeys(t)
	for _, b := range named {
		dir := shm(t)
		o := options(dir, b)
		o.Init = func([]byte) { panic("no") }
		func() {
			defer func() { recover() }()
			_, _ = Create("a", o)
		}()
		if got := files(t, dir); len(got) != 0 {
			t.Fatalf("left %q", got)
		}
	}
	if after := shmKeys(t); len(after) != len(before) {
		t.Fatalf("System V segments %v, before %v", after, before)
	}
}

// Between the open and the lock of a remover the name may have gone to another segment, which it must not remove.
func TestRemoveDoesNotTakeAnotherSegmentsName(t *testing.T) {
	dir := shm(t)
	path := filepath.Join(dir, "a")
	check(t, create(t, "a", options(dir, POSIX)).Close())
	fd, err := openRegular(path, unix.O_RDONLY)
	check(t, err)
	defer unix.Close(fd)
	check(t, Remove("a", RemoveOptions{Dir: dir}))
	check(t, create(t, "a", options(dir, POSIX)).Close())
	wantIs(t, removeOpen(fd, "a", dir, path, RemoveOptions{}), errReplaced)
	check(t, Remove("a", RemoveOptions{Dir: dir}))
}

// TestRemoveSeesParticipantsThatCannotFlock: a polling participant (docs/FORMAT.md section 16) has nothing but the lock on its byte.
func TestRemoveSeesParticipantsThatCannotFlock(t *testing.T) {
	dir := shm(t)
	s := create(t, "polled", options(dir, POSIX))
	check(t, s.Close())
	fd, err := unix.Open(s.Path(), unix.O_RDWR|unix.O_CLOEXEC, 0)
	check(t, err)
	ok, err := setLock(fd, layout.LockParticipant+66, unix.F_WRLCK)
	check(t, err)
	if !ok {
		t.Fatal("the byte is locked")
	}
	wantIs(t, Remove("polled", RemoveOptions{Dir: dir}), ErrInUse)
	check(t, unix.Close(fd))
	check(t, Remove("polled", RemoveOptions{Dir: dir}))
}

// Memory of a new segment is mapped and clear, whether or not the kernel has advice for that. Property: its creator touches all of it without a fault.
func TestNewMemoryDoesNotFault(t *testing.T) {
	defer func(was int) { populateAdvice = was }(populateAdvice)
	for _, backing := range []Backing{POSIX, SysV, Memfd} {
		for _, advice := range []int{unix.MADV_POPULATE_WRITE, 1 << 20} {
			populateAdvice = advice
			const pages = 4096
			o := options(t.TempDir(), backing)
			o.Header.Slots, o.Header.SlotSize = pages, layout.Page
			s := create(t, "clear", o)
			mem := s.Bytes()
			before := faults(t)
			for i := layout.ControlOffset; i < len(mem); i += layout.Page {
				mem[i]++
			}
			if n := faults(t) - before; n > pages/8 {
				t.Errorf("%v, advice %d: %d faults for %d pages", backing, advice, n, len(mem)/layout.Page)
			}
			check(t, s.Close())
		}
	}
}

// faults is how many pages this process had mapped so far when it touched them.
func faults(t *testing.T) int64 {
	t.Helper()
	var u unix.Rusage
	check(t, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return u.Minflt
}
