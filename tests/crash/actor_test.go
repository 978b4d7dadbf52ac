//go:build testpoint && linux

package crash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/crash/message"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

var forever = context.Background()

// actor is the child's side of a scenario. It says what it is about to do before each call and what came of it afterwards, one line each, so that
// the account is short of one call at most when it is killed. Any error it does not expect ends it.
type actor struct {
	c   *proc.Child
	r   *ring.Ring
	p   *ring.Producer
	q   *ring.Consumer
	seq uint64
	buf []byte
}

// failure is an error that ends the child.
type failure struct{ error }

func must(err error) {
	if err != nil {
		panic(failure{err})
	}
}

// act is the task of a child: ring directory, scenario, source number.
func act(c *proc.Child) (err error) {
	defer func() {
		if e := recover(); e != nil {
			f, ok := e.(failure)
			if !ok {
				panic(e)
			}
			err = f.error
		}
	}()
	s, ok := scenarios[c.Args[1]]
	if !ok {
		return fmt.Errorf("no scenario %q", c.Args[1])
	}
	a := &actor{c: c}
	if _, err := fmt.Sscan(c.Args[2], &a.seq); err != nil {
		return err
	}
	a.seq <<= 32
	if !s.opens {
		r, err := ring.Open("q", ring.WithDir(c.Args[0]))
		if err != nil {
			return err
		}
		a.r = r
		a.buf = make([]byte, r.MaxMessage())
	}
	s.child(a)
	if a.r != nil {
		must(a.r.Close())
	}
	return nil
}

func (a *actor) producer() {
	p, err := a.r.NewProducer(ring.WaitForConsumers())
	must(err)
	a.p = p
}

func (a *actor) consumer() {
	q, err := a.r.NewConsumer()
	must(err)
	a.q = q
}

// ready tells the test that the child is set up, and waits for its word to go on.
func (a *actor) ready() {
	a.c.Say("ready")
	a.c.Wait()
}

// message makes the next message of n bytes.
func (a *actor) message(n int) []byte {
	a.seq++
	return message.Encode(a.seq, n)
}

func (a *actor) try(n int) { a.c.Say("try %d %d", a.seq+1, n) }

func (a *actor) send(n int) {
	a.try(1)
	must(a.p.Send(forever, a.message(n)))
	a.c.Say("ok 1")
}

func (a *actor) sendBatch(sizes ...int) {
	a.try(len(sizes))
	var msgs [][]byte
	for _, n := range sizes {
		msgs = append(msgs, a.message(n))
	}
	n, err := a.p.SendBatch(forever, msgs)
	must(err)
	a.c.Say("ok %d", n)
}

func (a *actor) trySendBatch(sizes ...int) {
	a.try(len(sizes))
	var msgs [][]byte
	for _, n := range sizes {
		msgs = append(msgs, a.message(n))
	}
	n, err := a.p.TrySendBatch(msgs)
	if err != ring.ErrFull {
		must(err)
	}
	a.c.Say("ok %d", n)
}

// reserve fills n bytes in place and commits all of them.
func (a *actor) reserve(n int) {
	a.try(1)
	msg := a.message(n)
	r, err := a.p.Reserve(forever, len(msg))
	must(err)
	copy(r.Bytes(), msg)
	must(r.Commit())
	a.c.Say("ok 1")
}

// commitN reserves room for room bytes and commits n.
func (a *actor) commitN(room, n int) {
	a.try(1)
	msg := a.message(n)
	r, err := a.p.Reserve(forever, room)
	must(err)
	copy(r.Bytes(), msg)
	must(r.CommitN(len(msg)))
	a.c.Say("ok 1")
}

func (a *actor) discard(n int) {
	a.c.Say("try %d %d discard", a.seq+1, 1)
	msg := a.message(n)
	r, err := a.p.Reserve(forever, len(msg))
	must(err)
	copy(r.Bytes(), msg)
	must(r.Discard())
	a.c.Say("ok 0")
}

// closeProducer ends the registration, with an open reservation of n bytes if n > 0.
func (a *actor) closeProducer(n int) {
	if n > 0 {
		a.c.Say("try %d %d discard", a.seq+1, 1)
		_, err := a.p.Reserve(forever, len(a.message(n)))
		must(err)
	}
	must(a.p.Close())
	if n > 0 {
		a.c.Say("ok 0")
	}
}

// untilReady waits until n messages are there, or none come any more, so that batches hold several.
func (a *actor) untilReady(n int) {
	for range 200 {
		found := 0
		must(a.r.Peek(n, func(uint64, int, []byte) bool {
			found++
			return true
		}))
		if found >= n {
			return
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// receive copies one message; false at the end of the stream.
func (a *actor) receive() bool {
	a.c.Say("taking 1 copy")
	n, err := a.q.Receive(forever, a.buf)
	if err == io.EOF {
		a.c.Say("nothing")
		return false
	}
	must(err)
	seq, err := message.Decode(a.buf[:n])
	must(err)
	a.c.Say("got %d:%d", seq, a.q.Last().Deliveries)
	return true
}

// lease takes up to limit messages.
func (a *actor) lease(limit int) []ring.Message {
	a.c.Say("taking %d", limit)
	b, err := a.q.NextBatch(forever, limit)
	if errors.Is(err, io.EOF) {
		a.c.Say("nothing")
		return nil
	}
	must(err)
	var list []ring.Message
	var said []string
	for i := range b.Len() {
		m := b.At(i)
		seq, err := message.Decode(m.Bytes())
		must(err)
		said = append(said, fmt.Sprintf("%d:%d", seq, m.Deliveries()))
		list = append(list, m)
	}
	a.c.Say("held %s", strings.Join(said, " "))
	return list
}

// release releases the first n messages of what is held.
func (a *actor) release(held []ring.Message, n int) []ring.Message {
	if len(held) == 0 {
		return nil // the end of the stream
	}
	a.c.Say("releasing %d", n)
	must(held[n-1].Release())
	a.c.Say("released")
	return held[n:]
}

func (a *actor) giveBack(held []ring.Message) {
	if len(held) == 0 {
		return
	}
	a.c.Say("returning")
	must(held[0].Return())
	a.c.Say("returned")
}
