package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
)

var helpCommand = &command{
	name: "help", operands: "[TOPIC]", summary: "help on a command or a topic: framing, exit-codes, environment, examples",
	new: func(f *flags) runner {
		return func(ctx context.Context, a *app, operands []string) error {
			if len(operands) == 0 {
				printOverview(a.stdout)
				return nil
			}
			if len(operands) > 1 {
				return usagef("one topic expected, got %d", len(operands))
			}
			if text, ok := topics()[operands[0]]; ok {
				_, err := io.WriteString(a.stdout, text)
				return err
			}
			c, err := findCommand(operands[0])
			if err != nil || c.hidden {
				return usagef("no command and no topic %q; topics are framing, exit-codes, environment, examples", operands[0])
			}
			printCommand(a.stdout, c)
			return nil
		}
	},
}

// topics are the pages of help that are not about one command.
func topics() map[string]string {
	return map[string]string{"framing": topicFraming, "exit-codes": topicExitCodes, "environment": topicEnvironment, "examples": topicExamples}
}

const topicFraming = `How messages stand in a stream of bytes, the same for send and recv:

  (nothing)         one message per line
  -0                NUL behind each message
  --delim S         S behind each message; \n \t \r \0 \xHH are understood
  --length-prefix   before each message its length: u32, little endian; for any bytes at all
  --file            one file, one message; recv writes nothing between messages

What recv writes is what send read, byte for byte; a missing last newline is added.
`

const topicExitCodes = `  0    done
  1    another failure
  2    usage
  3    not found
  4    would block or timed out; recv -n N: fewer than N came
  5    not our format, another version, or corrupt
  6    a participant is dead or stalled, or the role is taken
  7    permission, or a limit of the machine
  130  interrupted
`

const topicEnvironment = `  MILLRACE_DIR   directory of the rings; --dir goes before it; default /dev/shm
  NO_COLOR       honoured: nothing is ever coloured

Data goes to standard output, everything else to standard error. Without a terminal there is no progress line.
Sizes: 4096, 64K, 4KiB, 1M (powers of 1024); 64KB (powers of 1000). Durations: 250ms, 10s, 1m30s.
`

const topicExamples = `  cat FILE | millrace send q --create             one terminal
  millrace recv q --wait > OUT                    another one, before or after

  millrace create jobs --kind mpmc --slots 65536 --slot-size 512
  seq 1000000 | millrace send jobs
  millrace recv jobs | worker                     as many as you like; each message goes to one of them
  millrace stat jobs -i 1s
  millrace recv jobs -f '%p %n %s\n'
  millrace peek jobs -n 3 -j
  find . -type f -print0 | millrace send q --create -0

  millrace demo                                   real files, real kills
`

func printOverview(w io.Writer) {
	var b strings.Builder
	b.WriteString("millrace: lock-free queues over shared memory that survive whatever happens to the processes around them\n\n" +
		"usage: millrace VERB NAME [flags]\n\n")
	for _, c := range commands {
		if c.hidden {
			continue
		}
		mark := ""
		if !c.changes {
			mark = " (read-only)"
		}
		fmt.Fprintf(&b, "  %-11s %s%s\n", c.name, c.summary, mark)
	}
	b.WriteString("\n`millrace help VERB` has the flags; `millrace help examples` shows how it is used\n")
	_, _ = io.WriteString(w, b.String())
}

func printCommand(w io.Writer, c *command) {
	f := newFlags(c)
	c.new(f)
	var b strings.Builder
	usage := "millrace " + c.name
	if c.operands != "" {
		usage += " " + c.operands
	}
	if len(f.docs) > 0 {
		usage += " [flags]"
	}
	fmt.Fprintf(&b, "%s: %s\n\nusage: %s\n", c.name, c.summary, usage)
	if c.detail != "" {
		b.WriteString("\n" + c.detail + "\n")
	}
	if len(f.docs) > 0 {
		b.WriteString("\n")
	}
	for _, d := range f.docs {
		left := spell(d.names)
		if d.value != "" {
			left += " " + d.value
		}
		if len(left) > 28 {
			fmt.Fprintf(&b, "  %s\n  %-28s  %s\n", left, "", d.usage)
		} else {
			fmt.Fprintf(&b, "  %-28s  %s\n", left, d.usage)
		}
	}
	_, _ = io.WriteString(w, b.String())
}

// spell writes the names of a flag as they are typed.
func spell(names []string) string {
	typed := slices.Clone(names)
	for i, n := range typed {
		if len(n) == 1 {
			typed[i] = "-" + n
		} else {
			typed[i] = "--" + n
		}
	}
	return strings.Join(typed, ", ")
}
