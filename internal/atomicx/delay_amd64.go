package atomicx

// Delay spends n turns of three cycles, 0.6 to 1.5 ns each, which begin when all loads before it are done, and no load behind it begins before they are over: a short
// time, more exactly than by hints of a spin loop, of which one takes as long as dozens of turns on some processors.
func Delay(n int)
