//go:build linux

package process

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

const (
	streamLength = 1_000_000
	streamCalls  = 10_000 // system calls that a stream may make, all threads of both processes together
)

func init() {
	children["stream send"] = func(args []string) error { return streamSend(args[0]) }
	children["stream receive"] = func(args []string) error { return streamReceive(args[0]) }
}

// An SPSC stream of a million messages between two running processes makes fewer than 10,000 system calls, starting and ending the processes included. What
// the ring counts of itself agrees with what strace saw: no more sleeps and wakes than futex calls on shared words. The better of three tries counts,
// because a process that does not run, on a machine with other work, makes its peer sleep.
func TestStreamMakesFewSystemCalls(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	if out, err := exec.Command(strace, "-f", "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		t.Skipf("strace may not trace here: %v: %s", err, out)
	}
	if runtime.NumCPU() < 2 {
		t.Skip("on one core two processes do not run at once: every exchange of messages takes a sleep")
	}
	for try := 1; ; try++ {
		calls := tracedStream(t, strace)
		t.Logf("try %d: %d system calls", try, calls)
		if calls < streamCalls {
			return
		}
		require.True(t, try < 3 && calls < 10*streamCalls, "%d system calls for %d messages", calls, streamLength)
	}
}

// tracedStream returns how many system calls a stream made.
func tracedStream(t *testing.T, strace string) (calls int) {
	dir, out := proc.Dir(t), t.TempDir()
	r, err := ring.Create("stream", ring.Options{Kind: ring.SPSC, Slots: 4096, SlotSize: 64, Dir: dir})
	require.NoError(t, err)
	defer r.Close()
	exe, err := os.Executable()
	require.NoError(t, err)
	traced := func(log, task string) *proc.Proc {
		return proc.Start(t, []string{task, dir}, func(c *exec.Cmd) {
			c.Path = strace
			c.Args = append([]string{strace, "-f", "-C", "-o", filepath.Join(out, log), "--", exe}, c.Args[1:]...)
		})
	}
	ps := []*proc.Proc{traced("send", "stream send"), traced("receive", "stream receive")}
	start(ps...)
	succeed(t, ps...)

	waits, wakes := 0, 0
	for _, log := range []string{"send", "receive"} {
		text, err := os.ReadFile(filepath.Join(out, log))
		require.NoError(t, err)
		all, w, k := countCalls(t, string(text))
		t.Logf("%s: %d system calls, %d waits and %d wakes on shared words", log, all, w, k)
		calls, waits, wakes = calls+all, waits+w, wakes+k
	}
	s := r.Stats()
	require.EqualValues(t, streamLength, s.Sent)
	require.EqualValues(t, streamLength, s.Received)
	require.Greater(t, s.ProducerPosition, 100*uint64(s.Slots))
	require.LessOrEqual(t, s.Sleeps, uint64(waits), "the ring counts sleeps that strace did not see")
	require.LessOrEqual(t, s.Wakes, uint64(wakes), "the ring counts wakes that strace did not see")
	return calls
}

var (
	totalLine   = regexp.MustCompile(`(?m)^100\.00 .* (\d+)\s+(?:\d+ )?total$`)
	sharedWait  = regexp.MustCompile(`(?m)^\d+ +(?:futex_waitv\(|futex\([^,]*, FUTEX_WAIT(?:_BITSET)?(?:\||,))`)
	numericWait = regexp.MustCompile(`(?m)^\d+ +syscall_(?:449|0x1c1)\(`) // futex_waitv to an strace that does not know it
	sharedWake  = regexp.MustCompile(`(?m)^\d+ +futex\([^,]*, FUTEX_WAKE,`)
)

// countCalls reads a log of strace -C: all system calls by its summary, and the futex calls on shared words by its lines.
func countCalls(t *testing.T, log string) (all, waits, wakes int) {
	m := totalLine.FindAllStringSubmatch(log, -1)
	require.Len(t, m, 1, "no summary at the end of %q", log[max(0, len(log)-2000):])
	fields := strings.Fields(m[0][0]) // "% time", seconds, usecs/call, calls, errors
	require.GreaterOrEqual(t, len(fields), 5)
	all, err := strconv.Atoi(fields[3])
	require.NoError(t, err)
	lines := strings.Count(log, "\n")
	require.Greater(t, all, 100, "a Go process starts with more")
	require.LessOrEqual(t, all, lines, "more calls than lines")
	return all, len(sharedWait.FindAllString(log, -1)) + len(numericWait.FindAllString(log, -1)), len(sharedWake.FindAllString(log, -1))
}

func streamSend(dir string) error {
	r, err := ring.Open("stream", ring.WithDir(dir))
	if err != nil {
		return err
	}
	defer r.Close()
	p, err := r.NewProducer()
	if err != nil {
		return err
	}
	meet()
	ctx, cancel := patience()
	defer cancel()
	buf := make([]byte, 64)
	for i := range uint64(streamLength) {
		binary.LittleEndian.PutUint64(buf, i)
		if err := p.Send(ctx, buf); err != nil {
			return err
		}
	}
	return r.Close()
}

func streamReceive(dir string) error {
	r, err := ring.Open("stream", ring.WithDir(dir))
	if err != nil {
		return err
	}
	defer r.Close()
	q, err := r.NewConsumer()
	if err != nil {
		return err
	}
	meet()
	ctx, cancel := patience()
	defer cancel()
	buf := make([]byte, 64)
	for i := range uint64(streamLength) {
		if _, err := q.Receive(ctx, buf); err != nil {
			return err
		}
		if got := binary.LittleEndian.Uint64(buf); got != i {
			return fmt.Errorf("message %d where %d was due", got, i)
		}
	}
	return r.Close()
}
