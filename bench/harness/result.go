package harness

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cd1900cf/millrace/internal/measure"
)

// Run is one line of a file of results.
type Run struct {
	Name   string
	Line   string             // as it is in the file
	Values map[string]float64 // by unit
	State  string             // close, near, far: both floors; shared: near, but on shared cores; mixed; disturbed
	round  int                // of its mechanism on its row
}

// Floors are the two of a run.
func (r *Run) floors() [2]float64 {
	return [2]float64{r.Values["floor-before-ns"], r.Values["floor-after-ns"]}
}

// width is how wide the narrower of both cores was, before or after the run, whichever is less; 0 in a file from before that was measured.
func (r *Run) width() float64 { return min(r.Values["width-before"], r.Values["width-after"]) }

// Row and Mech are the parts of the name.
func (r *Run) Row() string {
	row, _, _ := strings.Cut(strings.TrimPrefix(r.Name, "Benchmark"), "/mech=")
	return row
}

func (r *Run) Mech() string {
	_, m, _ := strings.Cut(r.Name, "/mech=")
	return m
}

// Read reads a file of results: the runs, and every other line.
func Read(in io.Reader) (runs []Run, rest []string, err error) {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			rest = append(rest, lines.Text())
			continue
		}
		r := Run{Name: f[0], Line: lines.Text(), Values: map[string]float64{}}
		for i := 2; i+1 < len(f); i += 2 {
			if r.Values[f[i+1]], err = strconv.ParseFloat(f[i], 64); err != nil {
				return nil, nil, fmt.Errorf("harness: %q: %w", lines.Text(), err)
			}
		}
		runs = append(runs, r)
	}
	return runs, rest, lines.Err()
}

// Split says how the floors of a file divide into near and far.
type Split struct {
	Close, Near, Far float64 // the medians of the groups; 0: there is no such group
	CloseBelow       float64
	NearBelow        float64 // infinite: there is no far group
	Share            float64 // of the near floors
	Alone            float64 // the least width of runs whose cores nobody shared; 0: that was not measured
}

func (s Split) String() string {
	var b strings.Builder
	if s.Close > 0 {
		fmt.Fprintf(&b, "close below %.0f ns (median %.0f), ", s.CloseBelow, s.Close)
	}
	if s.Far == 0 {
		fmt.Fprintf(&b, "near %.0f ns (%.0f %%), no far state", s.Near, 100*s.Share)
	} else {
		fmt.Fprintf(&b, "near below %.0f ns (median %.0f, %.0f %%), far above (median %.0f)", s.NearBelow, s.Near, 100*s.Share, s.Far)
	}
	if s.Alone > 0 {
		fmt.Fprintf(&b, "; cores shared below %.1f instructions per cycle, of %.1f", s.Alone, s.Alone/narrow)
	}
	return b.String()
}

const (
	apart = 1.6  // how many times as large the floor of another state is: less is noise
	rare  = 0.15 // a lower state with a smaller share is an exception ("close"), and the next one is what near means
)

// narrow is the part of the width of a core alone below which somebody shares it. It is two thirds then; what is alone differs by a few percent.
const narrow = 0.85

// disturbed is the part of the time, in percent, that the workers may wait for their cores. Go's monitor thread takes one percent from a goroutine that
// spins; a program that wants one of the two cores takes a quarter of both.
const disturbed = 4

// crowded rows have more workers than cores, which disturb each other.
var crowded = regexp.MustCompile("pairs=([2-9]|[0-9]{2,})")

// Tag finds the states of the machine among the floors, and tags each run with the state that both of its floors show.
func Tag(runs []Run) Split {
	var floors []float64
	for i := range runs {
		for _, f := range runs[i].floors() {
			if f > 0 {
				floors = append(floors, math.Log(f))
			}
		}
	}
	if len(floors) == 0 {
		return Split{}
	}
	slices.Sort(floors)
	s := Split{NearBelow: math.Inf(1)}
	rest := floors
	if cut := split(rest); cut > 0 && float64(cut) < rare*float64(len(floors)) {
		s.Close = math.Exp(median(rest[:cut]))
		s.CloseBelow = math.Exp((median(rest[:cut]) + median(rest[cut:])) / 2)
		rest = rest[cut:]
	}
	near := rest
	if cut := split(rest); cut > 0 {
		near = rest[:cut]
		s.Far = math.Exp(median(rest[cut:]))
		s.NearBelow = math.Sqrt(math.Exp(median(near)) * s.Far)
	}
	s.Near, s.Share = math.Exp(median(near)), float64(len(near))/float64(len(floors))
	s.Alone = narrow * widest(runs)
	for i := range runs {
		runs[i].State = s.state(&runs[i])
	}
	return s
}

// widest is the width of a core alone: the most that was measured, but for one run in a hundred, of which the processor changed its speed meanwhile. 0: none was.
func widest(runs []Run) float64 {
	var w []float64
	for i := range runs {
		if width := runs[i].width(); width > 0 {
			w = append(w, width)
		}
	}
	if len(w) == 0 {
		return 0
	}
	slices.Sort(w)
	return w[len(w)*99/100]
}

func (s *Split) state(r *Run) string {
	of := func(floor float64) string {
		switch {
		case floor < s.CloseBelow:
			return "close"
		case floor < s.NearBelow:
			return "near"
		}
		return "far"
	}
	f := r.floors()
	switch before := of(f[0]); {
	case r.Values["%delayed"] > disturbed && !crowded.MatchString(r.Name):
		return "disturbed"
	case before != of(f[1]):
		return "mixed"
	case before == "near" && r.width() > 0 && r.width() < s.Alone:
		return "shared"
	default:
		return before
	}
}

// split returns where sorted logarithms divide into two groups with the least spread within each; 0 when the groups are too near to each other.
func split(v []float64) int {
	total, squares := 0.0, 0.0
	for _, x := range v {
		total, squares = total+x, squares+x*x
	}
	best, cut := math.Inf(1), 0
	left, leftSquares := 0.0, 0.0
	for i, x := range v[:len(v)-1] {
		left, leftSquares = left+x, leftSquares+x*x
		n, m := float64(i+1), float64(len(v)-i-1)
		if spread := leftSquares - left*left/n + squares - leftSquares - (total-left)*(total-left)/m; spread < best {
			best, cut = spread, i+1
		}
	}
	if cut > 0 && median(v[cut:])-median(v[:cut]) < math.Log(apart) {
		return 0
	}
	return cut
}

// median of sorted values; 0 of none.
func median(v []float64) float64 {
	switch n := len(v); {
	case n == 0:
		return 0
	case n%2 == 0:
		return (v[n/2-1] + v[n/2]) / 2
	default:
		return v[n/2]
	}
}

// Environment describes the machine and the program, one property a line.
func Environment() (string, error) {
	var b strings.Builder
	set := func(k, v string) { fmt.Fprintf(&b, "%s: %s\n", k, strings.TrimSpace(v)) }
	set("date", time.Now().UTC().Format(time.DateOnly))
	set("goos", runtime.GOOS)
	set("goarch", runtime.GOARCH)
	set("go", runtime.Version())
	cpu, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "", err
	}
	for _, l := range strings.Split(string(cpu), "\n") {
		if k, v, ok := strings.Cut(l, ":"); ok && strings.HasPrefix(k, "model name") {
			set("cpu", v)
			break
		}
	}
	set("cores", strconv.Itoa(runtime.NumCPU()))
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "", err
	}
	set("kernel", string(kernel))
	if out, err := exec.Command("cc", "--version").Output(); err == nil {
		set("cc", strings.SplitN(string(out), "\n", 2)[0])
	}
	if out, err := exec.Command("git", "describe", "--always", "--dirty", "--abbrev=12").Output(); err == nil {
		set("commit", string(out))
	}
	for _, size := range []int{64 << 10, 1 << 20} {
		set(fmt.Sprintf("memcpy-%dk", size>>10), measure.Copy(size).String())
	}
	return b.String(), nil
}
