package ring

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/cd1900cf/millrace/internal/invariants"
)

// modelStarts are first positions next to which something wraps: the sequence of a state word, the sign. Positions themselves do not come as far as 2^64.
var modelStarts = []uint64{0, 1 << 44, 1 << 56, 1 << 63, 1<<64 - 1<<16}

// newHeapAt makes a heap ring whose first position is start.
func newHeapAt(t require.TestingT, o Options, start uint64) *Ring {
	o = o.withDefaults()
	h, err := o.header()
	require.NoError(t, err)
	h.Start = start
	r, err := newHeap(o, h)
	require.NoError(t, err)
	return r
}

// ended is a context that is over: a blocking call with it makes its attempts and does not sleep.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// checks sets the number of random histories for a test; -rapid.checks on the command line wins. A report names the seed; no files are left behind.
func checks(t *testing.T, n int) {
	t.Helper()
	set := func(name, value string) {
		if f := flag.Lookup(name); f.Value.String() == f.DefValue {
			require.NoError(t, f.Value.Set(value))
			t.Cleanup(func() { require.NoError(t, f.Value.Set(f.DefValue)) })
		}
	}
	if testing.Short() || invariants.Enabled {
		n /= 10
	}
	set("rapid.checks", fmt.Sprint(n))
	set("rapid.nofailfile", "true")
}

// A ring on heap memory does exactly what a slice queue does, whatever calls are made on it by however many handles. Properties, after each call:
//   - the result is the model's: error, payload, position, deliveries, number of messages;
//   - ErrFull exactly when a position that the message needs is in use, ErrEmpty exactly when nothing is ready, io.EOF exactly at the end of the stream;
//   - stale, repeated and out-of-order tokens are ErrMisuse and change nothing;
//   - Stats and Peek are the model's: counters, positions, slots in use, unreleased messages in order;
//   - a participant that dies with an open reservation or lease leaves what docs/FORMAT.md section 11 says;
//   - a drained ring takes a message of MaxMessage bytes.
//
// The histories begin next to each wrap of the arithmetic. Deaths are between calls; tests/crash has those inside them.
func TestModel(t *testing.T) {
	for _, k := range []Kind{SPSC, MPMC} {
		t.Run(k.String(), func(t *testing.T) {
			checks(t, 1500)
			rapid.Check(t, func(rt *rapid.T) { newHarness(rt, k).run() })
		})
	}
}

// harness drives a ring and its model side by side.
type harness struct {
	*rapid.T
	m         *model
	r         *Ring
	buf       []byte
	seq       uint64
	producers []*modelProducer
	consumers []*modelConsumer
}

type modelProducer struct {
	p     *Producer
	open  *modelItem
	token Reservation
	size  int
	stale []Reservation
}

type modelConsumer struct {
	q       *Consumer
	follow  bool
	held    []*modelItem // what is still leased
	tokens  []Message    // of held
	batch   Batch
	batched bool
	stale   []Message
}

func newHarness(t *rapid.T, k Kind) *harness {
	o := Options{
		Kind:            k,
		Slots:           rapid.SampledFrom([]int{1, 2, 4, 8, 16}).Draw(t, "slots"),
		SlotSize:        rapid.SampledFrom([]int{1, 8, 24, 100}).Draw(t, "slotSize"),
		OnConsumerDeath: rapid.SampledFrom([]DeathPolicy{Redeliver, Drop}).Draw(t, "policy"),
		MaxDeliveries:   rapid.SampledFrom([]int{0, 0, 1, 2, 3}).Draw(t, "maxDeliveries"),
	}
	near, before := rapid.SampledFrom(modelStarts).Draw(t, "near"), uint64(rapid.IntRange(0, 3*o.Slots).Draw(t, "before"))
	start := max(near, before) - before
	h := &harness{T: t, m: newModel(o, start), r: newHeapAt(t, o, start), buf: make([]byte, o.SlotSize*max(1, o.Slots/2))}
	h.m.want.Slots = o.Slots
	require.Equal(h, h.m.maxMessage(), h.r.MaxMessage())
	h.newProducer()
	h.newConsumer(false)
	return h
}

func (h *harness) run() {
	h.Repeat(map[string]func(*rapid.T){
		"":              func(*rapid.T) { h.check() },
		"send":          func(*rapid.T) { h.send() },
		"send2":         func(*rapid.T) { h.send() },
		"sendBatch":     func(*rapid.T) { h.sendBatch() },
		"reserve":       func(*rapid.T) { h.reserve() },
		"finish":        func(*rapid.T) { h.finish() },
		"receiveBatch":  func(*rapid.T) { h.receiveBatch() },
		"receive":       func(*rapid.T) { h.receive() },
		"receive2":      func(*rapid.T) { h.receive() },
		"next":          func(*rapid.T) { h.next() },
		"nextBatch":     func(*rapid.T) { h.nextBatch() },
		"release":       func(*rapid.T) { h.release() },
		"release2":      func(*rapid.T) { h.release() },
		"return":        func(*rapid.T) { h.giveBack() },
		"misuse":        func(*rapid.T) { h.misuse() },
		"newProducer":   func(*rapid.T) { h.joinProducer() },
		"newConsumer":   func(*rapid.T) { h.joinConsumer() },
		"closeProducer": func(*rapid.T) { h.closeProducer() },
		"closeConsumer": func(*rapid.T) { h.closeConsumer() },
		"killProducer":  func(*rapid.T) { h.killProducer() },
		"killConsumer":  func(*rapid.T) { h.killConsumer() },
	})
	h.drain()
}

// message makes a payload of up to MaxMessage bytes that says which it is.
func (h *harness) message() []byte {
	n := rapid.IntRange(0, h.m.maxMessage()).Draw(h.T, "bytes")
	if rapid.Bool().Draw(h.T, "small") {
		n = min(n, int(h.m.slotSize))
	}
	return h.payload(n)
}

func (h *harness) payload(n int) []byte {
	b := make([]byte, n)
	h.seq++
	for i := range b {
		b[i] = byte(h.seq*31 + uint64(i))
	}
	if n >= 8 {
		binary.LittleEndian.PutUint64(b, h.seq)
	}
	return b
}

// pick chooses one by its index, which reads better in a report than the thing itself.
func pick[T any](t *rapid.T, list []T, label string) T {
	return list[rapid.IntRange(0, len(list)-1).Draw(t, label)]
}

// producer picks one with or without an open reservation.
func (h *harness) producer(open bool) *modelProducer {
	var list []*modelProducer
	for _, p := range h.producers {
		if (p.open != nil) == open {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		h.Skip("no such producer")
	}
	return pick(h.T, list, "producer")
}

func (h *harness) consumer(open bool) *modelConsumer {
	var list []*modelConsumer
	for _, q := range h.consumers {
		if (len(q.held) > 0) == open {
			list = append(list, q)
		}
	}
	if len(list) == 0 {
		h.Skip("no such consumer")
	}
	return pick(h.T, list, "consumer")
}

// sendError is what a send that does not fit must answer.
func (h *harness) sendError(blocking bool) error {
	switch {
	case !blocking:
		return ErrFull
	case len(h.consumers) == 0 && h.m.want.ConsumersEver > 0:
		return ErrNoConsumers
	}
	return context.Canceled
}

// blockingContext is one with which a call that cannot succeed comes back.
func (h *harness) blockingContext(want error) context.Context {
	if want == context.Canceled {
		return ended
	}
	return ctxb
}

func (h *harness) send() {
	p := h.producer(false)
	msg := h.message()
	blocking := rapid.Bool().Draw(h.T, "blocking")
	var want, err error
	fits := h.m.fits(len(msg))
	if !fits {
		want = h.sendError(blocking)
	}
	if blocking {
		err = p.p.Send(h.blockingContext(want), msg)
	} else {
		err = p.p.TrySend(msg)
	}
	require.Equal(h, want, err, "send %d bytes at %d", len(msg), h.m.next)
	if fits {
		h.m.send(msg)
	}
}

func (h *harness) sendBatch() {
	p := h.producer(false)
	var msgs [][]byte
	equal := rapid.Bool().Draw(h.T, "equal")
	for range rapid.IntRange(0, int(h.m.slots)+2).Draw(h.T, "messages") {
		msg := h.message()
		if equal && len(msgs) > 0 {
			msg = h.payload(len(msgs[0]))
		}
		msgs = append(msgs, msg)
	}
	blocking := rapid.Bool().Draw(h.T, "blocking")
	n := h.m.sendBatch(msgs, blocking)
	var want error
	if n < len(msgs) {
		want = h.sendError(blocking)
	}
	got, err := 0, error(nil)
	if blocking {
		got, err = p.p.SendBatch(h.blockingContext(want), msgs)
	} else {
		got, err = p.p.TrySendBatch(msgs)
	}
	require.Equal(h, want, err)
	require.Equal(h, n, got)
}

func (h *harness) reserve() {
	p := h.producer(false)
	n := len(h.message())
	blocking := rapid.Bool().Draw(h.T, "blocking")
	var want, err error
	fits := h.m.fits(n)
	if !fits {
		want = h.sendError(blocking)
	}
	var token Reservation
	if blocking {
		token, err = p.p.Reserve(h.blockingContext(want), n)
	} else {
		token, err = p.p.TryReserve(n)
	}
	require.Equal(h, want, err)
	if fits {
		p.open, p.token, p.size = h.m.reserve(n), token, n
		require.Len(h, token.Bytes(), n)
	}
}

func (h *harness) finish() {
	p := h.producer(true)
	n := p.size
	switch rapid.IntRange(0, 3).Draw(h.T, "how") {
	case 0:
		require.NoError(h, p.token.Discard())
		h.m.discard(p.open)
	case 1:
		n = rapid.IntRange(0, n).Draw(h.T, "bytes")
		require.Equal(h, &SizeError{Got: p.size + 1, Max: p.size}, p.token.CommitN(p.size+1))
		msg := h.payload(n)
		copy(p.token.Bytes(), msg)
		require.NoError(h, p.token.CommitN(n))
		h.m.commit(p.open, msg)
	default:
		msg := h.payload(n)
		copy(p.token.Bytes(), msg)
		require.NoError(h, p.token.Commit())
		h.m.commit(p.open, msg)
	}
	p.stale = append(p.stale, p.token)
	p.open = nil
}

// endOfStream says whether a consumer that finds nothing is at the end.
func (h *harness) endOfStream(q *modelConsumer) bool {
	if q.follow || h.m.want.ProducersEver == 0 || len(h.producers) > 0 {
		return false
	}
	for _, it := range h.m.items {
		if it.state == modelReady || it.state == modelLeased {
			return false
		}
	}
	return true
}

// checkNothing checks the answer of a call that found nothing.
func (h *harness) checkNothing(q *modelConsumer, blocking bool, err error) {
	switch eof := h.endOfStream(q); {
	case eof && blocking:
		require.Equal(h, io.EOF, err)
	case eof:
		require.Contains(h, []error{io.EOF, ErrEmpty}, err) // a Try call looks for the end every 20 ms
	case blocking:
		require.Equal(h, context.Canceled, err)
	default:
		require.Equal(h, ErrEmpty, err)
	}
}

// emptyContext is one with which a blocking receive that finds nothing comes back.
func (h *harness) emptyContext(q *modelConsumer, ready bool) context.Context {
	if ready || h.endOfStream(q) {
		return ctxb
	}
	return ended
}

func (h *harness) receive() {
	q := h.consumer(false)
	blocking := rapid.Bool().Draw(h.T, "blocking")
	short := rapid.IntRange(0, 4).Draw(h.T, "short") == 0
	var it *modelItem
	if next := h.m.look(1); len(next) > 0 {
		it = next[0]
	}
	buf := h.buf
	if short && it != nil && len(it.payload) > 0 {
		buf = buf[:rapid.IntRange(0, len(it.payload)-1).Draw(h.T, "buffer")]
	} else {
		short = false
	}
	n, err := 0, error(nil)
	if blocking {
		n, err = q.q.Receive(h.emptyContext(q, it != nil), buf)
	} else {
		n, err = q.q.TryReceive(buf)
	}
	switch {
	case it == nil:
		h.checkNothing(q, blocking, err)
	case short:
		require.Equal(h, io.ErrShortBuffer, err)
		require.Equal(h, len(it.payload), n)
	default:
		require.NoError(h, err)
		require.Equal(h, string(it.payload), string(buf[:n]))
		require.Equal(h, Delivery{Position: it.at, Deliveries: it.deliveries()}, q.q.Last())
		require.Same(h, it, h.m.receive())
	}
}

// check compares everything that can be seen from outside.
func (h *harness) check() {
	s := h.r.Stats()
	want := h.m.want
	want.ProducerPosition, want.ConsumerPosition, want.Used = s.ProducerPosition, s.ConsumerPosition, s.Used
	want.Wakes, want.Sleeps, want.Recoveries = s.Wakes, s.Sleeps, s.Recoveries
	want.ProducersLive, want.ConsumersLive = uint64(len(h.producers)), uint64(len(h.consumers))
	require.Equal(h, want, s)
	require.Equal(h, h.m.next, s.ProducerPosition)
	if h.m.kind == SPSC {
		require.NoError(h, h.m.stepTo(s.ConsumerPosition))
	}
	least := h.m.used()
	require.GreaterOrEqual(h, uint64(s.Used), least)
	require.LessOrEqual(h, uint64(s.Used), least+h.leaseGaps())
	var got []string
	require.NoError(h, h.r.Peek(math.MaxInt, func(position uint64, deliveries int, payload []byte) bool {
		got = append(got, fmt.Sprint(position, deliveries, string(payload)))
		return true
	}))
	var list []string
	for _, it := range h.m.unreleased() {
		list = append(list, fmt.Sprint(it.at, it.deliveries(), string(it.payload)))
	}
	require.Equal(h, list, got)
}

// leaseGaps counts the free slots between the messages of leases.
func (h *harness) leaseGaps() (n uint64) {
	for _, q := range h.consumers {
		if len(q.held) > 0 {
			n += q.held[len(q.held)-1].hi - q.held[0].lo
		}
		for _, it := range q.held {
			n -= it.hi - it.lo
		}
	}
	return n
}

// drain empties the ring and checks that a message of MaxMessage bytes fits then.
func (h *harness) drain() {
	for _, p := range h.producers {
		if p.open != nil {
			require.NoError(h, p.token.Discard())
			h.m.discard(p.open)
			p.open = nil
		}
	}
	for _, q := range h.consumers {
		if len(q.held) > 0 {
			require.NoError(h, q.tokens[len(q.tokens)-1].Release())
			h.m.release(q.held)
			q.held = nil
		}
	}
	if len(h.producers) == 0 {
		h.newProducer()
	}
	if len(h.consumers) == 0 {
		h.newConsumer(false)
	}
	q := h.consumers[0]
	for it := h.m.receive(); it != nil; it = h.m.receive() {
		n, err := q.q.TryReceive(h.buf)
		require.NoError(h, err)
		require.Equal(h, string(it.payload), string(h.buf[:n]))
	}
	require.True(h, h.m.idle())
	_, err := q.q.TryReceive(h.buf)
	require.Equal(h, ErrEmpty, err)
	h.check()
	msg := h.payload(h.m.maxMessage())
	require.NoError(h, h.producers[0].p.TrySend(msg), "a drained ring takes %d bytes", len(msg))
	n, err := q.q.TryReceive(h.buf)
	require.NoError(h, err)
	require.Equal(h, msg, h.buf[:n])
	require.Zero(h, h.r.Stats().Used)
	require.NoError(h, h.r.Close())
}
