//go:build !race && !invariants

package ring

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// unsee makes a gate, and the note of what is held, what they were before.
func unsee(g *gate, what *uint64) {
	g.leave(gateOpen)
	*what = none
}

// Two calls that a plain gate could not keep apart, step by step. Properties: the reservation that the handle knows of is as good as ever; the other one is turned
// away, and its claim stands in nobody's way.
func TestOverlappingReservations(t *testing.T) {
	for _, size := range []int{8, 40} { // one slot, and three
		r := newHeapAt(t, Options{Kind: MPMC, Slots: 8, SlotSize: 16}, 6)
		p, err := r.NewProducer()
		require.NoError(t, err)
		q, err := r.NewConsumer()
		require.NoError(t, err)
		buf := make([]byte, r.MaxMessage())

		first, err := p.TryReserve(size)
		require.NoError(t, err)
		unsee(&p.gate, &p.resv.n) // the other goroutine looked before
		second, err := p.TryReserve(8)
		require.NoError(t, err)
		copy(second.Bytes(), "second!!")
		require.Nil(t, first.Bytes())
		require.Equal(t, ErrMisuse, first.Commit())
		require.Equal(t, ErrMisuse, first.Discard())
		require.NoError(t, second.Commit())
		n, err := q.TryReceive(buf)
		require.NoError(t, err)
		require.Equal(t, "second!!", string(buf[:n]))

		third, err := p.TryReserve(8)
		require.NoError(t, err)
		copy(third.Bytes(), "third!!!")
		p.gate.leave(gateOpen) // a send of the other goroutine has come to its end
		require.NoError(t, third.Commit())
		n, err = q.TryReceive(buf)
		require.NoError(t, err)
		require.Equal(t, "third!!!", string(buf[:n]))
		require.Equal(t, ErrMisuse, third.Commit())
		require.NoError(t, p.TrySend([]byte("fourth")))
		require.EqualValues(t, 1, r.Stats().Discarded)
		require.Equal(t, 1, r.Stats().Used)
	}
}

// The same when the second goroutine has moved the generation and left the reservation of the first one noted: neither token is current.
func TestOverlappingReservationsNotedLate(t *testing.T) {
	r := newHeapAt(t, Options{Kind: MPMC, Slots: 8, SlotSize: 16}, 6)
	p, q := pair(t, r)
	first, err := p.TryReserve(8)
	require.NoError(t, err)
	noted := p.resv
	unsee(&p.gate, &p.resv.n) // the other goroutine looked before
	second, err := p.TryReserve(40)
	require.NoError(t, err)
	p.resv = noted

	require.Equal(t, ErrMisuse, first.Commit())
	require.Equal(t, ErrMisuse, second.Commit())
	require.NoError(t, p.TrySend([]byte("third")), "the handle is in order")
	buf := make([]byte, r.MaxMessage())
	n, err := q.TryReceive(buf)
	require.NoError(t, err)
	require.Equal(t, "third", string(buf[:n]))
	require.Zero(t, r.Stats().Used)
	require.EqualValues(t, 2, r.Stats().Discarded)
}

// A claim ends also when a call of another goroutine is inside. Properties: it is waited for, and the message committed; when it does not leave, because it
// is blocked, the claim is given up, and nobody has to wait for it.
func TestCommitBesideAnotherCall(t *testing.T) {
	r := newHeapAt(t, Options{Kind: MPMC, Slots: 8, SlotSize: 16}, 6)
	p, q := pair(t, r)
	buf := make([]byte, r.MaxMessage())

	res, err := p.TryReserve(5)
	require.NoError(t, err)
	copy(res.Bytes(), "first")
	p.gate.leave(gateInside)
	committed := make(chan error)
	go func() { committed <- res.Commit() }()
	time.Sleep(time.Millisecond)
	p.gate.leave(gateOpen)
	require.NoError(t, <-committed)
	n, err := q.TryReceive(buf)
	require.NoError(t, err)
	require.Equal(t, "first", string(buf[:n]))

	res, err = p.TryReserve(40)
	require.NoError(t, err)
	p.gate.leave(gateInside)
	require.True(t, p.gate.begin(), "the call that is inside waits")
	require.Equal(t, ErrMisuse, res.Commit())
	p.gate.finish()
	p.gate.leave(gateOpen)
	require.NoError(t, p.TrySend([]byte("second")))
	n, err = q.TryReceive(buf)
	require.NoError(t, err)
	require.Equal(t, "second", string(buf[:n]))
	require.Zero(t, r.Stats().Used)
	require.NoError(t, p.Close())
}

// Two leases at once, of calls that a plain gate could not keep apart. Properties: each token ends its own lease, whichever comes first, and a message that is given back
// is there for others; a second time each is misuse; what nobody has ended is given back by Close.
func TestOverlappingLeases(t *testing.T) {
	lease := map[string]func(q *Consumer) (func() error, error){
		"message": func(q *Consumer) (func() error, error) { m, err := q.TryNext(); return m.Release, err },
		"batch":   func(q *Consumer) (func() error, error) { b, err := q.TryNextBatch(2); return b.Release, err },
		"back":    func(q *Consumer) (func() error, error) { m, err := q.TryNext(); return m.Return, err },
	}
	for a, one := range lease {
		for b, other := range lease {
			if b == "batch" { // it would be turned away
				continue
			}
			for order := range 4 {
				r := newHeapAt(t, Options{Kind: MPMC, Slots: 8, SlotSize: 16}, 6)
				p, q := pair(t, r)
				require.NoError(t, p.TrySend(nil))
				_, err := q.TryReceive(nil) // from here on the consumer knows where it is, and takes the fast path
				require.NoError(t, err)
				for range 5 {
					require.NoError(t, p.TrySend([]byte("message")))
				}
				first, err := one(q)
				require.NoError(t, err)
				unsee(&q.gate, &q.one.word) // the other goroutine looked before
				second, err := other(q)
				require.NoError(t, err, "%s %s %d", a, b, order)
				if order&1 != 0 {
					first, second = second, first
				}
				require.NoError(t, first(), "%s %s %d", a, b, order)
				require.Equal(t, ErrMisuse, first())
				if order < 2 {
					require.NoError(t, second(), "%s %s %d", a, b, order)
					require.Equal(t, ErrMisuse, second())
				}
				buf := make([]byte, 16)
				if order < 2 {
					_, err = q.TryReceive(buf)
					require.NoError(t, err, "the handle is in order")
				} else {
					q.overlap.Store(true) // some call was turned away
				}
				require.NoError(t, q.Close())
				q, err = r.NewConsumer()
				require.NoError(t, err)
				for err == nil {
					_, err = q.TryReceive(buf)
				}
				require.Equal(t, ErrEmpty, err)
				require.Zero(t, r.Stats().Used, "%s %s %d", a, b, order)
			}
		}
	}
}

// While a lease is open no batch is taken, however the gate was left.
func TestSecondBatchIsTurnedAway(t *testing.T) {
	forms(t, Options{Slots: 8, SlotSize: 16}, func(t *testing.T, r *Ring) {
		p, q := pair(t, r)
		require.NoError(t, p.TrySend(nil))
		_, err := q.TryReceive(nil) // as in TestOverlappingLeases
		require.NoError(t, err)
		for range 5 {
			require.NoError(t, p.TrySend([]byte("message")))
		}
		b, err := q.TryNextBatch(2)
		require.NoError(t, err)
		q.gate.leave(gateOpen)
		_, err = q.TryNextBatch(2)
		require.Equal(t, ErrMisuse, err)
		require.Equal(t, gateHeld, int(q.gate.is()))
		require.NoError(t, b.Release())
		m, err := q.TryNext()
		require.NoError(t, err)
		q.gate.leave(gateOpen)
		_, err = q.TryNextBatch(2)
		require.Equal(t, ErrMisuse, err)
		require.Equal(t, gateHeld, int(q.gate.is()))
		require.NoError(t, m.Release())
		require.Equal(t, 2, r.Stats().Used)
	})
}

// What the handle knows to be held is not overwritten, and is given up by Close, however the gate was left.
func TestHeldWhateverTheGateSays(t *testing.T) {
	forms(t, Options{Slots: 8, SlotSize: 16}, func(t *testing.T, r *Ring) {
		p, q := pair(t, r)
		require.NoError(t, p.TrySend([]byte("message")))
		_, err := p.TryReserve(8)
		require.NoError(t, err)
		p.gate.leave(gateOpen)
		_, err = p.TryReserve(8)
		require.Equal(t, ErrMisuse, err)
		p.gate.leave(gateOpen)
		require.NoError(t, p.Close())
		_, err = q.TryNext()
		require.NoError(t, err)
		q.gate.leave(gateOpen)
		_, err = q.TryNext()
		require.Equal(t, ErrMisuse, err)
		require.NoError(t, q.Close())
		q, err = r.NewConsumer()
		require.NoError(t, err)
		_, err = q.TryReceive(make([]byte, 16))
		require.NoError(t, err)
		require.Zero(t, r.Stats().Used)
	})
}

// A token is ended by two goroutines, and the first one is held up between its checks and the store. Properties: the other one waits, then is turned away; the slot is not handed
// back before that store, which would overwrite what others have put there meanwhile.
func TestOneTokenEndedTwice(t *testing.T) {
	r := newHeapAt(t, Options{Kind: MPMC, Slots: 4, SlotSize: 16}, 0)
	p, q := pair(t, r)
	require.NoError(t, p.TrySend(nil))
	_, err := q.TryReceive(nil)
	require.NoError(t, err)

	res, err := p.TryReserve(7)
	require.NoError(t, err)
	require.True(t, p.gate.claim(gateHeld) && p.gate.inside() && res.current() && p.owns(p.resv))
	require.Equal(t, ErrMisuse, res.Commit())
	require.Equal(t, ErrMisuse, res.Discard())
	require.True(t, p.owns(p.resv))
	p.gate.leave(gateHeld)
	require.NoError(t, res.Commit())

	m, err := q.TryNext()
	require.NoError(t, err)
	require.True(t, q.gate.claim(gateHeld) && q.gate.inside() && q.one == one{m.position, m.word} && q.holds(m.position, m.word))
	require.Equal(t, ErrMisuse, m.Release())
	require.Equal(t, ErrMisuse, m.Return())
	require.True(t, q.holds(m.position, m.word))
	q.gate.leave(gateHeld)
	require.NoError(t, m.Release())
}

// A message that is given back while a call of another goroutine waits inside is there for others.
func TestReturnBesideAWaitingCall(t *testing.T) {
	r := newHeapAt(t, Options{Kind: MPMC, Slots: 4, SlotSize: 16}, 0)
	p, q := pair(t, r)
	require.NoError(t, p.TrySend(nil))
	_, err := q.TryReceive(nil)
	require.NoError(t, err)
	require.NoError(t, p.TrySend([]byte("message")))
	m, err := q.TryNext()
	require.NoError(t, err)
	q.gate.leave(gateInside)
	require.True(t, q.gate.begin())
	require.Equal(t, ErrMisuse, m.Return())
	q.gate.finish()
	other, err := r.NewConsumer()
	require.NoError(t, err)
	n, err := other.TryReceive(make([]byte, 16))
	require.NoError(t, err)
	require.Equal(t, 7, n)
	require.Equal(t, 2, other.Last().Deliveries)
}

// All releases its message also when a call of another goroutine has moved the generation.
func TestAllBesideAnotherCall(t *testing.T) {
	r := newHeapAt(t, Options{Kind: MPMC, Slots: 4, SlotSize: 16}, 0)
	p, q := pair(t, r)
	require.NoError(t, p.TrySend(nil))
	_, err := q.TryReceive(nil)
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, p.TrySend([]byte("message")))
	}
	for _, err := range q.All(patient(t)) {
		require.NoError(t, err)
		unsee(&q.gate, &q.one.word)
		other, err := q.TryNext()
		require.NoError(t, err)
		require.NoError(t, other.Release())
		break
	}
	require.Zero(t, r.Stats().Used)
}

// A note of a lease in an SPSC ring that two calls wrote by halves is of one of them.
func TestTornNoteOfALease(t *testing.T) {
	r := newHeapAt(t, Options{Kind: SPSC, Slots: 8, SlotSize: 16}, 6)
	p, q := pair(t, r)
	for range 3 {
		require.NoError(t, p.TrySend([]byte("message")))
	}
	a, err := q.TryNext()
	require.NoError(t, err)
	unsee(&q.gate, &q.one.word)
	b, err := q.TryNext()
	require.NoError(t, err)
	q.one = one{b.position, a.word}
	require.NoError(t, a.Release())
	require.Equal(t, ErrMisuse, b.Release())
	_, err = q.TryReceive(make([]byte, 16))
	require.NoError(t, err)
	require.Zero(t, r.Stats().Used)
}
