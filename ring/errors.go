package ring

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/seg"
)

// sentinel is an error that is also another, standard one.
type sentinel struct {
	text string
	is   error
}

func (e *sentinel) Error() string { return e.text }
func (e *sentinel) Unwrap() error { return e.is }

// Flow: what Try calls answer. They are preallocated; returning them costs nothing.
var (
	// ErrFull says that the positions which the message needs next were not all free at some moment of the call.
	ErrFull = errors.New("ring: full")
	// ErrEmpty says that nothing was ready at some moment of the call.
	ErrEmpty = errors.New("ring: empty")
)

// Ends.
var (
	// ErrClosed says that the ring or the handle was closed. It is os.ErrClosed.
	ErrClosed error = &sentinel{"ring: handle is closed", os.ErrClosed}
	// ErrNoConsumers says that the ring is full, that it once had a consumer, and that none is left. It is syscall.EPIPE.
	ErrNoConsumers error = &sentinel{"ring: full, and no consumer is left to read it", syscall.EPIPE}
	// ErrSegmentLost says that the memory behind the ring is gone: truncated by somebody, or removed by force.
	ErrSegmentLost = errors.New("ring: the segment was truncated or removed by force; open or create the ring again")
)

// Usage.
var (
	// ErrMisuse says that a call broke a rule of its handle: two goroutines at once, a second lease or reservation, a stale or repeated token. Nothing was changed.
	ErrMisuse = errors.New("ring: misuse: handle busy, second open lease or reservation, or stale token")
	// ErrRoleTaken says that an SPSC ring has a live participant in this role.
	ErrRoleTaken = errors.New("ring: the role is taken by a live participant (an SPSC ring has one producer and one consumer)")
	// ErrTooManyParticipants says that every entry of the participant table belongs to a live participant.
	ErrTooManyParticipants = errors.New("ring: the participant table is full; close handles, or create the ring with more Participants")
	// ErrMismatch says that a ring exists with other options, or carries other types.
	ErrMismatch = errors.New("ring: options differ")
)

// From the segment.
var (
	ErrNotSegment  = layout.ErrNotSegment
	ErrVersion     = layout.ErrVersion
	ErrLayout      = layout.ErrLayout
	ErrByteOrder   = layout.ErrByteOrder
	ErrCorrupt     = layout.ErrCorrupt
	ErrUnsupported = layout.ErrUnsupported
	// ErrInUse says that somebody is attached, or, with IfDrained, that unread messages are left.
	ErrInUse = seg.ErrInUse
)

// FormatError says which field of a segment was found with which value, and what was expected.
type FormatError = layout.FormatError

// SizeError says that a message, or a buffer, has the wrong size; both in bytes.
type SizeError struct{ Got, Max int }

func (e *SizeError) Error() string {
	return fmt.Sprintf("ring: message of %d bytes: at most %d fit (MaxMessage); send less, or create the ring with larger slots", e.Got, e.Max)
}

// PeerError names the stalled participant that a wait ended behind. Err is the error of the context that ended the wait.
type PeerError struct {
	Role     Role
	PID      int
	Position uint64
	Err      error
}

func (e *PeerError) Error() string {
	return fmt.Sprintf("ring: behind a stalled %s (pid %d, position %d): %v", e.Role, e.PID, e.Position, e.Err)
}

func (e *PeerError) Unwrap() error { return e.Err }

// corrupt makes the error for a word that fits no case of the format.
func corrupt(field string, position, got uint64) error {
	return &FormatError{Field: fmt.Sprintf("%s at position %d", field, position), Got: fmt.Sprintf("%#x", got), Want: "a value that the format allows there", Err: ErrCorrupt}
}
