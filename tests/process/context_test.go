//go:build linux

package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

// number is what the typed handles of these tests carry.
type number struct{ N uint64 }

// ends are the handles of one ring in the test's process.
type ends struct {
	p  *ring.Producer
	c  *ring.Consumer
	tp *ring.TypedProducer[number]
	tc *ring.TypedConsumer[number]
}

// A blockingCall is a call that waits; sent and got count the messages that it has sent or received.
type blockingCall struct {
	name  string
	typed bool
	sends bool
	do    func(e *ends, ctx context.Context) (n int, err error)
}

// one makes a count of an error.
func one(err error) (int, error) {
	if err != nil {
		return 0, err
	}
	return 1, nil
}

var blockingCalls = []blockingCall{
	{"Send", false, true, func(e *ends, ctx context.Context) (int, error) { return one(e.p.Send(ctx, make([]byte, 8))) }},
	{"SendBatch", false, true, func(e *ends, ctx context.Context) (int, error) {
		return e.p.SendBatch(ctx, [][]byte{make([]byte, 8), make([]byte, 8)})
	}},
	{"SendBatchOfSeveralParts", false, true, func(e *ends, ctx context.Context) (int, error) {
		msgs := make([][]byte, 20)
		for i := range msgs {
			msgs[i] = make([]byte, 8)
		}
		return e.p.SendBatch(ctx, msgs)
	}},
	{"Reserve", false, true, func(e *ends, ctx context.Context) (int, error) {
		s, err := e.p.Reserve(ctx, 8)
		if err != nil {
			return 0, err
		}
		return one(s.Commit())
	}},
	{"Receive", false, false, func(e *ends, ctx context.Context) (int, error) {
		_, err := e.c.Receive(ctx, make([]byte, 8))
		return one(err)
	}},
	{"Next", false, false, func(e *ends, ctx context.Context) (int, error) {
		m, err := e.c.Next(ctx)
		if err != nil {
			return 0, err
		}
		return one(m.Release())
	}},
	{"NextBatch", false, false, func(e *ends, ctx context.Context) (int, error) {
		b, err := e.c.NextBatch(ctx, 4)
		if err != nil {
			return 0, err
		}
		return b.Len(), b.Release()
	}},
	{"All", false, false, func(e *ends, ctx context.Context) (int, error) {
		for _, err := range e.c.All(ctx) {
			return one(err)
		}
		return 0, io.EOF
	}},
	{"TypedSend", true, true, func(e *ends, ctx context.Context) (int, error) { return one(e.tp.Send(ctx, &number{1})) }},
	{"TypedSendBatch", true, true, func(e *ends, ctx context.Context) (int, error) { return e.tp.SendBatch(ctx, make([]number, 3)) }},
	{"TypedReceive", true, false, func(e *ends, ctx context.Context) (int, error) { return one(e.tc.Receive(ctx, &number{})) }},
	{"TypedReceiveBatch", true, false, func(e *ends, ctx context.Context) (int, error) { return e.tc.ReceiveBatch(ctx, make([]number, 3)) }},
}

// blocked makes a ring on which the call waits: full, with a consumer in another process, or empty, with a producer there.
func (b *blockingCall) blocked(t *testing.T, k ring.Kind) (r *ring.Ring, e *ends, peer *remote, filled int) {
	r, dir := newRing(t, ring.Options{Kind: k, Slots: 4})
	e = &ends{}
	var err error
	switch {
	case b.typed && b.sends:
		e.tp, err = ring.NewTypedProducer[number](r)
	case b.typed:
		e.tc, err = ring.NewTypedConsumer[number](r)
	case b.sends:
		e.p, err = r.NewProducer()
	default:
		e.c, err = r.NewConsumer()
	}
	require.NoError(t, err)
	if !b.sends {
		if b.typed { // an untyped producer could not share the ring
			e.tp, err = ring.NewTypedProducer[number](r)
			require.NoError(t, err)
			return r, e, nil, 0
		}
		return r, e, startRemote(t, dir, []string{"produce"}), 0
	}
	peer = startRemote(t, dir, []string{"consume"})
	for {
		if b.typed {
			err = e.tp.TrySend(&number{})
		} else {
			err = e.p.TrySend(make([]byte, 8))
		}
		if errors.Is(err, ring.ErrFull) {
			return r, e, peer, filled
		}
		require.NoError(t, err)
		filled++
	}
}

// Every blocking call ends with its context, before or in the middle of the wait, says so with the context's error, and nothing is sent, received or lost by it.
func TestBlockingCallsEndWithTheirContext(t *testing.T) {
	t.Parallel()
	for _, k := range bothKinds {
		for _, b := range blockingCalls {
			t.Run(k.String()+"/"+b.name, func(t *testing.T) {
				t.Parallel()
				r, e, peer, filled := b.blocked(t, k)

				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				start := time.Now()
				n, err := b.do(e, ctx)
				require.Less(t, time.Since(start), proc.Notice)
				require.Equal(t, context.Canceled, err, "cancelled before the call")
				require.Zero(t, n)

				ctx, cancel = context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
				_, err = b.do(e, ctx)
				require.Equal(t, context.DeadlineExceeded, err, "deadline before the call")
				cancel()

				start = time.Now()
				ctx, cancel = context.WithTimeout(context.Background(), 30*time.Millisecond)
				_, err = b.do(e, ctx)
				require.Equal(t, context.DeadlineExceeded, err)
				require.GreaterOrEqual(t, time.Since(start), 30*time.Millisecond)
				require.Less(t, time.Since(start), proc.Notice)
				cancel()

				ctx, cancel = context.WithCancel(context.Background())
				before := r.Stats().Sleeps
				wait := later(t, func() error { _, err := b.do(e, ctx); return err })
				asleep(t, r, before)
				start = time.Now()
				cancel()
				require.Equal(t, context.Canceled, wait(), "cancelled in the middle of the wait")
				require.Less(t, time.Since(start), proc.Notice)

				// The handle is as good as new, and the ring holds what it held.
				s := r.Stats()
				require.Equal(t, uint64(filled), s.Sent)
				require.Zero(t, s.Received)
				require.Equal(t, filled, s.Used)
				if b.sends {
					var sent atomic.Bool // a batch of several parts may find the ring empty before its last part
					wait = later(t, func() error {
						defer sent.Store(true)
						_, err := b.do(e, context.Background())
						return err
					})
					require.Eventually(t, func() bool {
						over := sent.Load()
						class, data := peer.do("try")
						require.Contains(t, []string{"nil", "empty"}, class, data)
						s := r.Stats()
						return over && s.Sent > uint64(filled) && s.Used == 0 && s.Received == s.Sent
					}, proc.Patience, time.Millisecond)
					require.NoError(t, wait())
					return
				}
				wait = later(t, func() error { _, err := b.do(e, context.Background()); return err })
				if b.typed {
					require.NoError(t, e.tp.Send(context.Background(), &number{7}))
				} else {
					peer.must("send 12345678")
				}
				require.NoError(t, wait())
				require.Equal(t, uint64(1), r.Stats().Received)
			})
		}
	}
}

// A batch of several parts that its context interrupts says how much of it is committed.
func TestSendBatchSaysHowMuchIsCommitted(t *testing.T) {
	t.Parallel()
	for _, k := range bothKinds {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			r, dir := newRing(t, ring.Options{Kind: k, Slots: 8})
			c := startRemote(t, dir, []string{"consume"})
			p := producerOf(t, r)
			var msgs [][]byte
			for i := range 20 {
				msgs = append(msgs, []byte(fmt.Sprintf("m%d", i)))
			}
			n, err := p.SendBatch(within(t, 100*time.Millisecond), msgs)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, 8, n, "whole parts of half the slots")
			require.NoError(t, p.Close())
			var want []string
			for _, m := range msgs[:n] {
				want = append(want, string(m))
			}
			require.Equal(t, want, strings.Fields(c.must("drain")))
		})
	}
}

// A call that need not wait does not look at its context.
func TestContextIsLookedAtOnlyBeforeParking(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, k := range bothKinds {
		r, dir := newRing(t, ring.Options{Kind: k, Slots: 8})
		startRemote(t, dir, []string{"produce", "send a b"}).must("close")
		c := consumerOf(t, r)
		_, err := c.Receive(ctx, make([]byte, 8))
		require.NoError(t, err)
		m, err := c.Next(ctx)
		require.NoError(t, err)
		require.NoError(t, m.Release())
		p := producerOf(t, r)
		require.NoError(t, p.Send(ctx, nil))
	}
}

// Contexts that end at any moment of a busy exchange: a nil error means sent, or received, an error means not.
func TestContextsThatEndAtAnyMoment(t *testing.T) {
	t.Parallel()
	for _, k := range bothKinds {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			const messages = 3000
			seed := rand.Uint64()
			random := rand.New(rand.NewPCG(seed, 1))
			r, dir := newRing(t, ring.Options{Kind: k, Slots: 2})
			there := proc.Start(t, []string{"interrupted", dir, fmt.Sprint(messages), fmt.Sprint(seed)})
			there.Want("ready")
			p := producerOf(t, r)
			interrupted := 0
			for i := range messages {
				for {
					ctx, cancel := context.WithTimeout(context.Background(), time.Duration(random.IntN(200))*time.Microsecond)
					err := p.Send(ctx, []byte(fmt.Sprint(i)))
					cancel()
					if err == nil {
						break
					}
					require.ErrorIs(t, err, context.DeadlineExceeded, "message %d, seed %d", i, seed)
					interrupted++
				}
			}
			require.NoError(t, p.Close())
			there.Succeeds() // it has checked that it got each once
			require.Equal(t, uint64(messages), r.Stats().Received)
			t.Logf("%d sends were interrupted; the other side: %s", interrupted, there.All())
			require.NotZero(t, interrupted)
		})
	}
}

func init() { children["interrupted"] = interrupted }

// interrupted receives the numbers from 0, with contexts that end at any moment.
func interrupted(args []string) error {
	var messages, seed uint64
	if _, err := fmt.Sscan(args[1]+" "+args[2], &messages, &seed); err != nil {
		return err
	}
	r, err := ring.Open("q", ring.WithDir(args[0]))
	if err != nil {
		return err
	}
	c, err := r.NewConsumer()
	if err != nil {
		return err
	}
	fmt.Println("ready")
	random := rand.New(rand.NewPCG(seed, 2))
	buf := make([]byte, 8)
	ends := 0
	for want := uint64(0); ; {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(random.IntN(200))*time.Microsecond)
		n, err := c.Receive(ctx, buf)
		cancel()
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			ends++
		case err == io.EOF && want == messages:
			fmt.Println("interrupted", ends)
			return nil
		case err == io.EOF && want == 0: // the producer has not come yet: not an end, or it would not be said before any registered
			return errors.New("end of the stream before the first message")
		case err != nil:
			return fmt.Errorf("message %d: %w", want, err)
		case string(buf[:n]) != fmt.Sprint(want):
			return fmt.Errorf("got %q, want %d", buf[:n], want)
		default:
			want++
			if random.IntN(8) == 0 {
				time.Sleep(time.Duration(random.IntN(100)) * time.Microsecond)
			}
		}
	}
}
