//go:build linux

package main

import (
	"testing"

	"github.com/cd1900cf/millrace/tests/interop/peer"
)

func TestMain(m *testing.M) { peer.Main(m) }

func TestConforms(t *testing.T) { peer.Conforms(t, "go", peer.Go(t)) }

func TestPoursAndSwallows(t *testing.T) {
	program := []string{peer.Go(t)}
	peer.PoursAndSwallows(t, program, program)
}
