//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
	"unsafe"

	"github.com/cd1900cf/millrace/ring"
)

type consumer struct {
	*session
	c     *ring.Consumer
	typed *ring.TypedConsumer[record]
}

// consume receives until it is told to leave, or, when it is told to finish, until the end of the stream. An untyped consumer of a typed ring is allowed.
func (s *session) consume(ctx context.Context) (err error) {
	c := &consumer{session: s}
	copies := s.random.IntN(4) == 0
	if s.typed && copies {
		c.typed, err = ring.NewTypedConsumer[record](s.r)
	} else {
		c.c, err = s.r.NewConsumer()
	}
	if err != nil {
		return err
	}
	s.out.say(report{kind: sayJoined})
	for ctx.Err() == nil {
		last := s.finish.Load() // before the call: an end of the stream that comes later is the last one
		switch {
		case c.typed != nil:
			err = c.values(ctx)
		case copies:
			err = c.copyOut(ctx)
		default:
			err = c.lease(ctx)
		}
		switch {
		case errors.Is(err, io.EOF) && last:
			return nil
		case errors.Is(err, io.EOF), errors.Is(err, ring.ErrEmpty): // all producers happen to be dead or gone
			time.Sleep(time.Millisecond)
		case errors.Is(err, context.Canceled):
		case err != nil:
			return fmt.Errorf("receive: %w", err)
		}
		s.dawdle()
	}
	return nil
}

// copyOut receives one message by copying.
func (c *consumer) copyOut(ctx context.Context) error {
	buf := c.window[:min(c.r.MaxMessage(), windowSize)]
	clear(buf[:leastMessage])
	c.out.say(report{kind: sayCopying, n: 1})
	var n int
	var err error
	if c.random.IntN(3) == 0 {
		n, err = c.c.TryReceive(buf)
	} else {
		n, err = c.c.Receive(ctx, buf)
	}
	if err != nil {
		c.out.say(report{kind: sayNothing})
		return err
	}
	number, err := decode(buf[:n])
	if err != nil {
		return err
	}
	d := c.c.Last()
	c.out.say(report{kind: sayGot, deliveries: uint32(d.Deliveries), number: number, position: d.Position})
	return nil
}

// values receives typed values by copying. How often they were delivered is not known.
func (c *consumer) values(ctx context.Context) error {
	values := unsafe.Slice((*record)(unsafe.Pointer(unsafe.SliceData(c.window))), 1+c.random.IntN(mostBatch))
	clear(values)
	c.out.say(report{kind: sayCopying, n: uint32(len(values))})
	n := 1
	var err error
	switch c.random.IntN(3) {
	case 0:
		n, err = c.typed.ReceiveBatch(ctx, values)
	case 1:
		n, err = c.typed.TryReceiveBatch(values)
	default:
		err = c.typed.Receive(ctx, &values[0])
	}
	if err != nil {
		c.out.say(report{kind: sayNothing})
		return err
	}
	for i := range n {
		number, err := decode(unsafe.Slice((*byte)(unsafe.Pointer(&values[i])), recordSize))
		if err != nil {
			return err
		}
		c.out.add(report{kind: sayGot, number: number})
	}
	c.out.flush()
	return nil
}

// lease takes one message or several without a copy, and releases them at once, in parts or one by one, returns some, or leaves with them.
func (c *consumer) lease(ctx context.Context) error {
	limit := 1 + c.random.IntN(2)*c.random.IntN(mostBatch)
	c.out.say(report{kind: sayLeasing, n: uint32(limit)})
	var b ring.Batch
	var err error
	if c.random.IntN(3) == 0 {
		b, err = c.c.TryNextBatch(limit)
	} else {
		b, err = c.c.NextBatch(ctx, limit)
	}
	if err != nil {
		c.out.say(report{kind: sayNothing})
		return err
	}
	for i := range b.Len() {
		m := b.At(i)
		number, err := decode(m.Bytes())
		if err != nil {
			return fmt.Errorf("position %d: %w", m.Position(), err)
		}
		c.out.add(report{kind: sayHeld, deliveries: uint32(m.Deliveries()), number: number, position: m.Position()})
	}
	c.out.flush()
	c.linger()
	left := b.Len()
	for left > 0 {
		part := 1 + c.random.IntN(left)
		first := b.Len() - left
		switch {
		case ctx.Err() != nil && c.random.IntN(2) == 0: // leave with it
			c.out.say(report{kind: sayClosing})
			return c.c.Close()
		case c.random.IntN(12) == 0:
			c.out.say(report{kind: sayReturning})
			if err := b.At(first).Return(); err != nil {
				return err
			}
			c.out.say(report{kind: sayReturned})
			return nil
		}
		c.out.say(report{kind: sayReleasing, n: uint32(part)})
		if err := b.At(first + part - 1).Release(); err != nil {
			return err
		}
		c.out.say(report{kind: sayReleased})
		left -= part
		c.dawdle()
	}
	return nil
}
