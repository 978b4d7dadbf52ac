package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// errHelp asks for the help of a command.
var errHelp = flag.ErrHelp

// flags are the flags of one command. They may stand before, between and behind the operands; -- ends them.
type flags struct {
	set  *flag.FlagSet
	docs []flagDoc
	dir  string
}

// flagDoc describes a flag in help and completion.
type flagDoc struct {
	names []string
	value string // what its value is called; empty for switches
	usage string
}

func newFlags(c *command) *flags {
	f := &flags{set: flag.NewFlagSet(c.name, flag.ContinueOnError)}
	f.set.SetOutput(io.Discard)
	return f
}

// add registers v under every name. Names are separated by spaces, as in "n count".
func (f *flags) add(v flag.Value, names, value, usage string) {
	doc := flagDoc{names: strings.Fields(names), value: value, usage: usage}
	for _, name := range doc.names {
		f.set.Var(v, name, usage)
	}
	f.docs = append(f.docs, doc)
}

// withDir registers --dir, which every command has that deals with rings.
func (f *flags) withDir() {
	f.text(&f.dir, "dir", "DIR", "directory of the rings; default $MILLRACE_DIR or /dev/shm")
}

func (f *flags) text(p *string, names, value, usage string) {
	f.add(parsed(p, func(s string) (string, error) { return s, nil }), names, value, usage)
}

func (f *flags) number(p *int, names, usage string) {
	f.add(parsed(p, func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return 0, errors.New("not a whole number of at least 0")
		}
		return n, nil
	}), names, "N", usage)
}

func (f *flags) size(p *int, names, usage string) {
	f.add(parsed(p, parseSize), names, "SIZE", usage)
}

func (f *flags) duration(p *time.Duration, names, usage string) {
	f.add(parsed(p, func(s string) (time.Duration, error) {
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 {
			return 0, errors.New("not a duration such as 250ms, 10s or 1m30s")
		}
		return d, nil
	}), names, "D", usage)
}

func (f *flags) toggle(p *bool, names, usage string) {
	f.add(&toggle{p}, names, "", usage)
}

// choice registers a flag that takes one of a few words, each of which stands for a value.
func choice[T any](f *flags, p *T, names, usage string, words []string, values ...T) {
	f.add(parsed(p, func(s string) (T, error) {
		for i, w := range words {
			if w == s {
				return values[i], nil
			}
		}
		var zero T
		return zero, fmt.Errorf("want %s", strings.Join(words, ", "))
	}), names, strings.Join(words, "|"), usage)
}

// given says whether one of the flags was on the command line.
func (f *flags) given(name string) (found bool) {
	f.set.Visit(func(g *flag.Flag) { found = found || g.Name == name })
	return found
}

// parse takes flags and operands in any order and returns the operands.
func (f *flags) parse(args []string) (operands []string, err error) {
	for len(args) > 0 {
		if err := f.set.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, errHelp
			}
			return nil, usagef("%s; see `millrace help %s`", dashes(err.Error()), f.set.Name())
		}
		rest := f.set.Args()
		if n := len(args) - len(rest); n > 0 && args[n-1] == "--" {
			return append(operands, rest...), nil
		}
		if len(rest) == 0 {
			break
		}
		operands, args = append(operands, rest[0]), rest[1:]
	}
	return operands, nil
}

// dashes writes long flags with two dashes in the messages of package flag.
func dashes(s string) string {
	words := strings.Split(s, " ")
	for i, w := range words {
		if name := strings.TrimRight(w, ":"); strings.HasPrefix(w, "-") && !strings.HasPrefix(w, "--") && len(name) > 2 {
			words[i] = "-" + w
		}
	}
	return strings.Join(words, " ")
}

// value is a flag.Value that parses into *p.
type value[T any] struct {
	p     *T
	parse func(string) (T, error)
}

func parsed[T any](p *T, parse func(string) (T, error)) *value[T] { return &value[T]{p, parse} }

func (v *value[T]) String() string {
	if v.p == nil {
		return ""
	}
	return fmt.Sprint(*v.p)
}

func (v *value[T]) Set(s string) error {
	x, err := v.parse(s)
	if err == nil {
		*v.p = x
	}
	return err
}

// toggle is a switch.
type toggle struct{ p *bool }

func (t *toggle) String() string   { return "" }
func (t *toggle) IsBoolFlag() bool { return true }

func (t *toggle) Set(s string) (err error) {
	*t.p, err = strconv.ParseBool(s)
	return err
}

// units of sizes; the longest suffix first.
var units = []struct {
	suffix string
	factor float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"T", 1 << 40},
	{"B", 1}, {"", 1},
}

// parseSize reads 4096, 64K, 4KiB, 1M, 1.5GiB; KB, MB and GB are powers of ten.
func parseSize(s string) (int, error) {
	for _, u := range units {
		head := s[:max(0, len(s)-len(u.suffix))]
		if !strings.EqualFold(s[len(head):], u.suffix) {
			continue
		}
		n, err := strconv.ParseFloat(head, 64)
		if bytes := n * u.factor; err == nil && bytes >= 0 && bytes < 1<<60 && bytes == float64(int(bytes)) {
			return int(bytes), nil
		}
		break
	}
	return 0, errors.New("not a size such as 4096, 64K, 4KiB or 1M")
}

// parseEscapes replaces \n, \t, \r, \0, \\ and \xHH.
func parseEscapes(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		i++
		if i == len(s) {
			return "", errors.New(`ends in a single \`)
		}
		switch s[i] {
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case 'r':
			b.WriteByte('\r')
		case '0':
			b.WriteByte(0)
		case '\\':
			b.WriteByte('\\')
		case 'x':
			if i+2 >= len(s) {
				return "", errors.New(`\x wants two hexadecimal digits`)
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", errors.New(`\x wants two hexadecimal digits`)
			}
			b.WriteByte(byte(n))
			i += 2
		default:
			return "", fmt.Errorf(`\%c is none of \n \t \r \0 \\ \xHH`, s[i])
		}
	}
	return b.String(), nil
}
