package demo

import (
	"os"
	"syscall"
)

// childAttributes: a child dies with its parent, and Ctrl-C in a terminal reaches the parent only.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// killedBySignal says whether a process ended by SIGKILL.
func killedBySignal(s *os.ProcessState) bool {
	status, ok := s.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}
