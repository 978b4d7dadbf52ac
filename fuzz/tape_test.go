//go:build linux && (amd64 || arm64)

package fuzz

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"testing"
	"time"
)

// tape turns the bytes of a fuzzer into decisions. At its end it says 0 for ever.
type tape struct{ b []byte }

func (t *tape) left() bool { return len(t.b) > 0 }

func (t *tape) byte() byte {
	if len(t.b) == 0 {
		return 0
	}
	x := t.b[0]
	t.b = t.b[1:]
	return x
}

// n returns a number below the bound, from as few bytes as it needs.
func (t *tape) n(below uint64) uint64 {
	switch {
	case below <= 1:
		return 0
	case below <= 1<<8:
		return uint64(t.byte()) % below
	case below <= 1<<16:
		return (uint64(t.byte()) | uint64(t.byte())<<8) % below
	}
	var x [8]byte
	t.b = t.b[copy(x[:], t.b):]
	return binary.LittleEndian.Uint64(x[:]) % below
}

const (
	// patience is how long one input may take. The steps of a call are bounded.
	patience = 40 * time.Second
	// enough is when an input makes no further calls: each may wait for a tenth of a second for a role that seems to be taken.
	enough = 2 * time.Second
	// maxSteps is how many it makes at most, and leastSteps at least.
	maxSteps, leastSteps = 200, 4
)

// script makes the calls of one input.
func (t *tape) script(step func()) {
	began := time.Now()
	for i := 0; i < leastSteps || i < maxSteps && t.left() && time.Since(began) < enough; i++ {
		step()
	}
}

// crashesEnv names a directory for inputs that take too long, and for what workers of the engine say when they crash.
const crashesEnv = "MILLRACE_FUZZ_CRASHES"

// TestMain keeps what a worker of the fuzzing engine says when it crashes: the engine throws it away.
func TestMain(m *testing.M) {
	if dir := os.Getenv(crashesEnv); dir != "" && slices.Contains(os.Args, "-test.fuzzworker") {
		f, err := os.CreateTemp(dir, "crash-")
		if err == nil {
			err = debug.SetCrashOutput(f, debug.CrashOptions{})
		}
		if err != nil {
			panic(err)
		}
	}
	m.Run()
}

// watch ends the test binary when an input takes too long: a call that never comes back cannot be ended otherwise. The input is saved where the
// fuzzing engine looks for its corpus.
func watch(name string, args ...any) (stop func()) {
	timer := time.AfterFunc(patience, func() {
		text := "go test fuzz v1\n"
		for _, a := range args {
			switch a := a.(type) {
			case uint8:
				text += fmt.Sprintf("byte(%q)\n", a)
			case bool:
				text += fmt.Sprintf("bool(%t)\n", a)
			default:
				text += fmt.Sprintf("%T(%q)\n", a, a)
			}
		}
		dir := os.Getenv(crashesEnv)
		if dir == "" {
			dir = filepath.Join("testdata", "fuzz")
		}
		path := filepath.Join(dir, name, fmt.Sprintf("hang-%x", sha256.Sum256([]byte(text)))[:24])
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		panic(fmt.Sprintf("a call has not come back for %v; the input is in %s (%v)", patience, path, err))
	})
	return func() { timer.Stop() }
}
