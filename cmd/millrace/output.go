package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

// writeJSON writes v as one line.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// table collects rows and prints them in columns, numbers to the right.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// print writes the table. Without headers only the rows.
func (t *table) print(w io.Writer, headers bool) error {
	rows := t.rows
	if headers {
		rows = append([][]string{t.head}, rows...)
	}
	width := make([]int, len(t.head))
	right := make([]bool, len(t.head))
	for i := range right {
		right[i] = len(t.rows) > 0
		for _, r := range rows {
			width[i] = max(width[i], utf8.RuneCountInString(r[i]))
		}
		for _, r := range t.rows {
			right[i] = right[i] && numeric(r[i])
		}
	}
	var b strings.Builder
	for _, r := range rows {
		line := ""
		for i, cell := range r {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i > 0 {
				line += "  "
			}
			if right[i] {
				line += pad + cell
			} else {
				line += cell + pad
			}
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// numeric says whether a cell is a number, perhaps with a unit.
func numeric(s string) bool { return s == "-" || s != "" && (s[0] >= '0' && s[0] <= '9') }

// humanSize prints bytes for people.
func humanSize(n uint64) string {
	const names = "KMGT"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	for v >= 1024 && i < len(names)-1 {
		v, i = v/1024, i+1
	}
	return fmt.Sprintf("%.4g %ciB", v, names[i])
}

// stamp is a time in the form that JSON and -f use.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// dieOfBrokenPipe ends the process the way a reader that went away ends other tools: by SIGPIPE, and silently.
func dieOfBrokenPipe() {
	signal.Reset(syscall.SIGPIPE)
	_, _ = os.Stdout.Write([]byte("\n")) // the runtime raises the signal
}

// writeError names the failure of a write to standard output.
func writeError(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		return errBrokenPipe
	}
	return fmt.Errorf("write to standard output: %w", err)
}
