package measure

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// Page is shared by the processes of one measurement; peers/peer.h has the same layout. Each word that somebody spins on has a cache line of its own.
type Page struct {
	Go       atomic.Uint64 // how far the workers may go
	_        [56]byte
	Ready    atomic.Uint64 // barriers that workers have reached, all together
	_        [56]byte
	Sent     atomic.Uint64 // tickets given to senders
	_        [56]byte
	Received atomic.Uint64 // tickets given to receivers
	_        [56]byte
	ping     atomic.Uint64
	_        [120]byte
	pong     atomic.Uint64
	width    atomic.Uint64 // of the core of the floor's other end, as a float64
	_        [624]byte
	Workers  [MaxWorkers]Worker
}

// MaxWorkers is how many fit into a page.
const MaxWorkers = 500

// Worker is what one worker reports, in nanoseconds.
type Worker struct {
	Start, End uint64
	Count, Sum uint64 // messages and the sum of their first words: both sides must have the same
	CPU        uint64
	Delay      uint64 // waiting for a core that somebody else had
	_          [80]byte
}

const pageBytes = 65536

var (
	_ [1024]struct{}      = [unsafe.Offsetof(Page{}.Workers)]struct{}{}
	_ [128]struct{}       = [unsafe.Sizeof(Worker{})]struct{}{}
	_ [pageBytes]struct{} = [unsafe.Sizeof(Page{}) + pageBytes - 1024 - 128*MaxWorkers]struct{}{}
)

// OpenPage maps the page in a directory; the first to do so makes it.
func OpenPage(dir string) (*Page, error) {
	mem, err := MapFile(filepath.Join(dir, "page"), pageBytes)
	if err != nil {
		return nil, err
	}
	return (*Page)(unsafe.Pointer(unsafe.SliceData(mem))), nil
}

// Close unmaps the page.
func (p *Page) Close() error {
	return syscall.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(p)), pageBytes))
}

// Barrier tells the parent that this worker is there and waits until it may go on. It burns the processor: the start should be sharp.
func (p *Page) Barrier(stage uint64, crowded bool) {
	p.Ready.Add(1)
	for i := 0; p.Go.Load() < stage; i++ {
		if crowded {
			time.Sleep(100 * time.Microsecond)
		} else if i%64 == 63 {
			Yield()
		}
	}
}

// MapFile maps size bytes of a file and makes or extends it as needed.
func MapFile(path string, size int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if fi.Size() < int64(size) {
		if err := f.Truncate(int64(size)); err != nil {
			return nil, err
		}
	}
	mem, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED|syscall.MAP_POPULATE)
	if err != nil {
		return nil, &os.PathError{Op: "mmap", Path: path, Err: err}
	}
	return mem, nil
}

// Pin locks the goroutine to its thread and the thread to one core; a core below 0 leaves it free to move.
func Pin(core int) error {
	runtime.LockOSThread()
	if core < 0 {
		return nil
	}
	var mask [16]uint64
	mask[core/64] = 1 << (core % 64)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(mask), uintptr(unsafe.Pointer(&mask))); errno != 0 {
		return fmt.Errorf("pin to core %d: %w", core, errno)
	}
	return nil
}

// Yield lets another thread run on this core.
func Yield() { syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0) }

// CPU returns the processor time that this process has used.
func CPU() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// Delay returns how long this thread has waited for its core because others had it: other programs, or other threads of its own.
func Delay() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/thread-self/schedstat")
	if err != nil {
		return 0, err
	}
	var ran, delay int64
	if _, err := fmt.Sscan(string(stat), &ran, &delay); err != nil {
		return 0, fmt.Errorf("measure: /proc/thread-self/schedstat: %w", err)
	}
	return time.Duration(delay), nil
}
