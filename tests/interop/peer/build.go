//go:build linux

package peer

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Root is the directory of the repository.
func Root(t testing.TB) string {
	_, file, _, ok := runtime.Caller(0)
	require.True(t, ok)
	return filepath.Join(filepath.Dir(file), "..", "..", "..")
}

// built are the programs that this process has built, by their build command.
var built struct {
	sync.Mutex
	programs map[string]string
}

// Build runs a build command once for all tests of a process, with the path of the program to make as its last argument.
func Build(t testing.TB, name string, command ...string) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if program, ok := built.programs[name]; ok {
		return program
	}
	dir, err := os.MkdirTemp("", "millrace-peer-")
	require.NoError(t, err)
	program := filepath.Join(dir, name)
	cmd := exec.Command(command[0], append(command[1:], program)...)
	cmd.Dir = Root(t)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	if built.programs == nil {
		built.programs = map[string]string{}
	}
	built.programs[name] = program
	return program
}

// Cleanup removes what Build made: for TestMain.
func Cleanup() {
	built.Lock()
	defer built.Unlock()
	for _, program := range built.programs {
		_ = os.RemoveAll(filepath.Dir(program)) // a temporary directory
	}
}

// Main is TestMain for packages that build peers.
func Main(m *testing.M) {
	code := m.Run()
	Cleanup()
	os.Exit(code)
}

// Go builds the Go peer.
func Go(t testing.TB) string { return Build(t, "gopeer", goBuild...) }

var goBuild = []string{"sh", "-c", `go build -o "$1" ./tests/interop/gopeer`, "build"}

// C builds the C peer with $CC, cc by default, and more flags; it skips the test when there is no C compiler.
func C(t testing.TB, name string, flags ...string) string {
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	if _, err := exec.LookPath(cc); err != nil {
		t.Skipf("no C compiler: %s is missing (apt-get install gcc libc6-dev)", cc)
	}
	command := append([]string{cc, "-std=c11", "-O2", "-g", "-Wall", "-Wextra", "-pedantic", "-Wconversion", "-Werror", "-Iinclude", "-Itests/interop/c/peer", "-pthread"}, flags...)
	command = append(command, "tests/interop/c/peer/peer.c", "tests/interop/c/peer/messages.c", "tests/interop/c/peer/storm.c", "-o")
	return Build(t, name, command...)
}
