//go:build amd64 || arm64

package seg

import (
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// Every descriptor of a watched file that is closed is noticed, whoever had it and however it was opened; others are not. Properties: the watch proves
// itself, several watches of one file and of several files live beside each other, and nothing is called after the last Stop.
func TestWatchSeesDescriptorsClose(t *testing.T) {
	for _, backing := range []Backing{POSIX, SysV, Memfd} {
		t.Run(backing.String(), func(t *testing.T) {
			dir := shm(t)
			a, b := create(t, "a", options(dir, backing)), create(t, "b", options(dir, POSIX))
			var first, second, other atomic.Int64
			w1, err := a.Watch(func() { first.Add(1) })
			require.NoError(t, err)
			w2, err := a.Watch(func() { second.Add(1) })
			require.NoError(t, err)
			w3, err := b.Watch(func() { other.Add(1) })
			require.NoError(t, err)
			for _, w := range []*Watch{w1, w2, w3} {
				require.Eventually(t, w.Proven, time.Minute, time.Millisecond)
			}
			settled := func() (int64, int64, int64) { // after the last look
				for {
					x, y, z := first.Load(), second.Load(), other.Load()
					time.Sleep(2 * looks[len(looks)-1])
					if x == first.Load() && y == second.Load() && z == other.Load() {
						return x, y, z
					}
				}
			}
			x, y, z := settled()
			require.NotZero(t, x)
			lock, err := a.NewLock()
			require.NoError(t, err)
			require.NoError(t, lock.Close())
			x2, y2, z2 := settled()
			require.Greater(t, x2, x)
			require.Greater(t, y2, y)
			require.Equal(t, z, z2)
			w1.Stop()
			w3.Stop()
			lock, err = a.NewLock()
			require.NoError(t, err)
			require.NoError(t, lock.Close())
			x3, y3, _ := settled()
			require.Equal(t, x2, x3)
			require.Greater(t, y3, y2)
			w2.Stop()
			watchMu.Lock()
			require.Nil(t, theOne)
			watchMu.Unlock()
		})
	}
}

// Without an inotify instance Watch is an error, and everything else works. Property: the next Watch, when there are some again, works too.
func TestWatchWithoutInotify(t *testing.T) {
	s := create(t, "a", options(shm(t), POSIX))
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}))
	w, err := s.Watch(func() {})
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	require.ErrorIs(t, err, unix.EMFILE)
	require.Nil(t, w)
	w, err = s.Watch(func() {})
	require.NoError(t, err)
	require.Eventually(t, w.Proven, time.Minute, time.Millisecond)
	w.Stop()
}

// A file may go while it is watched. Property: its watch can be stopped after all others, when there is no inotify instance any more.
func TestWatchOutlivesItsFile(t *testing.T) {
	dir := shm(t)
	a, b := create(t, "a", options(dir, POSIX)), create(t, "b", options(dir, POSIX))
	gone, err := a.Watch(func() {})
	require.NoError(t, err)
	other, err := b.Watch(func() {})
	require.NoError(t, err)
	check(t, os.Remove(a.Path()))
	check(t, a.Close())
	require.Eventually(t, func() bool {
		watchMu.Lock()
		defer watchMu.Unlock()
		return len(theOne.files) == 1
	}, time.Minute, time.Millisecond)
	other.Stop()
	gone.Stop()
}

// The kernel closes what a dead process had open from the highest number to the lowest. A lock that comes before the inotify instance, which takes it
// milliseconds, is released before: the proof of a death does not wait.
func TestLocksAreReleasedBeforeTheWatch(t *testing.T) {
	s := create(t, "a", options(shm(t), POSIX))
	first, err := s.Lock(1)
	require.NoError(t, err)
	w, err := s.Watch(func() {})
	require.NoError(t, err)
	second, err := s.Lock(2)
	require.NoError(t, err)
	watchMu.Lock()
	instance := theOne.fd
	watchMu.Unlock()
	require.Greater(t, first.fd, instance)
	require.Greater(t, second.fd, instance)
	w.Stop()
	require.NoError(t, first.Close())
	require.NoError(t, second.Close())
	locked, err := s.Probe(1)
	require.NoError(t, err)
	require.False(t, locked)
}
