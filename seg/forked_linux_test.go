//go:build amd64 || arm64

package seg

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/cd1900cf/millrace/internal/layout"
)

// A copy of a descriptor, as a child has it between fork and exec, must not keep what was closed: not the attachment, not a participant's lock.
func TestCloseUnlocksDespiteCopies(t *testing.T) {
	dir := t.TempDir()
	s, err := Create("copies", CreateOptions{Dir: dir, Header: layout.Header{Kind: layout.KindMPMC, Policy: layout.PolicyRedeliver, Slots: 16, SlotSize: 64, EntryStride: 64, Participants: 4}})
	require.NoError(t, err)
	l, err := s.Lock(1 << 40)
	require.NoError(t, err)
	other, err := Open("copies", OpenOptions{Dir: dir})
	require.NoError(t, err)
	for _, fd := range []int{s.fd, l.fd} {
		again, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		require.NoError(t, err)
		copied := os.NewFile(uintptr(again), "copy")
		t.Cleanup(func() { require.NoError(t, copied.Close()) })
	}
	locked, err := other.Probe(1 << 40)
	require.NoError(t, err)
	require.True(t, locked)
	require.NoError(t, l.Close())
	locked, err = other.Probe(1 << 40)
	require.NoError(t, err)
	require.False(t, locked)
	require.NoError(t, s.Close())
	require.NoError(t, other.Close())
	require.NoError(t, Remove("copies", RemoveOptions{Dir: dir}))
}
