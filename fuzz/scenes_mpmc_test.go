//go:build linux && (amd64 || arm64)

package fuzz

import (
	"encoding/hex"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/ring"
)

// mpmcStart is a few positions before the sequences of the state words begin anew, in the middle of a lap.
const mpmcStart = 1<<44 - 5

// record is a plain type: 16 bytes.
type record struct {
	A uint32
	B uint16
	C [2]uint8
	D float64
}

var mpmcScenes = []scene{
	{name: "mpmc-fresh", about: "created, and nobody has come yet", header: layout.Header{Start: mpmcStart, MaxDeliveries: 7, EntryStride: 64}, play: func(s *stage) {
		s.end = "waiting"
	}},
	{name: "mpmc-ready", about: "messages inline, in the data area, empty, and of several slots behind padding; the ring has wrapped", header: layout.Header{Start: mpmcStart}, play: func(s *stage) {
		p1, p2, q := s.producer(), s.producer(), s.consumer()
		s.send(p1, 1, 16)
		s.send(p2, 24, 0)
		s.receive(q, 3)
		s.send(p1, 50)
		s.send(p2, 20, 17)
		require.NoError(s.t, q.Close())
		require.NoError(s.t, p1.Close())
	}},
	{name: "mpmc-claimed", about: "two producers died with open reservations, one of them with padding before it; messages lie between and behind", header: layout.Header{Start: mpmcStart}, play: func(s *stage) {
		p1, p2, p3, q := s.producer(), s.producer(), s.producer(), s.consumer()
		s.send(p1, 5)
		s.reserve(p2, 30)
		s.send(p1, 7)
		s.reserve(p3, 60)
		s.receive(q, 1)
		s.send(p1, 8)
		s.after.Skipped = 2
	}},
	{name: "mpmc-batch-half", about: "a producer died in the middle of publishing a batch: the messages behind the first have their words, the head is still claimed", header: layout.Header{Start: mpmcStart}, play: func(s *stage) {
		p1, p2 := s.producer(), s.producer()
		s.send(p1, 9)
		s.batch(p2, 5, 30, 7)
		s.send(p1, 10)
		head := s.expect[1].Position
		for i := 1; i <= 3; i++ {
			s.expect[i].seen, s.expect[i].got = 0, 0
		}
		s.after.Skipped = 1
		s.mend(func(mem []byte) {
			put64(mem, s.state(head), (head+4)<<layout.MpmcSequenceShift|1<<layout.OwnerShift|layout.StateClaimed)
			put64(mem, s.h.ParticipantsOffset+layout.ParticipantSize+layout.ParticipantSent, 0)
		})
	}},
	{name: "mpmc-taken", about: "two consumers died with leases: one message, and a batch of three with one of two slots; two messages nobody has had", header: layout.Header{Start: mpmcStart}, play: playTaken},
	{name: "mpmc-taken-drop", about: "the same in a ring that drops what a dead consumer held", header: layout.Header{Start: mpmcStart, Policy: layout.PolicyDrop}, play: func(s *stage) {
		playTaken(s)
		for i := range 4 {
			s.lose(&s.expect[i])
		}
	}},
	{name: "mpmc-part-released", about: "a consumer died with the second half of a batch, whose first half it had released", header: layout.Header{Start: mpmcStart}, play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		s.send(p, 6, 40, 3, 30, 12)
		s.release(s.lease(q, 4, 4), 0, 1)
	}},
	{name: "mpmc-given-back", about: "messages were returned, some twice, and one is leased for the fourth time", header: layout.Header{Start: mpmcStart, MaxDeliveries: 5}, play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		s.send(p, 4, 5, 30, 6)
		s.giveBack(s.lease(q, 3, 3), 0)
		s.giveBack(s.lease(q, 1, 1), 0)
		s.giveBack(s.lease(q, 1, 1), 0)
		s.lease(q, 1, 1)
	}},
	{name: "mpmc-lost", about: "two deliveries at most: one message is lost and counted, another will be when its dead consumer is recovered", header: layout.Header{Start: mpmcStart, MaxDeliveries: 2}, play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		s.send(p, 4, 30, 6, 7)
		s.giveBack(s.lease(q, 2, 2), 0)
		s.giveBack(s.lease(q, 1, 1), 0)
		s.expect[0].seen = 0
		s.lose(&s.expect[0])
		s.lease(q, 1, 1)
		s.lose(&s.expect[1])
	}},
	{name: "mpmc-discarded", about: "reservations were discarded and committed shorter: slots are skipped without a message", header: layout.Header{Start: mpmcStart}, play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		s.send(p, 3)
		require.NoError(s.t, s.reserve(p, 40).Discard())
		s.send(p, 4)
		at := s.next + s.h.Slots - s.next%s.h.Slots // three slots do not fit before the end
		r := s.reserve(p, 70)
		s.expect = append(s.expect, expectation{message{Position: at, Payload: hex.EncodeToString(r.Bytes()[:26])}, 1, 1})
		require.NoError(s.t, r.CommitN(26))
		s.receive(q, 1)
		require.NoError(s.t, s.reserve(p, 9).Discard())
	}},
	{name: "mpmc-done", about: "a consumer died while it gave the three slots of a message back that it had received", header: layout.Header{Start: mpmcStart}, play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		s.send(p, 60, 5)
		s.lease(q, 1, 1)
		x := &s.expect[0]
		x.seen, x.got = 0, 0
		head := x.Position
		s.mend(func(mem []byte) {
			put64(mem, s.state(head), get64(mem, s.state(head))&^0xff|layout.StateDone)
			put64(mem, s.state(head+2), (head+2+s.h.Slots)<<layout.MpmcSequenceShift|layout.StateFree)
		})
	}},
	{name: "mpmc-one-slot", about: "a ring of one slot, whose message is leased by a dead consumer", header: layout.Header{Start: mpmcStart, Slots: 1, SlotSize: 40, EntryStride: 64}, play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		s.send(p, 40)
		s.receive(q, 1)
		s.send(p, 33)
		s.lease(q, 1, 1)
	}},
	{name: "mpmc-two-slots", about: "a ring of two slots, full", header: layout.Header{Start: mpmcStart, Slots: 2, SlotSize: 5, EntryStride: 128}, play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		s.send(p, 5)
		s.receive(q, 1)
		s.send(p, 4, 3)
		require.ErrorIs(s.t, p.TrySend(nil), ring.ErrFull)
	}},
	{name: "mpmc-stride-16", about: "entries without room for a message", header: layout.Header{Start: mpmcStart, EntryStride: 16}, play: func(s *stage) {
		s.send(s.producer(), 0, 1, 16, 24, 25)
	}},
	{name: "mpmc-stride-128", about: "entries with room for 112 bytes, of which a slot of 100 uses 100", header: layout.Header{Start: mpmcStart, EntryStride: 128, SlotSize: 100}, play: func(s *stage) {
		s.send(s.producer(), 0, 99, 100, 101)
	}},
	{name: "mpmc-typed", about: "a ring of values of 16 bytes", header: layout.Header{Start: mpmcStart}, play: playTyped},
	{name: "mpmc-late-hints", about: "both position hints lag by five laps: their owners were stopped before they stored them; two messages are unread", header: layout.Header{Start: mpmcStart}, play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		for range 20 {
			s.send(p, 5, 6)
			s.receive(q, 2)
		}
		s.send(p, 7, 40)
		s.mend(func(mem []byte) {
			put64(mem, layout.ControlOffset+layout.ControlProducerPosition, s.h.Start)
			put64(mem, layout.ControlOffset+layout.ControlConsumerPosition, s.h.Start)
		})
	}},
	{name: "mpmc-recovered", about: "two lives: what the first left was recovered and counted, under drop; the second died too", header: layout.Header{Start: mpmcStart, Policy: layout.PolicyDrop, MaxDeliveries: 6}, play: func(s *stage) {
		p1, p2, q := s.producer(), s.producer(), s.consumer()
		s.send(p1, 5, 6, 7)
		s.reserve(p2, 30)
		s.lease(q, 2, 2)
		s.die()
		_, err := s.r.Recover(false)
		require.NoError(s.t, err)
		for i := range 2 {
			s.expect[i].seen = 0
			s.lose(&s.expect[i])
		}
		s.after.Skipped = 1
		q, p3 := s.consumer(), s.producer()
		s.send(p3, 8, 50, 9)
		s.lease(q, 1, 1)
		s.lose(&s.expect[2])
	}},
	{name: "mpmc-sessions", about: "ids that were used again and again, all closed; nothing is left", header: layout.Header{Start: mpmcStart}, play: func(s *stage) {
		for i := range 5 {
			p, q, p2 := s.producer(), s.consumer(), s.producer()
			s.send(p, i, i+40)
			s.send(p2, 2*i)
			s.receive(q, 3)
			require.NoError(s.t, p.Close())
			require.NoError(s.t, q.Close())
			require.NoError(s.t, p2.Close())
		}
	}},
	{name: "mpmc-removed", about: "removed by force: every call ends", header: layout.Header{Start: mpmcStart}, play: func(s *stage) {
		s.send(s.producer(), 5, 6)
		s.end = "removed"
		for i := range s.expect {
			s.expect[i].got = 0
		}
		s.mend(func(mem []byte) { mem[layout.ControlOffset+layout.ControlRemoved] = 1 })
	}},
	{name: "mpmc-wide", about: "128 slots: the positions in the control page lag behind the state words", header: layout.Header{Start: mpmcStart, Slots: 128}, play: func(s *stage) {
		p, q := s.producer(), s.consumer()
		for i := range 60 {
			s.send(p, i%48)
		}
		s.receive(q, 35)
		s.lease(q, 3, 3)
	}},
}

func playTaken(s *stage) {
	p, q1, q2 := s.producer(), s.consumer(), s.consumer()
	s.send(p, 6, 40, 3, 11, 24, 9)
	s.lease(q1, 1, 1)
	s.lease(q2, 3, 3)
}

func playTyped(s *stage) {
	p, err := ring.NewTypedProducer[record](s.r)
	require.NoError(s.t, err)
	v := []record{{1, 2, [2]uint8{3, 4}, 5}, {6, 7, [2]uint8{8, 9}, 10.25}, {11, 12, [2]uint8{13, 14}, -15.5}}
	n, err := p.TrySendBatch(v)
	require.NoError(s.t, err)
	require.Equal(s.t, 3, n)
	for _, payload := range []string{"01000000020003040000000000001440", "06000000070008090000000000802440", "0b0000000c000d0e0000000000002fc0"} {
		s.expect = append(s.expect, expectation{message{Position: s.claim(16), Payload: payload}, 1, 1})
	}
}
