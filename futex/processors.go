package futex

import (
	"os"
	"runtime"
	"strings"
	"sync"
)

// OneProcessor says whether the machine has one processor only, so that nothing can happen while somebody spins. What runtime.NumCPU returns is another
// thing: a process that is bound to one processor, by taskset or a container, waits for processes that run on others.
//
// Blocks: the first call reads a small file of the kernel.
func OneProcessor() bool { return oneProcessor() }

var oneProcessor = sync.OnceValue(func() bool {
	list, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return runtime.NumCPU() == 1
	}
	return !strings.ContainsAny(string(list), "-,") // "0", not "0-3" or "0,2"
})
