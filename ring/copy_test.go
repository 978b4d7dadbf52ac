package ring

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// move is copy, for lengths around the parts that it copies by, whichever of the two is shorter.
func TestMoveIsCopy(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	from := make([]byte, 4*part)
	for i := range from {
		from[i] = byte(random.Uint32())
	}
	for _, n := range []int{0, 1, 511, part - 1, part, part + 1, 2*part - 1, 2 * part, 2*part + 1} {
		for _, more := range []int{0, 1, part} {
			want := bytes.Repeat([]byte{0xA5}, n+more)
			got := bytes.Clone(want)
			copy(want, from[:n])
			require.Equal(t, n, move(got, from[:n]))
			require.True(t, bytes.Equal(want, got), "%d of %d bytes into %d", n, n, n+more)
			clear(got[:n])
			require.Equal(t, n, move(got[:n], from[:n+more]))
			require.True(t, bytes.Equal(want, got), "%d of %d bytes", n, n+more)
		}
	}
}

// Messages of more than a MiB arrive whole, in one slot and in several, by copying and in batches.
func TestMessagesOfSeveralParts(t *testing.T) {
	for _, o := range []Options{{Slots: 2, SlotSize: 3 * part}, {Slots: 8, SlotSize: part - 8}} {
		forms(t, o, func(t *testing.T, r *Ring) {
			p, q := pair(t, r)
			msg, buf := make([]byte, 2*part+13), make([]byte, 3*part)
			for i := range msg {
				msg[i] = byte(i * 7 >> 3)
			}
			for range 3 {
				require.NoError(t, p.TrySend(msg))
				n, err := q.TryReceive(buf)
				require.NoError(t, err)
				require.True(t, bytes.Equal(msg, buf[:n]))
				clear(buf)
				_, err = p.TrySendBatch([][]byte{msg})
				require.NoError(t, err)
				bufs := [][]byte{buf}
				n, err = q.TryReceiveBatch(bufs)
				require.NoError(t, err)
				require.Equal(t, 1, n)
				require.True(t, bytes.Equal(msg, bufs[0]))
				clear(buf)
			}
		})
	}
}

// BenchmarkMove is what a MiB costs with one call of copy, and in parts.
func BenchmarkMove(b *testing.B) {
	to, from := make([]byte, 2*part), make([]byte, 2*part)
	for _, c := range []struct {
		name string
		by   func(to, from []byte) int
	}{{"copy", func(to, from []byte) int { return copy(to, from) }}, {"move", move}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(2 * part)
			for b.Loop() {
				c.by(to, from)
			}
		})
	}
}
