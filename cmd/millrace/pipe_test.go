//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// text returns lines, larger than a temporary ring.
func text() []byte {
	var b bytes.Buffer
	for i := range 200_000 {
		fmt.Fprintf(&b, "line %d %s\n", i, strings.Repeat("x", i%60))
	}
	return b.Bytes()
}

// prefixed returns messages of random bytes and sizes, some of several slots, some empty.
func prefixed() []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b []byte
	for i := range 10_000 {
		n := r.IntN(300)
		switch i % 100 {
		case 0:
			n = 0
		case 1:
			n = r.IntN(100_000)
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
		for range n {
			b = append(b, byte(r.Uint32()))
		}
	}
	return b
}

// The same two commands give back the same bytes, in either order, twice on one name, and leave nothing behind.
func TestSendRecvGiveBackTheSameBytes(t *testing.T) {
	inputs := []struct {
		name  string
		bytes []byte
		flags []string
	}{
		{"text", text(), nil},
		{"binary", prefixed(), []string{"--length-prefix"}},
		{"empty", nil, nil},
	}
	for _, in := range inputs {
		for _, order := range []string{"sender first", "receiver first"} {
			t.Run(in.name+", "+order, func(t *testing.T) {
				x := newTool(t)
				send := append([]string{"send", "q", "--create"}, in.flags...)
				recv := append([]string{"recv", "q", "--wait"}, in.flags...)
				for range 2 {
					var s, r *process
					if order == "sender first" {
						s = x.start(bytes.NewReader(in.bytes), send...)
						x.eventually("q", atLeast("producers_ever", 1))
						r = x.start(nil, recv...)
					} else {
						r = x.start(nil, recv...)
						s = x.start(bytes.NewReader(in.bytes), send...)
					}
					s.done(exitDone)
					r.done(exitDone)
					require.True(t, bytes.Equal(in.bytes, r.out.Bytes()), "%d bytes sent, %d received", len(in.bytes), r.out.Len())
					require.Empty(t, s.err.String()+r.err.String())
					entries, err := os.ReadDir(x.dir)
					require.NoError(t, err)
					require.Empty(t, entries, "the temporary ring is removed")
				}
			})
		}
	}
}

// Both start at once, again and again: whoever comes last must neither find the remains of the round before nor lose the
// ring under its feet.
func TestSendRecvRaceOnOneName(t *testing.T) {
	x := newTool(t)
	rounds := 100
	if testing.Short() {
		rounds = 20
	}
	for i := range rounds {
		input := strings.Repeat("a line\n", i%5)
		s := x.start(strings.NewReader(input), "send", "q", "--create")
		r := x.start(nil, "recv", "q", "--wait")
		s.done(exitDone)
		r.done(exitDone)
		require.Equal(t, input, r.out.String(), "round %d", i)
	}
}

func TestTwoReceiversShareAndTheLastRemoves(t *testing.T) {
	x := newTool(t)
	stdin, w, err := os.Pipe()
	require.NoError(t, err)
	s := x.start(stdin, "send", "q", "--create")
	a := x.start(nil, "recv", "q", "--wait")
	b := x.start(nil, "recv", "q", "--wait")
	x.eventually("q", atLeast("consumers_live", 2))
	_, err = w.Write(text())
	require.NoError(t, err)
	require.NoError(t, w.Close())
	for _, p := range []*process{s, a, b} {
		p.done(exitDone)
	}
	require.Equal(t, len(text()), a.out.Len()+b.out.Len())
	x.run(exitNotFound, "info", "q")
}

func TestFramings(t *testing.T) {
	x := newTool(t)
	for _, c := range []struct{ flag, value, in, out string }{
		{"-0", "", "a\x00\x00b\n\x00", "a\x00\x00b\n\x00"},
		{"--delim", "::", "a::b:c::", "a::b:c::"},
		{"--delim", `\r\n`, "a\nb\r\n\r\n", "a\nb\r\n\r\n"},
		{"", "", "a\r\n\nlast", "a\r\n\nlast\n"},
		{"--file", "", "all\nof\x00it", "all\nof\x00it"},
	} {
		flags := []string{}
		if c.flag != "" {
			flags = append(flags, c.flag)
		}
		if c.value != "" {
			flags = append(flags, c.value)
		}
		x.feed(exitDone, c.in, append([]string{"send", "q", "--create"}, flags...)...)
		p := x.run(exitDone, append(append([]string{"recv"}, flags...), "q")...)
		require.Equal(t, c.out, p.out.String(), "%v", c)
	}
	x.feed(exitFailure, "\x05\x00\x00\x00abc", "send", "q", "--create", "--length-prefix")
}

func TestCreateUsesTheRingThatExists(t *testing.T) {
	x := newTool(t)
	x.run(exitDone, "create", "q", "--kind", "spsc", "--slots", "8", "--slot-size", "32")
	x.feed(exitDone, "1\n", "send", "q", "--create")
	x.feed(exitDone, "2\n", "send", "q", "--create", "--slots", "8")
	p := x.feed(exitFailure, "3\n", "send", "q", "--create", "--kind", "mpmc")
	require.Contains(t, p.err.String(), "Kind")
	require.Equal(t, "1\n2\n", x.run(exitDone, "recv", "q").out.String())
	require.NotNil(t, x.info("q"), "recv removes temporary rings only")
}

func TestFilesRateAndCount(t *testing.T) {
	x := newTool(t)
	var files []string
	for _, content := range []string{"one", "", "three\n"} {
		f := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(f, []byte(content), 0o600))
		files = append(files, f)
	}
	x.run(exitDone, append([]string{"send", "q", "--create", "--file"}, files...)...)
	require.Equal(t, "3:one0:6:three\n", x.run(exitDone, "recv", "q", "-f", "%n:%s").out.String())
	began := time.Now()
	x.feed(exitDone, strings.Repeat("x\n", 100), "send", "q", "--create", "--rate", "100", "--count", "21")
	require.GreaterOrEqual(t, time.Since(began), 190*time.Millisecond)
	require.Equal(t, strings.Repeat("x\n", 21), x.run(exitDone, "recv", "q").out.String())
}

func TestDeadProducerIsReportedAfterEverythingIsWritten(t *testing.T) {
	x := newTool(t)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer w.Close()
	s := x.start(r, "send", "q", "--create")
	_, err = w.WriteString("one\ntwo\n")
	require.NoError(t, err)
	x.eventually("q", atLeast("sent", 2))
	s.signal(syscall.SIGKILL)
	_ = s.Wait()
	p := x.run(exitPeer, "recv", "q")
	require.Equal(t, "one\ntwo\n", p.out.String())
	require.Contains(t, p.err.String(), "died")
	x.run(exitNotFound, "recv", "q")
}

func TestInterruptedReceiverLosesNothing(t *testing.T) {
	for _, policy := range []string{"redeliver", "drop"} {
		t.Run(policy, func(t *testing.T) {
			x := newTool(t)
			const lines = 50_000
			var in strings.Builder
			for i := range lines {
				fmt.Fprintln(&in, i)
			}
			x.run(exitDone, "create", "q", "--kind", "mpmc", "--slots", "65536", "--slot-size", "16", "--on-consumer-death", policy)
			x.feed(exitDone, in.String(), "send", "q")

			out, stuck, err := os.Pipe() // nobody reads it: recv gets stuck in a write
			require.NoError(t, err)
			p := &process{Cmd: execTool("recv", "q"), t: x}
			p.Stdout = stuck
			p.run()
			require.NoError(t, stuck.Close())
			x.eventually("q", stalled)
			p.signal(syscall.SIGINT)
			p.done(exitInterrupted)
			first := readAll(t, out)

			rest := x.run(exitDone, "recv", "q", "-f", `%d %s\n`)
			seen := map[string]bool{}
			for _, line := range strings.Split(first[:strings.LastIndexByte(first, '\n')], "\n") {
				seen[line] = true
			}
			for _, line := range strings.Fields(strings.ReplaceAll(rest.out.String(), " ", ":")) {
				deliveries, payload, _ := strings.Cut(line, ":")
				require.False(t, seen[payload] && deliveries == "1", "%s came twice unmarked", payload)
				seen[payload] = true
			}
			require.Len(t, seen, lines)
		})
	}
}

// stalled says whether some consumer holds a message for a while.
func stalled(info map[string]any) bool {
	for _, p := range info["participants"].([]any) {
		if p.(map[string]any)["state"] == "stalled" {
			return true
		}
	}
	return false
}

func TestClosedOutputIsQuiet(t *testing.T) {
	x := newTool(t)
	x.feed(exitDone, strings.Repeat("line\n", 4000), "send", "q", "--create")
	out, in, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, out.Close())
	p := &process{Cmd: execTool("recv", "q"), t: x}
	p.Stdout, p.Stderr = in, &p.err
	p.run()
	require.NoError(t, in.Close())
	require.Error(t, p.Wait())
	require.Equal(t, syscall.SIGPIPE, p.ProcessState.Sys().(syscall.WaitStatus).Signal())
	require.Empty(t, p.err.String())
	got := x.run(exitDone, "recv", "q")
	require.Equal(t, 4000, strings.Count(got.out.String(), "\n"), "nothing was lost")
}
