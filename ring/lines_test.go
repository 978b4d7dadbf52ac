//go:build amd64

package ring

import (
	"os"
	"runtime/debug"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
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
		r.c.takeLines = true
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
