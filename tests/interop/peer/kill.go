//go:build linux

package peer

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What a kill leaves, with the account: which messages must be there, which may, and how often.

var kinds = []string{"spsc", "mpmc"}

// KilledHolding kills victims that hold a reservation or a lease; survivors of the other language go on.
func KilledHolding(t *testing.T, victim, survivor []string) {
	for _, kind := range kinds {
		t.Run(kind+" reservation", func(t *testing.T) {
			dir := Dir(t)
			v, q := Start(t, dir, victim...), Start(t, dir, survivor...)
			v.OK("create r " + kind + " 8 64 redeliver")
			q.OK("open r")
			v.OK("producer")
			q.OK("consumer")
			v.OK("send 2 40 1 0")
			v.OK("reserve 100 1 2")
			v.OK("hold")
			v.Kill()
			require.Len(t, q.Items("receive 2"), 2)
			q.Fails("receive 1", "eof")
			p := Start(t, dir, survivor...)
			p.OK("open r")
			p.OK("producer")
			p.OK("send 7 64 2 0") // of an SPSC ring the skipped slot is in use until the consumer comes by
			require.Len(t, q.Items("receive 7"), 7)
			stats := q.Stats()
			require.EqualValues(t, 1, stats["skipped"])
			require.EqualValues(t, 1, stats["producers_died"])
		})
		for _, policy := range []string{"redeliver", "drop"} {
			for _, take := range []string{"next", "nextbatch 3"} {
				t.Run(fmt.Sprintf("%s %s %s", kind, policy, take), func(t *testing.T) {
					dir := Dir(t)
					v, s := Start(t, dir, victim...), Start(t, dir, survivor...)
					s.OK("create r " + kind + " 8 64 " + policy)
					v.OK("open r")
					s.OK("producer")
					v.OK("consumer")
					s.OK("sendbatch 4 60 1 0") // one run in an SPSC ring
					held := uint64(len(v.Items(take)))
					v.OK("hold")
					v.Kill()
					s.OK("consumer")
					s.OK("close producer")
					want := uint64(4)
					again, lost := held, uint64(0)
					if policy == "drop" {
						want, again, lost = 4-held, 0, held
					}
					drained := s.OK("drain")
					require.Equal(t, []string{fmt.Sprint(want), fmt.Sprint(again)}, drained[:2])
					stats := s.Stats()
					require.Equal(t, lost, stats["lost"])
					require.EqualValues(t, 1, stats["consumers_died"])
				})
			}
		}
	}
}

// KilledLast kills the last producer, or consumer, while the other side waits for it.
func KilledLast(t *testing.T, victim, survivor []string) {
	for _, kind := range kinds {
		t.Run(kind+" producer", func(t *testing.T) {
			dir := Dir(t)
			v, q := Start(t, dir, victim...), Start(t, dir, survivor...)
			v.OK("create r " + kind + " 8 64 redeliver")
			q.OK("open r")
			v.OK("producer")
			q.OK("consumer")
			q.Tell("receive 1")
			v.Kill()
			require.Equal(t, "eof", q.Answer().Code)
		})
		t.Run(kind+" consumer", func(t *testing.T) {
			dir := Dir(t)
			v, p := Start(t, dir, victim...), Start(t, dir, survivor...)
			v.OK("create r " + kind + " 8 64 redeliver")
			p.OK("open r")
			v.OK("consumer")
			p.OK("producer")
			p.Tell("send 100 64 1 0")
			v.Kill()
			a := p.Answer()
			require.Equal(t, "noconsumers", a.Code)
			require.Equal(t, 8, a.Count(t))
		})
	}
}

// KilledPouring kills producers at random moments: what they noted as committed arrives once, and at most one call's messages more.
func KilledPouring(t *testing.T, victim, survivor []string, rounds int) {
	for _, kind := range kinds {
		for _, mode := range []string{"send", "try", "batch", "reserve"} {
			t.Run(kind+" "+mode, func(t *testing.T) {
				for round := range rounds {
					killedPouring(t, victim, survivor, kind, mode, round)
				}
			})
		}
	}
}

func killedPouring(t *testing.T, victim, survivor []string, kind, mode string, round int) {
	dir := Dir(t)
	v, q := Start(t, dir, victim...), Start(t, dir, survivor...)
	v.OK("create r " + kind + " 32 48 redeliver")
	q.OK("open r")
	v.OK("producer")
	q.OK("consumer")
	done := filepath.Join(dir, "done.progress")
	require.NoError(t, os.WriteFile(done, make([]byte, 8), 0o600))
	v.OK("pour " + mode + " 16..180 3 0 0 " + done)
	q.Tell("drain")
	committed := func() uint64 {
		b, err := os.ReadFile(done)
		require.NoError(t, err)
		return binary.LittleEndian.Uint64(b)
	}
	require.Eventually(t, func() bool { return committed() > uint64(50+37*round) }, Patience, 50*time.Microsecond)
	v.Kill()
	a := q.Answer()
	require.True(t, a.OK, "%v %v", a.Code, a.Words)
	total := uint64(a.Count(t))
	sure := committed()
	require.GreaterOrEqual(t, total, sure)
	require.LessOrEqual(t, total, sure+8)
	require.Equal(t, "0", a.Words[1], "redelivered")
	require.Equal(t, fmt.Sprintf("3:%d:0:%d:%d", total, total-1, total*(total-1)/2), a.Words[2], "each once")
	stats := q.Stats()
	require.LessOrEqual(t, stats["skipped"], uint64(1))
	require.Zero(t, stats["lost"]+stats["used"])
	q.OK("close ring")
}

// KilledSwallowing kills consumers at random moments: together with a survivor each message is received; what two of them have says so.
func KilledSwallowing(t *testing.T, victim, survivor []string, rounds int) {
	for _, kind := range kinds {
		for _, mode := range []string{"receive", "try", "next", "batch"} {
			t.Run(kind+" "+mode, func(t *testing.T) {
				for round := range rounds {
					killedSwallowing(t, victim, survivor, kind, mode, round)
				}
			})
		}
	}
}

func killedSwallowing(t *testing.T, victim, survivor []string, kind, mode string, round int) {
	const messages = 400
	dir := Dir(t)
	v, s := Start(t, dir, victim...), Start(t, dir, survivor...)
	v.OK("create r " + kind + " 32 48 redeliver")
	s.OK("open r")
	s.OK("producer wait")
	v.OK("consumer")
	first, rest := filepath.Join(dir, "first.log"), filepath.Join(dir, "rest.log")
	done := filepath.Join(dir, "done.progress")
	require.NoError(t, os.WriteFile(done, make([]byte, 8), 0o600))
	s.OK(fmt.Sprintf("pour send 16..180 3 0 %d %s", messages, done))
	v.OK("swallow " + mode + " " + first)
	require.Eventually(t, func() bool {
		info, err := os.Stat(first)
		return err == nil && info.Size() > int64(24*(20+31*round))
	}, Patience, 50*time.Microsecond)
	v.Kill()
	q := Start(t, dir, survivor...)
	q.OK("open r")
	q.OK("consumer")
	q.OK("swallow receive " + rest)
	require.True(t, s.Answer().OK)
	s.OK("close producer")
	require.Equal(t, "eof", q.Answer().Code)

	mine, others := readLog(t, first), readLog(t, rest)
	for seq := range mine {
		require.EqualValues(t, 1, mine[seq])
	}
	missing := 0
	for seq := range uint64(messages) {
		_, a := mine[seq]
		count, b := others[seq]
		switch {
		case a && b:
			require.Greater(t, count, uint64(1), "message %d came twice and does not say so", seq)
			require.NotEqual(t, "receive", mode)
			require.NotEqual(t, "try", mode)
		case !a && !b:
			missing++ // received by copying and killed before the record was written
		}
	}
	most := 0
	if mode == "receive" || mode == "try" {
		most = 1
	}
	require.LessOrEqual(t, missing, most)
	require.Zero(t, q.Stats()["lost"]+q.Stats()["used"])
}

// readLog returns the deliveries of each message in a log of swallow, by SEQ.
func readLog(t *testing.T, name string) map[uint64]uint64 {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	seen := map[uint64]uint64{}
	for ; len(b) >= 24; b = b[24:] {
		seq := binary.LittleEndian.Uint64(b)
		require.NotContains(t, seen, seq, "received twice by one consumer")
		seen[seq] = binary.LittleEndian.Uint64(b[16:])
	}
	return seen
}
