//go:build !amd64 && !arm64

package futex

// Pause runs an empty loop n times: this processor has no hint, or we do not know it.
//
//go:noinline
func Pause(n int) {
	for range n { //nolint:revive // the time it takes is the purpose
	}
}
