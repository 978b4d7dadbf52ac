//go:build amd64 || arm64

package seg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cd1900cf/millrace/internal/layout"
)

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
					spin := random.IntN(12_000)
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
	wantAlive(t, s)
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
	wantAlive(t, s)
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
	wantAlive(t, b)
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

// The id in a planted anchor may even be right: what counts then is who made anchor and segment.
func TestSweepChecksTheOwnerOfAnAnchor(t *testing.T) {
	root(t)
	dir := shm(t)
	s := create(t, "victim", options(dir, SysV))
	b, err := os.ReadFile(s.Path())
	check(t, err)
	planted := newPrivateName("planted", dir)
	check(t, os.WriteFile(planted, b, 0o600))
	check(t, os.Chown(planted, 65534, 65534))
	removed, err := Sweep(dir)
	if err != nil || len(removed) != 1 || removed[0] != planted {
		t.Fatalf("swept %q, %v", removed, err)
	}
	wantAlive(t, s)
}

// A sweep can take the private name in the moment in which its creator converts the lock. The creator starts again.
func TestCreatorSurvivesASweep(t *testing.T) {
	privateNamesFor(t, "private")
	for _, b := range named {
		before := shmKeys(t)
		dir := shm(t)
		o := options(dir, b)
		init, calls := o.Init, 0
		o.Init = func(mem []byte) {
			if calls++; calls == 1 {
				for _, name := range files(t, dir) {
					check(t, os.Remove(filepath.Join(dir, name)))
				}
			}
			init(mem)
		}
		check(t, create(t, "a", o).Close())
		if calls != 2 {
			t.Fatalf("%d attempts, want 2", calls)
		}
		check(t, Remove("a", RemoveOptions{Dir: dir}))
		if after := shmKeys(t); len(after) != len(before) {
			t.Fatalf("System V segments %v, before %v", after, before)
		}
	}
}
