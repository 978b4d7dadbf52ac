package ring

import (
	"context"
	"io"
	"iter"
	"time"
	"unsafe"
)

// errShortBuffer is io.ErrShortBuffer; a name of its own keeps the hot files free of imports.
var errShortBuffer = io.ErrShortBuffer

// A Consumer receives messages from a ring. It is used by one goroutine at a time; misuse is detected. Several may exist per process.
type Consumer struct {
	handle
	pos  uint64 // own candidate: every position below it has been taken by somebody
	seen uint64 // returns when the last scan for given-back messages found none

	given     uint64 // SPSC: space given back
	runEnd    uint64 // SPSC: end of the run that pos is in, or below pos
	runLength uint64 // SPSC: bytes of each message of that run

	lease      lease
	one        one         // what the fast path leases, apart from the lease
	into       destination // of ReceiveBatch: where the leased messages will be copied
	odd        uint64      // bytes of the message that did not fit there
	generation uint64
	last       Delivery
	least      uint64 // bytes that a message must have to be received by copying; of a typed consumer, the size of a value
	fast       uint64 // messages of least bytes, and of fewer than so many more, may take the fast path; 0: none
	words      uint64 // core.words, of messages that may go the shorter way,
	open       uint64 // and what it is when nobody waits

	dry     bool   // a Try call found nothing, and no message has come by the fast path since
	waited  bool   // SPSC: the last message was waited for, of those that take the fast path, or expected to be an answer
	slipped uint64 // where it was looked how far the producers are: the last slip
	dries   uint64 // times that there was nothing since
	gap     int    // pauses between two looks of a watch,
	tight   int    // of which so many have none,
	slips   int    // and of a slip
	rivals  int    // MPMC: spins for which other consumers are expected to be after the same messages

	answer, answerMost int // SPSC: how long to hold off the first look for an answer, in turns of atomicx.Delay, and at most

	follow    bool
	grace     time.Duration
	drained   time.Time     // when Grace began to count
	held      time.Duration // the last sleep at the end of a stream of which somebody holds a message
	drainedAt uint32        // roster then
	polled    error         // what the last look of a Try call came to: ErrEmpty or errEOF

	pending receiving // what a blocked call is trying to do
}

// one is a lease of one message of one slot, or none.
type one struct{ p, word uint64 }

// receiving is the argument of a blocking call, so that trying again needs no closure.
type receiving struct {
	buf   []byte
	bufs  [][]byte
	limit int // 0: copy into buf, or bufs; otherwise lease up to limit messages
	typed typedBuffer
}

// typedBuffer receives up to count values of size bytes each.
type typedBuffer struct {
	base  unsafe.Pointer
	size  uint64
	count int
}

// Delivery tells which message a copying receive got.
type Delivery struct {
	Position   uint64
	Deliveries int // 1, 2, …; saturates at 49
}

// TryReceive copies the next message into buf and releases it, or returns ErrEmpty, or io.EOF at the end of the stream. Blocks: never. See Receive.
func (q *Consumer) TryReceive(buf []byte) (int, error) { return q.Receive(noWait, buf) }

// receiveSlow is Receive for every case.
func (q *Consumer) receiveSlow(ctx context.Context, buf []byte) (int, error) {
	if !q.gate.enter(gateOpen) {
		return 0, q.refused()
	}
	n, err := q.tryReceive(buf)
	if err == ErrEmpty {
		if !q.begin() {
			return 0, q.refused()
		}
		n, err = q.await(ctx, receiving{buf: buf})
		q.gate.finish()
	}
	return q.left(n, err)
}

// tryReceive is one attempt. ErrEmpty left a note of what stands in the way in q.blocked.
func (q *Consumer) tryReceive(buf []byte) (int, error) {
	if q.c.kind == SPSC {
		return q.spscReceive(buf)
	}
	return q.mpmcReceive(buf)
}

// expect sets how many bytes a message must have at least, and what follows from it.
func (q *Consumer) expect(least uint64) {
	if q.least, q.fast, q.open = least, 0, 0; q.plain() && least <= q.c.slotSize {
		q.fast = q.c.slotSize + 1 - least
		if least <= wordSize && q.c.ahead == 0 {
			q.open = q.c.words()
		}
	}
	q.words = q.open
}

// accepts says whether a message of n bytes may be copied into buf. A typed consumer takes values only, and its buf is one.
func (q *Consumer) accepts(n uint64, buf []byte) bool { return q.least <= n && n <= uint64(len(buf)) }

// TryNext leases the next message, or returns ErrEmpty, or io.EOF. Blocks: never. See Next.
func (q *Consumer) TryNext() (Message, error) { return q.Next(noWait) }

// nextSlow is Next for every case.
func (q *Consumer) nextSlow(ctx context.Context) (Message, error) {
	m, _, err := q.take(ctx, 1)
	return m, err
}

// NextBatch leases 1 to limit messages, in ascending positions; messages that were given back come first, in a batch of their own.
//
// Blocks and ends as Next does; it never waits for a second message. A limit below 1 is ErrMisuse.
func (q *Consumer) NextBatch(ctx context.Context, limit int) (Batch, error) {
	_, b, err := q.take(ctx, limit)
	return b, err
}

// TryNextBatch leases 1 to limit messages, or returns ErrEmpty, or io.EOF. Blocks: never. See NextBatch.
func (q *Consumer) TryNextBatch(limit int) (Batch, error) {
	_, b, err := q.take(noWait, limit)
	return b, err
}

// noWait stands for the context of a call that does not wait.
var noWait context.Context

// take leases up to limit messages, and returns the tokens for the first and for all of them.
func (q *Consumer) take(ctx context.Context, limit int) (m Message, b Batch, err error) {
	if !q.gate.enter(gateOpen) {
		return m, b, q.refused()
	}
	if limit < 1 {
		q.gate.leave(gateOpen)
		return m, b, ErrMisuse
	}
	if !q.begin() {
		return m, b, q.refused()
	}
	limit = q.leaseRoom(limit)
	q.generation++
	q.lease.generation = q.generation
	if err = q.tryTake(limit); err == ErrEmpty {
		_, err = q.await(ctx, receiving{limit: limit})
	}
	if err == nil {
		m, b = q.message(0), q.batch()
	}
	q.gate.finish()
	if err != nil || q.c.gone() {
		return Message{}, Batch{}, q.leave(err)
	}
	q.expose()
	q.gate.leave(gateHeld)
	return m, b, nil
}

// begin enters the section of the gate. When it is false the call is misuse, and the gate has been left.
func (q *Consumer) begin() bool {
	if !q.gate.begin() {
		q.overlap.Store(true) // order: heap
		q.gate.leave(gateOpen)
		return false
	}
	if q.lease.open() || q.holdsOne() { // a call that overlapped the one before left the gate as if nothing were held
		q.gate.finish()
		q.gate.leave(gateHeld)
		return false
	}
	return true
}

// leaseRoom makes room for leases of limit messages, and returns how many one may have at most.
func (q *Consumer) leaseRoom(limit int) int {
	if limit = min(limit, int(q.c.slots)); cap(q.lease.items) < limit {
		q.lease.items = make([]item, 0, limit)
	}
	return limit
}

func (q *Consumer) tryTake(limit int) error {
	if q.c.kind == SPSC {
		return q.spscLease(limit)
	}
	return q.mpmcLease(limit)
}

// All returns an iterator over the messages until the end of the stream. Each message is released after its step, also when the body
// breaks off; a body that released it already is fine; a body that panics keeps the lease. An error other than io.EOF is yielded once, and ends it.
func (q *Consumer) All(ctx context.Context) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for {
			m, err := q.Next(ctx)
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(Message{}, err)
				return
			}
			more := yield(m, nil)
			if q.leased(m) {
				if err := m.Release(); err != nil {
					if more {
						yield(Message{}, err)
					}
					return
				}
			}
			if !more {
				return
			}
		}
	}
}

// Last tells which message the last successful Receive or TryReceive on this handle got.
func (q *Consumer) Last() Delivery { return q.last }

// message makes the token for message i of the open lease.
func (q *Consumer) message(i int) Message {
	it := q.lease.at(i)
	return Message{q, it.data, it.p, it.word}
}

// batch makes the token for the open lease.
func (q *Consumer) batch() Batch {
	l := &q.lease
	b := Batch{q, unsafe.Pointer(&l.run), l.cell, l.generation<<32 | uint64(l.count)}
	if !l.isRun {
		b.items, b.cell = unsafe.Pointer(unsafe.SliceData(l.items)), 0
	}
	return b
}

// Close ends the registration. An open lease is given back as if the consumer had died, a blocked call returns ErrClosed.
//
// Blocks: until a running call on the handle has left, which is short; 50 ms more when calls were seen to overlap. May come from any goroutine; idempotent.
// Failure: ErrMisuse when a call does not leave for ten seconds, because it has panicked; then the whole Ring is cut off in this process.
func (q *Consumer) Close() error {
	return q.close(func(was uint32) {
		if was != gateHeld && (q.spsc || was == gateBroken) {
			return
		}
		if q.lease.open() {
			q.giveBackLease(true)
		}
		if q.holdsOne() {
			q.leaseOne(q.one, nil)
			q.giveBackLease(true)
		}
	})
}

func (q *Consumer) role() Role { return ConsumerRole }

// attempt tries the pending call once more.
func (q *Consumer) attempt() (int, error) {
	switch {
	case q.pending.limit > 0:
		return 0, q.tryTake(q.pending.limit)
	case q.pending.bufs != nil:
		return q.tryReceiveBatch(q.pending.bufs)
	case q.pending.typed.base != nil:
		return q.tryTyped(q.pending.typed)
	}
	return q.tryReceive(q.pending.buf)
}

// A Message is a leased message. It is a small value; copies stand for the same lease.
type Message struct {
	q        *Consumer
	data     unsafe.Pointer
	position uint64
	word     uint64 // as in item
}

// Bytes returns the payload. It aliases the ring and is dead after Release, Return or Close.
func (m Message) Bytes() []byte {
	if m.q == nil || !m.q.current(m.word) {
		return nil
	}
	return view(m.data, m.word>>lengthShift)
}

// Position returns the message's position: its place in the order of the ring.
func (m Message) Position() uint64 { return m.position }

// Deliveries returns how often the message has been handed to a consumer, this time included: 1, 2, …; it saturates at 49. 0 for the zero Message.
func (m Message) Deliveries() int {
	if m.q == nil {
		return 0
	}
	return item{word: m.word}.deliveries()
}

// Redelivered says whether some other delivery may have been seen before: Deliveries is above 1.
func (m Message) Redelivered() bool { return m.Deliveries() > 1 }

// Return gives the message back unprocessed: it is delivered again to somebody, with a higher count, whatever the ring's policy for deaths is.
// For a message of a Batch, the ones before it must have been released, and what the batch holds behind it is given back too.
func (m Message) Return() error { return m.q.end(endOf{message: m, back: true}) }

// A Batch is a lease of several messages. It is a small value; copies stand for the same lease.
type Batch struct { // four words, so that it can be in registers
	q     *Consumer
	items unsafe.Pointer // to the item of the first message; of a run, to that of all
	cell  uint64         // of a run: bytes from one payload to the next; otherwise 0
	token uint64         // generation << 32 | number of messages
}

// Len returns how many messages the batch was leased with.
func (b Batch) Len() int { return int(uint32(b.token)) }

// At returns message i, 0 ≤ i < Len. Out of range, or after the batch was released, it is the zero Message, whose methods are harmless.
func (b Batch) At(i int) Message { // small enough to be inlined: it is called for every message
	if uint64(i) >= b.token&(1<<32-1) || uint32(b.token>>32) != uint32(b.q.generation) {
		return Message{}
	}
	if b.cell != 0 {
		it := (*item)(b.items)
		return Message{b.q, unsafe.Add(it.data, uint64(i)*b.cell), it.p + uint64(i), it.word}
	}
	it := (*item)(unsafe.Add(b.items, uint64(i)*itemSize))
	return Message{b.q, it.data, it.p, it.word}
}

// Release releases what is left of the batch.
func (b Batch) Release() error { return b.q.end(endOf{generation: b.token >> 32}) }
