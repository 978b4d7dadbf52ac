//go:build !linux

package futex

import (
	"runtime"
	"sync/atomic"
	"time"
)

// Wake returns ErrUnsupported: only Linux has these calls.
func Wake(*atomic.Uint32, int) (int, error) { return 0, ErrUnsupported }

// Yield lets other goroutines run.
func Yield() { runtime.Gosched() }

// Wait returns ErrUnsupported: only Linux has these calls.
func Wait(*atomic.Uint32, uint32, time.Duration) error { return ErrUnsupported }

// RegisterMembarrier reports false: only Linux has this call.
func RegisterMembarrier() bool { return false }

// Membarrier returns ErrUnsupported: only Linux has this call.
func Membarrier() error { return ErrUnsupported }

type kernelSleep struct{}

func (w *Waiter) sleep(*atomic.Uint32, uint32, time.Duration) (int, error) { return 0, ErrUnsupported }

func (w *Waiter) wakeCancel() {}

func (q *Queue) wakeNudged() {}
