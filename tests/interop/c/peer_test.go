//go:build linux

// Package c tries the C client of include/millrace.h: alone, and against the Go one.
package c

import (
	"testing"

	"github.com/cd1900cf/millrace/tests/interop/peer"
)

func TestMain(m *testing.M) { peer.Main(m) }

func TestConforms(t *testing.T) { peer.Conforms(t, "c", peer.C(t, "cpeer")) }

func TestPoursAndSwallows(t *testing.T) {
	c, g := []string{peer.C(t, "cpeer")}, []string{peer.Go(t)}
	t.Run("c to go", func(t *testing.T) { peer.PoursAndSwallows(t, c, g) })
	t.Run("go to c", func(t *testing.T) { peer.PoursAndSwallows(t, g, c) })
}
