//go:build amd64 || arm64

package seg

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/internal/testpoint"
)

// createTries bounds how often a creation starts again because a sweep took its private name in the moment in which it
// held no lock.
const createTries = 100

// unnamedFiles is switched off by tests of the private names, which file systems without O_TMPFILE need.
var unnamedFiles = true

// errSwept says that the private name of a creation went away under it.
var errSwept = errors.New("private name was swept")

// Create makes a segment and attaches to it. Of any number of callers that race for one name, exactly one creates. The
// name appears when the segment is complete; until then nobody can see it, and a creator that fails leaves nothing. One
// that is killed leaves nothing either, or, where the file system has no O_TMPFILE and for System V, a private name that
// Sweep removes.
//
// All memory is reserved before the first byte is used. For a Memfd the name is only a label; hand on File().
//
// Failure: fs.ErrExist; errors that wrap ENOSPC or ENOMEM and say what is free; *OptionError; ErrName.
func Create(name string, o CreateOptions) (*Segment, error) {
	dir, path, err := locate(name, o.Dir)
	if err != nil {
		return nil, err
	}
	if o.Backing == 0 {
		o.Backing = POSIX
	}
	if o.Perm == 0 {
		o.Perm = defaultPerm
	}
	if err := checkOptions(&o); err != nil {
		return nil, fmt.Errorf("seg: create %s: %w", name, err)
	}
	for try := 1; ; try++ {
		c := &creation{name: name, dir: dir, path: path, o: o, mapFD: -1, lockFD: -1, shm: -1}
		s, err := c.run()
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, errSwept) || try == createTries {
			return nil, fmt.Errorf("seg: create %s: %w", name, err)
		}
	}
}

func checkOptions(o *CreateOptions) error {
	switch {
	case o.Backing > Memfd:
		return &layout.OptionError{Option: "Backing", Got: o.Backing, Want: "POSIX, SysV or Memfd"}
	case o.Huge > Huge1G:
		return &layout.OptionError{Option: "HugePages", Got: o.Huge, Want: "NoHuge, Transparent, Huge2M or Huge1G"}
	case o.Perm&^fs.ModePerm != 0:
		return &layout.OptionError{Option: "Perm", Got: o.Perm, Want: "permission bits only"}
	case o.Header.Flags&^uint32(layout.HeaderFlagTemporary) != 0:
		return &layout.OptionError{Option: "flags", Got: o.Header.Flags, Want: "0 or 1"}
	}
	return nil
}

// creation is a segment in the making and everything that must go again when it fails.
type creation struct {
	name, dir, path string
	o               CreateOptions
	h               layout.Header

	mapFD   int      // the description that is mapped
	lockFD  int      // the description that holds the flock
	private string   // private name, or "" when the file has no name
	m       *mapping // the memory
	shm     int      // System V segment, or -1
}

// run makes the segment; whatever happens, even a panic of Init, nothing of a failed one is left.
func (c *creation) run() (_ *Segment, err error) {
	done := false
	defer func() {
		if !done {
			c.undo()
		}
	}()
	if err := c.fillHeader(c.o.Huge); err != nil {
		return nil, err
	}
	if c.o.Backing != Memfd {
		// Racers that lose are told before they reserve memory. What decides is the link at the end.
		if err := c.absent(); err != nil {
			return nil, err
		}
	}
	switch c.o.Backing {
	case SysV:
		err = c.makeSysV()
	case Memfd:
		err = c.makeMemfd()
	default:
		err = c.makeFile()
	}
	if err != nil {
		// A racer may have failed for want of memory only because the winner has it.
		if c.o.Backing != Memfd && !errors.Is(err, fs.ErrExist) {
			if gone := c.absent(); gone != nil {
				return nil, gone
			}
		}
		return nil, err
	}
	if c.mapFD >= 0 {
		_ = unix.Close(c.mapFD) // the mapping keeps the description; no lock is on it
	}
	done = true
	s := &Segment{name: c.name, path: c.path, header: c.h, m: c.m, fd: c.lockFD}
	s.header.Ready = 1
	switch c.o.Backing {
	case SysV:
		s.sealed = true
	case Memfd:
		s.path = ""
		seals, err := unix.FcntlInt(uintptr(c.lockFD), unix.F_GET_SEALS, 0)
		s.sealed = err == nil && seals&unix.F_SEAL_SHRINK != 0
	}
	return s, nil
}

// undo removes everything that run has made. The memory goes first, then the private name that would lead to it, then
// the lock that tells sweepers that its creator lives.
func (c *creation) undo() {
	if c.m != nil {
		_ = c.m.unmap()
	}
	if c.shm >= 0 {
		_, _ = unix.SysvShmCtl(c.shm, unix.IPC_RMID, nil)
	}
	if c.private != "" {
		_ = unix.Unlink(c.private)
	}
	if c.mapFD >= 0 {
		_ = unix.Close(c.mapFD)
	}
	if c.lockFD >= 0 {
		_ = unix.Close(c.lockFD)
	}
}

// absent returns an fs.ErrExist when the name is taken, by whatever.
func (c *creation) absent() error {
	var st unix.Stat_t
	switch err := unix.Lstat(c.path, &st); err {
	case unix.ENOENT:
		return nil
	case nil:
		return pathError("link", c.path, unix.EEXIST)
	default:
		return pathError("lstat", c.path, err)
	}
}

// fillHeader completes the header for a segment with this kind of pages.
func (c *creation) fillHeader(huge HugePages) error {
	h := c.o.Header
	h.Identify()
	if c.h.ID != ([16]byte{}) {
		h.ID, h.SysvKey, h.SysvID = c.h.ID, c.h.SysvKey, c.h.SysvID
	} else {
		h.SysvKey, h.SysvID = 0, 0
		_, _ = rand.Read(h.ID[:]) // never fails
	}
	h.Created = uint64(time.Now().UnixNano())
	h.Backing = uint32(c.o.Backing)
	h.Huge = uint32(huge)
	h.Mode = uint32(c.o.Perm)
	h.CreatorPID = uint32(os.Getpid())
	if err := h.Geometry(layout.PageSize(h.Huge)); err != nil {
		return err
	}
	c.h = h
	return nil
}

// makeFile makes a segment that is a file in c.dir.
func (c *creation) makeFile() error {
	if err := c.checkDir(); err != nil {
		return err
	}
	if err := c.openUnnamed(); err != nil {
		return err
	}
	testpoint.Hit("seg.create.opened")
	if err := c.fillFile(); err != nil {
		return err
	}
	return c.publish()
}

// makeMemfd makes a segment without a name.
func (c *creation) makeMemfd() error {
	flags := unix.MFD_ALLOW_SEALING
	switch c.o.Huge {
	case Huge2M:
		flags |= unix.MFD_HUGETLB | unix.MFD_HUGE_2MB
	case Huge1G:
		flags |= unix.MFD_HUGETLB | unix.MFD_HUGE_1GB
	}
	var err error
	if c.mapFD, err = memfd(c.name, flags); err != nil {
		return c.explainHuge("memfd_create", err)
	}
	if c.lockFD, err = reopen(c.mapFD, "", unix.O_RDWR); err != nil {
		return err
	}
	if err := c.fillFile(); err != nil {
		return err
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(c.mapFD), unix.F_ADD_SEALS, seals); err != nil && !(c.hugetlb() && err == unix.EINVAL) {
		return os.NewSyscallError("fcntl F_ADD_SEALS", err)
	}
	return os.NewSyscallError("flock", flock(c.lockFD, unix.LOCK_SH))
}

func memfd(name string, flags int) (int, error) {
	for {
		fd, err := unix.MemfdCreate(name, flags|unix.MFD_CLOEXEC)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// fillFile reserves and maps the file behind c.mapFD and writes it completely, mode included.
func (c *creation) fillFile() error {
	if err := c.reserve(c.mapFD); err != nil {
		return err
	}
	testpoint.Hit("seg.create.reserved")
	var err error
	if c.m, err = mapFile(c.mapFD, int64(c.h.SegmentSize), c.o.Huge, false); err != nil {
		return c.explainHuge("mmap", err)
	}
	if c.o.Huge == Transparent && !c.m.collapse() {
		if err := c.withoutHuge(); err != nil {
			return err
		}
	}
	if err := c.populate(); err != nil {
		return err
	}
	if err := c.fillMemory(); err != nil {
		return err
	}
	return pathError("chmod", c.path, unix.Fchmod(c.mapFD, uint32(c.o.Perm)))
}

// fillMemory writes everything into the mapped segment and makes it valid.
func (c *creation) fillMemory() error {
	return c.m.touch(func() error {
		mem := c.m.bytes(c.h.SegmentSize)
		if c.o.Init != nil {
			c.o.Init(mem)
		}
		c.h.Encode(mem)
		testpoint.Hit("seg.create.filled")
		ready(mem).Store(1) // order: F1 rel, pairs F2. Whoever sees it sees all of the above.
		testpoint.Hit("seg.create.ready")
		return nil
	})
}

// openUnnamed opens a new file in c.dir that nobody else can find, for the mapping and for the lock: without a name, or
// under a private one where that is not possible.
func (c *creation) openUnnamed() error {
	if !unnamedFiles {
		return c.openPrivate()
	}
	fd, err := open(c.dir, unix.O_TMPFILE|unix.O_RDWR, defaultPerm)
	switch err {
	case nil:
		c.mapFD = fd
		// The umask may have taken even the owner's bits, and the descriptor is opened once more below.
		if err := unix.Fchmod(fd, defaultPerm); err != nil {
			return pathError("chmod", c.dir, err)
		}
		if c.lockFD, err = reopen(fd, "", unix.O_RDWR); err == nil {
			return nil
		}
		// Without /proc an unnamed file cannot get a name either.
		c.lockFD, c.mapFD = -1, -1
		_ = unix.Close(fd)
	case unix.EOPNOTSUPP, unix.EISDIR, unix.EINVAL, unix.ENOENT:
		// No O_TMPFILE here. ENOENT also means no directory, which the other way reports.
	default:
		return pathError("open", c.dir, err)
	}
	return c.openPrivate()
}

// openPrivate opens a new file under a private name, .NAME.<random>.tmp, and holds LOCK_EX on it, so that a sweep can
// tell whether its creator lives.
func (c *creation) openPrivate() error {
	private := newPrivateName(c.name, c.dir)
	fd, err := open(private, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, defaultPerm)
	if err != nil {
		return pathError("open", private, err)
	}
	c.mapFD, c.private = fd, private
	testpoint.Hit("seg.create.private")
	if err := unix.Fchmod(fd, defaultPerm); err != nil {
		return pathError("chmod", private, err)
	}
	if c.lockFD, err = reopen(fd, private, unix.O_RDWR); err != nil {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) {
			return errSwept
		}
		return err
	}
	return c.lockPrivate(unix.LOCK_EX)
}

// lockPrivate takes or converts the lock on a private file. While there is none, also in the middle of a conversion, a
// sweep may take the file for a dead creator's: the name tells.
func (c *creation) lockPrivate(how int) error {
	if err := flock(c.lockFD, how); err != nil {
		return os.NewSyscallError("flock", err)
	}
	same, err := leadsTo(c.private, c.lockFD)
	if err != nil {
		return pathError("lstat", c.private, err)
	}
	if !same {
		c.private = "" // somebody else's now, if anybody's
		return errSwept
	}
	return nil
}

// publish gives the complete file its name, under the shared lock of everybody who is attached.
func (c *creation) publish() error {
	if c.private == "" {
		if err := flock(c.lockFD, unix.LOCK_SH); err != nil {
			return os.NewSyscallError("flock", err)
		}
		testpoint.Hit("seg.create.shared")
		proc := fmt.Sprintf("/proc/self/fd/%d", c.mapFD)
		if err := unix.Linkat(unix.AT_FDCWD, proc, unix.AT_FDCWD, c.path, unix.AT_SYMLINK_FOLLOW); err != nil {
			return pathError("link", c.path, err)
		}
		testpoint.Hit("seg.create.linked")
		return nil
	}
	if err := c.lockPrivate(unix.LOCK_SH); err != nil {
		return err
	}
	testpoint.Hit("seg.create.shared")
	if err := unix.Linkat(unix.AT_FDCWD, c.private, unix.AT_FDCWD, c.path, 0); err != nil {
		return pathError("link", c.path, err)
	}
	testpoint.Hit("seg.create.linked")
	private := c.private
	c.private = ""
	_ = unix.Unlink(private) // the segment is there and works; a sweep removes its second name
	return nil
}
