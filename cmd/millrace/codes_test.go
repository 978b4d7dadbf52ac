//go:build linux

package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func execTool(args ...string) *exec.Cmd { return exec.Command(toolPath, args...) }

func readAll(t *testing.T, r io.Reader) string {
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(b)
}

func TestUsageErrors(t *testing.T) {
	x := newTool(t)
	for _, args := range [][]string{
		{}, {"nonsense"}, {"--dir"}, {"top"}, {"check", "q"}, {"doctor"}, {"exporter"}, {"dump", "q"},
		{"create"}, {"create", "q"}, {"create", "q", "r", "--kind", "spsc"}, {"create", "q", "--kind", "both"},
		{"create", "q", "--kind", "mpmc", "--slots", "3"}, {"create", "q", "--kind", "mpmc", "--slot-size", "1X"},
		{"create", "../q", "--kind", "mpmc"}, {"create", ".q", "--kind", "mpmc"}, {"create", "q", "--kind", "mpmc", "--mode", "9"},
		{"send"}, {"send", "q", "--create", "-0", "--file"}, {"send", "q", "--delim", ""}, {"send", "q", "--on-full", "explode"},
		{"recv"}, {"recv", "q", "-j", "--hex"}, {"recv", "q", "-j", "-0"}, {"recv", "q", "-f", "%x"}, {"recv", "q", "-n", "-1"},
		{"recv", "q", "--follow", "-e"}, {"recv", "q", "--timeout", "soon"}, {"recv", "q", "--unknown"},
		{"ls", "q"}, {"ls", "-o", "colour"}, {"info"}, {"stat"}, {"stat", "q", "-i", "0s"}, {"peek"}, {"recover"}, {"rm"},
		{"completion", "tcsh"}, {"help", "nonsense"}, {"demo", "q"}, {"demo", "--kind", "spsc", "--producers", "2"}, {"demo", "--kill-every", "1ms"},
	} {
		p := x.run(exitUsage, args...)
		require.NotEmpty(t, p.err.String(), "%v", args)
		require.Empty(t, p.out.String(), "%v", args)
	}
}

func TestLaterCommandsAreNotInTheHelp(t *testing.T) {
	x := newTool(t)
	help := x.run(exitDone, "help").out.String()
	for _, verb := range later {
		require.NotContains(t, help, "  "+verb+" ")
	}
	for _, c := range commands {
		require.Equal(t, !c.hidden, strings.Contains(help, "  "+c.name+" "), c.name)
		if !c.hidden {
			require.Contains(t, x.run(exitDone, "help", c.name).out.String(), "usage: millrace "+c.name)
			require.Contains(t, x.run(exitDone, c.name, "--help").out.String(), "usage: millrace "+c.name)
		}
	}
}

func TestUnknownNames(t *testing.T) {
	x := newTool(t)
	for _, args := range [][]string{
		{"send", "q"}, {"recv", "q"}, {"info", "q"}, {"stat", "q"}, {"peek", "q"}, {"recover", "q"}, {"rm", "q"}, {"rm", "--force", "q"},
		{"demo", "--input", "/nonexistent"}, {"ls", "--dir", "/nonexistent"},
	} {
		p := x.run(exitNotFound, args...)
		require.Equal(t, 1, strings.Count(p.err.String(), "\n"), "one line: %s", p.err.String())
	}
}

func TestForeignAndDamagedFiles(t *testing.T) {
	x := newTool(t)
	require.NoError(t, os.WriteFile(filepath.Join(x.dir, "short"), []byte("hello"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(x.dir, "long"), make([]byte, 100_000), 0o600))
	x.run(exitDone, "create", "cut", "--kind", "mpmc")
	require.NoError(t, os.Truncate(filepath.Join(x.dir, "cut"), 8192))
	for _, name := range []string{"short", "long", "cut"} {
		for _, verb := range []string{"send", "recv", "info", "stat", "peek", "recover"} {
			x.run(exitFormat, verb, name)
		}
	}
	for _, name := range []string{"short", "long"} {
		x.run(exitFormat, "rm", name)
		require.FileExists(t, filepath.Join(x.dir, name), "what is no ring is not removed")
	}
	require.Contains(t, x.run(exitDone, "ls").out.String(), "damaged")
	x.run(exitDone, "rm", "--force", "cut")
	x.run(exitFailure, "create", "short", "--kind", "mpmc")
}

func TestBlockedAndTimedOut(t *testing.T) {
	x := newTool(t)
	x.run(exitBlocked, "recv", "none", "--wait", "--timeout", "50ms")
	x.run(exitDone, "create", "q", "--kind", "spsc", "--slots", "4", "--slot-size", "16")
	x.run(exitBlocked, "recv", "q", "--timeout", "50ms")
	x.run(exitDone, "recv", "q", "-e")
	x.feed(exitBlocked, "1\n2\n3\n4\n5\n6\n", "send", "q", "--on-full", "fail")
	p := x.feed(exitDone, "7\n8\n", "send", "q", "--on-full", "drop")
	require.Contains(t, p.err.String(), "2 messages dropped")
	require.Equal(t, "1\n2\n", x.run(exitDone, "recv", "q", "-n", "2").out.String())
	require.Equal(t, "3\n4\n", x.run(exitBlocked, "recv", "q", "-n", "5").out.String())
	x.feed(exitPeer, strings.Repeat("x\n", 10), "send", "q") // full, and the last consumer is gone
	x.feed(exitFailure, strings.Repeat("x", 33)+"\n", "send", "q", "--on-full", "fail")
	require.Equal(t, "x\nx\nx\nx\n", x.run(exitDone, "recv", "q").out.String())
	x.feed(exitDone, "1\n2\n3\n", "send", "q", "--count", "2")
	require.Equal(t, "1\n2\n", x.run(exitDone, "recv", "q").out.String())
}

func TestRolesAndRemovalWhileAttached(t *testing.T) {
	x := newTool(t)
	x.run(exitDone, "create", "q", "--kind", "spsc")
	r := x.start(nil, "recv", "q")
	x.eventually("q", atLeast("consumers_live", 1))
	require.Contains(t, x.run(exitPeer, "recv", "q").err.String(), "role is taken")
	require.Contains(t, x.run(exitFailure, "rm", "q").err.String(), "--force")
	x.run(exitDone, "rm", "q", "--force")
	r.done(exitFailure)
	require.Contains(t, r.err.String(), "removed by force")

	x.run(exitDone, "create", "q", "--kind", "mpmc")
	x.feed(exitDone, "unread\n", "send", "q")
	require.Contains(t, x.run(exitFailure, "rm", "q").err.String(), "unread")
	x.run(exitDone, "recv", "q")
	x.run(exitDone, "rm", "q")
}

func TestInterruptedWaits(t *testing.T) {
	x := newTool(t)
	waiting := x.start(nil, "recv", "none", "--wait")
	x.run(exitDone, "create", "q", "--kind", "mpmc")
	idle := x.start(nil, "recv", "q")
	stdin, w, err := os.Pipe()
	require.NoError(t, err)
	defer w.Close()
	reading := x.start(stdin, "send", "q")
	x.eventually("q", func(i map[string]any) bool { return atLeast("consumers_live", 1)(i) && atLeast("producers_live", 1)(i) })
	for _, p := range []*process{waiting, idle, reading} {
		p.signal(syscall.SIGTERM)
		p.done(exitInterrupted)
	}
	i := x.info("q")
	require.Zero(t, i["producers_died"], "an interrupted sender closes")
	require.Zero(t, i["consumers_died"])
}

func TestStaleRemovesOnlyWhatIsStale(t *testing.T) {
	x := newTool(t)
	x.run(exitDone, "create", "kept", "--kind", "mpmc")
	x.feed(exitDone, "", "send", "drained", "--create")
	x.feed(exitDone, "message\n", "send", "unread", "--create")
	x.run(exitDone, "rm", "--stale")
	require.Equal(t, "kept\nunread\n", x.run(exitDone, "ls", "-o", "name", "--no-headers").out.String())
	x.run(exitDone, "rm", "--stale", "--force")
	require.Equal(t, "kept\n", x.run(exitDone, "ls", "-o", "name", "--no-headers").out.String())
}
