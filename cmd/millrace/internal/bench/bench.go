// Package bench is the work of `millrace bench`: it measures rings between processes on this machine. The comparison with other mechanisms is in the
// directory bench of the project.
package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/cd1900cf/millrace/ring"
)

// What can be measured.
const (
	Throughput = "throughput" // closed loop: as fast as it goes
	Latency    = "latency"    // open loop: messages leave at fixed times
	Wake       = "wake"       // round trips between processes that sleep, one a millisecond
	Recover    = "recover"    // from SIGKILL of a participant to the next message for those that it held up
)

// Hidden commands that this program starts itself with.
const (
	WorkerVerb = "bench-worker"
	FloorVerb  = "bench-floor"
)

// Config says what is measured.
type Config struct {
	What      string
	Kind      ring.Kind
	Size      int // bytes of a message
	Batch     int // messages in a batch; 1: one at a time
	Slots     int
	Producers int
	Consumers int
	Rate      int // of Latency: messages a second
	Duration  time.Duration
	Rounds    int
	Pinned    bool
	Dir       string
}

// Result is what was measured, in nanoseconds.
type Result struct {
	What       string  `json:"what"`
	Kind       string  `json:"kind"`
	Size       int     `json:"size"`
	Batch      int     `json:"batch"`
	Slots      int     `json:"slots"`
	Producers  int     `json:"producers"`
	Consumers  int     `json:"consumers"`
	Rate       int     `json:"rate,omitempty"`
	Pinned     bool    `json:"pinned"`
	FloorNS    []int64 `json:"floor_ns"`                 // one cache line there and back, before each round and after the last
	PerMessage []int64 `json:"per_message_ps,omitempty"` // picoseconds, one figure a round
	Latencies  *Spread `json:"latency_ns,omitempty"`     // of a message, or of a round trip
	Producer   *Spread `json:"producer_ns,omitempty"`    // of the recovery from a producer's death
	Consumer   *Spread `json:"consumer_ns,omitempty"`    // of the recovery from a consumer's death
}

// Spread is how latencies are distributed.
type Spread struct {
	Count int   `json:"count"`
	P50   int64 `json:"p50"`
	P90   int64 `json:"p90"`
	P99   int64 `json:"p99"`
	P999  int64 `json:"p999"`
	P9999 int64 `json:"p9999"`
	Max   int64 `json:"max"`
}

// spread sorts samples; nil when there are none.
func spread(samples []int64) *Spread {
	if len(samples) == 0 {
		return nil
	}
	slices.Sort(samples)
	at := func(q float64) int64 { return samples[min(len(samples)-1, int(math.Ceil(q*float64(len(samples))))-1)] }
	return &Spread{len(samples), at(0.5), at(0.9), at(0.99), at(0.999), at(0.9999), samples[len(samples)-1]}
}

func (s *Spread) String() string {
	d := func(ns int64) time.Duration { return time.Duration(ns) }
	return fmt.Sprintf("p50 %v  p90 %v  p99 %v  p99.9 %v  p99.99 %v  max %v  (%d samples)", d(s.P50), d(s.P90), d(s.P99), d(s.P999), d(s.P9999), d(s.Max), s.Count)
}

// Print writes a result for people.
func (r *Result) Print(out io.Writer) error {
	pinned := "not pinned"
	if r.Pinned {
		pinned = "pinned to two cores"
	}
	floor := slices.Sorted(slices.Values(r.FloorNS))
	text := fmt.Sprintf("%s: %s, %d producer(s) and %d consumer(s), %d bytes, %d slots, %s\n", r.What, r.Kind, r.Producers, r.Consumers, r.Size, r.Slots, pinned)
	text += fmt.Sprintf("  floor        %v round trip of one cache line (%v to %v); far cores make every queue slower\n",
		time.Duration(floor[len(floor)/2]), time.Duration(floor[0]), time.Duration(floor[len(floor)-1]))
	switch r.What {
	case Throughput:
		v := slices.Sorted(slices.Values(r.PerMessage))
		ns := func(ps int64) float64 { return float64(ps) / 1e3 }
		median := ns(v[len(v)/2])
		text += fmt.Sprintf("  a message    %.1f ns (%.1f to %.1f in %d rounds), batches of %d\n", median, ns(v[0]), ns(v[len(v)-1]), len(v), r.Batch)
		text += fmt.Sprintf("  throughput   %.2f million messages/s, %.1f MB/s\n", 1e3/median, 1e3/median*float64(r.Size))
	case Latency:
		text += fmt.Sprintf("  one way      %v\n  open loop    %d messages/s, each measured from the time at which it was due\n", r.Latencies, r.Rate)
	case Wake:
		text += fmt.Sprintf("  round trip   %v\n  closed loop  both sides sleep; one round trip a millisecond\n", r.Latencies)
	case Recover:
		text += fmt.Sprintf("  producer     %v\n  consumer     %v\n", r.Producer, r.Consumer)
		text += "  from SIGKILL of one that held a reservation or a message to the next message for a consumer that slept\n"
	}
	_, err := io.WriteString(out, text)
	return err
}
