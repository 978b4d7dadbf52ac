//go:build linux

package main

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// keys requires that an object has all of the names.
func keys(t *testing.T, v map[string]any, names string) {
	t.Helper()
	for _, n := range strings.Fields(names) {
		require.Contains(t, v, n)
	}
}

func TestJSONOfReadingCommands(t *testing.T) {
	x := newTool(t)
	x.run(exitDone, "create", "q", "--kind", "mpmc", "--slots", "64", "--slot-size", "1K", "--mode", "0640")
	x.feed(exitDone, "text <&>\n\xff\xfe\n", "send", "q")

	for _, args := range [][]string{{"peek", "q", "-j"}, {"peek", "q", "-j"}, {"recv", "q", "-j"}} { // a look changes nothing
		p := x.run(exitDone, args...)
		lines := strings.Split(strings.TrimSpace(p.out.String()), "\n")
		require.Len(t, lines, 2)
		first, second := x.object(lines[0]), x.object(lines[1])
		keys(t, first, "position deliveries length time time_ns payload")
		require.Equal(t, "text <&>", first["payload"])
		require.Contains(t, lines[0], "<&>")
		require.Equal(t, base64.StdEncoding.EncodeToString([]byte("\xff\xfe")), second["payload_b64"])
		require.NotContains(t, second, "payload")
		require.EqualValues(t, 1, second["position"])
		require.EqualValues(t, 1, second["deliveries"])
	}

	ls := x.object(x.run(exitDone, "ls", "-j").out.String())
	keys(t, ls, "name path kind backing size slots slot_size used attached attachments state temporary mode uid created created_ns")
	require.Equal(t, "0640", ls["mode"])
	require.Equal(t, "idle", ls["state"])

	info := x.object(x.run(exitDone, "info", "q", "-j").out.String())
	keys(t, info, `name path id kind backing huge_pages temporary size slots slot_size max_message entry_stride max_participants on_consumer_death
		version layout data_offset mode created created_ns creator_pid attached used producer_position consumer_position sent received redelivered lost
		skipped padding discarded recoveries sleeps wakes producers_ever producers_live producers_died consumers_ever consumers_live consumers_died participants`)
	require.EqualValues(t, 64, info["slots"])
	require.EqualValues(t, 32*1024, info["max_message"])
	require.EqualValues(t, 2, info["received"])
	require.Empty(t, info["participants"])

	stat := x.object(x.run(exitDone, "stat", "q", "-i", "10ms", "-n", "1", "-j").out.String())
	keys(t, stat, "time time_ns name interval_ns sent_per_second received_per_second sleeps_per_second wakes_per_second lag used sent received lost")

	keys(t, x.object(x.run(exitDone, "version", "-j").out.String()), "version format_version go platform")
}

func TestRecoverNamesTheDead(t *testing.T) {
	x := newTool(t)
	x.run(exitDone, "create", "q", "--kind", "mpmc")
	r := x.start(nil, "recv", "q")
	x.eventually("q", atLeast("consumers_live", 1))
	r.signal(syscall.SIGKILL)
	_ = r.Wait()
	require.Equal(t, "dead", x.object(x.run(exitDone, "ls", "-j").out.String())["state"])
	for _, args := range [][]string{{"recover", "q", "--dry-run", "-j"}, {"recover", "q", "-j"}} {
		v := x.object(x.run(exitDone, args...).out.String())
		require.Equal(t, "consumer", v["role"])
		require.EqualValues(t, r.Process.Pid, v["pid"])
		require.Empty(t, v["held"])
		require.Equal(t, len(args) == 3, v["recovered"])
	}
	p := x.run(exitDone, "recover", "q")
	require.Empty(t, p.out.String())
	require.Contains(t, p.err.String(), "no dead participants")
}

func TestFormats(t *testing.T) {
	x := newTool(t)
	x.feed(exitDone, "ab\ncd\n", "send", "q", "--create")
	require.Equal(t, "0:2:1:ab%\t1:2:1:cd%\t", x.run(exitDone, "peek", "q", "-f", `%p:%n:%d:%s%%\t`).out.String())
	require.Equal(t, "6162\n6364\n", x.run(exitDone, "recv", "q", "--hex").out.String())
}

func TestCompletionAndHelp(t *testing.T) {
	x := newTool(t)
	for _, shell := range []string{"bash", "zsh", "fish"} {
		out := x.run(exitDone, "completion", shell).out.String()
		require.Contains(t, out, "on-full")
		require.NotContains(t, out, "demo-worker")
	}
}

// demoInput is a small tree with an empty file, a large one and a link that is not followed.
func demoInput(t *testing.T) string {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	for i, size := range []int{0, 1, 100, 8152, 8153, 100_000, 3_000_000} {
		b := []byte(strings.Repeat(string(rune('a'+i)), size))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "sub", "file"+string(rune('0'+i))), b, 0o600))
	}
	require.NoError(t, os.Symlink("/etc/passwd", filepath.Join(dir, "link")))
	return dir
}

// The demo's account balances although processes are killed all the time, and it leaves nothing behind.
func TestDemo(t *testing.T) {
	for _, kind := range []string{"mpmc", "spsc"} {
		t.Run(kind, func(t *testing.T) {
			x := newTool(t)
			p := x.run(exitDone, "demo", "--kind", kind, "--duration", "3s", "--kill-every", "60ms", "--input", demoInput(t), "-j")
			v := x.object(p.out.String())
			require.Equal(t, true, v["balanced"], "%v", v["problems"])
			require.Equal(t, v["messages_sent"], v["messages_received"])
			require.EqualValues(t, 7, v["files"])
			require.EqualValues(t, 7, v["files_verified"])
			for _, zero := range strings.Fields("lost duplicates out_of_order corrupt foreign files_bad files_skipped files_not_reached") {
				require.EqualValues(t, 0, v[zero], zero)
			}
			require.Positive(t, v["killed_producers"])
			require.Positive(t, v["killed_consumers"])
			require.Positive(t, v["slowest_recovery_ns"])
			require.Positive(t, v["messages_per_second"])
			require.Positive(t, v["latency_ns"].(map[string]any)["p50"])
			require.Empty(t, p.err.String(), "no progress without a terminal")
			entries, err := os.ReadDir(x.dir)
			require.NoError(t, err)
			require.Empty(t, entries)
		})
	}
}

func TestDemoOncePrintsAnAccount(t *testing.T) {
	x := newTool(t)
	p := x.run(exitDone, "demo", "--kill-every", "0", "--input", demoInput(t))
	require.Contains(t, p.out.String(), "the account balances")
	require.Contains(t, p.out.String(), "7 verified")
}

func TestInterruptedDemoClosesTheAccount(t *testing.T) {
	x := newTool(t)
	p := x.start(nil, "demo", "--duration", "1h", "--input", demoInput(t), "-j")
	require.Eventually(t, func() bool {
		entries, err := os.ReadDir(x.dir)
		return err == nil && len(entries) == 1 && atLeast("received", 100)(x.info(entries[0].Name()))
	}, patience, 50*time.Millisecond)
	p.signal(syscall.SIGINT)
	p.done(exitInterrupted)
	require.Equal(t, true, x.object(p.out.String())["balanced"])
	entries, err := os.ReadDir(x.dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}
