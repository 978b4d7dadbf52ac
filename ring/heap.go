package ring

import (
	"sync"
	"unsafe"

	"github.com/cd1900cf/millrace/seg"
)

// wordBytes cuts size bytes that start at a multiple of align out of raw.
func wordBytes(raw []uint64, align uintptr, size uint64) []byte {
	base := unsafe.Pointer(unsafe.SliceData(raw))
	skip := -uintptr(base) & (align - 1)
	return unsafe.Slice((*byte)(unsafe.Add(base, skip)), size)
}

// heapKeeper stands in for the kernel's locks when a ring lives in one process's own memory.
type heapKeeper struct {
	mu   sync.Mutex
	held map[int64]bool
}

func (k *heapKeeper) Probe(b int64) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held[b], nil
}

func (k *heapKeeper) Hold(b int64) (func(), bool, error) {
	k.mu.Lock()
	if k.held[b] {
		k.mu.Unlock()
		return nil, false, nil
	}
	return k.mu.Unlock, true, nil
}

func (k *heapKeeper) newLock() (locker, error) { return &heapLock{k: k}, nil }

// heapLock is one holder of a heapKeeper's bytes.
type heapLock struct {
	k     *heapKeeper
	bytes []int64
}

func (l *heapLock) Add(b int64) error {
	l.k.mu.Lock()
	defer l.k.mu.Unlock()
	if l.k.held[b] {
		return seg.ErrLocked
	}
	l.k.held[b] = true
	l.bytes = append(l.bytes, b)
	return nil
}

func (l *heapLock) Drop(b int64) error {
	l.k.mu.Lock()
	defer l.k.mu.Unlock()
	delete(l.k.held, b)
	return nil
}

func (l *heapLock) Close() error {
	l.k.mu.Lock()
	defer l.k.mu.Unlock()
	for _, b := range l.bytes {
		delete(l.k.held, b)
	}
	l.bytes = nil
	return nil
}
