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
// amd64 keeps stores in their order; what is left to show is that the compiler does: it chains what touches memory in program order, drops a store
// only for a later one to the same word with no call and no load in between, and merges none of this width. internal/rules looks at what it made of them.
func StoreRelease(p *atomic.Uint64, v uint64) { *(*uint64)(unsafe.Pointer(p)) = v }

// StoreRelaxed stores v at some point before the function that calls it returns to code the compiler cannot see.
// It orders nothing: for hints and for counters that only their owner writes.
func StoreRelaxed(p *atomic.Uint64, v uint64) { *(*uint64)(unsafe.Pointer(p)) = v }

// StoreRelease32 is StoreRelease for a word of 32 bits.
func StoreRelease32(p *uint32, v uint32) { *p = v }

// LoadToWrite loads a word that is about to be written: its cache line is asked for once, for both, and nobody else has it then. It is an acquire load: on amd64 every
// load is one. In one function, because the processor would load first when the address comes to it sooner.
//
//go:noescape
func LoadToWrite(p *atomic.Uint64) uint64
