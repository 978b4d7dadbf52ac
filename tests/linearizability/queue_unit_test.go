//go:build linux

package linearizability

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
)

// The queue itself, by hand: what the contract forbids must be refused, and what it permits must not be.

// script is a history in which one step follows the other. Actors 0 and 1 produce, 2 and 3 consume.
type script struct {
	queue
	s    []state
	next [maxActors]uint16
}

func newScript(kind ring.Kind, slots int, slotsOfMessages ...uint8) *script {
	c := &script{queue: queue{kind: kind, slots: slots, producers: 3}, s: []state{{live: 15}}}
	for _, k := range slotsOfMessages {
		c.messages = append(c.messages, message{slots: k, at: -1})
	}
	return c
}

// try says whether the steps can follow, and does them if they can.
func (c *script) try(steps ...step) bool {
	was, next := c.s, c.next
	for _, o := range steps {
		if o.kind != stepHalt {
			o.index = c.next[o.actor]
			c.next[o.actor]++
		}
		var after []state
		for _, s := range c.s {
			after = append(after, c.step(s, &o)...)
		}
		if c.s = after; len(after) == 0 {
			c.s, c.next = was, next
			return false
		}
	}
	return true
}

func claim(actor uint8, msgs ...uint8) step  { return step{kind: stepClaim, actor: actor, msgs: msgs} }
func commit(actor uint8, msgs ...uint8) step { return step{kind: stepCommit, actor: actor, msgs: msgs} }
func isFull(actor, msg uint8) step {
	return step{kind: stepFull, actor: actor, msgs: []uint8{msg}}
}
func only(kind kindOf, actor uint8) step { return step{kind: kind, actor: actor} }
func halt(actor uint8) step              { return step{kind: stepHalt, actor: maxActors, halts: bit(actor)} }
func of(kind kindOf, actor uint8, msgs ...uint8) step {
	return step{kind: kind, actor: actor, msgs: msgs}
}

func take(actor, msg uint8, pos uint16, count uint8) step {
	return step{kind: stepTake, actor: actor, got: []delivery{{msg, pos, count}}}
}

func lease(actor, msg uint8, pos uint16, count uint8) step {
	o := take(actor, msg, pos, count)
	o.keep = true
	return o
}

func TestQueueIsInOrderOfClaims(t *testing.T) {
	c := newScript(ring.MPMC, 4, 1, 1, 1, 1, 1)
	require.True(t, c.try(claim(0, 0), claim(1, 1), commit(1, 1)))
	require.False(t, c.try(take(2, 1, 1, 1)), "it is behind a claim")
	require.True(t, c.try(only(stepEmpty, 2)), "what is behind a claim is not ready")
	require.True(t, c.try(commit(0, 0)))
	require.False(t, c.try(only(stepEmpty, 2)))
	require.False(t, c.try(take(2, 1, 1, 1)), "not the first")
	require.False(t, c.try(take(2, 0, 1, 1)), "not its position")
	require.False(t, c.try(take(2, 0, 0, 2)), "it was never given back")
	require.True(t, c.try(take(2, 0, 0, 1)))
	require.False(t, c.try(take(2, 0, 0, 1)), "twice")
	require.True(t, c.try(take(3, 1, 1, 1)))
	require.True(t, c.try(only(stepEmpty, 2)))
	require.False(t, c.try(commit(0, 0)), "nothing is claimed")
}

func TestQueueIsFullExactly(t *testing.T) {
	for _, kind := range []ring.Kind{ring.SPSC, ring.MPMC} {
		c := newScript(kind, 2, 1, 1, 1)
		require.False(t, c.try(isFull(0, 0)))
		require.True(t, c.try(claim(0, 0), commit(0, 0), claim(0, 1), commit(0, 1)))
		require.False(t, c.try(claim(0, 2)), "no overwriting")
		require.True(t, c.try(isFull(0, 2), lease(2, 0, 0, 1), isFull(0, 2)))
		require.True(t, c.try(of(stepRelease, 2, 0)))
		require.False(t, c.try(isFull(0, 2)))
		require.True(t, c.try(claim(0, 2)))
	}
}

func TestQueueSpaceBehindAnUnreleasedMessageIsNotFree(t *testing.T) {
	c := newScript(ring.MPMC, 2, 1, 1, 1)
	require.True(t, c.try(claim(0, 0), commit(0, 0), claim(0, 1), commit(0, 1), lease(2, 0, 0, 1), take(3, 1, 1, 1)))
	require.True(t, c.try(isFull(0, 2)))
	require.False(t, c.try(claim(0, 2)))
}

func TestQueueMessagesOfSeveralSlots(t *testing.T) {
	c := newScript(ring.MPMC, 4, 1, 2, 1, 2, 1)
	require.True(t, c.try(claim(0, 0), commit(0, 0), claim(0, 1), commit(0, 1), take(2, 0, 0, 1), take(2, 1, 1, 1)))
	require.True(t, c.try(claim(0, 2), claim(0, 4)), "slots 3 and 0")
	require.True(t, c.try(isFull(0, 3)), "received, and not free yet")
	require.True(t, c.try(of(stepFree, 2, 1)))
	require.False(t, c.try(isFull(0, 3)))
	require.True(t, c.try(claim(0, 3), commit(0, 2), commit(0, 4), commit(0, 3), take(2, 2, 3, 1), take(2, 4, 4, 1), take(2, 3, 5, 1)))

	c = newScript(ring.MPMC, 4, 1, 1, 1, 2)
	require.True(t, c.try(claim(0, 0), commit(0, 0), claim(0, 1), commit(0, 1), claim(0, 2), commit(0, 2), take(2, 0, 0, 1)))
	require.True(t, c.try(isFull(0, 3)), "it needs the rest of the ring as padding, and two slots")
	require.True(t, c.try(take(2, 1, 1, 1), claim(0, 3), commit(0, 3), take(2, 2, 2, 1), take(2, 3, 4, 1)))
}

func TestQueueBatchesAreWhole(t *testing.T) {
	c := newScript(ring.MPMC, 8, 1, 1, 1)
	batch := step{kind: stepTake, actor: 2, keep: true, got: []delivery{{0, 0, 1}, {1, 1, 1}}}
	require.True(t, c.try(claim(0, 0, 1), claim(1, 2), commit(1, 2)))
	require.False(t, c.try(batch))
	require.True(t, c.try(commit(0, 0, 1)))
	gap := batch
	gap.got = []delivery{{0, 0, 1}, {2, 2, 1}}
	require.False(t, c.try(gap))
	require.True(t, c.try(batch, of(stepDone, 2, 0), of(stepFree, 2, 0), take(3, 2, 2, 1)))
}

func TestQueueRedelivers(t *testing.T) {
	c := newScript(ring.MPMC, 4, 1, 1)
	require.True(t, c.try(claim(0, 0), commit(0, 0), claim(0, 1), commit(0, 1), lease(2, 0, 0, 1)))
	require.False(t, c.try(take(3, 0, 0, 2)), "somebody holds it")
	require.True(t, c.try(of(stepBack, 2, 0), take(3, 1, 1, 1), only(stepEmpty, 3)), "not announced yet")
	require.True(t, c.try(only(stepAnnounce, 2)))
	require.False(t, c.try(only(stepEmpty, 3)))
	require.False(t, c.try(take(3, 0, 0, 1)), "with the old count")
	require.True(t, c.try(lease(3, 0, 0, 2), halt(3)))
	require.False(t, c.try(take(2, 0, 0, 2)))
	require.True(t, c.try(take(2, 0, 0, 3)), "a late one, out of order")
}

func TestQueueDropsWhatTheDeadHeld(t *testing.T) {
	c := newScript(ring.MPMC, 2, 1, 1, 1)
	c.drop = true
	account := step{kind: stepAccount, actor: 2, lost: 1}
	require.True(t, c.try(claim(0, 0), commit(0, 0), claim(0, 1), commit(0, 1), lease(3, 0, 0, 1)))
	require.False(t, c.try(claim(0, 2)), "it lives")
	require.True(t, c.try(halt(3)))
	require.False(t, c.try(take(2, 0, 0, 2)))
	require.True(t, c.try(claim(0, 2), commit(0, 2), take(2, 1, 1, 1), take(2, 2, 2, 1)), "its slot is free again")
	wrong := account
	wrong.lost = 0
	require.False(t, c.try(wrong))
	require.True(t, c.try(account))
}

func TestQueueLosesBeyondMaxDeliveries(t *testing.T) {
	for _, kind := range []ring.Kind{ring.SPSC, ring.MPMC} {
		c := newScript(kind, 2, 1)
		c.max = 2
		back := []step{of(stepBack, 2, 0), of(stepFree, 2, 0), only(stepAnnounce, 2)}
		if kind == ring.SPSC {
			back = back[:1]
		}
		require.True(t, c.try(claim(0, 0), commit(0, 0), lease(2, 0, 0, 1)))
		require.True(t, c.try(back...))
		require.True(t, c.try(lease(2, 0, 0, 2)))
		require.True(t, c.try(back...))
		require.False(t, c.try(take(2, 0, 0, 3)))
		require.True(t, c.try(only(stepEmpty, 2), step{kind: stepAccount, actor: 2, lost: 1}))
	}
}

func TestQueueSkipsWhatTheDeadClaimed(t *testing.T) {
	c := newScript(ring.MPMC, 4, 1, 1)
	require.True(t, c.try(claim(0, 0), claim(1, 1), commit(1, 1), halt(0), only(stepEmpty, 2)), "it need not be noticed at once")
	require.True(t, c.try(commit(0, 0)), "its call was not over")
	require.False(t, c.try(take(2, 0, 0, 1)))
	require.True(t, c.try(take(2, 1, 1, 1), step{kind: stepAccount, actor: 2, skipped: 1}))
}

func TestQueueEndsWhenNobodyHoldsAnything(t *testing.T) {
	c := newScript(ring.MPMC, 4, 1)
	end := only(stepEOF, 3)
	require.True(t, c.try(claim(0, 0), commit(0, 0)))
	require.True(t, c.try(lease(2, 0, 0, 1), only(stepClose, 0)))
	require.False(t, c.try(end), "a producer lives")
	require.True(t, c.try(only(stepClose, 1)))
	require.False(t, c.try(end), "somebody holds a message")
	require.True(t, c.try(halt(2)))
	require.False(t, c.try(end), "it comes back")
	require.True(t, c.try(take(3, 0, 0, 2), end))
}

func TestQueueHasNobodyToRead(t *testing.T) {
	c := newScript(ring.MPMC, 1, 1, 1)
	none := of(stepNoConsumers, 0, 1)
	require.True(t, c.try(claim(0, 0), commit(0, 0), only(stepClose, 2)))
	require.False(t, c.try(none), "somebody lives")
	require.True(t, c.try(halt(3), none))
}

func TestQueueSuccessorsSettle(t *testing.T) {
	c := newScript(ring.SPSC, 4, 1, 1, 1)
	require.True(t, c.try(step{kind: stepSend, actor: 0, msgs: []uint8{0}}, lease(2, 0, 0, 1), claim(0, 1), halt(0), halt(2)))
	require.True(t, c.try(only(stepRegister, 3)))
	require.False(t, c.try(take(3, 0, 0, 1)), "it has been delivered before")
	require.True(t, c.try(take(3, 0, 0, 2), only(stepRegister, 1), step{kind: stepSend, actor: 1, msgs: []uint8{2}}))
	require.False(t, c.try(take(3, 2, 1, 1)), "position 1 was skipped")
	require.True(t, c.try(take(3, 2, 2, 1), step{kind: stepAccount, actor: 3, skipped: 1}))
}

// What a consumer took whose call was cut short by its death, nobody knows: all of it is possible, and nothing else.
func TestQueueUnknownReceipts(t *testing.T) {
	unknown := step{kind: stepTakeUnknown, actor: 2, limit: 2, keep: true}
	for _, c := range []struct {
		then []step
		ok   bool
	}{
		{[]step{take(3, 0, 0, 1), take(3, 1, 1, 1)}, true}, // it died before
		{[]step{take(3, 1, 1, 1), take(3, 0, 0, 2)}, true},
		{[]step{take(3, 0, 0, 2), take(3, 1, 1, 2)}, true},
		{[]step{take(3, 0, 0, 2), take(3, 1, 1, 1)}, true},
		{[]step{take(3, 0, 0, 1), take(3, 1, 1, 2)}, false}, // the second without the first
		{[]step{take(3, 0, 0, 3)}, false},
	} {
		ok := false
		for _, first := range []step{unknown, halt(2)} { // the one or the other comes first
			s := newScript(ring.MPMC, 4, 1, 1)
			require.True(t, s.try(claim(0, 0), commit(0, 0), claim(0, 1), commit(0, 1), first, halt(2)))
			ok = ok || s.try(c.then...)
		}
		require.Equal(t, c.ok, ok, "%v", c.then)
	}
	s := newScript(ring.MPMC, 8, 1, 1, 1) // a prefix of a batch
	some := []step{claim(0, 0, 1, 2), commit(0, 0, 1, 2)}
	some[0].some, some[1].some = true, true
	require.True(t, s.try(some...))
	require.True(t, s.try(take(2, 0, 0, 1), take(2, 1, 1, 1), only(stepEmpty, 2)))
}
