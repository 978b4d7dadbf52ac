//go:build linux

package process

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

// stop stops a child with SIGSTOP.
func (r *remote) stop() {
	r.t.Helper()
	r.Signal(syscall.SIGSTOP)
	require.True(r.t, r.WaitStopped(), "the child ended: %s", r.Errors())
}

// requireStalled requires that the ring shows the child as stalled at a position, and nobody else.
func requireStalled(t *testing.T, r *ring.Ring, who *remote, role ring.Role, position uint64) {
	t.Helper()
	require.Eventually(t, func() bool { // two looks
		for _, p := range r.Participants() {
			if p.State == ring.Stalled {
				return true
			}
		}
		return false
	}, proc.Patience, 20*time.Millisecond)
	for _, p := range r.Participants() {
		if p.PID != who.Cmd.Process.Pid {
			require.Equal(t, ring.Live, p.State)
			continue
		}
		require.Equal(t, ring.Stalled, p.State)
		require.Equal(t, role, p.Role)
		require.Equal(t, position, p.Position)
		require.True(t, p.Holding)
		require.GreaterOrEqual(t, p.Age, 100*time.Millisecond)
	}
}

// In an MPMC ring a stopped producer with an open reservation delays what lies behind it. Who waits learns behind whom; nothing is taken from it,
// however long, and when it goes on everything is received once and in order.
func TestStoppedProducerDelaysButLosesNothing(t *testing.T) {
	t.Parallel()
	r, dir := newRing(t, ring.Options{Slots: 16})
	c := consumerOf(t, r)
	stopped := startRemote(t, dir, []string{"produce", "send m0", "reserve m1"})
	p := startRemote(t, dir, []string{"produce", "send m2 m3", "sendbatch m4 m5"})
	other := startRemote(t, dir, []string{"consume"})
	m, _ := receiveString(t, c)
	require.Equal(t, "m0", m)
	stopped.stop()

	for name, receive := range map[string]func(context.Context) error{
		"Receive":   func(ctx context.Context) error { _, err := c.Receive(ctx, make([]byte, 64)); return err },
		"Next":      func(ctx context.Context) error { _, err := c.Next(ctx); return err },
		"NextBatch": func(ctx context.Context) error { _, err := c.NextBatch(ctx, 4); return err },
	} {
		err := receive(within(t, 400*time.Millisecond))
		var peer *ring.PeerError
		require.ErrorAs(t, err, &peer, name)
		require.ErrorIs(t, err, context.DeadlineExceeded, name)
		require.Equal(t, ring.PeerError{Role: ring.ProducerRole, PID: stopped.Cmd.Process.Pid, Position: 1, Err: peer.Err}, *peer, name)
	}
	class, data := other.do("within 400ms receive")
	require.Equal(t, "peer", class, data)
	_, err := c.TryReceive(make([]byte, 64))
	require.ErrorIs(t, err, ring.ErrEmpty)
	requireStalled(t, r, stopped, ring.ProducerRole, 1)
	p.must("close") // also when everybody else has gone
	_, err = c.TryReceive(make([]byte, 64))
	require.ErrorIs(t, err, ring.ErrEmpty)
	s := r.Stats()
	require.Zero(t, s.Skipped+s.Recoveries+s.ProducersDied)
	require.Equal(t, 5, s.Used)

	other.Tell("within 30s receive")
	stopped.Signal(syscall.SIGCONT)
	stopped.must("commit")
	class, data = other.answer()
	require.Equal(t, "nil", class, data)
	require.Equal(t, "m1 1 1", data)
	for i := 2; i <= 5; i++ {
		m, d := receiveString(t, c)
		require.Equal(t, fmt.Sprint("m", i), m)
		require.Equal(t, ring.Delivery{Position: uint64(i), Deliveries: 1}, d)
	}
	stopped.must("close")
	require.Empty(t, other.must("drain"))
	require.Zero(t, r.Stats().Used)
}

// A deadline that ends before the peer counts as stalled is a plain one.
func TestShortWaitIsNotBehindAStall(t *testing.T) {
	t.Parallel()
	r, dir := newRing(t, ring.Options{Slots: 16})
	c := consumerOf(t, r)
	_, err := c.Receive(within(t, 10*time.Millisecond), nil)
	require.Equal(t, context.DeadlineExceeded, err)
	startRemote(t, dir, []string{"produce"}) // alive, without a claim
	_, err = c.Receive(within(t, 300*time.Millisecond), nil)
	require.Equal(t, context.DeadlineExceeded, err)
}

// A stopped consumer keeps what it leased. Producers that find the ring full behind it learn who it is (MPMC), others get what is left.
func TestStoppedConsumerKeepsItsLease(t *testing.T) {
	t.Parallel()
	for _, k := range bothKinds {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			r, dir := newRing(t, ring.Options{Kind: k, Slots: 4})
			p := producerOf(t, r)
			require.Equal(t, 4, fill(t, p))
			stopped := startRemote(t, dir, []string{"consume", "next"})
			stopped.stop()
			if k == ring.MPMC { // another consumer gets the rest, and not this one
				other := startRemote(t, dir, []string{"consume"})
				for i := 1; i < 4; i++ {
					require.Equal(t, fmt.Sprintf("fill%d %d 1", i, i), other.must("receive"))
				}
				class, data := other.do("within 300ms receive")
				require.Equal(t, "deadline", class, data)
			}
			err := p.Send(within(t, 400*time.Millisecond), []byte("x"))
			require.ErrorIs(t, err, context.DeadlineExceeded, "the slot is in use")
			var peer *ring.PeerError
			if k == ring.MPMC {
				require.ErrorAs(t, err, &peer)
				require.Equal(t, ring.ConsumerRole, peer.Role)
				require.Equal(t, stopped.Cmd.Process.Pid, peer.PID)
			}
			requireStalled(t, r, stopped, ring.ConsumerRole, 0)
			if k == ring.SPSC { // the role stays taken
				_, err = r.NewConsumer()
				require.ErrorIs(t, err, ring.ErrRoleTaken)
			}
			require.Zero(t, r.Stats().Recoveries+r.Stats().Redelivered+r.Stats().ConsumersDied)
			stopped.Signal(syscall.SIGCONT)
			wait := later(t, func() error { return p.Send(context.Background(), []byte("x")) })
			stopped.must("release")
			require.NoError(t, wait())
			require.NoError(t, p.Close())
			want := "x"
			if k == ring.SPSC {
				want = "fill1 fill2 fill3 x"
			}
			require.Equal(t, strings.Fields(want), strings.Fields(stopped.must("drain")))
			require.Zero(t, r.Stats().Used)
		})
	}
}
