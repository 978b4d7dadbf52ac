// Package atomicx holds what sync/atomic lacks: a release store that is not a full fence, a relaxed one, and a load that takes the line for writing.
//
// On amd64 sync/atomic's Store is an XCHG, which cannot retire before it owns the cache line that the peer polls. A release store needs only
// a MOV there, which a plain store compiles to. (An assembly stub would be one by definition, and its call cost as much as half a Send.) On every other
// platform, and under the race detector, the stores are sync/atomic's Store and the load its Load.
package atomicx
