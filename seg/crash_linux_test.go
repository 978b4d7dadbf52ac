//go:build testpoint && (amd64 || arm64)

package seg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"testing"

	"github.com/cd1900cf/millrace/internal/layout"
)

// A process is killed right after every step of creation, opening, removal and sweep, in every way in which a segment
// gets its name. Afterwards the name works, what was committed to it is there, the sweep leaves nothing, and no System V
// segment is lost.
func TestKilledAtEveryStep(t *testing.T) {
	creating := map[string][]string{
		"unnamed": {"opened", "reserved", "filled", "ready", "shared", "linked"},
		"private": {"private", "opened", "reserved", "filled", "ready", "shared", "linked"},
		"sysv":    {"private", "key", "shmget", "filled", "ready", "anchor", "shared", "linked"},
	}
	for way, b := range ways {
		for _, step := range creating[way] {
			t.Run(way+"/create."+step, func(t *testing.T) {
				privateNamesFor(t, way)
				before := shmKeys(t)
				dir := shm(t)
				die(t, "seg.create."+step, "create", dir, "a", fmt.Sprint(uint32(b)))
				works(t, dir, b)
				clean(t, dir, before)
			})
		}
		for _, step := range []string{"opened", "locked", "mapped"} {
			t.Run(way+"/open."+step, func(t *testing.T) {
				before := shmKeys(t)
				dir := shm(t)
				check(t, create(t, "a", options(dir, b)).Close())
				die(t, "seg.open."+step, "open", dir, "a")
				works(t, dir, b)
				clean(t, dir, before)
			})
		}
		removing := []string{"locked", "checked", "unlinked"}
		if b == SysV {
			removing = append(removing, "renamed", "shm")
		}
		for _, step := range removing {
			t.Run(way+"/remove."+step, func(t *testing.T) {
				before := shmKeys(t)
				dir := shm(t)
				check(t, create(t, "a", options(dir, b)).Close())
				die(t, "seg.remove."+step, "remove", dir, "a")
				works(t, dir, b)
				clean(t, dir, before)
			})
		}
	}
	for _, step := range []string{"locked", "shm"} {
		t.Run("sysv/sweep."+step, func(t *testing.T) {
			before := shmKeys(t)
			dir := shm(t)
			die(t, "seg.create.shmget", "create", dir, "a", fmt.Sprint(uint32(SysV)))
			die(t, "seg.sweep."+step, "sweep", dir)
			works(t, dir, SysV)
			clean(t, dir, before)
		})
	}
}

// die runs a child that is killed at the label; it must get there.
func die(t *testing.T, label string, task ...string) {
	t.Helper()
	c := start(t, func(cmd *exec.Cmd) {
		cmd.Env = append(cmd.Env, "MILLRACE_TESTPOINT="+label+":1:kill")
		cmd.Stderr = nil
	}, task...)
	for c.line() != "" {
	}
	_ = c.in.Close()
	if err := c.cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Fatalf("the child did not die at %s: %v", label, err)
	}
}

func works(t *testing.T, dir string, b Backing) {
	t.Helper()
	s, err := Create("a", options(dir, b))
	if errors.Is(err, fs.ErrExist) {
		s, err = Open("a", OpenOptions{Dir: dir})
	}
	check(t, err)
	if got := binary.LittleEndian.Uint64(s.Bytes()[layout.ControlOffset:]); got != mark {
		t.Fatalf("half-made segment: %#x", got)
	}
	check(t, s.Close())
}

func clean(t *testing.T, dir string, before map[string]bool) {
	t.Helper()
	if _, err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); len(got) != 1 || got[0] != "a" {
		t.Fatalf("after the sweep: %q", got)
	}
	check(t, Remove("a", RemoveOptions{Dir: dir}))
	if got := files(t, dir); len(got) != 0 {
		t.Fatalf("left %q", got)
	}
	if after := shmKeys(t); len(after) != len(before) {
		t.Fatalf("System V segments %v, before %v", after, before)
	}
}
