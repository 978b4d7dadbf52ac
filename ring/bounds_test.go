package ring

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/internal/layout"
)

// Messages of one slot of every size up to where the copy in place ends, and beyond. Properties: they arrive as they were sent, and nothing behind them
// in the buffer is touched.
func TestEverySizeOfOneSlot(t *testing.T) {
	for _, size := range []int{16, 64, 112, 600} {
		forms(t, Options{Slots: 4, SlotSize: size}, func(t *testing.T, r *Ring) {
			p, q := pair(t, r)
			buf := make([]byte, size+64)
			for n := range size + 1 {
				for i := range buf {
					buf[i] = byte(i*7 + n)
				}
				msg := bytes.Clone(buf[:n])
				want := append(bytes.Clone(msg), bytes.Repeat([]byte{0xA5}, len(buf)-n)...)
				require.NoError(t, p.Send(ctxb, msg))
				copy(buf, bytes.Repeat([]byte{0xA5}, len(buf)))
				got, err := q.Receive(ctxb, buf)
				require.NoError(t, err)
				require.Equal(t, n, got)
				require.Equal(t, want, buf, "%d bytes", n)
			}
		})
	}
}

// The smallest rings and messages, and the largest messages. Properties: Slots 1 and 2, SlotSize 1, messages of 0 and of MaxMessage bytes go through, alone and in batches, by
// every pair of calls, over many laps; one byte more is *SizeError with both numbers and changes nothing; a drained ring takes MaxMessage at every position.
func TestSmallestAndLargest(t *testing.T) {
	for _, o := range []Options{{Slots: 1, SlotSize: 1}, {Slots: 2, SlotSize: 1}, {Slots: 4, SlotSize: 1}, {Slots: 1, SlotSize: 100}, {Slots: 2, SlotSize: 7}, {Slots: 8, SlotSize: 3}} {
		forms(t, o, func(t *testing.T, r *Ring) {
			p, q := pair(t, r)
			most := o.SlotSize * max(1, o.Slots/2)
			require.Equal(t, most, r.MaxMessage())
			buf := make([]byte, most)
			for lap := range 40 {
				for _, n := range []int{0, 1, most - 1, most, 0, most} {
					msg := bytes.Repeat([]byte{byte(lap + n)}, max(n, 0))
					sendBy(t, p, lap, msg)
					require.Equal(t, msg, receiveBy(t, q, lap, buf), "lap %d, %d bytes", lap, n)
					require.Zero(t, r.Stats().Used)
				}
				want := &SizeError{Got: most + 1, Max: most}
				before := r.Stats()
				require.Equal(t, want, p.TrySend(make([]byte, most+1)))
				require.Equal(t, want, p.Send(ctxb, make([]byte, most+1)))
				_, err := p.TryReserve(most + 1)
				require.Equal(t, want, err)
				_, err = p.Reserve(ctxb, -1)
				require.Equal(t, &SizeError{Got: -1, Max: most}, err)
				n, err := p.SendBatch(ctxb, [][]byte{{}, make([]byte, most+1)})
				require.Equal(t, want, err, "all sizes are checked before anything is claimed")
				require.Zero(t, n)
				require.Equal(t, before, r.Stats())
			}
			batch := make([][]byte, o.Slots)
			n, err := p.TrySendBatch(batch)
			require.NoError(t, err)
			require.Equal(t, o.Slots, n)
			require.Equal(t, ErrFull, p.TrySend(nil))
			for range o.Slots {
				n, err := q.TryReceive(nil)
				require.NoError(t, err)
				require.Zero(t, n)
			}
			_, err = q.TryReceive(nil)
			require.Equal(t, ErrEmpty, err)
		})
	}
}

func sendBy(t *testing.T, p *Producer, how int, msg []byte) {
	t.Helper()
	switch how % 5 {
	case 0:
		require.NoError(t, p.TrySend(msg))
	case 1:
		require.NoError(t, p.Send(ctxb, msg))
	case 2:
		n, err := p.TrySendBatch([][]byte{msg})
		require.NoError(t, err)
		require.Equal(t, 1, n)
	case 3:
		res, err := p.TryReserve(len(msg))
		require.NoError(t, err)
		require.Equal(t, len(msg), copy(res.Bytes(), msg))
		require.NoError(t, res.Commit())
	default:
		res, err := p.Reserve(ctxb, p.c.largest())
		require.NoError(t, err)
		copy(res.Bytes(), msg)
		require.NoError(t, res.CommitN(len(msg)))
	}
}

// largest is MaxMessage as an int.
func (c *core) largest() int { return int(c.maxMessage) }

func receiveBy(t *testing.T, q *Consumer, how int, buf []byte) []byte {
	t.Helper()
	var m Message
	var err error
	switch how % 4 {
	case 0:
		n, err := q.TryReceive(buf)
		require.NoError(t, err)
		return append([]byte{}, buf[:n]...)
	case 1:
		n, err := q.Receive(ctxb, buf)
		require.NoError(t, err)
		return append([]byte{}, buf[:n]...)
	case 2:
		m, err = q.TryNext()
	default:
		b, e := q.TryNextBatch(3)
		m, err = b.At(0), e
	}
	require.NoError(t, err)
	got := append([]byte{}, m.Bytes()...)
	require.NoError(t, m.Release())
	return got
}

// io.ErrShortBuffer leaves the message, says how many bytes it has, and can be repeated; a buffer of exactly that size is enough. Properties: for inline, one-slot and larger messages,
// for first and later deliveries.
func TestShortBuffer(t *testing.T) {
	forms(t, Options{Slots: 16, SlotSize: 100}, func(t *testing.T, r *Ring) {
		p, q := pair(t, r)
		for _, size := range []int{1, 48, 49, 100, 101, 800} {
			require.NoError(t, p.TrySend(make([]byte, size)))
			for deliveries := 1; deliveries < 3; deliveries++ {
				for _, short := range []int{0, size / 2, size - 1} {
					n, err := q.TryReceive(make([]byte, short))
					require.Equal(t, io.ErrShortBuffer, err)
					require.Equal(t, size, n)
					n, err = q.Receive(ctxb, make([]byte, short))
					require.Equal(t, io.ErrShortBuffer, err)
					require.Equal(t, size, n)
				}
				m, err := q.TryNext()
				require.NoError(t, err)
				require.Equal(t, deliveries, m.Deliveries())
				require.NoError(t, m.Return())
			}
			n, err := q.TryReceive(make([]byte, size))
			require.NoError(t, err)
			require.Equal(t, size, n)
			require.Equal(t, 3, q.Last().Deliveries)
		}
		s := r.Stats()
		require.EqualValues(t, 6, s.Sent)
		require.EqualValues(t, 18, s.Received)
		require.EqualValues(t, 12, s.Redelivered)
	})
}

// Options out of range are refused with *OptionError, which is fs.ErrInvalid and names the option; those at the border are not.
func TestOptionsAreChecked(t *testing.T) {
	for _, bad := range []struct {
		name string
		o    Options
	}{
		{"Slots", Options{Slots: -1}}, {"Slots", Options{Slots: 3}}, {"Slots", Options{Slots: 2 * layout.MaxSlots}}, {"Slots", Options{Slots: -1 << 62}},
		{"SlotSize", Options{SlotSize: -1}}, {"SlotSize", Options{SlotSize: layout.MaxSlotSize + 1}},
		{"Participants", Options{Participants: -1}}, {"Participants", Options{Participants: 4097}},
		{"MaxDeliveries", Options{MaxDeliveries: -1}}, {"MaxDeliveries", Options{MaxDeliveries: 49}},
		{"Kind", Options{Kind: 3}}, {"OnConsumerDeath", Options{OnConsumerDeath: 3}}, {"Perm", Options{Perm: fs.ModeDir | 0o600}},
		{"", Options{Slots: layout.MaxSlots, SlotSize: layout.MaxSlotSize}},
	} {
		for _, make := range []func(Options) error{
			func(o Options) error { _, err := NewHeap(o); return err },
			func(o Options) error { _, err := Create("q", o); return err },
			func(o Options) error { _, _, err := OpenOrCreate("q", o); return err },
		} {
			o := bad.o
			o.Dir = t.TempDir()
			err := make(o)
			var e *OptionError
			require.ErrorAs(t, err, &e, "%+v", bad.o)
			require.ErrorIs(t, err, fs.ErrInvalid)
			if bad.name != "" {
				require.Equal(t, bad.name, e.Option, "%v", err)
			}
		}
	}
	for _, good := range []Options{{}, {Slots: 1, SlotSize: 1, Participants: 1}, {MaxDeliveries: 48, Participants: 4096}} {
		r, err := NewHeap(good)
		require.NoError(t, err)
		require.NoError(t, r.Close())
	}
}

// The table of participants takes as many as were asked for, and no more; a place is free again after a Close, and after a death.
func TestParticipantTable(t *testing.T) {
	r, err := NewHeap(Options{Slots: 2, SlotSize: 8, Participants: 3})
	require.NoError(t, err)
	p, q := pair(t, r)
	extra, err := r.NewProducer()
	require.NoError(t, err)
	_, err = r.NewConsumer()
	require.ErrorIs(t, err, ErrTooManyParticipants)
	require.ErrorContains(t, err, "3 entries")
	require.NoError(t, extra.Close())
	extra, err = r.NewProducer()
	require.NoError(t, err)
	require.True(t, r.forget(&extra.handle)) // it dies
	require.NoError(t, extra.lock.Close())
	q2, err := r.NewConsumer()
	require.NoError(t, err)
	require.Len(t, r.Participants(), 3)
	s := r.Stats()
	require.EqualValues(t, 3, s.ProducersEver)
	require.EqualValues(t, 1, s.ProducersDied)
	require.EqualValues(t, 1, s.Recoveries)
	require.NoError(t, errors.Join(p.Close(), q.Close(), q2.Close(), r.Close()))
	require.Nil(t, r.Participants())
}

// An SPSC ring has one producer and one consumer at a time.
func TestRoleIsTaken(t *testing.T) {
	r, err := NewHeap(Options{Kind: SPSC, Slots: 2, SlotSize: 8})
	require.NoError(t, err)
	p, q := pair(t, r)
	_, err = r.NewProducer()
	require.ErrorIs(t, err, ErrRoleTaken)
	_, err = r.NewConsumer()
	require.ErrorIs(t, err, ErrRoleTaken)
	require.NoError(t, p.Close())
	_, err = r.NewConsumer()
	require.ErrorIs(t, err, ErrRoleTaken)
	p, err = r.NewProducer()
	require.NoError(t, err)
	require.NoError(t, q.Close())
	_, err = r.NewProducer()
	require.ErrorIs(t, err, ErrRoleTaken)
	require.NoError(t, p.Close())
	require.NoError(t, r.Close())
}

// Deliveries counts up to 49 and stays there, with and without a limit; at the limit the message is lost, and counted once.
func TestDeliveriesSaturate(t *testing.T) {
	for _, limit := range []int{0, 1, 2, 48} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			forms(t, Options{Slots: 4, SlotSize: 8, MaxDeliveries: limit}, func(t *testing.T, r *Ring) {
				p, q := pair(t, r)
				require.NoError(t, p.TrySend([]byte("again")))
				require.NoError(t, p.TrySend([]byte("next")))
				rounds := limit
				if limit == 0 {
					rounds = 200
				}
				for i := 1; i <= rounds; i++ {
					m, err := q.TryNext()
					require.NoError(t, err)
					require.Equal(t, "again", string(m.Bytes()))
					require.Equal(t, min(i, 49), m.Deliveries())
					require.NoError(t, m.Return())
				}
				m, err := q.TryNext()
				require.NoError(t, err)
				if limit == 0 {
					require.Equal(t, 49, m.Deliveries())
					require.NoError(t, m.Release())
					return
				}
				require.Equal(t, "next", string(m.Bytes()))
				require.EqualValues(t, 1, r.Stats().Lost)
				require.NoError(t, m.Release())
				require.Zero(t, r.Stats().Used)
			})
		})
	}
}
