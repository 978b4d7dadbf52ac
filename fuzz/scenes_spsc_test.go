//go:build linux && (amd64 || arm64)

package fuzz

import (
	"context"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/ring"
)

// spscStart is a few positions before the sequences of the state words begin anew, in the middle of a lap.
const spscStart = 1<<56 - 5

func spsc(more layout.Header) layout.Header {
	more.Kind, more.Start = layout.KindSPSC, spscStart
	return more
}

var spscScenes = []scene{
	{name: "spsc-fresh", about: "created, and nobody has come yet", header: spsc(layout.Header{MaxDeliveries: 7}), play: func(s *stage) {
		s.end = "waiting"
	}},
	{name: "spsc-ready", about: "messages inline, in the data area, empty, and of several slots behind padding; the ring has wrapped", header: spsc(layout.Header{}), play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		s.send(p, 1, 16, 24, 0)
		s.receive(q, 3)
		s.send(p, 50, 20)
	}},
	{name: "spsc-runs", about: "two batches, each published by one word, the second across the end of the ring", header: spsc(layout.Header{}), play: func(s *stage) {
		p := s.producer()
		s.batch(p, 24, 24, 24)
		s.batch(p, 3, 3, 3, 3)
	}},
	{name: "spsc-run-leased", about: "a consumer died inside a run: one message received, two leased, one not read", header: spsc(layout.Header{}), play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		s.batch(p, 7, 7, 7, 7)
		s.send(p, 8)
		s.receive(q, 1)
		s.lease(q, 2, 2)
	}},
	{name: "spsc-run-half", about: "a consumer that gave a leased run back died while it was rewriting it: its last message has a word of its own", header: spsc(layout.Header{}), play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		s.batch(p, 7, 7, 7)
		s.lease(q, 3, 3)
		last := s.expect[2].Position
		s.mend(func(mem []byte) {
			put64(mem, s.state(last)+layout.EntryLength, 7)
			put64(mem, s.state(last), (last+1)<<layout.SpscSequenceShift|layout.StateReady)
		})
	}},
	{name: "spsc-run-given-back", about: "a run was leased by a consumer that died, and is given back in single entries", header: spsc(layout.Header{}), play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		s.batch(p, 9, 9, 9, 9)
		s.lease(q, 4, 4)
		s.die()
		_, err := s.r.Recover(false)
		require.NoError(s.t, err)
		for i := range s.expect {
			s.expect[i].seen = 2
		}
	}},
	{name: "spsc-reserved", about: "the producer died with an open reservation", header: spsc(layout.Header{}), play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		s.send(p, 5, 6)
		s.receive(q, 1)
		s.reserve(p, 30)
		s.after.Skipped = 1
	}},
	{name: "spsc-skipped", about: "the second producer stepped over the reservation that the first one died with, and died too", header: spsc(layout.Header{}), play: func(s *stage) {
		p := s.producer()
		s.send(p, 5)
		s.reserve(p, 9)
		s.die()
		s.after.Skipped = 1
		s.send(s.producer(), 6, 40)
	}},
	{name: "spsc-leased", about: "the consumer died with a batch of three, one of them of two slots", header: spsc(layout.Header{}), play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		s.send(p, 5, 40, 6, 7)
		s.lease(q, 3, 3)
	}},
	{name: "spsc-leased-drop", about: "the same in a ring that drops what a dead consumer held", header: spsc(layout.Header{Policy: layout.PolicyDrop}), play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		s.send(p, 5, 40, 6, 7)
		s.lease(q, 3, 3)
		for i := range 3 {
			s.lose(&s.expect[i])
		}
	}},
	{name: "spsc-part-released", about: "the consumer died with the rest of a batch whose first part it had released", header: spsc(layout.Header{}), play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		s.send(p, 5, 40, 6, 7)
		s.release(s.lease(q, 4, 4), 0, 1)
	}},
	{name: "spsc-journal", about: "the consumer died while it gave four messages back: the first is counted, the second is in the journal", header: spsc(layout.Header{MaxDeliveries: 9}), play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		s.send(p, 5, 6, 7, 8)
		s.lease(q, 4, 4)
		first, second := &s.expect[0], s.expect[1].Position
		first.seen = 2
		s.mend(func(mem []byte) {
			put64(mem, s.state(first.Position), get64(mem, s.state(first.Position))+1)
			put64(mem, layout.ControlOffset+layout.ControlJournal, second<<8|1)
		})
	}},
	{name: "spsc-journal-stored", about: "the same, but the second message has its count as well, so that it must not be counted again", header: spsc(layout.Header{MaxDeliveries: 9}), play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		s.send(p, 5, 6, 7, 8)
		s.lease(q, 4, 4)
		first, second := &s.expect[0], &s.expect[1]
		first.seen, second.seen = 2, 2
		s.mend(func(mem []byte) {
			put64(mem, s.state(first.Position), get64(mem, s.state(first.Position))+1)
			put64(mem, s.state(second.Position), get64(mem, s.state(second.Position))+1)
			put64(mem, layout.ControlOffset+layout.ControlJournal, second.Position<<8|1)
		})
	}},
	{name: "spsc-run-over-lost", about: "one delivery at most: a lap of messages was returned and so lost; then a run of four, one of which was received, over their words", header: spsc(layout.Header{MaxDeliveries: 1}), play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		for i := range 8 {
			s.send(p, 5)
			s.giveBack(s.lease(q, 1, 1), 0)
			s.expect[i].seen = 0
			s.lose(&s.expect[i])
		}
		_, err := q.TryReceive(nil) // steps over the last one
		require.Equal(s.t, ring.ErrEmpty, err)
		s.batch(p, 6, 6, 6, 6)
		s.receive(q, 1)
	}},
	{name: "spsc-retired", about: "the consumer died with a batch of four, and a producer that found the ring full counted it as died, which settles nothing", header: spsc(layout.Header{Policy: layout.PolicyDrop}), play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		s.send(p, 5, 6, 7, 8)
		s.lease(q, 4, 4)
		s.die()
		p = s.producer()
		s.send(p, 9, 10, 11, 12)
		require.Equal(s.t, ring.ErrNoConsumers, p.Send(context.Background(), []byte("no room")))
		for i := range 4 {
			s.lose(&s.expect[i])
		}
	}},
	{name: "spsc-returned-drop", about: "the consumer died at the end of a return, behind padding, before it cleared the journal; whoever drops the padding clears it", header: spsc(layout.Header{Policy: layout.PolicyDrop, MaxDeliveries: 9}), play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		s.send(p, 3, 4, 5)
		s.receive(q, 3)
		s.send(p, 6, 40, 7)
		b := s.lease(q, 3, 3)
		s.release(b, 0, 0)
		s.giveBack(b, 1)
		last := s.expect[5].Position
		s.mend(func(mem []byte) { put64(mem, layout.ControlOffset+layout.ControlJournal, last<<8|1) })
	}},
	{name: "spsc-given-back", about: "messages were returned, and leased again by a consumer that died", header: spsc(layout.Header{MaxDeliveries: 5}), play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		s.send(p, 4, 5, 30)
		s.giveBack(s.lease(q, 2, 2), 0)
		s.lease(q, 3, 3)
	}},
	{name: "spsc-lost", about: "two deliveries at most: a message that was returned twice is lost and waits to be stepped over", header: spsc(layout.Header{MaxDeliveries: 2}), play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		s.send(p, 4, 5, 6)
		s.giveBack(s.lease(q, 1, 1), 0)
		s.giveBack(s.lease(q, 2, 2), 0)
		s.expect[0].seen = 0
		s.lose(&s.expect[0])
	}},
	{name: "spsc-discarded", about: "reservations were discarded and committed shorter", header: spsc(layout.Header{}), play: func(s *stage) {
		p := s.producer()
		require.NoError(s.t, s.reserve(p, 9).Discard())
		s.next--
		s.send(p, 3)
		r := s.reserve(p, 70)
		s.next -= 3
		s.note(r.Bytes()[:26])
		require.NoError(s.t, r.CommitN(26))
		s.send(p, 4)
	}},
	{name: "spsc-one-slot", about: "a ring of one slot, whose message is leased by a dead consumer", header: spsc(layout.Header{Slots: 1, SlotSize: 40, EntryStride: 64}), play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		s.send(p, 40)
		s.receive(q, 1)
		s.send(p, 33)
		s.lease(q, 1, 1)
	}},
	{name: "spsc-typed", about: "a ring of values of 16 bytes", header: spsc(layout.Header{}), play: playTyped},
	{name: "spsc-sessions", about: "ids that were used again and again, all closed; nothing is left", header: spsc(layout.Header{}), play: func(s *stage) {
		for i := range 5 {
			p, q := s.producer(), s.consumer()
			s.send(p, i, i+40)
			s.receive(q, 2)
			require.NoError(s.t, p.Close())
			require.NoError(s.t, q.Close())
		}
	}},
	{name: "spsc-wide", about: "128 slots: positions and space in the control page lag behind", header: spsc(layout.Header{Slots: 128}), play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		for i := range 60 {
			s.send(p, i%48)
		}
		s.receive(q, 35)
		s.lease(q, 3, 3)
	}},
}
