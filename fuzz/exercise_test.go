//go:build linux && (amd64 || arm64)

package fuzz

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/seg"
)

// The exercise: everything that the API can do, on a segment that anybody may have written to. Properties: every call comes back, none panics, every error is
// one that the API documents, no slice leaves the data of its own message, and an observer changes nothing.

// scratch returns a directory in memory that goes with the test.
func scratch(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "millrace-fuzz-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// documented says whether an error is one that the API documents for calls on handles.
func documented(err error) bool {
	for _, e := range []error{ring.ErrFull, ring.ErrEmpty, ring.ErrMisuse, ring.ErrClosed, ring.ErrCorrupt, ring.ErrRoleTaken, ring.ErrTooManyParticipants,
		ring.ErrNoConsumers, ring.ErrMismatch, io.EOF, io.ErrShortBuffer, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, e) {
			return true
		}
	}
	var size *ring.SizeError
	var peer *ring.PeerError
	return err == nil || errors.As(err, &size) || errors.As(err, &peer)
}

// victim is one process's use of a ring that is not to be trusted.
type victim struct {
	t    testing.TB
	dir  string
	r    *ring.Ring
	h    layout.Header
	maps [][2]uintptr // where the file is mapped: by this ring, and perhaps by others
	n    func(below uint64) uint64
	p    *ring.Producer
	q    *ring.Consumer
	tp   *ring.TypedProducer[record]
	tq   *ring.TypedConsumer[record]
	buf  []byte
	sum  int // of everything that was read, so that it is read
}

// exercise uses the segment DIR/q as the tape says, and removes it.
func exercise(t testing.TB, dir string, tp *tape) {
	look(t, dir, tp)
	r, err := ring.Open("q", ring.WithDir(dir))
	requireOpen(t, err)
	if err == nil {
		v := newVictim(t, dir, r, tp.n)
		tp.script(v.step)
		v.done()
	}
	remove(t, dir, tp)
}

// look does what observers do.
func look(t testing.TB, dir string, tp *tape) {
	_, err := seg.List(dir)
	require.NoError(t, err)
	if _, err = seg.Inspect("q", dir); err != nil {
		requireOpen(t, err)
	}
	r, err := ring.Open("q", ring.WithDir(dir), ring.ReadOnly())
	requireOpen(t, err)
	if err != nil {
		return
	}
	r.Stats()
	r.Participants()
	count := int(tp.n(12))
	err = r.Peek(count, func(_ uint64, _ int, b []byte) bool {
		require.LessOrEqual(t, len(b), r.MaxMessage())
		count--
		return true
	})
	require.NoError(t, err)
	require.GreaterOrEqual(t, count, 0)
	_, err = r.Recover(true)
	require.NoError(t, err)
	_, err = r.Recover(false)
	require.ErrorIs(t, err, fs.ErrPermission)
	_, err = r.NewProducer()
	require.Error(t, err)
	require.NoError(t, r.Close())
}

// requireOpen checks the error of opening what may not be a segment.
func requireOpen(t testing.TB, err error) {
	var format *ring.FormatError
	if err != nil && !errors.As(err, &format) {
		require.ErrorIs(t, err, ring.ErrUnsupported) // the copy of a memfd
	}
}

// remove removes the segment in one of the ways, and then for sure.
func remove(t testing.TB, dir string, tp *tape) {
	var opts []ring.OpenOption
	switch tp.n(3) {
	case 0:
		opts = append(opts, ring.IfDrained())
	case 1:
		opts = append(opts, ring.WithForce())
	}
	err := ring.Remove("q", append(opts, ring.WithDir(dir))...)
	var format *ring.FormatError
	require.True(t, err == nil || errors.Is(err, ring.ErrInUse) || errors.Is(err, ring.ErrUnsupported) || errors.As(err, &format), "%v", err)
	if err := os.Remove(filepath.Join(dir, "q")); !errors.Is(err, fs.ErrNotExist) {
		require.NoError(t, err)
	}
}

func newVictim(t testing.TB, dir string, r *ring.Ring, n func(uint64) uint64) *victim {
	v := &victim{t: t, dir: dir, r: r, h: r.Header(), n: n, buf: make([]byte, min(r.MaxMessage(), 1<<16))}
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(line, filepath.Join(dir, "q")+"\n") && strings.Contains(line, " rw-s ") {
			var m [2]uintptr
			_, err := fmt.Sscanf(line, "%x-%x", &m[0], &m[1])
			require.NoError(t, err)
			v.maps = append(v.maps, m)
		}
	}
	require.NotEmpty(t, v.maps, "the segment is not mapped")
	return v
}

// inside requires that b lies in the data cells from position p to the end of the ring, or in the entry of p, and touches it.
func (v *victim) inside(p uint64, b []byte) {
	if len(b) == 0 {
		return
	}
	slot := p % v.h.Slots
	addr, n := uintptr(unsafe.Pointer(unsafe.SliceData(b))), uint64(len(b))
	i := slices.IndexFunc(v.maps, func(m [2]uintptr) bool { return addr >= m[0] && addr < m[1] })
	require.GreaterOrEqual(v.t, i, 0, "a slice outside of the segment")
	at := uint64(addr - v.maps[i][0])
	data := v.h.DataOffset + slot*v.h.SlotSize
	entry := v.h.EntriesOffset + slot*uint64(v.h.EntryStride)
	switch {
	case at == data && n <= (v.h.Slots-slot)*v.h.SlotSize && n <= uint64(v.r.MaxMessage()):
	case at == entry+layout.EntrySize && n <= uint64(v.h.InlineSize) && n <= v.h.SlotSize:
	default:
		require.Fail(v.t, "a slice that is not the message's", "position %d (slot %d): %d bytes at offset %d of the segment; its cell is at %d, its entry at %d", p, slot, n, at, data, entry)
	}
	for _, x := range b {
		v.sum += int(x)
	}
}

// copied requires that what was copied out can have been a message of the last position.
func (v *victim) copied(n int, err error) {
	if err == nil {
		slot := v.q.Last().Position % v.h.Slots
		require.LessOrEqual(v.t, uint64(n), (v.h.Slots-slot)*v.h.SlotSize, "a message that leaves the ring")
	}
}

// check requires that err is documented, and gives up handles that found the ring corrupt.
func (v *victim) check(err error) {
	if !documented(err) && !errors.Is(err, ring.ErrSegmentLost) { // anybody may have said that the ring is removed
		require.NoError(v.t, err, "an error that the API does not document")
	}
	if errors.Is(err, ring.ErrCorrupt) || errors.Is(err, ring.ErrMisuse) || errors.Is(err, ring.ErrMismatch) {
		v.leave()
	}
}

func (v *victim) leave() {
	if v.p != nil {
		_ = v.p.Close() // it may meet the same corruption
	}
	if v.q != nil {
		_ = v.q.Close()
	}
	if v.tp != nil {
		_ = v.tp.Close()
	}
	if v.tq != nil {
		_ = v.tq.Close()
	}
	v.p, v.q, v.tp, v.tq = nil, nil, nil, nil
}

func (v *victim) done() {
	if v.n(2) == 0 {
		v.leave()
	}
	_ = v.r.Close() // likewise
}

// step makes one call.
func (v *victim) step() {
	switch v.n(16) {
	case 0, 1, 2, 3, 4, 5:
		v.send()
	case 6, 7, 8, 9, 10, 11:
		v.receive()
	case 12:
		v.typed()
	case 13:
		_, err := v.r.Recover(v.n(2) == 0)
		v.check(err)
	case 14:
		v.r.Stats()
		v.r.Participants()
		v.check(v.r.Peek(int(v.n(20)), func(_ uint64, _ int, b []byte) bool {
			require.LessOrEqual(v.t, len(b), v.r.MaxMessage())
			return v.n(4) > 0
		}))
	case 15:
		v.leave()
	}
}

// shortly is a context for calls that may have to wait for what never comes: now and then it lets them sleep.
func (v *victim) shortly() (context.Context, context.CancelFunc) {
	patience := time.Duration(0)
	if v.n(16) == 1 {
		patience = time.Millisecond
	}
	return context.WithTimeout(context.Background(), patience)
}

func (v *victim) send() {
	if v.p == nil {
		p, err := v.r.NewProducer()
		if v.check(err); err != nil {
			return
		}
		v.p = p
	}
	msg := v.buf[:v.n(uint64(len(v.buf)+1))]
	ctx, cancel := v.shortly()
	defer cancel()
	switch v.n(8) {
	case 0, 1, 2:
		v.check(v.p.TrySend(msg))
	case 3:
		v.check(v.p.Send(ctx, msg))
	case 4:
		_, err := v.p.TrySendBatch([][]byte{msg, msg[:0], msg[:min(1, len(msg))], {1}, {2}})
		v.check(err)
	case 5:
		_, err := v.p.SendBatch(ctx, [][]byte{{1}, {2}, {3}, {4}})
		v.check(err)
	case 6, 7:
		res, err := v.p.TryReserve(len(msg))
		if v.check(err); err != nil {
			return
		}
		clear(res.Bytes())
		switch v.n(4) {
		case 0:
			err = res.Discard()
		case 1:
			err = res.CommitN(int(v.n(uint64(len(msg) + 1))))
		case 2:
			err = res.Commit()
		}
		v.check(err)
	}
}

func (v *victim) receive() {
	if v.q == nil {
		q, err := v.r.NewConsumer()
		if v.check(err); err != nil {
			return
		}
		v.q = q
	}
	ctx, cancel := v.shortly()
	defer cancel()
	var n int
	var err error
	switch v.n(8) {
	case 0, 1:
		n, err = v.q.TryReceive(v.buf)
		v.copied(n, err)
		v.check(err)
	case 2:
		n, err = v.q.Receive(ctx, v.buf)
		v.copied(n, err)
		v.check(err)
	case 3, 4, 5:
		b, err := v.q.TryNextBatch(1 + int(v.n(6)))
		if v.check(err); err == nil {
			v.lease(b)
		}
	case 6:
		b, err := v.q.NextBatch(ctx, 1+int(v.n(6)))
		if v.check(err); err == nil {
			v.lease(b)
		}
	case 7:
		for m, err := range v.q.All(ctx) {
			if v.check(err); err != nil || v.n(3) == 0 {
				break
			}
			v.inside(m.Position(), m.Bytes())
		}
	}
}

// lease ends a lease in one of the ways, or leaves it open.
func (v *victim) lease(b ring.Batch) {
	for i := range b.Len() {
		v.inside(b.At(i).Position(), b.At(i).Bytes())
	}
	switch v.n(5) {
	case 0:
		v.check(b.At(0).Return())
	case 1:
		v.check(b.At(int(v.n(uint64(b.Len())))).Release())
	case 2: // stays open until the handle closes
	default:
		v.check(b.Release())
	}
}

// typed makes calls of typed handles, beside the others.
func (v *victim) typed() {
	ctx, cancel := v.shortly()
	defer cancel()
	values := make([]record, 1+v.n(5))
	var err error
	if v.n(2) == 0 {
		if v.tp == nil {
			if v.tp, err = ring.NewTypedProducer[record](v.r); err != nil {
				v.tp = nil
				v.check(err)
				return
			}
		}
		_, err = v.tp.TrySendBatch(values)
		v.check(err)
		return
	}
	if v.tq == nil {
		if v.tq, err = ring.NewTypedConsumer[record](v.r); err != nil {
			v.tq = nil
			v.check(err)
			return
		}
	}
	if v.n(2) == 0 {
		err = v.tq.Receive(ctx, &values[0])
	} else {
		_, err = v.tq.TryReceiveBatch(values)
	}
	v.check(err)
}
