//go:build linux && amd64

package step

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/crash/message"
)

// A child is stopped by SIGSTOP before every instruction, others work, and then it goes on. Properties: nothing is taken from it, however hard others try;
// none of their calls waits for it; no message is torn, neither theirs nor its own; it finishes without an error; and everything that anybody sent is received
// once, with a count that is exact, and nothing is skipped or lost but what others left that had died before.
func TestStoppedBeforeEveryInstruction(t *testing.T) {
	apart := stride(t)
	settings(t, func(t *testing.T, s *setting) {
		s.each(t, 5*apart, func(t *testing.T, sc *scenario, apart int) {
			begin := time.Now()
			r := s.begin(t, sc)
			points := r.points(sc, apart)
			if !thorough {
				points = every(points, 5)
			}
			fates := strings.Split(sc.fate(s.kind, s.policy), "; ")
			require.NoError(t, spread(s.worlds, len(points), func(w *world, i int) error {
				if err := r.stopAt(w, sc, points[i], fates[len(fates)-1]); err != nil {
					return fmt.Errorf("stopped after %d of %d instructions, before %s: %w", points[i], len(r.pcs), r.at(points[i]), err)
				}
				stops.Add(1)
				return nil
			}))
			t.Logf("%d instructions, stopped at %d, %.1f s", len(r.pcs), len(points), time.Since(begin).Seconds())
		})
	})
}

// stopAt stops a child at point k, lets others work and the child finish.
func (r *run) stopAt(w *world, sc *scenario, k int, fate string) error {
	said, out, err := os.Pipe()
	if err != nil {
		return err
	}
	defer said.Close()
	c, exact, err := r.reach(w, k, out)
	if err = errors.Join(err, out.Close()); err != nil {
		return err
	}
	if !exact {
		elsewhere.Add(1)
	}
	if err := c.Stop(); err != nil {
		return err
	}
	m, err := w.meanwhile(sc, c.PID)
	if err != nil {
		return errors.Join(fmt.Errorf("while it is stopped: %w", err), c.Kill())
	}
	over := time.AfterFunc(patience, func() { _ = syscall.Kill(c.PID, syscall.SIGKILL) }) // a hang
	code, err := c.Continue()
	over.Stop()
	line, _ := bufio.NewReader(said).ReadString('\n') // what is missing is missed below
	if err != nil || code != 0 {
		return fmt.Errorf("the child ended with code %d: %v: %s", code, err, line)
	}
	return m.finish(strings.Fields(line), fate)
}

// company is what works beside a stopped child: one of each role, of which an SPSC ring has only one to spare.
type company struct {
	w    *world
	sc   *scenario
	p    *ring.Producer
	q    *ring.Consumer
	buf  []byte
	got  *receipts
	sent []uint64
}

// meanwhile is what others do while the child is stopped.
func (w *world) meanwhile(sc *scenario, pid int) (m *company, err error) {
	m = &company{w: w, sc: sc, buf: make([]byte, w.r.MaxMessage()), got: newReceipts()}
	for i := range w.sizes {
		m.sent = append(m.sent, own+uint64(i)+1)
	}
	mpmc := w.r.Options().Kind == ring.MPMC
	alone := sc.operation() == "recover" // it has no role
	if sc.consumer || mpmc || alone {
		if m.p, err = w.r.NewProducer(ring.WaitForConsumers()); err != nil {
			if err = m.roleTaken(err); err != nil {
				return m, err
			}
		}
	}
	if !sc.consumer || mpmc {
		if m.q, err = w.r.NewConsumer(); err != nil {
			if err = m.roleTaken(err); err != nil {
				return m, err
			}
		}
	}
	for range 3 {
		if err := errors.Join(m.fill(), m.drain()); err != nil {
			return m, err
		}
	}
	if err := m.nothingTaken(pid); err != nil {
		return m, err
	}
	if sc.consumer { // it may still need a message
		return m, m.fill()
	}
	return m, nil
}

// roleTaken is nil for ErrRoleTaken while a child that recovers holds the role of who died.
func (m *company) roleTaken(err error) error {
	if m.sc.operation() == "recover" && errors.Is(err, ring.ErrRoleTaken) {
		return nil
	}
	return err
}

// fill sends until the ring is full, at most two laps.
func (m *company) fill() error {
	for i := 0; m.p != nil && i < 2*slots; i++ {
		seq := own + uint64(len(m.sent)) + 1
		err := m.p.TrySend(message.Encode(seq, 16+len(m.sent)*37%(3*slotSize)))
		if err == ring.ErrFull {
			return nil
		}
		if err != nil {
			return fmt.Errorf("send: %w", err)
		}
		m.sent = append(m.sent, seq)
	}
	return nil
}

// drain receives what is there.
func (m *company) drain() error {
	for m.q != nil {
		n, err := m.q.TryReceive(m.buf)
		if err == ring.ErrEmpty || err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if err := m.got.add(m.buf[:n], m.q.Last().Deliveries); err != nil {
			return err
		}
	}
	return nil
}

// nothingTaken tries to recover something from the stopped child.
func (m *company) nothingTaken(pid int) error {
	list, err := m.w.r.Recover(false)
	if err != nil {
		return err
	}
	for _, r := range list {
		if r.PID == pid {
			return fmt.Errorf("recovered from the stopped child: %+v", r)
		}
	}
	s := m.w.r.Stats()
	if n := uint64(m.w.victims); s.Recoveries > n || s.Skipped > n || s.ProducersDied+s.ConsumersDied > n || m.w.victims == 0 && !m.sc.long && s.Lost > 0 {
		return fmt.Errorf("something was taken from the stopped child: %+v", s)
	}
	return nil
}

// finish drains the ring when the child has ended, and balances the account with what it said: the number of messages that it sent, those that it received
// and those that it gave back.
func (m *company) finish(said []string, fate string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	if m.p == nil {
		if m.p, err = m.w.r.NewProducer(); err != nil {
			return err
		}
	}
	if m.q == nil {
		if m.q, err = m.w.r.NewConsumer(); err != nil {
			return err
		}
	}
	if err := m.p.Close(); err != nil {
		return err
	}
	if err := m.w.drain(ctx, m.q, m.got); err != nil {
		return err
	}
	if m.p, err = m.w.r.NewProducer(); err != nil {
		return err
	}
	if err := m.w.laps(ctx, m.p, m.q); err != nil {
		return err
	}
	if err := errors.Join(m.p.Close(), m.q.Close()); err != nil {
		return err
	}
	if _, err := m.w.r.Recover(false); err != nil {
		return err
	}
	if err := m.w.balanced(); err != nil {
		return err
	}
	return m.account(said, fate)
}

// account compares what was sent with what was received.
func (m *company) account(said []string, fate string) error {
	var sent int
	back := map[uint64]int{} // how often a message was given back
	if len(said) < 2 || said[0] != "sent" {
		return fmt.Errorf("the child said %q", said)
	}
	if _, err := fmt.Sscan(said[1], &sent); err != nil {
		return fmt.Errorf("the child said %q: %w", said, err)
	}
	for i := 2; i+1 < len(said); i += 2 {
		var seq uint64
		var count int
		if _, err := fmt.Sscanf(said[i+1], "%d:%d", &seq, &count); err != nil {
			return fmt.Errorf("the child said %q: %w", said, err)
		}
		if said[i] == "back" {
			back[seq]++
			continue
		}
		m.got.total++
		m.got.times[seq]++
		m.got.count[seq] = count
	}
	for i := range sent {
		m.sent = append(m.sent, childs+uint64(i)+1)
	}
	first := strings.SplitN(fate, "|", 2)[0]               // what became of the first messages when there was nobody else
	settles := m.sc.dead == "" && m.sc.leases && m.sc.long // the child closes with a lease; otherwise others may have had it before
	lost := 0
	for i, seq := range m.sent {
		times, count := m.got.times[seq], 1+back[seq]
		if (settles || m.sc.dead != "") && i < len(m.w.sizes) {
			count = m.got.count[seq]
			if m.w.r.Options().OnConsumerDeath == ring.Drop && times == 0 {
				lost++
				continue
			}
			if (settles || m.sc.operation() == "recover") && first[i] != byte('0'+count) {
				return fmt.Errorf("message %#x came with count %d, not %c", seq, count, first[i])
			}
		}
		if times != 1 || m.got.count[seq] != count {
			return fmt.Errorf("message %#x came %d times, with count %d instead of %d", seq, times, m.got.count[seq], count)
		}
	}
	s := m.w.r.Stats()
	if m.got.total != len(m.sent)-lost || s.Lost != uint64(lost) {
		return fmt.Errorf("%d messages were sent, %d received, %d lost: %+v", len(m.sent), m.got.total, lost, s)
	}
	if skipped := strings.Contains(fate, "skipped"); (s.Skipped > 0) != skipped {
		return fmt.Errorf("skipped: %+v", s)
	}
	return nil
}
