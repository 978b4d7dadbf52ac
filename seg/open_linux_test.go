//go:build amd64 || arm64

package seg

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/cd1900cf/millrace/internal/layout"
)

// Every way in which a file is not a sound segment has its own error, from every way to open it, and no signal.
func TestOpenNamesWhatIsWrong(t *testing.T) {
	le := binary.LittleEndian
	seal := func(b []byte) { le.PutUint64(b[layout.HeaderChecksum:], xxhash.Sum64(b[:layout.HeaderChecksum])) }
	for _, c := range []struct {
		name      string
		spoil     func(b []byte) []byte
		want      error
		removable bool
	}{
		{"foreign", func(b []byte) []byte { return []byte("something else entirely") }, layout.ErrNotSegment, false},
		{"large foreign", func(b []byte) []byte { return make([]byte, 1<<20) }, layout.ErrNotSegment, false},
		{"empty", func(b []byte) []byte { return nil }, layout.ErrNotSegment, false},
		{"cut header", func(b []byte) []byte { return b[:100] }, layout.ErrNotSegment, true},
		{"only header", func(b []byte) []byte { return b[:4096] }, layout.ErrCorrupt, true},
		{"truncated", func(b []byte) []byte { return b[:len(b)-1] }, layout.ErrCorrupt, true},
		{"version", func(b []byte) []byte { b[layout.HeaderVersion] = 2; seal(b); return b }, layout.ErrVersion, true},
		{"byte order", func(b []byte) []byte { le.PutUint32(b[layout.HeaderByteOrder:], 0x0D0C0B0A); seal(b); return b }, layout.ErrByteOrder, true},
		{"layout", func(b []byte) []byte { b[layout.HeaderLayout]++; seal(b); return b }, layout.ErrLayout, true},
		{"offsets", func(b []byte) []byte { b[layout.HeaderDataOffset]++; seal(b); return b }, layout.ErrLayout, true},
		{"checksum", func(b []byte) []byte { b[layout.HeaderSlots]++; return b }, layout.ErrCorrupt, true},
		{"not ready", func(b []byte) []byte { b[layout.HeaderReady] = 0; return b }, layout.ErrCorrupt, true},
		{"memfd copy", func(b []byte) []byte { b[layout.HeaderBacking] = layout.BackingMemfd; seal(b); return b }, ErrUnsupported, true},
		{"anchor of nothing", func(b []byte) []byte {
			b[layout.HeaderBacking] = layout.BackingSysV
			le.PutUint32(b[layout.HeaderSysvID:], 0x7ffffff0)
			seal(b)
			return b[:4096]
		}, layout.ErrCorrupt, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := shm(t)
			path := filepath.Join(dir, "a")
			check(t, create(t, "a", options(dir, POSIX)).Close())
			b, err := os.ReadFile(path)
			check(t, err)
			check(t, os.WriteFile(path, c.spoil(b), 0o600))
			for _, ro := range []bool{false, true} {
				_, err := Open("a", OpenOptions{Dir: dir, ReadOnly: ro})
				wantIs(t, err, c.want)
				var f *FormatError
				if c.want != ErrUnsupported && !errors.As(err, &f) {
					t.Errorf("%v is no *FormatError", err)
				}
			}
			if n := descriptors(t, path); n != 0 {
				t.Errorf("%d descriptors left open", n)
			}
			info, err := Inspect("a", dir)
			switch {
			case c.removable && err != nil:
				t.Errorf("Inspect: %v", err)
			case c.removable && c.want != ErrUnsupported:
				wantIs(t, info.Err, c.want)
			case !c.removable:
				wantIs(t, err, layout.ErrNotSegment)
			}
			err = Remove("a", RemoveOptions{Dir: dir})
			if c.removable {
				check(t, err)
			} else {
				wantIs(t, err, layout.ErrNotSegment)
			}
		})
	}
}

// A file that shrinks between the check of its size and the first access must not kill the process.
func TestTruncationWhileOpeningIsAnError(t *testing.T) {
	dir := shm(t)
	s := create(t, "a", options(dir, POSIX))
	check(t, os.Truncate(s.Path(), 0))
	m, err := mapFile(s.fd, 1<<20, NoHuge, true)
	check(t, err)
	defer m.unmap()
	err = m.touch(func() error { _ = ready(m.bytes(4096)).Load(); return nil })
	wantIs(t, err, layout.ErrCorrupt)
}

func TestOpenAsAnotherUser(t *testing.T) {
	root(t)
	dir := shm(t)
	check(t, os.Chmod(dir, 0o777|fs.ModeSticky))
	nobody := func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	for _, b := range named {
		for perm, want := range map[fs.FileMode]string{0o600: "refused true true", 0o644: "observed true", 0o666: "opened"} {
			o := options(dir, b)
			o.Perm = perm
			s := create(t, "a", o)
			c := start(t, nobody, "open", dir, "a")
			c.want(want)
			c.finish()
			check(t, s.Close())
			check(t, Remove("a", RemoveOptions{Dir: dir}))
		}
	}
}

func TestMemfdIsHandedOnByDescriptor(t *testing.T) {
	s := create(t, "ring", options("", Memfd))
	if s.Path() != "" || s.Name() != "ring" || !s.Sealed() {
		t.Fatalf("path %q, name %q, sealed %v", s.Path(), s.Name(), s.Sealed())
	}
	f, err := s.File()
	check(t, err)
	defer f.Close()
	if err := f.Truncate(0); !errors.Is(err, syscall.EPERM) {
		t.Fatalf("the seal does not hold: %v", err)
	}
	c := start(t, func(cmd *exec.Cmd) { cmd.ExtraFiles = []*os.File{f} }, "descriptor")
	c.want("attached ring")
	if s.Bytes()[layout.ControlOffset+64] != 42 {
		t.Fatal("the memory is not shared")
	}
	locked, err := s.Probe(layout.LockParticipant)
	if !locked || err != nil {
		t.Fatalf("probe %v, %v", locked, err)
	}
	c.kill()
	eventually(t, "lock of the dead", func() bool {
		locked, err := s.Probe(layout.LockParticipant)
		check(t, err)
		return !locked
	})
	_, err = s.Attached()
	wantIs(t, err, ErrUnsupported)

	o, err := OpenFile(f, OpenOptions{ReadOnly: true})
	check(t, err)
	if o.Header() != s.Header() || !o.Sealed() || o.Name() != "ring" {
		t.Fatalf("%+v", o)
	}
	check(t, o.Close())
}

func TestOpenFile(t *testing.T) {
	dir := shm(t)
	s := create(t, "a", options(dir, POSIX))
	f, err := s.File()
	check(t, err)
	o, err := OpenFile(f, OpenOptions{})
	check(t, err)
	check(t, f.Close())
	if o.Name() != "a" || o.Path() != s.Path() || o.Sealed() {
		t.Fatalf("%q %q", o.Name(), o.Path())
	}
	check(t, s.Close())
	wantIs(t, Remove("a", RemoveOptions{Dir: dir}), ErrInUse)
	check(t, o.Close())

	other := filepath.Join(dir, "other")
	check(t, os.WriteFile(other, []byte("hello"), 0o600))
	f, err = os.Open(other)
	check(t, err)
	defer f.Close()
	_, err = OpenFile(f, OpenOptions{ReadOnly: true})
	wantIs(t, err, layout.ErrNotSegment)
	r, w, err := os.Pipe()
	check(t, err)
	defer r.Close()
	defer w.Close()
	_, err = OpenFile(r, OpenOptions{ReadOnly: true})
	wantIs(t, err, layout.ErrNotSegment)

	v := create(t, "v", options(dir, SysV))
	_, err = v.File()
	wantIs(t, err, ErrUnsupported)
}

func TestOwnOnly(t *testing.T) {
	root(t)
	dir := shm(t)
	s := create(t, "a", options(dir, POSIX))
	check(t, os.Chmod(dir, 0o777|fs.ModeSticky))
	open := func() error {
		o, err := Open("a", OpenOptions{Dir: dir, OwnOnly: true})
		if err == nil {
			check(t, o.Close())
		}
		return err
	}
	check(t, open())
	check(t, os.Chown(s.Path(), 65534, 65534))
	wantIs(t, open(), fs.ErrPermission)
	check(t, os.Chmod(dir, 0o755))
	check(t, open())
}

func TestListAndInspect(t *testing.T) {
	dir := shm(t)
	p := create(t, "p", options(dir, POSIX))
	v := create(t, "v", options(dir, SysV))
	idle := create(t, "idle", options(dir, POSIX))
	check(t, idle.Close())
	check(t, os.WriteFile(filepath.Join(dir, "other"), []byte("hello"), 0o600))
	check(t, create(t, "bad", options(dir, POSIX)).Close())
	check(t, os.Truncate(filepath.Join(dir, "bad"), 8192))
	infos, err := List(dir)
	check(t, err)
	got := map[string]Info{}
	for _, i := range infos {
		got[i.Name] = i
	}
	if len(got) != 4 {
		t.Fatalf("listed %v", infos)
	}
	for name, attached := range map[string]bool{"p": true, "v": true, "idle": false, "bad": false} {
		i := got[name]
		if i.Attached != attached || i.Mode != 0o600 || i.UID != uint32(os.Geteuid()) || i.ModTime.IsZero() || i.Path != filepath.Join(dir, name) {
			t.Errorf("%s: %+v", name, i)
		}
	}
	wantIs(t, got["bad"].Err, layout.ErrCorrupt)
	if got["p"].Header != p.Header() || got["p"].Err != nil || got["p"].NAttach != 1 || got["v"].NAttach != 1 {
		t.Errorf("%+v", got["p"])
	}
	if got["v"].Size != int64(v.Header().SegmentSize) {
		t.Errorf("size of the System V segment %d", got["v"].Size)
	}
	_, err = Inspect("other", dir)
	wantIs(t, err, layout.ErrNotSegment)
	_, err = Inspect("absent", dir)
	wantIs(t, err, fs.ErrNotExist)
	_, err = List(filepath.Join(dir, "absent"))
	wantIs(t, err, fs.ErrNotExist)
}

func TestDefaultDir(t *testing.T) {
	t.Setenv("MILLRACE_DIR", "")
	if DefaultDir() != "/dev/shm" {
		t.Fatal(DefaultDir())
	}
	dir := shm(t)
	t.Setenv("MILLRACE_DIR", dir)
	create(t, "a", options("", POSIX))
	if got := files(t, dir); len(got) != 1 {
		t.Fatalf("files %q", got)
	}
	o := options(filepath.Join(dir, "absent"), POSIX)
	_, err := Create("a", o)
	wantIs(t, err, fs.ErrNotExist)
}
