//go:build linux

package process

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/seg"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

func init() {
	children["backing send"] = backingSend
	children["backing receive"] = backingReceive
}

// shape is the value of the typed ways.
type shape struct {
	ID    uint64
	Words [4]uint32
	Bytes [24]byte
}

const (
	backingLeast, backingMost = 0, 500
	shapeSize                 = int(unsafe.Sizeof(shape{}))
)

// Both kinds of ring carry messages from one process to another over every backing, by every way to send and every way to receive that go together: copies,
// in place, batches, typed values. A memfd ring has no name and is handed on by descriptor. Every payload is checked, and the ring goes round many times.
func TestEveryBackingAndWay(t *testing.T) {
	messages := 4000
	ways := []struct{ send, receive string }{
		{"copy", "copy"}, {"copy", "place"}, {"copy", "batch"},
		{"place", "copy"}, {"place", "place"}, {"place", "batch"},
		{"batch", "copy"}, {"batch", "place"}, {"batch", "batch"},
		{"typed", "typed"}, {"typed", "copy"}, {"typed", "place"}, {"typed", "batch"},
	}
	for _, kind := range kinds {
		for _, backing := range []seg.Backing{seg.POSIX, seg.SysV, seg.Memfd} {
			t.Run(fmt.Sprintf("%s/%s", kind, backing), func(t *testing.T) {
				for _, w := range ways {
					t.Run(w.send+"_to_"+w.receive, func(t *testing.T) { carry(t, kind, backing, w.send, w.receive, messages) })
				}
			})
		}
	}
}

func carry(t *testing.T, kind ring.Kind, backing seg.Backing, send, receive string, messages int) {
	dir := proc.Dir(t)
	r, err := ring.Create("carried", ring.Options{Kind: kind, Backing: backing, Slots: 64, SlotSize: 48, Dir: dir})
	require.NoError(t, err)
	defer r.Close()
	require.Equal(t, backing, r.Options().Backing)
	handed := func(*exec.Cmd) {}
	by := "name"
	if backing == seg.Memfd {
		_, err := ring.Open("carried", ring.WithDir(dir))
		require.Error(t, err, "a memfd ring has no name")
		f, err := r.File()
		require.NoError(t, err)
		defer f.Close()
		by, handed = "descriptor", func(c *exec.Cmd) { c.ExtraFiles = []*os.File{f} }
	}
	least, most := backingLeast, backingMost
	if send == "typed" {
		least, most = shapeSize, shapeSize
	}
	args := []string{dir, by, strconv.Itoa(messages), strconv.Itoa(least), strconv.Itoa(most)}
	from := proc.Start(t, append([]string{"backing send", send}, args...), handed)
	to := proc.Start(t, append([]string{"backing receive", receive}, args...), handed)
	start(from, to)
	succeed(t, from, to)
	s := r.Stats()
	require.EqualValues(t, messages, s.Sent)
	require.EqualValues(t, messages, s.Received)
	require.Zero(t, s.Used)
	require.Greater(t, s.ProducerPosition, 10*uint64(s.Slots))
	if send != "typed" {
		require.NotZero(t, s.Padding, "no message met the end of the ring")
	}
	require.Zero(t, s.Redelivered+s.Lost+s.Skipped, "%+v", s)
}

// job is what both children are told.
type job struct {
	way                   string
	r                     *ring.Ring
	messages, least, most int
	scratch               []byte
}

func jobOf(args []string) (j job, err error) {
	j.way, j.scratch = args[0], make([]byte, backingMost)
	for i, v := range []*int{&j.messages, &j.least, &j.most} {
		if *v, err = strconv.Atoi(args[3+i]); err != nil {
			return j, err
		}
	}
	if args[2] == "descriptor" {
		f := os.NewFile(3, "ring")
		j.r, err = ring.OpenFile(f)
		return j, errors.Join(err, f.Close())
	}
	j.r, err = ring.Open("carried", ring.WithDir(args[1]))
	return j, err
}

// shapeOf is message id as a value.
func (j *job) shapeOf(id uint64) (s shape) {
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&s)), shapeSize), payload(j.scratch, id, shapeSize, shapeSize))
	return s
}

func (j *job) verify(m []byte, id int) error {
	return verify(m, uint64(id), j.least, j.most, j.scratch)
}

func backingSend(args []string) error {
	j, err := jobOf(args)
	if err != nil {
		return err
	}
	defer j.r.Close()
	ctx, cancel := patience()
	defer cancel()
	if j.way == "typed" {
		p, err := ring.NewTypedProducer[shape](j.r)
		if err != nil {
			return err
		}
		meet()
		for id := 0; id < j.messages; {
			n := min(id%23, j.messages-id)
			if n == 0 {
				v := j.shapeOf(uint64(id))
				if err := p.Send(ctx, &v); err != nil {
					return err
				}
				id++
				continue
			}
			vs := make([]shape, n)
			for i := range vs {
				vs[i] = j.shapeOf(uint64(id + i))
			}
			if sent, err := p.SendBatch(ctx, vs); err != nil || sent != n {
				return fmt.Errorf("%d of %d values sent: %w", sent, n, err)
			}
			id += n
		}
		return j.r.Close()
	}
	p, err := j.r.NewProducer()
	if err != nil {
		return err
	}
	meet()
	for id := 0; id < j.messages; {
		n, err := j.send(ctx, p, id)
		if err != nil {
			return fmt.Errorf("message %d: %w", id, err)
		}
		id += n
	}
	return j.r.Close()
}

// send sends message id, and some behind it if it goes by batch.
func (j *job) send(ctx context.Context, p *ring.Producer, id int) (int, error) {
	switch m := payload(j.scratch, uint64(id), j.least, j.most); j.way {
	case "copy":
		return 1, p.Send(ctx, m)
	case "place":
		v, err := p.Reserve(ctx, len(m))
		if err != nil {
			return 0, err
		}
		copy(v.Bytes(), m)
		return 1, v.Commit()
	}
	msgs := make([][]byte, min(1+id%40, j.messages-id))
	for i := range msgs {
		msgs[i] = append([]byte(nil), payload(j.scratch, uint64(id+i), j.least, j.most)...)
	}
	n, err := p.SendBatch(ctx, msgs)
	if err == nil && n != len(msgs) {
		err = fmt.Errorf("%d of %d sent without an error", n, len(msgs))
	}
	return n, err
}

func backingReceive(args []string) error {
	j, err := jobOf(args)
	if err != nil {
		return err
	}
	defer j.r.Close()
	ctx, cancel := patience()
	defer cancel()
	next := 0
	if j.way == "typed" {
		var q *ring.TypedConsumer[shape]
		if q, err = ring.NewTypedConsumer[shape](j.r); err != nil {
			return err
		}
		meet()
		for vs := make([]shape, 16); err == nil; {
			n := 1
			if next%3 == 0 {
				err = q.Receive(ctx, &vs[0])
			} else {
				n, err = q.ReceiveBatch(ctx, vs)
			}
			if err != nil {
				break
			}
			for _, v := range vs[:n] {
				if v != j.shapeOf(uint64(next)) {
					return fmt.Errorf("value %d: %+v", next, v)
				}
				next++
			}
		}
	} else {
		var q *ring.Consumer
		if q, err = j.r.NewConsumer(); err != nil {
			return err
		}
		meet()
		for buf := make([]byte, backingMost); err == nil; {
			var n int
			n, err = j.receive(ctx, q, next, buf)
			next += n
		}
	}
	if !over(err) || next != j.messages {
		return fmt.Errorf("the stream ended after %d messages: %w", next, err)
	}
	return j.r.Close()
}

// receive receives message id, and some behind it if it goes by batch.
func (j *job) receive(ctx context.Context, q *ring.Consumer, id int, buf []byte) (int, error) {
	switch j.way {
	case "copy":
		n, err := q.Receive(ctx, buf)
		if err != nil {
			return 0, err
		}
		return 1, j.verify(buf[:n], id)
	case "place":
		m, err := q.Next(ctx)
		if err != nil {
			return 0, err
		}
		return 1, errors.Join(j.verify(m.Bytes(), id), m.Release())
	}
	b, err := q.NextBatch(ctx, 1+id%30)
	if err != nil {
		return 0, err
	}
	for i := range b.Len() {
		if err := j.verify(b.At(i).Bytes(), id+i); err != nil {
			return 0, err
		}
	}
	return b.Len(), b.Release()
}

// What a typed value is to an untyped consumer does not depend on how it was sent.
func TestShapeHasNoPadding(t *testing.T) {
	require.Equal(t, 48, shapeSize)
	require.Equal(t, shapeSize, binary.Size(shape{}))
}
