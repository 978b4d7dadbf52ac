//go:build linux

package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadmePrograms compiles and runs the programs of the README that are not in Go.
func TestReadmePrograms(t *testing.T) {
	readme, err := os.ReadFile(root + "/README.md")
	require.NoError(t, err)
	there := map[string]*language{}
	for _, l := range peers(t) {
		there[l.name] = l
	}
	for _, p := range []struct {
		language, fence, file string
		command               func(dir, file string) *exec.Cmd
	}{
		{"c", "c", "hello.c", func(dir, file string) *exec.Cmd {
			out := filepath.Join(dir, "hello")
			require.NoError(t, run("cc", "-Wall", "-Wextra", "-Werror", "-I"+root+"/include", file, "-o", out, "-pthread"))
			return exec.Command(out)
		}},
		{"python", "python", "hello.py", func(_, file string) *exec.Cmd {
			command := there["python"].command
			return exec.Command(command[0], append(command[1:len(command)-1:len(command)-1], file)...)
		}},
		{"rust", "rust", "hello.rs", func(dir, file string) *exec.Cmd {
			// An example of the crate beside its own ones: the same text, built with the same flags as the peer.
			source, err := os.ReadFile(root + "/bindings/rust/examples/readme.rs")
			require.NoError(t, err)
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			require.Equal(t, string(source), string(text), "bindings/rust/examples/readme.rs is what the README shows")
			out := filepath.Join(scratch, "rust-readme")
			require.NoError(t, run("cargo", "build", "--quiet", "--offline", "--manifest-path", root+"/bindings/rust/Cargo.toml", "--example", "readme", "--target-dir", out))
			return exec.Command(filepath.Join(out, "debug", "examples", "readme"))
		}},
	} {
		t.Run(p.language, func(t *testing.T) {
			m := regexp.MustCompile("(?s)\n```" + p.fence + "\n(.*?)```").FindSubmatch(readme)
			require.NotNil(t, m, "the README has no program in %s", p.language)
			if there[p.language] == nil {
				t.Skipf("no tools for %s", p.language)
			}
			dir := t.TempDir()
			file := filepath.Join(dir, p.file)
			require.NoError(t, os.WriteFile(file, m[1], 0o600))
			cmd := p.command(dir, file)
			cmd.Env = append(os.Environ(), "MILLRACE_DIR="+shm(t))
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.Regexp(t, "^hello", string(out))
		})
	}
}
