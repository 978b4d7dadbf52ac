package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"syscall"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/seg"
)

// The exit codes, the same for every command.
const (
	exitDone        = 0
	exitFailure     = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitBlocked     = 4 // would block, timed out, or -n N not reached
	exitFormat      = 5 // not our format, another version, corrupt
	exitPeer        = 6 // a participant is dead or stalled, or the role is taken
	exitMachine     = 7 // permission, or a limit of the machine
	exitInterrupted = 130
)

// usageError says what was wrong with the command line.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// failure is an error with the exit code that it means here and, possibly, the next step.
type failure struct {
	code int
	text string
	err  error
}

func (e *failure) Error() string { return e.text }
func (e *failure) Unwrap() error { return e.err }

// failf makes a failure. A last %w is its cause.
func failf(code int, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &failure{code, err.Error(), errors.Unwrap(err)}
}

// errBrokenPipe says that nobody reads standard output any more.
var errBrokenPipe = errors.New("standard output is closed")

// limits of the machine.
var limits = []error{
	fs.ErrPermission, syscall.ENOSPC, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, syscall.EDQUOT, syscall.EROFS, syscall.EAGAIN,
	ring.ErrUnsupported,
}

// exitCode maps an error to the exit code of the process.
func exitCode(err error) int {
	var (
		usage  *usageError
		fail   *failure
		peer   *ring.PeerError
		format *ring.FormatError
		option *ring.OptionError
	)
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &fail):
		return fail.code
	case errors.Is(err, errInterrupted), errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &peer), errors.Is(err, ring.ErrRoleTaken), errors.Is(err, ring.ErrNoConsumers):
		return exitPeer
	case errors.As(err, &format):
		return exitFormat
	case errors.As(err, &option), errors.Is(err, seg.ErrName):
		return exitUsage
	case errors.Is(err, ring.ErrFull), errors.Is(err, ring.ErrEmpty), errors.Is(err, context.DeadlineExceeded):
		return exitBlocked
	case errors.Is(err, fs.ErrNotExist):
		return exitNotFound
	}
	for _, limit := range limits {
		if errors.Is(err, limit) {
			return exitMachine
		}
	}
	return exitFailure
}

// doing is what the packages put before an error, and the command line says already.
var doing = regexp.MustCompile(`^(ring|seg|millrace): ((open|create|remove|inspect) [^:/]*: )?`)

// explain returns the error line without the command: what was found, and what to do next.
func explain(err error) string {
	text := strings.ReplaceAll(err.Error(), "\n", "; ") // joined errors
	for {
		rest := text[len(doing.FindString(text)):]
		if rest == text {
			break
		}
		text = rest
	}
	var fail *failure
	if errors.As(err, &fail) {
		return text
	}
	var next string
	switch {
	case errors.Is(err, ring.ErrRoleTaken):
		next = "`millrace info NAME` shows who has it"
	case errors.Is(err, fs.ErrExist):
		next = "use it, remove it with `millrace rm`, or choose another name"
	case errors.Is(err, ring.ErrInUse):
		next = "`millrace info NAME` shows who is attached; --force removes it all the same"
	case errors.Is(err, fs.ErrPermission):
		next = "ask its owner, or choose a directory of your own with --dir"
	}
	if next == "" {
		return text
	}
	return text + "; " + next
}

// notFound explains that there is no ring called name, and what to do. Other errors stay as they are.
func notFound(a *app, name, next string, err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return &failure{exitNotFound, fmt.Sprintf("there is no ring %q in %s; %s", name, dirOf(a), next), err}
}

// Next steps for a ring that is not there.
const (
	nextList = "`millrace ls` shows which there are"
	nextWait = "--wait waits for it, " + nextList
	nextMake = "--create makes it, --wait waits for it"
)
