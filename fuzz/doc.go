// Package fuzz holds no code, only tests that read segments which honest participants did not leave in peace: golden segments in every
// state between two steps, arbitrary bytes, segments with bytes changed, and segments whose words somebody changes while calls run.
package fuzz
