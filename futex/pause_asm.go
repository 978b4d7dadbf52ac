//go:build amd64 || arm64

package futex

// Pause spends about n spin-loop hints of the processor (PAUSE, YIELD): a short time in which its other hardware thread runs.
//
// Blocks: for n hints, 1 to 140 cycles each, and the scheduler cannot interrupt it: keep n below 1,000.
func Pause(n int)
