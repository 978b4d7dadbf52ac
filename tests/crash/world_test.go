//go:build testpoint && linux

package crash

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/crash/message"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

// world is one run: a ring, the children in it, and the test's own side, which survives.
type world struct {
	t       *testing.T
	s       *scenario
	name    string
	kind    ring.Kind
	dir     string
	r       *ring.Ring
	account account
	ended   atomic.Bool // the child has ended, or has gone on
	seq     uint64

	p      *ring.Producer
	lists  []*[]delivery // what the test's consumers got
	others sync.WaitGroup
	errs   chan error
}

// messages is how many the test sends while a child receives.
const messages = 64

func newWorld(t *testing.T, name string, k ring.Kind, policy ring.DeathPolicy) *world {
	s := scenarios[name]
	w := &world{t: t, s: s, name: name, kind: k, dir: proc.Dir(t), errs: make(chan error, 8)}
	o := ring.Options{Kind: k, Slots: slots, SlotSize: slotSize, OnConsumerDeath: policy, MaxDeliveries: s.maxDeliveries, Participants: 8, Dir: w.dir}
	if s.participants > 0 {
		o.Participants = s.participants
	}
	r, err := ring.Create("q", o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	w.r = r
	w.account.drops = policy == ring.Drop || s.maxDeliveries == 1
	w.account.returnsDrop = s.maxDeliveries == 1
	return w
}

// start starts a child of a scenario, which the label's n-th hit stops or kills.
func (w *world) start(scenario, label string, n int64, action string) *proc.Proc {
	source := len(w.account.children) + 2
	w.account.children = append(w.account.children, nil)
	return proc.Start(w.t, []string{"act", w.dir, scenario, fmt.Sprint(source)}, proc.Env(fmt.Sprintf("MILLRACE_TESTPOINT=%s:%d:%s", label, n, action)))
}

// read takes a child's account, after its end.
func (w *world) read(p *proc.Proc) *childAccount {
	a := &childAccount{}
	require.NoError(w.t, a.read(p.All(), w.account.drops, w.account.returnsDrop))
	for i, c := range w.account.children {
		if c == nil {
			w.account.children[i] = a
			break
		}
	}
	return a
}

// killed waits for a child that must be killed at its label.
func (w *world) killed(p *proc.Proc) *childAccount {
	sig, code := p.Result()
	require.Equal(w.t, syscall.SIGKILL, sig, "the child was not killed: exit %d, %s%s", code, p.Errors(), strings.Join(p.All(), "\n"))
	return w.read(p)
}

// message makes the test's next message.
func (w *world) message(n int) []byte {
	w.seq++
	seq := 1<<32 | w.seq
	w.account.sent = append(w.account.sent, seq)
	return message.Encode(seq, n)
}

// prepare fills the ring and lets the victims die.
func (w *world) prepare() {
	if w.s.role == ring.ConsumerRole || len(w.s.fill) > 0 {
		p, err := w.r.NewProducer(ring.WaitForConsumers())
		require.NoError(w.t, err)
		w.p = p
	}
	if w.s.batch > 0 && len(w.s.fill) > 0 {
		var msgs [][]byte
		for _, n := range w.s.fill {
			msgs = append(msgs, w.message(n))
		}
		n, err := w.p.TrySendBatch(msgs)
		require.NoError(w.t, err)
		require.Equal(w.t, len(msgs), n)
	} else {
		for _, n := range w.s.fill {
			require.NoError(w.t, w.p.TrySend(w.message(n)))
		}
	}
	if w.p != nil && w.s.role == ring.ProducerRole {
		require.NoError(w.t, w.p.Close())
	}
	for _, v := range w.s.before {
		n := v.n
		if n == 0 {
			n = 1
		}
		w.killed(w.start(v.scenario, v.label, n, "kill"))
	}
}

// run runs f as a part of the test's side.
func (w *world) run(f func() error) {
	w.others.Add(1)
	go func() {
		defer w.others.Done()
		if err := f(); err != nil {
			w.errs <- err
		}
	}()
}

// otherSide starts what the test does at the same time as the child.
func (w *world) otherSide() {
	ctx, cancel := context.WithTimeout(context.Background(), proc.Patience)
	w.t.Cleanup(cancel)
	if w.s.role == ring.ConsumerRole {
		w.run(func() error { return w.sendAll(ctx) })
		return
	}
	for range max(1, w.s.consumers) {
		q, err := w.r.NewConsumer()
		require.NoError(w.t, err)
		w.receiver(ctx, q)
	}
}

// receiver receives with q until the end.
func (w *world) receiver(ctx context.Context, q *ring.Consumer) {
	got := new([]delivery)
	w.lists = append(w.lists, got)
	w.run(func() error { return w.receiveAll(ctx, q, got) })
}

// sendAll sends the test's messages.
func (w *world) sendAll(ctx context.Context) error {
	for i := 0; i < messages; {
		if w.s.batch > 0 {
			var msgs [][]byte
			for range w.s.batch {
				msgs = append(msgs, w.message(w.s.sizes[i%len(w.s.sizes)]))
			}
			if _, err := w.p.SendBatch(ctx, msgs); err != nil {
				return fmt.Errorf("send batch %d: %w", i, err)
			}
			i += w.s.batch
			continue
		}
		if err := w.p.Send(ctx, w.message(w.s.sizes[i%len(w.s.sizes)])); err != nil {
			return fmt.Errorf("send %d: %w", i, err)
		}
		i++
	}
	return w.p.Close()
}

// receiveAll receives until the end of the stream after the child has ended.
func (w *world) receiveAll(ctx context.Context, q *ring.Consumer, got *[]delivery) error {
	buf := make([]byte, w.r.MaxMessage())
	for {
		last := w.ended.Load()
		n, err := q.Receive(ctx, buf)
		switch {
		case errors.Is(err, io.EOF) && last:
			return q.Close()
		case errors.Is(err, io.EOF):
			time.Sleep(time.Millisecond) // the child is between two lives
			continue
		case err != nil:
			return fmt.Errorf("receive after %d: %w", len(*got), err)
		}
		seq, err := message.Decode(buf[:n])
		if err != nil {
			return err
		}
		*got = append(*got, delivery{seq, q.Last().Deliveries})
	}
}

// begin starts the other side and the child.
func (w *world) begin(label string, n int64, action string) *proc.Proc {
	w.prepare()
	if !w.s.late {
		w.otherSide()
	}
	p := w.start(w.name, label, n, action)
	if w.s.sleepers > 0 {
		p.Want("ready")
		require.Eventually(w.t, func() bool { return w.arrivals() >= w.s.sleepers }, proc.Patience, time.Millisecond)
		p.Tell("go")
	}
	return p
}

// arrivals returns how many sleepers of the test have announced themselves since everybody was woken, which a registration does.
func (w *world) arrivals() int {
	event := int64(layout.ControlNotEmpty)
	if w.s.role == ring.ConsumerRole {
		event = layout.ControlNotFull
	}
	f, err := w.r.File()
	require.NoError(w.t, err)
	defer f.Close()
	var low [4]byte
	_, err = f.ReadAt(low[:], layout.ControlOffset+event)
	require.NoError(w.t, err)
	return int(binary.LittleEndian.Uint32(low[:]))
}

// finish lets the survivors go on until everything is drained, and checks the account.
func (w *world) finish() (missing int, s ring.Stats) {
	ctx, cancel := context.WithTimeout(context.Background(), proc.Patience)
	defer cancel()
	begin := time.Now()
	late := w.s.late && !w.ended.Load()
	w.ended.Store(true)
	if late {
		w.otherSide()
	}
	if w.s.role == ring.ConsumerRole {
		q, err := w.r.NewConsumer()
		require.NoError(w.t, err)
		w.receiver(ctx, q)
	}
	if w.r.Stats().ProducersEver == 0 { // the child died before it was one, so the stream has not begun
		p, err := w.r.NewProducer()
		require.NoError(w.t, err)
		require.NoError(w.t, p.Close())
	}
	w.others.Wait()
	select {
	case err := <-w.errs:
		require.NoError(w.t, err, "%+v", w.r.Stats())
	default:
	}
	require.Less(w.t, time.Since(begin), proc.Notice, "the survivors noticed too late")
	for _, got := range w.lists {
		w.account.got = append(w.account.got, *got)
	}
	w.lap(ctx)
	s = w.r.Stats()
	missing, err := w.account.check(s)
	require.NoError(w.t, err, "%+v\n%s", s, w.account.describe())
	require.Zero(w.t, s.Used, "%+v", s)
	return missing, s
}

// lap sends and receives three laps of messages of all sizes, to see that nothing of the ring is unusable.
func (w *world) lap(ctx context.Context) {
	p, err := w.r.NewProducer()
	require.NoError(w.t, err)
	q, err := w.r.NewConsumer()
	require.NoError(w.t, err)
	buf := make([]byte, w.r.MaxMessage())
	for used, i := 0, 0; used < 3*slots; i++ {
		n := 16 + i*97%(w.r.MaxMessage()-15)
		if i == 0 {
			n = w.r.MaxMessage()
		}
		msg := message.Encode(uint64(i), n)
		require.NoError(w.t, p.TrySend(msg), "a drained ring takes %d bytes: %+v", n, w.r.Stats())
		got, err := q.Receive(ctx, buf)
		require.NoError(w.t, err)
		require.Equal(w.t, msg, buf[:got])
		require.Equal(w.t, 1, q.Last().Deliveries)
		used += (n + slotSize - 1) / slotSize
	}
	require.NoError(w.t, p.Close())
	require.NoError(w.t, q.Close())
}
