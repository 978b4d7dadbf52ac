//go:build !linux || !(amd64 || arm64)

package seg

import (
	"os"
	"sync/atomic"

	"github.com/cd1900cf/millrace/internal/layout"
)

// Segment is a mapped segment. This platform has none: every function returns ErrUnsupported.
type Segment struct{}

// Lock holds bytes of a segment's file. This platform has none.
type Lock struct{}

// Create makes a segment. Not supported on this platform.
func Create(name string, o CreateOptions) (*Segment, error) { return nil, ErrUnsupported }

// Open attaches to a segment. Not supported on this platform.
func Open(name string, o OpenOptions) (*Segment, error) { return nil, ErrUnsupported }

// OpenFile attaches to a segment by descriptor. Not supported on this platform.
func OpenFile(f *os.File, o OpenOptions) (*Segment, error) { return nil, ErrUnsupported }

// Remove removes a segment. Not supported on this platform.
func Remove(name string, o RemoveOptions) error { return ErrUnsupported }

// List returns the segments of a directory. Not supported on this platform.
func List(dir string) ([]Info, error) { return nil, ErrUnsupported }

// Inspect describes a segment. Not supported on this platform.
func Inspect(name, dir string) (Info, error) { return Info{}, ErrUnsupported }

// Sweep removes what dead creators left. Not supported on this platform.
func Sweep(dir string) ([]string, error) { return nil, ErrUnsupported }

// Bytes returns nil.
func (s *Segment) Bytes() []byte { return nil }

// Header returns an empty header.
func (s *Segment) Header() layout.Header { return layout.Header{} }

// Huge returns NoHuge.
func (s *Segment) Huge() HugePages { return NoHuge }

// Name returns "".
func (s *Segment) Name() string { return "" }

// Path returns "".
func (s *Segment) Path() string { return "" }

// ReadOnly returns false.
func (s *Segment) ReadOnly() bool { return false }

// Sealed returns false.
func (s *Segment) Sealed() bool { return false }

// File returns ErrUnsupported.
func (s *Segment) File() (*os.File, error) { return nil, ErrUnsupported }

// Expose does nothing.
func (s *Segment) Expose() {}

// Close does nothing.
func (s *Segment) Close() error { return nil }

// Lock returns ErrUnsupported.
func (s *Segment) Lock(first int64) (*Lock, error) { return nil, ErrUnsupported }

// NewLock returns ErrUnsupported.
func (s *Segment) NewLock() (*Lock, error) { return nil, ErrUnsupported }

// Probe returns ErrUnsupported.
func (s *Segment) Probe(b int64) (locked bool, err error) { return false, ErrUnsupported }

// Hold returns ErrUnsupported.
func (s *Segment) Hold(b int64) (release func(), ok bool, err error) {
	return func() {}, false, ErrUnsupported
}

// Lost returns a word that stays 0.
func (s *Segment) Lost() *atomic.Uintptr { return new(atomic.Uintptr) }

// Cut does nothing.
func (s *Segment) Cut() error { return ErrUnsupported }

// Unguard does nothing.
func (s *Segment) Unguard() {}

// Watch is a running watch.
type Watch struct{}

// Watch returns ErrUnsupported.
func (s *Segment) Watch(f func()) (*Watch, error) { return nil, ErrUnsupported }

// Proven reports false.
func (w *Watch) Proven() bool { return false }

// Stop does nothing.
func (w *Watch) Stop() {}

// Attached returns ErrUnsupported.
func (s *Segment) Attached() (nattch int, err error) { return 0, ErrUnsupported }

// Add returns ErrUnsupported.
func (l *Lock) Add(b int64) error { return ErrUnsupported }

// Drop returns ErrUnsupported.
func (l *Lock) Drop(b int64) error { return ErrUnsupported }

// Close does nothing.
func (l *Lock) Close() error { return nil }
