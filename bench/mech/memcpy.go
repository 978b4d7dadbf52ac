package mech

import "errors"

func init() {
	mechanisms["memcpy"] = mechanism(openCopy)
	mechanisms["memcpy-128"] = mechanism(func(a *Args, which int, sends bool) (conn, error) { // through the memory that a ring for messages of a cache line takes
		b := *a
		b.Size = 128
		return openCopy(&b, which, sends)
	})
	mechanisms[clock], mechanisms[LaterClock] = mechanism(openCopy), mechanism(openCopy) // their queue is not used
}

// clock is no queue either: its workers read the clock, see worker.readClock. Of LaterClock the later one of each message counts: a message needs both cores.
const (
	clock      = "clock"
	LaterClock = "clock-later"
)

// move is copy in parts of at most 512 KiB: the Go runtime copies a MiB and more past the caches, which is slow for what another core reads next.
func move(to, from []byte) {
	const part = 512 << 10
	for n := min(len(to), len(from)); n > 0; n = min(len(to), len(from)) {
		n = copy(to[:min(n, part)], from)
		to, from = to[n:], from[n:]
	}
}

// copyConn is no queue: one side copies messages into shared memory, the other out of it, and nobody waits for anybody. No queue that carries bytes is faster.
type copyConn struct {
	mem, msg []byte
	at       int
	sends    bool
}

func openCopy(a *Args, which int, sends bool) (conn, error) {
	mem, err := mapQueue(a, which, max(a.Size, min(a.Slots*maxSlot, a.Slots*a.Size)))
	return &copyConn{mem: mem, msg: make([]byte, a.Size), sends: sends}, err
}

func (c *copyConn) stream(n int, _ uint64) (sum uint64, err error) {
	for range n {
		if c.at+len(c.msg) > len(c.mem) {
			c.at = 0
		}
		place := c.mem[c.at : c.at+len(c.msg)]
		if c.sends {
			move(place, c.msg)
		} else {
			move(c.msg, place)
		}
		c.at += len(c.msg)
	}
	return 0, nil
}

var errNoQueue = errors.New("mech: memcpy only streams")

func (c *copyConn) send([]byte) error    { return errNoQueue }
func (c *copyConn) receive([]byte) error { return errNoQueue }
func (c *copyConn) close() error         { return nil }
