package bench

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"github.com/cd1900cf/millrace/internal/measure"
	"github.com/cd1900cf/millrace/ring"
)

// runTimeout ends workers that do not come to an end by themselves.
const runTimeout = time.Minute

// Run measures. Everything is made in a directory of its own below that of the rings, and goes away with it.
func Run(ctx context.Context, c Config) (r *Result, err error) {
	r = &Result{What: c.What, Kind: [...]string{ring.SPSC: "spsc", ring.MPMC: "mpmc"}[c.Kind], Size: c.Size, Batch: c.Batch, Slots: c.Slots,
		Producers: c.Producers, Consumers: c.Consumers, Pinned: c.Pinned}
	if c.What == Latency {
		r.Rate = c.Rate
	}
	dir, err := os.MkdirTemp(c.Dir, "millrace-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	far := min(1, runtime.NumCPU()-1)
	if far == 0 {
		return nil, errors.New("bench: one core is not enough: both sides of a ring must run at once")
	}
	floor, err := measure.StartFloor(dir, FloorVerb, 0, far)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, floor.Close()) }()
	s := &session{Config: c, ctx: ctx, dir: dir, result: r}
	for range c.Rounds {
		if err := s.floor(floor); err != nil {
			return nil, err
		}
		if err := s.round(); err != nil {
			return nil, err
		}
	}
	r.Latencies, r.Producer, r.Consumer = spread(s.samples), spread(s.producer), spread(s.consumer)
	return r, s.floor(floor)
}

type session struct {
	Config
	ctx                         context.Context
	dir                         string
	result                      *Result
	count                       int // messages of a round of throughput
	samples, producer, consumer []int64
}

func (s *session) floor(f *measure.Floor) error {
	m, err := f.Measure()
	s.result.FloorNS = append(s.result.FloorNS, m.Trip.Nanoseconds())
	return errors.Join(err, s.ctx.Err())
}

// each is how long one round may take.
func (s *session) each() time.Duration { return s.Duration / time.Duration(s.Rounds) }

func (s *session) round() error {
	j := job{Kind: s.Kind, Size: s.Size, Batch: s.Batch, Slots: s.Slots, Senders: s.Producers, Receivers: s.Consumers, Rate: s.Rate}
	switch s.What {
	case Throughput:
		j.Work = workStream
		if s.count == 0 { // how many messages last as long as a round should
			fastest := math.Inf(1)
			for range 3 {
				j.Count = 10_000 * s.Batch
				ns, err := s.stream(j)
				if err != nil {
					return err
				}
				fastest = min(fastest, ns)
			}
			s.count = max(1, int(float64(s.each())/fastest)/s.Batch) * s.Batch
		}
		j.Count = s.count
		ns, err := s.stream(j)
		s.result.PerMessage = append(s.result.PerMessage, int64(ns*1e3))
		return err
	case Latency:
		j.Work, j.Count = workOpen, max(1, int(s.each().Seconds()*float64(s.Rate)))
		_, err := s.stream(j)
		return err
	case Wake:
		j.Work, j.Count = workTrips, max(1, int(s.each()/time.Millisecond))
		_, err := s.stream(j)
		return err
	}
	for end := measure.Now() + s.each().Nanoseconds(); ; {
		for _, victim := range []string{workReserve, workLease} {
			if err := s.kill(victim); err != nil {
				return err
			}
		}
		if measure.Now() > end {
			return nil
		}
	}
}

// stream runs the workers of a job once, and returns the nanoseconds per message.
func (s *session) stream(j job) (perMessage float64, err error) {
	f, err := s.newFleet()
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	workers := j.Senders + j.Receivers
	for i := range workers {
		j.Index, j.Core = i, -1
		if s.Pinned {
			j.Core = i % 2
		}
		if err := f.start(j); err != nil {
			return 0, err
		}
		if i == 0 {
			if err := f.await(1); err != nil { // it makes the rings
				return 0, err
			}
		}
	}
	for stage := uint64(1); stage <= 2; stage++ {
		if err := f.await(stage * uint64(workers)); err != nil {
			return 0, err
		}
		f.page.Go.Store(stage)
	}
	if err := f.wait(); err != nil {
		return 0, err
	}
	start, end := uint64(math.MaxUint64), uint64(0)
	for i := range workers {
		w := &f.page.Workers[i]
		end = max(end, w.End)
		if i < j.Senders {
			start = min(start, w.Start)
		}
		raw, err := os.ReadFile(samplesFile(f.dir, i))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, err
		}
		for ; len(raw) >= 8; raw = raw[8:] {
			s.samples = append(s.samples, int64(binary.LittleEndian.Uint64(raw)))
		}
	}
	return float64(end-start) / float64(j.Count), nil
}

// parking is how long a consumer gets to fall asleep before the kill.
const parking = 5 * time.Millisecond

// kill has one participant hold what others need, kills it, and measures when the one that waits gets its message.
func (s *session) kill(victim string) (err error) {
	f, err := s.newFleet()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	order := []string{workReserve, workSend, workReceive} // the message stands behind the reservation
	if victim == workLease {
		order = []string{workSend, workLease, workReceive} // the message is the one that is held
	}
	for i, work := range order {
		if err := f.start(job{Work: work, Kind: ring.MPMC, Size: s.Size, Slots: s.Slots, Index: i, Core: -1, Batch: 1}); err != nil {
			return err
		}
		if err := f.await(uint64(i + 1)); err != nil {
			return err
		}
	}
	time.Sleep(parking)
	killed := measure.Now()
	if err := f.workers[map[string]int{workReserve: 0, workLease: 1}[victim]].Process.Kill(); err != nil {
		return err
	}
	if err := <-f.over[2]; err != nil {
		return err
	}
	took := int64(f.page.Workers[2].End) - killed
	if victim == workReserve {
		s.producer = append(s.producer, took)
	} else {
		s.consumer = append(s.consumer, took)
	}
	return s.ctx.Err()
}

// fleet is the worker processes of one run.
type fleet struct {
	ctx     context.Context
	cancel  context.CancelFunc
	dir     string
	page    *measure.Page
	workers []*exec.Cmd
	over    []chan error
	ended   []chan struct{}
}

func (s *session) newFleet() (*fleet, error) {
	dir, err := os.MkdirTemp(s.dir, "run-")
	if err != nil {
		return nil, err
	}
	page, err := measure.OpenPage(dir)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(s.ctx, runTimeout+s.Duration)
	return &fleet{ctx: ctx, cancel: cancel, dir: dir, page: page}, nil
}

func (f *fleet) start(j job) error {
	j.Dir = f.dir
	text, err := json.Marshal(j)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(f.ctx, "/proc/self/exe", WorkerVerb, string(text))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = childAttributes()
	over, ended, began := make(chan error, 1), make(chan struct{}), make(chan error)
	go func() { // to the kernel this thread is the parent: it must stay as long as the child
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		began <- err
		if err == nil {
			over <- cmd.Wait()
			close(ended)
		}
	}()
	if err := <-began; err != nil {
		return err
	}
	f.workers, f.over, f.ended = append(f.workers, cmd), append(f.over, over), append(f.ended, ended)
	return nil
}

// await returns when workers have reached so many barriers. It looks seldom: the cores belong to them.
func (f *fleet) await(barriers uint64) error {
	for f.page.Ready.Load() < barriers {
		for i, ended := range f.ended {
			select {
			case <-ended:
				return fmt.Errorf("bench: a worker ended too early: %v", <-f.over[i])
			case <-f.ctx.Done():
				return f.ctx.Err()
			default:
			}
		}
		time.Sleep(200 * time.Microsecond)
	}
	return nil
}

// wait returns when all workers have ended by themselves.
func (f *fleet) wait() (err error) {
	for _, over := range f.over {
		err = errors.Join(err, <-over)
	}
	return err
}

// close kills who is left and removes everything.
func (f *fleet) close() error {
	f.cancel()
	for _, ended := range f.ended {
		<-ended
	}
	return errors.Join(f.page.Close(), os.RemoveAll(f.dir))
}

func samplesFile(dir string, index int) string {
	return filepath.Join(dir, fmt.Sprint("samples", index))
}
