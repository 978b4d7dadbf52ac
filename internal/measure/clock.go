package measure

import _ "unsafe" // for go:linkname

// Now returns nanoseconds of CLOCK_MONOTONIC, which is one clock for all processes of a machine. time.Now counts them from the start of the process.
//
//go:linkname Now runtime.nanotime
func Now() int64
