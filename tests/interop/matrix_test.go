//go:build linux

package interop

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/tests/interop/peer"
)

const (
	slots    = 16
	slotSize = 64
	largest  = slots / 2 * slotSize
)

// sizes are the classes of messages.
var sizes = []struct{ name, size string }{
	{"empty", "0"},
	{"one slot", fmt.Sprintf("1..%d", slotSize)},
	{"many slots", fmt.Sprintf("%d..%d", slotSize+1, largest-1)},
	{"maximum", fmt.Sprint(largest)},
}

// transfer moves messages of one size class from first on, and returns what came.
type transfer struct {
	name string
	move func(t *testing.T, from, to *peer.Process, size string, seed, first int) []peer.Item
}

var transfers = []transfer{
	{"blocking", moveBlocking},
	{"try", moveTrying},
	{"batch", moveBatches},
	{"zero copy", moveInPlace},
}

// moveBlocking lets the consumer wait before the first message and the producer wait for space: more messages than the ring holds.
func moveBlocking(t *testing.T, from, to *peer.Process, size string, seed, first int) []peer.Item {
	const n = 40
	to.Tell(fmt.Sprintf("receive %d", n))
	from.OK(fmt.Sprintf("send %d %s %d %d", n, size, seed, first))
	a := to.Answer()
	require.True(t, a.OK, "%s: %s %v", to.Name, a.Code, a.Words)
	return a.Items(t)
}

// moveTrying fills and drains without waiting. It ends with a ring that says that it is empty.
func moveTrying(t *testing.T, from, to *peer.Process, size string, seed, first int) (items []peer.Item) {
	for sent := 0; sent < 40; {
		a := from.Ask(fmt.Sprintf("trysend 12 %s %d %d", size, seed, first+sent))
		require.Contains(t, []string{"ok", "full"}, a.Code, from.Name)
		n := a.Count(t)
		sent += n
		items = append(items, to.Items(fmt.Sprintf("tryreceive %d", n))...)
	}
	to.Fails("tryreceive 1", "empty")
	return items
}

func moveBatches(t *testing.T, from, to *peer.Process, size string, seed, first int) (items []peer.Item) {
	for sent := 0; sent < 12; {
		a := from.Ask(fmt.Sprintf("trysendbatch 5 %s %d %d", size, seed, first+sent))
		require.Contains(t, []string{"ok", "full"}, a.Code, from.Name)
		n := a.Count(t)
		sent += n
		for got := 0; got < n; {
			batch := to.Items(fmt.Sprintf("nextbatch %d", n))
			to.OK("release")
			got += len(batch)
			items = append(items, batch...)
		}
	}
	return items
}

func moveInPlace(t *testing.T, from, to *peer.Process, size string, seed, first int) (items []peer.Item) {
	for i := range 6 {
		from.OK(fmt.Sprintf("reserve %s %d %d", size, seed, first+i))
		from.OK("commit")
		again := to.Items("next")
		require.Len(t, again, 1)
		if i == 3 { // given back once
			to.OK("return")
			again = to.Items("trynext")
			require.EqualValues(t, 2, again[0].Deliveries)
			again[0].Deliveries = 1
		}
		to.OK("release")
		items = append(items, again...)
	}
	return items
}

// TestMatrix: producer language x consumer language x kind of ring x size class x way of moving. Properties: every message arrives once, whole, of its size, in order,
// with ascending positions, and the counters of the ring agree at the end, seen by either side.
func TestMatrix(t *testing.T) {
	there := peers(t)
	counts := map[[2]string]int{}
	t.Run("pairs", func(t *testing.T) {
		for _, from := range there {
			for _, to := range there {
				counts[[2]string{from.name, to.name}] = pair(t, from, to)
			}
		}
	})
	var table strings.Builder
	fmt.Fprintf(&table, "\nmessages, from row to column:\n%10s", "")
	for _, to := range there {
		fmt.Fprintf(&table, "%10s", to.name)
	}
	for _, from := range there {
		fmt.Fprintf(&table, "\n%10s", from.name)
		for _, to := range there {
			fmt.Fprintf(&table, "%10d", counts[[2]string{from.name, to.name}])
		}
	}
	t.Log(table.String())
}

// pair moves messages of every class in every way from one language to another.
func pair(t *testing.T, from, to *language) (count int) {
	t.Run(from.name+" to "+to.name, func(t *testing.T) {
		dir := shm(t)
		p, q := from.start(t, dir), to.start(t, dir)
		for _, kind := range kinds {
			for i, maker := range []*peer.Process{p, q} { // either of them makes the ring
				name := fmt.Sprintf("%s%d", kind, i)
				create(t, []*language{from, to}[i], maker, dir, name, kind, "redeliver")
				[]*peer.Process{q, p}[i].OK("open " + name)
				p.OK("producer")
				q.OK("consumer")
				moved, lost := 0, uint64(0)
				for _, size := range sizes {
					for _, how := range transfers {
						what := fmt.Sprintf("%s, %s, %s", kind, size.name, how.name)
						parsed, err := peer.ParseSizes(size.size)
						require.NoError(t, err)
						seed, first := 1+moved, 1000*moved
						items := how.move(t, p, q, size.size, seed, first)
						position := uint64(0)
						for k, it := range items {
							seq := uint64(first + k)
							want := peer.Item{Position: it.Position, Deliveries: 1, Size: parsed.Of(seq), Seed: uint64(seed), Seq: seq}
							if want.Size < 16 { // the message does not tell what it is
								want.Seed, want.Seq = it.Seed, it.Seq
							}
							require.Equal(t, want, it, what)
							require.True(t, k == 0 || it.Position > position, what)
							position = it.Position
						}
						moved += len(items)
					}
				}
				for _, side := range []*peer.Process{p, q} {
					s := side.Stats()
					require.EqualValues(t, moved, s["sent"], "%s seen by %s", kind, side.Name)
					require.EqualValues(t, []uint64{0, lost, 0, 1, 1}, []uint64{s["used"], s["lost"], s["skipped"], s["producers_live"], s["consumers_live"]}, "%s seen by %s", kind, side.Name)
				}
				p.OK("close producer")
				q.Fails("receive 1", "eof")
				q.OK("close consumer")
				p.OK("close ring")
				q.OK("close ring")
				count += moved
			}
		}
	})
	return count
}
