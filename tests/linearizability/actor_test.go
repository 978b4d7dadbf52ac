//go:build linux

package linearizability

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cd1900cf/millrace/internal/testpoint"
	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/seg"
	"github.com/cd1900cf/millrace/tests/internal/clock"
	"github.com/cd1900cf/millrace/tests/internal/proc"
)

// The children. Each runs one history after the other: it opens a ring, becomes some of its participants, one goroutine each, and lets them make
// random calls.

// part is what one actor of a history is to do.
type part struct {
	actor    uint8
	producer bool
	late     bool // it takes the place of one that died, and registers while the others work
	budget   int  // messages to send
	style    style
	seed     uint64
}

// style is what the calls of a history are like.
type style int

const (
	mixed     style = iota
	eager           // Try calls without pauses, for large messages
	returning       // much of what is leased is given back
	styles
)

func (p part) String() string {
	return fmt.Sprintf("%d:%t:%t:%d:%d:%d", p.actor, p.producer, p.late, p.budget, p.style, p.seed)
}

// parsePart is the inverse of String.
func parsePart(s string) (p part, err error) {
	_, err = fmt.Sscanf(strings.ReplaceAll(s, ":", " "), "%d %t %t %d %d %d", &p.actor, &p.producer, &p.late, &p.budget, &p.style, &p.seed)
	return p, err
}

const slotSize = 64

// Messages carry their identity and a pattern that follows from it, in one or two slots, inline or not.
var sizes = []int{8, 13, 40, 48, 49, 64, 65, 100, 128}

func slotsOf(size int) uint8 { return uint8((size + slotSize - 1) / slotSize) }

// encode makes the message id of so many bytes.
func encode(id uint64, size int) []byte {
	b := make([]byte, size)
	binary.LittleEndian.PutUint64(b, id)
	for i := 8; i < size; i++ {
		b[i] = byte(id) ^ byte(id>>8) ^ byte(i)
	}
	return b
}

// torn is the identity of a message that is not as it was sent.
const torn = 0xFFFF

func decode(b []byte) uint64 {
	if len(b) < 8 {
		return torn
	}
	id := binary.LittleEndian.Uint64(b)
	if id > torn || string(encode(id, len(b))) != string(b) {
		return torn
	}
	return id
}

// child is the task of a child process: the directory of its rings and its journal.
func child(c *proc.Child) error {
	j, err := openJournal(c.Args[0] + "/journal")
	if err != nil {
		return err
	}
	if _, err := keepWatching(c.Args[0]); err != nil {
		return err
	}
	var points points
	testpoint.Hook(points.hit)
	for {
		f := strings.Fields(c.Wait()) // run NAME HITS PART...
		var hits int64
		if _, err := fmt.Sscan(f[2], &hits); err != nil {
			return err
		}
		if err := play(c, j, f[1], func() { points.left.Store(hits) }, c.Args[0], f[3:]); err != nil {
			return err
		}
		points.left.Store(0)
		c.Say("done")
	}
}

// keepWatching keeps one segment under watch until stop. The end of a process's last watch takes the kernel some milliseconds, which is longer than
// a history.
func keepWatching(dir string) (stop func() error, err error) {
	s, err := seg.Open("base", seg.OpenOptions{Dir: dir})
	if err != nil {
		return nil, err
	}
	w, err := s.Watch(func() {})
	if err != nil { // there is no inotify, so nothing takes long
		return s.Close, nil
	}
	return func() error {
		w.Stop()
		return s.Close()
	}, nil
}

// points disturbs the process at the steps of the protocol, in builds that have labels for them: it lets others run, and ends the process at the
// hit that it was told.
type points struct{ left atomic.Int64 }

func (p *points) hit(string) {
	if p.left.Load() > 0 && p.left.Add(-1) == 0 {
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		select {}
	}
	switch n := rand.Uint32(); {
	case n&31 == 0:
		time.Sleep(time.Duration(n>>8&63) * time.Microsecond)
	case n&7 == 0:
		runtime.Gosched()
	}
}

// play is one history.
func play(c *proc.Child, j *journal, name string, arm func(), dir string, parts []string) (err error) {
	r, err := ring.Open(name, ring.WithDir(dir))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	var actors []*actor
	for _, s := range parts {
		p, err := parsePart(s)
		if err != nil {
			return err
		}
		a := &actor{part: p, r: r, area: &j.areas[p.actor], rnd: rand.New(rand.NewPCG(p.seed, 1)), buf: make([]byte, r.MaxMessage())}
		if !p.late {
			if err := a.register(); err != nil {
				return err
			}
		}
		actors = append(actors, a)
	}
	c.Say("ready")
	errs := make([]error, len(actors))
	var running sync.WaitGroup
	arm()
	for i, a := range actors {
		running.Go(func() {
			for j.start.Load() == 0 {
				runtime.Gosched()
			}
			errs[i] = a.act()
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// actor is one participant.
type actor struct {
	part
	r     *ring.Ring
	p     *ring.Producer
	q     *ring.Consumer
	area  *area
	rnd   *rand.Rand
	buf   []byte
	seq   uint64
	tries int // Try calls that found nothing, and messages returned
	err   error
}

func (a *actor) register() (err error) {
	if a.producer {
		a.p, err = a.r.NewProducer()
	} else {
		a.q, err = a.r.NewConsumer()
	}
	return err
}

// outcome classifies the error of a call.
func (a *actor) outcome(err error) outcome {
	switch {
	case err == nil:
		return fine
	case errors.Is(err, ring.ErrFull):
		return full
	case errors.Is(err, ring.ErrEmpty):
		return empty
	case errors.Is(err, io.EOF):
		return eof
	case errors.Is(err, ring.ErrNoConsumers):
		return noConsumers
	}
	a.err = fmt.Errorf("actor %d: %w", a.actor, err)
	return failed
}

// pick chooses a kind of call: those from 30 to 60 are Try calls, as long as not too many found nothing.
func (a *actor) pick() int {
	if a.style == eager && a.rnd.IntN(4) > 0 && a.tries < a.mostTries() {
		return 30 + a.rnd.IntN(30)
	}
	return a.rnd.IntN(100)
}

// mostTries is how many Try calls of an actor may find nothing, and how much it may give back.
func (a *actor) mostTries() int {
	if a.style == mixed {
		return 6
	}
	return 16
}

// pause lets the others get on, now and then.
func (a *actor) pause() {
	if a.style == eager {
		return
	}
	switch a.rnd.IntN(16) {
	case 0:
		time.Sleep(time.Duration(a.rnd.IntN(60)) * time.Microsecond)
	case 1, 2, 3, 4:
		runtime.Gosched()
	}
}

// do makes one call and writes it down; note, if any, writes down its results.
func (a *actor) do(c call, n int, msgs []uint64, f func() error, note func(*record)) outcome {
	if a.rnd != nil {
		a.pause()
	}
	r := a.area.begin(c, n, msgs...)
	err := f()
	now := clock.Now()
	if note != nil {
		note(r)
	}
	o := a.outcome(err)
	r.end(now, o)
	return o
}

// room says whether the journal takes n more calls.
func (a *actor) room(n int) bool { return a.err == nil && a.area.records.Load()+uint64(n) < maxRecords }

func (a *actor) act() error {
	if a.late && a.do(callRegister, 0, nil, func() error { return a.register() }, nil) != fine {
		return a.err
	}
	if a.producer {
		a.produce()
	} else {
		a.consume()
	}
	return a.err
}

// message makes the next message, and the word for it in the journal.
func (a *actor) message() (msg []byte, word uint64) {
	a.seq++
	id := uint64(a.actor)<<8 | a.seq
	size := sizes[a.rnd.IntN(len(sizes))]
	if a.style == eager && a.rnd.IntN(2) == 0 {
		size = sizes[len(sizes)-1]
	}
	if most := a.r.MaxMessage(); size > most {
		size = most
	}
	return encode(id, size), id<<16 | uint64(size)
}

func (a *actor) messages(n int) (msgs [][]byte, words []uint64) {
	even := a.rnd.IntN(2) == 0 && n > 1
	for i := range n {
		m, w := a.message()
		if even && i > 0 {
			w = w&^0xFFFF | words[0]&0xFFFF
			m = encode(w>>16, int(w&0xFFFF))
		}
		msgs, words = append(msgs, m), append(words, w)
	}
	return msgs, words
}

var forever = context.Background()

// produce sends messages in every way, and closes.
func (a *actor) produce() {
	for a.budget > 0 && a.room(4) {
		n := 1
		o := fine
		switch pick := a.pick(); {
		case pick < 30:
			m, w := a.message()
			o = a.do(callSend, 1, []uint64{w}, func() error { return a.p.Send(forever, m) }, nil)
		case pick < 45 && a.tries < a.mostTries():
			m, w := a.message()
			o = a.do(callTrySend, 1, []uint64{w}, func() error { return a.p.TrySend(m) }, nil)
		case pick < 60 && a.tries < a.mostTries():
			n = 2 + a.rnd.IntN(maxBatch-1)
			m, w := a.messages(n)
			done := 0
			o = a.do(callTrySendBatch, n, w, func() (err error) { done, err = a.p.TrySendBatch(m); return err }, func(r *record) { r.results.Store(uint64(done)) })
		case pick < 75:
			n = 2 + a.rnd.IntN(maxBatch-1)
			m, w := a.messages(n)
			done := 0
			o = a.do(callSendBatch, n, w, func() (err error) { done, err = a.p.SendBatch(forever, m); return err }, func(r *record) { r.results.Store(uint64(done)) })
		default:
			o = a.reserve(a.rnd.IntN(100))
		}
		a.budget -= n
		switch o {
		case full:
			a.tries++
		case noConsumers:
			a.budget = 0
		}
		if a.p == nil {
			return
		}
	}
	if a.err == nil {
		a.do(callClose, 0, nil, func() error { return a.p.Close() }, nil)
	}
}

// reserve fills a message in place.
func (a *actor) reserve(pick int) outcome {
	m, w := a.message()
	size := len(m)
	if pick < 20 {
		size = min(128, a.r.MaxMessage()) // more than is needed
	}
	var t ring.Reservation
	c, f := callReserve, func() (err error) { t, err = a.p.Reserve(forever, size); return err }
	if a.tries < a.mostTries() && pick%2 == 0 {
		c, f = callTryReserve, func() (err error) { t, err = a.p.TryReserve(size); return err }
	}
	if o := a.do(c, size, []uint64{w}, f, nil); o != fine {
		return o
	}
	switch {
	case pick < 70:
		copy(t.Bytes(), m)
		return a.do(callCommit, 0, []uint64{w}, func() error { return t.CommitN(len(m)) }, nil)
	case pick < 95:
		return a.do(callDiscard, 0, []uint64{w}, func() error { return t.Discard() }, nil)
	}
	a.do(callClose, 1, []uint64{w}, func() error { return a.p.Close() }, nil) // discards it
	a.p = nil
	return fine
}

// consume receives messages in every way until the stream ends, and closes.
func (a *actor) consume() {
	got := -1
	received := a.received(&got)
	for a.room(3 + maxBatch) {
		o := fine
		switch pick := a.pick(); {
		case pick < 25:
			o = a.do(callReceive, 1, nil, func() (err error) { got, err = failing(a.q.Receive(forever, a.buf)); return err }, received)
		case pick < 45 && a.tries < a.mostTries():
			o = a.do(callTryReceive, 1, nil, func() (err error) { got, err = failing(a.q.TryReceive(a.buf)); return err }, received)
		case pick < 50 && a.tries < a.mostTries():
			o = a.lease(callTryNext, 1)
		case pick < 60 && a.tries < a.mostTries():
			o = a.lease(callTryNextBatch, 1+a.rnd.IntN(maxBatch))
		case pick < 80:
			o = a.lease(callNext, 1)
		default:
			o = a.lease(callNextBatch, 1+a.rnd.IntN(maxBatch))
		}
		if o == empty {
			a.tries++
		}
		if a.q == nil {
			return
		}
		if o == eof {
			break
		}
	}
	if a.err == nil {
		a.do(callClose, 0, nil, func() error { return a.q.Close() }, nil)
	}
}

// received writes down the message of n bytes that was copied, if there is one.
func (a *actor) received(n *int) func(*record) {
	return func(r *record) {
		if *n >= 0 {
			last := a.q.Last()
			r.note(0, decode(a.buf[:*n]), last.Position, last.Deliveries)
		}
	}
}

// failing makes the size of what was not received -1.
func failing(n int, err error) (int, error) {
	if err != nil {
		n = -1
	}
	return n, err
}

// note writes down the i-th message of a call's result.
func (r *record) note(i int, id, position uint64, deliveries int) {
	r.got[i][0].Store(id)
	r.got[i][1].Store(position)
	r.got[i][2].Store(uint64(deliveries))
	r.results.Store(uint64(i + 1))
}

// lease takes messages, and gives them up in one way or another.
func (a *actor) lease(c call, limit int) outcome {
	var held []ring.Message
	o := a.do(c, limit, nil, func() (err error) { held, err = a.take(c, limit); return err }, func(r *record) {
		for i, m := range held {
			r.note(i, decode(m.Bytes()), m.Position(), m.Deliveries())
		}
	})
	if o != fine {
		return o
	}
	whole := a.rnd.IntN(2) == 0
	for len(held) > 0 {
		pick := a.rnd.IntN(100)
		n := 1
		if whole {
			n = len(held)
		}
		switch {
		case (pick < 12 || pick < 50 && a.style == returning) && a.tries < a.mostTries():
			a.tries++
			a.do(callReturn, len(held), nil, func() error { return held[0].Return() }, nil)
			return fine
		case pick > 96:
			a.do(callClose, len(held), nil, func() error { return a.q.Close() }, nil)
			a.q = nil
			return fine
		}
		a.do(callRelease, n, nil, func() error { return held[n-1].Release() }, nil)
		held = held[n:]
	}
	return fine
}

func (a *actor) take(c call, limit int) (held []ring.Message, err error) {
	var m ring.Message
	var b ring.Batch
	switch c {
	case callNext:
		m, err = a.q.Next(forever)
	case callTryNext:
		m, err = a.q.TryNext()
	case callNextBatch:
		b, err = a.q.NextBatch(forever, limit)
	default:
		b, err = a.q.TryNextBatch(limit)
	}
	if err == nil && (c == callNext || c == callTryNext) {
		return []ring.Message{m}, nil
	}
	for i := range b.Len() {
		held = append(held, b.At(i))
	}
	return held, err
}
