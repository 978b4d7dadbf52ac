// Package seg creates, opens, lists, inspects, locks and removes segments: files of shared memory with a checked
// header, as docs/FORMAT.md describes them.
//
// A segment lives in a directory (POSIX shared memory, hugetlbfs), in a System V segment behind a small anchor file, or
// behind a descriptor (memfd). Creation is atomic: a segment gets its name when it is complete, and one of any number of
// racing creators wins. Everybody who has a segment open shares a lock on it that ends with the process, so that Remove
// knows whether anybody is left.
//
// What the segment contains behind the header is not this package's business.
package seg

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cd1900cf/millrace/internal/layout"
)

// Header is the decoded header of a segment.
type Header = layout.Header

// FormatError says which part of a file is not what it must be; see the fields of layout.FormatError.
type FormatError = layout.FormatError

// OptionError says which option is out of range. It is fs.ErrInvalid.
type OptionError = layout.OptionError

// What the functions of this package return besides *fs.PathError, *FormatError and *OptionError.
var (
	ErrInUse       = fmt.Errorf("seg: segment is in use")
	ErrLocked      = fmt.Errorf("seg: locked by somebody else")
	ErrName        = fmt.Errorf("seg: bad name: %w", fs.ErrInvalid)
	ErrUnsupported = layout.ErrUnsupported
)

// Backing says what kind of memory a segment is.
type Backing uint32

// The backings. 0 means POSIX.
const (
	POSIX Backing = layout.BackingPOSIX // a file, usually in /dev/shm
	SysV  Backing = layout.BackingSysV  // a System V segment, found through an anchor file
	Memfd Backing = layout.BackingMemfd // no name, handed on by descriptor; sealed against shrinking
)

// String returns the name of the backing in lower case.
func (b Backing) String() string {
	switch b {
	case 0, POSIX:
		return "posix"
	case SysV:
		return "sysv"
	case Memfd:
		return "memfd"
	}
	return fmt.Sprintf("backing(%d)", uint32(b))
}

// HugePages says which pages a segment uses.
type HugePages uint32

// The kinds of pages. Transparent huge pages are a wish: a segment that cannot have them is created without, and
// Segment.Huge says so. The other two are an error when the kernel has no such pages left.
const (
	NoHuge      HugePages = layout.HugeNone
	Transparent HugePages = layout.HugeTransparent
	Huge2M      HugePages = layout.Huge2M
	Huge1G      HugePages = layout.Huge1G
)

// String returns the name of the page kind in lower case.
func (h HugePages) String() string {
	switch h {
	case NoHuge:
		return "none"
	case Transparent:
		return "transparent"
	case Huge2M:
		return "2M"
	case Huge1G:
		return "1G"
	}
	return fmt.Sprintf("hugepages(%d)", uint32(h))
}

// CreateOptions say what Create makes.
type CreateOptions struct {
	Dir     string      // "": DefaultDir()
	Backing Backing     // 0: POSIX
	Huge    HugePages   // 0: NoHuge
	Perm    fs.FileMode // 0: 0600; otherwise exact, whatever the umask

	// Header carries kind, policy, slots, slot_size, entry_stride, participants, max_deliveries, flags and start;
	// Create fills in the rest.
	Header layout.Header

	// Init writes the first contents of everything behind the header, which is all zero when it is called. It runs
	// before anybody else can see the segment. nil: everything stays zero.
	Init func(mem []byte)
}

// OpenOptions say how Open and OpenFile attach.
type OpenOptions struct {
	Dir      string // "": DefaultDir()
	ReadOnly bool   // observe only: map read-only, hold no lock, need read permission only

	// OwnOnly refuses, with fs.ErrPermission, a file that belongs to neither the caller nor root when the directory is
	// writable by everybody and sticky, like /dev/shm. It is for callers that would create the name if it did not
	// exist, and must not be lured into a segment that a stranger planted under it; compare fs.protected_regular in
	// proc_sys_fs(5). Without it the permission bits alone decide, so that users can share a segment on purpose.
	OwnOnly bool
}

// RemoveOptions say under which conditions Remove removes.
type RemoveOptions struct {
	Dir string // "": DefaultDir()

	// Check runs with the segment mapped for reading and writing, while nobody is attached and nobody can attach. An
	// error ends the removal and is returned.
	Check func(mem []byte, h layout.Header) error

	// Force removes although somebody may be attached. It runs with the segment mapped for reading and writing, just
	// before the name goes, so that it can tell the others. An error ends the removal and is returned. It is not called
	// for a segment whose header cannot be trusted.
	Force func(mem []byte, h layout.Header) error
}

// Info describes a segment without mapping it.
type Info struct {
	Name     string
	Path     string
	Size     int64 // bytes of memory; for System V of the segment, not of the anchor
	Mode     fs.FileMode
	UID, GID uint32
	ModTime  time.Time
	Header   layout.Header
	Err      error // what is wrong with it: a *FormatError, or nil

	// Attached says whether anybody has it open, other than as an observer. It is found without touching the locks:
	// from the FLOCK lines of /proc/locks, which show the holders in this PID namespace and those below it, and by
	// asking for registered participants with F_OFD_GETLK, which sees those of every namespace. A process in a foreign
	// PID namespace that has the segment open without any registered participant is not seen; Remove still sees it.
	Attached bool

	// NAttach is the number of attachments: for System V shm_nattch (observers included), otherwise the number of shared
	// locks in /proc/locks. It is a guess as soon as it is returned.
	NAttach int
}

const (
	maxName     = 200
	defaultPerm = 0o600
	defaultDir  = "/dev/shm"
)

// DefaultDir returns $MILLRACE_DIR, or /dev/shm when that is empty.
func DefaultDir() string {
	if dir := os.Getenv("MILLRACE_DIR"); dir != "" {
		return dir
	}
	return defaultDir
}

// CheckName refuses what cannot be the name of a segment.
//
// Failure: an error that is ErrName and fs.ErrInvalid.
func CheckName(name string) error {
	why := ""
	switch {
	case name == "":
		why = "is empty"
	case len(name) > maxName:
		why = fmt.Sprintf("has %d bytes", len(name))
	default:
		for _, c := range []byte(name) {
			switch {
			case c == '/', c == '.':
				why = fmt.Sprintf("contains %q", c)
			case c < ' ', c == 0x7f:
				why = fmt.Sprintf("contains the control character %#02x", c)
			default:
				continue
			}
			break
		}
	}
	if why == "" {
		return nil
	}
	shown := name
	if len(shown) > 40 {
		shown = shown[:40] + "..."
	}
	return fmt.Errorf("%w: %q %s; a name has 1 to %d bytes and no '/', no '.' and no control characters", ErrName, shown, why, maxName)
}

// locate checks the name and returns the directory and the path of a segment.
func locate(name, dir string) (string, string, error) {
	if err := CheckName(name); err != nil {
		return "", "", err
	}
	if dir == "" {
		dir = DefaultDir()
	}
	return dir, filepath.Join(dir, name), nil
}
