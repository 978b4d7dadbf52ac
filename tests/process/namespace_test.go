//go:build linux

package process

import (
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

// ownPIDs starts a child as the first process of a PID namespace of its own.
func ownPIDs(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
}

// needNamespaces skips the test when this process may not make PID namespaces.
func needNamespaces(t *testing.T) {
	t.Helper()
	c := exec.Command("/bin/true")
	ownPIDs(c)
	if err := c.Run(); err != nil {
		t.Skipf("PID namespaces cannot be made here: %v", err)
	}
}

// Participants whose pids mean nothing to each other see each other's deaths: here everybody is process 1 of a namespace of its own, so that a pid would
// even name the wrong one.
func TestDeathsAreSeenAcrossPIDNamespaces(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	inside, outside := []proc.Option{ownPIDs}, []proc.Option(nil)
	for _, c := range []struct {
		name         string
		victim, heir []proc.Option
	}{
		{"inside and inside", inside, inside},
		{"inside and outside", inside, outside},
		{"outside and inside", outside, inside},
	} {
		for _, k := range bothKinds {
			t.Run(k.String()+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				r, dir := newRing(t, ring.Options{Kind: k, Slots: 8})
				p := startRemote(t, dir, []string{"produce", "send a"}, c.heir...)

				// A consumer dies with a lease; the heir gets the message.
				victim := startRemote(t, dir, []string{"consume"}, c.victim...)
				require.Equal(t, "a 0 1", victim.must("next"))
				if c.victim != nil {
					pids := map[int]bool{}
					for _, x := range r.Participants() {
						pids[x.PID] = true
					}
					require.True(t, pids[1], "the victim does not think that it is process 1: %v", pids)
				}
				heir := startRemote(t, dir, nil, c.heir...)
				if k == ring.SPSC {
					class, data := heir.do("consume")
					require.Equal(t, "roletaken", class, data)
					victim.Kill()
					heir.must("consume")
				} else {
					heir.must("consume")
					class, data := heir.do("within 200ms receive")
					require.Equal(t, "deadline", class, "the victim lives: %s", data)
					heir.Tell("receive")
					victim.Kill()
					start := time.Now()
					class, data = heir.answer()
					require.Less(t, time.Since(start), proc.Notice)
					require.Equal(t, "nil", class)
					require.Equal(t, "a 0 2", data)
				}
				if k == ring.SPSC {
					require.Equal(t, "a 0 2", heir.must("receive"))
				}
				p.must("close")

				// A producer dies with a reservation, while the heir waits: it is stepped over, and the stream ends.
				victim = startRemote(t, dir, []string{"produce", "reserve x"}, c.victim...)
				class, data := heir.do("within 300ms receive")
				require.Contains(t, []string{"deadline", "peer"}, class, data)
				heir.Tell("receive")
				victim.Kill()
				start := time.Now()
				class, data = heir.answer()
				require.Less(t, time.Since(start), proc.Notice)
				require.Equal(t, "eof", class, data)
				s := r.Stats()
				require.Equal(t, uint64(1), s.ProducersDied)
				require.Equal(t, uint64(1), s.ConsumersDied)

				// The last consumer dies, while a producer waits for space.
				heir.must("close")
				victim = startRemote(t, dir, []string{"consume"}, c.victim...)
				fits := "send 1 2 3 4 5 6 7 8"
				if k == ring.SPSC {
					fits = "send 1 2 3 4 5 6 7" // the abandoned reservation takes a slot until somebody has stepped over it
				}
				heir = startRemote(t, dir, []string{"produce", fits}, c.heir...)
				class, data = heir.do("within 200ms send 9")
				require.Equal(t, "deadline", class, data)
				heir.Tell("send 9")
				victim.Kill()
				start = time.Now()
				class, data = heir.answer()
				require.Less(t, time.Since(start), proc.Notice)
				require.Equal(t, "noconsumers", class, data)
			})
		}
	}
}

// In-use is seen across PID namespaces as well.
func TestRemoveSeesWhoIsAttachedInAnotherPIDNamespace(t *testing.T) {
	needNamespaces(t)
	t.Parallel()
	r, dir := newRing(t, ring.Options{})
	c := startRemote(t, dir, nil, ownPIDs)
	require.NoError(t, r.Close())
	require.ErrorIs(t, ring.Remove("q", ring.WithDir(dir)), ring.ErrInUse)
	c.Kill()
	require.NoError(t, ring.Remove("q", ring.WithDir(dir)))
}
