package ring

import (
	"math"
	"sync/atomic"
	"unsafe"

	"github.com/cd1900cf/millrace/internal/atomicx"
	"github.com/cd1900cf/millrace/internal/layout"
)

// controlMargin is how many bytes of the header page, which ends with reserved ones, a control begins with.
const controlMargin = 128

// control is the control page, docs/FORMAT.md section 3.2. Each group is written by one side only.
//
// It begins with the last line of the page before, which nobody writes: to take the address of a field, compiled Go reads the first byte of the
// struct, and that must not be on the line that the producers write.
type control struct {
	_                [controlMargin]byte
	producerPosition atomic.Uint64
	reservedPosition atomic.Uint64 // SPSC producer
	_                [112]byte

	consumerPosition atomic.Uint64
	leaseEnd         atomic.Uint64 // SPSC consumer
	journal          atomic.Uint64 // SPSC consumer
	runEnd           atomic.Uint64 // SPSC consumer
	runLength        atomic.Uint64 // SPSC consumer
	_                [88]byte

	spacePosition atomic.Uint64 // SPSC consumer
	_             [120]byte

	returns atomic.Uint64
	_       [120]byte

	notEmpty event
	_        [120]byte

	notFull event
	_       [120]byte

	roster     atomic.Uint32
	removed    atomic.Uint32
	typed      atomic.Uint64
	recoveries atomic.Uint64
}

// participant is one entry of the participant table, docs/FORMAT.md section 3.3.
type participant struct {
	producer session
	consumer session
	pid      atomic.Uint32
	publish  atomic.Uint32
	since    atomic.Uint64
	ended    atomic.Uint64
	_        [16]byte

	held        atomic.Uint64
	sent        atomic.Uint64
	received    atomic.Uint64
	redelivered atomic.Uint64
	padding     atomic.Uint64
	discarded   atomic.Uint64
	sleeps      atomic.Uint64
	wakes       atomic.Uint64
}

// session counts what became of one id in one role.
type session struct{ registered, closed, died atomic.Uint32 }

// open says whether a session is begun and neither closed nor retired.
func (s *session) open() bool {
	// order: X5 acq, pairs R4 X2 V6. Values that fit no history (hostile bytes) count as not open.
	return s.registered.Load()-s.closed.Load()-s.died.Load() == 1
}

// entry is the fixed part of a slot's entry; inline payload follows.
type entry struct {
	state  atomic.Uint64
	length atomic.Uint64
}

// The build fails if a struct and the specification disagree.
var (
	_ [layout.ControlReservedPosition]struct{} = [unsafe.Offsetof(control{}.reservedPosition) - controlMargin]struct{}{}
	_ [layout.ControlConsumerPosition]struct{} = [unsafe.Offsetof(control{}.consumerPosition) - controlMargin]struct{}{}
	_ [layout.ControlLeaseEnd]struct{}         = [unsafe.Offsetof(control{}.leaseEnd) - controlMargin]struct{}{}
	_ [layout.ControlJournal]struct{}          = [unsafe.Offsetof(control{}.journal) - controlMargin]struct{}{}
	_ [layout.ControlRunEnd]struct{}           = [unsafe.Offsetof(control{}.runEnd) - controlMargin]struct{}{}
	_ [layout.ControlRunLength]struct{}        = [unsafe.Offsetof(control{}.runLength) - controlMargin]struct{}{}
	_ [layout.ControlSpacePosition]struct{}    = [unsafe.Offsetof(control{}.spacePosition) - controlMargin]struct{}{}
	_ [layout.ControlReturns]struct{}          = [unsafe.Offsetof(control{}.returns) - controlMargin]struct{}{}
	_ [layout.ControlNotEmpty]struct{}         = [unsafe.Offsetof(control{}.notEmpty) - controlMargin]struct{}{}
	_ [layout.ControlNotFull]struct{}          = [unsafe.Offsetof(control{}.notFull) - controlMargin]struct{}{}
	_ [layout.ControlRoster]struct{}           = [unsafe.Offsetof(control{}.roster) - controlMargin]struct{}{}
	_ [layout.ControlRemoved]struct{}          = [unsafe.Offsetof(control{}.removed) - controlMargin]struct{}{}
	_ [layout.ControlTyped]struct{}            = [unsafe.Offsetof(control{}.typed) - controlMargin]struct{}{}
	_ [layout.ControlRecoveries]struct{}       = [unsafe.Offsetof(control{}.recoveries) - controlMargin]struct{}{}

	_ [layout.ParticipantConsumerRegistered]struct{} = [unsafe.Offsetof(participant{}.consumer)]struct{}{}
	_ [layout.ParticipantProducerClosed]struct{}     = [unsafe.Offsetof(session{}.closed)]struct{}{}
	_ [layout.ParticipantProducerDied]struct{}       = [unsafe.Offsetof(session{}.died)]struct{}{}
	_ [layout.ParticipantPid]struct{}                = [unsafe.Offsetof(participant{}.pid)]struct{}{}
	_ [layout.ParticipantPublish]struct{}            = [unsafe.Offsetof(participant{}.publish)]struct{}{}
	_ [layout.ParticipantSince]struct{}              = [unsafe.Offsetof(participant{}.since)]struct{}{}
	_ [layout.ParticipantEnded]struct{}              = [unsafe.Offsetof(participant{}.ended)]struct{}{}
	_ [layout.ParticipantHeld]struct{}               = [unsafe.Offsetof(participant{}.held)]struct{}{}
	_ [layout.ParticipantSent]struct{}               = [unsafe.Offsetof(participant{}.sent)]struct{}{}
	_ [layout.ParticipantReceived]struct{}           = [unsafe.Offsetof(participant{}.received)]struct{}{}
	_ [layout.ParticipantRedelivered]struct{}        = [unsafe.Offsetof(participant{}.redelivered)]struct{}{}
	_ [layout.ParticipantPadding]struct{}            = [unsafe.Offsetof(participant{}.padding)]struct{}{}
	_ [layout.ParticipantDiscarded]struct{}          = [unsafe.Offsetof(participant{}.discarded)]struct{}{}
	_ [layout.ParticipantSleeps]struct{}             = [unsafe.Offsetof(participant{}.sleeps)]struct{}{}
	_ [layout.ParticipantWakes]struct{}              = [unsafe.Offsetof(participant{}.wakes)]struct{}{}
	_ [layout.ParticipantSize]struct{}               = [unsafe.Sizeof(participant{})]struct{}{}

	_ [layout.EntryLength]struct{} = [unsafe.Offsetof(entry{}.length)]struct{}{}
	_ [layout.EntrySize]struct{}   = [unsafe.Sizeof(entry{})]struct{}{}
)

// core is one mapping of a ring's memory, with private copies of everything that is immutable. Nothing of it is read from the
// segment again: what another process writes there later cannot move an index out of range.
type core struct {
	entries    unsafe.Pointer
	data       unsafe.Pointer
	slots      uint64
	mask       uint64
	slotSize   uint64
	stride     uint64
	entriesEnd unsafe.Pointer // behind the last entry
	inline     uint64
	ctl        *control
	hintMask   uint64          // a hint is stored when a position is passed that has none of these bits
	giveEvery  uint64          // an SPSC consumer gives space back when its position passes a multiple of so many and one, a power of two; either kind slips after so many,
	near, far  uint64          // so that the other side is not near, but so many positions away
	fault      *atomic.Uintptr // not 0 when the memory is lost

	accounts      unsafe.Pointer
	table         unsafe.Pointer
	participants  int
	maxSlots      uint64 // slots that one message or one part of a batch may take
	maxMessage    uint64
	maxSteps      int // bound on the steps of one call, FORMAT section 14
	maxDeliveries uint64
	start         uint64
	span          uint64 // positions whose memory a producer has mapped at once, see pages.go
	stretch       uint64 // a producer that finds the ring full spins until this many slots are free
	large         bool   // the ring is larger than caches, and stretch for that
	takeLines     bool   // a consumer takes the lines that it has read for itself, see lines.go,
	ahead         uint64 // and asks for the message so many positions ahead; 0: it does not
	fetchesNext   bool   // SPSC: a producer fetches the next line in advance
	beside        uint64 // bytes of payload that lie in the line of the entry
	takeMask      uint64 // the position behind the message that is the last of its line has none of these bits, where lines are taken; nowhere else
	fetchMask     uint64 // the same where lines are fetched
	kind          Kind
	policy        DeathPolicy

	keeper keeper
}

// keeper is what a ring needs from outside its memory: proof of life. *seg.Segment gives it; tests on heap memory bring their own.
type keeper interface {
	// Probe says whether somebody else holds the write lock on byte b.
	Probe(b int64) (locked bool, err error)
	// Hold takes the read lock on byte b, which proves that its owner is dead and keeps the id from being used again until release.
	Hold(b int64) (release func(), ok bool, err error)
}

// sound is the fault word of memory that cannot be lost.
var sound atomic.Uintptr

// gone says whether the memory was lost during the call that asks, or before: somebody truncated the file.
func (c *core) gone() bool {
	return c.fault.Load() != 0 // order: heap, written before the zeros can be seen that the call has read
}

// setMasks sets the masks of what is done with lines. Where it is not done they fit no position. One that hostile memory made up may fit: then it is done to a slot that
// is owned, which changes nothing.
func (c *core) setMasks() {
	entries := max(lineSize/c.stride, 1) // in a line
	c.takeMask, c.fetchMask = math.MaxUint64, math.MaxUint64
	if c.takeLines {
		c.takeMask = entries - 1
	}
	if c.fetchesNext {
		c.fetchMask = entries - 1
	}
}

// words returns the limit of messages of a word or two that are inline in an SPSC ring: 8 bytes, and fewer than so many more; 0: none are.
func (c *core) words() uint64 {
	if c.kind != SPSC || c.inline < wordSize {
		return 0
	}
	return min(c.inline, 2*wordSize) - wordSize + 1
}

// newCore casts mem once. The header was validated against the size of mem.
func newCore(mem []byte, h layout.Header, k keeper) *core {
	base := unsafe.Pointer(unsafe.SliceData(mem))
	c := &core{
		entries:       unsafe.Add(base, h.EntriesOffset),
		data:          unsafe.Add(base, h.DataOffset),
		slots:         h.Slots,
		mask:          h.Slots - 1,
		slotSize:      h.SlotSize,
		stride:        uint64(h.EntryStride),
		inline:        min(uint64(h.InlineSize), h.SlotSize), // only messages of one slot lie inline
		ctl:           (*control)(unsafe.Add(base, layout.ControlOffset-controlMargin)),
		accounts:      unsafe.Add(base, h.AccountsOffset),
		table:         unsafe.Add(base, h.ParticipantsOffset),
		participants:  int(h.Participants),
		maxSlots:      max(1, h.Slots/2),
		maxDeliveries: uint64(h.MaxDeliveries),
		start:         h.Start,
		kind:          Kind(h.Kind),
		policy:        DeathPolicy(h.Policy),
		keeper:        k,
		fault:         &sound,
	}
	c.stretch, c.large = stretchOf(c.kind, c.slots, c.stride+c.slotSize)
	c.takeLines = atomicx.SharedIsSlow && c.slots*(c.stride+c.slotSize) <= takeMost
	if c.takeLines {
		c.ahead = c.aheadOf()
	}
	c.beside = min(c.inline, lineSize-layout.EntrySize)
	c.fetchesNext = c.takeLines && c.kind == SPSC && c.slotSize <= c.inline
	c.setMasks()
	c.span = spanOf(c.stride, c.slotSize, c.slots)
	c.entriesEnd = unsafe.Add(c.entries, c.slots*c.stride)
	if c.giveEvery = min(h.Slots/8, strideMost/2); c.kind == SPSC {
		c.giveEvery = max(min(h.Slots/4, strideMost), 1) - 1
	}
	c.keepApart()
	if h.Slots > hintSmall {
		c.hintMask = hintEvery - 1
	}
	c.maxMessage = c.maxSlots * c.slotSize
	c.maxSteps = int(64*c.slots + 65536)
	return c
}

// initialise writes the words of a new ring. The memory is zero and nobody else sees it yet.
func initialise(mem []byte, h layout.Header) {
	c := newCore(mem, h, nil)
	// order: F0 rlx, pairs F1: the ready store, which comes after all of these, publishes them.
	c.ctl.producerPosition.Store(h.Start)
	c.ctl.consumerPosition.Store(h.Start) // order: F0 rlx, pairs F1
	c.ctl.leaseEnd.Store(h.Start)         // order: F0 rlx, pairs F1
	c.ctl.spacePosition.Store(h.Start)    // order: F0 rlx, pairs F1
	c.ctl.runEnd.Store(h.Start)           // order: F0 rlx, pairs F1
	if c.kind == SPSC {
		return
	}
	for i := range c.slots {
		p := h.Start + i
		c.entry(p).state.Store(freeWord(p)) // order: F0 rlx, pairs F1
	}
}

// entry returns the entry of position p.
func (c *core) entry(p uint64) *entry {
	return (*entry)(unsafe.Add(c.entries, (p&c.mask)*c.stride))
}

// state returns the state word of position p.
func (c *core) state(p uint64) *atomic.Uint64 { return &c.entry(p).state }

// account returns the account word of position p.
func (c *core) account(p uint64) *atomic.Uint64 {
	return (*atomic.Uint64)(unsafe.Add(c.accounts, (p&c.mask)*8))
}

// participant returns the entry of participant id, which is below c.participants.
func (c *core) participant(id int) *participant {
	return (*participant)(unsafe.Add(c.table, id*layout.ParticipantSize))
}

// session returns the session of participant id in a role.
func (c *core) session(id int, role Role) *session {
	if role == ProducerRole {
		return &c.participant(id).producer
	}
	return &c.participant(id).consumer
}

// cell returns the data cell of position p.
func (c *core) cell(p uint64) unsafe.Pointer { return unsafe.Add(c.data, (p&c.mask)*c.slotSize) }

// slotsFor returns how many slots n bytes take.
func (c *core) slotsFor(n uint64) uint64 {
	if n <= c.slotSize {
		return 1
	}
	return (n + c.slotSize - 1) / c.slotSize
}

// pad returns how many slots must be stepped over so that k slots from t on do not wrap.
func (c *core) pad(t, k uint64) uint64 {
	if left := c.slots - t&c.mask; k > left {
		return left
	}
	return 0
}

// place returns where n bytes of payload of a message at position p go, and its length word.
func (c *core) place(p, n uint64) (unsafe.Pointer, uint64) {
	if n <= c.inline {
		return unsafe.Add(unsafe.Pointer(c.entry(p)), layout.EntrySize), n | layout.FlagInline
	}
	return c.cell(p), n
}

// payload finds the payload of the message at p that takes k slots, from its length word. ok is false when the word cannot be true.
func (c *core) payload(p, k, length uint64) (at unsafe.Pointer, n uint64, ok bool) {
	n = length & layout.LengthMask
	switch length &^ layout.LengthMask {
	case 0:
		if k == 0 || k > c.maxSlots || n > k*c.slotSize || p&c.mask+k > c.slots || (n <= (k-1)*c.slotSize && k > 1) {
			return nil, 0, false
		}
		return c.cell(p), n, true
	case layout.FlagInline:
		if k != 1 || n > c.inline {
			return nil, 0, false
		}
		return unsafe.Add(unsafe.Pointer(c.entry(p)), layout.EntrySize), n, true
	}
	return nil, 0, false
}

// single is payload for a message of one slot.
func (c *core) single(e *entry, p, length uint64) (at unsafe.Pointer, n uint64, ok bool) {
	if n = length &^ layout.FlagInline; n == length {
		return c.cell(p), n, n <= c.slotSize
	}
	return unsafe.Add(unsafe.Pointer(e), layout.EntrySize), n, n <= c.inline
}

// view makes a slice of n bytes at p.
func view(p unsafe.Pointer, n uint64) []byte { return unsafe.Slice((*byte)(p), n) }

// publish stores a word that hands memory over. With fenced it is a full fence as well (FORMAT 8.4).
func publish(p *atomic.Uint64, v uint64, fenced bool) {
	if fenced {
		p.Store(v) // order: P6 sc when fenced, pairs C2 D1; and N1, see there
		return
	}
	atomicx.StoreRelease(p, v) // order: P6 rel, pairs C2 D1; and N1 by the sleeper's membarrier (W2)
}

// bump adds n to a counter that only its owner writes.
func bump(counter *atomic.Uint64, n uint64) {
	// order: K1 rlx, pairs nothing: own counter, read by observers only
	atomicx.StoreRelaxed(counter, counter.Load()+n)
}
