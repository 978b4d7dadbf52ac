package ring

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"time"

	"github.com/cd1900cf/millrace/internal/atomicx"
	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/internal/testpoint"
	"github.com/cd1900cf/millrace/seg"
)

// OpenOption changes how a ring is opened or removed.
type OpenOption func(*opening)

type opening struct {
	dir       string
	readOnly  bool
	ifDrained bool
	force     bool
	logger    *slog.Logger
}

func openingOf(opts []OpenOption) opening {
	var o opening
	for _, f := range opts {
		f(&o)
	}
	if o.dir == "" {
		o.dir = seg.DefaultDir()
	}
	return o
}

// WithDir names the directory that the ring lies in; default /dev/shm, or $MILLRACE_DIR.
func WithDir(dir string) OpenOption { return func(o *opening) { o.dir = dir } }

// WithLogger logs registrations, recoveries and corruption; default silent.
func WithLogger(l *slog.Logger) OpenOption { return func(o *opening) { o.logger = l } }

// ReadOnly opens a ring for observing only: Stats, Participants and Peek. It maps read-only, registers nothing and needs read permission only.
func ReadOnly() OpenOption { return func(o *opening) { o.readOnly = true } }

// IfDrained makes Remove answer ErrInUse when unread messages are left.
func IfDrained() OpenOption { return func(o *opening) { o.ifDrained = true } }

// WithForce makes Remove mark the ring as removed and wake everybody, whose calls return ErrSegmentLost, and unlink it even while it is in use.
func WithForce() OpenOption { return func(o *opening) { o.force = true } }

// Create makes a ring that did not exist. Any number of processes may race: one succeeds, the others get fs.ErrExist, and nobody ever sees a half-made ring.
//
// Blocks: while the memory is reserved and cleared, about a millisecond a MiB. Errors: *OptionError (fs.ErrInvalid), fs.ErrExist, fs.ErrPermission, and errors of the machine that say which limit was met.
func Create(name string, o Options) (*Ring, error) {
	o = o.withDefaults()
	h, err := o.header()
	if err != nil {
		return nil, fmt.Errorf("ring: create %q: %w", name, err)
	}
	s, err := seg.Create(name, seg.CreateOptions{
		Dir: o.Dir, Backing: o.Backing, Huge: o.HugePages, Perm: o.Perm, Header: h,
		Init: func(mem []byte) { initialise(mem, h) },
	})
	if err != nil {
		return nil, fmt.Errorf("ring: create %q: %w", name, err)
	}
	r := newRing(s, o.Dir, o.Logger)
	r.log("created", "kind", o.Kind.String(), "slots", o.Slots, "slot_size", o.SlotSize)
	return r, nil
}

// Open opens a ring by name. fs.ErrNotExist when there is none, *FormatError when something else lies there.
func Open(name string, opts ...OpenOption) (*Ring, error) {
	o := openingOf(opts)
	s, err := seg.Open(name, seg.OpenOptions{Dir: o.dir, ReadOnly: o.readOnly})
	return opened(s, err, name, o)
}

// OpenFile opens a ring that was handed on by descriptor, a memfd for example. The file stays the caller's.
func OpenFile(f *os.File, opts ...OpenOption) (*Ring, error) {
	o := openingOf(opts)
	s, err := seg.OpenFile(f, seg.OpenOptions{ReadOnly: o.readOnly})
	return opened(s, err, f.Name(), o)
}

// opened wraps a segment.
func opened(s *seg.Segment, err error, name string, o opening) (*Ring, error) {
	if err != nil {
		return nil, fmt.Errorf("ring: open %q: %w", name, err)
	}
	return newRing(s, o.dir, o.logger), nil
}

// OpenOrCreate opens a ring, or creates it when there is none. When it exists, zero fields of o match anything; other fields but Perm,
// HugePages, Dir, Temporary and Logger must be equal: ErrMismatch names the first that is not. ErrUnsupported for memfd, which has no name.
func OpenOrCreate(name string, o Options) (r *Ring, created bool, err error) {
	if o.Backing == seg.Memfd {
		return nil, false, fmt.Errorf("ring: open or create %q: a memfd cannot be opened by name; use Create, hand File on, and use OpenFile: %w", name, ErrUnsupported)
	}
	for range 1000 {
		r, err = Open(name, WithDir(o.Dir), WithLogger(o.Logger))
		if err == nil {
			if err = o.matches(r.options); err != nil {
				return nil, false, fmt.Errorf("ring: open %q: %w", name, errors.Join(err, r.Close()))
			}
			return r, false, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, false, err
		}
		if r, err = Create(name, o); !errors.Is(err, fs.ErrExist) {
			return r, err == nil, err
		}
	}
	return nil, false, err // created and removed by others a thousand times meanwhile
}

// matches compares the options that were asked for with those in force.
func (o Options) matches(have Options) error {
	for _, f := range []struct {
		name      string
		want, got uint64
	}{
		{"Kind", uint64(o.Kind), uint64(have.Kind)},
		{"Slots", uint64(o.Slots), uint64(have.Slots)},
		{"SlotSize", uint64(o.SlotSize), uint64(have.SlotSize)},
		{"OnConsumerDeath", uint64(o.OnConsumerDeath), uint64(have.OnConsumerDeath)},
		{"MaxDeliveries", uint64(o.MaxDeliveries), uint64(have.MaxDeliveries)},
		{"Backing", uint64(o.Backing), uint64(have.Backing)},
		{"Participants", uint64(o.Participants), uint64(have.Participants)},
	} {
		if f.want != 0 && f.want != f.got {
			return fmt.Errorf("%w: %s is %d there, %d was asked for; open it with its own options or remove it first", ErrMismatch, f.name, f.got, f.want)
		}
	}
	return nil
}

// Remove unlinks a ring; unread messages go with it. ErrInUse while anybody is attached, this process included, and with IfDrained while
// unread messages are left. fs.ErrNotExist when there is none.
func Remove(name string, opts ...OpenOption) error {
	o := openingOf(opts)
	ro := seg.RemoveOptions{Dir: o.dir}
	if o.ifDrained {
		ro.Check = func(mem []byte, h layout.Header) (err error) {
			c := newCore(mem, h, nil)
			if n := c.unread(); n > 0 {
				return fmt.Errorf("%w: %d unread messages are left", ErrInUse, n)
			}
			return nil
		}
	}
	if o.force {
		ro.Force = func(mem []byte, h layout.Header) error {
			c := newCore(mem, h, nil)
			c.ctl.removed.Store(1) // order: X6 rel, pairs X6
			c.ctl.notEmpty.notifyAll()
			c.ctl.notFull.notifyAll()
			return nil
		}
	}
	if err := seg.Remove(name, ro); err != nil {
		return fmt.Errorf("ring: remove %q: %w", name, err)
	}
	return nil
}

// unread counts the messages that are committed and not released; math.MaxInt when a producer is in the middle of one.
func (c *core) unread() int {
	n := 0
	c.walk(func(p, e, w uint64, s standing, length uint64) bool {
		switch s {
		case standReady, standTaken:
			n++
		case standClaimed:
			n = math.MaxInt - 1
			return false
		}
		return true
	})
	return n
}

// ProducerOption changes a new producer, ConsumerOption a new consumer; an Option does both.
type (
	ProducerOption interface{ producer(*Producer) }
	ConsumerOption interface{ consumer(*Consumer) }
	Option         interface {
		ProducerOption
		ConsumerOption
	}
)

type producerOption func(*Producer)

func (f producerOption) producer(p *Producer) { f(p) }

type consumerOption func(*Consumer)

func (f consumerOption) consumer(q *Consumer) { f(q) }

type handleOption func(*handle)

func (f handleOption) producer(p *Producer) { f(&p.handle) }
func (f handleOption) consumer(q *Consumer) { f(&q.handle) }

// WaitForConsumers makes blocking sends wait while nobody is left to read, instead of returning ErrNoConsumers.
func WaitForConsumers() ProducerOption {
	return producerOption(func(p *Producer) { p.waitForConsumers = true })
}

// Follow makes a consumer wait for new producers at the end of the stream, instead of returning io.EOF.
func Follow() ConsumerOption { return consumerOption(func(q *Consumer) { q.follow = true }) }

// Grace makes a consumer wait up to d for a successor when the last producer died without Close.
func Grace(d time.Duration) ConsumerOption {
	return consumerOption(func(q *Consumer) { q.grace = d })
}

// WithoutFaultGuard takes the guard off the Ring that the handle is made with: when somebody truncates the segment, the process dies by SIGBUS instead of
// getting ErrSegmentLost. A call costs as much as with it.
func WithoutFaultGuard() Option { return handleOption(func(h *handle) { h.unguarded = true }) }

// adopt starts a producer where the ring stands; for SPSC it settles what the last one left (FORMAT 10.3).
func (p *Producer) adopt() error {
	c := p.c
	p.pos = c.ctl.producerPosition.Load() // order: P0 acq, pairs P7 S5
	if p.plain() {
		p.fast, p.words = c.slotSize+1, c.words()
	}
	if c.kind == MPMC {
		p.slipped, p.slips = p.pos, slipPauses(c)
		return nil
	}
	p.fetchMask = c.fetchMask
	limit := c.ctl.consumerPosition.Load() // order: S1 acq, pairs D4
	for range c.slots {
		e, ok := spscEnd(c.state(p.pos).Load(), p.pos, c.slots) // order: D1 acq, pairs S4
		if !ok {
			break
		}
		p.pos = e
	}
	if p.pos-limit > c.slots {
		return corrupt("consumer position", p.pos, limit)
	}
	p.limit = limit
	if c.ctl.reservedPosition.Load() == p.pos+1 { // order: S5 acq, pairs S3 of the last owner
		t := p.pos
		c.count(t, c.state(t).Load(), accountSkipped)             // order: V9 acq, own role
		c.entry(t).length.Store(layout.FlagPad | layout.FlagSkip) // order: S3 rlx, pairs D2
		c.state(t).Store(spscReadyWord(t+1, 0))                   // order: S4 rel, pairs D1
		testpoint.Hit("10.3 skipped")
		p.pos++
	}
	c.ctl.reservedPosition.Store(0)     // order: S5 rel, own role
	c.ctl.producerPosition.Store(p.pos) // order: S5 rel, own role
	testpoint.Hit("10.3")
	return nil
}

// adopt starts a consumer where the ring stands; for SPSC it settles what the last one left (FORMAT 10.4).
func (q *Consumer) adopt() error {
	c := q.c
	q.expect(0)
	q.pace()
	q.pos = c.ctl.consumerPosition.Load() // order: C1 acq, pairs C6 D4
	q.given = q.pos
	q.slipped = q.pos
	if c.kind == MPMC {
		q.seen = c.ctl.returns.Load() - 1 // order: C0 acq; never equal, so the first call looks for messages that were given back
		return nil
	}
	q.pos = c.spscSettle()
	q.given = q.pos
	q.runEnd = q.pos
	if e, length, ok := c.insideRun(q.pos); ok {
		if _, valid := spscEnd(c.state(q.pos).Load(), q.pos, c.slots); !valid { // order: D1 acq, pairs S4 J4
			q.runEnd, q.runLength = e, length&^uint64(layout.FlagRun)
		}
	}
	atomicx.StoreRelease(&c.ctl.spacePosition, q.pos) // order: D5 rel, pairs S1
	testpoint.Hit("10.4")
	return nil
}

// spscSettle gives back what the last consumer left leased, and returns where reading goes on. The caller holds the role.
func (c *core) spscSettle() uint64 {
	h := c.ctl.consumerPosition.Load() // order: D4 acq, pairs D4 of the last owner
	leased := c.ctl.leaseEnd.Load()    // order: L2 acq, pairs L2 of the last owner
	if d := leased - h; d-1 < c.slots {
		return c.spscGiveBack(h, leased, true)
	}
	c.ctl.journal.Store(0) // order: J1 rel, own role
	return h
}
