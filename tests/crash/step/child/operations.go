//go:build linux

package main

import (
	"io"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/crash/message"
)

// open opens the ring.
func open(c *child) {
	r, err := ring.Open("q", ring.WithDir(c.dir))
	check(err)
	c.r = r
	c.buf = make([]byte, r.MaxMessage())
}

// producing opens the ring and makes a producer and messages of these sizes.
func producing(sizes ...int) func(*child) {
	return func(c *child) {
		open(c)
		p, err := c.r.NewProducer(ring.WaitForConsumers())
		check(err)
		c.p = p
		for i, n := range sizes {
			c.msgs = append(c.msgs, message.Encode(source+uint64(i)+1, n))
		}
	}
}

// consuming opens the ring and makes a consumer.
func consuming(c *child) {
	open(c)
	q, err := c.r.NewConsumer()
	check(err)
	c.q = q
}

var operations = map[string]operation{
	"send":         {producing(24), send},
	"send cell":    {producing(64), send},
	"send large":   {producing(200), send},
	"try send":     {producing(24), trySend},
	"commit":       {producing(64), func(c *child) { c.reserve(64, true) }},
	"commit short": {producing(70), func(c *child) { c.reserve(230, true) }},
	"discard":      {producing(200), func(c *child) { c.reserve(200, false) }},
	"send run":     {producing(20, 20, 20), sendBatch},
	"send mixed":   {producing(20, 100, 64), sendBatch},
	"try batch":    {producing(20, 100, 64, 20, 64, 30), trySendBatch},

	"receive":       {consuming, receive},
	"try receive":   {consuming, tryReceive},
	"next release":  {consuming, func(c *child) { c.next(false) }},
	"next return":   {consuming, func(c *child) { c.next(true) }},
	"batch release": {consuming, func(c *child) { c.batch(false) }},
	"batch return":  {consuming, func(c *child) { c.batch(true) }},

	"recover": {open, recoverAll},

	// What is left when the process is killed afterwards.
	"hold claim":       {producing(64), hold},
	"hold large claim": {producing(200), hold},
	"hold lease":       {consuming, func(c *child) { _, c.err = c.q.Next(forever) }},
	"hold batch":       {consuming, func(c *child) { _, c.err = c.q.NextBatch(forever, 3) }},
}

func send(c *child) {
	if c.err = c.p.Send(forever, c.msgs[0]); c.err == nil {
		c.sent = 1
	}
}

func trySend(c *child) {
	switch err := c.p.TrySend(c.msgs[0]); err {
	case nil:
		c.sent = 1
	case ring.ErrFull:
	default:
		c.err = err
	}
}

// reserve makes room for room bytes, fills it, and commits or discards it.
func (c *child) reserve(room int, commit bool) {
	r, err := c.p.Reserve(forever, room)
	if err != nil {
		c.err = err
		return
	}
	copy(r.Bytes(), c.msgs[0])
	switch {
	case !commit:
		c.err = r.Discard()
	case room == len(c.msgs[0]):
		c.err = r.Commit()
	default:
		c.err = r.CommitN(len(c.msgs[0]))
	}
	if commit && c.err == nil {
		c.sent = 1
	}
}

// hold reserves room for a message and leaves it at that.
func hold(c *child) { _, c.err = c.p.Reserve(forever, len(c.msgs[0])) }

func sendBatch(c *child) { c.sent, c.err = c.p.SendBatch(forever, c.msgs) }

func trySendBatch(c *child) {
	if c.sent, c.err = c.p.TrySendBatch(c.msgs); c.err == ring.ErrFull {
		c.err = nil
	}
}

func receive(c *child) {
	n, err := c.q.Receive(forever, c.buf)
	if c.err = err; err == nil {
		c.note(c.buf[:n], c.q.Last().Deliveries)
	}
}

func tryReceive(c *child) {
	switch n, err := c.q.TryReceive(c.buf); err {
	case nil:
		c.note(c.buf[:n], c.q.Last().Deliveries)
	case ring.ErrEmpty, io.EOF:
	default:
		c.err = err
	}
}

// next leases one message and releases it or gives it back.
func (c *child) next(back bool) {
	m, err := c.q.Next(forever)
	if err != nil {
		c.err = err
		return
	}
	c.note(m.Bytes(), m.Deliveries()).back = back
	if back {
		c.err = m.Return()
	} else {
		c.err = m.Release()
	}
}

// batch leases up to three messages, releases the first, and releases the rest one by one or gives it back.
func (c *child) batch(back bool) {
	b, err := c.q.NextBatch(forever, 3)
	if err != nil {
		c.err = err
		return
	}
	for i := range b.Len() {
		m := b.At(i)
		c.note(m.Bytes(), m.Deliveries()).back = back && i > 0
	}
	for i := 0; i < b.Len() && c.err == nil; i++ {
		m := b.At(i)
		if back && i > 0 {
			c.err = m.Return() // all of them
			return
		}
		c.err = m.Release()
	}
}

func recoverAll(c *child) { _, c.err = c.r.Recover(false) }
