//go:build linux

package process

import (
	"context"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/seg"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

// named are the backings that have names.
var named = []seg.Backing{seg.POSIX, seg.SysV}

// Nobody removes a ring that is open somewhere, here or in another process, registered or not.
func TestRemoveIsRefusedWhileAnybodyIsAttached(t *testing.T) {
	t.Parallel()
	for _, b := range named {
		for _, how := range []string{"closed", "killed"} {
			t.Run(b.String()+"/"+how, func(t *testing.T) {
				t.Parallel()
				r, dir := newRing(t, ring.Options{Backing: b})
				remove := func() error { return ring.Remove("q", ring.WithDir(dir)) }
				require.ErrorIs(t, remove(), ring.ErrInUse, "this process")
				idle, busy := startRemote(t, dir, nil), startRemote(t, dir, []string{"produce", "send a"})
				require.NoError(t, r.Close())
				require.ErrorIs(t, remove(), ring.ErrInUse, "two others")
				busy.finish(how)
				require.ErrorIs(t, remove(), ring.ErrInUse, "one other, that is not registered")
				observer, err := ring.Open("q", ring.WithDir(dir), ring.ReadOnly())
				require.NoError(t, err)
				idle.finish(how)
				require.NoError(t, remove(), "an observer is not in the way")
				require.Equal(t, uint64(1), observer.Stats().Sent, "and goes on seeing the old ring")
				require.NoError(t, observer.Close())
				_, err = ring.Open("q", ring.WithDir(dir))
				require.ErrorIs(t, err, fs.ErrNotExist)
				require.ErrorIs(t, remove(), fs.ErrNotExist)
			})
		}
	}
}

// IfDrained refuses while unread messages are left; those that dead consumers held and those of dead producers are unread.
func TestRemoveIfDrained(t *testing.T) {
	t.Parallel()
	for _, k := range bothKinds {
		t.Run(k.String(), func(t *testing.T) {
			t.Parallel()
			r, dir := newRing(t, ring.Options{Kind: k, Slots: 8})
			remove := func() error { return ring.Remove("q", ring.WithDir(dir), ring.IfDrained()) }
			require.NoError(t, r.Close())
			startRemote(t, dir, []string{"produce", "send a"}).Kill()
			require.ErrorIs(t, remove(), ring.ErrInUse)
			startRemote(t, dir, []string{"consume", "next"}).Kill()
			require.ErrorIs(t, remove(), ring.ErrInUse, "the lease of a dead consumer comes back")
			startRemote(t, dir, []string{"consume", "receive"}).Kill()
			require.NoError(t, remove())
		})
	}
}

// By force a ring is removed under its users: their calls return ErrSegmentLost, those that wait in this and in other processes too.
func TestRemoveByForceEndsEverybodysCalls(t *testing.T) {
	t.Parallel()
	for _, b := range named {
		for _, k := range bothKinds {
			t.Run(b.String()+"/"+k.String(), func(t *testing.T) {
				t.Parallel()
				full, fullDir := newRing(t, ring.Options{Kind: k, Slots: 2, Backing: b})
				empty, emptyDir := newRing(t, ring.Options{Kind: k, Slots: 2, Backing: b})
				producer := startRemote(t, fullDir, []string{"produce", "send a b"})
				reader := consumerOf(t, full)
				consumer := startRemote(t, emptyDir, []string{"consume"})
				writer := producerOf(t, empty)
				producer.Tell("send c")
				asleep(t, full, 0)
				consumer.Tell("next")
				asleep(t, empty, 0)
				var here func() error
				if k == ring.MPMC {
					c, before := consumerOf(t, empty), empty.Stats().Sleeps
					here = later(t, func() error { _, err := c.Receive(context.Background(), nil); return err })
					asleep(t, empty, before+1)
				}
				start := time.Now()
				for _, dir := range []string{fullDir, emptyDir} {
					require.NoError(t, ring.Remove("q", ring.WithDir(dir), ring.WithForce()))
					_, err := ring.Open("q", ring.WithDir(dir))
					require.ErrorIs(t, err, fs.ErrNotExist)
				}
				for _, c := range []*remote{producer, consumer} {
					class, data := c.answer()
					require.Equal(t, "lost", class, data)
				}
				if here != nil {
					require.ErrorIs(t, here(), ring.ErrSegmentLost)
				}
				require.Less(t, time.Since(start), proc.Notice)
				// Calls that would have to wait later say so as well.
				require.NoError(t, writer.TrySend(nil))
				require.NoError(t, writer.TrySend(nil))
				require.ErrorIs(t, writer.Send(context.Background(), nil), ring.ErrSegmentLost)
				require.NoError(t, reader.Close())
				// The name is free for a new ring.
				r, created, err := ring.OpenOrCreate("q", ring.Options{Dir: fullDir})
				require.NoError(t, err)
				require.True(t, created)
				require.NoError(t, r.Close())
			})
		}
	}
}

// When a ring exists with other options, OpenOrCreate says which; what is not given matches anything, and Create refuses in any case.
func TestOpenOrCreateNamesTheFieldThatDiffers(t *testing.T) {
	t.Parallel()
	have := ring.Options{Kind: ring.MPMC, Slots: 16, SlotSize: 128, OnConsumerDeath: ring.Drop, MaxDeliveries: 4, Participants: 8, Backing: seg.POSIX}
	r, dir := newRing(t, have)
	child := startRemote(t, dir, nil) // it is a ring of somebody else as well
	require.NoError(t, r.Close())
	for name, change := range map[string]func(*ring.Options){
		"Kind":            func(o *ring.Options) { o.Kind = ring.SPSC },
		"Slots":           func(o *ring.Options) { o.Slots = 32 },
		"SlotSize":        func(o *ring.Options) { o.SlotSize = 64 },
		"OnConsumerDeath": func(o *ring.Options) { o.OnConsumerDeath = ring.Redeliver },
		"MaxDeliveries":   func(o *ring.Options) { o.MaxDeliveries = 5 },
		"Participants":    func(o *ring.Options) { o.Participants = 9 },
		"Backing":         func(o *ring.Options) { o.Backing = seg.SysV },
	} {
		for _, o := range []ring.Options{{}, have} { // this field alone, and with all others as they are
			o.Dir = dir
			change(&o)
			_, created, err := ring.OpenOrCreate("q", o)
			require.ErrorIs(t, err, ring.ErrMismatch, name)
			require.ErrorContains(t, err, name+" ")
			require.False(t, created)
			_, err = ring.Create("q", o)
			require.ErrorIs(t, err, fs.ErrExist, name)
		}
	}
	for _, o := range []ring.Options{{}, have} {
		o.Dir = dir
		r, created, err := ring.OpenOrCreate("q", o)
		require.NoError(t, err)
		require.False(t, created)
		got := r.Options()
		require.NoError(t, r.Close())
		have.Dir, have.Perm, got.Logger = dir, got.Perm, nil
		require.Equal(t, have, got)
	}
	child.Kill()
	require.NoError(t, ring.Remove("q", ring.WithDir(dir)), "those that were refused left nothing attached")
}
