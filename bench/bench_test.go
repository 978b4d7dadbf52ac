package bench

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/cd1900cf/millrace/bench/harness"
	"github.com/cd1900cf/millrace/bench/mech"
	"github.com/cd1900cf/millrace/internal/measure"
)

// The rows of the plan as Go benchmarks, for a quick look and for benchstat. ns/op is what the workers measure, b.N messages long.

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		var err error
		switch verb, args := os.Args[1], os.Args[2:]; verb {
		case harness.WorkerVerb:
			err = mech.Run(args)
		case harness.FloorVerb:
			core := 0
			if core, err = strconv.Atoi(args[1]); err == nil {
				err = measure.ServeFloor(args[0], core)
			}
		default:
			os.Exit(m.Run())
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func BenchmarkPlan(b *testing.B) {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	r := harness.Runner{Peers: "peers/bin", Self: self, Timeout: time.Minute}
	for _, row := range harness.Plan() {
		if testing.Short() && !shorten(&row) {
			continue
		}
		for _, name := range row.Mechs {
			b.Run(row.Name+"/mech="+name, func(b *testing.B) { measureOne(b, &r, row, name) })
		}
	}
}

// shorten makes a row of fixed length a trial of itself; rows that take much memory or many processes are left out.
func shorten(row *harness.Row) bool {
	if row.For == 0 {
		row.Args.Count = max(1, row.Args.Count/20)
		row.Args.Pause /= 10
	}
	return row.Seldom == 0 && row.Args.Slots <= 1<<14 && row.Args.Size <= 64<<10
}

func measureOne(b *testing.B, r *harness.Runner, row harness.Row, name string) {
	a := row.Args
	a.Mech = name
	if row.For > 0 {
		a.Count = max(a.Senders+a.Receivers, b.N/a.Batch) * a.Batch
	}
	res, err := r.Run(a)
	if missing := (*harness.MissingError)(nil); errors.As(err, &missing) {
		b.Skip(err)
	} else if err != nil {
		b.Fatal(err)
	}
	for _, v := range res.Values(&a) {
		b.ReportMetric(v.Value, v.Unit)
	}
}

// BenchmarkFloor is a round trip of one cache line between two cores.
func BenchmarkFloor(b *testing.B) {
	f, err := measure.StartFloor(b.TempDir(), harness.FloorVerb, 0, 1)
	if err != nil {
		b.Fatal(err)
	}
	var m measure.Moment
	for b.Loop() {
		if m, err = f.Measure(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(m.Trip), "ns/op")
	b.ReportMetric(m.Width, "instructions/cycle")
	if err := f.Close(); err != nil {
		b.Error(err)
	}
}
