package main

import (
	"context"
	"slices"
	"strings"
)

// command is one verb.
type command struct {
	name      string
	operands  string // as the usage line shows them
	summary   string
	detail    string // further lines of help
	takesName bool   // the first operand is the name of a ring
	changes   bool   // it changes rings; the others are marked read-only in the help
	hidden    bool

	// new registers the flags and returns what runs the command when they are parsed.
	new func(f *flags) runner
}

type runner func(ctx context.Context, a *app, operands []string) error

// commands lists the verbs in the order of the help. It is filled in by init, because help and completion are commands that
// list them.
var commands []*command

func init() {
	commands = []*command{
		demoCommand, createCommand, sendCommand, recvCommand, lsCommand, infoCommand, statCommand, peekCommand,
		recoverCommand, rmCommand, benchCommand, versionCommand, completionCommand, helpCommand, demoWorkerCommand, benchWorkerCommand, benchFloorCommand,
	}
}

// later are verbs that are fixed and not built yet.
var later = []string{"top", "check", "doctor", "exporter", "dump"}

// findCommand returns the command called name.
func findCommand(name string) (*command, error) {
	for _, c := range commands {
		if c.name == name {
			return c, nil
		}
	}
	if slices.Contains(later, name) {
		return nil, usagef("not in this version yet; `millrace help` lists what is")
	}
	if strings.HasPrefix(name, "-") {
		return nil, usagef("a command comes first: millrace VERB NAME [flags]; see `millrace help`")
	}
	return nil, usagef("no such command; `millrace help` lists them")
}

// oneName checks that exactly one ring is named.
func oneName(operands []string) (string, error) {
	switch len(operands) {
	case 0:
		return "", usagef("the name of a ring is missing; `millrace ls` shows which there are")
	case 1:
		return operands[0], nil
	}
	return "", usagef("one name expected, got %d: %s", len(operands), strings.Join(operands, " "))
}

// noOperands checks that there are none.
func noOperands(operands []string) error {
	if len(operands) > 0 {
		return usagef("unexpected argument %q", operands[0])
	}
	return nil
}
