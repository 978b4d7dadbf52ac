//go:build !linux

package demo

import (
	"os"
	"syscall"
)

// childAttributes are the usual ones; there are no rings here, so nothing is ever started.
func childAttributes() *syscall.SysProcAttr { return nil }

// killedBySignal is never asked.
func killedBySignal(*os.ProcessState) bool { return false }
