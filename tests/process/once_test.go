//go:build linux

package process

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

func init() {
	children["once send"] = onceSend
	children["once receive"] = onceReceive
}

// The messages of the exactly-once tests: an id, producer and number, and what follows from it. A slot holds 32 bytes, so some take several.
const (
	onceLeast, onceMost = 8, 300
	onceSlot            = 32
	onceSlots           = 256
)

func onceID(producer, number int) uint64 { return uint64(producer)<<32 | uint64(number) }

// A million messages go through a ring from several processes to several processes, and through an SPSC ring from one to one, by every way to send and to
// receive. Properties: every message that was sent is received exactly once, by one consumer, with its payload; each consumer gets the messages of a
// producer in the order of their sends. Asserted besides: the ring went round many times and stepped over slots at its end, messages took several slots,
// producers slept on a full ring and consumers on an empty one, both were woken, and reservations were discarded.
func TestExactlyOnce(t *testing.T) {
	messages := 1_000_000
	if testing.Short() {
		messages /= 10
	}
	for _, c := range []struct {
		kind                 ring.Kind
		producers, consumers int
	}{{ring.SPSC, 1, 1}, {ring.MPMC, 1, 1}, {ring.MPMC, 3, 3}} {
		t.Run(fmt.Sprintf("%s/%d_to_%d", c.kind, c.producers, c.consumers), func(t *testing.T) {
			exactlyOnce(t, c.kind, c.producers, c.consumers, messages/c.producers)
		})
	}
}

func exactlyOnce(t *testing.T, kind ring.Kind, producers, consumers, each int) {
	dir, out := proc.Dir(t), t.TempDir()
	r, err := ring.Create("once", ring.Options{Kind: kind, Slots: onceSlots, SlotSize: onceSlot, Dir: dir})
	require.NoError(t, err)
	defer r.Close()
	var senders, receivers []*proc.Proc
	for i := range producers {
		senders = append(senders, proc.Start(t, []string{"once send", dir, strconv.Itoa(i), strconv.Itoa(each)}))
	}
	file := func(i int) string { return filepath.Join(out, strconv.Itoa(i)) }
	for i := range consumers {
		receivers = append(receivers, proc.Start(t, []string{"once receive", dir, strconv.Itoa(producers), strconv.Itoa(each), file(i)}))
	}
	for _, p := range append(senders[:producers:producers], receivers...) {
		p.Want("ready") // all are registered
	}
	ctx, cancel := patience()
	defer cancel()
	until := func(what string, f func(ring.Stats) bool) ring.Stats {
		for {
			s := r.Stats()
			if f(s) {
				return s
			}
			require.NoError(t, ctx.Err(), "still not so: %s; %+v", what, s)
			time.Sleep(time.Millisecond)
		}
	}

	// Nobody receives yet: every sleep is that of a producer.
	for _, p := range senders {
		p.Tell("go")
	}
	full := until("a producer sleeps on a full ring", func(s ring.Stats) bool { return s.Sleeps > 0 })
	require.Zero(t, full.Received)
	require.Greater(t, full.Used, 0)

	// The first half flows; then the producers rest, and every sleep is that of a consumer.
	for _, p := range receivers {
		p.Tell("go")
	}
	for _, p := range senders {
		p.Want("half")
	}
	drained := until("everything is received", func(s ring.Stats) bool { return s.Received == s.Sent && s.Used == 0 })
	require.EqualValues(t, producers*(each/2), drained.Sent)
	until("a consumer sleeps on an empty ring", func(s ring.Stats) bool { return s.Sleeps > drained.Sleeps })
	for _, p := range senders {
		p.Tell("go")
	}
	succeed(t, senders...)
	succeed(t, receivers...)

	seen := make([]byte, producers*each)
	for i := range consumers {
		got, err := os.ReadFile(file(i))
		require.NoError(t, err)
		require.Len(t, got, len(seen))
		for j, n := range got {
			seen[j] += n
		}
	}
	for j, n := range seen {
		require.EqualValues(t, 1, n, "message %d of producer %d was received %d times", j%each, j/each, n)
	}
	s := r.Stats()
	t.Logf("%+v", s)
	require.EqualValues(t, producers*each, s.Sent)
	require.EqualValues(t, producers*each, s.Received)
	require.Zero(t, s.Used)
	require.NotZero(t, s.Padding, "no message met the end of the ring")
	require.NotZero(t, s.Wakes, "nobody was woken")
	require.NotZero(t, s.Discarded, "no reservation was discarded")
	require.Greater(t, s.ProducerPosition, 100*uint64(s.Slots), "few laps")
	require.Greater(t, s.ProducerPosition, s.Sent+s.Padding+s.Discarded, "no message took several slots")
	require.Zero(t, s.Redelivered+s.Lost+s.Skipped+s.ProducersDied+s.ConsumersDied, "%+v", s)
	require.EqualValues(t, producers, s.ProducersEver)
	require.EqualValues(t, consumers, s.ConsumersEver)
}

// onceSend sends its messages by all ways in turn, and rests half-way.
func onceSend(args []string) error {
	producer, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	each, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	r, err := ring.Open("once", ring.WithDir(args[0]))
	if err != nil {
		return err
	}
	defer r.Close()
	p, err := r.NewProducer()
	if err != nil {
		return err
	}
	meet()
	ctx, cancel := patience()
	defer cancel()
	buf := make([]byte, onceMost)
	bufs := make([][]byte, 8)
	for i := range bufs {
		bufs[i] = make([]byte, onceMost)
	}
	for n, half := 0, each/2; n < each; {
		if n == half {
			say("half")
			hear()
		}
		end := each
		if n < half {
			end = half
		}
		k := 1
		switch n % 7 { // the ways alternate irregularly, as a batch moves n on by several
		default:
			err = p.Send(ctx, payload(buf, onceID(producer, n), onceLeast, onceMost))
		case 1:
			m := payload(buf, onceID(producer, n), onceLeast, onceMost)
			if err = p.TrySend(m); errors.Is(err, ring.ErrFull) {
				err = p.Send(ctx, m)
			}
		case 2, 3:
			m := payload(buf, onceID(producer, n), onceLeast, onceMost)
			var v ring.Reservation
			if v, err = p.Reserve(ctx, onceMost); err != nil {
				break
			}
			if n%101 == 2 { // it never was
				k, err = 0, v.Discard()
				if err == nil {
					k, err = 1, p.Send(ctx, m)
				}
				break
			}
			copy(v.Bytes(), m)
			err = v.CommitN(len(m))
		case 4, 5:
			k = min(1+n%len(bufs), end-n)
			var batch [][]byte
			for i := range k {
				batch = append(batch, payload(bufs[i], onceID(producer, n+i), onceLeast, onceMost))
			}
			var sent int
			if sent, err = p.SendBatch(ctx, batch); err == nil && sent != k {
				err = fmt.Errorf("%d of %d sent without an error", sent, k)
			}
		}
		if err != nil {
			return fmt.Errorf("producer %d, message %d: %w", producer, n, err)
		}
		n += k
	}
	return r.Close()
}

// tally counts what one consumer receives, and checks it.
type tally struct {
	each    int
	counts  []byte
	last    []int
	scratch []byte
}

func (c *tally) add(m []byte) error {
	if len(m) < onceLeast {
		return fmt.Errorf("a message of %d bytes", len(m))
	}
	id := binary.LittleEndian.Uint64(m)
	producer, number := int(id>>32), int(id&(1<<32-1))
	if producer >= len(c.last) || number >= c.each {
		return fmt.Errorf("message %#x was never sent", id)
	}
	if err := verify(m, id, onceLeast, onceMost, c.scratch); err != nil {
		return err
	}
	if number <= c.last[producer] {
		return fmt.Errorf("message %d of producer %d after %d", number, producer, c.last[producer])
	}
	c.last[producer] = number
	c.counts[producer*c.each+number]++
	return nil
}

// onceReceive receives by all ways in turn, up to the end, and leaves its counts in a file.
func onceReceive(args []string) error {
	producers, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	each, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	r, err := ring.Open("once", ring.WithDir(args[0]))
	if err != nil {
		return err
	}
	defer r.Close()
	q, err := r.NewConsumer()
	if err != nil {
		return err
	}
	meet()
	ctx, cancel := patience()
	defer cancel()
	c := tally{each: each, counts: make([]byte, producers*each), last: []int{}, scratch: make([]byte, onceMost)}
	for range producers {
		c.last = append(c.last, -1)
	}
	buf := make([]byte, onceMost)
	for i := 0; ; i++ {
		if err = c.step(ctx, q, i, buf); err != nil {
			break
		}
	}
	if !over(err) {
		return fmt.Errorf("call %s: %w", strings.Join(args, " "), err)
	}
	if err := r.Close(); err != nil {
		return err
	}
	return os.WriteFile(args[3], c.counts, 0o600)
}

// step is the i-th call: one of five ways to receive.
func (c *tally) step(ctx context.Context, q *ring.Consumer, i int, buf []byte) error {
	switch i % 5 {
	case 0:
		n, err := q.Receive(ctx, buf)
		if err != nil {
			return err
		}
		return c.add(buf[:n])
	case 1:
		n, err := q.TryReceive(buf)
		if errors.Is(err, ring.ErrEmpty) {
			return nil
		}
		if err != nil {
			return err
		}
		return c.add(buf[:n])
	case 2:
		m, err := q.Next(ctx)
		if err != nil {
			return err
		}
		return errors.Join(c.add(m.Bytes()), m.Release())
	default:
		b, err := q.NextBatch(ctx, 1+i%16)
		if err != nil {
			return err
		}
		for j := range b.Len() {
			if err := c.add(b.At(j).Bytes()); err != nil {
				return err
			}
			if j == (b.Len()-1)/2 && i%5 == 4 {
				if err := b.At(j).Release(); err != nil {
					return err
				}
			}
		}
		if i%5 == 4 && b.Len() == 1 {
			return nil // released as a whole above
		}
		return b.Release()
	}
}
