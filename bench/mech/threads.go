package mech

import (
	"encoding/binary"
	"sync"
	"unsafe"

	"github.com/puzpuzpuz/xsync/v4"
)

// Queues between goroutines of one process. They carry values of a fixed size, not slices, which would be pointers to memory that both sides share.

func init() {
	threads := func(o opener) struct {
		open    opener
		threads bool
	} {
		m := mechanism(o)
		m.threads = true
		return m
	}
	mechanisms["go-channel"] = threads(func(a *Args, which int, _ bool) (conn, error) {
		switch a.Size {
		case 8:
			return openChannel[[8]byte](a, which)
		case 64:
			return openChannel[[64]byte](a, which)
		}
		return openChannel[[256]byte](a, which)
	})
	mechanisms["xsync-spsc"] = threads(func(a *Args, which int, _ bool) (conn, error) {
		return openXsync(a, which, xsync.NewSPSCQueue[[8]byte], xsync.NewSPSCQueue[[64]byte], xsync.NewSPSCQueue[[256]byte])
	})
	mechanisms["xsync-mpmc"] = threads(func(a *Args, which int, _ bool) (conn, error) {
		return openXsync(a, which, xsync.NewMPMCQueue[[8]byte], xsync.NewMPMCQueue[[64]byte], xsync.NewMPMCQueue[[256]byte])
	})
}

// message is a value of a fixed size.
type message interface {
	[8]byte | [64]byte | [256]byte
}

// made are the queues of this process, which its workers share.
var made struct {
	sync.Mutex
	queues [2]any
}

// sharedQueue returns queue number which; the first worker to ask makes it.
func sharedQueue[Q any](which int, newQueue func() Q) Q {
	made.Lock()
	defer made.Unlock()
	if made.queues[which] == nil {
		made.queues[which] = newQueue()
	}
	return made.queues[which].(Q)
}

type channelConn[M message] struct {
	c     chan M
	sends bool
}

func openChannel[M message](a *Args, which int) (conn, error) {
	c := sharedQueue(which, func() chan M { return make(chan M, a.Slots) })
	return &channelConn[M]{c: c, sends: a.sends() == (which == 0)}, nil
}

func (c *channelConn[M]) stream(n int, first uint64) (sum uint64, err error) {
	var m M
	for v := first; v < first+uint64(n); v++ {
		if c.sends {
			put(&m, v)
			sum += v
			c.c <- m
			continue
		}
		m = <-c.c
		sum += get(&m)
	}
	return sum, nil
}

func (c *channelConn[M]) send(msg []byte) error {
	c.c <- M(msg)
	return nil
}

func (c *channelConn[M]) receive(buf []byte) error {
	m := <-c.c
	copyOut(buf, &m)
	return nil
}

func (c *channelConn[M]) close() error { return nil }

// tryQueue is what the queues of xsync have in common.
type tryQueue[M any] interface {
	TryEnqueue(M) bool
	TryDequeue() (M, bool)
}

type xsyncConn[M message, Q tryQueue[M]] struct {
	q     Q
	sends bool
	relax relax
}

func openXsync[A tryQueue[[8]byte], B tryQueue[[64]byte], C tryQueue[[256]byte]](a *Args, which int, of8 func(int) A, of64 func(int) B, of256 func(int) C) (conn, error) {
	sends, r := a.sends() == (which == 0), relax{crowded: a.crowded()}
	switch a.Size {
	case 8:
		return &xsyncConn[[8]byte, A]{sharedQueue(which, func() A { return of8(a.Slots) }), sends, r}, nil
	case 64:
		return &xsyncConn[[64]byte, B]{sharedQueue(which, func() B { return of64(a.Slots) }), sends, r}, nil
	}
	return &xsyncConn[[256]byte, C]{sharedQueue(which, func() C { return of256(a.Slots) }), sends, r}, nil
}

func (c *xsyncConn[M, Q]) stream(n int, first uint64) (sum uint64, err error) {
	var m M
	for v := first; v < first+uint64(n); v++ {
		if c.sends {
			put(&m, v)
			sum += v
			for !c.q.TryEnqueue(m) {
				c.relax.step()
			}
			continue
		}
		for ok := false; ; c.relax.step() {
			if m, ok = c.q.TryDequeue(); ok {
				break
			}
		}
		sum += get(&m)
	}
	return sum, nil
}

func (c *xsyncConn[M, Q]) send(msg []byte) error {
	for !c.q.TryEnqueue(M(msg)) {
		c.relax.step()
	}
	return nil
}

func (c *xsyncConn[M, Q]) receive(buf []byte) error {
	for {
		if m, ok := c.q.TryDequeue(); ok {
			copyOut(buf, &m)
			return nil
		}
		c.relax.step()
	}
}

func (c *xsyncConn[M, Q]) close() error { return nil }

func put[M message](m *M, v uint64) { binary.LittleEndian.PutUint64(bytesOf(m), v) }

func get[M message](m *M) uint64 { return binary.LittleEndian.Uint64(bytesOf(m)) }

func copyOut[M message](buf []byte, m *M) { copy(buf, bytesOf(m)) }

// bytesOf is a value as the slice of its bytes.
func bytesOf[M message](m *M) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(m)), unsafe.Sizeof(*m))
}
