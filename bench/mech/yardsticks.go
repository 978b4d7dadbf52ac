package mech

import (
	"encoding/binary"
	"path/filepath"
	"strconv"

	"github.com/cd1900cf/millrace/bench/yardstick"
	"github.com/cd1900cf/millrace/futex"
	"github.com/cd1900cf/millrace/internal/measure"
)

func mechanism(open opener) struct {
	open    opener
	threads bool
} {
	return struct {
		open    opener
		threads bool
	}{open: open}
}

func init() {
	mechanisms["vyukov-go"] = mechanism(openVyukov)
	mechanisms["bare-go"] = mechanism(openBare)
}

// relax is one step of waiting: a hint to the processor, and now and then the processor to others when there are more workers than cores.
type relax struct {
	crowded bool
	spins   int
}

func (r *relax) step() {
	if r.spins++; r.crowded && r.spins%64 == 0 {
		measure.Yield()
		return
	}
	futex.Pause(1)
}

func mapQueue(a *Args, which, size int) ([]byte, error) {
	return measure.MapFile(filepath.Join(a.Dir, "queue"+strconv.Itoa(which)), size)
}

type vyukovConn struct {
	q     *yardstick.Vyukov
	relax relax
	msg   []byte
	sends bool
}

func openVyukov(a *Args, which int, sends bool) (conn, error) {
	mem, err := mapQueue(a, which, yardstick.VyukovBytes(a.Slots, a.Size))
	if err != nil {
		return nil, err
	}
	q := yardstick.NewVyukov(mem, a.Slots, a.Size, a.Index == 0)
	return &vyukovConn{q: q, relax: relax{crowded: a.crowded()}, msg: make([]byte, a.Size), sends: sends}, nil
}

func (c *vyukovConn) stream(n int, first uint64) (sum uint64, err error) {
	q, msg := c.q, c.msg
	for v := first; v < first+uint64(n); v++ {
		if c.sends {
			binary.LittleEndian.PutUint64(msg, v)
			sum += v
			for !q.TrySend(msg) {
				c.relax.step()
			}
			continue
		}
		for !q.TryReceive(msg) {
			c.relax.step()
		}
		sum += binary.LittleEndian.Uint64(msg)
	}
	return sum, nil
}

func (c *vyukovConn) send(msg []byte) error {
	for !c.q.TrySend(msg) {
		c.relax.step()
	}
	return nil
}

func (c *vyukovConn) receive(buf []byte) error {
	for !c.q.TryReceive(buf) {
		c.relax.step()
	}
	return nil
}

func (c *vyukovConn) close() error { return nil }

func (c *vyukovConn) pingPong(other conn, buf []byte, n int, begins bool) (wrong uint64, err error) {
	back := other.(*vyukovConn)
	for i := range uint64(n) {
		if !begins {
			for !c.q.TryReceive(buf) {
				c.relax.step()
			}
			for !back.q.TrySend(buf) {
				back.relax.step()
			}
			continue
		}
		binary.LittleEndian.PutUint64(buf, i)
		for !c.q.TrySend(buf) {
			c.relax.step()
		}
		for !back.q.TryReceive(buf) {
			back.relax.step()
		}
		if binary.LittleEndian.Uint64(buf) != i {
			wrong++
		}
	}
	return wrong, nil
}

func (c *vyukovConn) depart(w *worker, start int64) error {
	buf := make([]byte, w.Size)
	for i := range w.Count {
		w.stamp(buf, start, i)
		for !c.q.TrySend(buf) {
			c.relax.step()
		}
	}
	return nil
}

func (c *vyukovConn) arrive(w *worker) error {
	buf := make([]byte, w.Size)
	for range w.Count {
		for !c.q.TryReceive(buf) {
			c.relax.step()
		}
		w.arrived(buf)
	}
	return nil
}

type bareConn struct {
	q     *yardstick.Bare
	msg   []byte
	sends bool
}

func openBare(a *Args, which int, sends bool) (conn, error) {
	slots := a.Slots
	if a.Size > maxSlot { // as much memory as the ring has
		slots = slots * maxSlot / a.Size
	}
	mem, err := mapQueue(a, which, yardstick.BareBytes(slots, a.Size))
	if err != nil {
		return nil, err
	}
	return &bareConn{q: yardstick.NewBare(mem, slots, a.Size), msg: make([]byte, a.Size), sends: sends}, nil
}

func (c *bareConn) stream(n int, first uint64) (sum uint64, err error) {
	q, msg := c.q, c.msg
	for v := first; v < first+uint64(n); v++ {
		if c.sends {
			binary.LittleEndian.PutUint64(msg, v)
			sum += v
			for !q.TrySend(msg) {
				futex.Pause(1)
			}
			continue
		}
		for !q.TryReceive(msg) {
			futex.Pause(1)
		}
		sum += binary.LittleEndian.Uint64(msg)
	}
	return sum, nil
}

func (c *bareConn) send(msg []byte) error {
	for !c.q.TrySend(msg) {
		futex.Pause(1)
	}
	return nil
}

func (c *bareConn) receive(buf []byte) error {
	for !c.q.TryReceive(buf) {
		futex.Pause(1)
	}
	return nil
}

func (c *bareConn) close() error { return nil }

func (c *bareConn) pingPong(other conn, buf []byte, n int, begins bool) (wrong uint64, err error) {
	back := other.(*bareConn)
	for i := range uint64(n) {
		if !begins {
			for !c.q.TryReceive(buf) {
				futex.Pause(1)
			}
			for !back.q.TrySend(buf) {
				futex.Pause(1)
			}
			continue
		}
		binary.LittleEndian.PutUint64(buf, i)
		for !c.q.TrySend(buf) {
			futex.Pause(1)
		}
		for !back.q.TryReceive(buf) {
			futex.Pause(1)
		}
		if binary.LittleEndian.Uint64(buf) != i {
			wrong++
		}
	}
	return wrong, nil
}

func (c *bareConn) depart(w *worker, start int64) error {
	buf := make([]byte, w.Size)
	for i := range w.Count {
		w.stamp(buf, start, i)
		for !c.q.TrySend(buf) {
			futex.Pause(1)
		}
	}
	return nil
}

func (c *bareConn) arrive(w *worker) error {
	buf := make([]byte, w.Size)
	for range w.Count {
		for !c.q.TryReceive(buf) {
			futex.Pause(1)
		}
		w.arrived(buf)
	}
	return nil
}
