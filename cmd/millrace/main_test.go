//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// toolPath is the tool, built once for all tests.
var toolPath string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "millrace-test-*")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		toolPath = filepath.Join(dir, "millrace")
		if out, err := exec.Command("go", "build", "-o", toolPath, ".").CombinedOutput(); err != nil {
			panic(string(out))
		}
		return m.Run()
	}())
}

// patience ends a process that hangs, so that the test fails and not the whole run.
const patience = time.Minute

// tool runs the binary on a directory of its own.
type tool struct {
	*testing.T
	dir string
}

func newTool(t *testing.T) *tool {
	t.Parallel()
	dir, err := os.MkdirTemp("/dev/shm", "millrace-test-*")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &tool{t, dir}
}

// process is one run of the tool that was started.
type process struct {
	*exec.Cmd
	t      *tool
	out    bytes.Buffer
	err    bytes.Buffer
	killer *time.Timer
}

// start starts the tool; stdin may be nil.
func (t *tool) start(stdin io.Reader, args ...string) *process {
	p := &process{Cmd: exec.Command(toolPath, args...), t: t}
	p.Stdin, p.Stdout, p.Stderr = stdin, &p.out, &p.err
	return p.run()
}

func (p *process) run() *process {
	p.Env = append(os.Environ(), "MILLRACE_DIR="+p.t.dir)
	require.NoError(p.t, p.Start())
	p.killer = time.AfterFunc(patience, func() { _ = p.Process.Kill() })
	p.t.Cleanup(func() { _ = p.Process.Kill() })
	return p
}

// done waits for the end and requires the exit code.
func (p *process) done(code int) *process {
	p.t.Helper()
	err := p.Wait()
	p.killer.Stop()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(p.t, err)
	}
	require.Equal(p.t, code, p.ProcessState.ExitCode(), "%v: %s", p.Args, p.err.String())
	return p
}

// run runs the tool to its end.
func (t *tool) run(code int, args ...string) *process {
	t.Helper()
	return t.start(nil, args...).done(code)
}

// feed runs the tool to its end on some input.
func (t *tool) feed(code int, input string, args ...string) *process {
	t.Helper()
	return t.start(strings.NewReader(input), args...).done(code)
}

// object decodes one line of JSON.
func (t *tool) object(line string) map[string]any {
	t.Helper()
	var v map[string]any
	require.NoError(t, json.Unmarshal([]byte(line), &v), "%s", line)
	return v
}

// info returns what `info -j` says, or nil when there is no such ring yet.
func (t *tool) info(name string) map[string]any {
	p := t.start(nil, "info", name, "-j")
	if p.Wait() != nil {
		return nil
	}
	p.killer.Stop()
	return t.object(p.out.String())
}

// eventually waits until the numbers of `info -j` are as wanted.
func (t *tool) eventually(name string, ok func(info map[string]any) bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		i := t.info(name)
		return i != nil && ok(i)
	}, patience, 10*time.Millisecond)
}

// atLeast says whether a number of an info has reached n.
func atLeast(key string, n float64) func(map[string]any) bool {
	return func(i map[string]any) bool { return i[key].(float64) >= n }
}

func (p *process) signal(s syscall.Signal) {
	require.NoError(p.t, p.Process.Signal(s))
}
