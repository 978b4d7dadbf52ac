//go:build !invariants && !race

// Package invariants says whether the build checks internal invariants: with -tags invariants, and always under the race detector.
package invariants

// Enabled is a constant, so that checks behind it cost nothing when it is false.
const Enabled = false
