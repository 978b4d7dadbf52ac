package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/cd1900cf/millrace/cmd/millrace/internal/demo"
	"github.com/cd1900cf/millrace/ring"
)

// demoPatience is how long an interrupted demo may take to come to its end: it drains the ring and closes the account.
const demoPatience = 8 * time.Second

var demoCommand = &command{
	name: "demo", summary: "stream real files between processes, kill them all the time, and account for every message", changes: true,
	detail: "Starts producers and consumers as processes of their own on a ring of its own, streams a tree of files through it (the\n" +
		"sources of the Go toolchain, or --input), kills one of them with SIGKILL every --kill-every and restarts it at once. Ends\n" +
		"with an account kept apart from them. Without --duration the input goes through at least once and at least 20 processes\n" +
		"are killed; with it, the input is repeated until then. The code is 0 only when the account balances.",
	new: func(f *flags) runner {
		f.withDir()
		c := demo.Config{Kind: ring.MPMC, Producers: 4, Consumers: 4, KillEvery: 250 * time.Millisecond}
		var jsonOut bool
		choice(f, &c.Kind, "kind", "default mpmc; spsc has one producer and one consumer", []string{"spsc", "mpmc"}, ring.SPSC, ring.MPMC)
		f.number(&c.Producers, "producers", "producer processes; default 4")
		f.number(&c.Consumers, "consumers", "consumer processes; default 4")
		f.duration(&c.KillEvery, "kill-every", "time between kills; default 250ms; 0: none")
		f.duration(&c.Duration, "duration", "repeat the input until then")
		f.text(&c.Input, "input", "PATH", "file or directory to stream; default the sources of the Go toolchain")
		f.toggle(&jsonOut, "j json", "the account as one JSON object")
		return func(ctx context.Context, a *app, operands []string) error {
			if err := noOperands(operands); err != nil {
				return err
			}
			if err := checkDemo(f, &c); err != nil {
				return err
			}
			c.Dir = dirOf(a)
			return runDemo(ctx, a, c, jsonOut)
		}
	},
}

// checkDemo checks the flags against each other.
func checkDemo(f *flags, c *demo.Config) error {
	if c.Kind == ring.SPSC {
		if f.given("producers") && c.Producers != 1 || f.given("consumers") && c.Consumers != 1 {
			return usagef("an spsc ring has one producer and one consumer; leave --producers and --consumers away")
		}
		c.Producers, c.Consumers = 1, 1
	}
	const most = 500
	switch {
	case c.Producers < 1 || c.Consumers < 1 || c.Producers > most || c.Consumers > most:
		return usagef("--producers and --consumers: 1 to %d", most)
	case c.KillEvery > 0 && c.KillEvery < demo.MinKillEvery:
		return usagef("--kill-every: at least %v, or 0", demo.MinKillEvery)
	}
	return nil
}

func runDemo(ctx context.Context, a *app, c demo.Config, jsonOut bool) (err error) {
	if runtime.GOOS != "linux" {
		return ring.ErrUnsupported
	}
	a.setPatience(demoPatience)
	if c.Input == "" {
		if c.Input, err = demo.DefaultInput(ctx); err != nil {
			return fmt.Errorf("%w; name a file or directory to stream with --input", err)
		}
	}
	c.Made = func(name string) {
		a.onAbandon(func() { _ = ring.Remove(name, ring.WithDir(c.Dir), ring.WithForce()) })
	}
	var line progressLine
	if isTerminal(a.stderr) {
		c.Announce = func(text string) { fmt.Fprintln(a.stderr, text) }
		c.Progress = func(text string) { line.show(a.stderr, text) }
	}
	result, err := demo.Run(ctx, c)
	line.clear(a.stderr)
	if err != nil {
		return err
	}
	if jsonOut {
		err = writeJSON(a.stdout, result)
	} else {
		err = result.Print(a.stdout)
	}
	switch {
	case err != nil:
		return err
	case !result.Balanced:
		return failf(exitFailure, "the account does not balance")
	}
	return ctx.Err()
}

// progressLine is a line of a terminal that is written over and over.
type progressLine struct{ width int }

func (p *progressLine) show(w io.Writer, text string) {
	fmt.Fprintf(w, "\r%-*s", p.width, text)
	p.width = len(text)
}

func (p *progressLine) clear(w io.Writer) {
	if p.width > 0 {
		fmt.Fprintf(w, "\r%*s\r", p.width, "")
	}
}

var demoWorkerCommand = &command{
	name: demo.Verb, summary: "one process of the demo", hidden: true,
	new: func(f *flags) runner {
		return func(ctx context.Context, a *app, operands []string) error { return demo.Work(ctx, operands) }
	},
}
