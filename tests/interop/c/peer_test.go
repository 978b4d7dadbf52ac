//go:build linux

// Package c tries the C client of include/millrace.h: alone, and against the Go one.
package c

import (
	"testing"

	"github.com/cd1900cf/millrace/tests/interop/peer"
)

func TestMain(m *testing.M) { peer.Main(m) }

func TestConforms(t *testing.T) { peer.Conforms(t, "c", peer.C(t, "cpeer")) }

// pairs runs f for C with Go and for Go with C.
func pairs(t *testing.T, f func(t *testing.T, first, second []string)) {
	c, g := []string{peer.C(t, "cpeer")}, []string{peer.Go(t)}
	t.Run("c go", func(t *testing.T) { f(t, c, g) })
	t.Run("go c", func(t *testing.T) { f(t, g, c) })
}

func TestTransfers(t *testing.T)     { pairs(t, peer.Transfers) }
func TestKilledHolding(t *testing.T) { pairs(t, peer.KilledHolding) }
func TestKilledLast(t *testing.T)    { pairs(t, peer.KilledLast) }

// rounds is how often a test kills at a random moment.
func rounds() int {
	if testing.Short() {
		return 1
	}
	return 4
}

func TestPoursAndSwallows(t *testing.T) { pairs(t, peer.PoursAndSwallows) }

func TestKilledPouring(t *testing.T) {
	pairs(t, func(t *testing.T, first, second []string) { peer.KilledPouring(t, first, second, rounds()) })
}

func TestKilledSwallowing(t *testing.T) {
	pairs(t, func(t *testing.T, first, second []string) { peer.KilledSwallowing(t, first, second, rounds()) })
}
