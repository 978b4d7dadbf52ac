// Package atomicx holds the two stores that sync/atomic lacks: a release store that is not a full fence, and a relaxed one.
//
// On amd64 sync/atomic's Store is an XCHG, which cannot retire before it owns the cache line that the peer polls. A release store needs only
// a MOV there, and the strict way to get one is an assembly stub: the compiler neither moves, merges nor deletes a call to it. On every other
// platform, and under the race detector, both are sync/atomic's Store.
package atomicx
