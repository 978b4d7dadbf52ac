//go:build amd64 || arm64

package seg

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cd1900cf/millrace/internal/layout"
)

// adviseChunk is what one madvise call works on: short enough to make progress between two signals.
const adviseChunk = 64 << 20

// hugetlb says whether the pages come from the pool of huge pages.
func (c *creation) hugetlb() bool { return c.o.Huge == Huge2M || c.o.Huge == Huge1G }

// mapFile maps the first size bytes of a file, under guard.
func mapFile(fd int, size int64, huge HugePages, readOnly bool) (*mapping, error) {
	prot := unix.PROT_READ
	if !readOnly {
		prot |= unix.PROT_WRITE
	}
	if size <= 0 {
		return nil, os.NewSyscallError("mmap", unix.EINVAL)
	}
	m := &mapping{size: uintptr(size)}
	var at unsafe.Pointer
	flags := unix.MAP_SHARED
	if huge == Transparent {
		var err error
		if at, err = alignedRange(m.size); err != nil {
			return nil, err
		}
		flags |= unix.MAP_FIXED
	}
	var err error
	if m.addr, err = unix.MmapPtr(fd, 0, at, m.size, prot, flags); err != nil {
		if at != nil {
			_ = unix.MunmapPtr(at, m.size)
		}
		return nil, os.NewSyscallError("mmap", err)
	}
	if err := m.guard(); err != nil {
		_ = m.unmap()
		return nil, err
	}
	if huge == Transparent {
		_ = unix.Madvise(m.bytes(uint64(m.size)), unix.MADV_HUGEPAGE) // a wish
	}
	return m, nil
}

// alignedRange sets size bytes of addresses aside that begin at a multiple of 2 MiB, so that pages of that size can be
// mapped there. Something is to be mapped over them.
func alignedRange(size uintptr) (unsafe.Pointer, error) {
	size = (size + layout.Page2M - 1) &^ (layout.Page2M - 1)
	all, err := unix.MmapPtr(-1, 0, nil, size+layout.Page2M, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	before := -uintptr(all) & (layout.Page2M - 1)
	bytes := unsafe.Slice((*byte)(all), size+layout.Page2M)
	if before > 0 {
		_ = unix.MunmapPtr(all, before) // only addresses
	}
	if after := layout.Page2M - before; after > 0 {
		_ = unix.MunmapPtr(unsafe.Pointer(&bytes[before+size]), after)
	}
	return unsafe.Pointer(&bytes[before]), nil
}

// collapse makes the pages of a fresh mapping transparent huge pages and says whether all of them became so.
func (m *mapping) collapse() bool {
	mem := m.bytes(uint64(m.size))
	_ = unix.Madvise(mem, unix.MADV_HUGEPAGE) // MADV_COLLAPSE decides
	return advise(mem, unix.MADV_POPULATE_WRITE) == nil && advise(mem, unix.MADV_COLLAPSE) == nil
}

// advise is madvise over a long range, in chunks.
func advise(mem []byte, advice int) error {
	for len(mem) > 0 {
		n := min(len(mem), adviseChunk)
		err := unix.Madvise(mem[:n], advice)
		if err == unix.EINTR || err == unix.EAGAIN && advice == unix.MADV_POPULATE_WRITE {
			continue
		}
		if err != nil {
			return os.NewSyscallError("madvise", err)
		}
		mem = mem[n:]
	}
	return nil
}

// withoutHuge lays a file segment out anew, without the transparent huge pages that it could not get.
func (c *creation) withoutHuge() error {
	if err := c.m.unmap(); err != nil {
		return os.NewSyscallError("munmap", err)
	}
	c.m = nil
	if err := c.fillHeader(NoHuge); err != nil {
		return err
	}
	var err error
	if err = unix.Ftruncate(c.mapFD, int64(c.h.SegmentSize)); err != nil {
		return pathError("truncate", c.path, err)
	}
	c.m, err = mapFile(c.mapFD, int64(c.h.SegmentSize), NoHuge, false)
	return err
}

// checkDir refuses pages that the file system of the directory does not have.
func (c *creation) checkDir() error {
	var fs unix.Statfs_t
	if err := unix.Statfs(c.dir, &fs); err != nil {
		return pathError("statfs", c.dir, err)
	}
	want := int64(0)
	if c.hugetlb() {
		want = layout.PageSize(uint32(c.o.Huge))
	}
	switch isHuge := fs.Type == unix.HUGETLBFS_MAGIC; {
	case isHuge && int64(fs.Bsize) != want:
		return &layout.OptionError{Option: "HugePages", Got: c.o.Huge,
			Want: fmt.Sprintf("the pages of %s, which is a hugetlbfs with pages of %s", c.dir, size(uint64(fs.Bsize)))}
	case !isHuge && want != 0:
		return &layout.OptionError{Option: "HugePages", Got: c.o.Huge,
			Want: fmt.Sprintf("a directory on a hugetlbfs with pages of %s (mount -t hugetlbfs -o pagesize=%v none DIR), or Memfd, or SysV, or Transparent; %s is none",
				size(uint64(want)), c.o.Huge, c.dir)}
	}
	return nil
}

// explainHuge adds to an error what the pool of huge pages looks like and how to fill it.
func (c *creation) explainHuge(op string, err error) error {
	err = pathError(op, c.path, err)
	if !c.hugetlb() {
		return err
	}
	page := uint64(layout.PageSize(uint32(c.o.Huge)))
	dir := fmt.Sprintf("/sys/kernel/mm/hugepages/hugepages-%dkB/", page>>10)
	free, e := readNumber(dir + "free_hugepages")
	if e != nil {
		return fmt.Errorf("%w; this kernel has no huge pages of %s", err, size(page))
	}
	total, _ := readNumber(dir + "nr_hugepages")
	reserved, _ := readNumber(dir + "resv_hugepages")
	return fmt.Errorf("%w; it needs %d huge pages of %s, the pool has %d of which %d are free and %d of those reserved; raise it by writing to %snr_hugepages",
		err, c.h.SegmentSize/page, size(page), total, free, reserved, dir)
}

// readNumber reads a file that holds one number.
func readNumber(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
}

// size writes a number of bytes for people.
func size(n uint64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d bytes", n)
}
