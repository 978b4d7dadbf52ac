//go:build amd64 || arm64

package seg

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/internal/testpoint"
)

// A System V segment has no place in a directory and no descriptor. It is found through its anchor, a file that holds
// the same header: with the key and the id of the segment, and for the locks. Both carry the same random id, so that an
// anchor whose segment is gone, or that came from another IPC namespace, is not taken for another one.

// Flags of shmget and shmat that package unix does not have.
const (
	shmHugeTLB = 0o4000
	shmHuge2M  = 21 << 26
	shmHuge1G  = 30 << 26
	shmRemap   = 0o40000
)

// keyTries bounds how many random keys are tried that somebody else has already.
const keyTries = 100

// makeSysV makes anchor and segment. The key is in the anchor before the segment exists, so that a sweep finds the
// segment of a creator that died.
func (c *creation) makeSysV() error {
	if err := c.checkMemory(); err != nil {
		return err
	}
	if err := c.openPrivate(); err != nil {
		return err
	}
	if err := c.getSysV(); err != nil {
		return err
	}
	testpoint.Hit("seg.create.shmget")
	var err error
	if c.m, err = mapSysV(c.shm, c.h.SegmentSize, c.o.Huge, false); err != nil {
		return c.explainSysV("shmat", err)
	}
	copy(c.m.bytes(c.h.SegmentSize)[layout.HeaderID:], c.h.ID[:]) // from here on a sweep is sure whose it is
	if err := c.populate(); err != nil {
		return err
	}
	if c.o.Huge == Transparent && !c.m.collapse() {
		// The segment keeps its size, which is a little more than needed.
		if err := c.fillHeader(NoHuge); err != nil {
			return err
		}
	}
	if err := c.fillMemory(); err != nil {
		return err
	}
	if err := c.setSysVMode(); err != nil {
		return err
	}
	anchor := bytes.Clone(c.m.bytes(layout.HeaderSize))
	if err := c.writeAnchor(anchor); err != nil {
		return err
	}
	testpoint.Hit("seg.create.anchor")
	if err := unix.Fchmod(c.mapFD, uint32(c.o.Perm)); err != nil {
		return pathError("chmod", c.private, err)
	}
	return c.publish()
}

// getSysV chooses a key, writes it into the anchor and makes the segment.
func (c *creation) getSysV() error {
	flags := unix.IPC_CREAT | unix.IPC_EXCL | int(c.o.Perm) | defaultPerm
	switch c.o.Huge {
	case Huge2M:
		flags |= shmHugeTLB | shmHuge2M
	case Huge1G:
		flags |= shmHugeTLB | shmHuge1G
	}
	for range keyTries {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails
		if c.h.SysvKey = binary.LittleEndian.Uint32(b[:]); c.h.SysvKey == unix.IPC_PRIVATE {
			continue
		}
		anchor := make([]byte, layout.HeaderSize)
		c.h.Encode(anchor)
		if err := c.writeAnchor(anchor); err != nil {
			return err
		}
		testpoint.Hit("seg.create.key")
		id, err := unix.SysvShmGet(int(int32(c.h.SysvKey)), int(c.h.SegmentSize), flags)
		if err == unix.EEXIST {
			continue
		}
		if err != nil {
			return c.explainSysV("shmget", err)
		}
		c.shm, c.h.SysvID = id, uint32(id)
		return nil
	}
	return fmt.Errorf("%d random keys were all taken: %w", keyTries, pathError("shmget", c.path, unix.EEXIST))
}

// writeAnchor writes the anchor file.
func (c *creation) writeAnchor(b []byte) error {
	for at := 0; at < len(b); {
		n, err := unix.Pwrite(c.mapFD, b[at:], int64(at))
		if err != nil && err != unix.EINTR {
			return c.explainSpace("write", err)
		}
		at += max(n, 0)
	}
	return nil
}

// setSysVMode takes the bits away that were only needed to fill the segment.
func (c *creation) setSysVMode() error {
	if c.o.Perm&defaultPerm == defaultPerm {
		return nil
	}
	var d unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(c.shm, unix.IPC_STAT, &d); err != nil {
		return pathError("shmctl IPC_STAT", c.path, err)
	}
	d.Perm.Mode = uint32(c.o.Perm)
	_, err := unix.SysvShmCtl(c.shm, unix.IPC_SET, &d)
	return pathError("shmctl IPC_SET", c.path, err)
}

// mapSysV attaches the segment with this id, which must have at least size bytes.
func mapSysV(id int, size uint64, huge HugePages, readOnly bool) (*mapping, error) {
	flags := 0
	if readOnly {
		flags |= unix.SHM_RDONLY
	}
	var at unsafe.Pointer
	if huge == Transparent {
		var err error
		if at, err = alignedRange(uintptr(size)); err != nil {
			return nil, err
		}
		flags |= shmRemap
	}
	b, err := unix.SysvShmAttach(id, uintptr(at), flags)
	if err != nil {
		if at != nil {
			_ = unix.MunmapPtr(at, uintptr(size))
		}
		return nil, os.NewSyscallError("shmat", err)
	}
	m := &mapping{addr: unsafe.Pointer(unsafe.SliceData(b)), size: uintptr(len(b))}
	if uint64(len(b)) < size {
		_ = m.unmap()
		return nil, &layout.FormatError{Field: "sysv_id", Got: fmt.Sprintf("a segment of %d bytes", len(b)),
			Want: fmt.Sprintf("at least segment_size, %d bytes", size), Err: layout.ErrCorrupt}
	}
	return m, nil
}

// attachSysV attaches the segment that a checked anchor names, and makes sure that it is that one.
func attachSysV(h *layout.Header, readOnly bool) (*mapping, error) {
	m, err := mapSysV(int(int32(h.SysvID)), h.SegmentSize, HugePages(h.Huge), readOnly)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EIDRM) {
		return nil, &layout.FormatError{Field: "sysv_id", Got: fmt.Sprintf("%d, which this IPC namespace does not have", int32(h.SysvID)),
			Want: "the segment of the anchor", Err: layout.ErrCorrupt}
	}
	if err != nil {
		return nil, err
	}
	own, err := layout.Decode(bytes.Clone(m.bytes(layout.HeaderSize)), int64(m.size))
	if err == nil && own != *h {
		err = &layout.FormatError{Field: "id", Got: fmt.Sprintf("%x in the System V segment", own.ID), Want: fmt.Sprintf("%x as in its anchor", h.ID), Err: layout.ErrCorrupt}
	}
	if err != nil {
		_ = m.unmap()
		return nil, err
	}
	return m, nil
}

// Attached returns how often a System V segment is attached: every open Segment counts once, observers included.
//
// Failure: ErrUnsupported for other backings.
func (s *Segment) Attached() (nattch int, err error) {
	if s.header.Backing != layout.BackingSysV {
		return 0, fmt.Errorf("seg: attachments of %s: %w", s.name, ErrUnsupported)
	}
	var d unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(int(int32(s.header.SysvID)), unix.IPC_STAT, &d); err != nil {
		return 0, fmt.Errorf("seg: attachments of %s: %w", s.name, os.NewSyscallError("shmctl", err))
	}
	return int(d.Nattch), nil
}

// removeSysV removes the segment of an anchor, if it exists and is that of the anchor. complete says that the anchor
// was published; otherwise its creator died, perhaps before it wrote the segment's id. uid is the owner of the anchor: a
// planted anchor cannot make anybody remove a segment that its owner did not make himself.
//
// The anchor outlives the segment, never the other way round: a segment without an anchor could not be found.
func removeSysV(h *layout.Header, uid uint32, complete bool) error {
	if h.Backing != layout.BackingSysV || h.SysvKey == unix.IPC_PRIVATE {
		return nil
	}
	id, err := unix.SysvShmGet(int(int32(h.SysvKey)), 0, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("shmget", err)
	}
	var d unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &d); err != nil {
		return os.NewSyscallError("shmctl", err)
	}
	if d.Perm.Cuid != uid || d.Segsz < layout.HeaderSize {
		return nil
	}
	mem, err := unix.SysvShmAttach(id, 0, unix.SHM_RDONLY)
	if err != nil {
		return os.NewSyscallError("shmat", err)
	}
	own := [16]byte(mem[layout.HeaderID:])
	if err := unix.SysvShmDetach(mem); err != nil {
		return os.NewSyscallError("shmdt", err)
	}
	if own != h.ID {
		// A creator that died between shmget and the write of the id leaves zeros, attached by nobody, made after the
		// anchor; or, killed inside that write, part of the id.
		// The kernel stamps with a clock that lags by a tick, so the second may be the one before.
		begun := !complete && d.Nattch == 0 && d.Segsz == h.SegmentSize && d.Ctime+1 >= int64(h.Created/1e9)
		for i, b := range own {
			begun = begun && (b == 0 || b == h.ID[i])
		}
		if !begun {
			return nil
		}
	}
	_, err = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	return os.NewSyscallError("shmctl IPC_RMID", err)
}

// explainSysV adds to an error which limit it is about.
func (c *creation) explainSysV(op string, err error) error {
	var errno unix.Errno
	if !errors.As(err, &errno) {
		return err
	}
	what := fmt.Errorf("reserve %d bytes (%s): %w", c.h.SegmentSize, size(c.h.SegmentSize), pathError(op, c.path, errno))
	limit := func(name string) string {
		n, err := readNumber("/proc/sys/kernel/" + name)
		if err != nil {
			return name + " unknown"
		}
		return fmt.Sprintf("%s is %d", name, n)
	}
	switch {
	case c.hugetlb() && (errno == unix.ENOMEM || errno == unix.ENOSPC || errno == unix.EINVAL):
		return c.explainHuge(op, errno)
	case c.hugetlb() && (errno == unix.EPERM || errno == unix.EACCES):
		var r unix.Rlimit
		_ = unix.Getrlimit(unix.RLIMIT_MEMLOCK, &r) // 0 if it cannot be had
		return fmt.Errorf("%w; huge System V pages need CAP_IPC_LOCK, the group of vm.hugetlb_shm_group, or a sufficient RLIMIT_MEMLOCK, which is %d bytes; a Memfd does not", what, r.Cur)
	case errno == unix.EINVAL:
		return fmt.Errorf("%w; a System V segment may have as many bytes as kernel.shmmax says: %s", what, limit("shmmax"))
	case errno == unix.ENOSPC:
		return fmt.Errorf("%w; a limit of System V segments is reached: kernel.%s segments, kernel.%s pages; see ipcs -m for what is not needed", what, limit("shmmni"), limit("shmall"))
	case errno == unix.ENOMEM:
		return c.explainSpace(op, errno)
	}
	return what
}
