package demo

import (
	"fmt"
	"io"
	"time"

	"github.com/cd1900cf/millrace/ring"
)

// Result is the account at the end.
type Result struct {
	Kind      string `json:"kind"`
	Ring      string `json:"ring"`
	Input     string `json:"input"`
	Producers int    `json:"producers"`
	Consumers int    `json:"consumers"`

	ElapsedNS  int64   `json:"elapsed_ns"`
	Passes     float64 `json:"passes"` // through the whole input, on average
	Bytes      uint64  `json:"bytes"`  // of files, received for the first time
	MessagesPS float64 `json:"messages_per_second"`
	BytesPS    float64 `json:"bytes_per_second"`

	Sent        uint64 `json:"messages_sent"`     // committed by producers, resent ones included
	Received    uint64 `json:"messages_received"` // different ones
	Redelivered uint64 `json:"redelivered"`       // deliveries marked as repeated, because a consumer died
	Resent      uint64 `json:"resent"`            // new messages with an old content, because a producer died before it recorded
	Unrecorded  uint64 `json:"unrecorded"`        // sent by a producer that died before it recorded them, when it was time to stop anyway
	Lost        uint64 `json:"lost"`
	Duplicates  uint64 `json:"duplicates"` // received twice unmarked
	OutOfOrder  uint64 `json:"out_of_order"`
	Corrupt     uint64 `json:"corrupt"` // wrong content
	Foreign     uint64 `json:"foreign"` // never sent

	KillEveryNS       int64 `json:"kill_every_ns"`
	KilledProducers   int   `json:"killed_producers"`
	KilledConsumers   int   `json:"killed_consumers"`
	SlowestRecoveryNS int64 `json:"slowest_recovery_ns"`
	LongestStallNS    int64 `json:"longest_stall_ns"` // without any message received, start included

	Latency latency `json:"latency_ns"` // from send to receive, redelivered ones included; producers send as fast as they can

	Files           int        `json:"files"`
	FilesVerified   int        `json:"files_verified"`
	FilesBad        int        `json:"files_bad"`
	FilesNotReached int        `json:"files_not_reached"` // the duration was over before
	FilesSkipped    int        `json:"files_skipped"`     // could not be read
	Counters        ring.Stats `json:"ring_counters"`     // what the ring itself says

	Balanced bool     `json:"balanced"`
	Problems []string `json:"problems"`
}

// latency in nanoseconds.
type latency struct {
	P50  int64 `json:"p50"`
	P99  int64 `json:"p99"`
	P999 int64 `json:"p999"`
	Max  int64 `json:"max"`
}

// snapshot is how far it has come.
type snapshot struct {
	tally
	last                 time.Time
	producers, consumers int // killed
}

func (t *tally) faulty() (n uint64) {
	for _, f := range t.faults {
		n += f
	}
	return n
}

func (a *account) snapshot() snapshot {
	a.mu.Lock()
	defer a.mu.Unlock()
	return snapshot{a.tally, a.last, a.kills.count(roleProducer), a.kills.count(roleConsumer)}
}

// killed notes that a process is about to be killed, or was. It returns the number of the kill.
func (a *account) killed(role string, index, successor int, at time.Time) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.kills.add(role, index, successor, at)
}

// spared notes that the process of a kill had ended before.
func (a *account) spared(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kills.all[n].spared = true
}

// resumed says whether the successor of a killed process has done something.
func (a *account) resumed(n int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.kills.all[n].resumed.IsZero()
}

// result closes the account: totals is how many messages each producer says it sent.
func (a *account) result(c *Config, name string, skipped int, totals []uint64, s ring.Stats) *Result {
	a.mu.Lock()
	defer a.mu.Unlock()
	elapsed := a.last.Sub(a.began)
	r := &Result{
		Kind: c.Kind.String(), Ring: name, Input: c.Input, Producers: c.Producers, Consumers: c.Consumers,
		ElapsedNS: int64(elapsed), Bytes: a.bytes, Received: a.messages, Redelivered: a.redelivered, Resent: a.resent,
		Duplicates: a.faults[faultDuplicate], OutOfOrder: a.faults[faultOrder], Corrupt: a.faults[faultContent], Foreign: a.faults[faultForeign],
		KillEveryNS: int64(c.KillEvery), KilledProducers: a.kills.count(roleProducer), KilledConsumers: a.kills.count(roleConsumer),
		SlowestRecoveryNS: int64(a.kills.slowest()), LongestStallNS: int64(a.stall),
		Latency: latency{int64(a.latency.quantile(0.5)), int64(a.latency.quantile(0.99)), int64(a.latency.quantile(0.999)), int64(a.latency.most)},
		Files:   len(a.files), FilesSkipped: skipped, Counters: s,
	}
	if seconds := elapsed.Seconds(); seconds > 0 {
		r.MessagesPS, r.BytesPS = float64(a.messages)/seconds, float64(a.bytes)/seconds
	}
	if size := bytesOf(a.files); size > 0 {
		r.Passes = float64(a.bytes) / float64(size)
	}
	r.Sent = a.resent
	for p := range a.lanes {
		r.Unrecorded += a.unrecorded(p, totals[p])
		r.Sent += totals[p]
		a.verify(&a.lanes[p], totals[p], r)
	}
	r.Sent += r.Unrecorded
	a.crossCheck(r)
	r.Problems = append([]string{}, a.problems...)
	r.Balanced = a.faulty() == 0 && r.Lost == 0 && r.FilesBad == 0 && len(a.problems) == 0
	return r
}

// unrecorded takes out of the account what was received of a producer beyond its last record, which says that n messages were
// sent: at most one batch. A process was killed between committing and recording it, and its successor found the order to stop.
func (a *account) unrecorded(p int, n uint64) (found uint64) {
	for x := n; x < n+sendBatch && a.lanes[p].pass > 0; x++ {
		if a.numbers[p][x%rememberNumbers].number != x+1 {
			continue
		}
		_, k, _ := a.lanes[p].locate(x)
		a.got[a.lanes[p].files[k]]--
		found++
	}
	return found
}

// verify gives the verdict on the files of one producer, which sent n messages.
func (a *account) verify(l *lane, n uint64, r *Result) {
	for k, i := range l.files {
		chunks := a.files[i].chunks()
		passes := l.passes(k, n, chunks)
		want, got := passes*chunks, a.got[i]
		switch {
		case got != want:
			a.problem("%s: %d of %d chunks were received (%d passes)", a.files[i].path, got, want, passes)
			r.Lost += want - min(want, got)
			r.FilesBad++
		case a.bad[i]:
			r.FilesBad++
		case passes == 0:
			r.FilesNotReached++
		default:
			r.FilesVerified++
		}
	}
}

// crossCheck compares the account with what the ring says. A kill can keep the ring from counting what it committed, never
// the other way round.
func (a *account) crossCheck(r *Result) {
	s := &r.Counters
	if s.Used != 0 {
		a.problem("the ring says that %d slots are in use at the end", s.Used)
	}
	if s.Lost != 0 {
		a.problem("the ring says that it lost %d messages", s.Lost)
	}
	if s.Sent > a.messages {
		a.problem("the ring says that %d messages were sent, %d were received", s.Sent, a.messages)
	}
	if s.Received < a.messages {
		most := uint64(receiveBatch * r.KilledConsumers)
		if a.messages-s.Received > most {
			a.problem("the ring says that %d messages were received, %d were reported", s.Received, a.messages)
		}
	}
}

// Print writes the account for people.
func (r *Result) Print(w io.Writer) error {
	ms := func(ns int64) string { return time.Duration(ns).Round(time.Microsecond).String() }
	killed := r.KilledProducers + r.KilledConsumers
	lines := [][2]string{
		{"streamed", fmt.Sprintf("%d files, %.1f MB in %s (%.1f passes)", r.Files-r.FilesNotReached, float64(r.Bytes)/1e6,
			time.Duration(r.ElapsedNS).Round(time.Millisecond), r.Passes)},
		{"throughput", fmt.Sprintf("%.0f messages/s, %.1f MB/s", r.MessagesPS, r.BytesPS/1e6)},
		{"sent", fmt.Sprintf("%d messages", r.Sent)},
		{"received", fmt.Sprintf("%d messages", r.Received)},
		{"redelivered", fmt.Sprintf("%d deliveries, marked: a consumer was killed before it released them", r.Redelivered)},
		{"resent", fmt.Sprintf("%d of the messages: a producer was killed before it recorded them", r.Resent)},
		{"unrecorded", fmt.Sprintf("%d of the messages: likewise, when it was time to stop", r.Unrecorded)},
		{"lost", fmt.Sprint(r.Lost)},
		{"duplicates", fmt.Sprintf("%d unmarked", r.Duplicates)},
		{"out of order", fmt.Sprint(r.OutOfOrder)},
		{"killed", fmt.Sprintf("%d processes: %d producers, %d consumers", killed, r.KilledProducers, r.KilledConsumers)},
		{"slowest recovery", ms(r.SlowestRecoveryNS)},
		{"longest stall", ms(r.LongestStallNS)},
		{"latency", fmt.Sprintf("p50 %s, p99 %s, p99.9 %s, max %s (producers send as fast as they can)", ms(r.Latency.P50), ms(r.Latency.P99), ms(r.Latency.P999), ms(r.Latency.Max))},
		{"files", fmt.Sprintf("%d verified by checksum, %d bad, %d not reached, %d could not be read", r.FilesVerified, r.FilesBad, r.FilesNotReached, r.FilesSkipped)},
		{"verdict", "the account balances"},
	}
	if !r.Balanced {
		lines[len(lines)-1][1] = "THE ACCOUNT DOES NOT BALANCE"
	}
	for _, p := range r.Problems {
		lines = append(lines, [2]string{"problem", p})
	}
	for _, l := range lines {
		if _, err := fmt.Fprintf(w, "%-17s %s\n", l[0], l[1]); err != nil {
			return err
		}
	}
	return nil
}
