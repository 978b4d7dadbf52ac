package ring

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/cd1900cf/millrace/futex"
)

// Slips: either side stays away from the lines that the other is about to use. Temporal slipping, as in FastForward (Giacomoni, Moseley, Vachharajani, PPoPP 2008).
//
// A consumer that is close behind the producers never runs dry, and a producer that is close behind the consumers, in a ring that is more than half full, seldom finds it
// full. But each takes line after line away from the other while it is written, or its core's prefetcher does, which is dozens of lines ahead: a message then
// takes two to four times as long, on both sides, and nothing ends that state. Further off it still asks for lines that the other core has in its first cache, which are
// slower to come than those that have left it. So after a stride of messages either looks how far away the other side is, and when that is less than
// core.near waits until it is core.far: for some microseconds at most, and only while the other side goes on.
// The space of an SPSC ring comes back a stride at a time, so its producer is a stride away by itself.
//
// What it costs: a consumer that keeps up with a stream of more than ten million messages a second, but is not much faster, has near messages in front of it instead of few.
//
// Invariant: nothing here changes the ring, nothing that is read is relied on, and a slip may be left out.

const (
	slipLeast = 256                   // slots of a ring in which anybody slips
	slipLook  = 400 * time.Nanosecond // time between two looks at where the others are, and half a nanosecond more
	slipBytes = 8 << 10               // for each byte of a slot, up to so many: large messages are slow to come,
	slipLooks = 10                    // and how many of them, at most, or one more
)

// keepApart sets what is near and what is far: three quarters of the positions that a core's first cache holds the lines of, and all of them; half of the ring at most, and
// half a stride and a stride at least.
func (c *core) keepApart() {
	held := min(c.slots/2, firstCache/c.bytes())
	c.near, c.far = max(c.giveEvery/2, held-held/4), max(c.giveEvery, held)
}

// slipPauses returns how many pauses there are between two looks.
func slipPauses(c *core) int {
	return futex.Pauses(slipLook + time.Duration(min(c.slotSize, slipBytes)/2))
}

// slip lets the producers get ahead of a consumer that is close behind them. It returns how often it looked again.
func (q *Consumer) slip(ctx context.Context) (looks int) {
	c := q.c
	often, rivals := q.dries > c.giveEvery/8, q.rivals
	q.slipped, q.dries, q.rivals = q.pos, 0, q.rivals/2 // they may have left
	if ctx == noWait || q.alone || rivals > 0 || c.slots < slipLeast {
		return 0
	}
	if often {
		// Who waits for answers runs dry, or for a slow producer, and who is faster than a producer that could be faster with more room.
		futex.Pause(q.slips)
		if next := q.pos + 1; c.state(next).Load() != q.fresh(next) { // order: D1 acq, pairs S4; C2 acq, pairs P6
			return 0
		}
	}
	return c.awaitFar(&c.ctl.producerPosition, q.pos, q.slips)
}

// slip lets the consumers of an MPMC ring get ahead of a producer that is close behind them. It returns how often it looked again.
func (p *Producer) slip(ctx context.Context) (looks int) {
	c := p.c
	p.slipped = p.pos
	if ctx == noWait || p.alone || c.slots < slipLeast {
		return 0
	}
	return c.awaitFar(&c.ctl.consumerPosition, p.pos-c.slots, p.slips)
}

// awaitFar waits until position is far ahead of from, when it is near, and as long as it moves.
func (c *core) awaitFar(position *atomic.Uint64, from uint64, pauses int) (looks int) {
	want := int64(c.far)
	ahead := int64(position.Load() - from) // order: P0 acq, pairs P7 S5; C1 acq, pairs C6
	if ahead >= int64(c.near) {
		return 0
	}
	for was := ahead - 1; was != ahead && ahead < want && looks < slipLooks; looks++ {
		futex.Pause(pauses)
		was, ahead = ahead, int64(position.Load()-from) // order: P0 acq, pairs P7 S5; C1 acq, pairs C6
	}
	return looks
}
