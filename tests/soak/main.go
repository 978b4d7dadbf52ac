//go:build linux

// Command soak lets many processes use rings for hours while they are killed, stopped, restarted, starved and flooded, and keeps its own account of
// every message: make soak DURATION=1h. It fails when a message is lost, comes twice unmarked or is torn, when a ring gets stuck, when the ring's counters
// and the account differ, or when memory, descriptors, threads or files grow.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/seg"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == childArg {
		fmt.Fprintln(os.Stderr, runChild())
		os.Exit(1)
	}
	duration := flag.Duration("duration", time.Minute, "how long")
	kill := flag.Duration("kill", 400*time.Millisecond, "mean time from one kill to the next in each of the four lanes")
	seed := flag.Uint64("seed", rand.Uint64(), "of the decisions; the interleaving is never the same")
	show := flag.String("show", "", "print the account in this file, and do nothing else")
	jsonPath := flag.String("json", "", "write the account to this file as well")
	flag.Parse()
	if *show != "" {
		if err := showAccount(*show); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a, err := soak(ctx, *duration, *kill, *seed)
	if a != nil {
		a.print()
		if *jsonPath != "" {
			err = errors.Join(err, a.write(*jsonPath))
		}
	}
	if err != nil {
		fmt.Println("SOAK FAILED:", err)
		os.Exit(1)
	}
	fmt.Println("SOAK PASSED")
}

// result is the account of the whole run.
type result struct {
	Seed      uint64            `json:"seed"`
	Seconds   float64           `json:"seconds"`
	Machine   string            `json:"machine"`
	Counts    map[string]uint64 `json:"counts"`
	Messages  totals            `json:"messages"`
	Resources []*series         `json:"resources"`
	MostFiles int               `json:"most_files"`
	LeftFiles int               `json:"left_files"`
	Faults    []string          `json:"faults"`
}

const progressEvery = 10 * time.Second

// soak runs four lanes: both kinds, both policies.
func soak(ctx context.Context, d, kill time.Duration, seed uint64) (*result, error) {
	dir, err := os.MkdirTemp("/dev/shm", "millrace-soak-")
	if err != nil {
		return nil, err
	}
	defer clean(dir)
	go startThread()
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	fmt.Printf("soak: %v, seed %d, rings in %s\n", d, seed, dir)
	w := &watchdog{dir: dir}
	var lanes []*lane
	var running sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for i, k := range []ring.Kind{ring.SPSC, ring.MPMC} {
		for j, p := range []ring.DeathPolicy{ring.Redeliver, ring.Drop} {
			l := &lane{name: k.String() + "-" + p.String(), dir: dir, kind: k, policy: p, random: rand.New(rand.NewPCG(seed, uint64(2*i+j))), killed: kill, watchdog: w}
			lanes = append(lanes, l)
			running.Go(func() {
				if err := l.run(ctx); err != nil || len(l.faults) > 0 {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
					cancel()
				}
			})
		}
	}
	over := make(chan struct{})
	go func() {
		running.Wait()
		close(over)
	}()
	every := min(max(d/300, time.Second), 10*time.Second)
	for next, ticks := began.Add(progressEvery), time.NewTicker(every); ; {
		select {
		case <-over:
			ticks.Stop()
			mu.Lock()
			defer mu.Unlock()
			return conclude(began, seed, lanes, w, errors.Join(errs...))
		case now := <-ticks.C:
			w.sample("parent", os.Getpid(), slackParent)
			if n, err := w.files(); err != nil || n > len(lanes)*2 { // a ring that is created or removed has a private name for a moment
				mu.Lock()
				errs = append(errs, fmt.Errorf("%d files of %d rings (%v)", n, len(lanes), err))
				mu.Unlock()
				cancel()
			}
			if now.After(next) {
				next = now.Add(progressEvery)
				progress(began, lanes)
			}
		}
	}
}

// clean removes what a failed run left; the memory of a System V ring does not go with its file.
func clean(dir string) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, ring.Remove(e.Name(), ring.WithDir(dir), ring.WithForce()))
	}
	if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
		fmt.Println("clean up:", err)
	}
}

// sums adds up what the lanes did.
func sums(lanes []*lane) map[string]uint64 {
	sum := map[string]uint64{}
	for _, l := range lanes {
		c := &l.counts
		for name, n := range map[string]uint64{"kills": c.Kills.Load(), "stops": c.Stops.Load(), "processes": c.Processes.Load(), "joins": c.Joins.Load(),
			"leaves": c.Leaves.Load(), "rings": c.Rings.Load(), "phases": c.Phases.Load()} {
			sum[name] += n
		}
	}
	return sum
}

func progress(began time.Time, lanes []*lane) {
	c := sums(lanes)
	fmt.Printf("%8s  rings %d  phases %d  processes %d  kills %d  stops %d  joins %d  leaves %d\n", time.Since(began).Round(time.Second), c["rings"], c["phases"],
		c["processes"], c["kills"], c["stops"], c["joins"], c["leaves"])
}

// conclude looks at what is left.
func conclude(began time.Time, seed uint64, lanes []*lane, w *watchdog, err error) (*result, error) {
	a := &result{Seed: seed, Seconds: time.Since(began).Seconds(), Machine: fmt.Sprintf("%s/%s, %d processors, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version()),
		Counts: sums(lanes), Resources: w.all, MostFiles: w.mostFile, Faults: []string{}}
	for _, l := range lanes {
		a.Messages.add(&l.totals)
		a.Faults = append(a.Faults, l.faults...)
	}
	for _, s := range w.all {
		a.Faults = append(a.Faults, s.judge()...)
	}
	if err != nil { // whoever failed left its ring
		return a, err
	}
	if _, err = seg.Sweep(w.dir); err != nil {
		return a, err
	}
	if a.LeftFiles, err = w.files(); err != nil {
		return a, err
	}
	if a.LeftFiles > 0 {
		a.Faults = append(a.Faults, fmt.Sprintf("%d files are left", a.LeftFiles))
	}
	if a.Messages.Received == 0 || a.Counts["kills"] == 0 {
		a.Faults = append(a.Faults, "nothing happened")
	}
	if len(a.Faults) > 0 {
		return a, fmt.Errorf("%d faults", len(a.Faults))
	}
	return a, nil
}

func (a *result) write(path string) error {
	b, err := json.MarshalIndent(a, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// showAccount prints an account that was written.
func showAccount(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var a result
	if err = json.Unmarshal(b, &a); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	a.print()
	return nil
}

func (a *result) print() {
	c, m := a.Counts, a.Messages
	fmt.Printf("\n%.0f s on %s, seed %d\n", a.Seconds, a.Machine, a.Seed)
	fmt.Printf("processes: %d started, %d killed, %d stopped; %d joins, %d leaves; %d rings, %d phases\n", c["processes"], c["kills"], c["stops"], c["joins"], c["leaves"], c["rings"], c["phases"])
	fmt.Printf("messages: %d sent, %d received, %d redelivered (marked), %d returned, %d claims skipped\n", m.Sent, m.Received, m.Redelivered, m.Returned, m.Skipped)
	fmt.Printf("          %d dropped by the rules of their ring, %d in the hands of a call that was killed\n", m.Dropped, m.InDoubt)
	fmt.Printf("faults:   %d lost, %d unmarked duplicates, %d out of order, %d foreign\n", m.Lost, m.Duplicates, m.Disorder, m.Foreign)
	for _, s := range a.Resources {
		fmt.Printf("%-26s memory %d -> %d KiB (most %d), descriptors %d -> %d (most %d), threads %d -> %d (most %d), mappings %d -> %d\n", s.Name, s.First.RSS, s.Last.RSS, s.Most.RSS,
			s.First.FDs, s.Last.FDs, s.Most.FDs, s.First.Threads, s.Last.Threads, s.Most.Threads, s.First.Maps, s.Last.Maps)
	}
	for _, s := range a.Resources {
		fmt.Printf("%-26s memory by eighths of the run (KiB):", s.Name)
		for _, u := range s.Path {
			fmt.Printf(" %d", u.RSS)
		}
		fmt.Println()
	}
	fmt.Printf("files: at most %d, left %d\n", a.MostFiles, a.LeftFiles)
	for _, f := range a.Faults {
		fmt.Println("FAULT", f)
	}
}
