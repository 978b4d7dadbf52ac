//go:build amd64 || arm64

package seg

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cd1900cf/millrace/internal/layout"
)

// The guard: a load or store beyond the end of a file that somebody truncated raises SIGBUS, which ends a Go program. Here a handler comes first that puts
// private zero pages over the mapping and notes where the fault was. The interrupted instruction then finds zeros and the call goes on; before it returns it
// looks at the note. So the guard costs a call one load, and slices of the mapping that were handed out read as zeros instead of ending the process.
// Where there is not the memory to promise so many zeros, they come page by page, and the rest of the mapping is the file for so long.
//
// The handler is assembly (guard_linux_amd64.s, guard_linux_arm64.s), because a signal finds no Go stack. Faults elsewhere it hands to the handler of the Go
// runtime, which it has replaced; package os/signal never touches that of SIGBUS.
//
// Invariants: the note is written before the zeros can be seen, so who has read one of them finds it; a range is of one mapping as long as a handler runs.

// guardRange is a mapping under guard.
type guardRange struct {
	base, size atomic.Uintptr                 // size 0: none
	fault      atomic.Pointer[atomic.Uintptr] // where the handler notes the address of a fault
}

// guardRanges is how many ranges a table has.
const guardRanges = 64

// guardTable is a part of a list that only grows: the handler can be reading any of it.
type guardTable struct {
	next   atomic.Pointer[guardTable]
	ranges [guardRanges]guardRange
}

var (
	guardMu  sync.Mutex
	guards   guardTable    // the first table; read by the handler
	handling atomic.Uint32 // how many threads are inside the handler; it counts itself
	former   uintptr       // what handled SIGBUS before; 0: the handler is not installed
)

// onFaultPC returns the address of the handler, which the kernel calls and never Go.
func onFaultPC() uintptr

// kernelAction is the kernel's struct sigaction.
type kernelAction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

// installGuard puts the handler before the one of the Go runtime, or of whoever came before this, once. The caller holds guardMu.
func installGuard() error {
	if former != 0 {
		return nil
	}
	var a kernelAction
	if err := sigaction(unix.SIGBUS, nil, &a); err != nil {
		return err
	}
	if a.handler <= 1 { // SIG_DFL, SIG_IGN
		return fmt.Errorf("SIGBUS is not handled by the Go runtime, but %#x", a.handler)
	}
	former = a.handler
	a.handler = onFaultPC()
	a.flags |= saSiginfo | saOnstack // where the fault was, and a stack that is large enough; a handler that expects neither is not disturbed
	a.mask = ^uint64(0)
	if err := sigaction(unix.SIGBUS, &a, nil); err != nil {
		former = 0
		return err
	}
	return nil
}

// Flags of kernelAction.
const (
	saSiginfo = 0x4
	saOnstack = 0x8000000
)

func sigaction(signal unix.Signal, new, old *kernelAction) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(signal), uintptr(unsafe.Pointer(new)), uintptr(unsafe.Pointer(old)), unsafe.Sizeof(old.mask), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("rt_sigaction", errno)
	}
	return nil
}

// guard puts the mapping under guard.
func (m *mapping) guard() error {
	guardMu.Lock()
	defer guardMu.Unlock()
	if err := installGuard(); err != nil {
		return fmt.Errorf("guard the mapping against truncation: %w", err)
	}
	g := freeRange()
	g.fault.Store(&m.fault)       // order: heap, pairs with the handler's load
	g.base.Store(uintptr(m.addr)) // order: heap, pairs with the handler's load
	g.size.Store(m.size)          // order: heap, pairs with the handler's load, which comes before those of base and fault
	m.guarded = g
	return nil
}

// freeRange returns a range that guards nothing.
func freeRange() *guardRange {
	for t := &guards; ; t = t.next.Load() { // order: heap, under guardMu
		for i := range t.ranges {
			if t.ranges[i].size.Load() == 0 { // order: heap, under guardMu
				return &t.ranges[i]
			}
		}
		if t.next.Load() == nil { // order: heap, under guardMu
			t.next.Store(new(guardTable)) // order: heap, pairs with the handler's load
		}
	}
}

// unguard takes the mapping out of the guard. When it returns, no handler is about to put zeros over these addresses.
func (m *mapping) unguard() {
	guardMu.Lock()
	defer guardMu.Unlock()
	if m.guarded == nil {
		return
	}
	m.guarded.size.Store(0)    // order: heap, sc, before the load of handling
	for handling.Load() != 0 { // order: heap, sc, pairs with the handler's count
		runtime.Gosched()
	}
	m.guarded = nil
}

// touch runs f, which touches the mapping for the first time, and turns a fault in it into an error: somebody may have truncated the file since its size was
// checked.
func (m *mapping) touch(f func() error) error {
	err := f()
	if at := m.fault.Load(); at != 0 { // order: heap, written by a handler
		return &layout.FormatError{
			Field: "file size",
			Got:   fmt.Sprintf("smaller since it was checked (fault at byte %d)", at-uintptr(m.addr)),
			Want:  "a file that stays", Err: layout.ErrCorrupt,
		}
	}
	return err
}
