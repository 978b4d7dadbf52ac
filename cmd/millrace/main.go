// Command millrace makes, feeds, drains, watches and repairs rings: lock-free queues over shared memory.
//
//	cat FILE | millrace send q --create     in one terminal
//	millrace recv q --wait > OUT            in another
//	millrace demo                           streams real files while it kills the processes that carry them
//
// The subject comes last: millrace VERB NAME [flags]. Data goes to standard output, everything else to standard error;
// errors.go has the exit codes. Each command is a file of its own, and thin: the work is done by package ring.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

func main() {
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, patience: interruptPatience}
	os.Exit(a.run(os.Args[1:]))
}

// interruptPatience is how long a command may take to end by itself after SIGINT or SIGTERM. It may be stuck in a read or
// a write that no signal ends.
const interruptPatience = 300 * time.Millisecond

// errInterrupted is why the context of a command ends on SIGINT and SIGTERM.
var errInterrupted = errors.New("interrupted")

// app is one run of the tool.
type app struct {
	stdin          io.Reader
	stdout, stderr *os.File
	what           string        // command and subject, for lines on standard error
	dir            string        // --dir; empty: $MILLRACE_DIR or /dev/shm
	patience       time.Duration // before an interrupted command is abandoned

	mu      sync.Mutex
	abandon []func() // what must be put right when the command is abandoned, the last first
}

// run finds the command, runs it and returns the exit code.
func (a *app) run(args []string) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go a.interrupted(signals, cancel)

	err := a.dispatch(ctx, args)
	signal.Stop(signals)
	if errors.Is(err, context.Canceled) && context.Cause(ctx) == errInterrupted {
		err = errInterrupted
	}
	return a.finish(err)
}

func (a *app) dispatch(ctx context.Context, args []string) error {
	a.what = "millrace"
	if len(args) == 0 {
		printOverview(a.stderr)
		return usagef("no command given")
	}
	switch args[0] {
	case "-h", "-help", "--help":
		args[0] = "help"
	case "-v", "-version", "--version":
		args[0] = "version"
	}
	a.what += " " + args[0]
	c, err := findCommand(args[0])
	if err != nil {
		return err
	}
	f := newFlags(c)
	run := c.new(f)
	operands, err := f.parse(args[1:])
	switch {
	case errors.Is(err, errHelp):
		printCommand(a.stdout, c)
		return nil
	case err != nil:
		return err
	}
	if len(operands) == 1 && c.takesName {
		a.what += " " + operands[0]
	}
	a.dir = f.dir
	return run(ctx, a, operands)
}

// finish prints the error line, if there is one, and returns the exit code.
func (a *app) finish(err error) int {
	if err == nil {
		return exitDone
	}
	if errors.Is(err, errBrokenPipe) {
		dieOfBrokenPipe()
	}
	if err != errInterrupted {
		a.warn("%s", explain(err))
	}
	return exitCode(err)
}

// warn prints a line on standard error.
func (a *app) warn(format string, args ...any) {
	fmt.Fprintf(a.stderr, "%s: %s\n", a.what, fmt.Sprintf(format, args...))
}

// interrupted cancels the command on the first signal. A command that does not end then, or a second signal, is abandoned:
// what it registered with onAbandon is done, and the process ends.
func (a *app) interrupted(signals <-chan os.Signal, cancel context.CancelCauseFunc) {
	if _, ok := <-signals; !ok {
		return
	}
	cancel(errInterrupted)
	a.mu.Lock()
	patience := a.patience
	a.mu.Unlock()
	select {
	case <-signals:
	case <-time.After(patience):
	}
	a.mu.Lock() // for good: nothing is registered any more
	for i := len(a.abandon) - 1; i >= 0; i-- {
		a.abandon[i]()
	}
	os.Exit(exitInterrupted)
}

// onAbandon registers what must be done if the command is abandoned while it is stuck. It runs in another goroutine.
func (a *app) onAbandon(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.abandon = append(a.abandon, f)
}

// setPatience changes how long the command may take to end after a signal.
func (a *app) setPatience(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.patience = d
}
