//go:build linux

package main

import (
	"io"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/seg"
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
	"send word":    {producing(message.Word), send},
	"send cell":    {producing(64), send},
	"send large":   {producing(200), send},
	"try send":     {producing(24), trySend},
	"commit":       {producing(64), func(c *child) { c.reserve(64, true) }},
	"commit short": {producing(70), func(c *child) { c.reserve(230, true) }},
	"discard":      {producing(200), func(c *child) { c.reserve(200, false) }},
	"send run":     {producing(20, 20, 20), sendBatch},
	"send words":   {producing(8, 8, 8), sendBatch},
	"send mixed":   {producing(20, 100, 64), sendBatch},
	"try batch":    {producing(20, 100, 64, 20, 64, 30), trySendBatch},

	"receive":       {consuming, receive},
	"try receive":   {consuming, tryReceive},
	"receive batch": {consuming, func(c *child) { c.receiveBatch(0) }},
	"receive words": {consuming, func(c *child) { c.receiveBatch(message.Word) }},
	"next release":  {consuming, func(c *child) { c.next(false) }},
	"next return":   {consuming, func(c *child) { c.next(true) }},
	"batch release": {consuming, func(c *child) { c.batch(false) }},
	"batch return":  {consuming, func(c *child) { c.batch(true) }},

	"receive on": {receivedOne, receive},
	"next on":    {receivedOne, func(c *child) { c.next(false) }},
	"batch on":   {receivedOne, func(c *child) { c.receiveBatch(0) }},

	"recover":           {open, recoverAll},
	"open":              {func(*child) {}, open},
	"register producer": {open, func(c *child) { c.p, c.err = c.r.NewProducer() }},
	"register consumer": {open, func(c *child) { c.q, c.err = c.r.NewConsumer() }},
	"close producer":    {reserved, func(c *child) { c.err = c.p.Close() }},
	"close consumer":    {leased, func(c *child) { c.err = c.q.Close() }},
	"close ring":        {leased, func(c *child) { c.err = c.r.Close() }},
	"wait":              {following, receive},
	"create":            {func(*child) {}, func(c *child) { c.create(seg.POSIX) }},
	"create sysv":       {func(*child) {}, func(c *child) { c.create(seg.SysV) }},
	"open or create":    {func(*child) {}, openOrCreate},
	"remove":            {func(*child) {}, func(c *child) { c.err = ring.Remove("q", ring.WithDir(c.dir)) }},
	"force":             {func(*child) {}, func(c *child) { c.err = ring.Remove("q", ring.WithDir(c.dir), ring.WithForce()) }},

	// What is left when the process is killed afterwards.
	"hold claim":       {producing(64), hold},
	"hold large claim": {producing(200), hold},
	"hold lease":       {consuming, func(c *child) { _, c.err = c.q.Next(forever) }},
	"hold batch":       {consuming, func(c *child) { _, c.err = c.q.NextBatch(forever, 3) }},
}

// receivedOne has received a message before, so that it knows that none was given back.
func receivedOne(c *child) {
	consuming(c)
	receive(c)
	check(c.err)
}

// following makes a consumer that does not end with the stream.
func following(c *child) {
	open(c)
	q, err := c.r.NewConsumer(ring.Follow())
	check(err)
	c.q = q
}

// reserved has an open reservation, leased an open lease.
func reserved(c *child) {
	producing(200)(c)
	hold(c)
	check(c.err)
}

func leased(c *child) {
	consuming(c)
	_, err := c.q.NextBatch(forever, 3)
	check(err)
}

// options are those of a ring that the child creates.
func (c *child) options(b seg.Backing) ring.Options {
	return ring.Options{Slots: 4, SlotSize: 32, Participants: 4, Backing: b, Dir: c.dir}
}

func (c *child) create(b seg.Backing) { c.r, c.err = ring.Create("q", c.options(b)) }

func openOrCreate(c *child) { c.r, _, c.err = ring.OpenOrCreate("q", c.options(seg.POSIX)) }

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

// receiveBatch copies up to three messages into buffers of a length.
func (c *child) receiveBatch(length int) {
	var bufs [3][]byte
	for i := range bufs {
		bufs[i] = make([]byte, length, len(c.buf))
	}
	n, err := c.q.ReceiveBatch(forever, bufs[:])
	c.err = err
	for _, b := range bufs[:n] {
		c.note(b, 1)
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
