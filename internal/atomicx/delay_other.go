//go:build !amd64

package atomicx

// Delay is for processors of which SharedIsSlow is true.
func Delay(n int) {}
