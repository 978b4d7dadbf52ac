//go:build linux

// Command child does one operation on a ring between the functions perform and performed, where its tracer kills or stops it. What came of the
// operation goes to standard output in one line, if it gets that far.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/crash/message"
)

func init() { runtime.LockOSThread() } // the main thread is the one that is traced

var forever = context.Background()

// source is what the numbers of the child's messages begin with.
const source = 2 << 32

// child is the state of an operation. What an operation does is noted without allocation and printed in the end.
type child struct {
	dir  string
	r    *ring.Ring
	p    *ring.Producer
	q    *ring.Consumer
	buf  []byte
	msgs [][]byte

	sent int // of msgs
	got  []receipt
	err  error
}

// receipt is a message as it was received: its bytes are checked later.
type receipt struct {
	data  [256]byte
	n     int
	count int
	back  bool // it was returned
}

// operation is what happens before the tracer looks, and what happens while it does.
type operation struct{ setup, run func(*child) }

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	c := &child{dir: os.Args[1], got: make([]receipt, 0, 16)}
	op, ok := operations[os.Args[2]]
	if !ok {
		check(fmt.Errorf("no operation %q", os.Args[2]))
	}
	op.setup(c)
	growStack(64)
	perform(c, op.run)
	performed()
	check(c.err)
	c.report()
	if c.r != nil {
		check(c.r.Close())
	}
}

// perform is where stepping begins.
//
//go:noinline
func perform(c *child, run func(*child)) { run(c) }

// performed is where it ends.
//
//go:noinline
func performed() {}

// growStack makes the stack as large as it will have to be, so that it is not moved in the middle of an operation.
//
//go:noinline
func growStack(n int) byte {
	var frame [512]byte
	if n > 0 {
		frame[n] = growStack(n - 1)
	}
	return frame[n]
}

// report prints what was sent, received and returned.
func (c *child) report() {
	var b strings.Builder
	fmt.Fprintf(&b, "sent %d", c.sent)
	for i := range c.got {
		g := &c.got[i]
		seq, err := message.Decode(g.data[:g.n])
		check(err)
		what := "got"
		if g.back {
			what = "back"
		}
		fmt.Fprintf(&b, " %s %d:%d", what, seq, g.count)
	}
	fmt.Println(b.String())
}

// note keeps what was received.
func (c *child) note(b []byte, count int) *receipt {
	c.got = c.got[:len(c.got)+1]
	g := &c.got[len(c.got)-1]
	g.n, g.count = copy(g.data[:], b), count
	return g
}
