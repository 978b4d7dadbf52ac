//go:build !amd64

package atomicx

import "unsafe"

// SharedIsSlow says whether this processor takes long to write to a line that another core has only read.
const SharedIsSlow = false

// TakeLines is for processors of which SharedIsSlow is true.
func TakeLines(p unsafe.Pointer, n uint64) {}
