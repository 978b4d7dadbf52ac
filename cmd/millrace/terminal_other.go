//go:build !linux

package main

import "os"

// isTerminal says that nothing is a terminal.
func isTerminal(*os.File) bool { return false }
