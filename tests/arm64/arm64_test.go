// Package arm64 runs the core on the instructions of arm64, under qemu-user: its own tests, and processes that exchange messages, also with processes of
// this machine's architecture through the same segment. make arm64 runs it.
//
// qemu translates to the memory model of the machine below, so this shows that the code works there, not that its orders are enough: that is the subject
// of tests/weak.
package arm64

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	emulator = "qemu-aarch64"
	wanted   = "MILLRACE_ARM64"
	timeout  = 5 * time.Minute
)

// needs skips the test unless it was asked for and can be run.
func needs(t *testing.T) {
	if os.Getenv(wanted) == "" {
		t.Skipf("make arm64 runs this; or set %s=1", wanted)
	}
	if runtime.GOARCH == "arm64" {
		t.Skip("this machine is an arm64: make test has run everything")
	}
	if _, err := exec.LookPath(emulator); err != nil {
		t.Skipf("%s is missing: apt-get install qemu-user", emulator)
	}
}

// build runs go with arguments for an architecture.
func build(t *testing.T, arch string, args ...string) {
	cmd := exec.Command("go", args...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "GOARCH="+arch, "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "go %s: %s", strings.Join(args, " "), out)
}

// emulated makes a script that runs program.bin under the emulator. The program takes the script for itself, so that what it starts is emulated too.
func emulated(t *testing.T, path string) {
	script := fmt.Sprintf("#!/bin/sh\nexec %s -0 \"$0\" \"$0.bin\" \"$@\"\n", emulator)
	require.NoError(t, os.WriteFile(path, []byte(script), 0o700))
}

// beyond are the tests that need what qemu-user does not have, and what that is.
var beyond = map[string][][2]string{
	"futex": {
		{"TestSignalsDoNotEndWaits/waitv", "futex_waitv"},
	},
	"seg": {
		{"TestHugePages", "maps of huge pages"},
		{"TestNewMemoryDoesNotFault", "madvise that is passed on"},
		{"TestTransparentHugePages", "smaps of its own memory"},
		{"TestLockEndsWithItsProcess", "start of /proc/self/exe"},
		{"TestLockAcrossPIDNamespaces", "start of /proc/self/exe"},
		{"TestOpenAsAnotherUser", "start of /proc/self/exe"},
		{"TestMemfdIsHandedOnByDescriptor", "start of /proc/self/exe"},
		{"TestRemoveRefusesWhileAnotherProcessIsAttached", "start of /proc/self/exe"},
		{"TestFaultsThatEndTheProcess", "start of /proc/self/exe"},
		{"TestCreationRace", "start of /proc/self/exe"},
		{"TestKilledCreators", "start of /proc/self/exe"},
	},
}

// TestCore runs the tests of the core packages.
func TestCore(t *testing.T) {
	needs(t)
	for _, pkg := range []string{"futex", "seg", "ring"} {
		t.Run(pkg, func(t *testing.T) {
			t.Parallel()
			program := filepath.Join(t.TempDir(), pkg)
			build(t, "arm64", "test", "-c", "-o", program+".bin", "./"+pkg)
			emulated(t, program)
			args := []string{"-test.short", "-test.v", "-test.timeout=" + timeout.String()}
			if skips := beyond[pkg]; skips != nil {
				var names []string
				for _, s := range skips {
					names = append(names, "^"+strings.ReplaceAll(s[0], "/", "$/^")+"$")
					t.Logf("%s is left out: qemu-user has no %s", s[0], s[1])
				}
				args = append(args, "-test.skip="+strings.Join(names, "|"))
			}
			cmd := exec.Command(program, args...)
			cmd.Dir = filepath.Join("..", "..", pkg)
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			passed := strings.Count(string(out), "\n--- PASS: ")
			require.Greater(t, passed, 5, "%s", out)
			t.Logf("%s: %d tests passed on arm64", pkg, passed)
		})
	}
}

// TestExchange sends messages from one process to another, each on arm64 or on this machine's own architecture, through rings of both kinds.
func TestExchange(t *testing.T) {
	needs(t)
	dir := t.TempDir()
	programs := map[string]string{runtime.GOARCH: filepath.Join(dir, "own")}
	programs["arm64"] = filepath.Join(dir, "emulated") // on arm64 itself, the only one
	build(t, runtime.GOARCH, "build", "-o", programs[runtime.GOARCH], "./cmd/millrace")
	build(t, "arm64", "build", "-o", programs["arm64"]+".bin", "./cmd/millrace")
	emulated(t, programs["arm64"])
	var lines strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&lines, "message %d %s\n", i, strings.Repeat("x", i%300))
	}
	for _, c := range []struct{ kind, from, to string }{
		{"spsc", "arm64", "arm64"}, {"mpmc", "arm64", "arm64"},
		{"spsc", "arm64", runtime.GOARCH}, {"mpmc", runtime.GOARCH, "arm64"},
	} {
		t.Run(c.kind+" "+c.from+" to "+c.to, func(t *testing.T) {
			name := fmt.Sprintf("arm64-test-%d", os.Getpid())
			rings := "--dir=" + t.TempDir()
			create := exec.Command(programs[c.to], "create", name, rings, "--kind", c.kind, "--slots", "64")
			out, err := create.CombinedOutput()
			require.NoError(t, err, "%s", out)
			receive := exec.Command(programs[c.to], "recv", name, rings)
			var got, complaints bytes.Buffer
			receive.Stdout, receive.Stderr = &got, &complaints
			require.NoError(t, receive.Start())
			send := exec.Command(programs[c.from], "send", name, rings)
			send.Stdin = strings.NewReader(lines.String())
			out, err = send.CombinedOutput()
			if err != nil {
				require.NoError(t, receive.Process.Kill())
			}
			require.NoError(t, err, "%s", out)
			require.NoError(t, receive.Wait(), "%s", complaints.String())
			require.True(t, got.String() == lines.String(), "received %d bytes, sent %d", got.Len(), lines.Len())
		})
	}
}
