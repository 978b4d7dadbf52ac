package peer

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Patience is how long a test waits for an answer before it calls it a hang. Blocking commands end by their own time-out, 20 s, before.
const Patience = 60 * time.Second

// A Process is a running peer.
type Process struct {
	t     testing.TB
	Cmd   *exec.Cmd
	Name  string
	in    io.WriteCloser
	lines chan string
	gone  bool
}

// Start starts a peer whose rings lie in dir. It is killed at the end of the test at the latest.
func Start(t testing.TB, dir string, command ...string) *Process {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "MILLRACE_DIR="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := &Process{t: t, Cmd: cmd, in: in, lines: make(chan string, 1024)}
	go func() {
		defer close(p.lines)
		r := bufio.NewReaderSize(out, 1<<16)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			p.lines <- strings.TrimSuffix(line, "\n")
		}
	}()
	t.Cleanup(p.Kill)
	p.Name = p.OK("hello")[0]
	return p
}

// An Answer is the answer to a command.
type Answer struct {
	OK    bool
	Code  string // "ok", or the error code
	Words []string
}

// Count is the first word behind the code, as a number.
func (a Answer) Count(t testing.TB) int {
	t.Helper()
	require.NotEmpty(t, a.Words)
	n, err := strconv.Atoi(a.Words[0])
	require.NoError(t, err)
	return n
}

// Items are the messages of the answer.
func (a Answer) Items(t testing.TB) (items []Item) {
	t.Helper()
	for _, w := range a.Words[1:] {
		i, err := ParseItem(w)
		require.NoError(t, err)
		items = append(items, i)
	}
	return items
}

// Tell sends a command without waiting for its answer.
func (p *Process) Tell(command string) {
	p.t.Helper()
	_, err := io.WriteString(p.in, command+"\n")
	require.NoError(p.t, err, "%s peer: %s", p.Name, command)
}

// Line returns the next line of the peer.
func (p *Process) Line() string {
	p.t.Helper()
	select {
	case line, ok := <-p.lines:
		require.True(p.t, ok, "the %s peer ended", p.Name)
		return line
	case <-time.After(Patience):
		require.FailNow(p.t, "no answer", "%s peer", p.Name)
		return ""
	}
}

// Answer waits for the answer to the command that was told.
func (p *Process) Answer() Answer {
	p.t.Helper()
	f := strings.Fields(p.Line())
	switch {
	case len(f) > 0 && f[0] == "ok":
		return Answer{true, "ok", f[1:]}
	case len(f) > 2 && f[0] == "err":
		return Answer{false, f[1], f[2:]}
	case len(f) > 2 && f[0] == "end":
		return Answer{f[1] == "ok", f[1], f[2:]}
	}
	require.FailNow(p.t, "no answer", "%s peer: %q", p.Name, f)
	return Answer{}
}

// Ask sends a command and waits for its answer.
func (p *Process) Ask(command string) Answer {
	p.t.Helper()
	p.Tell(command)
	return p.Answer()
}

// OK sends a command that must succeed and returns the words of its answer.
func (p *Process) OK(command string) []string {
	p.t.Helper()
	a := p.Ask(command)
	require.True(p.t, a.OK, "%s peer: %s: %s %v", p.Name, command, a.Code, a.Words)
	return a.Words
}

// Fails sends a command that must fail with code.
func (p *Process) Fails(command, code string) Answer {
	p.t.Helper()
	a := p.Ask(command)
	require.Equal(p.t, code, a.Code, "%s peer: %s: %v", p.Name, command, a.Words)
	return a
}

// Items sends a command that must succeed and returns the messages that it received.
func (p *Process) Items(command string) []Item {
	p.t.Helper()
	return Answer{Words: p.OK(command)}.Items(p.t)
}

// Stats asks for the counters.
func (p *Process) Stats() map[string]uint64 {
	p.t.Helper()
	stats := map[string]uint64{}
	for _, w := range p.OK("stats") {
		key, value, ok := strings.Cut(w, "=")
		require.True(p.t, ok, w)
		n, err := strconv.ParseUint(value, 10, 64)
		require.NoError(p.t, err)
		stats[key] = n
	}
	return stats
}

// Kill kills the peer with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	if p.gone {
		return
	}
	p.gone = true
	_ = p.Cmd.Process.Signal(syscall.SIGKILL) // may have ended
	for range p.lines {                       // up to the end of its output, as Wait wants it
	}
	_ = p.Cmd.Wait() // killed
}

// T is the test that the peer belongs to.
func (p *Process) T() testing.TB { return p.t }
