package futex

import (
	"runtime"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// litmus runs rounds of the store-load test and counts those in which both sides read 0. The words lie in mapped memory,
// which the race detector leaves alone.
func litmus(t *testing.T, rounds int, barrier func()) (both int) {
	mem, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANON)
	require.NoError(t, err)
	defer func() { require.NoError(t, unix.Munmap(mem)) }()
	x, y := (*uint32)(unsafe.Pointer(&mem[0])), (*uint32)(unsafe.Pointer(&mem[128]))
	var go1, ready, done atomic.Int64
	var seenByFast uint32
	quit := async(func() {
		for i := int64(1); i <= int64(rounds); i++ {
			ready.Store(i)
			for spins := 0; go1.Load() != i; spins++ {
				if spins > 1000 {
					runtime.Gosched()
				}
			}
			storeLoad(x, y, &seenByFast)
			done.Store(i)
		}
	})
	for i := int64(1); i <= int64(rounds); i++ {
		for ready.Load() != i {
			runtime.Gosched()
		}
		*x, *y = 0, 0
		go1.Store(i)
		Pause(int(i % 50))
		atomic.StoreUint32(y, 1)
		barrier()
		seen := atomic.LoadUint32(x)
		for done.Load() != i {
			runtime.Gosched()
		}
		if seen == 0 && seenByFast == 0 {
			both++
		}
	}
	inTime(t, quit, "litmus")
	return both
}

// storeLoad is the side without a fence: the compiler keeps the order of these plain moves, the processor need not.
//
//go:noinline
func storeLoad(x, y, seen *uint32) {
	*x = 1
	*seen = *y
}

func word64Pointer(mem []byte, offset int) unsafe.Pointer { return unsafe.Pointer(&mem[offset]) }
