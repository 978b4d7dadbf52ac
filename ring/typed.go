package ring

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"unsafe"

	"github.com/cespare/xxhash/v2"
)

// ErrNotPlain says that a type cannot be shared between processes as bytes.
var ErrNotPlain = errors.New("ring: type is not plain")

// plain checks that values of t mean the same in every process, and returns the fingerprint of its layout: never 0.
func plain(t reflect.Type) (uint64, error) {
	h := xxhash.New()
	if err := describe(h, t, t.String(), 0); err != nil {
		return 0, err
	}
	fmt.Fprintf(h, "size %d", t.Size())
	if sum := h.Sum64(); sum != 0 {
		return sum, nil
	}
	return 1, nil
}

// describe adds kind, offset and size of every scalar in t to h.
func describe(h *xxhash.Digest, t reflect.Type, path string, offset uintptr) error {
	bad := func(why string) error { return fmt.Errorf("%w: %s %s", ErrNotPlain, path, why) }
	switch t.Kind() {
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64,
		reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128:
		fmt.Fprintf(h, "%s@%d;", t.Kind(), offset)
		return nil
	case reflect.Int, reflect.Uint, reflect.Uintptr:
		return bad("is a " + t.Kind().String() + ", whose width depends on the platform; use int64 or uint64")
	case reflect.Bool:
		return bad("is a bool: a byte other than 0 or 1 from another process is not a valid one; use uint8")
	case reflect.Array:
		for i := range t.Len() {
			if err := describe(h, t.Elem(), fmt.Sprintf("%s[%d]", path, i), offset+uintptr(i)*t.Elem().Size()); err != nil {
				return err
			}
			if i == 0 && t.Len() > 1024 { // a long array is described by its element, count and stride
				fmt.Fprintf(h, "x%d+%d;", t.Len(), t.Elem().Size())
				return nil
			}
		}
		return nil
	case reflect.Struct:
		end := uintptr(0)
		for i := range t.NumField() {
			f := t.Field(i)
			if f.Offset != end {
				return bad(fmt.Sprintf("has %d bytes of padding before %s; add a field for them", f.Offset-end, f.Name))
			}
			if err := describe(h, f.Type, path+"."+f.Name, offset+f.Offset); err != nil {
				return err
			}
			end = f.Offset + f.Type.Size()
		}
		if end != t.Size() {
			return bad(fmt.Sprintf("has %d bytes of padding at its end; add a field for them", t.Size()-end))
		}
		return nil
	}
	return bad("is a " + t.Kind().String() + ": it holds a pointer")
}

// claimType makes the ring one of this fingerprint, or says that it is another's.
func (r *Ring) claimType(t reflect.Type, print uint64) (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed.Load() { // order: heap
		return ErrClosed
	}
	defer r.fault(&err)
	w := &r.c.ctl.typed
	// order: Y1 acqrel, pairs Y1
	if w.CompareAndSwap(0, print) {
		return nil
	}
	if have := w.Load(); have != print { // order: Y1 acq, pairs Y1
		return fmt.Errorf("%w: the ring carries another type than %v (layout %#x, not %#x)", ErrMismatch, t, have, print)
	}
	return nil
}

// typedSize checks T against the ring and returns its size.
func typedSize[T any](r *Ring) (uint64, error) {
	t := reflect.TypeFor[T]()
	print, err := plain(t)
	if err != nil {
		return 0, err
	}
	if t.Size() > uintptr(r.MaxMessage()) {
		return 0, &SizeError{Got: int(t.Size()), Max: r.MaxMessage()}
	}
	return uint64(t.Size()), r.claimType(t, print)
}

// valueBytes is the memory of *v.
func valueBytes[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}

// A TypedProducer sends values of a plain type T: without pointers, int, uint, uintptr, bool and padding. It is used by one goroutine at a time.
type TypedProducer[T any] struct {
	p    *Producer
	size uint64
}

// NewTypedProducer registers a producer of values. The first typed handle sets the layout of the ring's values, once; ErrMismatch for another one, ErrNotPlain for a T that cannot be shared.
func NewTypedProducer[T any](r *Ring, o ...ProducerOption) (*TypedProducer[T], error) {
	size, err := typedSize[T](r)
	if err != nil {
		return nil, err
	}
	p, err := r.newProducer(true, o)
	if err != nil {
		return nil, err
	}
	return &TypedProducer[T]{p, size}, nil
}

// Send commits a copy of *v. See Producer.Send.
func (t *TypedProducer[T]) Send(ctx context.Context, v *T) error {
	return t.p.Send(ctx, valueBytes(v))
}

// TrySend commits a copy of *v, or returns ErrFull. See Producer.TrySend.
func (t *TypedProducer[T]) TrySend(v *T) error { return t.p.TrySend(valueBytes(v)) }

// values is the batch of vs.
func (t *TypedProducer[T]) values(vs []T) batch {
	if len(vs) == 0 {
		return batch{}
	}
	return batch{base: unsafe.Pointer(unsafe.SliceData(vs)), size: t.size, count: len(vs)}
}

// SendBatch commits copies of vs, in order. See Producer.SendBatch.
func (t *TypedProducer[T]) SendBatch(ctx context.Context, vs []T) (int, error) {
	return t.p.sendValues(ctx, unsafe.Pointer(unsafe.SliceData(vs)), t.size, len(vs))
}

// TrySendBatch commits the longest prefix of vs that fits. See Producer.TrySendBatch.
func (t *TypedProducer[T]) TrySendBatch(vs []T) (int, error) { return t.p.trySendBatch(t.values(vs)) }

// Close ends the registration. See Producer.Close.
func (t *TypedProducer[T]) Close() error { return t.p.Close() }

// A TypedConsumer receives values of a plain type T. It is used by one goroutine at a time.
type TypedConsumer[T any] struct {
	q    *Consumer
	size uint64
}

// NewTypedConsumer registers a consumer of values. ErrMismatch and ErrNotPlain as for NewTypedProducer.
func NewTypedConsumer[T any](r *Ring, o ...ConsumerOption) (*TypedConsumer[T], error) {
	size, err := typedSize[T](r)
	if err != nil {
		return nil, err
	}
	q, err := r.NewConsumer(o...)
	if err != nil {
		return nil, err
	}
	q.expect(size)
	return &TypedConsumer[T]{q, size}, nil
}

// one says of a message that is no value, and stays, what it is.
func (t *TypedConsumer[T]) one(n int, err error) error {
	if err == errShortBuffer {
		return fmt.Errorf("%w: a message of %d bytes where values of %d are expected", ErrMismatch, n, t.size)
	}
	return err
}

// Receive copies the next value into *v and releases it, as one step. See Consumer.Receive.
//
// Failure: ErrMismatch when the next message is no value, left by an untyped producer from before the ring carried values. It stays; an
// untyped consumer can receive it.
func (t *TypedConsumer[T]) Receive(ctx context.Context, v *T) error {
	return t.one(t.q.Receive(ctx, valueBytes(v)))
}

// TryReceive copies the next value into *v and releases it, or returns ErrEmpty, or io.EOF. See Consumer.TryReceive.
func (t *TypedConsumer[T]) TryReceive(v *T) error { return t.one(t.q.TryReceive(valueBytes(v))) }

// ReceiveBatch copies 1 to len(vs) values, in order, and releases them, and returns how many. It waits for the first only.
//
// Failure: if the process dies in the call, the values are in the ring, or received, or redelivered with a higher count.
func (t *TypedConsumer[T]) ReceiveBatch(ctx context.Context, vs []T) (int, error) {
	return t.q.receiveTyped(ctx, t.buffer(vs))
}

// TryReceiveBatch is ReceiveBatch, or returns ErrEmpty, or io.EOF. Blocks: never.
func (t *TypedConsumer[T]) TryReceiveBatch(vs []T) (int, error) {
	return t.q.receiveTyped(noWait, t.buffer(vs))
}

func (t *TypedConsumer[T]) buffer(vs []T) typedBuffer {
	return typedBuffer{base: unsafe.Pointer(unsafe.SliceData(vs)), size: t.size, count: len(vs)}
}

// Close ends the registration. See Consumer.Close.
func (t *TypedConsumer[T]) Close() error { return t.q.Close() }

// receiveTyped fills b.
func (q *Consumer) receiveTyped(ctx context.Context, b typedBuffer) (n int, err error) {
	if !q.gate.enter(gateOpen) {
		return 0, q.refused()
	}
	if b.count == 0 {
		q.gate.leave(gateOpen)
		return 0, nil
	}
	if n, err = q.receiveAlike(&destination{values: b}, b.count); n == 0 && err == nil {
		if !q.begin() {
			return 0, q.refused()
		}
		q.leaseRoom(b.count)
		if n, err = q.tryTyped(b); err == ErrEmpty {
			n, err = q.await(ctx, receiving{typed: b})
		}
		q.gate.finish()
	}
	return q.left(n, err)
}

// tryTyped is one attempt. Values that are alike are copied in one step; others under a lease, which ends at once.
func (q *Consumer) tryTyped(b typedBuffer) (int, error) {
	if n, err := q.receiveAlike(&destination{values: b}, b.count); n > 0 || err != nil {
		return n, err
	}
	q.into = destination{values: b}
	err := q.tryTake(min(b.count, int(q.c.slots)))
	q.into = destination{}
	if err == errShortBuffer {
		return 0, fmt.Errorf("%w: a message of %d bytes where values of %d are expected", ErrMismatch, q.odd, b.size)
	}
	if err != nil {
		return 0, err
	}
	l := &q.lease
	for i := range l.count {
		it := l.at(i)
		move(view(unsafe.Add(b.base, uint64(i)*b.size), b.size), it.bytes())
	}
	if q.spsc {
		q.spscRelease(l.count - 1)
	} else {
		q.mpmcRelease(l.count - 1)
	}
	return l.count, nil
}
