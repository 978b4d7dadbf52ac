// Package yardstick has what a queue costs without any of millrace's promises: no registration, no waiting, no deaths, fixed sizes. It is not changed
// together with the ring.
package yardstick

import (
	"sync/atomic"
	"unsafe"
)

// line is the size of a cache line.
const line = 64

// stride returns the bytes from slot to slot for a word and size bytes of payload: a multiple of a cache line.
func stride(size int) int { return (8 + size + line - 1) / line * line }

// Vyukov is Dmitry Vyukov's bounded MPMC queue (1024cores.net), on shared memory: a sequence word in each slot, two shared indices claimed by CAS.
type Vyukov struct {
	enqueue, dequeue *atomic.Uint64
	slots            unsafe.Pointer
	mask             uint64
	stride           uintptr
	size             int
}

// VyukovBytes returns how much memory a queue takes.
func VyukovBytes(slots, size int) int { return 4096 + slots*stride(size) }

// NewVyukov casts mem, which is zero for a new queue, and initialises it when first is set.
func NewVyukov(mem []byte, slots, size int, first bool) *Vyukov {
	base := unsafe.Pointer(unsafe.SliceData(mem))
	v := &Vyukov{
		enqueue: (*atomic.Uint64)(base), dequeue: (*atomic.Uint64)(unsafe.Add(base, 128)),
		slots: unsafe.Add(base, 4096), mask: uint64(slots - 1), stride: uintptr(stride(size)), size: size,
	}
	for i := range uint64(slots) {
		if first {
			v.sequence(i).Store(i)
		}
	}
	return v
}

func (v *Vyukov) sequence(p uint64) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Add(v.slots, uintptr(p&v.mask)*v.stride))
}

func (v *Vyukov) payload(p uint64) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(v.slots, uintptr(p&v.mask)*v.stride+8)), v.size)
}

// TrySend sends one message of the fixed size; false when the queue is full.
func (v *Vyukov) TrySend(msg []byte) bool {
	p := v.enqueue.Load()
	for {
		s := v.sequence(p)
		switch d := int64(s.Load() - p); {
		case d == 0:
			if v.enqueue.CompareAndSwap(p, p+1) {
				copy(v.payload(p), msg)
				s.Store(p + 1)
				return true
			}
			p = v.enqueue.Load()
		case d < 0:
			return false
		default:
			p = v.enqueue.Load()
		}
	}
}

// TryReceive receives one message; false when the queue is empty.
func (v *Vyukov) TryReceive(buf []byte) bool {
	p := v.dequeue.Load()
	for {
		s := v.sequence(p)
		switch d := int64(s.Load() - (p + 1)); {
		case d == 0:
			if v.dequeue.CompareAndSwap(p, p+1) {
				copy(buf, v.payload(p))
				s.Store(p + v.mask + 1)
				return true
			}
			p = v.dequeue.Load()
		case d < 0:
			return false
		default:
			p = v.dequeue.Load()
		}
	}
}
