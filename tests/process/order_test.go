//go:build linux

package process

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

func init() {
	children["order send"] = orderSend
	children["order receive"] = orderReceive
}

// Three processes send batches of 1 to 100 messages and single messages, other processes receive them one by one and in batches, with their positions.
// Properties, over all consumers: positions are unique; in their order the messages of each producer are in the order of its sends, and within a batch that
// needs at most half of the slots nothing comes between; each consumer receives ascending positions. Asserted besides: producers took turns, batches of both
// lengths went through, and with several consumers each got some.
func TestOrder(t *testing.T) {
	for _, c := range []struct {
		kind                 ring.Kind
		producers, consumers int
	}{{ring.SPSC, 1, 1}, {ring.MPMC, 3, 1}, {ring.MPMC, 3, 3}} {
		t.Run(fmt.Sprintf("%s/%d_to_%d", c.kind, c.producers, c.consumers), func(t *testing.T) {
			order(t, c.kind, c.producers, c.consumers)
		})
	}
}

// orderSlots with messages of one or two slots: 32 messages or more fit in half of them.
const orderSlots, orderShort = 128, 32

// seen is one received message.
type seen struct{ position, producer, number, first, last uint64 }

func order(t *testing.T, kind ring.Kind, producers, consumers int) {
	const each = 30_000
	dir, out := proc.Dir(t), t.TempDir()
	r, err := ring.Create("order", ring.Options{Kind: kind, Slots: orderSlots, SlotSize: 64, Dir: dir})
	require.NoError(t, err)
	defer r.Close()
	var ps []*proc.Proc
	for i := range producers {
		ps = append(ps, proc.Start(t, []string{"order send", dir, strconv.Itoa(i), strconv.Itoa(each)}))
	}
	for i := range consumers {
		ps = append(ps, proc.Start(t, []string{"order receive", dir, filepath.Join(out, strconv.Itoa(i))}))
	}
	start(ps...)
	succeed(t, ps...)

	var all []seen
	for i := range consumers {
		b, err := os.ReadFile(filepath.Join(out, strconv.Itoa(i)))
		require.NoError(t, err)
		require.NotEmpty(t, b, "consumer %d got nothing", i)
		var list []seen
		for ; len(b) > 0; b = b[40:] {
			u := func(j int) uint64 { return binary.LittleEndian.Uint64(b[8*j:]) }
			list = append(list, seen{u(0), u(1), u(2), u(3), u(4)})
		}
		for j := 1; j < len(list); j++ {
			require.Greater(t, list[j].position, list[j-1].position, "consumer %d, its message %d", i, j)
		}
		all = append(all, list...)
	}
	require.Len(t, all, producers*each)
	slices.SortFunc(all, func(a, b seen) int { return cmp.Compare(a.position, b.position) })
	next := make([]uint64, producers)
	turns, short, long := 0, 0, 0
	for i, m := range all {
		require.Equal(t, next[m.producer], m.number, "producer %d at position %d", m.producer, m.position)
		next[m.producer]++
		if i > 0 {
			require.Greater(t, m.position, all[i-1].position)
			if all[i-1].producer != m.producer {
				turns++
			}
		}
		switch size := m.last - m.first + 1; {
		case size > orderShort:
			long++
		case m.number > m.first:
			short++
			require.Equal(t, m.producer, all[i-1].producer, "something came between the messages of a batch, at position %d", m.position)
		}
	}
	require.NotZero(t, short)
	require.NotZero(t, long)
	if producers > 1 {
		require.Greater(t, turns, 3*producers, "the producers did not mix")
	}
	s := r.Stats()
	require.NotZero(t, s.Padding)
	require.NotZero(t, s.Sleeps)
	require.NotZero(t, s.Wakes)
}

// orderSend sends batches of changing sizes. Each message carries its number and the first and last of its batch.
func orderSend(args []string) error {
	producer, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	each, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	r, err := ring.Open("order", ring.WithDir(args[0]))
	if err != nil {
		return err
	}
	defer r.Close()
	p, err := r.NewProducer()
	if err != nil {
		return err
	}
	meet()
	ctx, cancel := patience()
	defer cancel()
	for first, turn := 0, producer; first < each; turn++ {
		h := mix(uint64(turn))
		size := 1 + int(h%orderShort)
		if turn%10 == 0 {
			size = 33 + int(h%68)
		}
		size = min(size, each-first)
		msgs := make([][]byte, size)
		for i := range msgs {
			m := make([]byte, 32+(h>>8+uint64(i)*37)%96) // one or two slots
			for j, v := range []int{producer, first + i, first, first + size - 1} {
				binary.LittleEndian.PutUint64(m[8*j:], uint64(v))
			}
			msgs[i] = m
		}
		if size == 1 {
			err = p.Send(ctx, msgs[0])
		} else {
			var n int
			if n, err = p.SendBatch(ctx, msgs); err == nil && n != size {
				err = fmt.Errorf("%d of %d sent without an error", n, size)
			}
		}
		if err != nil {
			return err
		}
		first += size
	}
	return r.Close()
}

// orderReceive leaves position and contents of each message in a file, in the order of receiving.
func orderReceive(args []string) error {
	r, err := ring.Open("order", ring.WithDir(args[0]))
	if err != nil {
		return err
	}
	defer r.Close()
	q, err := r.NewConsumer()
	if err != nil {
		return err
	}
	meet()
	ctx, cancel := patience()
	defer cancel()
	var out []byte
	note := func(position uint64, m []byte) {
		out = append(binary.LittleEndian.AppendUint64(out, position), m[:32]...)
	}
	buf := make([]byte, 128)
	for i := 0; err == nil; i++ {
		err = orderStep(ctx, q, i, buf, note)
	}
	if !over(err) {
		return err
	}
	if err := r.Close(); err != nil {
		return err
	}
	return os.WriteFile(args[1], out, 0o600)
}

func orderStep(ctx context.Context, q *ring.Consumer, i int, buf []byte, note func(uint64, []byte)) error {
	switch i % 3 {
	case 0:
		n, err := q.Receive(ctx, buf)
		if err != nil {
			return err
		}
		note(q.Last().Position, buf[:n])
		return nil
	case 1:
		m, err := q.Next(ctx)
		if err != nil {
			return err
		}
		note(m.Position(), m.Bytes())
		return m.Release()
	}
	b, err := q.NextBatch(ctx, 1+i%50)
	if err != nil {
		return err
	}
	for j := range b.Len() {
		note(b.At(j).Position(), b.At(j).Bytes())
	}
	return b.Release()
}
