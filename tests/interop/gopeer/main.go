//go:build linux

// Command gopeer is the Go peer of tests/interop/PEER.md, and the reference for the peers of the other languages.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cd1900cf/millrace/ring"
)

// program is what the commands work on.
type program struct {
	out     *bufio.Writer
	timeout time.Duration

	ring     *ring.Ring
	producer *ring.Producer
	consumer *ring.Consumer

	reservation ring.Reservation
	lease       []ring.Message
	held        int // index in lease of the first message that is held
}

// errProtocol is an error of the command, not of the ring.
var errProtocol = errors.New("bad command")

// partial is an error after some messages.
type partial struct {
	count int
	items []string
	err   error
}

func (p *partial) Error() string { return p.err.Error() }
func (p *partial) Unwrap() error { return p.err }

var (
	errTorn  = errors.New("torn message")
	errOrder = errors.New("messages out of order")
)

// code is the name of err in the protocol.
func code(err error) string {
	var size *ring.SizeError
	var stalled *ring.PeerError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &stalled):
		return "stalled"
	case errors.As(err, &size):
		return "size"
	}
	for _, c := range []struct {
		err  error
		code string
	}{
		{errProtocol, "protocol"}, {errTorn, "torn"}, {errOrder, "order"},
		{ring.ErrFull, "full"}, {ring.ErrEmpty, "empty"}, {io.EOF, "eof"}, {ring.ErrNoConsumers, "noconsumers"}, {context.DeadlineExceeded, "timeout"},
		{ring.ErrClosed, "closed"}, {ring.ErrSegmentLost, "lost"}, {ring.ErrMisuse, "misuse"}, {ring.ErrRoleTaken, "roletaken"},
		{ring.ErrTooManyParticipants, "toomany"}, {ring.ErrMismatch, "mismatch"}, {ring.ErrNotSegment, "notsegment"}, {ring.ErrByteOrder, "byteorder"},
		{ring.ErrVersion, "version"}, {ring.ErrLayout, "layout"}, {ring.ErrCorrupt, "corrupt"}, {ring.ErrUnsupported, "unsupported"},
		{ring.ErrInUse, "inuse"}, {io.ErrShortBuffer, "shortbuffer"}, {fs.ErrExist, "exist"}, {fs.ErrNotExist, "notexist"},
		{fs.ErrPermission, "permission"}, {fs.ErrInvalid, "invalid"},
	} {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return "system"
}

// context bounds a blocking call.
func (p *program) context() (context.Context, context.CancelFunc) {
	if p.timeout == 0 {
		return context.Background(), func() {}
	}
	return context.WithTimeout(context.Background(), p.timeout)
}

// answer prints the answer to a command.
func (p *program) answer(words []string, err error) {
	line := "ok"
	if err != nil {
		fmt.Fprintln(os.Stderr, "gopeer:", err)
		part := &partial{}
		errors.As(err, &part)
		line = fmt.Sprintf("err %s %d", code(err), part.count)
		words = part.items
	}
	if len(words) > 0 {
		line += " " + strings.Join(words, " ")
	}
	p.say(line)
}

// say prints one line.
func (p *program) say(line string) {
	if _, err := p.out.WriteString(line + "\n"); err != nil || p.out.Flush() != nil {
		os.Exit(1) // nobody listens
	}
}

func main() {
	p := &program{out: bufio.NewWriter(os.Stdout), timeout: 20 * time.Second}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		f := strings.Fields(in.Text())
		if len(f) == 0 {
			continue
		}
		if f[0] == "exit" {
			os.Exit(0)
		}
		c, ok := commands[f[0]]
		a := args{words: f[1:]}
		if !ok {
			p.answer(nil, fmt.Errorf("%w: %s", errProtocol, f[0]))
			continue
		}
		words, err := c(p, &a)
		if a.err != nil {
			err = a.err
		}
		p.answer(words, err)
		if a.then != nil && err == nil {
			a.then()
		}
	}
}

// args are the words behind a command. A word that is missing or wrong is noted in err, and the command does nothing.
type args struct {
	words []string
	err   error
	then  func() // what to do after the answer
}

func (a *args) more() bool { return len(a.words) > 0 }

func (a *args) word() string {
	if len(a.words) == 0 {
		a.err = fmt.Errorf("%w: too few words", errProtocol)
		return ""
	}
	w := a.words[0]
	a.words = a.words[1:]
	return w
}

func (a *args) number() uint64 {
	w := a.word()
	n, err := strconv.ParseUint(w, 10, 64)
	if err != nil && a.err == nil {
		a.err = fmt.Errorf("%w: number %q", errProtocol, w)
	}
	return n
}

// flag says whether w is among the words that are left.
func (a *args) flag(w string) bool {
	for _, x := range a.words {
		if x == w {
			return true
		}
	}
	return false
}

// key returns the value of KEY=VALUE among the words that are left.
func (a *args) key(k string) (string, bool) {
	for _, x := range a.words {
		if v, ok := strings.CutPrefix(x, k+"="); ok {
			return v, true
		}
	}
	return "", false
}

// numberOf is key for a number; 0 when it is not there. base as in strconv.
func (a *args) numberOf(k string, base int) uint64 {
	v, ok := a.key(k)
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(v, base, 64)
	if err != nil {
		a.err = fmt.Errorf("%w: %s=%s", errProtocol, k, v)
	}
	return n
}
