package layout

import (
	"errors"
	"fmt"
	"io/fs"
)

// What can be wrong with a segment, and what this platform cannot do. Every *FormatError is one of the first five.
var (
	ErrNotSegment  = errors.New("millrace: not a segment")
	ErrByteOrder   = errors.New("millrace: segment of the other byte order")
	ErrVersion     = errors.New("millrace: segment of another version")
	ErrLayout      = errors.New("millrace: segment of another layout")
	ErrCorrupt     = errors.New("millrace: segment is corrupt")
	ErrUnsupported = fmt.Errorf("millrace: %w", errors.ErrUnsupported)
)

// FormatError says which part of a segment is not what it must be.
//
// errors.Is makes it one of ErrNotSegment, ErrByteOrder, ErrVersion, ErrLayout and ErrCorrupt.
type FormatError struct {
	Field     string // as docs/FORMAT.md names it, or "file size"
	Got, Want any
	Err       error // one of the five
}

// Unwrap returns the class of the error.
func (e *FormatError) Unwrap() error { return e.Err }

// Error says what was found, what was expected and what to do next.
func (e *FormatError) Error() string {
	class, advice := e.Err, ""
	switch {
	case errors.Is(e.Err, ErrNotSegment):
		advice = "choose another name, or remove the file if nobody needs it"
	case errors.Is(e.Err, ErrByteOrder):
		advice = "it was made on a machine of the other byte order, or damaged; remove it and create it here"
	case errors.Is(e.Err, ErrVersion), errors.Is(e.Err, ErrLayout):
		advice = "use the same release of millrace on both sides, or remove it and create it again"
	case e.Field == "sysv_id":
		advice = "share the IPC namespace of its creator (--ipc), or remove it and create it again"
	case errors.Is(e.Err, ErrCorrupt):
		advice = "something else wrote to it; remove it and create it again"
	default:
		class = ErrCorrupt
	}
	s := fmt.Sprintf("%v: %s is %s, want %s", class, e.Field, show(e.Got), show(e.Want))
	if advice != "" {
		s += "; " + advice
	}
	return s
}

// show prints a value in a form that does not hide odd bytes.
func show(v any) string {
	switch v := v.(type) {
	case []byte:
		return fmt.Sprintf("%q", v)
	case string:
		return v
	case uint64:
		if v > 1<<40 {
			return fmt.Sprintf("%#x", v)
		}
	}
	return fmt.Sprint(v)
}

// OptionError says which option of a new segment is out of range. It is fs.ErrInvalid.
type OptionError struct {
	Option string
	Got    any
	Want   string
}

// Is makes an OptionError fs.ErrInvalid.
func (e *OptionError) Is(target error) bool { return target == fs.ErrInvalid }

// Error says what was asked for and what is possible.
func (e *OptionError) Error() string {
	return fmt.Sprintf("millrace: option %s is %v, want %s", e.Option, e.Got, e.Want)
}
