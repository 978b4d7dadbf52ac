package atomicx

import "unsafe"

// vendor returns the name of who made the processor, in three parts.
func vendor() (b, d, c uint32)

// SharedIsSlow says whether this processor takes long to write to a line that another core has only read: on AMD's it takes several times as long as to one
// that the other core has written to.
var SharedIsSlow = func() bool {
	b, d, c := vendor()
	return b == 'A'|'u'<<8|'t'<<16|'h'<<24 && d == 'e'|'n'<<8|'t'<<16|'i'<<24 && c == 'c'|'A'<<8|'M'<<16|'D'<<24
}()

// TakeLines writes to every cache line of the n bytes at p what it reads there. Nobody else may write to those bytes meanwhile.
//
//go:noescape
func TakeLines(p unsafe.Pointer, n uint64)
