//go:build linux && (amd64 || arm64)

package seg_test

import (
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/seg"
)

// exampleDir returns a directory of its own for the segments of an example.
func exampleDir() (dir string, remove func()) {
	dir, err := os.MkdirTemp("/dev/shm", "millrace-example-")
	if err != nil {
		log.Fatal(err)
	}
	return dir, func() { _ = os.RemoveAll(dir) }
}

// header describes the smallest ring, which is what a segment carries here.
func header() seg.Header {
	return seg.Header{Kind: layout.KindSPSC, Policy: layout.PolicyRedeliver, Slots: 1, SlotSize: 8, EntryStride: 64, Participants: 1}
}

// A segment appears under its name when it is complete, and cannot be removed while somebody is attached.
func ExampleCreate() {
	dir, remove := exampleDir()
	defer remove()

	lastPage := func(mem []byte) []byte { return mem[len(mem)-layout.Page:] }
	const note = "written before anybody can look"

	s, err := seg.Create("numbers", seg.CreateOptions{Dir: dir, Header: header(), Init: func(mem []byte) {
		copy(lastPage(mem), note)
	}})
	if err != nil {
		log.Fatal(err)
	}
	_, err = seg.Create("numbers", seg.CreateOptions{Dir: dir, Header: header()})
	fmt.Println("a second one:", errors.Is(err, os.ErrExist))

	again, err := seg.Open("numbers", seg.OpenOptions{Dir: dir})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", lastPage(again.Bytes())[:len(note)])
	fmt.Println("in use:", errors.Is(seg.Remove("numbers", seg.RemoveOptions{Dir: dir}), seg.ErrInUse))
	if err := errors.Join(s.Close(), again.Close()); err != nil {
		log.Fatal(err)
	}
	fmt.Println("removed:", seg.Remove("numbers", seg.RemoveOptions{Dir: dir}))
	// Output:
	// a second one: true
	// written before anybody can look
	// in use: true
	// removed: <nil>
}

// A lock on a byte is a proof of life: it ends with its holder, however that ends, and needs no pid.
func ExampleSegment_Lock() {
	dir, remove := exampleDir()
	defer remove()
	s, err := seg.Create("members", seg.CreateOptions{Dir: dir, Header: header()})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()

	const member = layout.LockParticipant // the byte of participant 0, far behind the end of the file
	lock, err := s.Lock(member)
	if err != nil {
		log.Fatal(err)
	}
	alive, err := s.Probe(member)
	fmt.Println("alive:", alive, err)

	_, dead, err := s.Hold(member)
	fmt.Println("may be recovered:", dead, err)
	if err := lock.Close(); err != nil { // as the kernel does when the process dies
		log.Fatal(err)
	}
	release, dead, err := s.Hold(member)
	defer release()
	fmt.Println("may be recovered:", dead, err)
	// Output:
	// alive: true <nil>
	// may be recovered: false <nil>
	// may be recovered: true <nil>
}

// Inspect reads the header without mapping the segment and without touching its locks.
func ExampleInspect() {
	dir, remove := exampleDir()
	defer remove()
	s, err := seg.Create("jobs", seg.CreateOptions{Dir: dir, Header: header(), Perm: 0o640})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()

	info, err := seg.Inspect("jobs", dir)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info.Name, info.Mode, seg.Backing(info.Header.Backing), "slots:", info.Header.Slots)
	// Output: jobs -rw-r----- posix slots: 1
}
