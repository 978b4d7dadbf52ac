package harness

import (
	"bufio"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

// startDaemon starts what a mechanism needs besides its workers, and returns what ends it. Only iceoryx does: its daemon hands out the memory.
func startDaemon(name string) (stop func(), err error) {
	if name != "iceoryx" {
		return func() {}, nil
	}
	const program, ready = "iox-roudi", "RouDi is ready"
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, &MissingError{"not installed: iceoryx (" + program + ")"}
	}
	cmd := exec.Command(path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()
	}
	var said strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.Contains(lines.Text(), ready) {
			go func() { // it must not block on what it says later
				for lines.Scan() {
				}
			}()
			return stop, nil
		}
		fmt.Fprintln(&said, lines.Text())
	}
	stop()
	return nil, errors.New(program + " ended: " + said.String())
}
