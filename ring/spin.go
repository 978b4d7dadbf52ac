package ring

import (
	"context"
	"time"

	"github.com/cd1900cf/millrace/futex"
	"github.com/cd1900cf/millrace/internal/atomicx"
)

// Spinning: the first part of a wait. A consumer watches the word that brings the news, then either side tries again and again, a little apart, for as long
// as that has paid of late. It costs the core, and saves a sleep here and a wake on the other side.
//
// Invariant: nothing here changes the ring. A spin may be left out, and is where nobody can run beside it.

const (
	spinLeast  = 20 * time.Microsecond  // spinning that is always done: parking costs as much (W2, and the look around)
	spinMost   = 100 * time.Microsecond // and while it pays, or while those who sleep are woken sooner than that
	rivalry    = 64                     // MPMC: spins for which a consumer remembers that another one was faster
	watchLooks = 128                    // looks at one word before anything else is tried,
	watchApart = 40 * time.Nanosecond   // SPSC: so far apart, which makes four or five of the time that an answer takes, see watch
	tightLooks = 128                    // SPSC, messages of two lines: the first looks, which are not apart
	apartLooks = 256                    // MPMC: the same,
	lookApart  = 16 * time.Nanosecond   // and so far apart: a producer writes the word twice, and should not lose its line in between
	spinHot    = 32                     // attempts without a pause, in an MPMC ring with the one above: on some processors one takes half as long as the news
	spinClose  = 64                     // attempts that follow each other closely
	spinLook   = 16                     // attempts between two looks at the clock, behind spinClose
	yieldLeast = 16                     // in a crowd: times that the core is left to others, behind spinClose, before anybody sleeps,
	yieldMost  = 5 * time.Millisecond   // unless they keep it for so long
	spinFar    = 15                     // most extra pauses before the first attempt: below a microsecond
	answerMost = 56                     // turns of atomicx.Delay before the first look for an answer, at most: some 45 ns,
	answerStep = 16                     // and how many more after a look that was a bit too early; one fewer after each that was not
	answerLate = 8                      // a message that comes at one of so many looks, behind the first one, is an answer

	stretchMost  = 128     // MPMC: slots that are to be free, at most, before a producer that found the ring full goes on;
	stretchLeast = 16      // in a ring of fewer slots the consumers would be idle meanwhile
	stretchBytes = 3 << 20 // in a ring of more than ownCache bytes: how many bytes of slots,
	stretchLeft  = 4       // and how many slots are left to the consumers, or a quarter of all
	ownCache     = 1 << 20 // about what a core's own cache holds

	stretchTime = time.Millisecond // how long a spin for that may be renewed, when space is given back all the time
)

// stretchOf returns how many slots, of so many bytes, a producer wants to be free before it leaves a spin in front of a full ring. One that took each slot
// as it comes free would fetch its lines from the cache of the consumer, which is about to leave the next one, message by message. In a ring that
// is larger than caches it would go on to do so, for all of what the consumer has read last is there: such a ring is best neither full nor empty.
func stretchOf(kind Kind, slots, bytes uint64) (stretch uint64, large bool) {
	if kind == MPMC && slots >= stretchLeast { // the space of an SPSC ring comes back in strides
		stretch = min(slots/2, stretchMost)
	}
	left := max(slots/4, stretchLeft)
	if large = slots*bytes > ownCache && slots > left; large {
		stretch = max(stretch, min(slots-left, stretchBytes/bytes))
	}
	return stretch, large
}

// crammed says whether fewer slots are free than the producer wants. It is a wish: a slot inside of a message of several does not count.
func (p *Producer) crammed() bool {
	c := p.c
	t := p.pos + c.stretch
	if p.spsc {
		return t-c.ctl.spacePosition.Load() > c.slots // order: S1 acq, pairs D5
	}
	stand, _ := stand(c.state(t).Load(), t, c.slots) // order: P1 acq, pairs C4 C5 L3
	return stand == standOld
}

// gained returns a position that moves while space is given back; in a ring that is not large, which takes no time, it is not worth the line.
func (p *Producer) gained() uint64 {
	switch c := p.c; {
	case !c.large:
		return 0
	case p.spsc:
		return c.ctl.spacePosition.Load() // order: S1 acq, pairs D5
	default:
		return c.ctl.consumerPosition.Load() // order: C1 acq, pairs C6
	}
}

// spinner makes the pauses of one spin.
type spinner struct {
	attempts int
	first    int  // pauses before the first attempt
	apart    int  // pauses before the ones that follow
	crowded  bool // others want this core
	start    time.Time
	budget   time.Duration
	gained   uint64    // at the last renewal
	renewed  time.Time // when it was first
}

// spinning begins a spin. On one processor there is nobody to spin for; nor where all that could end the wait are goroutines that run when this one does not.
func (h *handle) spinning() spinner {
	if h.alone {
		return spinner{}
	}
	return spinner{budget: max(spinLeast, h.spin), first: h.distance, apart: h.apart, crowded: h.crowded}
}

// more lets a little time pass; false when the time for spinning is up. It never yields to Go's scheduler, which is dear for a goroutine
// that is locked to its thread. In a crowd it yields to the machine's: who is waited for may want this very core, and to let it run costs less than
// to sleep and be woken.
func (s *spinner) more() bool {
	switch s.attempts++; {
	case s.budget == 0:
		return false
	case s.attempts < spinClose: // most spins are over before they are worth a look at the clock, which costs as much as some attempts
	case s.attempts == spinClose:
		s.start = time.Now()
	case s.crowded:
		spent := time.Since(s.start)
		if spent > yieldMost || spent > s.budget && s.attempts >= spinClose+yieldLeast {
			return false
		}
		futex.Yield()
		return true
	case s.attempts%spinLook == 0 && time.Since(s.start) > s.budget:
		return false
	}
	switch {
	case s.attempts == 1:
		futex.Pause(s.first)
	case s.attempts <= spinHot:
		futex.Pause(s.apart)
	case s.attempts <= spinClose:
		futex.Pause(1)
	default:
		futex.Pause(4)
	}
	return true
}

// renew begins the time for spinning anew when there is news of space, up to stretchTime, and not when the context has ended.
func (s *spinner) renew(ctx context.Context, gained uint64) {
	if gained == s.gained || ctx.Err() != nil {
		return
	}
	s.gained = gained
	now := time.Now()
	if s.renewed.IsZero() {
		s.renewed = now
	}
	if now.Sub(s.renewed) < stretchTime {
		s.start = now
	}
}

// pace learns how many pauses make the times between looks.
func (q *Consumer) pace() {
	if q.gap = q.apart; q.spsc {
		q.gap = futex.Pauses(watchApart)
	}
	q.slips = slipPauses(q.c)
	switch c := q.c; {
	case !c.fetchesNext:
	case c.slotSize <= c.beside:
		q.answerMost = answerMost
	default:
		q.tight = tightLooks
	}
}

// nothing says whether w, in the slot of the own position h, means that no message is there: neither of several slots, nor a run.
func (q *Consumer) nothing(w, h uint64) bool {
	if q.spsc {
		_, ready := spscEnd(w, h, q.c.slots)
		return !ready && int64(q.runEnd-h) <= 0
	}
	return w == freeWord(h) || stateOf(w) == stateClaimed
}

// watch looks at the state word of the own position while no message is there, for some microseconds at most, and says whether one of one slot came.
// It is the first part of a spin: nothing but loads, so that the news of a message is in use as soon as it is there. In an MPMC ring, where a CAS on that
// word follows, each look takes the line for writing at once; but not among rivals, who would only take it from each other and from the producer.
//
// The looks are apart, and few, so that the processor learns at which of them a message comes, as answers do after always the same time. It
// then executes what follows while the line is on its way: a round trip takes a sixth less than with looks that follow each other closely, each of which it
// would expect to be in vain.
//
// A look that is too early takes the line, which the producer has fetched in advance (lines.go), away from it: then the message waits for its line, once there and
// once back. So one that is expected to be an answer, since those before it were waited for, and not long, is first looked for when it should be there: with looks at
// once a round trip takes a third longer. For how long to hold off is learned. Of a message of two lines the second one is on its way meanwhile, and looks that follow each
// other closely are best.
//
// The arguments are carried through, see send.go.
func (q *Consumer) watch(ctx context.Context, buf []byte) (_ *Consumer, _ context.Context, _ []byte, found bool) {
	h := q.pos
	word, want := q.c.state(h), q.fresh(h)
	q.holdOff(ctx)
	was := word.Load() // order: D1 acq, pairs S4; C2 acq, pairs P6
	if was == want && q.spsc {
		return q, ctx, buf, true
	}
	if ctx == noWait || q.alone || !q.nothing(was, h) {
		return q, ctx, buf, false
	}
	q.dries++
	toWrite := !q.spsc && q.rivals == 0
	q.rivals = max(q.rivals-1, 0)
	futex.Pause(q.distance)
	looks := watchLooks + q.tight
	if !q.spsc {
		looks = apartLooks
	}
	for i := range looks {
		if i > q.tight {
			futex.Pause(q.gap)
		}
		var w uint64
		if toWrite {
			w = atomicx.LoadToWrite(word) // order: C2 acq, pairs P6
		} else {
			w = word.Load() // order: D1 acq, pairs S4; C2 acq, pairs P6
		}
		if w == want {
			q.keepDistance(i == 0)
			q.learnAnswer(i < answerLate)
			return q, ctx, buf, q.spsc || q.c.ctl.returns.Load() == q.seen && !raceDetector // order: C0 acq, pairs V4
		}
		if w != was && (q.spsc || stateOf(w) != stateClaimed) {
			if !q.spsc { // there it is a run, or a message of several slots
				q.rivals = rivalry
			}
			return q, ctx, buf, false
		}
	}
	q.distance, q.answer = 0, 0
	return q, ctx, buf, false
}

// holdOff holds off the first look for a message that is expected to be an answer. Who does not wait expects none.
func (q *Consumer) holdOff(ctx context.Context) {
	switch {
	case ctx == noWait:
		q.answer = 0
	case q.answer != 0:
		atomicx.Delay(q.answer)
		q.answer--
	}
}

// learnAnswer learns that a message was waited for, and came soon, at one of the first looks, or not.
func (q *Consumer) learnAnswer(soon bool) {
	switch {
	case !soon:
		q.answer = 0
	case q.waited:
		q.answer = min(q.answer+answerStep, q.answerMost)
	}
}

// keepDistance learns how far to stay behind the other side. Who finds something at the first look again and again treads on the heels of the other side
// and takes the line that it is writing; a longer first pause lets it get ahead.
func (h *handle) keepDistance(close bool) {
	if h.c.fetchesNext { // there the first look for an answer is held off, see watch
		return
	}
	if close {
		h.distance = min(2*h.distance+1, spinFar)
	} else {
		h.distance /= 2
	}
}

// spun learns from a spin whether it paid.
func (h *handle) spun(s *spinner, paid bool) {
	if !paid {
		h.spin /= 2
		h.distance = 0
		return
	}
	h.keepDistance(s.attempts == 1)
	h.spin = min(spinMost, max(spinLeast, h.spin)*2)
}

// slept learns from a wait that ended in the kernel after d: when a longer spin would have done, the next one is longer. Whoever wakes a sleeper pays for
// it too, and on a virtual machine waking a core takes longer than a short answer. In a crowd a sleep is short because somebody else ran meanwhile.
func (h *handle) slept(d time.Duration) {
	if d < spinMost && !h.crowded {
		h.spin = min(spinMost, max(h.spin, 2*d))
	}
}
