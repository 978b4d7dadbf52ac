//go:build linux

package ring

import (
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/internal/layout"
)

// A handle whose call met a hole in the segment does not know what it still holds. It answers ErrSegmentLost from then on, and its session ends as a death does: one
// that was closed properly would not be looked after, and what it held would be in everybody's way.
func TestBrokenHandleEndsAsADeath(t *testing.T) {
	r, err := Create("torn", Options{Slots: 1024, SlotSize: 16, Dir: t.TempDir()})
	require.NoError(t, err)
	defer r.Close()
	p, q := pair(t, r)
	require.NoError(t, p.TrySend([]byte("one")))
	m, err := q.TryNext()
	require.NoError(t, err)
	require.NoError(t, os.Truncate(filepath.Join(r.options.Dir, "torn"), int64(r.Header().EntriesOffset)))
	require.Equal(t, ErrSegmentLost, m.Release())
	require.Equal(t, ErrSegmentLost, m.Release())
	_, err = q.TryNext()
	require.Equal(t, ErrSegmentLost, err)
	require.NoError(t, q.Close())
	file, err := os.ReadFile(filepath.Join(r.options.Dir, "torn"))
	require.NoError(t, err)
	session := file[r.Header().ParticipantsOffset+uint64(q.id)*layout.ParticipantSize:]
	require.EqualValues(t, 1, binary.LittleEndian.Uint32(session[layout.ParticipantConsumerRegistered:]))
	require.Zero(t, binary.LittleEndian.Uint32(session[layout.ParticipantConsumerClosed:]), "it was closed properly")
}

// A panic inside a call, of a context here, is the caller's. It goes on, and a Close on its way does not wait for the call.
func TestPanicInsideACall(t *testing.T) {
	r, err := Create("panic", Options{Slots: 8, SlotSize: 16, Dir: t.TempDir()})
	require.NoError(t, err)
	defer r.Close()
	_, q := pair(t, r)
	require.PanicsWithValue(t, "no context", func() {
		defer func() {
			since := time.Now()
			require.NoError(t, q.Close())
			require.Less(t, time.Since(since), closePatience/2)
		}()
		_, _ = q.Receive(panickingContext{}, nil)
	})
	_, err = q.TryReceive(nil)
	require.Equal(t, ErrClosed, err)
}

type panickingContext struct{ context.Context }

func (panickingContext) Err() error { panic("no context") }

// A call that panics on memory of the caller's own, and never leaves, holds nobody up for ever: Close gives up, and what the call had claimed is recovered as that
// of a dead one.
func TestCallThatNeverLeaves(t *testing.T) {
	closePatience = 50 * time.Millisecond
	defer func() { closePatience = 10 * time.Second }()
	for _, k := range []Kind{SPSC, MPMC} {
		t.Run(k.String(), func(t *testing.T) {
			dir := t.TempDir()
			r, err := Create("stuck", Options{Kind: k, Slots: 8, SlotSize: 2000, Dir: dir})
			require.NoError(t, err)
			defer r.Close()
			p, err := r.NewProducer()
			require.NoError(t, err)
			other, err := Open("stuck", WithDir(dir))
			require.NoError(t, err)
			defer other.Close()
			q, err := other.NewConsumer()
			require.NoError(t, err)

			f, err := os.Create(filepath.Join(dir, "own"))
			require.NoError(t, err)
			defer f.Close()
			own, err := syscall.Mmap(int(f.Fd()), 0, layout.Page, syscall.PROT_READ, syscall.MAP_SHARED) // the file is empty
			require.NoError(t, err)
			defer syscall.Munmap(own)
			for _, n := range []int{8, 100, 1000, 2000} {
				func() {
					defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
					defer func() { require.NotNil(t, recover()) }()
					_ = p.TrySend(own[:n])
				}()
				if n == 8 {
					require.ErrorIs(t, p.TrySend(nil), ErrMisuse, "the call has not left")
				}
				start := time.Now()
				require.ErrorIs(t, p.Close(), ErrMisuse)
				require.Less(t, time.Since(start), 5*time.Second)
				_, err = r.NewProducer()
				require.ErrorIs(t, err, ErrSegmentLost, "this process is cut off")
				require.NoError(t, r.Close())

				r, err = Open("stuck", WithDir(dir))
				require.NoError(t, err)
				defer r.Close()
				p, err = r.NewProducer()
				require.NoError(t, err)
				require.NoError(t, p.TrySend([]byte{byte(n)}))
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				defer cancel()
				buf := make([]byte, 2000)
				got, err := q.Receive(ctx, buf)
				require.NoError(t, err)
				require.Equal(t, []byte{byte(n)}, buf[:got])
			}
		})
	}
}

// Whoever comes to a ring whose file was cut learns that, not what zeros seem to say.
func TestRegisterWithALostRing(t *testing.T) {
	for _, k := range []Kind{SPSC, MPMC} {
		for _, typed := range []bool{false, true} {
			dir := t.TempDir()
			r, err := Create("lost", Options{Kind: k, Slots: 1024, SlotSize: 16, Dir: dir})
			require.NoError(t, err)
			defer r.Close()
			pair(t, r)
			require.NoError(t, os.Truncate(filepath.Join(dir, "lost"), int64(r.Header().ParticipantsOffset)))
			if typed {
				_, err = NewTypedConsumer[uint64](r)
			} else {
				_, err = r.NewConsumer()
			}
			require.Equal(t, ErrSegmentLost, err)
			_, err = r.NewProducer()
			require.Equal(t, ErrSegmentLost, err)
		}
	}
}
