// Package harness runs mechanisms against each other: processes, rounds, floors, results.
package harness

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/cd1900cf/millrace/bench/mech"
	"github.com/cd1900cf/millrace/internal/measure"
)

// WorkerVerb is the first argument of a process of this program that is a worker.
const WorkerVerb = "worker"

// FloorVerb is the first argument of one that is the other end of the floor.
const FloorVerb = "floor"

// Runner starts workers.
type Runner struct {
	Peers    string // directory of the programs of the peers
	Self     string // the program that runs the mechanisms in Go
	Ref      string // this program as it was in another commit, for mechanisms that end in atRef,
	RefPeers string // and the directory of the client in C as it was then; may be empty
	Timeout  time.Duration
}

// Result is what one run says. Latencies are there when the work takes them.
type Result struct {
	Nanoseconds float64 // of a message, or of a round trip
	CPU         float64 // of the receiver, as a part of one core
	Delayed     float64 // part of the time that the workers waited for their cores, on average
	Wall        time.Duration
	Latencies   *hdrhistogram.Histogram
}

// Value is one figure.
type Value struct {
	Value float64
	Unit  string
}

// Values are the figures that count for the work that was done.
func (r *Result) Values(a *mech.Args) (v []Value) {
	switch {
	case a.Work == "idle":
		v = append(v, Value{100 * r.CPU, "%cpu"})
	case r.Latencies == nil:
		v = append(v, Value{r.Nanoseconds, "ns/op"})
	default:
		for _, q := range []float64{50, 90, 99, 99.9, 99.99} {
			v = append(v, Value{float64(r.Latencies.ValueAtQuantile(q)), fmt.Sprintf("p%v-ns", q)})
		}
		v = append(v, Value{float64(r.Latencies.Max()), "max-ns"})
	}
	return append(v, Value{100 * r.Delayed, "%delayed"})
}

// MissingError: the mechanism is not on this machine.
type MissingError struct{ Why string }

func (e *MissingError) Error() string { return e.Why }

// program returns the command line of the workers of a mechanism, and whether all of them are one process.
func (r *Runner) program(name string) (line []string, threads bool, err error) {
	name, old := strings.CutSuffix(name, atRef)
	if known, threads := mech.Known(name); known {
		self := r.Self
		if old {
			self = r.Ref
		}
		return []string{self, WorkerVerb}, threads, nil
	}
	dir := r.Peers
	if old {
		dir = r.RefPeers
	}
	path := filepath.Join(dir, name)
	if why, err := os.ReadFile(path + ".missing"); err == nil {
		return nil, false, &MissingError{strings.TrimSpace(string(why))}
	}
	if _, err := os.Stat(path); err != nil {
		return nil, false, &MissingError{"not built: make bench-peers"}
	}
	return []string{path}, strings.HasPrefix(name, threadsPrefix), nil
}

// atRef marks a mechanism as it was in another commit.
const atRef = "@ref"

// clientInC begins the names of millrace's own client in C.
const clientInC = "millrace-c-"

// threadsPrefix: these cannot be shared by processes.
const threadsPrefix = "moodycamel-"

// Run carries out one measurement. The workers have a directory of their own in shared memory, which goes away with them.
func (r *Runner) Run(a mech.Args) (res Result, err error) {
	line, threads, err := r.program(a.Mech)
	if err != nil {
		return res, err
	}
	a.Mech = strings.TrimSuffix(a.Mech, atRef)
	if a.Dir, err = os.MkdirTemp(SharedMemory(), "millrace-bench-"); err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(a.Dir)) }()
	page, err := measure.OpenPage(a.Dir)
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, page.Close()) }()

	stop, err := startDaemon(a.Mech)
	if err != nil {
		return res, err
	}
	defer stop()
	f := &fleet{page: page, line: line, began: time.Now(), deadline: time.Now().Add(r.Timeout)}
	defer f.kill()
	workers := uint64(a.Senders + a.Receivers)
	if err := f.start(a, 0); err != nil {
		return res, err
	}
	if threads {
		err = f.await(workers, starting)
	} else if err = f.await(1, starting); err == nil { // the first makes the queue
		for i := 1; i < int(workers) && err == nil; i++ {
			err = f.start(a, i)
		}
		if err == nil {
			err = f.await(workers, starting)
		}
	}
	for stage := uint64(1); stage <= 3 && err == nil; stage++ {
		page.Go.Store(stage)
		if stage < 3 {
			pause := starting
			if stage == 2 {
				pause = working
			}
			err = f.await((stage+1)*workers, pause)
		}
	}
	if err != nil {
		f.kill()
		_ = f.wait() // killed
		return res, err
	}
	if err := f.wait(); err != nil {
		return res, err
	}
	return collect(page, &a)
}

// SharedMemory is where rings and queues are made: memory if there is any.
func SharedMemory() string {
	if fi, err := os.Stat("/dev/shm"); err == nil && fi.IsDir() {
		return "/dev/shm"
	}
	return os.TempDir()
}

// collect reads what the workers reported, and checks that what was received is what was sent.
func collect(page *measure.Page, a *mech.Args) (res Result, err error) {
	start, end := ^uint64(0), uint64(0)
	var count, sum [2]uint64
	delay := uint64(0)
	for i := range a.Senders + a.Receivers {
		w := &page.Workers[i]
		side := 1
		if i < a.Senders {
			side = 0
			start = min(start, w.Start)
		}
		end = max(end, w.End)
		count[side] += w.Count
		sum[side] += w.Sum
		delay += w.Delay
	}
	want := sum[0]
	if a.Work == "rtt" {
		want = 0 // the sum counts wrong echoes
	}
	if count[0] != count[1] || sum[1] != want || sum[0] != want {
		return res, fmt.Errorf("harness: %s: sent %d messages with sum %d, received %d with sum %d", a.Mech, count[0], sum[0], count[1], sum[1])
	}
	wall := float64(end - start)
	res.Wall = time.Duration(wall)
	res.Nanoseconds = wall / float64(a.Count)
	res.Delayed = float64(delay) / wall / float64(a.Senders+a.Receivers)
	res.CPU = float64(page.Workers[a.Senders].CPU) / wall
	res.Latencies, err = latencies(a)
	return res, err
}

// latencies reads the samples that the workers kept, if any did.
func latencies(a *mech.Args) (h *hdrhistogram.Histogram, err error) {
	var all [][]uint64
	for i := range a.Senders + a.Receivers {
		raw, err := os.ReadFile(filepath.Join(a.Dir, fmt.Sprint("samples", i)))
		if errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		samples := make([]uint64, len(raw)/8)
		if _, err := binary.Decode(raw, binary.LittleEndian, samples); err != nil {
			return nil, err
		}
		all = append(all, samples)
	}
	if a.Mech == mech.LaterClock {
		for i, s := range all[1] {
			all[0][i] = max(all[0][i], s)
		}
		all = all[:1]
	}
	for _, samples := range all {
		if h == nil {
			h = hdrhistogram.New(1, int64(time.Minute), 3)
		}
		for _, s := range samples {
			if err := h.RecordValue(int64(max(1, s))); err != nil {
				return nil, err
			}
		}
	}
	return h, nil
}

// fleet is the workers of one run.
type fleet struct {
	page     *measure.Page
	line     []string
	began    time.Time
	deadline time.Time
	workers  []*exec.Cmd
	over     []chan error
	ended    atomic.Int32
}

func (f *fleet) start(a mech.Args, index int) error {
	a.Index = index
	if a.Core >= 0 {
		a.Core = (a.Core + index) % runtime.NumCPU()
	}
	cmd := exec.Command(f.line[0], append(slices.Clone(f.line[1:]), a.Strings()...)...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	over, began := make(chan error, 1), make(chan error)
	go func() { // the parent of a worker is this thread, which must live as long
		runtime.LockOSThread()
		err := cmd.Start()
		began <- err
		if err == nil {
			err = cmd.Wait()
			f.ended.Add(1)
			over <- err
		}
		runtime.UnlockOSThread()
	}()
	if err := <-began; err != nil {
		return err
	}
	f.workers, f.over = append(f.workers, cmd), append(f.over, over)
	return nil
}

// How often the parent looks whether the workers are ready to start, and whether they are done: seldom, since the cores belong to them then.
const (
	starting = time.Millisecond
	working  = 30 * time.Millisecond
)

// await returns when so many barriers are reached. It looks once a pause.
func (f *fleet) await(ready uint64, pause time.Duration) error {
	for f.page.Ready.Load() < ready {
		switch {
		case f.ended.Load() > 0:
			return errors.New("harness: a worker ended too early")
		case time.Now().After(f.deadline):
			return fmt.Errorf("not done after %v", time.Since(f.began).Round(time.Second))
		}
		time.Sleep(pause)
	}
	return nil
}

// wait returns when all workers have ended, or one has failed; those that are left are killed.
func (f *fleet) wait() (err error) {
	late := time.AfterFunc(time.Until(f.deadline), f.kill)
	defer late.Stop()
	for _, over := range f.over {
		if e := <-over; e != nil {
			err = errors.Join(err, e)
			f.kill()
		}
	}
	f.workers = nil
	return err
}

func (f *fleet) kill() {
	for _, w := range f.workers {
		_ = w.Process.Kill() // it may have ended
	}
}
