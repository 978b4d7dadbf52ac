//go:build amd64 || arm64

package seg

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/internal/testpoint"
)

const (
	// openTries bounds how often Open starts again because the name was removed and made anew under it.
	openTries = 1000
	// removerPatience bounds how long Open waits for somebody who is removing the segment at that moment. A remover
	// holds its lock for microseconds, unless it is stopped.
	removerPatience = 2 * time.Second
	removerTick     = time.Millisecond
)

// Open attaches to an existing segment.
//
// Blocks: up to two seconds while somebody is removing it. Failure: fs.ErrNotExist; fs.ErrPermission; a *FormatError
// when it is not a sound segment of this version; ErrUnsupported for the copy of a memfd; ErrInUse when a removal does
// not end.
func Open(name string, o OpenOptions) (*Segment, error) {
	dir, path, err := locate(name, o.Dir)
	if err != nil {
		return nil, err
	}
	fd, err := openLocked(dir, path, o)
	if err != nil {
		return nil, fmt.Errorf("seg: open %s: %w", name, err)
	}
	s, err := attach(fd, name, path, o.ReadOnly)
	if err == nil && s.header.Backing == layout.BackingMemfd {
		_ = s.Close()
		return nil, fmt.Errorf("seg: open %s: a memfd segment has no name, it is handed on by descriptor; this file is a copy: %w", name, ErrUnsupported)
	}
	if err != nil {
		return nil, fmt.Errorf("seg: open %s: %w", name, err)
	}
	return s, nil
}

// OpenFile attaches to the segment behind a descriptor, a memfd or a named one. It opens the file once more through
// /proc/self/fd; f stays the caller's and may be closed.
//
// Failure: as Open.
func OpenFile(f *os.File, o OpenOptions) (*Segment, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("seg: open file: %w", err)
	}
	flags := unix.O_RDWR
	if o.ReadOnly {
		flags = unix.O_RDONLY
	}
	fd, link := -1, ""
	cerr := conn.Control(func(own uintptr) {
		proc := fmt.Sprintf("/proc/self/fd/%d", own)
		if link, err = os.Readlink(proc); err != nil {
			return
		}
		if fd, err = open(proc, flags|unix.O_NONBLOCK, 0); err != nil {
			err = pathError("open", proc, err)
		}
	})
	if cerr != nil {
		return nil, fmt.Errorf("seg: open file: %w", cerr)
	}
	if err != nil {
		return nil, fmt.Errorf("seg: open file %s: %w", f.Name(), err)
	}
	name, path := nameOf(link)
	err = checkRegular(fd)
	if err == nil && !o.ReadOnly {
		err = share(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("seg: open file %s: %w", f.Name(), err)
	}
	s, err := attach(fd, name, path, o.ReadOnly)
	if err != nil {
		return nil, fmt.Errorf("seg: open file %s: %w", f.Name(), err)
	}
	return s, nil
}

// nameOf takes the name and the path from what a descriptor's link in /proc says: "/memfd:name (deleted)", or a path, or
// the former path of a file that has lost its name.
func nameOf(link string) (name, path string) {
	link, deleted := strings.CutSuffix(link, " (deleted)")
	if rest, ok := strings.CutPrefix(link, "/memfd:"); ok {
		return rest, ""
	}
	if deleted {
		return filepath.Base(link), ""
	}
	return filepath.Base(link), link
}

// openLocked opens the file that path leads to and takes LOCK_SH on it (observers: nothing), so that it cannot be
// removed any more, and then makes sure that it was not removed before.
func openLocked(dir, path string, o OpenOptions) (int, error) {
	flags := unix.O_RDWR
	if o.ReadOnly {
		flags = unix.O_RDONLY
	}
	for range openTries {
		fd, err := openRegular(path, flags)
		if err != nil {
			return -1, err
		}
		testpoint.Hit("seg.open.opened")
		if o.OwnOnly {
			err = checkOwner(dir, path, fd)
		}
		if err == nil && !o.ReadOnly {
			err = share(fd)
		}
		testpoint.Hit("seg.open.locked")
		same := false
		if err == nil {
			same, err = leadsTo(path, fd)
		}
		if err == nil && same {
			return fd, nil
		}
		_ = unix.Close(fd)
		if err != nil {
			return -1, err
		}
	}
	return -1, fmt.Errorf("removed and made anew %d times while opening it: %w", openTries, ErrInUse)
}

// openRegular opens a file without following a link, and only if it is a regular file.
func openRegular(path string, flags int) (int, error) {
	fd, err := open(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch err {
	case nil:
	case unix.ELOOP:
		return -1, fmt.Errorf("%w (a symbolic link, which is not followed)", pathError("open", path, err))
	case unix.EISDIR, unix.ENXIO: // a directory; a socket or a pipe
		return -1, notRegular("no regular file")
	default:
		return -1, pathError("open", path, err)
	}
	if err := checkRegular(fd); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func checkRegular(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return notRegular(fmt.Sprintf("file type %#o", st.Mode&unix.S_IFMT))
	}
	return nil
}

func notRegular(got string) error {
	return &layout.FormatError{Field: "file type", Got: got, Want: "a regular file", Err: layout.ErrNotSegment}
}

// checkOwner makes the check that OpenOptions.OwnOnly asks for.
func checkOwner(dir, path string, fd int) error {
	var d, st unix.Stat_t
	if err := unix.Stat(dir, &d); err != nil {
		return pathError("stat", dir, err)
	}
	if err := unix.Fstat(fd, &st); err != nil {
		return pathError("stat", path, err)
	}
	const openToAll = unix.S_ISVTX | unix.S_IWOTH
	if d.Mode&openToAll != openToAll || st.Uid == 0 || int(st.Uid) == os.Geteuid() {
		return nil
	}
	return fmt.Errorf("%w: it belongs to uid %d, in a directory where everybody may create files; use a directory of your own ($MILLRACE_DIR), or open it without creating",
		pathError("open", path, fs.ErrPermission), st.Uid)
}

// share takes LOCK_SH. Only removers and creators hold the file exclusively, both for a moment.
func share(fd int) error {
	for end := time.Now().Add(removerPatience); ; time.Sleep(removerTick) {
		err := flock(fd, unix.LOCK_SH|unix.LOCK_NB)
		if err != unix.EWOULDBLOCK {
			return os.NewSyscallError("flock", err)
		}
		if time.Now().After(end) {
			return fmt.Errorf("somebody has been removing it for %v: %w", removerPatience, ErrInUse)
		}
	}
}

// attach checks the header of the file behind fd and maps the segment. It owns fd and closes it on failure.
func attach(fd int, name, path string, readOnly bool) (_ *Segment, err error) {
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	h, err := readHeader(fd)
	if err != nil {
		return nil, err
	}
	s := &Segment{name: name, path: path, header: h, readOnly: readOnly, fd: fd}
	if h.Backing == layout.BackingSysV {
		s.sealed = true
		s.m, err = attachSysV(&h, readOnly)
	} else {
		seals, serr := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
		s.sealed = serr == nil && seals&unix.F_SEAL_SHRINK != 0
		s.m, err = s.mapAgain()
	}
	if err != nil {
		return nil, err
	}
	testpoint.Hit("seg.open.mapped")
	// order: F2 acq, pairs F1. What the creator wrote before it stored ready is visible behind this load. The header was
	// read through the descriptor before; only this load orders the accesses through the mapping.
	err = s.m.touch(func() error {
		if v := ready(s.m.bytes(layout.HeaderSize)).Load(); v != 1 { // order: F2 acq, pairs F1
			return &layout.FormatError{Field: "ready", Got: v, Want: uint32(1), Err: layout.ErrCorrupt}
		}
		return nil
	})
	if err != nil {
		_ = s.m.unmap()
		return nil, err
	}
	return s, nil
}

// mapAgain maps the file through a description that is closed again, see Segment.fd.
func (s *Segment) mapAgain() (*mapping, error) {
	fd, err := s.reopen()
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return mapFile(fd, int64(s.header.SegmentSize), HugePages(s.header.Huge), s.readOnly)
}

// readHeader reads and checks the header of a file without mapping it.
func readHeader(fd int) (layout.Header, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return layout.Header{}, os.NewSyscallError("fstat", err)
	}
	b := make([]byte, layout.HeaderSize)
	n, err := readAt(fd, b)
	if err != nil {
		return layout.Header{}, os.NewSyscallError("pread", err)
	}
	return layout.Decode(b[:n], st.Size)
}

// readAt fills b from the beginning of the file, as far as the file goes.
func readAt(fd int, b []byte) (int, error) {
	n := 0
	for n < len(b) {
		k, err := unix.Pread(fd, b[n:], int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil || k == 0 {
			return n, err
		}
		n += k
	}
	return n, nil
}
