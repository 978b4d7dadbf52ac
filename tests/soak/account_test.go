//go:build linux

package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
)

// story is what happens in one account: sessions that report, and end.
type story struct {
	a    *account
	p, q *work
}

func newStory(drops bool, maxDeliveries int) *story {
	s := &story{a: newAccount(drops, maxDeliveries), p: &work{name: "producer"}, q: &work{role: 1, name: "consumer"}}
	s.a.enter(s.p, &report{kind: sayJoined})
	s.a.enter(s.q, &report{kind: sayJoined})
	s.a.enter(s.p, &report{kind: sayTrying, n: 3, number: 1<<32 | 1})
	s.a.enter(s.p, &report{kind: saySent, n: 3})
	return s
}

func message(i uint64) report {
	return report{kind: sayHeld, deliveries: 1, number: 1<<32 | i, position: i}
}

// take leases messages.
func (s *story) take(list ...report) {
	s.a.enter(s.q, &report{kind: sayLeasing, n: uint32(len(list))})
	for i := range list {
		s.a.enter(s.q, &list[i])
	}
}

func (s *story) release(n int) {
	s.a.enter(s.q, &report{kind: sayReleasing, n: uint32(n)})
	s.a.enter(s.q, &report{kind: sayReleased})
}

// faults balances the account.
func (s *story) faults(stats ring.Stats) totals {
	s.a.balance(stats)
	t := s.a.totals
	if t.Lost+t.Duplicates+t.Disorder+t.Foreign > 0 {
		return totals{Lost: t.Lost, Duplicates: t.Duplicates, Disorder: t.Disorder, Foreign: t.Foreign}
	}
	return totals{}
}

// next is another consumer.
func (s *story) next() {
	s.q = &work{role: 1, name: "successor"}
	s.a.enter(s.q, &report{kind: sayJoined})
}

func TestAccountBalances(t *testing.T) {
	s := newStory(false, 0)
	s.take(message(1), message(2), message(3))
	s.release(3)
	require.Equal(t, totals{}, s.faults(ring.Stats{}))
	require.EqualValues(t, 3, s.a.Received)
}

func TestAccountNotices(t *testing.T) {
	again := func(i uint64, deliveries uint32) report {
		m := message(i)
		m.deliveries = deliveries
		return m
	}
	for _, x := range []struct {
		name  string
		drops bool
		most  int
		play  func(s *story)
		stats ring.Stats
		want  totals
	}{
		{"a message that never comes", false, 0, func(s *story) { s.take(message(1), message(2)); s.release(2) }, ring.Stats{}, totals{Lost: 1}},
		{"one that comes twice", false, 0, func(s *story) { s.take(message(1), message(2), message(3), message(3)); s.release(4) }, ring.Stats{}, totals{Duplicates: 2, Disorder: 1}},
		{"one that comes again, marked, after it was released", false, 0, func(s *story) {
			s.take(message(1), message(2), message(3))
			s.release(3)
			s.a.kill(s.q, nil)
			s.next()
			s.take(again(2, 2))
			s.release(1)
		}, ring.Stats{ConsumersDied: 1}, totals{Duplicates: 1}},
		{"one that nobody sent", false, 0, func(s *story) { s.take(message(1), message(2), message(3), message(4)); s.release(4) }, ring.Stats{}, totals{Foreign: 1}},
		{"order", false, 0, func(s *story) { s.take(message(1), message(3), message(2)); s.release(3) }, ring.Stats{}, totals{Disorder: 1}},
		{"a count that nobody explains", false, 0, func(s *story) { s.take(message(1), message(2), again(3, 3)); s.release(3) }, ring.Stats{}, totals{Foreign: 1}},
		{"a loss that the ring does not count", true, 0, func(s *story) {
			s.take(message(1), message(2), message(3))
			s.release(2)
			s.a.kill(s.q, nil)
		}, ring.Stats{ConsumersDied: 1}, totals{Lost: 1}},
		{"a loss that the account does not know", false, 0, func(s *story) { s.take(message(1), message(2), message(3)); s.release(3) }, ring.Stats{Lost: 1}, totals{Lost: 1}},
		{"slots that stay in use", false, 0, func(s *story) { s.take(message(1), message(2), message(3)); s.release(3) }, ring.Stats{Used: 1}, totals{Lost: 1}},
		{"deaths that were not", false, 0, func(s *story) { s.take(message(1), message(2), message(3)); s.release(3) }, ring.Stats{ConsumersDied: 1}, totals{Foreign: 1}},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := newStory(x.drops, x.most)
			x.play(s)
			got := s.faults(x.stats)
			if got.Lost > 0 && x.want.Foreign == 0 {
				got.Foreign = 0 // the sums do not add up either
			}
			require.Equal(t, x.want, got, "%v", s.a.faults)
		})
	}
}

// What deaths explain is no fault.
func TestAccountExplains(t *testing.T) {
	redelivered := func(i uint64) report {
		m := message(i)
		m.deliveries = 2
		return m
	}
	for _, x := range []struct {
		name  string
		drops bool
		most  int
		play  func(s *story)
		stats ring.Stats
	}{
		{"held at a death, and redelivered", false, 0, func(s *story) {
			s.take(message(1), message(2), message(3))
			s.a.kill(s.q, nil)
			s.next()
			s.take(redelivered(1), redelivered(2), redelivered(3))
			s.release(3)
		}, ring.Stats{ConsumersDied: 1}},
		{"held at a death, and dropped", true, 0, func(s *story) {
			s.take(message(1), message(2), message(3))
			s.release(1)
			s.a.kill(s.q, nil)
		}, ring.Stats{ConsumersDied: 1, Lost: 2}},
		{"being released at a death", false, 0, func(s *story) {
			s.take(message(1), message(2), message(3))
			s.a.enter(s.q, &report{kind: sayReleasing, n: 3})
			s.a.kill(s.q, nil)
		}, ring.Stats{ConsumersDied: 1}},
		{"leased by a call that could not tell", false, 0, func(s *story) {
			s.a.enter(s.q, &report{kind: sayLeasing, n: 3})
			s.a.kill(s.q, nil)
			s.next()
			s.take(redelivered(1), redelivered(2), redelivered(3))
			s.release(3)
		}, ring.Stats{ConsumersDied: 1}},
		{"copied by a call that could not tell", false, 0, func(s *story) {
			s.a.enter(s.q, &report{kind: sayCopying, n: 1})
			window := make([]byte, windowSize)
			encode(window[:40], 1<<32|1)
			s.a.kill(s.q, window)
			s.next()
			s.take(message(2), message(3))
			s.release(2)
		}, ring.Stats{ConsumersDied: 1}},
		{"the last delivery", false, 2, func(s *story) {
			s.take(message(1), message(2), message(3))
			s.release(2)
			s.a.kill(s.q, nil)
			s.next()
			s.take(redelivered(3))
			s.a.enter(s.q, &report{kind: sayReturning})
			s.a.enter(s.q, &report{kind: sayReturned})
		}, ring.Stats{ConsumersDied: 1, Lost: 1}},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := newStory(x.drops, x.most)
			x.play(s)
			require.Equal(t, totals{}, s.faults(x.stats), "%v", s.a.faults)
		})
	}
}

// A torn message, or one of the wrong length, is seen.
func TestTornMessages(t *testing.T) {
	b := make([]byte, 60)
	encode(b, 7<<32|9)
	number, err := decode(b)
	require.NoError(t, err)
	require.EqualValues(t, 7<<32|9, number)
	_, err = decode(b[:59])
	require.Error(t, err)
	for i := range b {
		torn := append([]byte(nil), b...)
		torn[i] ^= 1
		_, err := decode(torn)
		require.Error(t, err, "byte %d", i)
	}
}

// Growth is seen, noise is not.
func TestGrowth(t *testing.T) {
	flat, leak := &series{Name: "flat", slack: slackSurvivor}, &series{Name: "leak", slack: slackSurvivor}
	for i := range 40 {
		flat.samples = append(flat.samples, usage{RSS: 9000 + i%7*100, FDs: 11 + i%3, Threads: 5})
		leak.samples = append(leak.samples, usage{RSS: 9000 + i*500, FDs: 11 + i, Threads: 5 + i})
	}
	require.Empty(t, flat.judge())
	require.Len(t, leak.judge(), 3)
}
