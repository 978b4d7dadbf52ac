//go:build linux

package process

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

// sends are the blocking calls of a producer.
var sends = map[string]func(*ring.Producer, context.Context) error{
	"Send": func(p *ring.Producer, ctx context.Context) error { return p.Send(ctx, []byte("x")) },
	"SendBatch": func(p *ring.Producer, ctx context.Context) error {
		_, err := p.SendBatch(ctx, [][]byte{[]byte("x"), []byte("y")})
		return err
	},
	"Reserve": func(p *ring.Producer, ctx context.Context) error {
		s, err := p.Reserve(ctx, 1)
		if err == nil {
			return s.Commit()
		}
		return err
	},
}

// A full ring whose last consumer has closed or died is ErrNoConsumers to whoever would wait, also in the middle of a wait.
func TestFullWithoutConsumersIsErrNoConsumers(t *testing.T) {
	t.Parallel()
	for _, k := range bothKinds {
		for _, how := range []string{"closed", "killed"} {
			for name, send := range sends {
				t.Run(k.String()+"/"+how+"/"+name, func(t *testing.T) {
					t.Parallel()
					r, dir := newRing(t, ring.Options{Kind: k, Slots: 4})
					p := producerOf(t, r)
					c := startRemote(t, dir, []string{"consume"})
					require.Equal(t, 4, fill(t, p))
					wait := later(t, func() error { return send(p, context.Background()) })
					asleep(t, r, 0)
					c.finish(how) // during the wait
					start := time.Now()
					err := wait()
					require.Less(t, time.Since(start), proc.Notice)
					require.ErrorIs(t, err, ring.ErrNoConsumers)
					require.ErrorIs(t, err, syscall.EPIPE)

					err = send(p, within(t, proc.Patience)) // before the wait
					require.ErrorIs(t, err, ring.ErrNoConsumers)
					for range 5 {
						require.ErrorIs(t, p.TrySend([]byte("x")), ring.ErrFull)
						_, err = p.TryReserve(1)
						require.ErrorIs(t, err, ring.ErrFull)
						_, err = p.TrySendBatch([][]byte{{1}})
						require.ErrorIs(t, err, ring.ErrFull)
						time.Sleep(10 * time.Millisecond)
					}
					require.Equal(t, uint64(4), r.Stats().Sent)

					// It is a state: somebody who comes and reads ends it, and nothing was lost.
					d := startRemote(t, dir, []string{"consume"})
					require.Equal(t, "fill0 0 1", d.must("receive"))
					require.Equal(t, "fill1 1 1", d.must("receive"))
					require.NoError(t, send(p, within(t, proc.Patience)))
				})
			}
		}
	}
}

// The waiting producer may be a process of its own; both of several consumers have to go.
func TestErrNoConsumersNeedsTheLastOneToGo(t *testing.T) {
	t.Parallel()
	_, dir := newRing(t, ring.Options{Slots: 2})
	a, b := startRemote(t, dir, []string{"consume"}), startRemote(t, dir, []string{"consume"})
	p := startRemote(t, dir, []string{"produce", "send x y"})
	a.Kill()
	class, data := p.do("within 300ms send z")
	require.Equal(t, "deadline", class, data)
	p.Tell("send z")
	b.Kill()
	class, data = p.answer()
	require.Equal(t, "noconsumers", class, data)
}

// While the ring has never had a consumer, a full ring is waited for: somebody may come.
func TestNotErrNoConsumersBeforeAnyConsumer(t *testing.T) {
	t.Parallel()
	for _, k := range bothKinds {
		for name, send := range sends {
			t.Run(k.String()+"/"+name, func(t *testing.T) {
				t.Parallel()
				r, dir := newRing(t, ring.Options{Kind: k, Slots: 2})
				p := producerOf(t, r)
				require.Equal(t, 2, fill(t, p))
				require.ErrorIs(t, send(p, within(t, 200*time.Millisecond)), context.DeadlineExceeded)
				wait := later(t, func() error { return send(p, context.Background()) })
				c := startRemote(t, dir, []string{"consume"})
				c.must("receive")
				c.must("receive")
				require.NoError(t, wait())
			})
		}
	}
}

// WaitForConsumers waits where others get ErrNoConsumers, and goes on when one comes.
func TestWaitForConsumersWaits(t *testing.T) {
	t.Parallel()
	for _, k := range bothKinds {
		for _, how := range []string{"closed", "killed"} {
			for name, send := range sends {
				t.Run(k.String()+"/"+how+"/"+name, func(t *testing.T) {
					t.Parallel()
					r, dir := newRing(t, ring.Options{Kind: k, Slots: 2})
					p := producerOf(t, r, ring.WaitForConsumers())
					require.Equal(t, 2, fill(t, p))
					startRemote(t, dir, []string{"consume"}).finish(how)
					require.ErrorIs(t, send(p, within(t, 300*time.Millisecond)), context.DeadlineExceeded)
					require.ErrorIs(t, p.TrySend(nil), ring.ErrFull)
					wait := later(t, func() error { return send(p, context.Background()) })
					c := startRemote(t, dir, []string{"consume"})
					require.Equal(t, "fill0 0 1", c.must("receive"))
					require.Equal(t, "fill1 1 1", c.must("receive"))
					require.NoError(t, wait())
				})
			}
		}
	}
}

// What the last consumer held when it died makes room under Drop: a sender goes on instead of giving up.
func TestDroppedLeaseOfTheLastConsumerMakesRoom(t *testing.T) {
	t.Parallel()
	r, dir := newRing(t, ring.Options{Slots: 2, OnConsumerDeath: ring.Drop})
	p := producerOf(t, r)
	require.Equal(t, 2, fill(t, p))
	c := startRemote(t, dir, []string{"consume", "next"})
	c.Kill()
	require.NoError(t, p.Send(within(t, proc.Patience), []byte("x")))
	require.Equal(t, uint64(1), r.Stats().Lost)
	require.ErrorIs(t, p.Send(within(t, proc.Patience), []byte("y")), ring.ErrNoConsumers)
}
