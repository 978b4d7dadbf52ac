//go:build linux && (amd64 || arm64)

package fuzz

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/stretchr/testify/require"

	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/ring"
)

// A scene is played with the library on a fresh segment, and ends as if everybody in it were killed at once.
type scene struct {
	name, about string
	header      layout.Header // what differs from the usual
	play        func(*stage)
	refused     *refusal // play spoils a segment that must be refused
}

// scenes are all scenes. Only the end of the list grows: a scene that has its files keeps them.
var scenes = slices.Concat(mpmcScenes, spscScenes, refusedScenes, []scene{anchorScene})

// stage is where a scene is played: a ring in a file, and an account of what must come out of it that is kept by hand.
type stage struct {
	t      testing.TB
	dir    string
	h      layout.Header
	r      *ring.Ring
	rings  []*ring.Ring
	next   uint64 // position of the next claim, by the rules of FORMAT section 6
	count  int    // messages made
	expect []expectation
	end    string
	after  after
	mends  []func(mem []byte) []byte // last changes to the bytes
}

// expectation is what becomes of one message: how Peek shows it, and how the next consumer gets it; 0: not at all.
type expectation struct {
	message
	seen, got int
}

const participants = 6

// play plays a scene and returns its golden files.
func play(t testing.TB, s scene) (golden, []byte) {
	st := newStage(t, s)
	s.play(st)
	mem := st.snapshot()
	for _, mend := range st.mends {
		mem = mend(mem)
	}
	for _, r := range st.rings {
		_ = r.Close() // what is left behind was copied
	}
	g := golden{File: s.name + ".bin", About: s.about, Size: len(mem), SHA256: sum(mem), Refused: s.refused}
	if s.refused != nil {
		requireRefused(t, mem, *s.refused)
		return g, mem
	}
	c := describe(mem)
	if g.Contents = &c; len(mem) == layout.HeaderSize {
		g.Only = "header"
		return g, mem
	}
	o := Outcome{Unreleased: []message{}, Receive: []message{}, End: st.end, After: st.after}
	for _, x := range st.expect {
		if m := x.message; x.seen > 0 {
			m.Deliveries = x.seen
			o.Unreleased = append(o.Unreleased, m)
		}
		if m := x.message; x.got > 0 {
			m.Deliveries = x.got
			o.Receive = append(o.Receive, m)
		}
	}
	dir := place(t, mem)
	look, err := ring.Open("q", ring.WithDir(dir), ring.ReadOnly())
	require.NoError(t, err)
	o.Stats = statsOf(t, look)
	require.NoError(t, look.Close())
	requireOutcome(t, mem, o)
	g.Outcome = &o
	return g, mem
}

// newStage writes a fresh segment, with all that the creator may choose chosen unlike a default.
func newStage(t testing.TB, s scene) *stage {
	h := s.header
	fill := func(v *uint32, def uint32) {
		if *v == 0 {
			*v = def
		}
	}
	fill(&h.Kind, layout.KindMPMC)
	fill(&h.Policy, layout.PolicyRedeliver)
	fill(&h.EntryStride, 32)
	fill(&h.Participants, participants)
	fill(&h.Backing, layout.BackingPOSIX)
	if h.Slots == 0 {
		h.Slots = 8
	}
	if h.SlotSize == 0 {
		h.SlotSize = 24
	}
	h.Flags, h.Mode, h.CreatorPID, h.Created = layout.HeaderFlagTemporary, 0o640, 4711, 1_600_000_000_123_456_789
	for i := range h.ID {
		h.ID[i] = byte(0xa0 + i)
	}
	require.NoError(t, h.Geometry(layout.Page))
	mem := make([]byte, h.SegmentSize)
	h.Identify()
	h.Encode(mem)
	binary.LittleEndian.PutUint32(mem[layout.HeaderReady:], 1)
	for _, f := range []int{layout.ControlProducerPosition, layout.ControlConsumerPosition, layout.ControlLeaseEnd, layout.ControlRunEnd, layout.ControlSpacePosition} {
		binary.LittleEndian.PutUint64(mem[layout.ControlOffset+f:], h.Start)
	}
	if h.Kind == layout.KindMPMC {
		for p := h.Start; p != h.Start+h.Slots; p++ {
			binary.LittleEndian.PutUint64(mem[h.EntriesOffset+p%h.Slots*uint64(h.EntryStride):], p<<layout.MpmcSequenceShift|layout.StateFree)
		}
	}
	st := &stage{t: t, h: h, next: h.Start, end: "eof"}
	st.open(mem)
	return st
}

// open goes on with these bytes, in which nobody is alive.
func (s *stage) open(mem []byte) {
	s.dir = place(s.t, mem)
	r, err := ring.Open("q", ring.WithDir(s.dir))
	require.NoError(s.t, err)
	s.r = r
	s.rings = append(s.rings, r)
}

// die kills everybody: the ring goes on as a copy without their locks.
func (s *stage) die() { s.open(s.snapshot()) }

// snapshot returns the bytes as they are, with everything that depends on clock, process and chance replaced.
func (s *stage) snapshot() []byte {
	mem, err := os.ReadFile(filepath.Join(s.dir, "q"))
	require.NoError(s.t, err)
	le := binary.LittleEndian
	for id := range uint64(s.h.Participants) {
		m := mem[s.h.ParticipantsOffset+id*layout.ParticipantSize:][:layout.ParticipantSize]
		if le.Uint32(m[layout.ParticipantProducerRegistered:])+le.Uint32(m[layout.ParticipantConsumerRegistered:]) == 0 {
			continue
		}
		le.PutUint32(m[layout.ParticipantPid:], uint32(5000+id))
		le.PutUint32(m[layout.ParticipantPublish:], uint32(id+1)%4)
		le.PutUint64(m[layout.ParticipantSince:], 1_600_000_001_000_000_000+id)
		if ended := le.Uint64(m[layout.ParticipantEnded:]); ended != 0 {
			le.PutUint64(m[layout.ParticipantEnded:], (1_600_000_002_000_000_000+id)<<1|ended&1)
		}
		le.PutUint64(m[layout.ParticipantSleeps:], 601+10*id)
		le.PutUint64(m[layout.ParticipantWakes:], 602+10*id)
	}
	ctl := mem[layout.ControlOffset:]
	le.PutUint64(ctl[layout.ControlNotEmpty:], 77<<32|2) // two sleepers that were killed
	le.PutUint64(ctl[layout.ControlNotFull:], 88<<32|3)
	return mem
}

// payload makes the next message: all bytes of all messages of a scene differ as far as a byte can.
func (s *stage) payload(n int) []byte {
	s.count++
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(s.count*37 + i)
	}
	return b
}

// claim returns the position that the next message of n bytes gets, and steps over it.
func (s *stage) claim(n int) uint64 {
	k := max(1, (uint64(n)+s.h.SlotSize-1)/s.h.SlotSize)
	if left := s.h.Slots - s.next%s.h.Slots; k > left {
		s.next += left
	}
	s.next += k
	return s.next - k
}

// send sends messages of these sizes one by one. How they are expected to be found: as committed messages that nobody has had.
func (s *stage) send(p *ring.Producer, sizes ...int) {
	for _, n := range sizes {
		b := s.payload(n)
		require.NoError(s.t, p.TrySend(b))
		s.note(b)
	}
}

// batch sends messages of these sizes with one call.
func (s *stage) batch(p *ring.Producer, sizes ...int) {
	var msgs [][]byte
	for _, n := range sizes {
		msgs = append(msgs, s.payload(n))
		s.note(msgs[len(msgs)-1])
	}
	n, err := p.TrySendBatch(msgs)
	require.NoError(s.t, err)
	require.Len(s.t, sizes, n)
}

func (s *stage) note(b []byte) {
	s.expect = append(s.expect, expectation{message{Position: s.claim(len(b)), Payload: hex.EncodeToString(b)}, 1, 1})
}

// reserve makes a reservation that stays open. Unless it is committed later, nothing of it is found, and it is counted as skipped.
func (s *stage) reserve(p *ring.Producer, n int) ring.Reservation {
	r, err := p.TryReserve(n)
	require.NoError(s.t, err)
	copy(r.Bytes(), s.payload(n))
	s.claim(n)
	return r
}

// receive copies out the next count messages, which are not found again.
func (s *stage) receive(q *ring.Consumer, count int) {
	buf := make([]byte, s.r.MaxMessage())
	for range count {
		n, err := q.TryReceive(buf)
		require.NoError(s.t, err)
		x := s.at(q.Last().Position)
		require.Equal(s.t, x.Payload, hex.EncodeToString(buf[:n]))
		x.seen, x.got = 0, 0
	}
}

// lease leases up to limit messages, which must be want.
func (s *stage) lease(q *ring.Consumer, limit, want int) ring.Batch {
	b, err := q.TryNextBatch(limit)
	require.NoError(s.t, err)
	require.Equal(s.t, want, b.Len())
	for i := range want {
		s.at(b.At(i).Position()).got++ // it comes again
	}
	return b
}

// release releases the messages of a batch up to index i.
func (s *stage) release(b ring.Batch, from, i int) {
	var gone []*expectation
	for j := from; j <= i; j++ {
		gone = append(gone, s.at(b.At(j).Position()))
	}
	require.NoError(s.t, b.At(i).Release())
	for _, x := range gone {
		x.seen, x.got = 0, 0
	}
}

// giveBack returns message i and all behind it.
func (s *stage) giveBack(b ring.Batch, i int) {
	for j := i; j < b.Len(); j++ {
		s.at(b.At(j).Position()).seen++
	}
	require.NoError(s.t, b.At(i).Return())
}

// lose says that a message is lost when the dead are recovered.
func (s *stage) lose(x *expectation) {
	x.got = 0
	s.after.Lost++
}

// at finds the message at a position.
func (s *stage) at(position uint64) *expectation {
	i := slices.IndexFunc(s.expect, func(x expectation) bool { return x.Position == position })
	require.GreaterOrEqual(s.t, i, 0, "nothing was sent at position %d", position)
	return &s.expect[i]
}

func (s *stage) producer() *ring.Producer {
	p, err := s.r.NewProducer()
	require.NoError(s.t, err)
	return p
}

func (s *stage) consumer() *ring.Consumer {
	q, err := s.r.NewConsumer()
	require.NoError(s.t, err)
	return q
}

// mend changes the bytes at the end of the scene.
func (s *stage) mend(f func(mem []byte)) {
	s.mends = append(s.mends, func(mem []byte) []byte { f(mem); return mem })
}

// state returns where the state word of position p lies.
func (s *stage) state(p uint64) uint64 {
	return s.h.EntriesOffset + p%s.h.Slots*uint64(s.h.EntryStride)
}

func put64(mem []byte, at, v uint64) { binary.LittleEndian.PutUint64(mem[at:], v) }
func get64(mem []byte, at uint64) uint64 {
	return binary.LittleEndian.Uint64(mem[at:])
}

// anchorScene is the file beside a System V segment: a header whose fields are all different and, but for those that must be, not zero.
var anchorScene = scene{name: "anchor-sysv", about: "the anchor of a System V segment: a header, and nothing behind it", play: func(s *stage) {
	s.mends = append(s.mends, func(mem []byte) []byte {
		h := layout.Header{
			Kind: layout.KindMPMC, Policy: layout.PolicyDrop, Slots: 16, SlotSize: 320, EntryStride: 64, Participants: 9, MaxDeliveries: 11, Backing: layout.BackingSysV,
			Huge: layout.Huge2M, Flags: layout.HeaderFlagTemporary, Mode: 0o460, SysvKey: 0x51525354, SysvID: 0x61626364, Start: 0x7172737475767778,
			CreatorPID: 0x41424344, Created: 0x1122334455667788, ID: s.h.ID,
		}
		require.NoError(s.t, h.Geometry(layout.Page2M))
		mem = mem[:layout.HeaderSize]
		h.Identify()
		h.Encode(mem)
		mem[layout.HeaderReady] = 1
		return mem
	})
}}

// refusedScenes are segments that nobody may open, one for each check of FORMAT section 4.
var refusedScenes = func() (list []scene) {
	type spoiler struct {
		name, class, field string
		checksum           bool // make the checksum fit again
		f                  func(mem []byte) []byte
	}
	set32 := func(at int, v uint32) func([]byte) []byte {
		return func(mem []byte) []byte { binary.LittleEndian.PutUint32(mem[at:], v); return mem }
	}
	set64 := func(at int, v uint64) func([]byte) []byte {
		return func(mem []byte) []byte { binary.LittleEndian.PutUint64(mem[at:], v); return mem }
	}
	for _, x := range []spoiler{
		{"header-cut", "not_segment", "file size", false, func(mem []byte) []byte { return mem[:layout.HeaderSize-1] }},
		{"magic", "not_segment", "magic", true, func(mem []byte) []byte { mem[3] = 'l'; return mem }},
		{"byte-order", "byte_order", "byte_order", true, set32(layout.HeaderByteOrder, 0x0D0C0B0A)},
		{"version", "version", "version", true, set32(layout.HeaderVersion, layout.Version+1)},
		{"layout", "layout", "layout", true, set64(layout.HeaderLayout, 0x1122334455667788)},
		{"checksum", "corrupt", "checksum", false, set32(layout.HeaderParticipants, 7)},
		{"not-ready", "corrupt", "ready", true, set32(layout.HeaderReady, 0)},
		{"kind", "corrupt", "kind", true, set32(layout.HeaderKind, 3)},
		{"policy", "corrupt", "policy", true, set32(layout.HeaderPolicy, 0)},
		{"slots", "corrupt", "slots", true, set64(layout.HeaderSlots, 12)},
		{"slot-size", "corrupt", "slot_size", true, set64(layout.HeaderSlotSize, 0)},
		{"data-size", "corrupt", "slot_size", true, func(mem []byte) []byte {
			return set64(layout.HeaderSlotSize, layout.MaxSlotSize)(set64(layout.HeaderSlots, layout.MaxSlots)(mem))
		}},
		{"stride", "corrupt", "entry_stride", true, set32(layout.HeaderEntryStride, 24)},
		{"participants", "corrupt", "participants", true, set32(layout.HeaderParticipants, layout.MaxParticipants+1)},
		{"max-deliveries", "corrupt", "max_deliveries", true, set32(layout.HeaderMaxDeliveries, layout.DeliveriesWrap+1)},
		{"flags", "corrupt", "flags", true, set32(layout.HeaderFlags, 2)},
		{"backing", "corrupt", "backing", true, set32(layout.HeaderBacking, 4)},
		{"mode", "corrupt", "mode", true, set32(layout.HeaderMode, 0o1640)},
		{"reserved", "corrupt", "reserved byte 200", true, func(mem []byte) []byte { mem[200] = 9; return mem }},
		{"inline-size", "layout", "inline_size", true, set32(layout.HeaderInlineSize, 20)},
		{"entries-offset", "layout", "entries_offset", true, set64(layout.HeaderEntriesOffset, 16384)},
		{"data-offset", "layout", "data_offset", true, set64(layout.HeaderDataOffset, 1<<40)},
		{"segment-size", "layout", "segment_size", true, set64(layout.HeaderSegmentSize, 1<<41)},
		{"file-cut", "corrupt", "file size", false, func(mem []byte) []byte { return mem[:len(mem)-1] }},
	} {
		list = append(list, scene{
			name: "refused-" + x.name, about: "must not be opened: " + strings.ReplaceAll(x.field, "_", " "), refused: &refusal{x.class, x.field},
			play: func(s *stage) {
				s.mends = append(s.mends, func(mem []byte) []byte {
					mem = x.f(mem)
					if x.checksum {
						put64(mem, layout.HeaderChecksum, xxhash.Sum64(mem[:layout.HeaderChecksum]))
					}
					return mem
				})
			},
		})
	}
	return list
}()
