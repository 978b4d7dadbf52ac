//go:build linux

package process

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

// children are the tasks that this test binary does as a child process, by name. The files of this package fill it from init functions; a test starts one
// with proc.Start(t, []string{name, args...}), and tells it and asks it by lines over its standard input and output.
var children = map[string]func(args []string) error{}

func TestMain(m *testing.M) {
	tasks := make(map[string]func(*proc.Child) error, len(children))
	for name, f := range children {
		tasks[name] = func(c *proc.Child) error { return f(c.Args) }
	}
	proc.Main(m, tasks)
}

var kinds = []ring.Kind{ring.SPSC, ring.MPMC}

// say prints one line for the parent, with one system call.
func say(format string, args ...any) {
	if _, err := fmt.Fprintf(os.Stdout, format+"\n", args...); err != nil {
		os.Exit(2) // the parent is gone
	}
}

var input = bufio.NewReader(os.Stdin)

// hear waits for a line from the parent; it ends the child when the parent is gone.
func hear() string {
	s, err := input.ReadString('\n')
	if err != nil {
		os.Exit(0)
	}
	return strings.TrimSpace(s)
}

// patience is the context of calls that must succeed soon.
func patience() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), proc.Patience)
}

// start lets all children pass their barrier: each says "ready" and waits for a line.
func start(ps ...*proc.Proc) {
	for _, p := range ps {
		p.Want("ready")
	}
	for _, p := range ps {
		p.Tell("go")
	}
}

// meet is the child's side of start.
func meet() {
	say("ready")
	hear()
}

// succeed requires that all children end well.
func succeed(t *testing.T, ps ...*proc.Proc) {
	t.Helper()
	for _, p := range ps {
		p.Succeeds()
	}
}

// pattern is the bytes that payloads are cut out of.
var pattern = func() []byte {
	b := make([]byte, 1<<16)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b) // never fails
	return b
}()

// mix spreads the bits of id (splitmix64).
func mix(id uint64) uint64 {
	id += 0x9e3779b97f4a7c15
	id = (id ^ id>>30) * 0xbf58476d1ce4e5b9
	id = (id ^ id>>27) * 0x94d049bb133111eb
	return id ^ id>>31
}

// payload writes message id to buf and returns it: its size, least to most bytes, and its contents follow from id alone. One in 16 may be long, the others
// are short. The first 8 bytes are id, if there are as many.
func payload(buf []byte, id uint64, least, most int) []byte {
	h := mix(id)
	span := most - least + 1
	if h>>60 != 0 {
		span = min(span, 40)
	}
	m := buf[:least+int(h&(1<<28-1))%span]
	copy(m, pattern[h>>28&(1<<15-1):])
	if len(m) >= 8 {
		binary.LittleEndian.PutUint64(m, id)
	}
	return m
}

// verify checks that m is message id.
func verify(m []byte, id uint64, least, most int, scratch []byte) error {
	if want := payload(scratch, id, least, most); !bytes.Equal(m, want) {
		return fmt.Errorf("message %#x: %d bytes %.64x, not %d bytes %.64x", id, len(m), m, len(want), want)
	}
	return nil
}

// over says whether err is the end of the stream.
func over(err error) bool { return errors.Is(err, io.EOF) }
