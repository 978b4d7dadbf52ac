//go:build amd64 && !race

package atomicx

import (
	"sync/atomic"
	"unsafe"
)

// Fenced reports whether StoreRelease is a full fence as well: whether a later load cannot pass it.
const Fenced = false

// StoreRelease stores v; everything before it in program order is visible before it.
//
//go:noescape
func StoreRelease(p *atomic.Uint64, v uint64)

// StoreRelaxed stores v at some point before the function that calls it returns to code the compiler cannot see.
// It orders nothing: for hints and for counters that only their owner writes.
func StoreRelaxed(p *atomic.Uint64, v uint64) { *(*uint64)(unsafe.Pointer(p)) = v }
