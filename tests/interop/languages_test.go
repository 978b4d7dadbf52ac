//go:build linux

// Package interop runs the clients of all languages against each other, docs/FORMAT.md being all that they have in common. Every client has a peer
// program (PEER.md), and a test tells the peers what to do.
package interop

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/interop/peer"
)

// language is a client and how its peer is started.
type language struct {
	name    string
	needs   []string                                     // programs
	build   func(out string) (command []string, _ error) // out is an empty directory
	command []string
	polls   bool // a polling participant, FORMAT 16
}

// root is the top of the source tree, as seen from a test of this package.
const root = "../.."

var all = []*language{
	{name: "go", needs: []string{"go"}, build: buildGo},
	{name: "c", needs: []string{"cc"}, build: buildC},
	{name: "python", needs: []string{"python3", "cc"}, build: buildPython},
	{name: "rust", needs: []string{"cargo"}, build: buildRust},
	{name: "java", needs: []string{"javac", "java"}, build: buildJava, polls: true},
}

// run is exec.Command with the output in the error.
func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

func buildGo(out string) ([]string, error) {
	program := filepath.Join(out, "gopeer")
	return []string{program}, run("go", "build", "-o", program, "./gopeer")
}

func buildC(out string) ([]string, error) {
	program := filepath.Join(out, "cpeer")
	sources, err := filepath.Glob("c/peer/*.c")
	if err != nil || len(sources) == 0 {
		return nil, errors.Join(err, errors.New("no source of the C peer"))
	}
	args := append([]string{"-std=c11", "-D_GNU_SOURCE", "-O2", "-pthread", "-I" + root + "/include", "-o", program}, sources...)
	return []string{program}, run("cc", args...)
}

// buildPython installs the package, without a network, into a directory of its own.
func buildPython(out string) ([]string, error) {
	err := run("python3", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--disable-pip-version-check", "--root-user-action=ignore",
		"--target", out, root+"/bindings/python")
	return []string{"env", "PYTHONPATH=" + out, "python3", root + "/bindings/python/tests/peer.py"}, err
}

func buildRust(out string) ([]string, error) {
	err := run("cargo", "build", "--quiet", "--offline", "--manifest-path", root+"/bindings/rust/Cargo.toml", "--example", "peer", "--target-dir", out)
	return []string{filepath.Join(out, "debug", "examples", "peer")}, err
}

func buildJava(out string) ([]string, error) {
	args := []string{"-d", out}
	err := filepath.WalkDir(root+"/bindings/java/src/main/java", func(path string, _ fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".java") {
			args = append(args, path)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return []string{"java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp", out, "io.millrace.Peer"}, run("javac", args...)
}

var built sync.Once

// peers builds the peers of all languages whose tools are there, once, and says which are missing.
func peers(t *testing.T) (there []*language) {
	built.Do(func() {
		var wg sync.WaitGroup
		for _, l := range all {
			if missing := l.missing(); missing != "" {
				continue
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				out, err := os.MkdirTemp(scratch, l.name)
				if err == nil {
					l.command, err = l.build(out)
				}
				if err != nil {
					l.command = nil
					t.Errorf("the %s peer: %v", l.name, err)
				}
			}()
		}
		wg.Wait()
	})
	for _, l := range all {
		if missing := l.missing(); missing != "" {
			t.Logf("SKIPPED: no %s: %s is not installed", l.name, missing)
			continue
		}
		require.NotEmpty(t, l.command, "the %s peer was not built", l.name)
		there = append(there, l)
	}
	return there
}

func (l *language) missing() string {
	for _, program := range l.needs {
		if _, err := exec.LookPath(program); err != nil {
			return program
		}
	}
	return ""
}

// start starts a peer of the language.
func (l *language) start(t testing.TB, dir string) *peer.Process {
	t.Helper()
	p := peer.Start(t, dir, l.command...)
	require.Equal(t, l.name, p.Name)
	return p
}

var scratch string

func TestMain(m *testing.M) {
	if os.Getenv("MILLRACE_INTEROP") == "" {
		fmt.Println("SKIPPED: the clients of all languages meet in make interop")
		os.Exit(0)
	}
	var err error
	if scratch, err = os.MkdirTemp("", "millrace-interop-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err = os.RemoveAll(scratch); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// shm returns a fresh directory for rings.
func shm(t testing.TB) string {
	dir, err := os.MkdirTemp("/dev/shm", "millrace-interop-")
	if err != nil {
		t.Skipf("no /dev/shm: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// create lets a peer make a ring and open it; a polling participant cannot make one and only opens it.
func create(t testing.TB, l *language, p *peer.Process, dir, name, kind, policy string) {
	t.Helper()
	if l.polls {
		createHere(t, dir, name, kind, policy)
		p.OK("open " + name)
		return
	}
	p.OK(fmt.Sprintf("create %s %s %d %d %s", name, kind, slots, slotSize, policy))
}

// createHere makes a ring without any peer.
func createHere(t testing.TB, dir, name, kind, policy string) {
	t.Helper()
	o := ring.Options{Kind: ring.MPMC, Slots: slots, SlotSize: slotSize, Dir: dir}
	if kind == "spsc" {
		o.Kind = ring.SPSC
	}
	if policy == "drop" {
		o.OnConsumerDeath = ring.Drop
	}
	r, err := ring.Create(name, o)
	require.NoError(t, err)
	require.NoError(t, r.Close())
}

var kinds = []string{"spsc", "mpmc"}

// TestJavaGolden reads the golden segments with the Java client, whose own tests need nothing but the JDK and Python; the other clients read them in their own tests.
func TestJavaGolden(t *testing.T) {
	for _, l := range peers(t) {
		if l.name != "java" {
			continue
		}
		if _, err := exec.LookPath("python3"); err != nil {
			t.Skip("python3 is not installed")
		}
		out := t.TempDir()
		sources, err := filepath.Glob(root + "/bindings/java/src/*/java/io/millrace/*.java")
		require.NoError(t, err)
		require.NoError(t, run("javac", append([]string{"-d", out}, sources...)...))
		require.NoError(t, run("python3", root+"/bindings/java/test/golden.py", root+"/fuzz/golden", out))
		return
	}
	t.Skip("there is no Java")
}
