//go:build amd64 || arm64

package seg

import (
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cd1900cf/millrace/internal/layout"
)

// Segment is a mapped segment. All methods may be called by any goroutine.
//
// A segment that is never closed stays attached and mapped until the process ends, reachable or not.
type Segment struct {
	name, path string // path is "" for a memfd
	header     layout.Header
	readOnly   bool
	sealed     bool
	m          *mapping

	// fd is a description of its own: it holds LOCK_SH (observers: nothing), answers probes, and is never mapped,
	// because a mapping keeps its description, and with it the locks, alive. It is a plain number so that no finalizer
	// gives up the lock of a segment that somebody forgot to close.
	mu     sync.RWMutex // guards fd against its reuse after Close
	fd     int
	closed bool

	holds holds
}

// mapping is a mapped range of addresses. It does not refer to its Segment, so that a cleanup can own it.
type mapping struct {
	addr    unsafe.Pointer
	size    uintptr        // as mapped, at least segment_size
	exposed atomic.Bool    // never give the addresses back
	guarded *guardRange    // under guardMu
	fault   atomic.Uintptr // address of the first fault, noted by the handler; 0: none
}

// bytes returns the first n bytes.
func (m *mapping) bytes(n uint64) []byte { return unsafe.Slice((*byte)(m.addr), n) }

// unmap gives the addresses back. It also ends the attachment of a System V segment, wherever it was attached.
func (m *mapping) unmap() error {
	m.unguard()
	return unix.MunmapPtr(m.addr, m.size)
}

// blank puts private zero pages over the mapping in one step: whoever still uses the addresses finds zeros and changes
// nothing that anybody else sees. It stays under guard: the handler may be on its way for a fault of the moment before.
func (m *mapping) blank() error {
	const flags = unix.MAP_FIXED | unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_NORESERVE
	_, err := unix.MmapPtr(-1, 0, m.addr, m.size, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		// With strict overcommit a writable private mapping can be refused; one that is only read is not counted.
		_, err = unix.MmapPtr(-1, 0, m.addr, m.size, unix.PROT_READ, flags)
	}
	return err
}

// ready is the word that makes a segment valid.
func ready(mem []byte) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&mem[layout.HeaderReady]))
}

// Bytes returns the mapped memory, exactly segment_size bytes.
//
// Lifetime: the slice does not keep s alive; use runtime.KeepAlive(s) behind the last access. After Close it reads as
// zeros until s is unreachable, and for ever when Expose was called.
func (s *Segment) Bytes() []byte { return s.m.bytes(s.header.SegmentSize) }

// Header returns a private copy of the header, as it was checked when the segment was opened.
func (s *Segment) Header() layout.Header { return s.header }

// Huge returns the pages that the segment got, which may be less than what was asked for.
func (s *Segment) Huge() HugePages { return HugePages(s.header.Huge) }

// Name returns the name that the segment was created or opened with.
func (s *Segment) Name() string { return s.name }

// Path returns the file of the segment, for System V its anchor; "" for a memfd.
func (s *Segment) Path() string { return s.path }

// ReadOnly says whether the segment is mapped for observing only.
func (s *Segment) ReadOnly() bool { return s.readOnly }

// Sealed says whether the memory cannot shrink under the mapping, so that no access can fault: true for System V and
// for a sealed memfd.
func (s *Segment) Sealed() bool { return s.sealed }

// Lost returns a word that is 0 until an access to the mapping faults, because somebody truncated the file. Then the whole mapping is private zeros, for
// good, and the word is not 0 for whoever has read one of them.
func (s *Segment) Lost() *atomic.Uintptr { return &s.m.fault }

// Cut takes the memory away as a fault does: the whole mapping becomes private zeros, and Lost is not 0.
func (s *Segment) Cut() error {
	s.m.fault.Store(uintptr(s.m.addr)) // order: heap, before the zeros can be seen
	return s.m.blank()
}

// Unguard lets the next fault in the mapping end the process by SIGBUS.
func (s *Segment) Unguard() { s.m.unguard() }

// Expose says that slices of the mapping were handed to code that may use them after Close. The addresses are then
// never given back; what they show after Close is private to this process and begins as zeros.
func (s *Segment) Expose() {
	s.m.exposed.Store(true) // order: rlx, private to this process; pairs with the load in the cleanup of Close
}

// File returns a new descriptor of the segment, to be handed to another process.
//
// Failure: ErrUnsupported for System V, os.ErrClosed.
func (s *Segment) File() (*os.File, error) {
	if s.header.Backing == layout.BackingSysV {
		return nil, fmt.Errorf("seg: file of %s: a System V segment has no descriptor: %w", s.name, ErrUnsupported)
	}
	fd, err := s.reopen()
	if err != nil {
		return nil, fmt.Errorf("seg: file of %s: %w", s.name, err)
	}
	// A file that was made without a name is called "#123 (deleted)" by all descriptors that stem from that one, for
	// ever. One that was opened by its name tells the receiver what it is.
	if again, err := openRegular(s.path, s.flags()); err == nil {
		if same, err := sameFile(fd, again); err == nil && same {
			fd, again = again, fd
		}
		_ = unix.Close(again)
	}
	name := s.path
	if name == "" {
		name = s.name
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Close detaches: it puts private zero pages over the mapping, so that a late access of another goroutine neither
// faults nor reaches the segment, and then drops the shared lock. Further calls do nothing.
func (s *Segment) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	// First the memory, then the lock: whoever finds the lock free may rely on it that nothing is stored any more.
	if err := s.m.blank(); err != nil {
		return fmt.Errorf("seg: close %s: %w", s.name, os.NewSyscallError("mmap", err))
	}
	s.closed = true
	err := closeUnlocked(s.fd)
	s.fd = -1
	runtime.AddCleanup(s, func(m *mapping) {
		if !m.exposed.Load() { // order: rlx, private to this process; pairs with the store in Expose
			_ = m.unmap() // nobody is left to tell
		}
	}, s.m)
	if err != nil {
		return fmt.Errorf("seg: close %s: %w", s.name, os.NewSyscallError("close", err))
	}
	return nil
}

// use calls f with the segment's own descriptor.
func (s *Segment) use(f func(fd int) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return os.ErrClosed
	}
	return f(s.fd)
}

// reopen opens the segment's file once more, for reading and writing unless s is an observer.
func (s *Segment) reopen() (fd int, err error) {
	err = s.use(func(own int) error {
		fd, err = reopen(own, s.path, s.flags())
		return err
	})
	return fd, err
}

// flags returns how the segment's file is opened.
func (s *Segment) flags() int {
	if s.readOnly {
		return unix.O_RDONLY
	}
	return unix.O_RDWR
}

// reopen opens the file behind fd once more: through /proc, or by its path when there is no /proc, if that still leads
// to the same file.
func reopen(fd int, path string, flags int) (int, error) {
	again, err := open(fmt.Sprintf("/proc/self/fd/%d", fd), flags, 0)
	if err == nil || path == "" || err != unix.ENOENT && err != unix.ENOTDIR {
		return again, pathError("reopen", path, err)
	}
	again, err = open(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, pathError("reopen", path, err)
	}
	same, err := sameFile(fd, again)
	if err == nil && !same {
		err = unix.ESTALE
	}
	if err != nil {
		_ = unix.Close(again)
		return -1, pathError("reopen", path, err)
	}
	return again, nil
}

// open is open(2), close-on-exec, retried when a signal interrupts it.
func open(path string, flags int, perm uint32) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, perm)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// flock is flock(2), retried when a signal interrupts it.
func flock(fd, how int) error {
	for {
		if err := unix.Flock(fd, how); err != unix.EINTR {
			return err
		}
	}
}

// fileID tells files apart.
type fileID struct{ dev, ino uint64 }

func idOf(st *unix.Stat_t) fileID { return fileID{uint64(st.Dev), st.Ino} }

// sameFile says whether two descriptors lead to one file.
func sameFile(a, b int) (bool, error) {
	var x, y unix.Stat_t
	if err := unix.Fstat(a, &x); err != nil {
		return false, err
	}
	if err := unix.Fstat(b, &y); err != nil {
		return false, err
	}
	return idOf(&x) == idOf(&y), nil
}

// leadsTo says whether the name path, not followed if it is a link, is the file behind fd.
func leadsTo(path string, fd int) (bool, error) {
	var named, own unix.Stat_t
	if err := unix.Fstat(fd, &own); err != nil {
		return false, err
	}
	if err := unix.Lstat(path, &named); err != nil {
		if err == unix.ENOENT {
			return false, nil
		}
		return false, err
	}
	return idOf(&named) == idOf(&own), nil
}

// pathError gives an error number the operation and the path; nil stays nil.
func pathError(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}
