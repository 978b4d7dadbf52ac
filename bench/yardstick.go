// Package bench measures millrace between two processes, beside yardsticks that are measured in the same run.
//
// The yardsticks are what a queue costs without any of millrace's promises: no registration, no waiting, no deaths, fixed sizes. They live in
// this file and are not changed together with the ring.
package bench

import (
	"sync/atomic"
	"unsafe"

	"github.com/cd1900cf/millrace/internal/atomicx"
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

// Bare is the bare loop of an SPSC queue with indices: cached peer positions, release stores, space given back in strides.
type Bare struct {
	tail, head *atomic.Uint64
	slots      unsafe.Pointer
	mask       uint64
	size       int

	pos, cache, given uint64
}

// BareBytes returns how much memory a queue takes.
func BareBytes(slots, size int) int { return 4096 + slots*size }

// NewBare casts mem, which is zero for a new queue. Each side uses a Bare of its own.
func NewBare(mem []byte, slots, size int) *Bare {
	base := unsafe.Pointer(unsafe.SliceData(mem))
	return &Bare{tail: (*atomic.Uint64)(base), head: (*atomic.Uint64)(unsafe.Add(base, 128)), slots: unsafe.Add(base, 4096), mask: uint64(slots - 1), size: size}
}

func (b *Bare) payload(p uint64) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(b.slots, (p&b.mask)*uint64(b.size))), b.size)
}

// TrySend sends one message of the fixed size; false when the queue is full.
func (b *Bare) TrySend(msg []byte) bool {
	if b.pos-b.cache > b.mask {
		if b.cache = b.head.Load(); b.pos-b.cache > b.mask {
			return false
		}
	}
	copy(b.payload(b.pos), msg)
	b.pos++
	atomicx.StoreRelease(b.tail, b.pos)
	return true
}

// TryReceive receives one message; false when the queue is empty.
func (b *Bare) TryReceive(buf []byte) bool {
	if b.pos == b.cache {
		if b.cache = b.tail.Load(); b.pos == b.cache {
			if b.given != b.pos {
				b.given = b.pos
				atomicx.StoreRelease(b.head, b.pos)
			}
			return false
		}
	}
	copy(buf, b.payload(b.pos))
	b.pos++
	if b.pos-b.given > b.mask>>3 {
		b.given = b.pos
		atomicx.StoreRelease(b.head, b.pos)
	}
	return true
}
