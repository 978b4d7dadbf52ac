//go:build amd64 || arm64

package seg

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Proof of life: a participant holds a write lock on one byte of the segment's file (FORMAT section 7). The locks are
// open file description locks (F_OFD_SETLK): they belong to a description and end when its last descriptor is closed,
// at the latest when the kernel takes the process apart, after its last thread has stopped storing. No pid is involved,
// so they work across PID namespaces. The bytes lie far beyond the end of the file; nothing is stored there.

// Lock holds bytes of a segment's file through a description of its own, which is close-on-exec and never mapped. The
// bytes are free again when the Lock is closed or the process ends, and only then: a Lock that is forgotten stays.
type Lock struct {
	name     string
	readOnly bool

	mu sync.Mutex
	fd int // -1: closed
}

// NewLock returns a Lock that holds nothing yet.
//
// Failure: os.ErrClosed when s is closed.
func (s *Segment) NewLock() (*Lock, error) {
	fd, err := s.reopen()
	if err != nil {
		return nil, fmt.Errorf("seg: lock in %s: %w", s.name, err)
	}
	return &Lock{name: s.name, readOnly: s.readOnly, fd: moveUp(fd)}, nil
}

// lockNumbers is where the numbers of Locks begin: above the few descriptors of a small process, below where the kernel has to make the table larger.
const lockNumbers = 32

// moveUp gives a descriptor a high number. The kernel takes the descriptors of a dead process apart from the highest to the lowest, and an inotify instance (Watch)
// takes it some ten milliseconds, in which the proof of a death must not have to wait. Where there is no such number the descriptor stays as it is.
func moveUp(fd int) int {
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, lockNumbers)
	if err != nil {
		return fd
	}
	_ = unix.Close(fd) // a second descriptor of the same description: nothing is lost or unlocked with it
	return high
}

// Lock returns a Lock that holds the byte first.
//
// Blocks: never. Failure: ErrLocked when somebody has the byte, in whatever process or handle; fs.ErrPermission for an
// observer.
func (s *Segment) Lock(first int64) (*Lock, error) {
	l, err := s.NewLock()
	if err != nil {
		return nil, err
	}
	if err := l.set(first, unix.F_WRLCK); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Add takes the byte b as well. It does nothing when l has it already.
//
// Blocks: never. Failure: ErrLocked when somebody else has it.
func (l *Lock) Add(b int64) error { return l.set(b, unix.F_WRLCK) }

// Drop gives the byte b back.
func (l *Lock) Drop(b int64) error { return l.set(b, unix.F_UNLCK) }

// Close gives everything back. Further calls do nothing.
func (l *Lock) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 {
		return nil
	}
	err := closeUnlocked(l.fd)
	l.fd = -1
	return os.NewSyscallError("close", err)
}

// closeUnlocked closes a descriptor and gives its locks up before. A child that is just being started has a copy of every descriptor until its
// exec; an explicit unlock acts on the description, whoever has copies of it. The errors of unlocking what was never locked are of no interest.
func closeUnlocked(fd int) error {
	_ = unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK, Whence: io.SeekStart})
	_ = unix.Flock(fd, unix.LOCK_UN)
	return unix.Close(fd)
}

func (l *Lock) set(b int64, kind int16) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fd < 0 {
		return fmt.Errorf("seg: lock byte %d of %s: %w", b, l.name, os.ErrClosed)
	}
	if l.readOnly && kind == unix.F_WRLCK {
		return fmt.Errorf("seg: lock byte %d of %s: opened for observing only: %w", b, l.name, fs.ErrPermission)
	}
	free, err := setLock(l.fd, b, kind)
	if err == nil && !free {
		err = ErrLocked
	}
	if err != nil {
		return fmt.Errorf("seg: lock byte %d of %s: %w", b, l.name, err)
	}
	return nil
}

// Probe says whether somebody holds the byte b with a Lock, through another description than s has itself. It takes
// nothing and disturbs nobody.
func (s *Segment) Probe(b int64) (locked bool, err error) {
	err = s.use(func(fd int) error {
		locked, err = getLock(fd, b, 1, unix.F_RDLCK)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("seg: probe byte %d of %s: %w", b, s.name, err)
	}
	return locked, nil
}

// Hold keeps everybody from taking the byte b until release is called. It fails, with ok false, when somebody has it.
// Any number of goroutines and processes may hold a byte together. release may be called more than once and after
// Close; it is never nil.
//
// Blocks: never.
func (s *Segment) Hold(b int64) (release func(), ok bool, err error) {
	err = s.use(func(fd int) error {
		ok, err = s.holds.take(fd, b)
		return err
	})
	if err != nil {
		return func() {}, false, fmt.Errorf("seg: hold byte %d of %s: %w", b, s.name, err)
	}
	if !ok {
		return func() {}, false, nil
	}
	var once sync.Once
	return func() {
		once.Do(func() {
			// An error is os.ErrClosed: Close has let go of everything.
			_ = s.use(func(fd int) error { return s.holds.drop(fd, b) })
		})
	}, true, nil
}

// holds counts the holders of each byte within this process. They share one description, so that the kernel would take
// the first release for that of all.
type holds struct {
	mu     sync.Mutex
	counts map[int64]int
}

func (h *holds) take(fd int, b int64) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.counts[b] == 0 {
		if ok, err := setLock(fd, b, unix.F_RDLCK); !ok || err != nil {
			return false, err
		}
	}
	if h.counts == nil {
		h.counts = make(map[int64]int)
	}
	h.counts[b]++
	return true, nil
}

func (h *holds) drop(fd int, b int64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.counts[b]--; h.counts[b] > 0 {
		return nil
	}
	delete(h.counts, b)
	_, err := setLock(fd, b, unix.F_UNLCK)
	return err
}

// setLock is F_OFD_SETLK on one byte. free is false when somebody else has it.
func setLock(fd int, b int64, kind int16) (free bool, err error) {
	for {
		// A new structure each time: the kernel wants Pid to be 0 and F_OFD_GETLK leaves -1 there.
		lk := unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: b, Len: 1}
		switch err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lk); err {
		case nil:
			return true, nil
		case unix.EINTR:
		case unix.EAGAIN, unix.EACCES:
			return false, nil
		default:
			return false, os.NewSyscallError("fcntl", err)
		}
	}
}

// getLock is F_OFD_GETLK: would a lock of this kind on n bytes from b on meet one of another description?
func getLock(fd int, b, n int64, kind int16) (locked bool, err error) {
	for {
		lk := unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: b, Len: n}
		switch err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lk); err {
		case nil:
			return lk.Type != unix.F_UNLCK, nil
		case unix.EINTR:
		default:
			return false, os.NewSyscallError("fcntl", err)
		}
	}
}
