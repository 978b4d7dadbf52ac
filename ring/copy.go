package ring

import "unsafe"

// Copying into and out of a ring: small messages in place, by words that may overlap each other, because a call of the runtime's copy would take as long as
// the rest of a Send; large ones a part at a time, because the runtime copies a MiB and more past the caches, and the other side wants it next.

// part is how many bytes the runtime is given at once.
const part = 512 << 10

// move is copy, of memory that does not overlap.
//
//go:noinline
func move(to, from []byte) int {
	n := min(len(to), len(from))
	for i := 0; i < n; i += part {
		copy(to[i:min(n, i+part)], from[i:n])
	}
	return n
}

// put copies b to p.
func put(p unsafe.Pointer, b []byte) { move(view(p, uint64(len(b))), b) }

// copy16 copies 8 to 16 bytes; a word by one store, which two of the same word would only make longer.
func copy16(to, from unsafe.Pointer, n uint64) {
	*(*uint64)(to) = *(*uint64)(from)
	if n != 8 {
		*(*uint64)(unsafe.Add(to, n-8)) = *(*uint64)(unsafe.Add(from, n-8))
	}
}

// copy32 copies 16 to 32 bytes.
func copy32(to, from unsafe.Pointer, n uint64) {
	*(*[16]byte)(to) = *(*[16]byte)(from)
	*(*[16]byte)(unsafe.Add(to, n-16)) = *(*[16]byte)(unsafe.Add(from, n-16))
}

// copy64 copies 32 to 64 bytes.
func copy64(to, from unsafe.Pointer, n uint64) {
	*(*[16]byte)(to) = *(*[16]byte)(from)
	*(*[16]byte)(unsafe.Add(to, 16)) = *(*[16]byte)(unsafe.Add(from, 16))
	*(*[16]byte)(unsafe.Add(to, n-32)) = *(*[16]byte)(unsafe.Add(from, n-32))
	*(*[16]byte)(unsafe.Add(to, n-16)) = *(*[16]byte)(unsafe.Add(from, n-16))
}

// copy512 copies 64 to 512 bytes. The second step may overlap the first.
func copy512(to, from unsafe.Pointer, n uint64) {
	for step := (n-1)&63 + 1; ; step = 64 {
		*(*[16]byte)(to) = *(*[16]byte)(from)
		*(*[16]byte)(unsafe.Add(to, 16)) = *(*[16]byte)(unsafe.Add(from, 16))
		*(*[16]byte)(unsafe.Add(to, 32)) = *(*[16]byte)(unsafe.Add(from, 32))
		*(*[16]byte)(unsafe.Add(to, 48)) = *(*[16]byte)(unsafe.Add(from, 48))
		if n -= step; n == 0 {
			return
		}
		to, from = unsafe.Add(to, step), unsafe.Add(from, step)
	}
}
