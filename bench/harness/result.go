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
	Values map[string]float64 // by unit
	State  string             // near, far, mixed, disturbed
}

// Floors are the two of a run.
func (r *Run) floors() [2]float64 {
	return [2]float64{r.Values["floor-before-ns"], r.Values["floor-after-ns"]}
}

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
		r := Run{Name: f[0], Values: map[string]float64{}}
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
	Near, Far float64 // the medians of both groups
	Threshold float64 // 0: they do not divide
	Share     float64 // of the near ones
}

func (s Split) String() string {
	if s.Threshold == 0 {
		return fmt.Sprintf("one floor: %.0f ns, not two groups", s.Near)
	}
	return fmt.Sprintf("near below %.0f ns (median %.0f, %.0f %%), far above (median %.0f)", s.Threshold, s.Near, 100*s.Share, s.Far)
}

// apart is how many times as large the far floor must be to be a state of its own and not noise.
const apart = 1.6

// disturbed is how many involuntary context switches a second say that others were busy on the cores. An idle machine has a few.
const disturbed = 40

// crowded rows have more workers than cores, which disturb each other.
var crowded = regexp.MustCompile("pairs=([2-9]|[0-9]{2,})")

// Tag finds the two groups among the floors and tags each run with the one that both of its floors are in. The groups are those that have the least spread
// of logarithms within them.
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
	s := Split{Near: math.Exp(median(floors)), Share: 1}
	best, cut := math.Inf(1), 0
	total, squares := 0.0, 0.0
	for _, v := range floors {
		total, squares = total+v, squares+v*v
	}
	left, leftSquares := 0.0, 0.0
	for i, v := range floors[:len(floors)-1] {
		left, leftSquares = left+v, leftSquares+v*v
		n, m := float64(i+1), float64(len(floors)-i-1)
		spread := leftSquares - left*left/n + (squares - leftSquares) - (total-left)*(total-left)/m
		if spread < best {
			best, cut = spread, i+1
		}
	}
	if cut > 0 {
		near, far := math.Exp(median(floors[:cut])), math.Exp(median(floors[cut:]))
		if far > apart*near {
			s = Split{Near: near, Far: far, Threshold: math.Sqrt(near * far), Share: float64(cut) / float64(len(floors))}
		}
	}
	for i := range runs {
		f := runs[i].floors()
		switch {
		case runs[i].Values["switches/s"] > disturbed && !crowded.MatchString(runs[i].Name):
			runs[i].State = "disturbed"
		case s.Threshold == 0 || f[0] < s.Threshold && f[1] < s.Threshold:
			runs[i].State = "near"
		case f[0] >= s.Threshold && f[1] >= s.Threshold:
			runs[i].State = "far"
		default:
			runs[i].State = "mixed"
		}
	}
	return s
}

// median of sorted values.
func median(v []float64) float64 {
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
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
