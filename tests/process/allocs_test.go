//go:build linux

package process

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

func init() {
	children["allocs echo"] = func(args []string) error { return allocsEcho(args[0], args[1]) }
}

// plainValue is what the typed tests send.
type plainValue struct {
	ID    uint64
	Words [5]uint32
	Kind  uint16
	Bytes [10]byte
}

// No call allocates on its success path, nor when it answers ErrFull, ErrEmpty or io.EOF. Each operation is run until it has come round the ring several times;
// what it answers is checked, so that no number is that of another path.
func TestNothingAllocates(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			t.Run("untyped", func(t *testing.T) { untypedAllocates(t, kind) })
			t.Run("typed", func(t *testing.T) { typedAllocates(t, kind) })
			t.Run("asleep", func(t *testing.T) { asleepAllocates(t, kind) })
		})
	}
}

const allocSlots = 64

// measure requires that f allocates nothing. Each problem it returns is an error of the test.
func measure(t *testing.T, name string, f func() error) {
	t.Helper()
	var bad error
	got := testing.AllocsPerRun(10*allocSlots, func() {
		if err := f(); err != nil && bad == nil {
			bad = err
		}
	})
	require.NoError(t, bad, name)
	require.Zero(t, got, "%s allocates", name)
}

// errOther says that a call answered something else.
var errOther = errors.New("another answer than expected")

func is(err, want error) error {
	if err != want {
		return errors.Join(errOther, err)
	}
	return nil
}

func equals(got, want int, err error) error {
	if err == nil && got != want {
		return errOther
	}
	return err
}

func allocRing(t *testing.T, kind ring.Kind) *ring.Ring {
	r, err := ring.Create("allocs", ring.Options{Kind: kind, Slots: allocSlots, SlotSize: 64, Dir: proc.Dir(t)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

func untypedAllocates(t *testing.T, kind ring.Kind) {
	r := allocRing(t, kind)
	p, err := r.NewProducer()
	require.NoError(t, err)
	q, err := r.NewConsumer()
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	long := make([]byte, 150) // takes several slots, and does not divide the ring
	buf := make([]byte, r.MaxMessage())
	some := [][]byte{make([]byte, 64), make([]byte, 10), make([]byte, 64), {}, make([]byte, 150)}
	same := [][]byte{make([]byte, 8), make([]byte, 8), make([]byte, 8)}

	for _, m := range [][]byte{make([]byte, 64), long} {
		name := " of " + strconv.Itoa(len(m)) + " bytes"
		measure(t, "Send, Receive"+name, func() error {
			if err := p.Send(ctx, m); err != nil {
				return err
			}
			n, err := q.Receive(ctx, buf)
			return equals(n, len(m), err)
		})
		measure(t, "TrySend, TryReceive"+name, func() error {
			if err := p.TrySend(m); err != nil {
				return err
			}
			n, err := q.TryReceive(buf)
			return equals(n, len(m), err)
		})
		measure(t, "Reserve, Commit, Next, Release"+name, func() error {
			v, err := p.Reserve(ctx, len(m))
			if err != nil {
				return err
			}
			copy(v.Bytes(), m)
			if err := v.Commit(); err != nil {
				return err
			}
			got, err := q.Next(ctx)
			if err != nil {
				return err
			}
			return equals(len(got.Bytes()), len(m), got.Release())
		})
		measure(t, "TryReserve, CommitN, TryNext, Release"+name, func() error {
			v, err := p.TryReserve(len(m))
			if err != nil {
				return err
			}
			if err := v.CommitN(len(m) / 2); err != nil {
				return err
			}
			got, err := q.TryNext()
			if err != nil {
				return err
			}
			return equals(len(got.Bytes()), len(m)/2, got.Release())
		})
		measure(t, "TryReserve, Discard"+name, func() error {
			v, err := p.TryReserve(len(m))
			if err != nil {
				return err
			}
			if err := v.Discard(); err != nil {
				return err
			}
			_, err = q.TryReceive(buf) // steps over it
			return is(err, ring.ErrEmpty)
		})
	}
	for _, msgs := range [][][]byte{some, same} {
		measure(t, "SendBatch, NextBatch, Release", func() error {
			if n, err := p.SendBatch(ctx, msgs); err != nil || n != len(msgs) {
				return equals(n, len(msgs), err)
			}
			for left := len(msgs); left > 0; {
				b, err := q.NextBatch(ctx, left)
				if err != nil {
					return err
				}
				left -= b.Len()
				if err := b.Release(); err != nil {
					return err
				}
			}
			return nil
		})
		bufs := make([][]byte, len(msgs))
		for i := range bufs {
			bufs[i] = make([]byte, 0, 1<<10)
		}
		measure(t, "SendBatch, ReceiveBatch", func() error {
			if n, err := p.SendBatch(ctx, msgs); err != nil || n != len(msgs) {
				return equals(n, len(msgs), err)
			}
			for left := len(msgs); left > 0; {
				n, err := q.ReceiveBatch(ctx, bufs[:left])
				if err != nil {
					return err
				}
				left -= n
			}
			return nil
		})
		measure(t, "TrySendBatch, TryNextBatch, At, Release", func() error {
			if n, err := p.TrySendBatch(msgs); err != nil || n != len(msgs) {
				return equals(n, len(msgs), err)
			}
			for left := len(msgs); left > 0; {
				b, err := q.TryNextBatch(left)
				if err != nil {
					return err
				}
				for i := range b.Len() {
					if err := b.At(i).Release(); err != nil {
						return err
					}
				}
				left -= b.Len()
			}
			return nil
		})
	}

	measure(t, "TryReceive of an empty ring", func() error { _, err := q.TryReceive(buf); return is(err, ring.ErrEmpty) })
	measure(t, "TryNext of an empty ring", func() error { _, err := q.TryNext(); return is(err, ring.ErrEmpty) })
	measure(t, "TryNextBatch of an empty ring", func() error { _, err := q.TryNextBatch(4); return is(err, ring.ErrEmpty) })
	for err = nil; err == nil; err = p.TrySend(some[0]) {
	}
	require.ErrorIs(t, err, ring.ErrFull)
	measure(t, "TrySend to a full ring", func() error { return is(p.TrySend(long), ring.ErrFull) })
	measure(t, "TryReserve in a full ring", func() error { _, err := p.TryReserve(64); return is(err, ring.ErrFull) })
	measure(t, "TrySendBatch to a full ring", func() error { _, err := p.TrySendBatch(some); return is(err, ring.ErrFull) })
	measure(t, "Receive with a short buffer", func() error { _, err := q.Receive(ctx, buf[:3]); return is(err, io.ErrShortBuffer) })
	require.NoError(t, p.Close())
	for err = nil; err == nil; _, err = q.TryReceive(buf) {
	}
	require.Equal(t, io.EOF, err)
	measure(t, "Receive at the end", func() error { _, err := q.Receive(context.Background(), buf); return is(err, io.EOF) })
	measure(t, "TryReceive at the end", func() error {
		_, err := q.TryReceive(buf) // looks for the end every 20 ms only
		if err == ring.ErrEmpty {
			return nil
		}
		return is(err, io.EOF)
	})
	s := r.Stats()
	require.NotZero(t, s.Padding, "no message met the end of the ring")
	require.NotZero(t, s.Discarded)
	require.Greater(t, s.ProducerPosition, 100*uint64(s.Slots))
}

func typedAllocates(t *testing.T, kind ring.Kind) {
	r := allocRing(t, kind)
	p, err := ring.NewTypedProducer[plainValue](r)
	require.NoError(t, err)
	q, err := ring.NewTypedConsumer[plainValue](r)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	v, got := plainValue{ID: 1}, plainValue{}
	vs, gots := make([]plainValue, 7), make([]plainValue, 16)
	measure(t, "Send, Receive", func() error {
		if err := p.Send(ctx, &v); err != nil {
			return err
		}
		return q.Receive(ctx, &got)
	})
	measure(t, "TrySend, TryReceive", func() error {
		if err := p.TrySend(&v); err != nil {
			return err
		}
		return q.TryReceive(&got)
	})
	measure(t, "SendBatch, ReceiveBatch", func() error {
		if n, err := p.SendBatch(ctx, vs); err != nil || n != len(vs) {
			return equals(n, len(vs), err)
		}
		for left := len(vs); left > 0; {
			n, err := q.ReceiveBatch(ctx, gots)
			if err != nil {
				return err
			}
			left -= n
		}
		return nil
	})
	measure(t, "TrySendBatch, TryReceiveBatch", func() error {
		if n, err := p.TrySendBatch(vs); err != nil || n != len(vs) {
			return equals(n, len(vs), err)
		}
		for left := len(vs); left > 0; {
			n, err := q.TryReceiveBatch(gots)
			if err != nil {
				return err
			}
			left -= n
		}
		return nil
	})
	measure(t, "TryReceive of an empty ring", func() error { return is(q.TryReceive(&got), ring.ErrEmpty) })
	measure(t, "TryReceiveBatch of an empty ring", func() error { _, err := q.TryReceiveBatch(gots); return is(err, ring.ErrEmpty) })
	for err = nil; err == nil; err = p.TrySend(&v) {
	}
	require.ErrorIs(t, err, ring.ErrFull)
	measure(t, "TrySend to a full ring", func() error { return is(p.TrySend(&v), ring.ErrFull) })
	measure(t, "TrySendBatch to a full ring", func() error { _, err := p.TrySendBatch(vs); return is(err, ring.ErrFull) })
	require.NoError(t, p.Close())
	for err = nil; err == nil; _, err = q.ReceiveBatch(ctx, gots) {
	}
	require.Equal(t, io.EOF, err)
	measure(t, "Receive at the end", func() error { return is(q.Receive(context.Background(), &got), io.EOF) })
	measure(t, "ReceiveBatch at the end", func() error { _, err := q.ReceiveBatch(context.Background(), gots); return is(err, io.EOF) })
}

// asleepAllocates measures calls that sleep in the kernel until another process acts. Their context cannot be cancelled: watching one that can costs an
// allocation for each sleep.
func asleepAllocates(t *testing.T, kind ring.Kind) {
	dir := proc.Dir(t)
	there, err := ring.Create("there", ring.Options{Kind: kind, Slots: 4, SlotSize: 64, Dir: dir})
	require.NoError(t, err)
	defer there.Close()
	back, err := ring.Create("back", ring.Options{Kind: kind, Slots: 4, SlotSize: 64, Dir: dir})
	require.NoError(t, err)
	defer back.Close()
	p, err := there.NewProducer()
	require.NoError(t, err)
	q, err := back.NewConsumer()
	require.NoError(t, err)
	c := proc.Start(t, []string{"allocs echo", dir, strconv.Itoa(2 * int(time.Millisecond))})
	c.Want("ready")
	m, buf := make([]byte, 8), make([]byte, 64)
	slept := back.Stats().Sleeps
	got := testing.AllocsPerRun(50, func() {
		binary.LittleEndian.PutUint64(m, binary.LittleEndian.Uint64(m)+1)
		err := p.Send(context.Background(), m)
		if err == nil {
			_, err = q.Receive(context.Background(), buf)
		}
		if err != nil || binary.LittleEndian.Uint64(buf) != binary.LittleEndian.Uint64(m) {
			t.Errorf("%v: %x came back for %x", err, buf[:8], m)
		}
	})
	require.Zero(t, got, "a call that sleeps allocates")
	require.GreaterOrEqual(t, back.Stats().Sleeps, slept+25, "few of the calls slept")
	require.NoError(t, p.Close())
	c.Succeeds()
}

// allocsEcho sends back what it receives, after a rest that lets its peer fall asleep.
func allocsEcho(dir, rest string) error {
	ns, err := strconv.Atoi(rest)
	if err != nil {
		return err
	}
	there, err := ring.Open("there", ring.WithDir(dir))
	if err != nil {
		return err
	}
	defer there.Close()
	back, err := ring.Open("back", ring.WithDir(dir))
	if err != nil {
		return err
	}
	defer back.Close()
	q, err := there.NewConsumer()
	if err != nil {
		return err
	}
	p, err := back.NewProducer()
	if err != nil {
		return err
	}
	say("ready")
	ctx, cancel := patience()
	defer cancel()
	for buf := make([]byte, 64); ; {
		n, err := q.Receive(ctx, buf)
		if over(err) {
			return nil
		}
		if err != nil {
			return err
		}
		time.Sleep(time.Duration(ns))
		if err := p.Send(ctx, buf[:n]); err != nil {
			return err
		}
	}
}
