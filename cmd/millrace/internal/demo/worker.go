package demo

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
)

// worker is one producer or consumer: a succession of processes.
type worker struct {
	Worker
	cmd    *exec.Cmd
	stderr *head
	kill   int // + 1: number of the kill that the process was sent; 0: none
	last   int // + 1: number of the last kill of the worker
	barren int // kills in a row after which nothing was done
	done   bool
}

// exit is the end of a process.
type exit struct {
	w     *worker
	state *os.ProcessState
	err   error
}

// start starts the next process of a worker.
func (f *fleet) start(w *worker) error {
	cmd := exec.Command(f.exe, append([]string{Verb}, w.args()...)...)
	cmd.SysProcAttr = childAttributes()
	w.stderr = &head{}
	cmd.Stderr = w.stderr
	if w.Role == roleProducer {
		cmd.ExtraFiles = []*os.File{f.manifest, f.progress[w.Index].file, f.orders.file}
		if err := cmd.Start(); err != nil {
			return err
		}
	} else {
		reports, end, err := os.Pipe()
		if err != nil {
			return err
		}
		cmd.ExtraFiles = []*os.File{end}
		err = cmd.Start()
		_ = end.Close()
		if err != nil {
			_ = reports.Close()
			return err
		}
		f.readers.Add(1)
		go f.read(reports, f.account.newSource(w.Index, w.Incarnation))
	}
	w.cmd = cmd
	go func() {
		err := cmd.Wait()
		f.exits <- exit{w, cmd.ProcessState, err}
	}()
	return nil
}

// read enters what one consumer process reports. The beginning of a report that a kill cut short is dropped: it was not
// released either, so it comes again.
func (f *fleet) read(reports *os.File, s *source) {
	defer f.readers.Done()
	defer reports.Close()
	buf := make([]byte, 64<<10)
	for n := 0; ; {
		k, err := reports.Read(buf[n:])
		n += k
		n = copy(buf, buf[f.account.take(s, buf[:n]):n])
		if err != nil {
			return // io.EOF: the process ended
		}
	}
}

// head keeps the beginning of what a process writes to standard error.
type head struct{ bytes.Buffer }

func (t *head) Write(b []byte) (int, error) {
	const most = 2000
	if room := most - t.Len(); room > 0 {
		t.Buffer.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}

func (t *head) String() string { return strings.Join(strings.Fields(t.Buffer.String()), " ") }
