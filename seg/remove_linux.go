//go:build amd64 || arm64

package seg

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/internal/testpoint"
)

// Remove removes a segment, its contents included. A file that is no segment at all is left alone; a damaged segment, or
// one of another version, is removed.
//
// Removing needs permission to open the file as well as permission to delete it.
//
// Blocks: never. Failure: ErrInUse while anybody is attached, this process included (observers do not count);
// fs.ErrNotExist; what Check or Force returned.
func Remove(name string, o RemoveOptions) error {
	dir, path, err := locate(name, o.Dir)
	if err != nil {
		return err
	}
	if err := remove(name, dir, path, o); err != nil {
		return fmt.Errorf("seg: remove %s: %w", name, err)
	}
	return nil
}

func remove(name, dir, path string, o RemoveOptions) error {
	mapped := o.Check != nil || o.Force != nil
	flags := unix.O_RDONLY
	if mapped {
		flags = unix.O_RDWR
	}
	for range openTries {
		fd, err := openRegular(path, flags)
		if err != nil {
			return err
		}
		err = removeOpen(fd, name, dir, path, o)
		_ = unix.Close(fd)
		if !errors.Is(err, errReplaced) {
			return err
		}
	}
	return fmt.Errorf("removed and made anew %d times while removing it: %w", openTries, ErrInUse)
}

// errReplaced says that the name leads to another file than the one that was opened.
var errReplaced = errors.New("name was given to another file")

// removeOpen removes the segment behind fd, a description that nobody else has. Taking the exclusive lock on a fresh
// description, instead of converting the shared lock of an open Segment, makes it certain that nobody was let in between.
func removeOpen(fd int, name, dir, path string, o RemoveOptions) error {
	exclusive := true
	if err := flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if err != unix.EWOULDBLOCK {
			return os.NewSyscallError("flock", err)
		}
		if o.Force == nil {
			return ErrInUse
		}
		// A shared lock keeps ordinary removers away. Without it, two of them could meet at the name.
		exclusive = false
		if err := flock(fd, unix.LOCK_SH|unix.LOCK_NB); err != nil {
			if err == unix.EWOULDBLOCK {
				return fmt.Errorf("somebody else is removing it: %w", ErrInUse)
			}
			return os.NewSyscallError("flock", err)
		}
	}
	testpoint.Hit("seg.remove.locked")
	if o.Force == nil { // participants that cannot flock (docs/FORMAT.md section 16) have their byte locks
		if locked, err := getLock(fd, layout.LockParticipant, layout.MaxParticipants, unix.F_RDLCK); err != nil {
			return err
		} else if locked {
			return ErrInUse
		}
	}
	if same, err := leadsTo(path, fd); err != nil {
		return pathError("lstat", path, err)
	} else if !same {
		return errReplaced
	}
	h, herr := readHeader(fd)
	if errors.Is(herr, layout.ErrNotSegment) && string(h.Magic[:]) != layout.Magic {
		return herr
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	if err := callMapped(fd, &h, herr, exclusive, o); err != nil {
		return err
	}
	testpoint.Hit("seg.remove.checked")
	if err := dropName(&h, herr, name, dir, path, st.Uid); err != nil {
		return err
	}
	if st.Nlink > 1 {
		removePrivate(fd, name, dir)
	}
	return nil
}

// dropName takes the name away, and with it the memory. For System V the anchor first gets a private name: from that step
// on the name is free, and if this process dies before the segment is gone as well, a sweep finds it through the anchor.
func dropName(h *layout.Header, herr error, name, dir, path string, uid uint32) error {
	if h.Backing != layout.BackingSysV || !headerUsable(herr) {
		err := unix.Unlink(path)
		testpoint.Hit("seg.remove.unlinked")
		return pathError("unlink", path, err)
	}
	private := newPrivateName(name, dir)
	if err := unix.Rename(path, private); err != nil {
		return pathError("rename", path, err)
	}
	testpoint.Hit("seg.remove.renamed")
	if err := removeSysV(h, uid, true); err != nil {
		// Not allowed to, as a rule: the segment keeps its name, unless somebody has taken it.
		_ = unix.Renameat2(unix.AT_FDCWD, private, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
		return err
	}
	testpoint.Hit("seg.remove.shm")
	err := unix.Unlink(private)
	testpoint.Hit("seg.remove.unlinked")
	if err == unix.ENOENT {
		return nil // a sweep was faster
	}
	return pathError("unlink", private, err)
}

// callMapped maps the segment and calls what the options want to be called.
func callMapped(fd int, h *layout.Header, herr error, exclusive bool, o RemoveOptions) error {
	call := o.Check
	if o.Force != nil && (!exclusive || o.Check == nil) {
		call = o.Force
	}
	if call == nil {
		return nil
	}
	if herr != nil {
		if o.Force != nil {
			return nil // nobody can be told through a segment that nobody can open
		}
		return herr
	}
	var (
		m   *mapping
		err error
	)
	if h.Backing == layout.BackingSysV {
		m, err = attachSysV(h, false)
		if errors.Is(err, layout.ErrCorrupt) && o.Force != nil {
			return nil
		}
	} else {
		m, err = mapFile(fd, int64(h.SegmentSize), NoHuge, false)
	}
	if err != nil {
		return err
	}
	err = m.touch(func() error { return call(m.bytes(h.SegmentSize), *h) })
	if uerr := m.unmap(); err == nil && uerr != nil {
		err = os.NewSyscallError("munmap", uerr)
	}
	return err
}

// headerUsable says whether the fields of a header can be read although Decode had something against it: it is of this
// layout, only not finished, damaged or too large for its file.
func headerUsable(err error) bool {
	return err == nil || errors.Is(err, layout.ErrCorrupt)
}

// removePrivate removes the private name of a segment whose creator died between giving it its name and that.
func removePrivate(fd int, name, dir string) {
	privates, _ := privateNames(dir) // Sweep will find what is not found here
	for _, p := range privates {
		if p.name != name {
			continue
		}
		if same, err := leadsTo(p.path, fd); err == nil && same {
			_ = unix.Unlink(p.path)
		}
	}
}

// privateName is the file of a creation or removal in progress, or of one that died.
type privateName struct{ name, path string }

// newPrivateName makes up a private name for a segment: .NAME.<16 hexadecimal digits>.tmp.
func newPrivateName(name, dir string) string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	return filepath.Join(dir, "."+name+"."+hex.EncodeToString(random[:])+".tmp")
}

// privateNames lists the private names in a directory.
func privateNames(dir string) ([]privateName, error) {
	entries, err := os.ReadDir(dir)
	var found []privateName
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), ".")
		if !ok || !e.Type().IsRegular() {
			continue
		}
		f := strings.Split(rest, ".")
		if len(f) != 3 || f[2] != "tmp" || len(f[1]) != 16 || CheckName(f[0]) != nil {
			continue
		}
		if _, err := hex.DecodeString(f[1]); err != nil {
			continue
		}
		found = append(found, privateName{f[0], filepath.Join(dir, e.Name())})
	}
	return found, err
}

// Sweep removes what dead creators and removers left in a directory: private names on which nobody holds a lock any more,
// and the System V segments that belong to them. It returns the paths of what it removed. Files of others that it may
// not open or delete are left alone.
//
// Blocks: never.
func Sweep(dir string) ([]string, error) {
	if dir == "" {
		dir = DefaultDir()
	}
	privates, err := privateNames(dir)
	if err != nil {
		return nil, fmt.Errorf("seg: sweep: %w", err)
	}
	var (
		removed []string
		errs    []error
	)
	for _, p := range privates {
		ok, err := sweepOne(p, dir)
		if ok {
			removed = append(removed, p.path)
		}
		switch {
		case err == nil, errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		default:
			errs = append(errs, fmt.Errorf("seg: sweep %s: %w", p.path, err))
		}
	}
	return removed, errors.Join(errs...)
}

// sweepOne removes one private name if its creator is dead.
func sweepOne(p privateName, dir string) (bool, error) {
	fd, err := openRegular(p.path, unix.O_RDONLY)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	published, err := leadsTo(filepath.Join(dir, p.name), fd)
	if err != nil {
		return false, err
	}
	if !published {
		if err := flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
			if err == unix.EWOULDBLOCK {
				return false, nil // its creator lives, or somebody else is sweeping
			}
			return false, os.NewSyscallError("flock", err)
		}
		testpoint.Hit("seg.sweep.locked")
		// Under the lock the name can no longer be published.
		if published, err = leadsTo(filepath.Join(dir, p.name), fd); err != nil {
			return false, err
		}
	}
	same, err := leadsTo(p.path, fd)
	if err != nil || !same {
		return false, err
	}
	if !published {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return false, os.NewSyscallError("fstat", err)
		}
		h, err := readHeader(fd)
		if headerUsable(err) {
			if err := removeSysV(&h, st.Uid, false); err != nil {
				return false, err
			}
		}
	}
	testpoint.Hit("seg.sweep.shm")
	if err := unix.Unlink(p.path); err != nil {
		return false, pathError("unlink", p.path, err)
	}
	return true, nil
}
