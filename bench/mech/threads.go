package mech

import (
	"encoding/binary"
	"sync"
	"unsafe"

	"github.com/puzpuzpuz/xsync/v4"

	"github.com/cd1900cf/millrace/futex"
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
	mechanisms["go-channel"] = threads(sized(newChannel[[8]byte], newChannel[[64]byte], newChannel[[256]byte]))
	mechanisms["xsync-spsc"] = threads(sized(newXsyncSPSC[[8]byte], newXsyncSPSC[[64]byte], newXsyncSPSC[[256]byte]))
	mechanisms["xsync-mpmc"] = threads(sized(newXsyncMPMC[[8]byte], newXsyncMPMC[[64]byte], newXsyncMPMC[[256]byte]))
}

// sized opens the queue of values that have the size of the message.
func sized(of8, of64, of256 func(a *Args, which int) conn) opener {
	return func(a *Args, which int, _ bool) (conn, error) {
		switch a.Size {
		case 8:
			return of8(a, which), nil
		case 64:
			return of64(a, which), nil
		}
		return of256(a, which), nil
	}
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

func newChannel[M message](a *Args, which int) conn {
	c := sharedQueue(which, func() chan M { return make(chan M, a.Slots) })
	return &channelConn[M]{c: c, sends: a.sends() == (which == 0)}
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

// The two queues of xsync have no type in common here: a call through one could not be a direct call.

type xsyncSPSC[M message] struct {
	q     *xsync.SPSCQueue[M]
	sends bool
}

func newXsyncSPSC[M message](a *Args, which int) conn {
	return &xsyncSPSC[M]{sharedQueue(which, func() *xsync.SPSCQueue[M] { return xsync.NewSPSCQueue[M](a.Slots) }), a.sends() == (which == 0)}
}

func (c *xsyncSPSC[M]) stream(n int, first uint64) (sum uint64, err error) {
	var m M
	for v := first; v < first+uint64(n); v++ {
		if c.sends {
			put(&m, v)
			sum += v
			for !c.q.TryEnqueue(m) {
				futex.Pause(1)
			}
			continue
		}
		ok := false
		for m, ok = c.q.TryDequeue(); !ok; m, ok = c.q.TryDequeue() {
			futex.Pause(1)
		}
		sum += get(&m)
	}
	return sum, nil
}

func (c *xsyncSPSC[M]) send([]byte) error    { return errOnlyStream }
func (c *xsyncSPSC[M]) receive([]byte) error { return errOnlyStream }
func (c *xsyncSPSC[M]) close() error         { return nil }

type xsyncMPMC[M message] struct {
	q     *xsync.MPMCQueue[M]
	sends bool
	relax relax
}

func newXsyncMPMC[M message](a *Args, which int) conn {
	q := sharedQueue(which, func() *xsync.MPMCQueue[M] { return xsync.NewMPMCQueue[M](a.Slots) })
	return &xsyncMPMC[M]{q, a.sends() == (which == 0), relax{crowded: a.crowded()}}
}

func (c *xsyncMPMC[M]) stream(n int, first uint64) (sum uint64, err error) {
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
		ok := false
		for m, ok = c.q.TryDequeue(); !ok; m, ok = c.q.TryDequeue() {
			c.relax.step()
		}
		sum += get(&m)
	}
	return sum, nil
}

func (c *xsyncMPMC[M]) send([]byte) error    { return errOnlyStream }
func (c *xsyncMPMC[M]) receive([]byte) error { return errOnlyStream }
func (c *xsyncMPMC[M]) close() error         { return nil }

func put[M message](m *M, v uint64) { binary.LittleEndian.PutUint64(bytesOf(m), v) }

func get[M message](m *M) uint64 { return binary.LittleEndian.Uint64(bytesOf(m)) }

func copyOut[M message](buf []byte, m *M) { copy(buf, bytesOf(m)) }

// bytesOf is a value as the slice of its bytes.
func bytesOf[M message](m *M) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(m)), unsafe.Sizeof(*m))
}
