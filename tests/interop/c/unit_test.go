//go:build linux

package c

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/tests/interop/peer"
)

// compile builds a C program of the repository from the files that match pattern; it skips the test when the compiler is missing.
func compile(t *testing.T, name, compiler string, flags []string, pattern string) string {
	if _, err := exec.LookPath(compiler); err != nil {
		t.Skipf("%s is missing", compiler)
	}
	sources, err := filepath.Glob(filepath.Join(peer.Root(t), pattern))
	require.NoError(t, err)
	require.NotEmpty(t, sources)
	command := append([]string{compiler, "-g", "-Wall", "-Wextra", "-pedantic", "-Wconversion", "-Werror", "-Iinclude", "-I" + filepath.Dir(pattern), "-pthread"}, flags...)
	return peer.Build(t, name, append(append(command, sources...), "-o")...)
}

// run runs a C program in a directory for rings, and returns what it printed.
func run(t *testing.T, program string, args ...string) string {
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "MILLRACE_DIR="+peer.Dir(t),
		"ASAN_OPTIONS=detect_leaks=1:handle_sigbus=0", "UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1", "TSAN_OPTIONS=halt_on_error=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

const units = "tests/interop/c/unit/unit.c"

// TestUnits runs the C client's own tests, built by each compiler as each language that is promised.
func TestUnits(t *testing.T) {
	for name, flags := range map[string][]string{
		"gcc c11":       {"gcc", "-std=c11", "-O2"},
		"gcc c17":       {"gcc", "-std=c17", "-O1"},
		"clang c11":     {"clang", "-std=c11", "-O1"},
		"g++ c++17":     {"g++", "-std=c++17", "-O1", "-xc++"},
		"clang++ c++20": {"clang++", "-std=c++20", "-O1", "-xc++"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, compile(t, "unit "+name, flags[0], flags[1:], units))
		})
	}
}

// TestUnitsUnderSanitizers: address and undefined behaviour for all of them, thread for those in which threads meet.
func TestUnitsUnderSanitizers(t *testing.T) {
	t.Run("address,undefined", func(t *testing.T) {
		run(t, compile(t, "unit asan", "gcc", []string{"-std=c11", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"}, units))
	})
	t.Run("thread", func(t *testing.T) {
		program := compile(t, "unit tsan", "gcc", []string{"-std=c11", "-O1", "-fsanitize=thread"}, units)
		require.Contains(t, run(t, program, "spsc_threads", "mpmc_threads", "shut_down"), "ok shut_down")
	})
}

// TestPeerUnderSanitizers runs the whole protocol between processes with the address and undefined behaviour sanitizers.
func TestPeerUnderSanitizers(t *testing.T) {
	program := peer.C(t, "cpeer-asan", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
	peer.Conforms(t, "c", program)
	peer.PoursAndSwallows(t, []string{program}, []string{program})
}

// TestExamples runs the program of the guide, and pipes lines through produce and consume.
func TestExamples(t *testing.T) {
	flags := []string{"-std=c11", "-O2"}
	require.Equal(t, "hello\n", run(t, compile(t, "readme", "gcc", flags, "examples/c/readme.c")))
	produce, consume := compile(t, "produce", "gcc", flags, "examples/c/produce.c"), compile(t, "consume", "gcc", flags, "examples/c/consume.c")
	dir := peer.Dir(t)
	lines := strings.Repeat("a line of the test\n", 5000)
	p, q := exec.Command(produce, "lines"), exec.Command(consume, "lines")
	p.Env = append(os.Environ(), "MILLRACE_DIR="+dir)
	q.Env = p.Env
	p.Stdin = strings.NewReader(lines)
	var received strings.Builder
	q.Stdout = &received
	require.NoError(t, q.Start())
	require.NoError(t, p.Run())
	require.NoError(t, q.Wait())
	require.Equal(t, lines, received.String())
}

// TestGuideShowsTheExample: the program in docs/C.md is examples/c/readme.c.
func TestGuideShowsTheExample(t *testing.T) {
	guide, err := os.ReadFile(filepath.Join(peer.Root(t), "docs/C.md"))
	require.NoError(t, err)
	program, err := os.ReadFile(filepath.Join(peer.Root(t), "examples/c/readme.c"))
	require.NoError(t, err)
	require.Contains(t, string(guide), "```c\n"+string(program)+"```\n")
}

// TestSharedLibrary links a program of the same source with libmillrace.so.
func TestSharedLibrary(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("gcc is missing")
	}
	library := peer.Build(t, "libmillrace.so", "gcc", "-std=c11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-Iinclude", "bindings/c/millrace.c", "-pthread", "-o")
	flags := []string{"-std=c11", "-DMILLRACE_SHARED", "-include", "stdio.h", "-Wl,--no-as-needed", library, "-Wl,-rpath," + filepath.Dir(library)}
	require.Equal(t, "hello\n", run(t, compile(t, "readme-shared", "gcc", flags, "examples/c/readme.c")))
}
