//go:build linux && amd64

package step

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/crash/message"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

// The rings of these tests have 8 slots of 64 bytes: messages up to 48 bytes lie inline, up to 64 take one slot, up to 256 four.
const (
	slots        = 8
	slotSize     = 64
	participants = 6
	own          = 1 << 32 // what the numbers of the test's messages begin with
	childs       = 2 << 32 // and those of the child
)

// patience is how long something may take that must happen soon, before it is called a hang.
var patience = proc.Patience

func init() {
	if os.Getenv(overlayEnv) != "" {
		patience = 4 * proc.Notice // a mutant may well hang
	}
}

// errLate says that a survivor took longer than the contract allows, with slack for a busy machine.
var errLate = errors.New("the survivor was late")

// world is one ring in which a scenario happens again and again: it is put back to where the scenario begins by writing the segment. That is exact,
// because nobody is registered then: the locks, which are all that lies outside of the segment, are free.
type world struct {
	dir   string
	r     *ring.Ring
	h     layout.Header
	mem   []byte // the segment behind the header
	fresh []byte // mem of a new ring
	situation
}

// situation is where a scenario begins.
type situation struct {
	begin   []byte // the segment
	sizes   []int  // of the messages in the ring
	tried   int    // messages that the child is going to send
	victims int    // participants that died before
}

func newWorld(t testing.TB, k ring.Kind, policy ring.DeathPolicy) *world {
	w := &world{dir: proc.Dir(t)}
	r, err := ring.Create("q", ring.Options{Kind: k, Slots: slots, SlotSize: slotSize, Participants: participants, OnConsumerDeath: policy, Dir: w.dir})
	must(t, err)
	w.r = r
	t.Cleanup(func() { must(t, r.Close()) })
	f, err := os.OpenFile(filepath.Join(w.dir, "q"), os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	info, err := f.Stat()
	must(t, err)
	mem, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	must(t, err)
	t.Cleanup(func() { must(t, syscall.Munmap(mem)) })
	w.mem, w.h = mem[layout.ControlOffset:], r.Header()
	w.fresh = bytes.Clone(w.mem)
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// prepare brings the ring to where the scenario begins: first so many slots go by, then messages of these sizes are sent and stay.
func (w *world) prepare(skip int, sizes []int, batch bool) error {
	copy(w.mem, w.fresh)
	p, err := w.r.NewProducer(ring.WaitForConsumers())
	if err != nil {
		return err
	}
	if skip > 0 {
		q, err := w.r.NewConsumer()
		if err != nil {
			return err
		}
		buf := make([]byte, w.r.MaxMessage())
		for range skip {
			if err := p.TrySend(message.Encode(0, 16)); err != nil {
				return err
			}
			if _, err := q.TryReceive(buf); err != nil {
				return err
			}
		}
		if err := q.Close(); err != nil {
			return err
		}
	}
	var msgs [][]byte
	for i, n := range sizes {
		msgs = append(msgs, message.Encode(own+uint64(i)+1, n))
	}
	if batch {
		_, err = p.TrySendBatch(msgs)
	} else {
		for _, m := range msgs {
			err = errors.Join(err, p.TrySend(m))
		}
	}
	w.sizes = sizes
	return errors.Join(err, p.Close())
}

// keep makes the present state the one that the scenario begins with, and reset goes back to it.
func (w *world) keep()  { w.begin = bytes.Clone(w.mem) }
func (w *world) reset() { copy(w.mem, w.begin) }

// receipts is what came of the scenario's messages: how often each was received, and its delivery count the last time.
type receipts struct {
	times, count map[uint64]int
	last         map[uint64]uint64 // of each source, the last one that came for the first time
	total        int
}

func newReceipts() *receipts {
	return &receipts{times: map[uint64]int{}, count: map[uint64]int{}, last: map[uint64]uint64{}}
}

// add notes a message as a surviving consumer got it.
func (g *receipts) add(b []byte, count int) error {
	seq, err := message.Decode(b)
	if err != nil {
		return err
	}
	g.total++
	g.times[seq]++
	g.count[seq] = count
	if g.times[seq] > 1 {
		return fmt.Errorf("message %#x came again, with count %d", seq, count)
	}
	if source := seq >> 32; count == 1 {
		if seq <= g.last[source] {
			return fmt.Errorf("message %#x came after %#x", seq, g.last[source])
		}
		g.last[source] = seq
	}
	return nil
}

// survive is what those do who are left: a new consumer drains the ring, a new producer sends three laps, and everything must balance. The result is
// what became of each message of the test and, behind the bar, of the child: its delivery count, or 0; and what was counted as skipped and lost.
func (w *world) survive() (outcome string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	q, err := w.r.NewConsumer()
	if err != nil {
		return "", err
	}
	got := newReceipts()
	begin := time.Now()
	if err := w.drain(ctx, q, got); err != nil {
		return "", errors.Join(err, q.Close())
	}
	if d := time.Since(begin); d > proc.Notice {
		return "", errors.Join(fmt.Errorf("%w: %v", errLate, d), q.Close())
	}
	p, err := w.r.NewProducer()
	if err != nil {
		return "", err
	}
	if err := w.laps(ctx, p, q); err != nil {
		return "", err
	}
	if err := errors.Join(p.Close(), q.Close()); err != nil {
		return "", err
	}
	if _, err := w.r.Recover(false); err != nil {
		return "", err
	}
	if err := w.balanced(); err != nil {
		return "", err
	}
	return w.outcome(got)
}

// drain receives until the end of the stream.
func (w *world) drain(ctx context.Context, q *ring.Consumer, got *receipts) error {
	buf := make([]byte, w.r.MaxMessage())
	for {
		n, err := q.Receive(ctx, buf)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive after %d: %w; %+v", got.total, err, w.r.Stats())
		}
		if err := got.add(buf[:n], q.Last().Deliveries); err != nil {
			return err
		}
	}
}

// laps sends and receives three laps of messages of all sizes, the largest first: a drained ring takes it.
func (w *world) laps(ctx context.Context, p *ring.Producer, q *ring.Consumer) error {
	buf := make([]byte, w.r.MaxMessage())
	for used, n := 0, w.r.MaxMessage(); used < 3*slots; n = 16 + (n+61)%(w.r.MaxMessage()-15) {
		msg := message.Encode(uint64(used), n)
		if err := p.TrySend(msg); err != nil {
			return fmt.Errorf("a drained ring takes %d bytes: %w; %+v", n, err, w.r.Stats())
		}
		m, err := q.Receive(ctx, buf)
		if err != nil {
			return err
		}
		if string(buf[:m]) != string(msg) || q.Last().Deliveries != 1 {
			return fmt.Errorf("sent %x, received %x with count %d", msg, buf[:m], q.Last().Deliveries)
		}
		used += (n + slotSize - 1) / slotSize
	}
	return nil
}

// balanced checks that the drained ring holds nothing and that nobody is left in its table.
func (w *world) balanced() error {
	s := w.r.Stats()
	switch {
	case s.Used != 0:
		return fmt.Errorf("%d slots of a drained ring are in use: %+v", s.Used, s)
	case s.ProducersLive+s.ConsumersLive != 0:
		return fmt.Errorf("somebody is left: %+v", s)
	case s.ProducersDied+s.ConsumersDied > uint64(w.victims)+1:
		return fmt.Errorf("more died than were killed: %+v", s)
	}
	if left := w.r.Participants(); len(left) > 0 {
		return fmt.Errorf("participants are left: %+v", left)
	}
	return w.words()
}

// outcome describes what became of the messages.
func (w *world) outcome(got *receipts) (string, error) {
	var b strings.Builder
	seen := 0
	show := func(seq uint64) {
		fmt.Fprint(&b, got.count[seq])
		seen += got.times[seq]
	}
	for i := range w.sizes {
		show(own + uint64(i) + 1)
	}
	b.WriteString("|")
	for i := range w.tried {
		show(childs + uint64(i) + 1)
	}
	if seen != got.total {
		return "", fmt.Errorf("messages came that nobody sent: %v", got.times)
	}
	s := w.r.Stats()
	if s.Skipped > 0 {
		fmt.Fprintf(&b, " skipped %d", s.Skipped)
	}
	if s.Lost > 0 {
		fmt.Fprintf(&b, " lost %d", s.Lost)
	}
	return b.String(), nil
}
