//go:build amd64 || arm64

package seg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cespare/xxhash/v2"
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

// Every way in which a file is not a sound segment has its own error, from every way to open it, and no signal.
func TestOpenNamesWhatIsWrong(t *testing.T) {
	le := binary.LittleEndian
	seal := func(b []byte) { le.PutUint64(b[layout.HeaderChecksum:], xxhash.Sum64(b[:layout.HeaderChecksum])) }
	for _, c := range []struct {
		name      string
		spoil     func(b []byte) []byte
		want      error
		removable bool
	}{
		{"foreign", func(b []byte) []byte { return []byte("something else entirely") }, layout.ErrNotSegment, false},
		{"large foreign", func(b []byte) []byte { return make([]byte, 1<<20) }, layout.ErrNotSegment, false},
		{"empty", func(b []byte) []byte { return nil }, layout.ErrNotSegment, false},
		{"cut header", func(b []byte) []byte { return b[:100] }, layout.ErrNotSegment, true},
		{"only header", func(b []byte) []byte { return b[:4096] }, layout.ErrCorrupt, true},
		{"truncated", func(b []byte) []byte { return b[:len(b)-1] }, layout.ErrCorrupt, true},
		{"version", func(b []byte) []byte { b[layout.HeaderVersion] = 2; seal(b); return b }, layout.ErrVersion, true},
		{"byte order", func(b []byte) []byte { le.PutUint32(b[layout.HeaderByteOrder:], 0x0D0C0B0A); seal(b); return b }, layout.ErrByteOrder, true},
		{"layout", func(b []byte) []byte { b[layout.HeaderLayout]++; seal(b); return b }, layout.ErrLayout, true},
		{"offsets", func(b []byte) []byte { b[layout.HeaderDataOffset]++; seal(b); return b }, layout.ErrLayout, true},
		{"checksum", func(b []byte) []byte { b[layout.HeaderSlots]++; return b }, layout.ErrCorrupt, true},
		{"not ready", func(b []byte) []byte { b[layout.HeaderReady] = 0; return b }, layout.ErrCorrupt, true},
		{"memfd copy", func(b []byte) []byte { b[layout.HeaderBacking] = layout.BackingMemfd; seal(b); return b }, ErrUnsupported, true},
		{"anchor of nothing", func(b []byte) []byte {
			b[layout.HeaderBacking] = layout.BackingSysV
			le.PutUint32(b[layout.HeaderSysvID:], 0x7ffffff0)
			seal(b)
			return b[:4096]
		}, layout.ErrCorrupt, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := shm(t)
			path := filepath.Join(dir, "a")
			check(t, create(t, "a", options(dir, POSIX)).Close())
			b, err := os.ReadFile(path)
			check(t, err)
			check(t, os.WriteFile(path, c.spoil(b), 0o600))
			for _, ro := range []bool{false, true} {
				_, err := Open("a", OpenOptions{Dir: dir, ReadOnly: ro})
				wantIs(t, err, c.want)
				var f *FormatError
				if c.want != ErrUnsupported && !errors.As(err, &f) {
					t.Errorf("%v is no *FormatError", err)
				}
			}
			if n := descriptors(t, path); n != 0 {
				t.Errorf("%d descriptors left open", n)
			}
			info, err := Inspect("a", dir)
			switch {
			case c.removable && err != nil:
				t.Errorf("Inspect: %v", err)
			case c.removable && c.want != ErrUnsupported:
				wantIs(t, info.Err, c.want)
			case !c.removable:
				wantIs(t, err, layout.ErrNotSegment)
			}
			err = Remove("a", RemoveOptions{Dir: dir})
			if c.removable {
				check(t, err)
			} else {
				wantIs(t, err, layout.ErrNotSegment)
			}
		})
	}
}

// A file that shrinks between the check of its size and the first access must not kill the process.
func TestTruncationWhileOpeningIsAnError(t *testing.T) {
	dir := shm(t)
	s := create(t, "a", options(dir, POSIX))
	check(t, os.Truncate(s.Path(), 0))
	m, err := mapFile(s.fd, 1<<20, NoHuge, true)
	check(t, err)
	defer m.unmap()
	err = guard(m, func() error { _ = ready(m.bytes(4096)).Load(); return nil })
	wantIs(t, err, layout.ErrCorrupt)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a fault elsewhere was swallowed")
			}
		}()
		_ = guard(m, func() error { var p *int; *p = 1; return nil })
	}()
}

func TestOpenAsAnotherUser(t *testing.T) {
	root(t)
	dir := shm(t)
	check(t, os.Chmod(dir, 0o777|fs.ModeSticky))
	nobody := func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	for _, b := range named {
		for perm, want := range map[fs.FileMode]string{0o600: "refused true true", 0o644: "observed true", 0o666: "opened"} {
			o := options(dir, b)
			o.Perm = perm
			s := create(t, "a", o)
			c := start(t, nobody, "open", dir, "a")
			c.want(want)
			c.finish()
			check(t, s.Close())
			check(t, Remove("a", RemoveOptions{Dir: dir}))
		}
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

// 64 processes race for one name. Exactly one creates, the others get the same segment, none sees half of it. Then
// again with processes that are killed at random moments: the name must stay usable and the sweep must leave nothing.
func TestCreationRace(t *testing.T) {
	for name, b := range ways {
		t.Run(name, func(t *testing.T) {
			privateNamesFor(t, name)
			dir := shm(t)
			children := make([]*child, 64)
			for i := range children {
				children[i] = start(t, nil, "create", dir, "a", fmt.Sprint(uint32(b)))
			}
			created := 0
			for _, c := range children {
				c.want("starting")
				switch got := c.line(); got {
				case "created":
					created++
				case "exists":
				default:
					t.Fatalf("child says %q", got)
				}
			}
			if created != 1 {
				t.Fatalf("%d processes created the segment", created)
			}
			for _, c := range children {
				c.finish()
			}
			check(t, Remove("a", RemoveOptions{Dir: dir}))
			if got := files(t, dir); len(got) != 0 {
				t.Fatalf("left %q", got)
			}
		})
	}
}

func TestKilledCreators(t *testing.T) {
	for name, b := range ways {
		t.Run(name, func(t *testing.T) {
			privateNamesFor(t, name)
			before := shmKeys(t)
			dir := shm(t)
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			rounds := 40
			if testing.Short() {
				rounds = 8
			}
			swept := 0
			for range rounds {
				var wg sync.WaitGroup
				for range 4 {
					c := start(t, nil, "create", dir, "a", fmt.Sprint(uint32(b)))
					spin := random.IntN(60_000)
					wg.Go(func() {
						c.line()
						for range spin { // a moment somewhere within the creation
							_ = unix.Getpid()
						}
						_ = c.cmd.Process.Kill()
						_ = c.cmd.Wait()
					})
				}
				wg.Wait()
				s, err := Create("a", options(dir, b))
				if errors.Is(err, fs.ErrExist) {
					s, err = Open("a", OpenOptions{Dir: dir})
				}
				check(t, err)
				if got := binary.LittleEndian.Uint64(s.Bytes()[layout.ControlOffset:]); got != mark {
					t.Fatalf("half-made segment: %#x", got)
				}
				check(t, s.Close())
				check(t, Remove("a", RemoveOptions{Dir: dir}))
				removed, err := Sweep(dir)
				check(t, err)
				swept += len(removed)
				if got := files(t, dir); len(got) != 0 {
					t.Fatalf("left %q", got)
				}
			}
			t.Logf("%d private names swept", swept)
			if after := shmKeys(t); len(after) != len(before) {
				t.Fatalf("System V segments %v, before %v", after, before)
			}
		})
	}
}

func TestSweepLeavesTheLivingAlone(t *testing.T) {
	dir := shm(t)
	inside := func() {
		removed, err := Sweep(dir)
		if err != nil || len(removed) != 0 {
			t.Errorf("swept %q, %v", removed, err)
		}
	}
	o := options(dir, SysV)
	init := o.Init
	o.Init = func(mem []byte) {
		if got := files(t, dir); len(got) != 1 || got[0][0] != '.' {
			t.Errorf("files %q", got)
		}
		inside()
		init(mem)
	}
	s := create(t, "a", o)
	inside()
	// A creator that died between giving the name and removing the private one.
	second := newPrivateName("a", dir)
	check(t, os.Link(s.Path(), second))
	removed, err := Sweep(dir)
	if err != nil || len(removed) != 1 || removed[0] != second {
		t.Fatalf("swept %q, %v", removed, err)
	}
	if n, err := s.Attached(); n != 1 || err != nil {
		t.Fatalf("the segment itself went: %d, %v", n, err)
	}
	// The same, found by Remove.
	check(t, os.Link(s.Path(), second))
	check(t, s.Close())
	check(t, Remove("a", RemoveOptions{Dir: dir}))
	if got := files(t, dir); len(got) != 0 {
		t.Fatalf("left %q", got)
	}
	for _, name := range []string{".other.tmp", ".a.0123.tmp", ".a.0123456789abcdef.swp"} {
		check(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	inside()
}

// Somebody plants a private anchor that names a segment of somebody else: the sweep removes the file only.
func TestSweepDoesNotRemoveSegmentsOfOthers(t *testing.T) {
	dir := shm(t)
	s := create(t, "victim", options(dir, SysV))
	h := s.Header()
	h.ID[0] ^= 1
	b := make([]byte, layout.HeaderSize)
	h.Encode(b)
	planted := newPrivateName("planted", dir)
	check(t, os.WriteFile(planted, b, 0o600))
	removed, err := Sweep(dir)
	if err != nil || len(removed) != 1 || removed[0] != planted {
		t.Fatalf("swept %q, %v", removed, err)
	}
	if n, err := s.Attached(); n != 1 || err != nil {
		t.Fatalf("the segment went: %d, %v", n, err)
	}
	o, err := Open("victim", OpenOptions{Dir: dir})
	check(t, err)
	check(t, o.Close())
}

func TestSysVAnchorMustBelongToItsSegment(t *testing.T) {
	dir := shm(t)
	a := create(t, "a", options(dir, SysV))
	b := create(t, "b", options(dir, SysV))
	h := a.Header()
	h.SysvID, h.SysvKey = b.Header().SysvID, b.Header().SysvKey
	page := make([]byte, layout.HeaderSize)
	h.Encode(page)
	page[layout.HeaderReady] = 1
	check(t, os.WriteFile(filepath.Join(dir, "c"), page, 0o600))
	_, err := Open("c", OpenOptions{Dir: dir})
	var f *FormatError
	if !errors.As(err, &f) || f.Field != "id" {
		t.Fatalf("got %v", err)
	}
	// Removing the forged anchor leaves the segment of b alone.
	check(t, Remove("c", RemoveOptions{Dir: dir}))
	if n, err := b.Attached(); n != 1 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	// The segment is gone, or in another IPC namespace.
	_, err = unix.SysvShmCtl(int(a.Header().SysvID), unix.IPC_RMID, nil)
	check(t, err)
	check(t, a.Close())
	_, err = Open("a", OpenOptions{Dir: dir})
	if !errors.As(err, &f) || f.Field != "sysv_id" || !strings.Contains(err.Error(), "IPC namespace") {
		t.Fatalf("got %v", err)
	}
	check(t, Remove("a", RemoveOptions{Dir: dir}))
}

func TestMemfdIsHandedOnByDescriptor(t *testing.T) {
	s := create(t, "ring", options("", Memfd))
	if s.Path() != "" || s.Name() != "ring" || !s.Sealed() {
		t.Fatalf("path %q, name %q, sealed %v", s.Path(), s.Name(), s.Sealed())
	}
	f, err := s.File()
	check(t, err)
	defer f.Close()
	if err := f.Truncate(0); !errors.Is(err, syscall.EPERM) {
		t.Fatalf("the seal does not hold: %v", err)
	}
	c := start(t, func(cmd *exec.Cmd) { cmd.ExtraFiles = []*os.File{f} }, "descriptor")
	c.want("attached ring")
	if s.Bytes()[layout.ControlOffset+64] != 42 {
		t.Fatal("the memory is not shared")
	}
	locked, err := s.Probe(layout.LockParticipant)
	if !locked || err != nil {
		t.Fatalf("probe %v, %v", locked, err)
	}
	c.kill()
	eventually(t, "lock of the dead", func() bool {
		locked, err := s.Probe(layout.LockParticipant)
		check(t, err)
		return !locked
	})
	_, err = s.Attached()
	wantIs(t, err, ErrUnsupported)

	o, err := OpenFile(f, OpenOptions{ReadOnly: true})
	check(t, err)
	if o.Header() != s.Header() || !o.Sealed() || o.Name() != "ring" {
		t.Fatalf("%+v", o)
	}
	check(t, o.Close())
}

func TestOpenFile(t *testing.T) {
	dir := shm(t)
	s := create(t, "a", options(dir, POSIX))
	f, err := s.File()
	check(t, err)
	o, err := OpenFile(f, OpenOptions{})
	check(t, err)
	check(t, f.Close())
	if o.Name() != "a" || o.Path() != s.Path() || o.Sealed() {
		t.Fatalf("%q %q", o.Name(), o.Path())
	}
	check(t, s.Close())
	wantIs(t, Remove("a", RemoveOptions{Dir: dir}), ErrInUse)
	check(t, o.Close())

	other := filepath.Join(dir, "other")
	check(t, os.WriteFile(other, []byte("hello"), 0o600))
	f, err = os.Open(other)
	check(t, err)
	defer f.Close()
	_, err = OpenFile(f, OpenOptions{ReadOnly: true})
	wantIs(t, err, layout.ErrNotSegment)
	r, w, err := os.Pipe()
	check(t, err)
	defer r.Close()
	defer w.Close()
	_, err = OpenFile(r, OpenOptions{ReadOnly: true})
	wantIs(t, err, layout.ErrNotSegment)

	v := create(t, "v", options(dir, SysV))
	_, err = v.File()
	wantIs(t, err, ErrUnsupported)
}

func TestOwnOnly(t *testing.T) {
	root(t)
	dir := shm(t)
	s := create(t, "a", options(dir, POSIX))
	check(t, os.Chmod(dir, 0o777|fs.ModeSticky))
	open := func() error {
		o, err := Open("a", OpenOptions{Dir: dir, OwnOnly: true})
		if err == nil {
			check(t, o.Close())
		}
		return err
	}
	check(t, open())
	check(t, os.Chown(s.Path(), 65534, 65534))
	wantIs(t, open(), fs.ErrPermission)
	check(t, os.Chmod(dir, 0o755))
	check(t, open())
}

func TestListAndInspect(t *testing.T) {
	dir := shm(t)
	p := create(t, "p", options(dir, POSIX))
	v := create(t, "v", options(dir, SysV))
	idle := create(t, "idle", options(dir, POSIX))
	check(t, idle.Close())
	check(t, os.WriteFile(filepath.Join(dir, "other"), []byte("hello"), 0o600))
	check(t, create(t, "bad", options(dir, POSIX)).Close())
	check(t, os.Truncate(filepath.Join(dir, "bad"), 8192))
	infos, err := List(dir)
	check(t, err)
	got := map[string]Info{}
	for _, i := range infos {
		got[i.Name] = i
	}
	if len(got) != 4 {
		t.Fatalf("listed %v", infos)
	}
	for name, attached := range map[string]bool{"p": true, "v": true, "idle": false, "bad": false} {
		i := got[name]
		if i.Attached != attached || i.Mode != 0o600 || i.UID != uint32(os.Geteuid()) || i.ModTime.IsZero() || i.Path != filepath.Join(dir, name) {
			t.Errorf("%s: %+v", name, i)
		}
	}
	wantIs(t, got["bad"].Err, layout.ErrCorrupt)
	if got["p"].Header != p.Header() || got["p"].Err != nil || got["p"].NAttach != 1 || got["v"].NAttach != 1 {
		t.Errorf("%+v", got["p"])
	}
	if got["v"].Size != int64(v.Header().SegmentSize) {
		t.Errorf("size of the System V segment %d", got["v"].Size)
	}
	_, err = Inspect("other", dir)
	wantIs(t, err, layout.ErrNotSegment)
	_, err = Inspect("absent", dir)
	wantIs(t, err, fs.ErrNotExist)
	_, err = List(filepath.Join(dir, "absent"))
	wantIs(t, err, fs.ErrNotExist)
}

func TestDefaultDir(t *testing.T) {
	t.Setenv("MILLRACE_DIR", "")
	if DefaultDir() != "/dev/shm" {
		t.Fatal(DefaultDir())
	}
	dir := shm(t)
	t.Setenv("MILLRACE_DIR", dir)
	create(t, "a", options("", POSIX))
	if got := files(t, dir); len(got) != 1 {
		t.Fatalf("files %q", got)
	}
	o := options(filepath.Join(dir, "absent"), POSIX)
	_, err := Create("a", o)
	wantIs(t, err, fs.ErrNotExist)
}
