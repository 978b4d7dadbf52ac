package rust

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The first language of a pair is killed, the second goes on. The account is kept apart from the counters of the ring: by what the peers
// noted before they died.

// TestKilledWithClaim: a producer dies with an open reservation. Properties: it is skipped and counted once, everything before it arrives.
func TestKilledWithClaim(t *testing.T) {
	each(t, func(t *testing.T, p place, kind, first, second string) {
		a := p.start(first)
		a.OK("create r " + kind + " 8 32 redeliver")
		b := p.start(second)
		b.OK("consumer")
		a.OK("producer")
		a.OK("send 2 20 1 0")
		a.OK("reserve 70 1 2")
		a.Tell("hold")
		require.Len(t, b.Items("receive 2"), 2)
		b.Fails("tryreceive 1", "empty")
		b.Tell("receive 1") // parked when the other dies
		a.Kill()
		require.Equal(t, "eof", b.Answer().Code)
		c := p.start(second)
		c.OK("producer")
		c.OK("send 3 60 1 3")
		require.Len(t, b.Items("receive 3"), 3)
		s := b.Stats()
		require.EqualValues(t, 1, s["skipped"])
		require.EqualValues(t, 1, s["producers_died"])
		require.EqualValues(t, 0, s["lost"])
		require.EqualValues(t, 0, s["used"])
	})
}

// TestKilledWithLease: a consumer dies holding messages. Properties: under Redeliver somebody else gets them, marked; under Drop they are
// counted as lost, each once.
func TestKilledWithLease(t *testing.T) {
	for _, policy := range []string{"redeliver", "drop"} {
		t.Run(policy, func(t *testing.T) {
			each(t, func(t *testing.T, p place, kind, first, second string) {
				a := p.start(first)
				a.OK("create r " + kind + " 16 32 " + policy)
				b := p.start(second)
				a.OK("consumer")
				b.OK("producer")
				b.OK("sendbatch 3 20 1 0") // one run in an SPSC ring
				b.OK("send 2 50 1 3")
				require.Len(t, a.Items("nextbatch 3"), 3)
				a.OK("release 0")
				a.Tell("hold")
				a.Kill()
				c := p.start(second)
				c.OK("consumer")
				var seen []uint64
				marked := 0
				b.OK("close producer")
				for {
					x := c.Ask("receive 1")
					if x.Code == "eof" {
						break
					}
					require.True(t, x.OK, x.Code)
					it := x.Items(t)[0]
					seen = append(seen, it.Seq)
					if it.Deliveries > 1 {
						marked++
					}
				}
				s := c.Stats()
				require.EqualValues(t, 1, s["consumers_died"])
				require.EqualValues(t, 0, s["used"])
				if policy == "drop" {
					require.ElementsMatch(t, []uint64{3, 4}, seen)
					require.EqualValues(t, 2, s["lost"])
					require.Zero(t, marked)
					return
				}
				require.ElementsMatch(t, []uint64{1, 2, 3, 4}, seen)
				require.EqualValues(t, 0, s["lost"])
				require.Equal(t, 2, marked)
			})
		})
	}
}

// TestRecoveredByHand: what a dead process of the first language held is found by recover of the second.
func TestRecoveredByHand(t *testing.T) {
	each(t, func(t *testing.T, p place, kind, first, second string) {
		a := p.start(first)
		a.OK("create r " + kind + " 8 32 redeliver")
		a.OK("producer")
		a.OK("consumer")
		a.OK("send 1 20 1 0")
		require.Len(t, a.Items("next"), 1)
		a.OK("reserve 70 1 1")
		b := p.start(second)
		require.Equal(t, []string{"0"}, b.OK("recover"))
		a.Kill()
		require.ElementsMatch(t, []string{"0:producer:dead", "1:consumer:dead"}, b.OK("who"))
		require.Equal(t, []string{"2"}, b.OK("recover"))
		require.Equal(t, []string{"0"}, b.OK("recover"))
		s := b.Stats()
		require.EqualValues(t, 1, s["skipped"])
		require.EqualValues(t, 2, s["recoveries"])
		b.OK("consumer")
		require.EqualValues(t, 2, b.Items("receive 1")[0].Deliveries)
		b.Fails("receive 1", "eof")
	})
}

// noted reads how many messages a killed pour had committed.
func noted(t *testing.T, file string) uint64 {
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	return binary.LittleEndian.Uint64(b)
}

// journal reads what a swallow received: SEQ and count of deliveries.
func journal(t *testing.T, file string) (seqs []uint64, again int) {
	b, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return nil, 0
	}
	require.NoError(t, err)
	require.Zero(t, len(b)%24)
	for ; len(b) > 0; b = b[24:] {
		seqs = append(seqs, binary.LittleEndian.Uint64(b))
		if binary.LittleEndian.Uint64(b[16:]) > 1 {
			again++
		}
	}
	return seqs, again
}

// TestKilledWhileSending kills producers in the middle of a stream. Properties: the survivor gets every message that the dead one noted as
// committed and at most one call more, in order and without a gap.
func TestKilledWhileSending(t *testing.T) {
	each(t, func(t *testing.T, p place, kind, first, second string) {
		creator := p.start(second)
		creator.OK("create r " + kind + " 16 32 redeliver")
		creator.OK("consumer follow")
		log := filepath.Join(t.TempDir(), "log")
		creator.OK("swallow receive " + log)
		next := uint64(0)
		deaths := 0
		for round := range 3 {
			for _, mode := range []string{"send", "batch", "reserve", "try"} {
				x := p.start(first)
				x.OK("producer")
				done := filepath.Join(t.TempDir(), "done")
				require.NoError(t, os.WriteFile(done, make([]byte, 8), 0o600))
				x.OK(fmt.Sprintf("pour %s 16..100 1 %d 0 %s", mode, next, done))
				until(t, "nothing was sent", func() bool { return noted(t, done) > uint64(20*round) })
				x.Kill()
				deaths++
				observer := p.start(second)
				settle := p.start(second)
				settle.OK("producer") // settles what the dead one left, and tells how far it came
				until(t, "messages are left", func() bool { return observer.Stats()["used"] == 0 })
				settle.Kill()
				deaths++
				var got []uint64
				until(t, "the journal lacks a message", func() bool {
					got, _ = journal(t, log)
					return uint64(len(got)) >= next+noted(t, done)
				})
				until(t, "messages are left", func() bool { // the last one may be received and not noted yet
					before := len(got)
					got, _ = journal(t, log)
					return len(got) == before
				})
				for i, seq := range got {
					require.EqualValues(t, i, seq)
				}
				most := uint64(1)
				if mode == "batch" {
					most = 8
				}
				require.LessOrEqual(t, uint64(len(got)), next+noted(t, done)+most)
				next = uint64(len(got))
				observer.Kill()
			}
		}
		last := p.start(second)
		last.OK("recover")
		s := last.Stats()
		require.EqualValues(t, deaths, s["producers_died"])
		require.EqualValues(t, 0, s["lost"])
		require.LessOrEqual(t, s["skipped"], uint64(deaths))
	})
}

// TestKilledWhileReceiving kills consumers in the middle of a stream. Properties: each message is received by somebody; one that is noted
// twice is marked as redelivered; a message that nobody noted was received by a copying call of a dead one, at most one each.
func TestKilledWhileReceiving(t *testing.T) {
	each(t, func(t *testing.T, p place, kind, first, second string) {
		a := p.start(second)
		a.OK("create r " + kind + " 16 32 redeliver")
		a.OK("producer wait")
		done := filepath.Join(t.TempDir(), "done")
		require.NoError(t, os.WriteFile(done, make([]byte, 8), 0o600))
		const rounds, modes, part = 2, 4, 750
		const n = rounds * modes * part
		var logs []string
		copying := 0
		for round := range rounds {
			for _, mode := range []string{"receive", "next", "batch", "try"} {
				log := filepath.Join(t.TempDir(), "log")
				logs = append(logs, log)
				x := p.start(first)
				x.OK("consumer")
				x.OK("swallow " + mode + " " + log)
				if len(logs) > 1 {
					require.Equal(t, "ok", a.Answer().Code) // so however fast the last one was, there is a stream for this one to die in
				}
				a.OK(fmt.Sprintf("pour send 16..100 1 %d %d %s", (len(logs)-1)*part, part, done))
				until(t, "nothing was received", func() bool { s, _ := journal(t, log); return len(s) > 20*round })
				x.Kill()
				if mode == "receive" || mode == "try" {
					copying++
				}
			}
		}
		log := filepath.Join(t.TempDir(), "log")
		logs = append(logs, log)
		b := p.start(second)
		b.OK("consumer")
		b.OK("swallow receive " + log)
		require.Equal(t, "ok", a.Answer().Code)
		a.OK("close producer")
		require.Equal(t, "eof", b.Answer().Code)
		times := map[uint64]int{}
		marked, noted := 0, 0
		for _, l := range logs {
			seqs, again := journal(t, l)
			marked += again
			noted += len(seqs)
			for _, s := range seqs {
				times[s]++
			}
		}
		require.LessOrEqual(t, n-len(times), copying, "lost")
		require.LessOrEqual(t, noted-len(times), marked, "twice, and not marked")
		s := b.Stats()
		require.EqualValues(t, 8, s["consumers_died"])
		require.EqualValues(t, 0, s["lost"])
		require.EqualValues(t, 0, s["used"])
	})
}

// TestBehindAStalledPeer: a wait behind a live process of the other language that does not move says so, and takes nothing from it.
func TestBehindAStalledPeer(t *testing.T) {
	for _, pair := range pairs {
		t.Run(pair[0]+"-"+pair[1], func(t *testing.T) {
			p := newPlace(t)
			a := p.start(pair[0])
			a.OK("create r mpmc 8 32 redeliver")
			b := p.start(pair[1])
			b.OK("consumer")
			a.OK("producer")
			a.OK("reserve 20 1 0")
			b.OK("timeout 400")
			b.Fails("receive 1", "stalled")
			a.OK("commit")
			require.Len(t, b.Items("receive 1"), 1)
		})
	}
}
