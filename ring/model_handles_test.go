package ring

import (
	"io"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The steps of TestModel that concern leases, misuse and the lives of handles.

func (h *harness) next() {
	q := h.consumer(false)
	blocking := rapid.Bool().Draw(h.T, "blocking")
	next := h.m.look(1)
	ready := len(next) > 0
	var msg Message
	var err error
	if blocking {
		msg, err = q.q.Next(h.emptyContext(q, ready))
	} else {
		msg, err = q.q.TryNext()
	}
	if !ready {
		h.checkNothing(q, blocking, err)
		return
	}
	require.NoError(h, err)
	h.m.lease(next)
	q.held, q.tokens, q.batched = next, []Message{msg}, false
	h.checkTokens(q)
}

func (h *harness) nextBatch() {
	q := h.consumer(false)
	blocking := rapid.Bool().Draw(h.T, "blocking")
	limit := rapid.IntRange(1, int(h.m.slots)+1).Draw(h.T, "limit")
	next := h.m.look(limit)
	ready := len(next) > 0
	var b Batch
	var err error
	if blocking {
		b, err = q.q.NextBatch(h.emptyContext(q, ready), limit)
	} else {
		b, err = q.q.TryNextBatch(limit)
	}
	if !ready {
		h.checkNothing(q, blocking, err)
		return
	}
	require.NoError(h, err)
	require.NotZero(h, b.Len())
	require.LessOrEqual(h, b.Len(), len(next))
	if h.m.kind == SPSC {
		next = next[:b.Len()] // a batch ends where a run of equal messages begins or ends
	}
	h.m.lease(next)
	q.held, q.tokens, q.batch, q.batched = next, nil, b, true
	require.Len(h, next, b.Len())
	for i := range b.Len() {
		q.tokens = append(q.tokens, b.At(i))
	}
	require.Nil(h, b.At(b.Len()).Bytes())
	require.Nil(h, b.At(-1).Bytes())
	h.checkTokens(q)
}

// checkTokens compares the tokens of a new lease with what the model leased.
func (h *harness) checkTokens(q *modelConsumer) {
	for i, it := range q.held {
		m := q.tokens[i]
		require.Equal(h, string(it.payload), string(m.Bytes()))
		require.Equal(h, it.at, m.Position())
		require.Equal(h, it.deliveries(), m.Deliveries())
		require.Equal(h, it.r > 0, m.Redelivered())
	}
}

// dropTokens forgets the first n tokens of a lease, and remembers them as stale.
func (q *modelConsumer) dropTokens(n int) {
	q.stale = append(q.stale, q.tokens[:n]...)
	q.held, q.tokens = q.held[n:], q.tokens[n:]
}

func (h *harness) release() {
	q := h.consumer(true)
	n := rapid.IntRange(1, len(q.held)).Draw(h.T, "messages")
	if q.batched && rapid.IntRange(0, 3).Draw(h.T, "whole") == 0 {
		n = len(q.held)
		require.NoError(h, q.batch.Release())
		require.Equal(h, ErrMisuse, q.batch.Release())
	} else {
		require.NoError(h, q.tokens[n-1].Release())
	}
	h.m.release(q.held[:n])
	q.dropTokens(n)
}

func (h *harness) giveBack() {
	q := h.consumer(true)
	if len(q.tokens) > 1 {
		require.Equal(h, ErrMisuse, q.tokens[1].Return(), "the ones before are not released")
	}
	require.NoError(h, q.tokens[0].Return())
	h.m.giveBack(q.held, false)
	q.dropTokens(len(q.tokens))
}

// misuse makes calls that must change nothing.
func (h *harness) misuse() {
	for _, p := range h.producers {
		if len(p.stale) > 0 {
			r := pick(h.T, p.stale, "stale")
			require.Equal(h, ErrMisuse, r.Commit())
			require.Equal(h, ErrMisuse, r.CommitN(0))
			require.Equal(h, ErrMisuse, r.Discard())
			require.Nil(h, r.Bytes())
		}
		tooLarge := make([]byte, h.m.maxMessage()+1)
		want := &SizeError{Got: len(tooLarge), Max: h.m.maxMessage()}
		if p.open == nil {
			require.Equal(h, want, p.p.TrySend(tooLarge))
			require.Equal(h, want, p.p.Send(ended, tooLarge))
			_, err := p.p.TryReserve(len(tooLarge))
			require.Equal(h, want, err)
			_, err = p.p.TryReserve(-1)
			require.Equal(h, &SizeError{Got: -1, Max: h.m.maxMessage()}, err)
			n, err := p.p.TrySendBatch([][]byte{{}, tooLarge})
			require.Equal(h, want, err)
			require.Zero(h, n)
			continue
		}
		require.Equal(h, ErrMisuse, p.p.TrySend(nil))
		require.Equal(h, ErrMisuse, p.p.Send(ctxb, nil))
		_, err := p.p.TryReserve(0)
		require.Equal(h, ErrMisuse, err)
		_, err = p.p.Reserve(ctxb, 0)
		require.Equal(h, ErrMisuse, err)
		_, err = p.p.SendBatch(ctxb, [][]byte{{}})
		require.Equal(h, ErrMisuse, err)
	}
	for _, q := range h.consumers {
		if len(q.stale) > 0 {
			m := pick(h.T, q.stale, "stale")
			require.Equal(h, ErrMisuse, m.Release())
			require.Equal(h, ErrMisuse, m.Return())
		}
		if len(q.held) == 0 {
			_, err := q.q.TryNextBatch(0)
			require.Equal(h, ErrMisuse, err)
			continue
		}
		_, err := q.q.TryReceive(h.buf)
		require.Equal(h, ErrMisuse, err)
		_, err = q.q.Receive(ctxb, h.buf)
		require.Equal(h, ErrMisuse, err)
		_, err = q.q.Next(ctxb)
		require.Equal(h, ErrMisuse, err)
		_, err = q.q.TryNextBatch(3)
		require.Equal(h, ErrMisuse, err)
	}
}

func (h *harness) newProducer() {
	p, err := h.r.NewProducer()
	require.NoError(h, err)
	h.producers = append(h.producers, &modelProducer{p: p})
	h.m.want.ProducersEver++
}

func (h *harness) newConsumer(follow bool) {
	var opts []ConsumerOption
	if follow {
		opts = append(opts, Follow())
	}
	q, err := h.r.NewConsumer(opts...)
	require.NoError(h, err)
	h.consumers = append(h.consumers, &modelConsumer{q: q, follow: follow})
	h.m.want.ConsumersEver++
	h.m.read = h.m.freed // SPSC
}

// joinProducer registers one more, or checks that the role is taken.
func (h *harness) joinProducer() {
	if h.m.kind == SPSC && len(h.producers) > 0 {
		_, err := h.r.NewProducer()
		require.ErrorIs(h, err, ErrRoleTaken)
		return
	}
	if len(h.producers) >= 3 {
		h.Skip("enough")
	}
	h.newProducer()
}

func (h *harness) joinConsumer() {
	if h.m.kind == SPSC && len(h.consumers) > 0 {
		_, err := h.r.NewConsumer()
		require.ErrorIs(h, err, ErrRoleTaken)
		return
	}
	if len(h.consumers) >= 3 {
		h.Skip("enough")
	}
	h.newConsumer(rapid.Bool().Draw(h.T, "follow"))
}

func without[T comparable](list []T, x T) (rest []T) {
	for _, y := range list {
		if y != x {
			rest = append(rest, y)
		}
	}
	return rest
}

// pickProducer takes one of the producers off the list; there is always one, because whoever draws nothing else than closing them would find no step to do.
func (h *harness) pickProducer() *modelProducer {
	if len(h.producers) == 0 {
		h.newProducer()
	}
	p := pick(h.T, h.producers, "producer")
	h.producers = without(h.producers, p)
	return p
}

func (h *harness) pickConsumer() *modelConsumer {
	if len(h.consumers) == 0 {
		h.newConsumer(false)
	}
	q := pick(h.T, h.consumers, "consumer")
	h.consumers = without(h.consumers, q)
	return q
}

func (h *harness) closeProducer() {
	p := h.pickProducer()
	require.NoError(h, p.p.Close())
	require.NoError(h, p.p.Close())
	if p.open != nil {
		require.Equal(h, ErrClosed, p.token.Commit())
		h.m.discard(p.open)
	}
	require.Equal(h, ErrClosed, p.p.TrySend(nil))
}

func (h *harness) closeConsumer() {
	q := h.pickConsumer()
	require.NoError(h, q.q.Close())
	require.NoError(h, q.q.Close())
	if len(q.held) > 0 {
		require.Equal(h, ErrClosed, q.tokens[0].Release())
		h.m.giveBack(q.held, true)
	}
	_, err := q.q.TryNext()
	require.Equal(h, ErrClosed, err)
}

// die lets a handle's process die between two calls: its lock is gone, its registration is not.
func (h *harness) die(x *handle) {
	require.True(h, h.r.forget(x))
	require.NoError(h, x.lock.Close())
}

// settle makes somebody notice: whoever calls Recover, or a successor, which registers.
func (h *harness) settle(successor func()) {
	if rapid.Bool().Draw(h.T, "successor") {
		successor()
		if h.m.kind == SPSC {
			return
		}
	}
	_, err := h.r.Recover(false)
	require.NoError(h, err)
}

func (h *harness) killProducer() {
	p := h.pickProducer()
	h.die(&p.p.handle)
	h.m.want.ProducersDied++
	if p.open != nil {
		h.m.abandon(p.open)
	}
	h.settle(h.newProducer)
}

func (h *harness) killConsumer() {
	q := h.pickConsumer()
	h.die(&q.q.handle)
	h.m.want.ConsumersDied++
	h.m.giveBack(q.held, true)
	h.settle(func() { h.newConsumer(false) })
	h.m.read = h.m.freed // SPSC: whoever comes next begins there
}

// receiveBatch takes up to some number of messages by copying. Properties: at least one when one is ready, in the order of the ring, whole; a buffer that is
// too small ends the batch and leaves the message.
func (h *harness) receiveBatch() {
	q := h.consumer(false)
	blocking := rapid.Bool().Draw(h.T, "blocking")
	bufs := make([][]byte, rapid.IntRange(1, 6).Draw(h.T, "buffers"))
	small := rapid.IntRange(-8, len(bufs)-1).Draw(h.T, "small")
	for i := range bufs {
		bufs[i] = make([]byte, 0, len(h.buf))
		if i == small {
			bufs[i] = nil
		}
	}
	next := h.m.look(1)
	n, err := 0, error(nil)
	if blocking {
		n, err = q.q.ReceiveBatch(h.emptyContext(q, len(next) > 0), bufs)
	} else {
		n, err = q.q.TryReceiveBatch(bufs)
	}
	if len(next) == 0 {
		require.Zero(h, n)
		h.checkNothing(q, blocking, err)
		return
	}
	if small == 0 && len(next[0].payload) > 0 {
		require.Equal(h, io.ErrShortBuffer, err)
		require.Zero(h, n)
		return
	}
	require.NoError(h, err)
	require.Positive(h, n)
	require.LessOrEqual(h, n, len(bufs))
	for i := range n {
		require.NotEmpty(h, h.m.look(1))
		it := h.m.receive()
		require.Equal(h, string(it.payload), string(bufs[i]))
		if i == n-1 {
			require.Equal(h, Delivery{Position: it.at, Deliveries: it.deliveries()}, q.q.Last())
		}
	}
}
