//go:build amd64 || arm64

package seg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel tells inotify of every descriptor of a file that is closed, also when it closes them for a process that died, and in every
// PID namespace. It does so just before it releases the locks that hang on the description. So a process that watches the file of a
// segment hears of a death within a millisecond or two, without a thread that waits for it. It is a hint to look, never a proof.
//
// All watches of a process share one inotify instance, of which a user has 128 by default.

// looks are when those who watch are called, counted from the event: the kernel needs some microseconds as a rule from there to the
// release of the locks, but it may be held up on the way.
var looks = [...]time.Duration{time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 80 * time.Millisecond}

const watchMask = unix.IN_CLOSE_WRITE | unix.IN_CLOSE_NOWRITE

// Watch is a running watch.
type Watch struct {
	file *watchedFile
}

// watchedFile is a file under watch. Its functions are guarded by watchMu.
type watchedFile struct {
	wd     int32
	calls  map[*Watch]func()
	proven atomic.Bool // an event came
}

// watcher is the inotify instance of the process, while there is a watch.
type watcher struct {
	f     *os.File
	fd    int
	files map[int32]*watchedFile
}

var (
	watchMu sync.Mutex
	theOne  *watcher // guarded by watchMu
)

// Watch calls f 1, 5, 20 and 80 ms after a descriptor of the segment's file was closed, by whomever; f must not block. Closing is what the
// death of a participant looks like, among other things. Stop ends it.
//
// Blocks: for some system calls.
// Failure: no inotify, or its limits are used up; the caller then has to look by itself from time to time.
func (s *Segment) Watch(f func()) (*Watch, error) {
	w := &Watch{}
	err := s.use(func(fd int) error {
		watchMu.Lock()
		defer watchMu.Unlock()
		return w.start(fmt.Sprintf("/proc/self/fd/%d", fd), f)
	})
	if err != nil {
		return nil, fmt.Errorf("seg: watch %s: %w", s.name, err)
	}
	if fd, err := s.reopen(); err == nil { // the watch proves itself: this close is an event
		_ = unix.Close(fd)
	}
	return w, nil
}

func (w *Watch) start(path string, f func()) error {
	if theOne == nil {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if err != nil {
			return os.NewSyscallError("inotify_init1", err)
		}
		theOne = &watcher{f: os.NewFile(uintptr(fd), "inotify"), fd: fd, files: map[int32]*watchedFile{}}
		go theOne.listen()
	}
	wd, err := unix.InotifyAddWatch(theOne.fd, path, watchMask)
	if err != nil {
		theOne.closeUnused()
		return os.NewSyscallError("inotify_add_watch", err)
	}
	file := theOne.files[int32(wd)]
	if file == nil {
		file = &watchedFile{wd: int32(wd), calls: map[*Watch]func(){}}
		theOne.files[file.wd] = file
	}
	w.file = file
	file.calls[w] = f
	return nil
}

// Proven reports whether the watch has shown that it works: it saw its own first event.
func (w *Watch) Proven() bool {
	return w.file.proven.Load() // order: heap
}

// Stop ends the watch. A call that has begun goes on. It may be called once.
func (w *Watch) Stop() {
	watchMu.Lock()
	defer watchMu.Unlock()
	if delete(w.file.calls, w); len(w.file.calls) > 0 {
		return
	}
	if theOne == nil { // the file went, and then the last watch of another
		return
	}
	if theOne.files[w.file.wd] == w.file {
		delete(theOne.files, w.file.wd)
		_, _ = unix.InotifyRmWatch(theOne.fd, uint32(w.file.wd)) // gone already when the file is
	}
	theOne.closeUnused()
}

// closeUnused gives the instance back when nothing is watched; listen ends. Nobody waits for it: it takes the kernel some ten milliseconds.
func (o *watcher) closeUnused() {
	if len(o.files) == 0 {
		go o.f.Close()
		theOne = nil
	}
}

// listen calls those who watch, until the instance is closed.
func (o *watcher) listen() {
	buf := make([]byte, 4096)
	var files []*watchedFile // to be told
	var since time.Time      // the last event
	next := len(looks)
	for {
		var deadline time.Time
		if next < len(looks) {
			deadline = since.Add(looks[next])
		}
		if err := o.f.SetReadDeadline(deadline); err != nil {
			return
		}
		n, err := o.f.Read(buf)
		switch {
		case err == nil:
			if next == len(looks) {
				files = nil
			}
			files = o.closed(buf[:n], files)
			if next > 0 { // otherwise the first look is due, and the second one follows it
				since, next = time.Now(), 0
			}
		case errors.Is(err, os.ErrDeadlineExceeded):
			o.tell(files)
			next++
		default:
			return
		}
	}
}

// closed adds the files that the events name.
func (o *watcher) closed(events []byte, files []*watchedFile) []*watchedFile {
	watchMu.Lock()
	defer watchMu.Unlock()
	add := func(f *watchedFile) {
		if f != nil && !slices.Contains(files, f) {
			files = append(files, f)
		}
	}
	for len(events) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(events))
		mask := binary.NativeEndian.Uint32(events[4:])
		size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(events[12:]))
		events = events[min(size, len(events)):]
		f := o.files[wd]
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0:
			for _, f := range o.files {
				add(f)
			}
		case f == nil:
		case mask&unix.IN_IGNORED != 0: // the file is gone, and its number may be used again
			delete(o.files, wd)
			f.proven.Store(false) // order: heap
			add(f)
		default:
			f.proven.Store(true) // order: heap
			add(f)
		}
	}
	return files
}

func (o *watcher) tell(files []*watchedFile) {
	watchMu.Lock()
	var calls []func()
	for _, f := range files {
		for _, call := range f.calls {
			calls = append(calls, call)
		}
	}
	watchMu.Unlock()
	for _, call := range calls {
		call()
	}
}
