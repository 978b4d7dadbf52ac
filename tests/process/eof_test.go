//go:build linux

package process

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

// Whoever waits for more gets io.EOF when the last producer has ended, dead or closed, and everything is received; a producer that comes later ends that state.
func TestEveryConsumerGetsEOFAfterTheLastProducer(t *testing.T) {
	t.Parallel()
	for _, k := range bothKinds {
		for _, how := range []string{"closed", "killed"} {
			t.Run(k.String()+"/"+how, func(t *testing.T) {
				t.Parallel()
				r, dir := newRing(t, ring.Options{Kind: k, Slots: 64})
				producers, consumers := 1, 1
				if k == ring.MPMC {
					producers, consumers = 2, 3
				}
				var ps, cs []*remote
				want := map[string]int{}
				for i := range producers {
					p := startRemote(t, dir, []string{"produce"})
					for j := range 10 {
						m := fmt.Sprintf("m%d.%d", i, j)
						p.must("send " + m)
						want[m] = 1
					}
					ps = append(ps, p)
				}
				for range consumers {
					c := startRemote(t, dir, []string{"consume"})
					c.Tell("drain")
					cs = append(cs, c)
				}
				asleep(t, r, 0)
				require.Eventually(t, func() bool { return r.Stats().Used == 0 }, proc.Patience, time.Millisecond)
				for _, p := range ps {
					p.finish(how)
				}
				start := time.Now()
				got := map[string]int{}
				for _, c := range cs {
					class, data := c.answer()
					require.Equal(t, "nil", class, data)
					for _, m := range strings.Fields(data) {
						got[m]++
					}
				}
				require.Less(t, time.Since(start), proc.Notice)
				require.Equal(t, want, got)

				died := uint64(0)
				if how == "killed" {
					died = uint64(producers)
				}
				s := r.Stats()
				assert.Equal(t, died, s.ProducersDied)
				assert.Equal(t, uint64(producers), s.ProducersEver)
				assert.Zero(t, s.ProducersLive)

				for _, c := range cs { // it is a state: asked again, everybody hears it again, and by polling too
					class, _ := c.do("receive")
					assert.Equal(t, "eof", class)
					class, _ = c.do("try")
					assert.Equal(t, "eof", class)
				}

				late := startRemote(t, dir, []string{"produce"})
				for _, c := range cs {
					class, _ := c.do("try")
					assert.Equal(t, "empty", class, "a producer that registers later ends the end")
				}
				late.must("send late")
				require.Equal(t, "late", strings.Fields(cs[0].must("receive"))[0])
				late.finish(how)
				for _, c := range cs {
					class, _ := c.do("receive")
					assert.Equal(t, "eof", class)
				}
			})
		}
	}
}

// Before any producer has ever registered there is no end of the stream.
func TestNoEOFBeforeAnyProducer(t *testing.T) {
	t.Parallel()
	for _, k := range bothKinds {
		r, _ := newRing(t, ring.Options{Kind: k, Slots: 8})
		c := consumerOf(t, r)
		_, err := c.Receive(within(t, 150*time.Millisecond), nil)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		_, err = c.TryReceive(nil)
		require.ErrorIs(t, err, ring.ErrEmpty)
	}
}

// The stream has not ended while another consumer holds an unreleased message: that message may come back.
func TestNoEOFWhileAnotherConsumerHoldsAMessage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy ring.DeathPolicy
		end    string
		again  bool   // the waiting consumer gets the message
		lost   uint64 // and this is what is counted
	}{
		{ring.Redeliver, "release", false, 0},
		{ring.Redeliver, "return", true, 0},
		{ring.Redeliver, "close", true, 0},
		{ring.Redeliver, "kill", true, 0},
		{ring.Drop, "release", false, 0},
		{ring.Drop, "return", true, 0},
		{ring.Drop, "close", false, 1},
		{ring.Drop, "kill", false, 1},
	} {
		for _, how := range []string{"closed", "killed"} {
			t.Run(c.policy.String()+"/"+c.end+"/"+how, func(t *testing.T) {
				t.Parallel()
				r, dir := newRing(t, ring.Options{Slots: 8, OnConsumerDeath: c.policy})
				holder := startRemote(t, dir, []string{"consume"})
				waiter := startRemote(t, dir, []string{"consume"})
				p := startRemote(t, dir, []string{"produce", "send a"})
				require.Equal(t, "a 0 1", holder.must("next"))
				p.finish(how)
				class, data := waiter.do("within 200ms receive")
				require.Equal(t, "deadline", class, data)
				for range 3 {
					class, _ = waiter.do("try")
					require.Equal(t, "empty", class)
				}
				waiter.Tell("receive")
				if c.end == "kill" {
					holder.Kill()
				} else {
					holder.must(c.end)
				}
				start := time.Now()
				class, data = waiter.answer()
				require.Less(t, time.Since(start), proc.Notice)
				if c.again {
					require.Equal(t, "nil", class, data)
					require.Equal(t, "a 0 2", data)
					class, data = waiter.do("receive")
				}
				require.Equal(t, "eof", class, data)
				require.Equal(t, c.lost, r.Stats().Lost)
				require.Zero(t, r.Stats().Used)
			})
		}
	}
}

// A consumer that follows waits for new producers, whatever ended the old ones.
func TestFollowNeverEnds(t *testing.T) {
	t.Parallel()
	for _, k := range bothKinds {
		for _, how := range []string{"closed", "killed"} {
			t.Run(k.String()+"/"+how, func(t *testing.T) {
				t.Parallel()
				r, dir := newRing(t, ring.Options{Kind: k, Slots: 8})
				c := consumerOf(t, r, ring.Follow())
				p := startRemote(t, dir, []string{"produce", "send a"})
				p.finish(how)
				m, _ := receiveString(t, c)
				require.Equal(t, "a", m)
				_, err := c.Receive(within(t, 400*time.Millisecond), nil)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				for range 20 {
					_, err = c.TryReceive(nil)
					require.ErrorIs(t, err, ring.ErrEmpty)
					time.Sleep(2 * time.Millisecond)
				}
				startRemote(t, dir, []string{"produce", "send b"})
				m, _ = receiveString(t, c)
				require.Equal(t, "b", m)
			})
		}
	}
}

// Grace waits for a successor of a producer that died, and lets the stream end when none comes.
func TestGraceWaitsAfterADeath(t *testing.T) {
	t.Parallel()
	for _, k := range bothKinds {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			const grace = 600 * time.Millisecond
			r, dir := newRing(t, ring.Options{Kind: k, Slots: 8})
			c := consumerOf(t, r, ring.Grace(grace))
			p := startRemote(t, dir, []string{"produce", "send a"})
			m, _ := receiveString(t, c)
			require.Equal(t, "a", m)
			p.Kill()
			// A successor within the time: the stream goes on.
			got := later(t, func() error { _, err := c.Receive(context.Background(), make([]byte, 8)); return err })
			asleep(t, r, r.Stats().Sleeps)
			p = startRemote(t, dir, []string{"produce", "send b"})
			require.NoError(t, got())
			// No successor: it ends, and not too early.
			start := time.Now()
			p.Kill()
			_, err := c.Receive(within(t, proc.Patience), nil)
			require.ErrorIs(t, err, io.EOF)
			require.GreaterOrEqual(t, time.Since(start), grace)
			require.Less(t, time.Since(start), grace+proc.Notice)
			require.Equal(t, uint64(2), r.Stats().ProducersDied)
		})
	}
}

// A producer that closed has finished: Grace does not wait for another.
func TestGraceDoesNotWaitAfterAClose(t *testing.T) {
	t.Parallel()
	for _, k := range bothKinds {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			r, dir := newRing(t, ring.Options{Kind: k, Slots: 8})
			c := consumerOf(t, r, ring.Grace(proc.Patience))
			startRemote(t, dir, []string{"produce", "send a"}).Kill()
			p := startRemote(t, dir, []string{"produce", "send b"})
			receiveString(t, c)
			receiveString(t, c)
			got := later(t, func() error { _, err := c.Receive(context.Background(), nil); return err })
			p.must("close")
			start := time.Now()
			require.ErrorIs(t, got(), io.EOF)
			require.Less(t, time.Since(start), proc.Notice)
			_, err := c.TryReceive(nil)
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, uint64(1), r.Stats().ProducersDied)
		})
	}
}
