package ring

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A wake that meets nobody clears the arrivals, so that the next publish makes no system call.
func TestFutileWakeClearsArrivals(t *testing.T) {
	r, err := NewHeap(Options{})
	require.NoError(t, err)
	e := &r.c.ctl.notEmpty
	e.arrive()
	e.arrive()
	key := e.arrive()
	require.True(t, e.pending())
	require.EqualValues(t, 1, e.notify(1), "one call: nobody sleeps, whoever arrived will find another epoch")
	require.False(t, e.pending())
	require.Zero(t, e.notify(1))
	require.NotEqual(t, key, e.arrive())
	require.NoError(t, r.Close())
}
