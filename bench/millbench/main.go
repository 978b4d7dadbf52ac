// Command millbench measures millrace and its peers between processes; make bench runs it. docs/BENCHMARKS.md says how and what.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/cd1900cf/millrace/bench/harness"
	"github.com/cd1900cf/millrace/bench/mech"
	"github.com/cd1900cf/millrace/internal/measure"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "millbench:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("want run, plan, report FILE, runs FILE STATE..., plot FILE DIRECTORY; millbench run -h has the flags")

func run(args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	switch verb, args := args[0], args[1:]; {
	case verb == harness.WorkerVerb:
		return mech.Run(args)
	case verb == harness.FloorVerb && len(args) == 2:
		core, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return measure.ServeFloor(args[0], core)
	case verb == "run":
		return session(args)
	case verb == "report" && len(args) == 1:
		return withRuns(args[0], func(runs []harness.Run, rest []string) error { return harness.Report(os.Stdout, runs, rest) })
	case verb == "runs" && len(args) > 1:
		return withRuns(args[0], func(runs []harness.Run, rest []string) error { return printRuns(runs, rest, args[1:]) })
	case verb == "plot" && len(args) == 2:
		return withRuns(args[0], func(runs []harness.Run, rest []string) error { return plot(args[1], runs, rest) })
	case verb == "plan":
		for _, r := range harness.Plan() {
			fmt.Println(r.Name, r.Mechs)
		}
		return nil
	}
	return errUsage
}

func withRuns(path string, do func([]harness.Run, []string) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	runs, rest, err := harness.Read(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return do(runs, rest)
}

// timeout ends a run that does not come to an end: most spinning queues crawl when there are more threads than cores.
const timeout = 5 * time.Second

// printRuns prints the runs in some states, which may be compared, for benchstat.
func printRuns(runs []harness.Run, rest, states []string) error {
	harness.Tag(runs)
	for _, l := range rest {
		fmt.Println(l)
	}
	for _, r := range runs {
		if slices.Contains(states, r.State) {
			fmt.Println(r.Line)
		}
	}
	return nil
}

// plot writes the charts into a directory.
func plot(dir string, runs []harness.Run, rest []string) error {
	for _, p := range harness.Plots {
		svg := harness.Plot(p.Title, p.Prefix, runs, rest)
		if svg == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, p.File), []byte(svg), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func session(args []string) error {
	flags := flag.NewFlagSet("run", flag.ExitOnError)
	rows := flags.String("rows", "", "regular expression of the rows; millbench plan lists them")
	mechs := flags.String("mechs", "", "regular expression of the mechanisms")
	rounds := flags.Int("rounds", 10, "rounds")
	out := flags.String("o", "results.txt", "file of results; runs that are on it are not repeated")
	limit := flags.Duration("limit", 0, "stop after so long; the same command goes on")
	peers := flags.String("peers", "peers/bin", "directory of the programs of the peers")
	ref := flags.String("ref", "", "this program as built from another commit: every mechanism in Go is measured twice")
	refPeers := flags.String("ref-peers", "", "with -ref: directory of the client in C as built from that commit, which is then measured twice, too")
	if err := flags.Parse(args); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	s := harness.Session{Runner: harness.Runner{Peers: *peers, Self: self, Ref: *ref, RefPeers: *refPeers, Timeout: timeout}, Rounds: *rounds, Limit: *limit, Out: *out, Log: os.Stderr}
	if s.Rows, err = regexp.Compile(*rows); err != nil {
		return err
	}
	if s.Mechs, err = regexp.Compile(*mechs); err != nil {
		return err
	}
	return s.Run()
}
