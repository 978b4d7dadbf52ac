package mech

import (
	"context"
	"encoding/binary"
	"errors"
	"unsafe"

	"github.com/cd1900cf/millrace/ring"
)

func init() {
	for _, k := range []struct {
		name string
		kind ring.Kind
	}{{"spsc", ring.SPSC}, {"mpmc", ring.MPMC}} {
		for guard, o := range map[string][]ring.Option{"": nil, "-unguarded": {ring.WithoutFaultGuard()}} {
			mechanisms["millrace-"+k.name+guard] = mechanism(openRing(k.kind, o...))
			mechanisms["millrace-"+k.name+"-typed"+guard] = mechanism(openTyped(k.kind, o...))
			mechanisms["millrace-"+k.name+"-zerocopy"+guard] = mechanism(openZeroCopy(k.kind, o...))
		}
	}
}

var ctx = context.Background()

// openBoth opens the ring of a run and a handle on it. The ring's slots have the size of the message; there are fewer of them when messages are larger than a page.
func openBoth(kind ring.Kind, a *Args, which int) (*ring.Ring, error) {
	o := ring.Options{Kind: kind, Slots: a.Slots, SlotSize: a.Size, Dir: a.Dir, Participants: max(16, a.Senders+a.Receivers+a.Extra)}
	if a.Size > maxSlot { // a message fits into one slot, and the ring is not larger
		o.Slots = max(2, a.Slots*maxSlot/a.Size)
	}
	name := [...]string{"there", "back"}[which]
	r, _, err := ring.OpenOrCreate(name, o)
	return r, err
}

const maxSlot = 4096

// ringConn is an end of a ring: the producer or the consumer is nil.
type ringConn struct {
	r     *ring.Ring
	p     *ring.Producer
	c     *ring.Consumer
	buf   []byte
	msgs  [][]byte // one batch, in one piece of memory
	batch int
	size  int
}

// putWords numbers the n messages of a batch from v on, in their first words, and returns the sum: as in the programs in C, a batch is one array, and no
// index of it is checked.
func putWords(buf []byte, size, n int, v uint64) (sum uint64) {
	at := unsafe.Pointer(unsafe.SliceData(buf))
	for end := v + uint64(n); v < end; v++ {
		*(*uint64)(at) = v
		sum += v
		at = unsafe.Add(at, size)
	}
	return sum
}

// words returns the sum of the first words of n messages.
func words(buf []byte, size, n int) (sum uint64) {
	at := unsafe.Pointer(unsafe.SliceData(buf))
	for ; n > 0; n-- {
		sum += *(*uint64)(at)
		at = unsafe.Add(at, size)
	}
	return sum
}

func openRing(kind ring.Kind, o ...ring.Option) opener {
	return func(a *Args, which int, sends bool) (conn, error) { return newRingConn(kind, a, which, sends, o...) }
}

func newRingConn(kind ring.Kind, a *Args, which int, sends bool, o ...ring.Option) (*ringConn, error) {
	r, err := openBoth(kind, a, which)
	if err != nil {
		return nil, err
	}
	c := &ringConn{r: r, buf: make([]byte, a.Size*a.Batch), batch: a.Batch, size: a.Size}
	for i := range a.Batch {
		c.msgs = append(c.msgs, c.buf[i*a.Size:(i+1)*a.Size])
	}
	if which == 0 && a.Index == 0 {
		if err := idleHandles(r, a.Extra); err != nil {
			return nil, err
		}
	}
	po, co := forBoth(o)
	if sends {
		c.p, err = r.NewProducer(po...)
	} else {
		c.c, err = r.NewConsumer(co...)
	}
	return c, err
}

// forBoth are options that producers and consumers take.
func forBoth(o []ring.Option) (po []ring.ProducerOption, co []ring.ConsumerOption) {
	for _, x := range o {
		po, co = append(po, x), append(co, x)
	}
	return po, co
}

// idleHandles registers n participants that do nothing.
func idleHandles(r *ring.Ring, n int) error {
	for i := range n {
		var err error
		if i%2 == 0 {
			_, err = r.NewConsumer()
		} else {
			_, err = r.NewProducer()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *ringConn) stream(n int, first uint64) (sum uint64, err error) {
	switch {
	case c.p != nil && c.batch == 1:
		msg := c.msgs[0]
		for v := first; v < first+uint64(n); v++ {
			binary.LittleEndian.PutUint64(msg, v)
			sum += v
			if err := c.p.Send(ctx, msg); err != nil {
				return 0, err
			}
		}
	case c.p != nil:
		for v, end := first, first+uint64(n); v < end; {
			k := min(c.batch, int(end-v))
			sum += putWords(c.buf, c.size, k, v)
			v += uint64(k)
			if _, err := c.p.SendBatch(ctx, c.msgs[:k]); err != nil {
				return 0, err
			}
		}
	case c.batch == 1:
		for range n {
			if _, err := c.c.Receive(ctx, c.buf); err != nil {
				return 0, err
			}
			sum += binary.LittleEndian.Uint64(c.buf)
		}
	default:
		for n > 0 {
			msgs := c.msgs[:min(n, c.batch)]
			k, err := c.c.ReceiveBatch(ctx, msgs)
			if err != nil {
				return 0, err
			}
			sum += words(c.buf, c.size, k)
			n -= k
		}
	}
	return sum, nil
}

func (c *ringConn) send(msg []byte) error { return c.p.Send(ctx, msg) }

func (c *ringConn) receive(buf []byte) error {
	_, err := c.c.Receive(ctx, buf)
	return err
}

func (c *ringConn) close() error { return c.r.Close() }

func (c *ringConn) pingPong(other conn, buf []byte, n int, begins bool) (wrong uint64, err error) {
	back := other.(*ringConn)
	for i := range uint64(n) {
		if !begins {
			if _, err := c.c.Receive(ctx, buf); err != nil {
				return 0, err
			}
			if err := back.p.Send(ctx, buf); err != nil {
				return 0, err
			}
			continue
		}
		binary.LittleEndian.PutUint64(buf, i)
		if err := c.p.Send(ctx, buf); err != nil {
			return 0, err
		}
		if _, err := back.c.Receive(ctx, buf); err != nil {
			return 0, err
		}
		if binary.LittleEndian.Uint64(buf) != i {
			wrong++
		}
	}
	return wrong, nil
}

func (c *ringConn) depart(w *worker, start int64) error {
	buf := make([]byte, w.Size)
	for i := range w.Count {
		w.stamp(buf, start, i)
		if err := c.p.Send(ctx, buf); err != nil {
			return err
		}
	}
	return nil
}

func (c *ringConn) arrive(w *worker) error {
	buf := make([]byte, w.Size)
	for range w.Count {
		if _, err := c.c.Receive(ctx, buf); err != nil {
			return err
		}
		w.arrived(buf)
	}
	return nil
}

// zeroConn writes and reads messages in the ring: each byte is written once, from the sender's memory, and read once, into the receiver's.
type zeroConn struct{ *ringConn }

func openZeroCopy(kind ring.Kind, o ...ring.Option) opener {
	return func(a *Args, which int, sends bool) (conn, error) {
		c, err := newRingConn(kind, a, which, sends, o...)
		return zeroConn{c}, err
	}
}

func (c zeroConn) stream(n int, first uint64) (sum uint64, err error) {
	msg := c.msgs[0]
	for v := first; v < first+uint64(n); v++ {
		if c.p != nil {
			binary.LittleEndian.PutUint64(msg, v)
			sum += v
			err = c.send(msg)
		} else {
			err = c.receive(msg)
			sum += binary.LittleEndian.Uint64(msg)
		}
		if err != nil {
			return 0, err
		}
	}
	return sum, nil
}

func (c zeroConn) send(msg []byte) error {
	r, err := c.p.Reserve(ctx, len(msg))
	if err != nil {
		return err
	}
	move(r.Bytes(), msg)
	return r.Commit()
}

func (c zeroConn) receive(buf []byte) error {
	m, err := c.c.Next(ctx)
	if err != nil {
		return err
	}
	move(buf, m.Bytes())
	return m.Release()
}

// typedConn moves values of eight bytes.
type typedConn struct {
	r      *ring.Ring
	p      *ring.TypedProducer[uint64]
	c      *ring.TypedConsumer[uint64]
	values []uint64
}

var errOnlyStream = errors.New("mech: this one streams, nothing else")

func openTyped(kind ring.Kind, o ...ring.Option) opener {
	return func(a *Args, which int, sends bool) (conn, error) {
		r, err := openBoth(kind, a, which)
		if err != nil {
			return nil, err
		}
		c := &typedConn{r: r, values: make([]uint64, a.Batch)}
		po, co := forBoth(o)
		if sends {
			c.p, err = ring.NewTypedProducer[uint64](r, po...)
		} else {
			c.c, err = ring.NewTypedConsumer[uint64](r, co...)
		}
		return c, err
	}
}

func (c *typedConn) stream(n int, first uint64) (sum uint64, err error) {
	for v, end := first, first+uint64(n); c.p != nil && v < end; {
		values := c.values[:min(uint64(len(c.values)), end-v)]
		for i := range values {
			values[i] = v
			sum += v
			v++
		}
		if _, err := c.p.SendBatch(ctx, values); err != nil {
			return 0, err
		}
	}
	for c.c != nil && n > 0 {
		k, err := c.c.ReceiveBatch(ctx, c.values[:min(n, len(c.values))])
		if err != nil {
			return 0, err
		}
		for _, v := range c.values[:k] {
			sum += v
		}
		n -= k
	}
	return sum, nil
}

func (c *typedConn) send([]byte) error    { return errOnlyStream }
func (c *typedConn) receive([]byte) error { return errOnlyStream }
func (c *typedConn) close() error         { return c.r.Close() }
