//go:build testpoint && linux

// Package testpoint names the observable steps of the protocol, so that crash tests can kill or stop a process at each of them.
//
// With the build tag testpoint, MILLRACE_TESTPOINT=label:n:signal sends this process the signal (kill or stop) at the n-th Hit of label, counted from 1.
package testpoint

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// Enabled says whether this build has testpoints.
const Enabled = true

var (
	target string
	left   atomic.Int64
	signal syscall.Signal
	hook   func(label string)
)

func init() {
	v := os.Getenv("MILLRACE_TESTPOINT")
	if v == "" {
		return
	}
	f := strings.Split(v, ":")
	if len(f) != 3 {
		panic("testpoint: MILLRACE_TESTPOINT wants label:n:kill|stop")
	}
	n, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil {
		panic("testpoint: MILLRACE_TESTPOINT wants label:n:kill|stop")
	}
	Arm(f[0], n, f[2])
}

// Arm sets the target from inside the process.
func Arm(label string, n int64, action string) {
	signal = syscall.SIGKILL
	if action == "stop" {
		signal = syscall.SIGSTOP
	}
	left.Store(n) // order: T1 rel, test only, pairs T2
	target = label
}

// Hook makes f run at every Hit of this process. It is set before anybody can get to one.
func Hook(f func(label string)) { hook = f }

// Either marks the moment right after a step that has one name if so and another one otherwise; "" is no step.
func Either(so bool, label, other string) {
	if !so {
		label = other
	}
	if label != "" {
		Hit(label)
	}
}

// Hit marks the moment right after the step called label.
func Hit(label string) {
	if hook != nil {
		hook(label)
	}
	if label != target {
		return
	}
	// order: T2 acq, test only, pairs T1
	if left.Add(-1) != 0 {
		return
	}
	fmt.Fprintf(os.Stderr, "testpoint %s\n", label)
	// To this very thread: a stop that is sent to the process may find another thread first, while this one runs on.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := syscall.Tgkill(os.Getpid(), syscall.Gettid(), signal); err != nil {
		panic(err)
	}
	if signal == syscall.SIGKILL {
		select {}
	}
}
