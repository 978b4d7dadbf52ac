package ring

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/internal/layout"
)

// wordStarts are positions at which the sequence of a word, its sign or the position itself is about to wrap.
var wordStarts = []uint64{0, 1, 1 << 20, 1<<43 - 3, 1 << 43, 1<<44 - 3, 1 << 44, 1<<56 - 3, 1<<63 - 3, 1 << 63, 1<<64 - 70}

// The words of the life of a slot, as FORMAT section 5 lists them, mean what they mean at every position, seen from positions up to a lap and more before and behind.
func TestStandOfEveryWord(t *testing.T) {
	for _, slots := range []uint64{1, 2, 4, 16} {
		for _, start := range wordStarts {
			for p := start; p != start+2*slots+2; p++ {
				for extent := uint64(1); extent <= max(1, slots-1); extent++ {
					for _, owner := range []uint32{0, 1, layout.MaxParticipants - 1} {
						checkStand(t, slots, p, extent, owner)
					}
				}
			}
		}
	}
}

func checkStand(t *testing.T, slots, p, extent uint64, owner uint32) {
	e := p + extent
	at := func(w, q uint64, want standing, end uint64) {
		t.Helper()
		got, seq := stand(w, q, slots)
		if got != want || (want != standCorrupt && seq != end) {
			t.Fatalf("word %#x of an extent [%d, %d) with %d slots, seen from %d: standing %d, end %d; want %d, %d", w, p, e, slots, q, got, seq, want, end)
		}
	}
	at(freeWord(p), p, standFree, p)
	at(freeWord(p+slots), p, standPassed, p+slots)
	at(freeWord(p+3*slots), p, standPassed, p+3*slots)
	at(freeWord(p-slots), p, standCorrupt, 0)
	for w, want := range map[uint64]standing{
		claimedWord(e, owner): standClaimed, doneWord(e, owner): standDone, readyWord(e, 0): standReady, readyWord(e, 63): standReady,
		takenWord(e, owner, 0): standTaken, takenWord(e, owner, 63): standTaken,
	} {
		at(w, p, want, e)
		at(w, p+slots, standOld, e)
		at(w, p-slots, standPassed, e)
		at(w, p+2*slots, standCorrupt, 0)
	}
	for _, st := range []uint64{0, 4, 5, 63, 192, 255} { // states that do not exist
		at(e<<mpmcShift|st, p, standCorrupt, 0)
	}
	at(freeWord(p)|1<<layout.OwnerShift, p, standCorrupt, 0) // nobody owns a free slot
	if slots > 1 {
		at(freeWord(p+1), p, standCorrupt, 0) // a position of another slot
	}
}

// The word of an SPSC slot is valid for one position only, among all that are less than 2^55 away.
func TestSpscWordIsValidOnce(t *testing.T) {
	for _, slots := range []uint64{1, 2, 16} {
		for _, start := range wordStarts {
			for k := uint64(1); k <= slots; k++ {
				w := spscReadyWord(start+k, 5)
				for d := -3 * int64(slots); d <= 3*int64(slots); d++ {
					h := start + uint64(d)
					e, ok := spscEnd(w, h, slots)
					n := int64(start + k - h)
					require.Equal(t, n >= 1 && n <= int64(slots), ok)
					if ok {
						require.Equal(t, start+k, e)
					}
				}
			}
		}
	}
	for _, w := range []uint64{0, math.MaxUint64, 5<<spscShift | stateTaken, 5<<spscShift | stateFree} {
		_, ok := spscEnd(w, 4, 16)
		require.False(t, ok)
	}
}

// The count of give-backs changes every time, and what is reported saturates at 49.
func TestGivenBackNeverStands(t *testing.T) {
	r, last := uint64(0), 0
	for i := 1; i < 1000; i++ {
		next := nextGivenBack(r)
		require.NotEqual(t, r, next)
		require.LessOrEqual(t, next, uint64(layout.DeliveriesMask))
		require.Equal(t, min(i+1, 49), deliveries(next))
		require.GreaterOrEqual(t, deliveries(next), last)
		r, last = next, deliveries(next)
	}
}

// A wake-up that finds nobody asleep clears the arrivals, so that the next publisher makes no system call; one that comes between the look and the sleep is not lost.
func TestEventArrivals(t *testing.T) {
	var e event
	require.Zero(t, e.notify(1), "nobody has arrived")
	key := e.arrive()
	require.True(t, e.pending())
	require.True(t, e.stillArrived(key))
	require.EqualValues(t, 1, e.notify(1), "as many as arrived: all are woken")
	require.False(t, e.pending())
	require.False(t, e.stillArrived(key))
	first := e.arrive()
	require.Equal(t, first, e.arrive())
	e.arrive()
	require.EqualValues(t, 1, e.notify(1), "fewer than arrived: one is woken, and as nobody sleeps the arrivals are cleared")
	require.False(t, e.pending())
	require.Zero(t, e.notify(1))
	require.False(t, e.stillArrived(first))
	key = e.arrive()
	e.notifyAll()
	require.False(t, e.pending())
	require.False(t, e.stillArrived(key))
	e.word.Store(math.MaxUint64) // hostile
	require.NotZero(t, e.notify(1))
	e.word.Store(math.MaxUint64)
	require.NotZero(t, e.notify(math.MaxUint64))
	require.False(t, e.pending())
}

// Whoever arrives after a notification has another key than those before it. Notifiers and arrivals at once: the epoch never goes back, and the last notification leaves no arrivals.
func TestEventEpochGrows(t *testing.T) {
	var e event
	var stop atomic.Bool
	var g sync.WaitGroup
	for i := range 4 {
		g.Add(1)
		go func() {
			defer g.Done()
			rnd := rand.New(rand.NewPCG(1, uint64(i)))
			last := uint32(0)
			for !stop.Load() {
				if i%2 == 0 {
					e.notify(1 + rnd.Uint64N(3))
					continue
				}
				key := e.arrive()
				if int32(key-last) < 0 {
					t.Errorf("epoch %d after %d", key, last)
					return
				}
				last = key
			}
		}()
	}
	for e.word.Load()>>32 < 20000 {
		e.arrive()
		e.notify(math.MaxUint64)
	}
	stop.Store(true)
	g.Wait()
	e.notify(math.MaxUint64)
	require.False(t, e.pending())
}

// A loss or skip is counted once for a position, however often it is tried, and again for the next lap; counts saturate; nothing is counted when the word has changed.
func TestAccounts(t *testing.T) {
	r := newHeapAt(t, Options{Kind: MPMC, Slots: 4, SlotSize: 8}, 0)
	c := r.c
	for lap := range uint64(10) {
		p := lap*4 + 2
		w := claimedWord(p+1, 7)
		c.state(p).Store(w)
		require.False(t, c.count(p, w+1, accountLost))
		require.Equal(t, lap, r.Stats().Lost)
		for range 3 {
			require.True(t, c.count(p, w, accountLost))
		}
		require.Equal(t, lap+1, r.Stats().Lost)
		require.Zero(t, r.Stats().Skipped)
	}
	p := uint64(43)
	w := claimedWord(p+1, 7)
	c.state(p).Store(w)
	c.account(p).Store(accountMask<<20 | accountMask)
	require.True(t, c.count(p, w, accountSkipped))
	require.EqualValues(t, accountMask, r.Stats().Skipped)
	require.EqualValues(t, accountMask+10, r.Stats().Lost)
	require.NoError(t, r.Close())
}
