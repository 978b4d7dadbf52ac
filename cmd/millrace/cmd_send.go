package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/cd1900cf/millrace/ring"
)

// onFull says what send does with a message that does not fit.
type onFull int

const (
	waitWhenFull onFull = iota
	dropWhenFull
	failWhenFull
)

// Slots and their size of rings that send makes: 4 MiB, messages of up to 2 MiB.
const (
	temporarySlots    = 4096
	temporarySlotSize = 1024
)

// sendBatch is how many messages are committed at once at most.
const sendBatch = 256

var sendCommand = &command{
	name: "send", operands: "NAME [FILE...]", summary: "send what it reads, one message per line or as framed", takesName: true, changes: true,
	detail: "Reads the files, or standard input. With --create it makes the ring if there is none: a temporary one, which the last\n" +
		"recv removes at the end of the stream. When the ring is full and its last consumer is gone, send ends with code 6.",
	new: func(f *flags) runner {
		f.withDir()
		s := &sending{}
		var ff framingFlags
		var rf ringFlags
		ff.register(f)
		f.toggle(&s.create, "create", "make a temporary ring if there is none")
		f.toggle(&s.wait, "wait", "wait for the ring, and for consumers when the last one is gone")
		choice(f, &s.onFull, "on-full", "when the ring is full; default wait", []string{"wait", "drop", "fail"}, waitWhenFull, dropWhenFull, failWhenFull)
		f.number(&s.rate, "rate", "messages per second")
		f.number(&s.count, "n count", "end after N messages")
		rf.register(f)
		return func(ctx context.Context, a *app, operands []string) (err error) {
			if len(operands) == 0 {
				return usagef("the name of a ring is missing")
			}
			if s.framing, err = ff.framing(f); err != nil {
				return err
			}
			s.app, s.name, s.asked = a, operands[0], rf.Options
			a.what = "millrace send " + s.name // without the files
			return s.run(ctx, operands[1:])
		}
	},
}

// sending is one run of send.
type sending struct {
	*app
	framing
	name         string
	asked        ring.Options // options given on the command line
	create, wait bool
	onFull       onFull
	rate, count  int

	producer *ring.Producer
	sent     int
	dropped  int
	began    time.Time
}

func (s *sending) run(ctx context.Context, files []string) (err error) {
	r, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if e := r.Close(); err == nil {
			err = e
		}
	}()
	s.onAbandon(func() { _ = r.Close() })
	var opts []ring.ProducerOption
	if s.wait {
		opts = append(opts, ring.WaitForConsumers())
	}
	if s.producer, err = r.NewProducer(opts...); err != nil {
		return err
	}
	s.began = time.Now()
	if len(files) == 0 {
		err = s.stream(ctx, s.stdin, r.MaxMessage())
	}
	for _, path := range files {
		if err = s.sendFile(ctx, path, r.MaxMessage()); err != nil {
			break
		}
	}
	if err == errEnough {
		err = nil
	}
	if s.dropped > 0 {
		s.warn("the ring was full: %d messages dropped, %d sent", s.dropped, s.sent)
	}
	if err != nil {
		return s.incomplete(err)
	}
	return nil
}

// incomplete adds how far it came.
func (s *sending) incomplete(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, ring.ErrFull):
		return failf(exitBlocked, "the ring is full: %d messages sent, the next one not; start a recv, or use --on-full wait", s.sent)
	case errors.Is(err, ring.ErrNoConsumers):
		return failf(exitPeer, "the ring is full and its last consumer is gone: %d messages sent, the next one not; start a recv and send the rest, or use --wait", s.sent)
	}
	return fmt.Errorf("after %d messages: %w", s.sent, err)
}

// errEnough says that --count messages were sent.
var errEnough = errors.New("enough")

// open opens the ring, makes it with --create, or waits for it with --wait.
func (s *sending) open(ctx context.Context) (*ring.Ring, error) {
	if s.create {
		return s.openOrCreate()
	}
	if s.wait {
		return openWait(ctx, s.app, s.name)
	}
	r, err := ring.Open(s.name, ring.WithDir(s.dir))
	return r, notFound(s.app, s.name, nextMake, err)
}

// openOrCreate opens the ring or makes a temporary one. A ring that exists needs to agree with the options that were given only.
// A receiver may remove a temporary ring at any moment before it is open here: then there is none, and it is made anew.
func (s *sending) openOrCreate() (*ring.Ring, error) {
	make := s.asked
	make.Temporary, make.Dir = true, s.dir
	if make.Slots == 0 {
		make.Slots = temporarySlots
	}
	if make.SlotSize == 0 {
		make.SlotSize = temporarySlotSize
	}
	for {
		r, _, err := ring.OpenOrCreate(s.name, make)
		if !errors.Is(err, ring.ErrMismatch) {
			return r, err
		}
		held, err := ring.Open(s.name, ring.WithDir(s.dir))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		asked := s.asked // without the defaults; nothing is made, because held keeps the ring from being removed
		asked.Dir = s.dir
		r, _, err = ring.OpenOrCreate(s.name, asked)
		return r, errors.Join(err, held.Close())
	}
}

func (s *sending) sendFile(ctx context.Context, path string, most int) (err error) {
	if path == "-" {
		return s.stream(ctx, s.stdin, most)
	}
	file, err := os.Open(path)
	if err != nil {
		return failf(exitFailure, "%w", err) // not exitNotFound: the ring is there
	}
	defer file.Close()
	return s.stream(ctx, file, most)
}

// stream sends everything that r gives. What one read completed is committed before the next read waits.
func (s *sending) stream(ctx context.Context, r io.Reader, most int) error {
	in := newSplitter(s.framing, r, most)
	for {
		msgs, err := in.next()
		for len(msgs) > 0 {
			n := min(len(msgs), s.portion())
			if n == 0 {
				return errEnough
			}
			if err := s.commit(ctx, msgs[:n]); err != nil {
				return err
			}
			msgs = msgs[n:]
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// portion returns how many messages to commit next: what --count leaves, and at most a fiftieth of a second's at --rate.
func (s *sending) portion() int {
	n := sendBatch
	if s.rate > 0 {
		n = min(n, max(1, s.rate/50))
	}
	if s.count > 0 {
		n = min(n, s.count-s.sent-s.dropped)
	}
	return n
}

// commit sends one portion, when its time has come.
func (s *sending) commit(ctx context.Context, msgs [][]byte) error {
	if err := s.pace(ctx); err != nil {
		return err
	}
	switch s.onFull {
	case waitWhenFull:
		n, err := s.producer.SendBatch(ctx, msgs)
		s.sent += n
		return err
	case failWhenFull:
		n, err := s.producer.TrySendBatch(msgs)
		s.sent += n
		return err
	}
	for len(msgs) > 0 {
		n, err := s.producer.TrySendBatch(msgs)
		s.sent += n
		if msgs = msgs[n:]; err == nil {
			continue
		}
		if !errors.Is(err, ring.ErrFull) {
			return err
		}
		s.dropped++
		msgs = msgs[1:]
	}
	return nil
}

// pace sleeps until the next portion is due.
func (s *sending) pace(ctx context.Context) error {
	if s.rate == 0 {
		return nil
	}
	due := s.began.Add(time.Duration(float64(s.sent+s.dropped) / float64(s.rate) * float64(time.Second)))
	return sleep(ctx, time.Until(due))
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
