// Package ring is a lock-free queue over shared memory for unrelated processes on one machine.
//
// A ring is one segment of shared memory. Any number of processes open it by name, or by descriptor, and register producers and
// consumers: one of each for SPSC, up to 4,096 in all for MPMC. It survives SIGKILL of any participant at any instruction: committed messages
// stay, a dead participant's claims are repaired by whoever needs them, and nothing is taken from a process that is merely slow. docs/FORMAT.md
// is the protocol, docs/FAILURES.md says what each death leaves, docs/ORDERING.md names every memory ordering.
//
// The files in reading order: word.go (the state words), core.go (the memory), mpmc.go and spsc.go (the algorithms), copy.go, send.go, receive.go and inplace.go (what happens
// to almost every message), pages.go, lease.go, batch.go, run.go and row.go, recover.go, census.go (who lives), event.go, spin.go and wait.go (waiting), producer.go, consumer.go and typed.go (the API).
package ring

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/bits"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cd1900cf/millrace/futex"
	"github.com/cd1900cf/millrace/internal/atomicx"
	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/seg"
)

// Kind says how many producers and consumers a ring takes.
type Kind uint32

const (
	SPSC Kind = 1 // one producer, one consumer at a time
	MPMC Kind = 2 // many of both
)

func (k Kind) String() string {
	switch k {
	case SPSC:
		return "spsc"
	case MPMC:
		return "mpmc"
	}
	return fmt.Sprintf("kind(%d)", uint32(k))
}

// DeathPolicy says what happens to a message whose consumer died holding it.
type DeathPolicy uint32

const (
	Redeliver DeathPolicy = 1 // another consumer gets it, with its delivery count above 1
	Drop      DeathPolicy = 2 // it is counted as lost
)

func (d DeathPolicy) String() string {
	switch d {
	case Redeliver:
		return "redeliver"
	case Drop:
		return "drop"
	}
	return fmt.Sprintf("policy(%d)", uint32(d))
}

// Options describe a ring. The zero value is a usable MPMC ring.
type Options struct {
	Kind            Kind          // default MPMC
	Slots           int           // a power of two, 1..2^24; default 1024
	SlotSize        int           // payload bytes in one slot, 1..2^30; default 256
	OnConsumerDeath DeathPolicy   // default Redeliver
	MaxDeliveries   int           // 0..48; 0: no limit
	Participants    int           // producers and consumers at once; default 256, 1..4096
	Backing         seg.Backing   // seg.POSIX (default), seg.SysV, seg.Memfd
	HugePages       seg.HugePages // seg.NoHuge (default), seg.Transparent, seg.Huge2M, seg.Huge1G
	Perm            fs.FileMode   // default 0600
	Dir             string        // default /dev/shm, or $MILLRACE_DIR
	Temporary       bool          // marks a ring that the receiver which read it to the end should remove; nothing happens by itself
	Logger          *slog.Logger  // nil: silent
}

const (
	defaultSlots        = 1024
	defaultSlotSize     = 256
	defaultParticipants = 256
	defaultPerm         = 0o600
)

// withDefaults replaces zero fields by what they stand for.
func (o Options) withDefaults() Options {
	fill := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
	}
	fill(&o.Slots, defaultSlots)
	fill(&o.SlotSize, defaultSlotSize)
	fill(&o.Participants, defaultParticipants)
	if o.Kind == 0 {
		o.Kind = MPMC
	}
	if o.OnConsumerDeath == 0 {
		o.OnConsumerDeath = Redeliver
	}
	if o.Backing == 0 {
		o.Backing = seg.POSIX
	}
	if o.Perm == 0 {
		o.Perm = defaultPerm
	}
	if o.Dir == "" {
		o.Dir = seg.DefaultDir()
	}
	return o
}

// OptionError names an option that is out of range. It is fs.ErrInvalid.
type OptionError = layout.OptionError

// header makes the ring's part of the segment header. Ranges that the layout knows are checked there.
func (o Options) header() (layout.Header, error) {
	bad := func(name string, got any, want string) (layout.Header, error) {
		return layout.Header{}, &OptionError{Option: name, Got: got, Want: want}
	}
	switch { // what the layout could not tell apart once it is cast to unsigned
	case o.Slots < 1 || bits.OnesCount(uint(o.Slots)) != 1:
		return bad("Slots", o.Slots, fmt.Sprintf("a power of two, 1 to %d", layout.MaxSlots))
	case o.SlotSize < 1:
		return bad("SlotSize", o.SlotSize, fmt.Sprintf("1 to %d", layout.MaxSlotSize))
	case o.Participants < 1 || o.Participants > layout.MaxParticipants:
		return bad("Participants", o.Participants, fmt.Sprintf("1 to %d", layout.MaxParticipants))
	case o.MaxDeliveries < 0 || o.MaxDeliveries > layout.MaxDeliveriesLimit:
		return bad("MaxDeliveries", o.MaxDeliveries, fmt.Sprintf("0 to %d", layout.MaxDeliveriesLimit))
	case o.Perm&^fs.ModePerm != 0:
		return bad("Perm", o.Perm, "permission bits only")
	}
	h := layout.Header{
		Kind: uint32(o.Kind), Policy: uint32(o.OnConsumerDeath), Slots: uint64(o.Slots), SlotSize: uint64(o.SlotSize),
		EntryStride: entryStride(o, atomicx.SharedIsSlow), Participants: uint32(o.Participants), MaxDeliveries: uint32(o.MaxDeliveries),
	}
	if o.Temporary {
		h.Flags |= layout.HeaderFlagTemporary
	}
	return h, h.Geometry(layout.Page)
}

// entryStride chooses the bytes from entry to entry. With a cache line each, a small message and its state word share one line, and
// neighbours do not fight over it; two to a line are enough for the smallest messages. A message of a cache line has two that are neighbours, which many
// processors fetch together; in an MPMC ring the state word is worth a line of its own.
//
// Where shared lines are slow, so are neighbours that one core asks for and another one uses: apart, a small message of an MPMC ring has two lines for itself, and the
// smallest of an SPSC ring have one, in a ring that does not fit into a core's first cache anyway.
func entryStride(o Options, apart bool) uint32 {
	const one, two = 48, 112 // bytes of payload beside the state word in one line, and in two
	switch {
	case o.Kind == MPMC && apart && o.SlotSize <= one:
		return 128
	case o.Kind == SPSC && o.SlotSize <= 16 && !(apart && o.Slots*64 > firstCache):
		return 32
	case o.Kind == SPSC && o.SlotSize > one && o.SlotSize <= two:
		return 128
	}
	return 64
}

// optionsOf reads the options in force from a header.
func optionsOf(s *seg.Segment, dir string) Options {
	h := s.Header()
	return Options{
		Kind: Kind(h.Kind), Slots: int(h.Slots), SlotSize: int(h.SlotSize), OnConsumerDeath: DeathPolicy(h.Policy), MaxDeliveries: int(h.MaxDeliveries),
		Participants: int(h.Participants), Backing: seg.Backing(h.Backing), HugePages: s.Huge(), Perm: fs.FileMode(h.Mode), Dir: dir,
		Temporary: h.Flags&layout.HeaderFlagTemporary != 0,
	}
}

// FormatVersion is the version of the wire format, docs/FORMAT.md.
const FormatVersion = layout.Version

// TemporaryHeader says whether a header, as seg.List returns it, is that of a ring created with Options.Temporary.
func TemporaryHeader(h *seg.Header) bool { return h.Flags&layout.HeaderFlagTemporary != 0 }

// A Ring is an open ring: one mapping of its segment. It may be used by any number of goroutines.
type Ring struct {
	c       *core
	seg     *seg.Segment
	options Options
	logger  *slog.Logger
	queues  *queues
	locks   locks

	mu      sync.Mutex
	handles []*handle
	closers []func() error
	closed  atomic.Bool
	sights  map[int]sight // what participants held at the last look
}

// newRing wraps an open segment.
func newRing(s *seg.Segment, dir string, logger *slog.Logger) *Ring {
	c := newCore(s.Bytes(), s.Header(), s)
	c.fault = s.Lost()
	return &Ring{c: c, seg: s, options: optionsOf(s, dir), logger: logger, queues: enterQueues(s.Header().ID), locks: segLocks{s}}
}

// segLocks opens descriptions for participants.
type segLocks struct{ *seg.Segment }

func (s segLocks) newLock() (locker, error) {
	l, err := s.NewLock()
	if err != nil {
		return nil, err
	}
	return l, nil
}

// NewHeap returns a ring in this process's own memory: the same algorithms on memory that the race detector sees, for tests of programs that use rings.
// It has no name and no file; deaths cannot happen in it.
func NewHeap(o Options) (*Ring, error) {
	o = o.withDefaults()
	h, err := o.header()
	if err != nil {
		return nil, err
	}
	return newHeap(o, h)
}

// newHeap makes a ring on heap memory, aligned to a page.
func newHeap(o Options, h layout.Header) (*Ring, error) {
	const page = layout.Page
	raw := make([]uint64, (h.SegmentSize+page)/8)
	mem := wordBytes(raw, page, h.SegmentSize)
	if _, err := rand.Read(h.ID[:]); err != nil {
		return nil, err
	}
	initialise(mem, h)
	k := &heapKeeper{held: map[int64]bool{}}
	c := newCore(mem, h, k)
	c.span = 0 // this memory the race detector sees, and would take a look at it for more than it is
	return &Ring{c: c, options: o, logger: o.Logger, queues: enterQueues(h.ID), locks: k}, nil
}

// Options returns what is in force; HugePages as actually obtained.
func (r *Ring) Options() Options { return r.options }

// MaxMessage returns the largest message in bytes: SlotSize x max(1, Slots/2).
func (r *Ring) MaxMessage() int { return int(r.c.maxMessage) }

// Name returns the name that the ring was created or opened by; empty for heap rings.
func (r *Ring) Name() string {
	if r.seg == nil {
		return ""
	}
	return r.seg.Name()
}

// Header returns the immutable header of the segment.
func (r *Ring) Header() layout.Header {
	if r.seg == nil {
		return layout.Header{}
	}
	return r.seg.Header()
}

// File returns a new descriptor of the ring's segment, to hand on to another process (OpenFile). ErrUnsupported for System V.
func (r *Ring) File() (*os.File, error) {
	switch {
	case r.closed.Load(): // order: heap
		return nil, ErrClosed
	case r.seg == nil:
		return nil, ErrUnsupported
	}
	return r.seg.File()
}

// Close closes all handles of this Ring and unmaps it: blocked calls return ErrClosed, open leases are given back, open reservations discarded.
//
// Blocks: until running calls have left, which is short; ten seconds for a handle with one that never does. Idempotent, and may come from any goroutine. The ring itself stays.
func (r *Ring) Close() error {
	r.mu.Lock()
	if r.closed.Swap(true) { // order: heap
		r.mu.Unlock()
		return nil
	}
	closers := slices.Clone(r.closers)
	for _, h := range r.handles { // all of them first: a call that is blocked on one handle must not take the end of another for the end of the stream
		h.waiter.Close()
	}
	r.mu.Unlock()
	var first error
	for _, c := range closers {
		if err := c(); err != nil && first == nil {
			first = err
		}
	}
	r.queues.leave()
	if r.seg != nil {
		if err := r.seg.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// NewProducer registers a producer. ErrRoleTaken when an SPSC ring has a live one, ErrTooManyParticipants when the table is full.
//
// Blocks: for some system calls; longer when the remains of a dead participant have to be recovered first.
// Lifetime: registered until Close, Ring.Close or the end of the process.
func (r *Ring) NewProducer(opts ...ProducerOption) (*Producer, error) {
	return r.newProducer(false, opts)
}

func (r *Ring) newProducer(typed bool, opts []ProducerOption) (_ *Producer, err error) {
	p := &Producer{typed: typed, resv: reservation{n: none}}
	for _, o := range opts {
		o.producer(p)
	}
	if err = r.join(p, &p.handle, &r.queues.notFull); err != nil {
		return nil, err
	}
	p.mapped = p.pos
	return p, nil
}

// NewConsumer registers a consumer. ErrRoleTaken when an SPSC ring has a live one, ErrTooManyParticipants when the table is full.
// Blocks and lives as NewProducer.
func (r *Ring) NewConsumer(opts ...ConsumerOption) (_ *Consumer, err error) {
	q := &Consumer{lease: lease{items: make([]item, 0, 1)}, one: one{word: none}}
	for _, o := range opts {
		o.consumer(q)
	}
	if err = r.join(q, &q.handle, &r.queues.notEmpty); err != nil {
		return nil, err
	}
	return q, nil
}

// role is a producer or a consumer that joins a ring.
type role interface {
	role() Role
	adopt() error
	Close() error
}

// join registers a handle and starts it where the ring stands.
func (r *Ring) join(who role, h *handle, q *futex.Queue) (err error) {
	role := who.role()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed.Load() { // order: heap
		return ErrClosed
	}
	if r.seg != nil && r.seg.ReadOnly() {
		return fmt.Errorf("ring: register a %s with %s, which is open for observing only: %w", role, r.Name(), fs.ErrPermission)
	}
	defer r.fault(&err)
	if h.unguarded && r.seg != nil {
		r.seg.Unguard()
	}
	if r.c.removed() {
		return ErrSegmentLost
	}
	if p, ok := who.(*Producer); ok && !p.typed && r.c.ctl.typed.Load() != 0 { // order: Y1 acq, pairs Y1
		return fmt.Errorf("%w: the ring carries typed values; use NewTypedProducer", ErrMismatch)
	}
	id, lock, err := r.c.register(r.locks, role)
	if err != nil {
		return err
	}
	*h = handle{c: r.c, ring: r, me: r.c.participant(id), id: uint32(id), kind: role, lock: lock, waiter: futex.NewWaiter(q),
		spsc: r.c.kind == SPSC, fenced: publishes() == layout.PublishFenced,
		single: min(runtime.NumCPU(), runtime.GOMAXPROCS(0)) == 1, alone: futex.OneProcessor()}
	if !h.spsc {
		h.apart = futex.Pauses(lookApart)
	}
	r.handles = append(r.handles, h)
	r.closers = append(r.closers, who.Close)
	r.queues.handles[role].Add(1) // order: heap
	if err = who.adopt(); err == nil {
		h.wakeEverybody()
	}
	if r.fault(&err); err != nil { // corrupt, or lost: nothing of ours is in the ring, so the registration ends as a death would
		r.handles, r.closers = r.handles[:len(r.handles)-1], r.closers[:len(r.closers)-1]
		r.queues.handles[role].Add(-1) // order: heap
		return errors.Join(err, lock.Close())
	}
	r.log("registered", "role", role.String(), "id", id)
	return nil
}

// forget takes a handle off the list; false when it is not on it any more.
func (r *Ring) forget(h *handle) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(r.handles, h)
	if i < 0 {
		return false
	}
	r.handles = slices.Delete(r.handles, i, i+1)
	r.closers = slices.Delete(r.closers, i, i+1)
	r.queues.handles[h.kind].Add(-1) // order: heap
	return true
}

// cut gives up the lock of a handle that a call does not leave: first it takes the ring's memory from this process, and if that fails, not even then.
func (r *Ring) cut(lock locker) error {
	err := fmt.Errorf("ring: close: a call on the handle has not ended in %v, it may have panicked: %w", closePatience, ErrMisuse)
	if r.seg != nil {
		r.log("cut off", "error", err)
		if e := r.seg.Cut(); e != nil {
			return errors.Join(err, e)
		}
		err = fmt.Errorf("%w; this process is cut off from %s: close the ring and open it again", err, r.Name())
	}
	return errors.Join(err, lock.Close())
}

func (r *Ring) expose() {
	if r.seg != nil {
		r.seg.Expose()
	}
}

func (r *Ring) log(msg string, args ...any) {
	if r.logger != nil {
		r.logger.Info("ring: "+msg, append([]any{"ring", r.Name()}, args...)...)
	}
}

// fault makes err ErrSegmentLost when the segment was lost during the call, or before.
func (r *Ring) fault(err *error) {
	if r.c.gone() {
		*err = ErrSegmentLost
	}
}
