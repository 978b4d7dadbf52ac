//go:build linux && (amd64 || arm64)

package fuzz

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
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

// patience is how long one input may take. The steps of a call are bounded, and an input makes a few hundred calls.
const patience = 40 * time.Second

// watch ends the test binary when an input takes too long: a call that never comes back cannot be ended otherwise. The input is saved where the
// fuzzing engine looks for its corpus.
func watch(name string, args ...any) (stop func()) {
	timer := time.AfterFunc(patience, func() {
		text := "go test fuzz v1\n"
		for _, a := range args {
			text += fmt.Sprintf("%T(%q)\n", a, a)
		}
		path := filepath.Join("testdata", "fuzz", name, fmt.Sprintf("hang-%x", sha256.Sum256([]byte(text)))[:24])
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(text), 0o644)
		}
		panic(fmt.Sprintf("a call has not come back for %v; the input is in %s (%v)", patience, path, err))
	})
	return func() { timer.Stop() }
}
