//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/cd1900cf/millrace/ring"
)

// mostBatch is how many messages one batch has at most.
const mostBatch = 12

type producer struct {
	*session
	p     *ring.Producer
	typed *ring.TypedProducer[record]
	next  uint64 // sequence of the next message
	buf   []byte
}

func (s *session) produce(ctx context.Context) (err error) {
	p := &producer{session: s, next: 1, buf: make([]byte, mostBatch*max(s.r.MaxMessage(), recordSize))}
	var opts []ring.ProducerOption
	if s.random.IntN(2) == 0 {
		opts = append(opts, ring.WaitForConsumers())
	}
	if s.typed {
		p.typed, err = ring.NewTypedProducer[record](s.r, opts...)
	} else {
		p.p, err = s.r.NewProducer(opts...)
	}
	if err != nil {
		return err
	}
	s.out.say(report{kind: sayJoined})
	for ctx.Err() == nil {
		if err := p.step(ctx); err != nil {
			return err
		}
		s.dawdle()
	}
	return nil
}

// step sends one message or batch in one of the ways.
func (p *producer) step(ctx context.Context) error {
	if p.typed != nil {
		return p.sendTyped(ctx)
	}
	switch p.random.IntN(8) {
	case 0, 1:
		return p.send(1, func(m [][]byte) (int, error) { return one(p.p.Send(ctx, m[0])) })
	case 2:
		return p.send(1, func(m [][]byte) (int, error) { return one(p.p.TrySend(m[0])) })
	case 3:
		return p.send(1+p.random.IntN(mostBatch), func(m [][]byte) (int, error) { return p.p.SendBatch(ctx, m) })
	case 4:
		return p.send(1+p.random.IntN(mostBatch), func(m [][]byte) (int, error) { return p.p.TrySendBatch(m) })
	case 5: // equal lengths of one slot: a run in an SPSC ring
		msgs := p.messages(2+p.random.IntN(mostBatch-1), p.r.Options().SlotSize)
		return p.report(msgs, func(m [][]byte) (int, error) { return p.p.SendBatch(ctx, m) })
	default:
		return p.reserve(ctx)
	}
}

// one is the result of a call that sends one message, as that of one that sends many.
func one(err error) (int, error) {
	if err != nil {
		return 0, err
	}
	return 1, nil
}

// messages makes n messages; with size 0 each has a length of its own, up to the largest, most of them small.
func (p *producer) messages(n, size int) (msgs [][]byte) {
	most := p.r.MaxMessage()
	rest := p.buf
	for i := range n {
		l := size
		if size == 0 {
			if l = leastMessage + p.random.IntN(3*p.r.Options().SlotSize); p.random.IntN(8) == 0 {
				l = leastMessage + p.random.IntN(most)
			}
		}
		m := rest[:min(l, most)]
		rest = rest[len(m):]
		encode(m, p.incarnation<<32|p.next+uint64(i))
		msgs = append(msgs, m)
	}
	return msgs
}

func (p *producer) send(n int, f func([][]byte) (int, error)) error {
	return p.report(p.messages(n, 0), f)
}

// report says what is tried, tries it, and says what came of it.
func (p *producer) report(msgs [][]byte, f func([][]byte) (int, error)) error {
	p.out.say(report{kind: sayTrying, n: uint32(len(msgs)), number: p.incarnation<<32 | p.next})
	n, err := f(msgs)
	p.out.say(report{kind: saySent, n: uint32(n)})
	p.next += uint64(len(msgs))
	return p.expected(err)
}

// expected ends the session on errors that should not be.
func (p *producer) expected(err error) error {
	switch {
	case err == nil, errors.Is(err, ring.ErrFull), errors.Is(err, context.Canceled):
		return nil
	case errors.Is(err, ring.ErrNoConsumers):
		time.Sleep(time.Millisecond)
		return nil
	}
	return fmt.Errorf("send: %w", err)
}

// reserve fills a message in place, now and then slowly, so that some die with the reservation; some are discarded, or committed shorter.
func (p *producer) reserve(ctx context.Context) error {
	m := p.messages(1, 0)[0]
	p.out.say(report{kind: sayTrying, n: 1, number: p.incarnation<<32 | p.next})
	p.next++
	extra := p.random.IntN(2) * p.random.IntN(p.r.MaxMessage()-len(m)+1)
	v, err := p.p.Reserve(ctx, len(m)+extra)
	sent := 0
	if err == nil {
		half := copy(v.Bytes(), m[:len(m)/2])
		p.linger()
		copy(v.Bytes()[half:], m[half:])
		if p.random.IntN(6) == 0 {
			err = v.Discard()
		} else {
			sent, err = one(v.CommitN(len(m)))
		}
	}
	p.out.say(report{kind: saySent, n: uint32(sent)})
	return p.expected(err)
}

func (p *producer) sendTyped(ctx context.Context) error {
	values := make([]record, 1+p.random.IntN(mostBatch))
	for i := range values {
		encode(unsafe.Slice((*byte)(unsafe.Pointer(&values[i])), recordSize), p.incarnation<<32|p.next+uint64(i))
	}
	p.out.say(report{kind: sayTrying, n: uint32(len(values)), number: p.incarnation<<32 | p.next})
	p.next += uint64(len(values))
	var n int
	var err error
	switch p.random.IntN(3) {
	case 0:
		n, err = p.typed.SendBatch(ctx, values)
	case 1:
		n, err = p.typed.TrySendBatch(values)
	default:
		n, err = one(p.typed.Send(ctx, &values[0]))
	}
	p.out.say(report{kind: saySent, n: uint32(n)})
	return p.expected(err)
}
