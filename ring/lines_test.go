//go:build amd64

package ring

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/internal/layout"
)

// A consumer that takes the lines of messages for its core changes nothing there, and writes to nothing beside them. Properties: whatever the sizes of slots and messages, one
// by one and in runs; no page behind the message can be written to while it is received.
func TestTakenLines(t *testing.T) {
	for _, kind := range []Kind{SPSC, MPMC} {
		t.Run(kind.String(), func(t *testing.T) { takenLines(t, kind) })
	}
}

func takenLines(t *testing.T, kind Kind) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	for _, c := range [][2]int{{8, 8}, {8, 5}, {32, 24}, {48, 48}, {49, 49}, {64, 64}, {64, 50}, {100, 97}, {112, 112}, {113, 113}, {256, 256}, {600, 511}, {600, 600}} {
		const slots = 512
		r, err := Create("lines", Options{Kind: kind, Slots: slots, SlotSize: c[0], Dir: t.TempDir()})
		require.NoError(t, err)
		r.c.takeLines, r.c.ahead = true, 0
		r.c.setMasks()
		p, q := pair(t, r)
		entries, data := view(r.c.entries, slots*r.c.stride), view(r.c.data, slots*r.c.slotSize)
		page := uint64(os.Getpagesize()) / r.c.stride
		protect := func(area []byte, from uint64, how int) {
			begin := -uintptr(unsafe.Pointer(unsafe.SliceData(area))) - uintptr(from)
			if skip := from + uint64(begin%uintptr(os.Getpagesize())); skip < uint64(len(area)) {
				require.NoError(t, syscall.Mprotect(area[skip:], how))
			}
		}
		msgs, buf := make([][]byte, slots), make([]byte, c[1])
		for i := range msgs {
			msgs[i] = make([]byte, c[1])
			for k := range msgs[i] {
				msgs[i][k] = byte(i>>(k%2*8) ^ k)
			}
		}
		for _, runs := range []bool{false, true} {
			for _, m := range msgs {
				if !runs {
					require.NoError(t, p.TrySend(m))
				}
			}
			for i := 0; runs && i < slots; i += 32 {
				_, err := p.TrySendBatch(msgs[i : i+32])
				require.NoError(t, err)
			}
			for i := range uint64(slots) {
				protect(entries, (i/page+1)*page*r.c.stride, syscall.PROT_READ)
				protect(data, (i+1)*r.c.slotSize, syscall.PROT_READ)
				if runs {
					bufs := [][]byte{buf}
					n, err := q.TryReceiveBatch(bufs)
					require.NoError(t, err)
					require.Equal(t, 1, n)
				} else {
					n, err := q.TryReceive(buf)
					require.NoError(t, err)
					require.Len(t, buf, n)
				}
				require.Equal(t, msgs[i], buf)
				protect(entries, 0, syscall.PROT_READ|syscall.PROT_WRITE)
				protect(data, 0, syscall.PROT_READ|syscall.PROT_WRITE)
			}
		}
		require.NoError(t, r.Close())
	}
}

// A consumer of an SPSC ring stores into the lines that it has read where that is asked for, and nowhere else. Property: where the entries cannot be written to, a receive
// faults exactly when lines are taken, of messages that go either way.
func TestTakesLinesWhenAsked(t *testing.T) {
	if raceDetector {
		t.Skip("a store of the race detector's that faults ends the process")
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func(d time.Duration) { closePatience = d }(closePatience)
	closePatience = time.Millisecond
	for _, size := range []int{8, 16, 17, 48, 64} {
		for _, takes := range []bool{false, true} {
			r, err := Create("asked", Options{Kind: SPSC, Slots: 1024, SlotSize: size, Dir: t.TempDir()})
			require.NoError(t, err)
			r.c.takeLines, r.c.ahead = takes, 0
			r.c.setMasks()
			p, q := pair(t, r)
			require.Equal(t, size <= 16, uint64(size-8) < q.words, size) // the shorter way
			msg, buf := bytes.Repeat([]byte{7}, size), make([]byte, size)
			for range 2 { // the last one of a line is among them
				require.NoError(t, p.TrySend(msg))
			}
			area := view(r.c.entries, uint64(os.Getpagesize()))
			require.NoError(t, syscall.Mprotect(area, syscall.PROT_READ))
			receive := func() {
				for range 2 {
					n, err := q.TryReceive(buf)
					require.NoError(t, err)
					require.Equal(t, msg, buf[:n])
				}
			}
			if takes {
				require.Panics(t, receive, size)
			} else {
				receive()
			}
			require.NoError(t, syscall.Mprotect(area, syscall.PROT_READ|syscall.PROT_WRITE))
			err = r.Close()
			require.Equal(t, takes, err != nil, "%v", err) // the call that panicked has not ended
		}
	}
}

// A fault in the caller's own memory comes before the message is received. Properties: it stays, whatever its size, and another consumer gets it.
func TestFaultBeforeTakingLines(t *testing.T) {
	if raceDetector {
		t.Skip("under the race detector a message is claimed before it is copied")
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	page, err := syscall.Mmap(-1, 0, os.Getpagesize(), syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	require.NoError(t, err)
	defer func() { require.NoError(t, syscall.Munmap(page)) }()
	for _, n := range []int{8, 64, 300} {
		r, err := NewHeap(Options{Kind: MPMC, Slots: 8, SlotSize: n})
		require.NoError(t, err)
		r.c.takeLines = true
		p, q := pair(t, r)
		other, err := r.NewConsumer()
		require.NoError(t, err)
		buf := make([]byte, n)
		require.NoError(t, p.TrySend(buf))
		_, err = q.TryReceive(buf) // from here on the consumer takes the fast path
		require.NoError(t, err)
		require.NoError(t, p.TrySend(buf))
		require.Panics(t, func() { _, _ = q.TryReceive(page) })
		got, err := other.TryReceive(buf)
		require.NoError(t, err)
		require.Equal(t, n, got)
	}
}

// Two goroutines that misuse one consumer get each message once: what they claim it by names the position that they read from.
func TestOverlappingReceives(t *testing.T) {
	r, err := NewHeap(Options{Kind: MPMC, Slots: 256, SlotSize: 64})
	require.NoError(t, err)
	r.c.takeLines = true
	p, q := pair(t, r)
	const messages = 100000
	seen := make([]atomic.Uint32, messages)
	var left atomic.Int64
	left.Store(messages)
	var receivers sync.WaitGroup
	for range 2 {
		receivers.Go(func() {
			buf := make([]byte, 64)
			for left.Load() > 0 {
				if _, err := q.TryReceive(buf); err == nil {
					seen[binary.LittleEndian.Uint64(buf)].Add(1)
					left.Add(-1)
				} else {
					runtime.Gosched()
				}
			}
		})
	}
	msg, ctx := make([]byte, 64), patient(t)
	for i := range uint64(messages) {
		binary.LittleEndian.PutUint64(msg, i)
		require.NoError(t, p.Send(ctx, msg))
	}
	receivers.Wait()
	for i := range seen {
		require.EqualValues(t, 1, seen[i].Load(), i)
	}
}

// A consumer asks for messages ahead in rings of up to 32 KiB.
func TestAhead(t *testing.T) {
	for _, x := range []struct{ slots, stride, size, inline, ahead uint64 }{
		{1, 64, 8, 48, 0}, {8, 128, 64, 112, 0}, {16, 64, 8, 48, 2}, {64, 128, 64, 112, 8}, {256, 128, 64, 112, 8}, {512, 128, 64, 112, 0}, {256, 64, 64, 48, 8}, {512, 64, 64, 48, 0}, {1024, 32, 8, 8, 8},
	} {
		require.Equal(t, x.ahead, (&core{slots: x.slots, stride: x.stride, slotSize: x.size, inline: x.inline}).aheadOf(), "%v", x)
	}
}

// A producer stores into the next slot in advance only when it is its own. Properties: in a ring that is full, or was, every message is received as it was sent; an
// observer that looks meanwhile sees them so, too.
func TestNextLineInAdvance(t *testing.T) {
	for _, x := range []struct {
		size   int
		stride uint64 // entries in a line
	}{{8, 1}, {8, 2}, {64, 1}, {100, 1}} {
		r, err := NewHeap(Options{Kind: SPSC, Slots: 8, SlotSize: max(16, x.size)})
		require.NoError(t, err)
		p, q := pair(t, r)
		p.fetchMask = x.stride - 1
		sent, received := uint64(0), uint64(0)
		for _, n := range []int{8, 3, 1, 7, 8, 5, 2, 8, 8, 1, 1, 6} {
			for range n {
				if err := p.TrySend(bytes.Repeat([]byte{byte(sent + 1)}, x.size)); err == ErrFull {
					break
				}
				require.NoError(t, err)
				sent++
			}
			var seen uint64
			require.NoError(t, r.Peek(8, func(_ uint64, _ int, payload []byte) bool {
				require.Equal(t, bytes.Repeat([]byte{byte(received + seen + 1)}, x.size), payload)
				seen++
				return true
			}))
			require.Equal(t, sent-received, seen)
			for range n / 2 {
				var buf [128]byte
				k, err := q.TryReceive(buf[:])
				if err == ErrEmpty {
					break
				}
				require.NoError(t, err)
				require.Equal(t, bytes.Repeat([]byte{byte(received + 1)}, x.size), buf[:k])
				received++
			}
		}
		require.Greater(t, sent, uint64(30))
	}
}

// In advance a producer stores into each line that its next message will have, and into none of a slot that is not its own.
func TestLinesInAdvance(t *testing.T) {
	for _, x := range []struct{ size, lines int }{{8, 1}, {48, 1}, {49, 2}, {64, 2}, {112, 2}} {
		r, err := NewHeap(Options{Kind: SPSC, Slots: 2, SlotSize: x.size})
		require.NoError(t, err)
		p, _ := pair(t, r)
		p.fetchMask = 0
		next := view(unsafe.Pointer(r.c.entry(p.pos+1)), r.c.stride)
		clear(next)
		words := func() (changed []int) {
			for i := layout.EntrySize / 2; i+wordSize <= len(next); i += wordSize {
				if binary.LittleEndian.Uint64(next[i:]) != never {
					changed = append(changed, i/lineSize)
				}
			}
			return slices.Compact(changed)
		}
		for i := layout.EntrySize / 2; i < len(next); i++ {
			next[i] = 0xff
		}
		require.NoError(t, p.Send(ctxb, make([]byte, x.size)))
		want := []int{0, 1}[:x.lines]
		require.Equal(t, want, words(), x.size)
		require.NoError(t, p.Send(ctxb, make([]byte, x.size)))
		require.Equal(t, bytes.Repeat([]byte{0}, x.size), next[layout.EntrySize:][:x.size], "the slot behind it is full")
	}
}

// A mask that fits no position fits one that hostile memory made up, 0 behind 2^64 - 1. Then a producer stores into its own slot, or not at all.
func TestLinesInAdvanceAtTheEndOfNumbers(t *testing.T) {
	r, err := NewHeap(Options{Kind: SPSC, Slots: 4, SlotSize: 256})
	require.NoError(t, err)
	p, _ := pair(t, r)
	p.pos, p.limit = math.MaxUint64, math.MaxUint64
	require.EqualValues(t, uint64(never), p.fetchMask)
	entries := view(r.c.entries, r.c.slots*r.c.stride)
	for i := range entries {
		entries[i] = 0xff
	}
	before := slices.Clone(entries)
	require.NoError(t, p.Send(ctxb, make([]byte, 100)))
	clear(before[r.c.mask*r.c.stride:])
	clear(entries[r.c.mask*r.c.stride:])
	require.Zero(t, binary.LittleEndian.Uint64(entries[8:]), "the length word of the next slot, which is its own")
	clear(before[8:16])
	require.Equal(t, before, entries)
}

// never is a word that nobody stores.
const never = math.MaxUint64

// A producer stores in advance for a consumer that is right behind it whenever it gets space, and not for another one, nor in a ring where that is not done.
func TestNextLineForAnswersOnly(t *testing.T) {
	r, err := NewHeap(Options{Kind: SPSC, Slots: 64, SlotSize: 16})
	require.NoError(t, err)
	p, q := pair(t, r)
	message := make([]byte, 16)
	send := func() { require.NoError(t, p.Send(ctxb, message)) }
	receive := func() {
		_, err := q.Receive(ctxb, message)
		require.NoError(t, err)
	}
	r.c.fetchesNext, r.c.fetchMask, p.fetchMask = true, 1, 1
	for range 3 * r.c.slots {
		send()
		receive()
		require.EqualValues(t, 1, p.fetchMask, "it answers")
	}
	for range 2 * answering {
		send()
	}
	for range 2 * r.c.slots {
		send()
		receive()
	}
	require.EqualValues(t, uint64(never), p.fetchMask, "it is further behind")
	for range 2 * answering {
		receive()
	}
	for range 2 * r.c.slots {
		send()
		receive()
	}
	require.EqualValues(t, 1, p.fetchMask, "it answers again")
	r.c.fetchesNext = false
	for range 2 * r.c.slots {
		send()
		receive()
	}
	require.EqualValues(t, uint64(never), p.fetchMask)
}
