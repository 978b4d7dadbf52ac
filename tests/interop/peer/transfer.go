//go:build linux

package peer

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// Transfers sends messages of all sizes in every way from one language to the other.
func Transfers(t *testing.T, from, to []string) {
	for _, kind := range []string{"spsc", "mpmc"} {
		for _, c := range []struct {
			name            string
			slots, slotSize int
			sizes           string
		}{
			{"empty", 8, 16, "0"},
			{"inline", 8, 64, "0..48"},
			{"one slot", 16, 200, "49..200"},
			{"many slots", 16, 24, "0..192"},
			{"largest", 8, 40, "160"},
			{"smallest ring", 1, 1, "0..1"},
			{"one large slot", 1, 4096, "0..4096"},
		} {
			for _, blocking := range []string{"", "try"} {
				t.Run(fmt.Sprintf("%s %s %s", kind, c.name, blocking), func(t *testing.T) {
					dir := Dir(t)
					p, q := Start(t, dir, from...), Start(t, dir, to...)
					p.OK(fmt.Sprintf("create r %s %d %d redeliver", kind, c.slots, c.slotSize))
					q.OK("open r")
					p.OK("producer")
					q.OK("consumer")
					transfer(t, p, q, c.sizes, blocking)
					p.OK("close producer")
					q.Fails(blocking+"receive 1", "eof")
					stats := q.Stats()
					require.Equal(t, stats["sent"], stats["received"])
					require.Zero(t, stats["lost"]+stats["skipped"]+stats["used"])
				})
			}
		}
	}
}

// transfer sends one to three messages at a time and receives them, over many laps, by every pair of ways.
func transfer(t *testing.T, p, q *Process, sizes, try string) {
	s, err := ParseSizes(sizes)
	require.NoError(t, err)
	seq := uint64(0)
	for round := range 60 {
		var sent int
		switch round % 3 {
		case 0:
			sent = p.Ask(fmt.Sprintf("trysend 3 %s 9 %d", sizes, seq)).Count(t)
		case 1:
			sent = p.Ask(fmt.Sprintf("trysendbatch 3 %s 9 %d", sizes, seq)).Count(t)
		default:
			p.OK(fmt.Sprintf("%sreserve %s 9 %d", try, sizes, seq))
			p.OK("commit")
			sent = 1
		}
		require.Positive(t, sent, "a drained ring takes any message")
		var items []Item
		for len(items) < sent {
			switch round % 4 {
			case 0, 1:
				items = append(items, q.Items(try+"receive 1")...)
			case 2:
				items = append(items, q.Items(try+"next")...)
				q.OK("release")
			default:
				items = append(items, q.Items(try+"nextbatch 3")...)
				q.OK("release")
			}
		}
		for _, it := range items {
			require.Equal(t, s.Of(seq), it.Size)
			require.EqualValues(t, 1, it.Deliveries)
			if it.Size >= 8 {
				require.Equal(t, seq, it.Seq)
			}
			seq++
		}
	}
}
