package harness

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// units that a table may be about, the first that a run has.
var units = []string{"ns/op", "p50-ns", "%cpu"}

// Summary is what is known of one cell.
type Summary struct {
	Mech           string
	Unit           string
	Median         float64
	Low, High      float64
	Runs, NearRuns int
	Counted        string  // which runs count when near ones are too few
	Shared         float64 // median of the runs on shared cores, if there are enough
	Ratio          float64 // median of the best peer's figures by this one's: above 1 it is faster; 0: there is no peer
	OfYardstick    float64 // the same with the row's yardstick
	Tail           float64 // median of the p99.9, in a row about latency
	OfClock        float64 // median of the clock's p99.9 by this one's
	OfFloor        float64 // of a round trip: median of how often a line would have made its way meanwhile
}

// yardsticks are no peers: they keep no promises. A row is held against the first that it has.
var yardsticks = []string{"bare-go", "vyukov-go", "memcpy", "memcpy-128"}

// clock is a loop on each core that does nothing but read the clock: its latencies are the machine's own.
const clock = "clock"

func isPeer(mech string) bool {
	return !strings.HasPrefix(mech, "millrace-") && !strings.HasPrefix(mech, clock) && !slices.Contains(yardsticks, mech)
}

// yardstick returns the yardstick of a row, or nothing.
func yardstick(cells []Summary) string {
	for _, y := range yardsticks {
		if slices.ContainsFunc(cells, func(c Summary) bool { return c.Mech == y }) {
			return y
		}
	}
	return ""
}

// bestPeer returns the peer with the least median, or nothing.
func bestPeer(cells []Summary) (best string) {
	least := math.Inf(1)
	for _, c := range cells {
		if isPeer(c.Mech) && c.Median < least {
			best, least = c.Mech, c.Median
		}
	}
	return best
}

// ratio is the median of what others took by what these took, of runs in the same state: of the side that has fewer of them each by the nearest one of the other.
func ratio(these, others []*Run, unit string) float64 {
	for _, states := range counted {
		var v []float64
		for _, state := range states {
			v = append(v, quotients(in(these, state), in(others, state), unit)...)
		}
		if len(v) >= enough {
			slices.Sort(v)
			return median(v)
		}
	}
	v := quotients(these, others, unit)
	slices.Sort(v)
	return median(v)
}

func quotients(these, others []*Run, unit string) (v []float64) {
	if len(these) <= len(others) {
		for _, r := range these {
			v = append(v, nearest(r, others).Values[unit]/r.Values[unit])
		}
		return v
	}
	for _, r := range others {
		v = append(v, r.Values[unit]/nearest(r, these).Values[unit])
	}
	return v
}

// nearest returns the run of others that is the fewest rounds away from r.
func nearest(r *Run, others []*Run) *Run {
	return slices.MinFunc(others, func(a, b *Run) int {
		return cmp.Compare(max(a.round-r.round, r.round-a.round), max(b.round-r.round, r.round-b.round))
	})
}

// enough runs to speak of them only.
const enough = 5

// counted says which runs count: near ones on cores that nobody shares if there are enough, near ones, otherwise all.
var counted = [][]string{{"near"}, {"near", "shared"}}

// in returns the runs that are in one of some states.
func in(runs []*Run, states ...string) (v []*Run) {
	for _, r := range runs {
		if slices.Contains(states, r.State) {
			v = append(v, r)
		}
	}
	return v
}

// Summarize gathers the runs of each row, near ones only where there are enough of them, in the order of the file.
func Summarize(runs []Run) (rows []string, cells map[string][]Summary) {
	values := map[string]map[string][]*Run{}
	order := map[string][]string{}
	for i := range runs {
		r := &runs[i]
		row, m := r.Row(), r.Mech()
		if values[row] == nil {
			values[row] = map[string][]*Run{}
			rows = append(rows, row)
		}
		if values[row][m] == nil {
			order[row] = append(order[row], m)
		}
		r.round = len(values[row][m])
		values[row][m] = append(values[row][m], r)
	}
	cells = map[string][]Summary{}
	for _, row := range rows {
		for _, m := range order[row] {
			cells[row] = append(cells[row], summarize(m, values[row][m]))
		}
		best, yard := bestPeer(cells[row]), yardstick(cells[row])
		for i := range cells[row] {
			c := &cells[row][i]
			c.Ratio = ratio(values[row][c.Mech], values[row][best], c.Unit)
			c.OfYardstick = ratio(values[row][c.Mech], values[row][yard], c.Unit)
			c.OfClock = ratio(values[row][c.Mech], values[row][clock], tailUnit)
		}
	}
	return rows, cells
}

func summarize(name string, runs []*Run) Summary {
	near, shared := in(runs, counted[0]...), in(runs, "shared")
	s := Summary{Mech: name, Runs: len(runs), NearRuns: len(near)}
	for _, s.Unit = range units {
		if _, ok := runs[0].Values[s.Unit]; ok {
			break
		}
	}
	if len(shared) >= enough {
		s.Shared = median(sorted(shared, s.Unit))
	}
	if len(near) < enough {
		near, s.Counted = in(runs, counted[1]...), ", with shared ones"
	}
	if len(near) < enough {
		near, s.Counted = runs, ", all shown"
	}
	v := sorted(near, s.Unit)
	s.Median, s.Low, s.High, s.Tail = median(v), v[0], v[len(v)-1], median(sorted(near, tailUnit))
	if trips := floorTimes(near, s.Unit); len(trips) > 0 && strings.HasPrefix(near[0].Row(), roundTrips) {
		s.OfFloor = median(trips)
	}
	return s
}

// roundTrips begins the names of the rows whose figures are held against the round trip of a line.
const roundTrips = "RoundTrip"

// floorTimes returns the figures as multiples of the floors of their runs.
func floorTimes(runs []*Run, unit string) (v []float64) {
	for _, r := range runs {
		if f := r.floors(); f[0] > 0 {
			v = append(v, r.Values[unit]/((f[0]+f[1])/2))
		}
	}
	slices.Sort(v)
	return v
}

func sorted(runs []*Run, unit string) (v []float64) {
	for _, r := range runs {
		v = append(v, r.Values[unit])
	}
	slices.Sort(v)
	return v
}

// tailUnit is the unit of the far end of a distribution.
const tailUnit = "p99.9-ns"

// Report writes a table for each row.
func Report(out io.Writer, runs []Run, rest []string) error {
	split := Tag(runs)
	var b strings.Builder
	for _, l := range rest {
		if !strings.HasPrefix(l, "#") {
			fmt.Fprintf(&b, "    %s\n", l)
		}
	}
	fmt.Fprintf(&b, "    floor: %s\n", split)
	rows, cells := Summarize(runs)
	for _, row := range rows {
		head := []string{row, "median", "spread", "near runs"}
		if split.Alone > 0 {
			head = append(head, "shared")
		}
		head = append(head, "times "+cmp.Or(bestPeer(cells[row]), "a peer"))
		yard, latency := yardstick(cells[row]), slices.ContainsFunc(cells[row], func(c Summary) bool { return c.Mech == clock })
		if yard != "" {
			head = append(head, "times "+yard)
		}
		if latency {
			head = append(head, "p99.9", "times clock")
		}
		trips := slices.ContainsFunc(cells[row], func(c Summary) bool { return c.OfFloor > 0 })
		if trips {
			head = append(head, "lines")
		}
		fmt.Fprintf(&b, "\n| %s |\n|---%s|\n", strings.Join(head, " | "), strings.Repeat("|---:", len(head)-1))
		for _, c := range cells[row] {
			line := []string{c.Mech, figure(c.Median, c.Unit), figure(c.Low, c.Unit) + " to " + figure(c.High, c.Unit),
				fmt.Sprintf("%d of %d%s", c.NearRuns, c.Runs, c.Counted)}
			switch {
			case c.Shared > 0:
				line = append(line, figure(c.Shared, c.Unit))
			case split.Alone > 0:
				line = append(line, "")
			}
			line = append(line, times(c.Ratio))
			if yard != "" {
				line = append(line, times(c.OfYardstick))
			}
			if latency {
				line = append(line, figure(c.Tail, tailUnit), times(c.OfClock))
			}
			if trips {
				line = append(line, times(c.OfFloor))
			}
			fmt.Fprintf(&b, "| %s |\n", strings.Join(line, " | "))
		}
	}
	for _, l := range rest {
		if strings.HasPrefix(l, "#") {
			fmt.Fprintf(&b, "\n%s\n", strings.TrimPrefix(strings.TrimPrefix(l, "# "), "Benchmark"))
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// times writes a ratio, if there is one.
func times(ratio float64) string {
	if ratio == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", ratio)
}

// figure writes a value in the unit that reads best.
func figure(v float64, unit string) string {
	switch {
	case unit == "%cpu":
		return fmt.Sprintf("%.2f %%", v)
	case v >= 1e6:
		return fmt.Sprintf("%.3g ms", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%.3g µs", v/1e3)
	}
	return fmt.Sprintf("%.3g ns", v)
}
