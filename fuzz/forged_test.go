//go:build linux && (amd64 || arm64)

package fuzz

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/ring"
)

// forged opens a golden segment after a change that only one check can see, for one that receives.
func forged(t *testing.T, name string, change func(mem []byte, h layout.Header, next uint64)) (*ring.Ring, *ring.Consumer, layout.Header, string) {
	mem := append([]byte(nil), golds(t, name)...)
	h, err := layout.Decode(mem, int64(len(mem)))
	require.NoError(t, err)
	change(mem, h, get64(mem, layout.ControlOffset+layout.ControlConsumerPosition))
	dir := place(t, mem)
	r, err := ring.Open("q", ring.WithDir(dir))
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Close() })
	q, err := r.NewConsumer()
	require.NoError(t, err)
	return r, q, h, filepath.Join(dir, "q")
}

// An extent that is longer than the ring is none: nothing is at its position yet.
func TestForgedExtent(t *testing.T) {
	defer watch("forged extent")()
	r, q, _, _ := forged(t, "spsc-sessions", func(mem []byte, h layout.Header, next uint64) {
		at := h.EntriesOffset + next%h.Slots*uint64(h.EntryStride)
		put64(mem, at+layout.EntryLength, layout.FlagRun|3)
		put64(mem, at, (next+1<<40)<<layout.SpscSequenceShift|layout.StateReady)
	})
	require.NoError(t, r.Peek(5, func(uint64, int, []byte) bool { t.Error("shown"); return true }))
	_, err := q.TryReceive(make([]byte, r.MaxMessage()))
	require.True(t, errors.Is(err, ring.ErrEmpty) || errors.Is(err, io.EOF), "%v", err)
}

// An owner that the table of participants does not have is nobody, and is not recovered: what lies where its entry would be is something else.
func TestForgedOwner(t *testing.T) {
	var trap uint64 // looks like the open session of somebody dead
	r, q, h, path := forged(t, "mpmc-fresh", func(mem []byte, h layout.Header, next uint64) {
		owner := (h.DataOffset - h.ParticipantsOffset) / layout.ParticipantSize
		trap = h.ParticipantsOffset + owner*layout.ParticipantSize
		put64(mem, trap, 1)
		put64(mem, h.EntriesOffset+next%h.Slots*uint64(h.EntryStride), (next+1)<<layout.MpmcSequenceShift|owner<<layout.OwnerShift|layout.StateClaimed)
	})
	_, err := q.TryReceive(make([]byte, r.MaxMessage()))
	require.ErrorIs(t, err, ring.ErrEmpty)
	mem, err := os.ReadFile(path)
	require.NoError(t, err)
	require.EqualValues(t, 1, get64(mem, trap))
	require.Equal(t, make([]byte, layout.ParticipantSize-8), mem[trap+8:trap+layout.ParticipantSize], "%d bytes at %d of %d", layout.ParticipantSize, trap, h.SegmentSize)
}

// Lengths that are one byte, or one slot, too long for what they are in are refused. Where a segment's next slot leaves too much space before the end, the
// check of the end cannot be told from another.
func TestForgedLengths(t *testing.T) {
	for _, kind := range []string{"mpmc", "spsc"} {
		for _, x := range []struct {
			name   string
			only   string // the kind that has it
			slots  func(h layout.Header, slot uint64) uint64
			length func(h layout.Header, k uint64) uint64
		}{
			{"single", "", func(layout.Header, uint64) uint64 { return 1 }, func(h layout.Header, _ uint64) uint64 { return h.SlotSize + 1 }},
			{"inline", "", func(layout.Header, uint64) uint64 { return 1 }, func(h layout.Header, _ uint64) uint64 { return layout.FlagInline | uint64(h.InlineSize) + 1 }},
			{"two slots", "", func(layout.Header, uint64) uint64 { return 2 }, func(h layout.Header, _ uint64) uint64 { return 2*h.SlotSize + 1 }},
			{"across the end", "mpmc", func(h layout.Header, slot uint64) uint64 { return h.Slots - slot + 1 }, func(h layout.Header, k uint64) uint64 { return k * h.SlotSize }},
			{"more than half of the ring", "", func(h layout.Header, _ uint64) uint64 { return h.Slots/2 + 1 }, func(h layout.Header, k uint64) uint64 { return k * h.SlotSize }},
			{"run", "spsc", func(layout.Header, uint64) uint64 { return 2 }, func(h layout.Header, _ uint64) uint64 { return layout.FlagRun | h.SlotSize + 1 }},
		} {
			if x.only != "" && x.only != kind {
				continue
			}
			t.Run(kind+"/"+x.name, func(t *testing.T) {
				name := kind + "-sessions"
				r, q, _, _ := forged(t, name, func(mem []byte, h layout.Header, next uint64) {
					slot := next % h.Slots
					k := x.slots(h, slot)
					at := h.EntriesOffset + slot*uint64(h.EntryStride)
					put64(mem, at+layout.EntryLength, x.length(h, k))
					shift := layout.MpmcSequenceShift
					if kind == "spsc" {
						shift = layout.SpscSequenceShift
					}
					put64(mem, at, (next+k)<<shift|layout.StateReady)
					if x.name == "across the end" {
						require.LessOrEqual(t, k, h.Slots/2, "another check would refuse it: slot %d", slot)
					}
				})
				_, err := q.TryReceive(make([]byte, r.MaxMessage()))
				require.ErrorIs(t, err, ring.ErrCorrupt)
			})
		}
	}
}

// A run that the last consumer is said to have been inside of, with messages longer than a slot, is none.
func TestForgedRun(t *testing.T) {
	r, q, _, _ := forged(t, "spsc-sessions", func(mem []byte, h layout.Header, next uint64) {
		put64(mem, layout.ControlOffset+layout.ControlRunEnd, next+2)
		put64(mem, layout.ControlOffset+layout.ControlRunLength, h.SlotSize+1)
	})
	_, err := q.TryReceive(make([]byte, r.MaxMessage()))
	require.True(t, errors.Is(err, ring.ErrEmpty) || errors.Is(err, io.EOF), "%v", err)
}
