package bench

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/cd1900cf/millrace/internal/measure"
	"github.com/cd1900cf/millrace/ring"
)

// What a worker can be told to do.
const (
	workStream  = "stream"
	workOpen    = "open"
	workTrips   = "trips"
	workReserve = "reserve" // and never commit
	workLease   = "lease"   // and never release
	workSend    = "send"    // one message, and stay
	workReceive = "receive" // one message
)

// job is what one worker does.
type job struct {
	Work, Dir          string
	Kind               ring.Kind
	Size, Batch, Slots int
	Senders, Receivers int
	Index              int // senders first; 0 makes the rings
	Core               int // -1: any
	Count, Rate        int
}

// childAttributes: a child dies with its parent.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// ServeFloor is the other end of the floor.
func ServeFloor(args []string) error {
	if len(args) != 2 {
		return errors.New("bench: the floor wants a directory and a core")
	}
	core, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	return measure.ServeFloor(args[0], core)
}

// Work is a worker process.
func Work(args []string) error {
	w := &worker{ctx: context.Background()}
	if len(args) != 1 {
		return errors.New("bench: a worker wants one job")
	}
	if err := json.Unmarshal([]byte(args[0]), &w.job); err != nil {
		return err
	}
	if err := measure.Pin(w.Core); err != nil {
		return err
	}
	var err error
	if w.page, err = measure.OpenPage(w.Dir); err != nil {
		return err
	}
	w.me = &w.page.Workers[w.Index]
	w.msg = make([]byte, w.Size)
	switch w.Work {
	case workStream, workOpen, workTrips:
		return w.measured()
	}
	return w.single()
}

type worker struct {
	job
	ctx     context.Context
	page    *measure.Page
	me      *measure.Worker
	msg     []byte
	samples []int64
}

func (w *worker) open(name string) (*ring.Ring, error) {
	r, _, err := ring.OpenOrCreate(name, ring.Options{Kind: w.Kind, Slots: w.Slots, SlotSize: max(1, w.Size), Dir: w.Dir})
	return r, err
}

func (w *worker) crowded() bool { return w.Senders+w.Receivers > runtime.NumCPU() }

// measured does the work of a run that begins and ends for all workers together.
func (w *worker) measured() (err error) {
	there, err := w.open("there")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, there.Close()) }()
	var p *ring.Producer
	var c *ring.Consumer
	sends := w.Index < w.Senders
	if sends {
		p, err = there.NewProducer()
	} else {
		c, err = there.NewConsumer()
	}
	if err != nil {
		return err
	}
	if w.Work == workTrips {
		back, err := w.open("back")
		if err != nil {
			return err
		}
		defer func() { _ = back.Close() }() // the run is over
		if sends {
			c, err = back.NewConsumer()
		} else {
			p, err = back.NewProducer()
		}
		if err != nil {
			return err
		}
	}
	w.page.Barrier(1, w.crowded())
	w.page.Barrier(2, w.crowded())
	w.me.Start = uint64(measure.Now())
	switch {
	case w.Work == workTrips:
		err = w.trips(p, c)
	case w.Work == workOpen && sends:
		err = w.due(p)
	case sends:
		err = w.send(p)
	default:
		err = w.receive(c)
	}
	w.me.End = uint64(measure.Now())
	return errors.Join(err, w.keep())
}

// share takes up to a chunk of what is left to do; 0 when nothing is.
func (w *worker) share(sends bool) int {
	given, workers := &w.page.Received, w.Receivers
	if sends {
		given, workers = &w.page.Sent, w.Senders
	}
	chunk := uint64(w.Count)
	if workers > 1 {
		chunk = uint64(64 * w.Batch)
	}
	at := given.Add(chunk) - chunk
	return int(min(chunk, max(uint64(w.Count), at)-at))
}

func (w *worker) send(p *ring.Producer) error {
	msgs := make([][]byte, w.Batch)
	for i := range msgs {
		msgs[i] = w.msg
	}
	for n := w.share(true); n > 0; n = w.share(true) {
		for n > 0 {
			if w.Batch == 1 {
				if err := p.Send(w.ctx, w.msg); err != nil {
					return err
				}
				n--
				continue
			}
			k, err := p.SendBatch(w.ctx, msgs[:min(n, w.Batch)])
			if err != nil {
				return err
			}
			n -= k
		}
	}
	return nil
}

func (w *worker) receive(c *ring.Consumer) error {
	for n := w.share(false); n > 0; n = w.share(false) {
		for n > 0 {
			if w.Batch > 1 {
				b, err := c.NextBatch(w.ctx, min(n, w.Batch))
				if err != nil {
					return err
				}
				for i := range b.Len() {
					copy(w.msg, b.At(i).Bytes())
				}
				n -= b.Len()
				if err := b.Release(); err != nil {
					return err
				}
				continue
			}
			if _, err := c.Receive(w.ctx, w.msg); err != nil {
				return err
			}
			if w.Work == workOpen {
				w.samples = append(w.samples, max(0, measure.Now()-int64(binary.LittleEndian.Uint64(w.msg))))
			}
			n--
		}
	}
	return nil
}

// due sends at fixed times. A message carries the time at which it was due: what waits in the sender counts.
func (w *worker) due(p *ring.Producer) error {
	start := measure.Now()
	for i := range w.Count {
		due := start + int64(i)*int64(time.Second)/int64(w.Rate)
		for measure.Now() < due {
		}
		binary.LittleEndian.PutUint64(w.msg, uint64(due))
		if err := p.Send(w.ctx, w.msg); err != nil {
			return err
		}
	}
	return nil
}

// trips sends a message after each millisecond and waits for the echo, or is the echo.
func (w *worker) trips(p *ring.Producer, c *ring.Consumer) error {
	for range w.Count {
		if w.Index > 0 {
			if _, err := c.Receive(w.ctx, w.msg); err != nil {
				return err
			}
			if err := p.Send(w.ctx, w.msg); err != nil {
				return err
			}
			continue
		}
		time.Sleep(time.Millisecond) // both sides fall asleep
		t := measure.Now()
		if err := p.Send(w.ctx, w.msg); err != nil {
			return err
		}
		if _, err := c.Receive(w.ctx, w.msg); err != nil {
			return err
		}
		w.samples = append(w.samples, measure.Now()-t)
	}
	return nil
}

// single does one step, tells that it has, and stays until it is killed. Only the one that receives comes to an end.
func (w *worker) single() error {
	r, err := w.open("q")
	if err != nil {
		return err
	}
	switch w.Work {
	case workReserve, workSend:
		p, err := r.NewProducer()
		if err != nil {
			return err
		}
		if w.Work == workSend {
			err = p.Send(w.ctx, w.msg)
		} else {
			_, err = p.Reserve(w.ctx, w.Size)
		}
		if err != nil {
			return err
		}
	case workLease, workReceive:
		c, err := r.NewConsumer()
		if err != nil {
			return err
		}
		if w.Work == workReceive {
			w.page.Ready.Add(1)
			_, err = c.Receive(w.ctx, w.msg)
			w.me.End = uint64(measure.Now())
			return errors.Join(err, r.Close())
		}
		if _, err := c.Next(w.ctx); err != nil {
			return err
		}
	default:
		return fmt.Errorf("bench: no such work: %q", w.Work)
	}
	w.page.Ready.Add(1)
	select {} // until it is killed
}

// keep writes the samples where the parent finds them.
func (w *worker) keep() error {
	if len(w.samples) == 0 {
		return nil
	}
	raw := make([]byte, 0, 8*len(w.samples))
	for _, v := range w.samples {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(v))
	}
	return os.WriteFile(samplesFile(w.Dir, w.Index), raw, 0o600)
}
