//go:build linux

package process

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

// polls are the Try calls of a consumer; each returns the message, the deliveries, and releases it.
var polls = map[string]func(*ring.Consumer) (string, int, error){
	"TryReceive": func(c *ring.Consumer) (string, int, error) {
		buf := make([]byte, 64)
		n, err := c.TryReceive(buf)
		if err != nil {
			return "", 0, err
		}
		return string(buf[:n]), c.Last().Deliveries, nil
	},
	"TryNext": func(c *ring.Consumer) (string, int, error) {
		m, err := c.TryNext()
		if err != nil {
			return "", 0, err
		}
		if m.Redelivered() != (m.Deliveries() > 1) {
			return "", 0, errors.New("Redelivered and Deliveries do not agree")
		}
		return string(m.Bytes()), m.Deliveries(), m.Release()
	},
	"TryNextBatch": func(c *ring.Consumer) (string, int, error) {
		b, err := c.TryNextBatch(1)
		if err != nil {
			return "", 0, err
		}
		return string(b.At(0).Bytes()), b.At(0).Deliveries(), b.Release()
	},
}

// A consumer that only polls finds out that the producer in its way is dead, steps over what that one had reserved, and goes on.
func TestPollingStepsOverADeadReservation(t *testing.T) {
	t.Parallel()
	for _, k := range bothKinds {
		for name, try := range polls {
			t.Run(k.String()+"/"+name, func(t *testing.T) {
				t.Parallel()
				r, dir := newRing(t, ring.Options{Kind: k, Slots: 16})
				c := consumerOf(t, r)
				dead := startRemote(t, dir, []string{"produce", "reserve abandoned"})
				if k == ring.SPSC { // the successor settles it
					dead.Kill()
				}
				startRemote(t, dir, []string{"produce", "send next"})
				if k == ring.MPMC {
					for range 20 { // alive: it keeps its claim, and the message behind waits
						_, _, err := try(c)
						require.ErrorIs(t, err, ring.ErrEmpty)
						time.Sleep(2 * time.Millisecond)
					}
					require.Zero(t, r.Stats().Skipped)
					dead.Kill()
				}
				start := time.Now()
				var m string
				var n int
				require.NoError(t, poll(func() (err error) { m, n, err = try(c); return err }))
				require.Less(t, time.Since(start), proc.Notice)
				require.Equal(t, "next", m)
				require.Equal(t, 1, n)
				s := r.Stats()
				require.Equal(t, uint64(1), s.Skipped)
				require.Equal(t, uint64(1), s.ProducersDied)
				require.Zero(t, s.Lost)
				require.Equal(t, uint64(1), s.Sent)
			})
		}
	}
}

// A consumer that only polls gets what a killed consumer had leased, marked; under Drop it is counted as lost instead.
func TestPollingGetsWhatADeadConsumerHeld(t *testing.T) {
	t.Parallel()
	for _, k := range bothKinds {
		for _, policy := range []ring.DeathPolicy{ring.Redeliver, ring.Drop} {
			for _, lease := range []string{"next", "nextbatch 2"} {
				for name, try := range polls {
					t.Run(fmt.Sprintf("%s/%s/%s/%s", k, policy, lease, name), func(t *testing.T) {
						t.Parallel()
						r, dir := newRing(t, ring.Options{Kind: k, Slots: 16, OnConsumerDeath: policy})
						p := startRemote(t, dir, []string{"produce", "send a b c"})
						dead := startRemote(t, dir, []string{"consume", lease})
						held := 1
						if lease != "next" {
							held = 2
						}
						var c *ring.Consumer
						if k == ring.SPSC {
							dead.Kill()
							c = consumerOf(t, r)
						} else {
							c = consumerOf(t, r)
							for _, want := range []string{"a", "b", "c"}[held:] {
								m, n, err := try(c)
								require.NoError(t, err)
								require.Equal(t, want, m)
								require.Equal(t, 1, n)
							}
							_, _, err := try(c)
							require.ErrorIs(t, err, ring.ErrEmpty)
							dead.Kill()
						}
						start := time.Now()
						if policy == ring.Redeliver {
							for _, want := range []string{"a", "b"}[:held] {
								var m string
								var n int
								require.NoError(t, poll(func() (err error) { m, n, err = try(c); return err }))
								require.Less(t, time.Since(start), proc.Notice)
								require.Equal(t, want, m)
								require.Equal(t, 2, n)
							}
							require.Equal(t, uint64(held), r.Stats().Redelivered)
							held = 0
						}
						if k == ring.SPSC {
							for _, want := range []string{"a", "b", "c"}[3-int(r.Stats().Used):] {
								m, n, err := try(c)
								require.NoError(t, err)
								require.Equal(t, want, m)
								require.Equal(t, 1, n)
							}
						}
						p.must("close")
						require.Equal(t, io.EOF, poll(func() error { _, _, err := try(c); return err }))
						require.Less(t, time.Since(start), proc.Notice)
						s := r.Stats()
						require.Equal(t, uint64(held), s.Lost)
						require.Equal(t, uint64(1), s.ConsumersDied)
						require.Zero(t, s.Used)
					})
				}
			}
		}
	}
}

// A producer that only polls goes on when the slots that a dead consumer had leased are free.
func TestPollingProducerGetsTheSpaceOfADroppedLease(t *testing.T) {
	t.Parallel()
	r, dir := newRing(t, ring.Options{Slots: 4, OnConsumerDeath: ring.Drop})
	p := producerOf(t, r)
	require.Equal(t, 4, fill(t, p))
	dead := startRemote(t, dir, []string{"consume", "next"})
	startRemote(t, dir, []string{"consume"})
	for range 20 {
		require.ErrorIs(t, p.TrySend([]byte("x")), ring.ErrFull)
		time.Sleep(2 * time.Millisecond)
	}
	dead.Kill()
	start := time.Now()
	require.Eventually(t, func() bool { return p.TrySend([]byte("x")) == nil }, proc.Patience, 2*time.Millisecond)
	require.Less(t, time.Since(start), proc.Notice)
	require.Equal(t, uint64(1), r.Stats().Lost)
}

// A message that one consumer after the other dies with is delivered MaxDeliveries times, each time with its number, and then counted as lost.
func TestMaxDeliveriesEndsAPoisonedMessage(t *testing.T) {
	t.Parallel()
	for _, k := range bothKinds {
		for _, limit := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s/%d", k, limit), func(t *testing.T) {
				t.Parallel()
				r, dir := newRing(t, ring.Options{Kind: k, Slots: 8, MaxDeliveries: limit})
				p := startRemote(t, dir, []string{"produce", "send poison"})
				for n := 1; n <= limit; n++ {
					require.Zero(t, r.Stats().Lost)
					c := startRemote(t, dir, []string{"consume"})
					require.Equal(t, fmt.Sprintf("poison 0 %d", n), c.must("next"))
					c.Kill()
				}
				p.must("send good")
				c := startRemote(t, dir, []string{"consume"})
				require.Equal(t, "good 1 1", c.must("receive"))
				p.must("close")
				class, data := c.do("receive")
				require.Equal(t, "eof", class, data)
				s := r.Stats()
				require.Equal(t, uint64(1), s.Lost)
				require.Equal(t, uint64(limit), s.ConsumersDied)
				require.Equal(t, uint64(limit-1), s.Redelivered)
				require.Zero(t, s.Used)
			})
		}
	}
}

// Without a limit a message comes back as often as its consumers die.
func TestWithoutALimitAMessageAlwaysComesBack(t *testing.T) {
	t.Parallel()
	for _, k := range bothKinds {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			r, dir := newRing(t, ring.Options{Kind: k, Slots: 8})
			startRemote(t, dir, []string{"produce", "send a"})
			for n := 1; n <= 8; n++ {
				c := startRemote(t, dir, []string{"consume"})
				require.Equal(t, fmt.Sprintf("a 0 %d", n), c.must("next"))
				c.Kill()
			}
			m, d := receiveString(t, consumerOf(t, r))
			require.Equal(t, "a", m)
			require.Equal(t, 9, d.Deliveries)
			require.Zero(t, r.Stats().Lost)
		})
	}
}
