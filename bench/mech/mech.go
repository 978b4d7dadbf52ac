// Package mech has the mechanisms that are written in Go, each as a worker that the harness starts: millrace itself, its yardsticks, and queues between
// goroutines. The ones in C and C++ are programs in ../peers, which take the same arguments and do the same work.
package mech

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/cd1900cf/millrace/internal/measure"
)

// Args are the arguments of a worker, as KEY=VALUE.
type Args struct {
	Dir       string // of the page, the queues, and the samples
	Mech      string
	Work      string // stream, rtt, open, idle
	Index     int    // senders first; 0 makes the queues
	Senders   int
	Receivers int
	Core      int // -1: not pinned
	Count     int // messages in all
	Size      int // bytes of a message
	Batch     int // messages at once; 1: the call for one message
	Slots     int // of the queue
	Rate      int // messages a second of open
	Extra     int // millrace: idle handles besides
	Pause     time.Duration
}

// Strings returns the arguments in the form in which every worker takes them.
func (a *Args) Strings() []string {
	line := []string{
		"dir=" + a.Dir, "mech=" + a.Mech, "work=" + a.Work, fmt.Sprint("index=", a.Index), fmt.Sprint("senders=", a.Senders),
		fmt.Sprint("receivers=", a.Receivers), fmt.Sprint("core=", a.Core), fmt.Sprint("count=", a.Count), fmt.Sprint("size=", a.Size),
		fmt.Sprint("batch=", a.Batch), fmt.Sprint("slots=", a.Slots), fmt.Sprint("rate=", a.Rate), fmt.Sprint("pause=", a.Pause.Nanoseconds()),
	}
	if a.Extra > 0 {
		line = append(line, fmt.Sprint("extra=", a.Extra))
	}
	return line
}

// Parse is the reverse of Strings.
func Parse(args []string) (*Args, error) {
	a, pause := &Args{}, 0
	text := map[string]*string{"dir": &a.Dir, "mech": &a.Mech, "work": &a.Work}
	number := map[string]*int{
		"index": &a.Index, "senders": &a.Senders, "receivers": &a.Receivers, "core": &a.Core, "count": &a.Count, "size": &a.Size, "batch": &a.Batch,
		"slots": &a.Slots, "rate": &a.Rate, "pause": &pause, "extra": &a.Extra,
	}
	for _, arg := range args {
		k, v, ok := strings.Cut(arg, "=")
		if p := text[k]; ok && p != nil {
			*p = v
			continue
		}
		p := number[k]
		if !ok || p == nil {
			return nil, fmt.Errorf("mech: unknown argument %q", arg)
		}
		n, err := strconv.Atoi(v)
		if err != nil {
			return nil, fmt.Errorf("mech: %s: %w", arg, err)
		}
		*p = n
	}
	a.Pause = time.Duration(pause)
	return a, nil
}

// crowded: more workers than cores, so that who waits must let others run.
func (a *Args) crowded() bool { return a.Senders+a.Receivers > runtime.NumCPU() }

func (a *Args) sends() bool { return a.Index < a.Senders }

// conn is a worker's end of one queue. Sum words are the first eight bytes of a message.
type conn interface {
	// stream sends or receives n messages in a loop of its own and returns the sum of their words, which count from first.
	stream(n int, first uint64) (sum uint64, err error)
	// send and receive move one message; they wait as long as it takes.
	send(msg []byte) error
	receive(buf []byte) error
	close() error
}

// echoer is a conn with loops of its own for latencies too. A call through an interface takes ten nanoseconds on processors that do not predict
// indirect calls, and there are four in a round trip.
type echoer interface {
	// depart sends n messages at their times, and arrive receives them: see worker.openLoop.
	depart(w *worker, start int64) error
	arrive(w *worker) error
	// pingPong makes n round trips with back, the end of the other queue: as the one that begins, or as the one that answers.
	pingPong(back conn, buf []byte, n int, begins bool) (wrong uint64, err error)
}

// opener makes (index 0) or opens queue number `which` of a run; sends says which end.
type opener func(a *Args, which int, sends bool) (conn, error)

// mechanisms by name. Threads: it works between goroutines of one process only.
var mechanisms = map[string]struct {
	open    opener
	threads bool
}{}

// Known says whether a mechanism is one of this package, and whether all its workers are one process.
func Known(name string) (known, threads bool) {
	m, ok := mechanisms[name]
	return ok, m.threads
}

// Run is a whole worker process.
func Run(args []string) error {
	a, err := Parse(args)
	if err != nil {
		return err
	}
	if !mechanisms[a.Mech].threads {
		return work(a)
	}
	errs := make(chan error)
	for i := range a.Senders + a.Receivers {
		b := *a
		b.Index = i
		if a.Core >= 0 {
			b.Core = (a.Core + i) % runtime.NumCPU()
		}
		go func() { errs <- work(&b) }()
	}
	for range a.Senders + a.Receivers {
		err = errors.Join(err, <-errs)
	}
	return err
}

func work(a *Args) error {
	if err := measure.Pin(a.Core); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	page, err := measure.OpenPage(a.Dir)
	if err != nil {
		return err
	}
	w := &worker{Args: a, page: page, me: &page.Workers[a.Index]}
	queues := 1
	if a.Work == "rtt" {
		queues = 2
	}
	var conns [2]conn
	for i := range queues {
		if conns[i], err = mechanisms[a.Mech].open(a, i, a.sends() == (i == 0)); err != nil {
			return err
		}
	}
	if a.Work == "rtt" && a.Pause > 0 || a.Work == "open" {
		w.samples = make([]uint64, 0, a.Count)
		clear(w.samples[:a.Count]) // touched before, not during the measurement
	}
	page.Barrier(1, a.crowded())
	page.Barrier(2, a.crowded())
	delay, err := measure.Delay()
	if err != nil {
		return err
	}
	w.me.Start = uint64(measure.Now())
	switch {
	case a.Work == "rtt":
		err = w.roundTrips(conns[0], conns[1])
	case a.Work == "open" && (a.Mech == clock || a.Mech == LaterClock):
		w.readClock()
	case a.Work == "open":
		err = w.openLoop(conns[0])
	case a.Work == "idle":
		err = w.idle(conns[0])
	default:
		err = w.stream(conns[0])
	}
	if err != nil {
		return err
	}
	w.me.End = uint64(measure.Now())
	after, err := measure.Delay()
	if err != nil {
		return err
	}
	w.me.Delay = uint64(after - delay)
	if err := w.keepSamples(); err != nil {
		return err
	}
	page.Barrier(3, true) // nobody closes while others work
	for _, c := range conns[:queues] {
		err = errors.Join(err, c.close())
	}
	return err
}

// worker is one run of the work.
type worker struct {
	*Args
	page    *measure.Page
	me      *measure.Worker
	samples []uint64
}

// ticketed is how many messages a worker takes at once when several share the work.
const ticketed = 64

func (w *worker) stream(c conn) error {
	given, workers := &w.page.Received, w.Receivers
	if w.sends() {
		given, workers = &w.page.Sent, w.Senders
	}
	chunk := uint64(w.Count)
	if workers > 1 {
		chunk = uint64(w.Batch * ticketed)
	}
	for {
		at := given.Add(chunk) - chunk
		if at >= uint64(w.Count) {
			return nil
		}
		n := min(chunk, uint64(w.Count)-at)
		sum, err := c.stream(int(n), at+1)
		if err != nil {
			return err
		}
		w.me.Count += n
		w.me.Sum += sum
	}
}

// roundTrips: the first worker sends and waits for the echo. With a pause, both sides fall asleep before each trip,
// which is measured alone.
func (w *worker) roundTrips(there, back conn) error {
	buf := make([]byte, w.Size)
	if e, ok := there.(echoer); ok && w.Pause == 0 {
		var err error
		w.me.Sum, err = e.pingPong(back, buf, w.Count, w.Index == 0)
		return err
	}
	for i := range w.Count {
		if w.Index != 0 {
			if err := there.receive(buf); err != nil {
				return err
			}
			if err := back.send(buf); err != nil {
				return err
			}
			continue
		}
		var t int64
		if w.Pause > 0 {
			time.Sleep(w.Pause)
			t = measure.Now()
		}
		binary.LittleEndian.PutUint64(buf, uint64(i))
		if err := there.send(buf); err != nil {
			return err
		}
		if err := back.receive(buf); err != nil {
			return err
		}
		if binary.LittleEndian.Uint64(buf) != uint64(i) {
			w.me.Sum++
		}
		if w.Pause > 0 {
			w.samples = append(w.samples, uint64(measure.Now()-t))
		}
	}
	return nil
}

// openLoop: messages leave at fixed times and carry them; what waits in the sender counts.
func (w *worker) openLoop(c conn) error {
	start := measure.Now()
	e, own := c.(echoer)
	switch {
	case own && w.Index == 0:
		return e.depart(w, start)
	case own:
		return e.arrive(w)
	}
	buf := make([]byte, w.Size)
	for i := range w.Count {
		if w.Index == 0 {
			w.stamp(buf, start, i)
			if err := c.send(buf); err != nil {
				return err
			}
			continue
		}
		if err := c.receive(buf); err != nil {
			return err
		}
		w.arrived(buf)
	}
	return nil
}

// stamp waits until message i is due, and writes when that was into it.
func (w *worker) stamp(buf []byte, start int64, i int) {
	due := start + int64(i)*int64(time.Second)/int64(w.Rate)
	for measure.Now() < due {
	}
	binary.LittleEndian.PutUint64(buf, uint64(due))
	w.me.Sum += uint64(due)
}

// arrived notes how long after its time a message is there.
func (w *worker) arrived(buf []byte) {
	due := binary.LittleEndian.Uint64(buf)
	w.samples = append(w.samples, uint64(max(0, measure.Now()-int64(due))))
	w.me.Sum += due
}

// readClock is the open loop without a queue, on both cores: what a message that takes no time would take, because the machine was elsewhere.
func (w *worker) readClock() {
	start := measure.Now()
	for i := range w.Count {
		due, now := start+int64(i)*int64(time.Second)/int64(w.Rate), measure.Now()
		for ; now < due; now = measure.Now() {
		}
		w.samples = append(w.samples, uint64(now-due))
	}
}

// idle: the receiver waits for one message that comes after a pause; what it costs meanwhile is measured.
func (w *worker) idle(c conn) error {
	buf := make([]byte, w.Size)
	if w.Index == 0 {
		time.Sleep(w.Pause)
		return c.send(buf)
	}
	before, err := measure.CPU()
	if err != nil {
		return err
	}
	if err := c.receive(buf); err != nil {
		return err
	}
	after, err := measure.CPU()
	w.me.CPU = uint64(after - before)
	return err
}

// keepSamples writes the latencies that this worker saw to the file that the harness reads.
func (w *worker) keepSamples() (err error) {
	if len(w.samples) == 0 {
		return nil
	}
	f, err := os.Create(filepath.Join(w.Dir, fmt.Sprint("samples", w.Index)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := bufio.NewWriter(f)
	if err := binary.Write(out, binary.LittleEndian, w.samples); err != nil {
		return err
	}
	return out.Flush()
}
