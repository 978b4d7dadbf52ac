//go:build linux

package interop

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/tests/interop/peer"
)

// A record is what a swallowing peer notes of each message.
type record struct{ seq, seed, deliveries uint64 }

// records reads the log of a swallowing peer. A last record that a kill cut off does not count.
func records(t *testing.T, log string) (list []record) {
	data, err := os.ReadFile(log)
	if os.IsNotExist(err) {
		return nil
	}
	require.NoError(t, err)
	for ; len(data) >= 24; data = data[24:] {
		word := func(i int) uint64 { return binary.LittleEndian.Uint64(data[8*i:]) }
		list = append(list, record{word(0), word(1), word(2)})
	}
	return list
}

// storm is one ring with peers that pour and swallow.
type storm struct {
	t      *testing.T
	dir    string
	kind   string
	files  string
	logs   []string
	killed map[string]string // log of a consumer that was killed -> its mode
	pours  []string          // progress files, by seed from 1 on
}

func newStorm(t *testing.T, kind string) *storm {
	s := &storm{t: t, dir: shm(t), kind: kind, files: t.TempDir(), killed: map[string]string{}}
	createHere(t, s.dir, "storm", kind, "redeliver")
	return s
}

// pour starts a producer in a language; count 0 is for ever.
func (s *storm) pour(l *language, mode string, count int) *peer.Process {
	file := filepath.Join(s.files, fmt.Sprintf("progress%d", len(s.pours)))
	require.NoError(s.t, os.WriteFile(file, make([]byte, 8), 0o600))
	s.pours = append(s.pours, file)
	p := s.join(l)
	p.OK("producer wait")
	p.OK(fmt.Sprintf("pour %s 16..150 %d 0 %d %s", mode, len(s.pours), count, file))
	return p
}

// join starts a peer that has the ring open.
func (s *storm) join(l *language) *peer.Process {
	p := l.start(s.t, s.dir)
	p.OK("timeout 0")
	p.OK("open storm")
	return p
}

// swallow starts a consumer in a language.
func (s *storm) swallow(l *language, mode string) (p *peer.Process, log string) {
	log = filepath.Join(s.files, fmt.Sprintf("log%d", len(s.logs)))
	s.logs = append(s.logs, log)
	p = s.join(l)
	p.OK("consumer grace=60000") // between the death of a producer and the next one the stream has not ended
	p.OK("swallow " + mode + " " + log)
	return p, log
}

// progress is how many messages of seed were committed for certain.
func (s *storm) progress(seed int) uint64 {
	data, err := os.ReadFile(s.pours[seed-1])
	require.NoError(s.t, err)
	return binary.LittleEndian.Uint64(data)
}

// flows waits until n more messages of seed were committed.
func (s *storm) flows(seed int, n uint64) {
	s.t.Helper()
	start := s.progress(seed)
	require.Eventually(s.t, func() bool { return s.progress(seed) >= start+n }, peer.Patience, time.Millisecond, "the stream stands still")
}

// grows waits until a log has n records.
func (s *storm) grows(log string, n int) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return len(records(s.t, log)) >= n }, peer.Patience, time.Millisecond, "the consumer stands still")
}

// ends waits for the end of a peer's storm.
func ends(p *peer.Process, code string) {
	if a := p.Answer(); a.Code != code {
		require.FailNow(p.T(), "bad end", "%s peer: %s %v, not %s", p.Name, a.Code, a.Words, code)
	}
}

// account checks what arrived against what was committed. Properties: every committed message of every stream arrived; twice only with a higher delivery count, and only what a
// killed consumer had noted before; a killed consumer that copies may have one more that it did not live to note; of a stream whose producer was killed a prefix arrived, of one
// call more than is known to be committed at most; each consumer saw each stream in order.
func (s *storm) account() (total int) {
	t := s.t
	seen := map[[2]uint64][]uint64{}
	unnoted := 0
	for _, log := range s.logs {
		mode, died := s.killed[log]
		if died && (mode == "receive" || mode == "try") {
			unnoted++
		}
		next := map[uint64]uint64{}
		for _, r := range records(t, log) {
			id := [2]uint64{r.seed, r.seq}
			if r.deliveries == 1 {
				require.GreaterOrEqual(t, r.seq, next[r.seed], "%s: stream %d out of order", log, r.seed)
				next[r.seed] = r.seq + 1
			}
			require.NotContains(t, seen[id], r.deliveries, "message %d of stream %d came twice with count %d", r.seq, r.seed, r.deliveries)
			seen[id] = append(seen[id], r.deliveries)
			total++
		}
	}
	again := 0
	for _, counts := range seen {
		again += len(counts) - 1
	}
	if len(s.killed) == 0 {
		require.Zero(t, again)
	}
	for i := range s.pours {
		seed, committed := uint64(i+1), s.progress(i+1)
		last := uint64(0)
		for id := range seen {
			if id[0] == seed {
				last = max(last, id[1]+1)
			}
		}
		require.LessOrEqual(t, last, committed+8, "stream %d", seed)
		for seq := range max(last, committed) {
			if seen[[2]uint64{seed, seq}] == nil {
				unnoted--
			}
		}
	}
	require.GreaterOrEqual(t, unnoted, 0, "messages are missing")
	return total
}

var (
	pourModes    = []string{"send", "batch", "reserve", "try"}
	swallowModes = []string{"receive", "batch", "next", "try"}
)

// others returns the languages but l.
func others(there []*language, l *language) []*language {
	return slices.DeleteFunc(slices.Clone(there), func(x *language) bool { return x == l && len(there) > 1 })
}

// TestKilledProducers kills producers of each language while all other languages consume, then lets another one go on.
func TestKilledProducers(t *testing.T) {
	there := peers(t)
	for v, victim := range there {
		for _, kind := range kinds {
			t.Run(victim.name+"/"+kind, func(t *testing.T) {
				for round, survivors := range crowds(kind, others(there, victim)) {
					s := newStorm(t, kind)
					var consumers []*peer.Process
					for i, l := range survivors {
						p, _ := s.swallow(l, swallowModes[(v+i+round)%4])
						consumers = append(consumers, p)
					}
					for i := range 3 {
						p := s.pour(victim, pourModes[(v+i+round)%4], 0)
						s.flows(len(s.pours), 200)
						p.Kill()
					}
					p := s.pour(survivors[0], "send", 300)
					ends(p, "ok")
					p.OK("close producer")
					for _, c := range consumers {
						ends(c, "eof")
					}
					n := s.account()
					stats := p.Stats()
					require.EqualValues(t, 3, stats["producers_died"])
					require.LessOrEqual(t, stats["skipped"], uint64(3))
					require.EqualValues(t, []uint64{0, 0}, []uint64{stats["used"], stats["lost"]})
					t.Logf("%d messages, %d skipped claims, survivors %s", n, stats["skipped"], names(survivors))
				}
			})
		}
	}
}

// TestKilledConsumers kills consumers of each language while all other languages consume and produce.
func TestKilledConsumers(t *testing.T) {
	there := peers(t)
	for v, victim := range there {
		for _, kind := range kinds {
			t.Run(victim.name+"/"+kind, func(t *testing.T) {
				for round, survivors := range crowds(kind, others(there, victim)) {
					s := newStorm(t, kind)
					var consumers, producers []*peer.Process
					if kind == "mpmc" {
						for i, l := range survivors {
							p, _ := s.swallow(l, swallowModes[(v+i+round)%4])
							consumers = append(consumers, p)
						}
					}
					for i, l := range survivors { // one in an SPSC ring
						producers = append(producers, s.pour(l, pourModes[(v+i+round)%4], 0))
					}
					for i := range 3 {
						mode := swallowModes[(v+i+round)%4]
						p, log := s.swallow(victim, mode)
						s.grows(log, 20)
						p.Kill()
						s.killed[log] = mode
					}
					if kind == "spsc" {
						p, _ := s.swallow(survivors[0], "receive")
						consumers = append(consumers, p)
					}
					for _, p := range producers { // they pour for ever
						p.Kill()
					}
					last := s.pour(survivors[0], "send", 50)
					ends(last, "ok")
					last.OK("close producer")
					for _, c := range consumers {
						ends(c, "eof")
					}
					n := s.account()
					stats := last.Stats()
					require.EqualValues(t, []uint64{3, uint64(len(producers))}, []uint64{stats["consumers_died"], stats["producers_died"]})
					require.EqualValues(t, []uint64{0, 0}, []uint64{stats["used"], stats["lost"]})
					t.Logf("%d messages, %d again, survivors %s", n, stats["redelivered"], names(survivors))
				}
			})
		}
	}
}

// crowds are the survivors of each round: all at once in an MPMC ring, one after the other in an SPSC ring.
func crowds(kind string, survivors []*language) (rounds [][]*language) {
	if kind == "mpmc" {
		return [][]*language{survivors}
	}
	for _, l := range survivors {
		rounds = append(rounds, []*language{l})
	}
	return rounds
}

func names(languages []*language) (list []string) {
	for _, l := range languages {
		list = append(list, l.name)
	}
	return list
}

// TestCrowd lets two producers and two consumers of every language work on one MPMC ring.
func TestCrowd(t *testing.T) {
	there := peers(t)
	s := newStorm(t, "mpmc")
	var consumers, producers []*peer.Process
	for i, l := range there {
		for k := range 2 {
			p, _ := s.swallow(l, swallowModes[(2*i+k)%4])
			consumers = append(consumers, p)
		}
	}
	for i, l := range there {
		for k := range 2 {
			producers = append(producers, s.pour(l, pourModes[(2*i+k)%4], 500))
		}
	}
	for _, p := range producers {
		ends(p, "ok")
		p.OK("close producer")
	}
	for _, c := range consumers {
		ends(c, "eof")
	}
	require.Equal(t, len(producers)*500, s.account())
}
