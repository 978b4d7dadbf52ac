package atomicx

import "unsafe"

// Prefetch asks for the cache lines of the n bytes at p, at least one, for reading, and does not wait for them. p may be any address.
//
//go:noescape
func Prefetch(p unsafe.Pointer, n uint64)
