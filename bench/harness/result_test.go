package harness

import (
	"encoding/binary"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/bench/mech"
)

func runsWith(floors ...float64) (runs []Run) {
	for i, f := range floors {
		runs = append(runs, Run{Name: fmt.Sprintf("BenchmarkX/mech=m%d", i), Values: map[string]float64{"floor-before-ns": f, "floor-after-ns": f, "ns/op": 1}})
	}
	return runs
}

func states(runs []Run) (s []string) {
	for _, r := range runs {
		s = append(s, r.State)
	}
	return s
}

func TestFloorsDivideIntoNearAndFar(t *testing.T) {
	runs := runsWith(120, 130, 480, 125, 470, 122, 460)
	s := Tag(runs)
	require.Equal(t, []string{"near", "near", "far", "near", "far", "near", "far"}, states(runs))
	require.InDelta(t, 240, s.NearBelow, 20)
}

func TestOneFloorIsNear(t *testing.T) {
	runs := runsWith(120, 130, 140, 125, 150)
	require.Zero(t, Tag(runs).Far)
	require.NotContains(t, states(runs), "far")
}

func TestRareLowFloorsAreAStateOfTheirOwn(t *testing.T) {
	floors := []float64{40}
	for i := range 20 {
		floors = append(floors, 200+float64(i))
	}
	runs := runsWith(floors...)
	require.InDelta(t, 40, Tag(runs).Close, 1)
	require.Equal(t, "close", runs[0].State)
	require.Equal(t, "near", runs[20].State)
}

func TestFloorsThatDifferAreMixedAndDelaysDisturb(t *testing.T) {
	runs := runsWith(120, 121, 480, 481)
	runs[0].Values["floor-after-ns"] = 480
	runs[1].Values["%delayed"] = 10
	Tag(runs)
	require.Equal(t, []string{"mixed", "disturbed", "far", "far"}, states(runs))
}

// A core whose other hardware thread is at work executes two thirds of what it does alone. That is no state of runs that are far, and none in a file without widths.
func TestNarrowCoresAreShared(t *testing.T) {
	runs := runsWith(120, 121, 122, 480, 481)
	for i, width := range []float64{4.5, 3, 4.4, 4.5, 3} {
		runs[i].Values["width-before"], runs[i].Values["width-after"] = 4.5, width
	}
	require.Contains(t, Tag(runs).String(), "shared below 3.8 instructions per cycle, of 4.5")
	require.Equal(t, []string{"near", "shared", "near", "far", "far"}, states(runs))
	runs = runsWith(120, 121)
	require.NotContains(t, Tag(runs).String(), "shared")
	require.Equal(t, []string{"near", "near"}, states(runs))
}

// Runs on shared cores count where there are too few others, and have a median of their own where there are enough of them.
func TestSharedRunsCountApart(t *testing.T) {
	runs := fiveNear("shared", 100)
	_, cells := Summarize(runs)
	require.Equal(t, []Summary{{Mech: "b", Unit: "ns/op", Median: 2, Low: 0, High: 4, Runs: 10, NearRuns: 5, Shared: 100, Ratio: 1}}, cells["A"])
	_, cells = Summarize(runs[1:])
	require.Equal(t, []Summary{{Mech: "b", Unit: "ns/op", Median: 100, Low: 1, High: 100, Runs: 9, NearRuns: 4, Counted: ", with shared ones", Shared: 100, Ratio: 1}}, cells["A"])
}

// A run is compared with the nearest one in its own state, whatever was in its own round.
func TestRatioIsTakenBetweenRunsInOneState(t *testing.T) {
	var runs []Run
	for i := range 12 {
		for m, ns := range map[string]float64{"millrace-spsc": 2, "good": 6} {
			r := Run{Name: "BenchmarkA/mech=" + m, State: "near", Values: map[string]float64{"ns/op": ns + float64(i)/1000}}
			if alone := i%2 == 0; alone != (m == "good") { // never both in one round
				r.State, r.Values["ns/op"] = "shared", 50
			}
			runs = append(runs, r)
		}
	}
	_, cells := Summarize(runs)
	require.Len(t, cells["A"], 2)
	for _, c := range cells["A"] {
		if c.Mech == "millrace-spsc" {
			require.InDelta(t, 3, c.Ratio, 0.01)
		}
	}
}

// Two mechanisms that were never in the same state are compared round by round, and one run in another state decides nothing.
func TestRatioOfRunsInDifferentStates(t *testing.T) {
	cell := func(states string, ns float64) (runs []*Run) {
		for i, s := range states {
			runs = append(runs, &Run{State: map[rune]string{'n': "near", 's': "shared"}[s], round: i, Values: map[string]float64{"ns/op": ns}})
		}
		return runs
	}
	require.InDelta(t, 3, ratio(cell("nnnnnn", 1), cell("ssssss", 3), "ns/op"), 0)
	require.Zero(t, ratio(nil, cell("nn", 3), "ns/op"))
	these, others := cell("nnnnnnnsssss", 1), cell("nsssssssssss", 3)
	others[0].Values["ns/op"] = 100
	require.InDelta(t, 3, ratio(these, others, "ns/op"), 0)
}

// A file that has widths for some runs only, because an older one was continued: the others are as they were.
func TestRunsWithoutWidth(t *testing.T) {
	runs := runsWith(120, 121, 122)
	runs[0].Values["width-before"], runs[0].Values["width-after"] = 4.5, 4.5
	runs[1].Values["width-before"], runs[1].Values["width-after"] = 3, 4.5
	Tag(runs)
	require.Equal(t, []string{"near", "shared", "near"}, states(runs))
}

// fiveNear returns five near runs of 0 to 4 ns, and five in another state.
func fiveNear(state string, ns float64) (runs []Run) {
	for i := range 2 * enough {
		r := Run{Name: "BenchmarkA/mech=b", State: "near", Values: map[string]float64{"ns/op": float64(i)}}
		if i >= enough {
			r.State, r.Values["ns/op"] = state, ns
		}
		runs = append(runs, r)
	}
	return runs
}

func TestReadKeepsEverything(t *testing.T) {
	const file = "cpu: x\nBenchmarkA/size=8/mech=b 100 12.5 ns/op 3 %delayed\n# BenchmarkA/size=8/mech=c: not installed: d\n"
	runs, rest, err := Read(strings.NewReader(file))
	require.NoError(t, err)
	require.Equal(t, []string{"cpu: x", "# BenchmarkA/size=8/mech=c: not installed: d"}, rest)
	require.Len(t, runs, 1)
	require.Equal(t, "A/size=8", runs[0].Row())
	require.Equal(t, "b", runs[0].Mech())
	require.Equal(t, map[string]float64{"ns/op": 12.5, "%delayed": 3}, runs[0].Values)
}

func TestOnlyNearRunsCountWhenThereAreEnough(t *testing.T) {
	runs := fiveNear("far", 1000)
	_, cells := Summarize(runs)
	require.Equal(t, []Summary{{Mech: "b", Unit: "ns/op", Median: 2, Low: 0, High: 4, Runs: 10, NearRuns: 5, Ratio: 1}}, cells["A"])
	_, cells = Summarize(runs[1:])
	require.Equal(t, 9, cells["A"][0].Runs)
	require.InDelta(t, 1000.0, cells["A"][0].High, 0)
}

// The ratio is taken in each round, against the best mechanism that is neither millrace nor a yardstick.
func TestRatioIsTakenRoundByRound(t *testing.T) {
	var runs []Run
	for i := range 9 {
		for mech, ns := range map[string]float64{"millrace-spsc": 2, "bare-go": 1, "good": 3, "bad": 10} {
			machine := float64(1 + i%3) // it is as slow for all of them in a round
			runs = append(runs, Run{Name: "BenchmarkA/mech=" + mech, State: "near", Values: map[string]float64{"ns/op": ns * machine}})
		}
	}
	_, cells := Summarize(runs)
	for _, c := range cells["A"] {
		require.InDelta(t, map[string]float64{"millrace-spsc": 1.5, "bare-go": 3, "good": 1, "bad": 0.3}[c.Mech], c.Ratio, 1e-9, c.Mech)
	}
	var b strings.Builder
	require.NoError(t, Report(&b, runs, nil))
	require.Contains(t, b.String(), "times good")
}

// A round trip is held against the floors before and after it.
func TestRoundTripsAreCountedInLines(t *testing.T) {
	var runs []Run
	for i := range 5 {
		runs = append(runs, Run{Name: "BenchmarkRoundTrip/size=8/mech=b", State: "near", Values: map[string]float64{"ns/op": 150 * float64(1+i),
			"floor-before-ns": 110 * float64(1+i), "floor-after-ns": 90 * float64(1+i)}})
	}
	_, cells := Summarize(runs)
	require.InDelta(t, 1.5, cells["RoundTrip/size=8"][0].OfFloor, 1e-9)
	var b strings.Builder
	require.NoError(t, Report(&b, runs, nil))
	require.Contains(t, b.String(), "| lines |")
	runs[0].Name = "BenchmarkX/mech=b"
	_, cells = Summarize(runs[:1])
	require.Zero(t, cells["X"][0].OfFloor)
}

func TestPlanHasEachRowOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Plan() {
		require.False(t, seen[r.Name], r.Name)
		seen[r.Name] = true
		require.Zero(t, r.Args.Count%r.Args.Batch, r.Name)
		require.NotEmpty(t, r.Mechs, r.Name)
	}
}

func TestPlotsAreDrawnForTheRowsThatThereAre(t *testing.T) {
	runs, rest, err := Read(strings.NewReader("cpu: A & B\nBenchmarkSPSC/size=8/mech=millrace-spsc 100 12.5 ns/op 100 floor-before-ns 100 floor-after-ns\n"))
	require.NoError(t, err)
	svg := Plot("Title", "SPSC/", runs, rest)
	require.NoError(t, xml.Unmarshal([]byte(svg), new(struct{})))
	require.Contains(t, svg, "A &amp; B")
	require.Contains(t, svg, ">12.5 ns<")
	require.Empty(t, Plot("Title", "MPMC/", runs, rest))
}

// Samples of all workers are taken together; of the later clock only the later one of each message.
func TestLatencies(t *testing.T) {
	a := &mech.Args{Dir: t.TempDir(), Senders: 1, Receivers: 1}
	h, err := latencies(a)
	require.NoError(t, err)
	require.Nil(t, h)
	for i, samples := range [][]uint64{{10, 500, 30}, {40, 20, 60}} {
		raw, err := binary.Append(nil, binary.LittleEndian, samples)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(a.Dir, fmt.Sprint("samples", i)), raw, 0o600))
	}
	for m, want := range map[string][3]int64{"clock": {6, 10, 500}, mech.LaterClock: {3, 40, 500}} {
		a.Mech = m
		h, err := latencies(a)
		require.NoError(t, err)
		require.Equal(t, want, [3]int64{h.TotalCount(), h.Min(), h.Max()}, m)
	}
}
