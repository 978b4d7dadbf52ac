//go:build amd64 || arm64

package seg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cd1900cf/millrace/internal/layout"
)

// List describes the segments of a directory, in the order of their names. Files that are no segments, and those that
// the caller may not read, are left out; damaged segments are in, with Info.Err. "" is DefaultDir().
func List(dir string) ([]Info, error) {
	if dir == "" {
		dir = DefaultDir()
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("seg: list: %w", err)
	}
	locks := fileLocks()
	var infos []Info
	for _, e := range entries {
		if CheckName(e.Name()) != nil || !e.Type().IsRegular() {
			continue
		}
		info, err := inspect(e.Name(), filepath.Join(dir, e.Name()), locks)
		if err == nil {
			infos = append(infos, info)
		}
	}
	return infos, nil
}

// Inspect describes a segment without mapping it and without touching its locks. "" is DefaultDir().
//
// Failure: fs.ErrNotExist; fs.ErrPermission; a *FormatError that is ErrNotSegment. What is wrong with a file that is a
// segment is in Info.Err.
func Inspect(name, dir string) (Info, error) {
	_, path, err := locate(name, dir)
	if err != nil {
		return Info{}, err
	}
	info, err := inspect(name, path, fileLocks())
	if err != nil {
		return Info{}, fmt.Errorf("seg: inspect %s: %w", name, err)
	}
	return info, nil
}

func inspect(name, path string, locks map[fileID]int) (Info, error) {
	fd, err := openRegular(path, unix.O_RDONLY)
	if err != nil {
		return Info{}, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Info{}, os.NewSyscallError("fstat", err)
	}
	h, herr := readHeader(fd)
	if herr != nil && string(h.Magic[:]) != layout.Magic {
		return Info{}, herr
	}
	info := Info{
		Name: name, Path: path, Size: st.Size, Mode: fs.FileMode(st.Mode) & fs.ModePerm,
		UID: st.Uid, GID: st.Gid, ModTime: time.Unix(st.Mtim.Unix()),
		Header: h, Err: herr, NAttach: locks[idOf(&st)],
	}
	info.Attached = info.NAttach > 0
	if !info.Attached {
		// Everything from the first participant to the role of the consumer.
		n := int64(layout.LockConsumer) + 1 - layout.LockParticipant
		if info.Attached, err = getLock(fd, layout.LockParticipant, n, unix.F_RDLCK); err != nil {
			return Info{}, err
		}
	}
	if herr == nil && h.Backing == layout.BackingSysV {
		info.Err = inspectSysV(&info)
	}
	return info, nil
}

// inspectSysV adds what the System V segment says and reports an anchor without one.
func inspectSysV(info *Info) error {
	id := int(int32(info.Header.SysvID))
	var d unix.SysvShmDesc
	_, err := unix.SysvShmCtl(id, unix.IPC_STAT, &d)
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EIDRM):
		return &layout.FormatError{Field: "sysv_id", Got: fmt.Sprintf("%d, which this IPC namespace does not have", id),
			Want: "the segment of the anchor", Err: layout.ErrCorrupt}
	case err != nil:
		return os.NewSyscallError("shmctl", err)
	}
	info.Size, info.NAttach = int64(d.Segsz), int(d.Nattch)
	return info.Header.CheckSize(info.Size)
}

// fileLocks counts the holders of flock locks by file, from /proc/locks:
//
//	1: FLOCK  ADVISORY  READ  4711 00:1a:2345 0 EOF
//	1: -> FLOCK  ADVISORY  WRITE 4712 00:1a:2345 0 EOF      (waiting, not counted)
//
// The result is empty where /proc does not say.
func fileLocks() map[fileID]int {
	counts := map[fileID]int{}
	b, err := os.ReadFile("/proc/locks")
	if err != nil {
		return counts
	}
	for _, line := range strings.Split(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" {
			continue
		}
		var (
			major, minor uint32
			ino          uint64
		)
		if n, err := fmt.Sscanf(f[5], "%x:%x:%d", &major, &minor, &ino); n == 3 && err == nil {
			counts[fileID{unix.Mkdev(major, minor), ino}]++
		}
	}
	return counts
}
