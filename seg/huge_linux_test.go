//go:build amd64 || arm64

package seg

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/cd1900cf/millrace/internal/layout"
)

const (
	pool2M = "/sys/kernel/mm/hugepages/hugepages-2048kB/"
	pool1G = "/sys/kernel/mm/hugepages/hugepages-1048576kB/"
)

// freePages returns how many 2 MiB pages are neither used nor reserved.
func freePages(t *testing.T) uint64 {
	t.Helper()
	free, err := readNumber(pool2M + "free_hugepages")
	check(t, err)
	reserved, err := readNumber(pool2M + "resv_hugepages")
	check(t, err)
	return free - reserved
}

// fillPool gives the pool of 2 MiB pages n more pages for the length of the test.
func fillPool(t *testing.T, n uint64) {
	t.Helper()
	root(t)
	old, err := readNumber(pool2M + "nr_hugepages")
	if err != nil {
		t.Skipf("no huge pages: %v", err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(pool2M+"nr_hugepages", fmt.Append(nil, old), 0); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(pool2M+"nr_hugepages", fmt.Append(nil, old+n), 0); err != nil {
		t.Skip(err)
	}
	if free := freePages(t); free < n {
		t.Skipf("%d of %d huge pages could be had", free, n)
	}
}

func emptyPool(t *testing.T, dir string) {
	t.Helper()
	free, err := readNumber(dir + "free_hugepages")
	over, _ := readNumber(dir + "nr_overcommit_hugepages")
	if err != nil || free > 0 || over > 0 {
		t.Skipf("the pool is not empty: %d, %v", free, err)
	}
}

func TestHugePagesThatAreNotThere(t *testing.T) {
	for huge, dir := range map[HugePages]string{Huge2M: pool2M, Huge1G: pool1G} {
		for _, b := range []Backing{SysV, Memfd} {
			t.Run(fmt.Sprint(b, huge), func(t *testing.T) {
				emptyPool(t, dir)
				d := shm(t)
				o := options(d, b)
				o.Huge = huge
				_, err := Create("a", o)
				if !errors.Is(err, syscall.ENOMEM) && !errors.Is(err, syscall.ENOSPC) {
					t.Fatalf("got %v", err)
				}
				if s := err.Error(); !strings.Contains(s, "nr_hugepages") || !strings.Contains(s, "1 huge pages") {
					t.Errorf("no remedy in: %v", err)
				}
				if got := files(t, d); len(got) != 0 {
					t.Fatalf("left %q", got)
				}
			})
		}
	}
	t.Run("directory", func(t *testing.T) {
		o := options(shm(t), POSIX)
		o.Huge = Huge2M
		_, err := Create("a", o)
		wantIs(t, err, fs.ErrInvalid)
		if !strings.Contains(err.Error(), "hugetlbfs") {
			t.Errorf("got %v", err)
		}
	})
}

func TestHugePages(t *testing.T) {
	for _, b := range []Backing{POSIX, SysV, Memfd} {
		t.Run(b.String(), func(t *testing.T) {
			fillPool(t, 3)
			pages := freePages(t)
			dir := ""
			switch b {
			case POSIX:
				dir = mountFS(t, "hugetlbfs", "pagesize=2M")
				o := options(dir, b)
				_, err := Create("a", o)
				wantIs(t, err, fs.ErrInvalid)
				o.Huge = Huge1G
				_, err = Create("a", o)
				wantIs(t, err, fs.ErrInvalid)
			case SysV:
				dir = shm(t)
			}
			o := options(dir, b)
			o.Huge = Huge2M
			o.Header.Slots, o.Header.SlotSize = 16, 200<<10 // two pages
			s, err := Create("a", o)
			check(t, err)
			if n := len(s.Bytes()); n != 2*layout.Page2M || s.Huge() != Huge2M {
				t.Fatalf("%d bytes, pages %v", n, s.Huge())
			}
			if free := freePages(t); free != pages-2 {
				t.Errorf("%d pages free, of %d before", free, pages)
			}
			var other *Segment
			if b == Memfd {
				f, err := s.File()
				check(t, err)
				c := start(t, func(cmd *exec.Cmd) { cmd.ExtraFiles = []*os.File{f} }, "descriptor")
				c.want("attached")
				c.finish()
				other, err = OpenFile(f, OpenOptions{})
				check(t, err)
				check(t, f.Close())
			} else {
				other, err = Open("a", OpenOptions{Dir: dir})
				check(t, err)
			}
			mem := s.Bytes()
			mem[len(mem)-1] = 9
			if other.Bytes()[len(mem)-1] != 9 || binary.LittleEndian.Uint64(other.Bytes()[layout.ControlOffset:]) != mark {
				t.Fatal("the memory is not shared")
			}
			l, err := s.Lock(someByte)
			check(t, err)
			if !probe(t, other, someByte) {
				t.Fatal("lock not seen")
			}
			check(t, l.Close())
			check(t, other.Close())
			if b != Memfd {
				wantIs(t, Remove("a", RemoveOptions{Dir: dir}), ErrInUse)
			}
			check(t, s.Close())
			mem[len(mem)-1] = 1 // private now
			if b != Memfd {
				check(t, Remove("a", RemoveOptions{Dir: dir}))
			}
			if free := freePages(t); free != pages {
				t.Errorf("%d pages free afterwards, of %d", free, pages)
			}
		})
	}
}

// pmdMapped adds up what the mappings of this process at the segment's addresses map with huge entries.
func pmdMapped(t *testing.T, s *Segment) (kB uint64) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/smaps")
	check(t, err)
	inside := false
	for _, line := range bytes.Split(b, []byte("\n")) {
		var from, to uintptr
		if n, _ := fmt.Sscanf(string(line), "%x-%x", &from, &to); n == 2 {
			inside = from == uintptr(s.m.addr)
		}
		var n uint64
		if _, err := fmt.Sscanf(string(line), "ShmemPmdMapped: %d kB", &n); err == nil && inside {
			kB += n
		}
	}
	return kB
}

func TestTransparentHugePages(t *testing.T) {
	for _, b := range []Backing{POSIX, SysV, Memfd} {
		t.Run(b.String(), func(t *testing.T) {
			dir := shm(t)
			o := options(dir, b)
			o.Huge = Transparent
			o.Header.Slots, o.Header.SlotSize = 16, 200<<10
			s := create(t, "a", o)
			if binary.LittleEndian.Uint64(s.Bytes()[layout.ControlOffset:]) != mark {
				t.Fatal("not initialised")
			}
			if s.Huge() == NoHuge {
				if s.Header().SegmentSize%layout.Page2M == 0 {
					t.Errorf("segment_size %d was not laid out anew", s.Header().SegmentSize)
				}
				t.Skip("the kernel gave no transparent huge pages; the segment works without")
			}
			if uintptr(s.m.addr)%layout.Page2M != 0 || s.Header().SegmentSize != 2*layout.Page2M {
				t.Fatalf("at %p, %d bytes", s.m.addr, s.Header().SegmentSize)
			}
			if got := pmdMapped(t, s); got != 4096 {
				t.Errorf("%d kB are mapped by huge entries, want 4096", got)
			}
			if b == Memfd {
				return
			}
			other, err := Open("a", OpenOptions{Dir: dir})
			check(t, err)
			defer other.Close()
			if uintptr(other.m.addr)%layout.Page2M != 0 {
				t.Errorf("opened at %p", other.m.addr)
			}
			sum := 0
			for i := 0; i < len(other.Bytes()); i += 4096 {
				sum += int(other.Bytes()[i])
			}
			if got := pmdMapped(t, other); got != 4096 || sum == 0 {
				t.Errorf("%d kB are mapped by huge entries when opened, want 4096", got)
			}
		})
	}
}

// Where there are none, the segment is laid out anew without them and everything else works.
func TestWithoutTransparentHugePages(t *testing.T) {
	dir := shm(t)
	c := &creation{name: "a", dir: dir, path: dir + "/a", o: options(dir, POSIX), mapFD: -1, lockFD: -1, shm: -1}
	c.o.Backing, c.o.Huge = POSIX, Transparent
	check(t, c.fillHeader(Transparent))
	id, large := c.h.ID, c.h.SegmentSize
	check(t, c.openUnnamed())
	check(t, c.reserve(c.mapFD))
	var err error
	c.m, err = mapFile(c.mapFD, int64(c.h.SegmentSize), Transparent, false)
	check(t, err)
	check(t, c.withoutHuge())
	check(t, c.fillMemory())
	check(t, c.publish())
	if c.h.ID != id || c.h.SegmentSize >= large || HugePages(c.h.Huge) != NoHuge {
		t.Fatalf("%+v", c.h)
	}
	s, err := Open("a", OpenOptions{Dir: dir})
	check(t, err)
	if s.Huge() != NoHuge || s.Header().SegmentSize != c.h.SegmentSize {
		t.Fatalf("%+v", s.Header())
	}
	check(t, s.Close())
	c.undo()
	check(t, Remove("a", RemoveOptions{Dir: dir}))
}
