//go:build !amd64 || race

package atomicx

import "sync/atomic"

// Fenced reports whether StoreRelease is a full fence as well: whether a later load cannot pass it.
// sync/atomic is sequentially consistent: XCHG on amd64; STLR, which no later LDAR passes, on arm64.
const Fenced = true

// StoreRelease stores v; everything before it in program order is visible before it.
func StoreRelease(p *atomic.Uint64, v uint64) { p.Store(v) }

// StoreRelaxed stores v and orders nothing that its callers may rely on: for hints and for counters that only their owner writes.
func StoreRelaxed(p *atomic.Uint64, v uint64) { p.Store(v) }

// StoreRelease32 is StoreRelease for a word of 32 bits.
func StoreRelease32(p *uint32, v uint32) { atomic.StoreUint32(p, v) }

// LoadToWrite loads a word that is about to be written. It is an acquire load.
func LoadToWrite(p *atomic.Uint64) uint64 { return p.Load() }
