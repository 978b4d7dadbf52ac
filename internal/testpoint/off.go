//go:build !testpoint || !linux

// Package testpoint names the observable steps of the protocol, so that crash tests can kill or stop a process at each of them.
// Without the build tag testpoint a Hit compiles to nothing.
package testpoint

// Enabled says whether this build has testpoints.
const Enabled = false

// Hit marks the moment right after the step called label.
func Hit(label string) {}

// Either marks the moment right after a step that has one name if so and another one otherwise; "" is no step.
func Either(so bool, label, other string) {}

// Hook does nothing without the build tag.
func Hook(f func(label string)) {}
