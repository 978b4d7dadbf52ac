package ring

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stressFor is how long each stress run lasts: MILLRACE_STRESS, as a duration, or half a second.
func stressFor(t *testing.T) time.Duration {
	if v := os.Getenv("MILLRACE_STRESS"); v != "" {
		d, err := time.ParseDuration(v)
		require.NoError(t, err)
		return d
	}
	if testing.Short() {
		return 50 * time.Millisecond
	}
	return 500 * time.Millisecond
}

// Many goroutines, each with handles of its own, use a ring of few slots on heap memory, where the race detector sees everything, in every way that the API
// has, and let handles be closed, and die, with and without open reservations and leases. Properties:
//   - every committed message is consumed exactly once, or counted as lost when it was held by a handle that ended under Drop; nothing else is consumed;
//   - the bytes are those that were sent;
//   - messages of one producer that come for the first time come to one consumer in the order in which they were sent;
//   - a message that was held before comes with a count above 1;
//   - claims that died are counted as skipped, and afterwards the ring is empty and takes a message of MaxMessage bytes;
//   - nobody waits for ever.
//
// Padding, full and empty rings, redeliveries and recoveries are reached.
func TestStress(t *testing.T) {
	for _, k := range []Kind{SPSC, MPMC} {
		for _, policy := range []DeathPolicy{Redeliver, Drop} {
			for _, slots := range []int{1, 2, 8, 64} {
				t.Run(fmt.Sprintf("%s/%s/%d", k, policy, slots), func(t *testing.T) {
					t.Parallel()
					seed := rand.Uint64()
					s := &stress{t: t, seed: seed, o: Options{Kind: k, Slots: slots, SlotSize: 24, OnConsumerDeath: policy, Participants: 64}}
					s.run()
				})
			}
		}
	}
}

type stress struct {
	t    *testing.T
	seed uint64
	o    Options
	r    *Ring
	stop atomic.Bool // producers: no more
	done atomic.Bool // all producers have ended

	mu       sync.Mutex
	sent     map[uint64]int // by number: bytes
	consumed map[uint64]int
	lost     map[uint64]bool
	skipped  uint64
	log      []string // the last operations
	errs     []string
}

func (s *stress) run() {
	s.r = newHeapAt(s.t, s.o, 1<<44-uint64(s.o.Slots))
	s.sent, s.consumed, s.lost = map[uint64]int{}, map[uint64]int{}, map[uint64]bool{}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	producers, consumers := 1, 1
	if s.o.Kind == MPMC {
		producers, consumers = 3, 3
	}
	var ps, qs sync.WaitGroup
	for i := range producers {
		ps.Add(1)
		go func() {
			defer ps.Done()
			p := &stressProducer{stress: s, ctx: ctx, rnd: rand.New(rand.NewPCG(s.seed, uint64(i))), next: uint64(i+1) << 40}
			p.run()
		}()
	}
	for i := range consumers {
		qs.Add(1)
		go func() {
			defer qs.Done()
			q := &stressConsumer{stress: s, ctx: ctx, rnd: rand.New(rand.NewPCG(s.seed, uint64(100+i))), buf: make([]byte, s.r.MaxMessage()), had: map[uint64]bool{}}
			q.run()
		}()
	}
	length := stressFor(s.t)
	time.Sleep(length)
	for began := time.Now(); !s.sawAll() && time.Since(began) < 20*length; { // on a busy machine it takes longer for everything to happen
		time.Sleep(length / 10)
	}
	s.stop.Store(true)
	ps.Wait()
	s.done.Store(true)
	qs.Wait()
	s.check()
}

func (s *stress) check() {
	t := s.t
	require.Empty(t, s.errs, "seed %d, %+v\n%s", s.seed, s.r.Stats(), strings.Join(s.log, "\n"))
	_, err := s.r.Recover(false)
	require.NoError(t, err)
	p, err := s.r.NewProducer()
	require.NoError(t, err)
	q, err := s.r.NewConsumer()
	require.NoError(t, err)
	buf := make([]byte, s.r.MaxMessage())
	_, err = q.TryReceive(buf)
	require.Equal(t, ErrEmpty, err)
	require.NoError(t, p.TrySend(buf))
	_, err = q.TryReceive(buf)
	require.NoError(t, err)
	st := s.r.Stats()
	require.Zero(t, st.Used, "seed %d, %+v", s.seed, st)
	for n := range s.sent {
		if times := s.consumed[n] + boolCount(s.lost[n]); times != 1 {
			t.Fatalf("message %#x came %d times; seed %d, %+v\n%s", n, times, s.seed, st, strings.Join(s.log, "\n"))
		}
	}
	require.Equal(t, len(s.sent), len(s.consumed)+len(s.lost), "seed %d: messages that nobody sent", s.seed)
	require.EqualValues(t, len(s.lost), st.Lost, "seed %d, %+v", s.seed, st)
	require.EqualValues(t, s.skipped, st.Skipped, "seed %d, %+v", s.seed, st)
	require.EqualValues(t, len(s.sent)+1, st.Sent, "seed %d", s.seed)
	require.True(t, s.sawAll(), "not everything happened: %+v", st)
	require.NoError(t, s.r.Close())
}

// sawAll says whether everything has happened in a run that can.
func (s *stress) sawAll() bool {
	st := s.r.Stats()
	return testing.Short() || s.o.Slots <= 2 || st.Padding != 0 && st.Sleeps != 0 && st.Redelivered != 0 && st.ProducersDied != 0 && st.ConsumersDied != 0
}

func boolCount(b bool) int {
	if b {
		return 1
	}
	return 0
}

// fail notes an error; the run goes on so that nobody waits for this goroutine.
func (s *stress) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs = append(s.errs, fmt.Sprintf(format, args...))
	s.stop.Store(true)
}

func (s *stress) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.log) > 60 {
		s.log = slices.Delete(s.log, 0, 20)
	}
	s.log = append(s.log, fmt.Sprintf(format, args...))
}

// die lets a handle end as if its process had been killed between two calls.
func (s *stress) die(h *handle) {
	if !s.r.forget(h) {
		s.fail("forget")
	}
	if err := h.lock.Close(); err != nil {
		s.fail("%v", err)
	}
}

func stressFill(n uint64, b []byte) {
	binary.LittleEndian.PutUint64(b, n)
	for i := 8; i < len(b); i++ {
		b[i] = byte(n + uint64(i))
	}
}

type stressProducer struct {
	*stress
	ctx  context.Context
	rnd  *rand.Rand
	p    *Producer
	next uint64
}

// message makes the next one, of 8 bytes at least.
func (p *stressProducer) message() []byte {
	n := 8 + p.rnd.IntN(p.r.MaxMessage()-7)
	if p.rnd.IntN(2) == 0 {
		n = 8 + p.rnd.IntN(p.o.SlotSize-7)
	}
	p.next++
	b := make([]byte, n)
	stressFill(p.next, b)
	return b
}

func (p *stressProducer) commit(msgs ...[]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range msgs {
		p.sent[binary.LittleEndian.Uint64(m)] = len(m)
	}
}

func (p *stressProducer) run() {
	defer func() {
		if p.p == nil {
			return
		}
		if err := p.p.Close(); err != nil {
			p.fail("close: %v", err)
		}
	}()
	for !p.stop.Load() {
		if p.p == nil {
			h, err := p.r.NewProducer(WaitForConsumers())
			if err != nil {
				p.fail("new producer: %v", err)
				return
			}
			p.p = h
		}
		if err := p.step(); err != nil {
			p.fail("producer: %v", err)
			return
		}
		if p.rnd.IntN(4) == 0 {
			runtime.Gosched()
		}
	}
}

func (p *stressProducer) step() error {
	switch op := p.rnd.IntN(40); {
	case op < 10:
		m := p.message()
		p.commit(m) // before the call: a consumer may have it before Send returns
		return p.p.Send(p.ctx, m)
	case op < 16:
		m := p.message()
		for p.p.TrySend(m) == ErrFull {
			runtime.Gosched()
			if p.ctx.Err() != nil {
				return p.ctx.Err()
			}
		}
		p.commit(m)
		return nil
	case op < 24:
		var msgs [][]byte
		for range 1 + p.rnd.IntN(2*p.o.Slots) {
			m := p.message()
			if p.rnd.IntN(3) > 0 && len(msgs) > 0 {
				m = make([]byte, len(msgs[0]))
				stressFill(p.next, m)
			}
			msgs = append(msgs, m)
		}
		if op%2 == 0 {
			n, err := p.p.TrySendBatch(msgs)
			p.commit(msgs[:n]...)
			if (n < len(msgs)) != (err == ErrFull) || err != nil && err != ErrFull {
				return fmt.Errorf("TrySendBatch of %d: %d, %w", len(msgs), n, err)
			}
			return nil
		}
		n, err := p.p.SendBatch(p.ctx, msgs)
		p.commit(msgs[:n]...)
		if err == nil && n != len(msgs) {
			return fmt.Errorf("SendBatch of %d: %d", len(msgs), n)
		}
		return err
	case op < 36:
		m := p.message()
		res, err := p.p.Reserve(p.ctx, len(m))
		if err != nil {
			return err
		}
		copy(res.Bytes(), m)
		switch op % 4 {
		case 0:
			return res.Discard()
		case 1:
			m = m[:8+p.rnd.IntN(len(m)-7)]
			p.commit(m)
			return res.CommitN(len(m))
		case 2:
			if op == 34 {
				p.note("producer %d dies with a claim", p.p.id)
				p.mu.Lock()
				p.skipped++
				p.mu.Unlock()
				p.die(&p.p.handle)
				p.p = nil
				return nil
			}
		}
		p.commit(m)
		return res.Commit()
	case op < 38:
		err := p.p.Close()
		p.p = nil
		return err
	default:
		p.die(&p.p.handle)
		p.p = nil
		return nil
	}
}

type stressConsumer struct {
	*stress
	ctx  context.Context
	rnd  *rand.Rand
	q    *Consumer
	buf  []byte
	had  map[uint64]bool // messages that this consumer held and did not release
	last [8]uint64       // by producer: the last message that came for the first time
}

func (q *stressConsumer) run() {
	for {
		if q.q == nil {
			h, err := q.r.NewConsumer()
			if err != nil {
				q.fail("new consumer: %v", err)
				return
			}
			q.q = h
		}
		last := q.done.Load()
		err := q.step()
		switch {
		case err == io.EOF && last:
			if err := q.q.Close(); err != nil {
				q.fail("close: %v", err)
			}
			return
		case err == io.EOF:
			runtime.Gosched()
		case err != nil:
			q.fail("consumer: %v", err)
			return
		}
		if q.rnd.IntN(4) == 0 {
			runtime.Gosched()
		}
	}
}

// look checks one delivery and returns its number.
func (q *stressConsumer) look(b []byte, count int) uint64 {
	if len(b) < 8 {
		q.fail("message of %d bytes", len(b))
		return 0
	}
	n := binary.LittleEndian.Uint64(b)
	want := make([]byte, len(b))
	stressFill(n, want)
	q.mu.Lock()
	if size, ok := q.sent[n]; ok && size != len(b) {
		q.errs = append(q.errs, fmt.Sprintf("message %#x has %d bytes, not %d", n, len(b), size))
	}
	q.mu.Unlock()
	switch from := n >> 40; {
	case string(want) != string(b):
		q.fail("torn message %#x", n)
	case count == 1 && q.had[n]:
		q.fail("message %#x comes with count 1 again", n)
	case count == 1 && n <= q.last[from]:
		q.fail("message %#x after %#x", n, q.last[from])
	case count == 1:
		q.last[from] = n
	}
	return n
}

func (q *stressConsumer) consume(ns ...uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, n := range ns {
		q.consumed[n]++
	}
}

// leave notes what becomes of messages that the handle holds when it ends.
func (q *stressConsumer) leave(ns []uint64) {
	for _, n := range ns {
		q.had[n] = true
	}
	if q.o.OnConsumerDeath == Drop {
		q.mu.Lock()
		defer q.mu.Unlock()
		for _, n := range ns {
			q.lost[n] = true
		}
	}
}

func (q *stressConsumer) step() error {
	op := q.rnd.IntN(40)
	if op < 16 {
		var n int
		var err error
		if op%4 == 0 {
			if n, err = q.q.TryReceive(q.buf); err == ErrEmpty {
				return nil
			}
		} else {
			n, err = q.q.Receive(q.ctx, q.buf)
		}
		if err != nil {
			return err
		}
		q.consume(q.look(q.buf[:n], q.q.Last().Deliveries))
		return nil
	}
	b, err := q.q.NextBatch(q.ctx, 1+q.rnd.IntN(6))
	if err != nil {
		return err
	}
	var held []Message
	var ns []uint64
	for i := range b.Len() {
		held = append(held, b.At(i))
		ns = append(ns, q.look(held[i].Bytes(), held[i].Deliveries()))
	}
	if q.rnd.IntN(2) == 0 {
		k := 1 + q.rnd.IntN(len(held))
		if err := held[k-1].Release(); err != nil {
			return err
		}
		q.consume(ns[:k]...)
		held, ns = held[k:], ns[k:]
	}
	switch {
	case op < 32 && len(held) > 0:
		err = b.Release()
		q.consume(ns...)
	case op < 36 && len(held) > 0:
		for _, n := range ns {
			q.had[n] = true
		}
		err = held[0].Return()
	case op == 36 || op == 37:
		q.leave(ns)
		q.note("consumer %d closes with %x", q.q.id, ns)
		err = q.q.Close()
		q.q = nil
	case op > 37:
		q.leave(ns)
		q.note("consumer %d dies with %x", q.q.id, ns)
		q.die(&q.q.handle)
		q.q = nil
	}
	return err
}
