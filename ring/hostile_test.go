//go:build linux

package ring

import (
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/cd1900cf/millrace/internal/layout"
)

// fencedRing is a ring in memory that has no access before and behind it, so that an access out of range is a fault.
type fencedRing struct {
	*Ring
	mem []byte
	h   layout.Header
}

func newFenced(t require.TestingT, o Options, start uint64) fencedRing {
	const page = layout.Page
	o = o.withDefaults()
	h, err := o.header()
	require.NoError(t, err)
	h.Start = start
	all, err := syscall.Mmap(-1, 0, int(h.SegmentSize)+2*page, syscall.PROT_NONE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	require.NoError(t, err)
	mem := all[page : page+h.SegmentSize : page+h.SegmentSize]
	require.NoError(t, syscall.Mprotect(mem, syscall.PROT_READ|syscall.PROT_WRITE))
	initialise(mem, h)
	h.ID = [16]byte{1, byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32())}
	k := &heapKeeper{held: map[int64]bool{}}
	return fencedRing{&Ring{c: newCore(mem, h, k), options: o, queues: enterQueues(h.ID), locks: k}, mem, h}
}

// free gives the memory back, after Close.
func (f fencedRing) free(t require.TestingT) {
	const page = layout.Page
	base := unsafe.Add(unsafe.Pointer(unsafe.SliceData(f.mem)), -page)
	require.NoError(t, syscall.Munmap(unsafe.Slice((*byte)(base), len(f.mem)+2*page)))
}

// word is the i-th atomic word of the segment behind the header.
func (f fencedRing) word(i uint64) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(f.mem)), layout.ControlOffset+i*8))
}

// target chooses a word that means something: most of the segment is unused.
func (f fencedRing) target(n func(below uint64) uint64) *atomic.Uint64 {
	at := func(offset uint64) *atomic.Uint64 { return f.word((offset - layout.ControlOffset) / 8) }
	switch n(8) {
	case 0, 1, 2:
		return at(f.h.EntriesOffset + n(f.h.Slots)*uint64(f.h.EntryStride))
	case 3:
		return at(f.h.EntriesOffset + n(f.h.Slots)*uint64(f.h.EntryStride) + layout.EntryLength)
	case 4:
		return at(f.h.ParticipantsOffset + n(4)*layout.ParticipantSize + n(layout.ParticipantSize/8)*8)
	case 5, 6:
		offsets := []uint64{layout.ControlProducerPosition, layout.ControlReservedPosition, layout.ControlConsumerPosition, layout.ControlLeaseEnd, layout.ControlJournal,
			layout.ControlRunEnd, layout.ControlRunLength, layout.ControlSpacePosition, layout.ControlReturns, layout.ControlNotEmpty, layout.ControlNotFull, layout.ControlRoster,
			layout.ControlTyped, layout.ControlRecoveries}
		return at(layout.ControlOffset + offsets[n(uint64(len(offsets)))])
	}
	return at(f.h.AccountsOffset + n(f.h.Slots)*8)
}

// evil makes a value that somebody might have put there on purpose: near what is there, a well-formed word of the wrong position, owner or extent, or anything.
func (f fencedRing) evil(n func(below uint64) uint64, was uint64) uint64 {
	near := f.word(0).Load() + n(4*f.h.Slots) - 2*f.h.Slots // around the producer position
	owner := uint32(n(6))
	switch n(16) {
	case 0:
		return 0
	case 1:
		return math.MaxUint64
	case 2:
		return n(math.MaxUint64)
	case 3:
		return was ^ 1<<n(64)
	case 4:
		return was + n(5) - 2
	case 5:
		return freeWord(near)
	case 6:
		return readyWord(near, n(64))
	case 7:
		return claimedWord(near, owner)
	case 8:
		return takenWord(near, owner, n(64))
	case 9:
		return doneWord(near, owner)
	case 10:
		return spscReadyWord(near, n(64))
	case 11:
		return near
	case 12:
		return near + 1<<40
	case 13:
		return []uint64{layout.FlagInline, layout.FlagRun, layout.FlagPad, layout.FlagPad | layout.FlagSkip}[n(4)] | n(200)
	case 14:
		return f.word((f.h.EntriesOffset-layout.ControlOffset)/8 + n(f.h.Slots)*uint64(f.h.EntryStride)/8).Load()
	}
	return n(400)
}

// victim is a goroutine's set of handles on hostile memory. Every call must come back, without a panic; what it answers does not matter.
type victim struct {
	f   fencedRing
	n   func(below uint64) uint64
	p   *Producer
	q   *Consumer
	buf []byte
}

// allowed says whether an error is one that the API documents.
func allowed(err error) bool {
	var size *SizeError
	var peer *PeerError
	for _, e := range []error{nil, ErrFull, ErrEmpty, ErrMisuse, ErrClosed, ErrCorrupt, ErrRoleTaken, ErrTooManyParticipants, ErrNoConsumers, ErrMismatch, ErrSegmentLost,
		io.EOF, io.ErrShortBuffer, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, e) || err == nil {
			return true
		}
	}
	return errors.As(err, &size) || errors.As(err, &peer)
}

func (v *victim) step() error {
	if v.p == nil {
		p, err := v.f.NewProducer()
		if err != nil {
			return err
		}
		v.p = p
	}
	if v.q == nil {
		q, err := v.f.NewConsumer()
		if err != nil {
			return err
		}
		v.q = q
	}
	msg := v.buf[:v.n(uint64(len(v.buf)+1))]
	short, cancel := context.WithTimeout(context.Background(), time.Duration(v.n(3))*time.Millisecond)
	defer cancel()
	switch v.n(20) {
	case 0, 1, 2, 3:
		return v.p.TrySend(msg)
	case 4:
		return v.p.Send(short, msg)
	case 5:
		_, err := v.p.TrySendBatch([][]byte{msg, msg[:0], msg[:min(1, len(msg))], {1}, {2}, {3}})
		return err
	case 6:
		_, err := v.p.SendBatch(short, [][]byte{{1, 2, 3}, {4, 5, 6}, {7, 8, 9}})
		return err
	case 7, 8:
		r, err := v.p.TryReserve(len(msg))
		if err != nil {
			return err
		}
		clear(r.Bytes())
		switch v.n(3) {
		case 0:
			return r.Discard()
		case 1:
			return r.CommitN(int(v.n(uint64(len(msg) + 1))))
		}
		return r.Commit()
	case 9, 10, 11:
		_, err := v.q.TryReceive(v.buf)
		return err
	case 12:
		_, err := v.q.Receive(short, v.buf)
		return err
	case 13, 14, 15:
		b, err := v.q.TryNextBatch(1 + int(v.n(5)))
		if err != nil {
			return err
		}
		sum := 0
		for i := range b.Len() {
			for _, x := range b.At(i).Bytes() {
				sum += int(x)
			}
		}
		switch v.n(4) {
		case 0:
			return b.At(0).Return()
		case 1:
			return b.At(b.Len() / 2).Release()
		case 2:
			return nil // keep it: closed later
		}
		return b.Release()
	case 16:
		q := v.q
		v.q = nil
		return q.Close()
	case 17:
		p := v.p
		v.p = nil
		return p.Close()
	case 18:
		_, err := v.f.Recover(v.n(2) == 0)
		return err
	}
	v.f.Stats()
	v.f.Participants()
	return v.f.Peek(10, func(uint64, int, []byte) bool { return true })
}

// run makes one step, and replaces handles that found the ring corrupt.
func (v *victim) run() error {
	err := v.step()
	if !allowed(err) {
		return err
	}
	if err != nil && (errors.Is(err, ErrCorrupt) || errors.Is(err, ErrMisuse)) {
		if v.p != nil {
			_ = v.p.Close() // it may meet the same corruption
		}
		if v.q != nil {
			_ = v.q.Close()
		}
		v.p, v.q = nil, nil
	}
	return nil
}

// Somebody with write access puts whatever he likes into the words of a ring, between calls. Properties: no call panics, reads or writes out of the segment, or
// fails to come back; every error is one that the API documents.
func TestHostileWords(t *testing.T) {
	for _, k := range []Kind{SPSC, MPMC} {
		t.Run(k.String(), func(t *testing.T) {
			checks(t, 300)
			rapid.Check(t, func(rt *rapid.T) {
				o := Options{
					Kind: k, Slots: rapid.SampledFrom([]int{1, 2, 8, 16}).Draw(rt, "slots"), SlotSize: rapid.SampledFrom([]int{1, 8, 100}).Draw(rt, "slotSize"),
					OnConsumerDeath: rapid.SampledFrom([]DeathPolicy{Redeliver, Drop}).Draw(rt, "policy"), MaxDeliveries: rapid.IntRange(0, 2).Draw(rt, "maxDeliveries"), Participants: 4,
				}
				rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
				n := rnd.Uint64N
				f := newFenced(rt, o, 1<<20)
				v := &victim{f: f, n: n, buf: make([]byte, f.MaxMessage())}
				for step := range rapid.IntRange(1, 200).Draw(rt, "steps") {
					if n(3) == 0 {
						w := f.target(n)
						w.Store(f.evil(n, w.Load()))
					}
					require.NoError(rt, v.run(), "step %d", step)
				}
				_ = f.Close() // handles may meet the corruption again
				f.free(rt)
			})
		})
	}
}

// The same while the calls run: two goroutines use the ring, a third one writes. Properties as before.
func TestHostileWordsMeanwhile(t *testing.T) {
	for _, k := range []Kind{SPSC, MPMC} {
		t.Run(k.String(), func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			for end := time.Now().Add(stressFor(t)); time.Now().Before(end); seed++ {
				hostileRound(t, k, seed)
			}
		})
	}
}

func hostileRound(t *testing.T, k Kind, seed uint64) {
	f := newFenced(t, Options{Kind: k, Slots: 8, SlotSize: 16, Participants: 8}, 1<<20)
	var stop atomic.Bool
	var others, evil sync.WaitGroup
	evil.Add(1)
	go func() {
		defer evil.Done()
		n := rand.New(rand.NewPCG(seed, 0)).Uint64N
		for !stop.Load() {
			w := f.target(n)
			w.Store(f.evil(n, w.Load()))
			time.Sleep(time.Duration(n(50)) * time.Microsecond)
		}
	}()
	errs := make(chan error, 2)
	for i := range 2 {
		others.Add(1)
		go func() {
			defer others.Done()
			v := &victim{f: f, n: rand.New(rand.NewPCG(seed, uint64(i+1))).Uint64N, buf: make([]byte, f.MaxMessage())}
			for range 300 {
				if err := v.run(); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	others.Wait()
	stop.Store(true)
	evil.Wait()
	_ = f.Close()
	select {
	case err := <-errs:
		require.NoError(t, err, "seed %d", seed)
	default:
	}
	f.free(t)
}

// A message of more slots than any producer may use is corrupt: a buffer of MaxMessage bytes would never do.
func TestMessageBeyondMaxMessage(t *testing.T) {
	for _, k := range []Kind{SPSC, MPMC} {
		t.Run(k.String(), func(t *testing.T) {
			f := newFenced(t, Options{Kind: k, Slots: 8, SlotSize: 16, Participants: 4}, 1<<20)
			e := f.c.entry(1 << 20)
			e.length.Store(8 * 16)
			e.state.Store(spscReadyWord(1<<20+8, 0))
			if k == MPMC {
				e.state.Store(readyWord(1<<20+8, 0))
			}
			require.NoError(t, f.Peek(1, func(uint64, int, []byte) bool { t.Error("shown"); return true }))
			q, err := f.NewConsumer()
			require.NoError(t, err)
			_, err = q.TryReceive(make([]byte, f.MaxMessage()))
			require.ErrorIs(t, err, ErrCorrupt)
			require.NoError(t, f.Close())
			f.free(t)
		})
	}
}
