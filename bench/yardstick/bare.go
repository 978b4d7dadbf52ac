package yardstick

import (
	"sync/atomic"
	"unsafe"

	"github.com/cd1900cf/millrace/internal/atomicx"
)

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
