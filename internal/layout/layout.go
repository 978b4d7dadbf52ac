// Package layout knows where everything in a segment lies and what a sound header looks like.
//
// The constants are generated from the tables of docs/FORMAT.md, which is the only source of the layout. The rest is
// pure arithmetic on bytes: nothing here maps memory or keeps a pointer into it, so all of it can be fuzzed.
package layout

//go:generate go run ../tools/layoutgen -root ../..

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// Page sizes that a segment may be rounded to. The first also separates the areas of a segment, whatever the page
// size of the machine is.
const (
	Page   = 4096
	Page2M = 2 << 20
	Page1G = 1 << 30
)

// Numbers in the fields kind, policy, backing and huge of the header.
const (
	KindSPSC = 1
	KindMPMC = 2

	PolicyRedeliver = 1
	PolicyDrop      = 2

	BackingPOSIX = 1
	BackingSysV  = 2
	BackingMemfd = 3

	HugeNone        = 0
	HugeTransparent = 1
	Huge2M          = 2
	Huge1G          = 3
)

// MaxDeliveriesLimit is the largest max_deliveries, FORMAT section 2.
const MaxDeliveriesLimit = DeliveriesWrap

// accountSize is the size of one account of loss, FORMAT section 2.
const accountSize = 8

// checked is the end of the bytes that the checksum covers.
const checked = HeaderChecksum

// Header holds the fields of a segment's header as values. Nothing in it aliases the segment.
type Header struct {
	Magic              [8]byte
	ByteOrder          uint32
	Version            uint32
	Layout             uint64
	HeaderSize         uint32
	Flags              uint32
	SegmentSize        uint64
	ID                 [16]byte
	Created            uint64
	Backing            uint32
	Huge               uint32
	Kind               uint32
	Policy             uint32
	Slots              uint64
	SlotSize           uint64
	EntryStride        uint32
	InlineSize         uint32
	Participants       uint32
	ParticipantStride  uint32
	MaxDeliveries      uint32
	Mode               uint32
	ParticipantsOffset uint64
	EntriesOffset      uint64
	AccountsOffset     uint64
	DataOffset         uint64
	SysvKey            uint32
	SysvID             uint32
	Start              uint64
	CreatorPID         uint32
	Checksum           uint64
	Ready              uint32
}

// Identify fills the fields that say what the file is: magic, byte order, version and layout.
func (h *Header) Identify() {
	copy(h.Magic[:], Magic)
	h.ByteOrder, h.Version, h.Layout = ByteOrder, Version, Fingerprint
}

// Encode writes all fields but ready to b and the checksum over them, and zero to everything else in the header.
// It sets h.Checksum. ready stays 0: the creator stores it last.
//
// b has at least HeaderSize bytes.
func (h *Header) Encode(b []byte) {
	b = b[:HeaderSize]
	clear(b)
	le := binary.LittleEndian
	copy(b[HeaderMagic:], h.Magic[:])
	le.PutUint32(b[HeaderByteOrder:], h.ByteOrder)
	le.PutUint32(b[HeaderVersion:], h.Version)
	le.PutUint64(b[HeaderLayout:], h.Layout)
	le.PutUint32(b[HeaderHeaderSize:], h.HeaderSize)
	le.PutUint32(b[HeaderFlags:], h.Flags)
	le.PutUint64(b[HeaderSegmentSize:], h.SegmentSize)
	copy(b[HeaderID:], h.ID[:])
	le.PutUint64(b[HeaderCreated:], h.Created)
	le.PutUint32(b[HeaderBacking:], h.Backing)
	le.PutUint32(b[HeaderHuge:], h.Huge)
	le.PutUint32(b[HeaderKind:], h.Kind)
	le.PutUint32(b[HeaderPolicy:], h.Policy)
	le.PutUint64(b[HeaderSlots:], h.Slots)
	le.PutUint64(b[HeaderSlotSize:], h.SlotSize)
	le.PutUint32(b[HeaderEntryStride:], h.EntryStride)
	le.PutUint32(b[HeaderInlineSize:], h.InlineSize)
	le.PutUint32(b[HeaderParticipants:], h.Participants)
	le.PutUint32(b[HeaderParticipantStride:], h.ParticipantStride)
	le.PutUint32(b[HeaderMaxDeliveries:], h.MaxDeliveries)
	le.PutUint32(b[HeaderMode:], h.Mode)
	le.PutUint64(b[HeaderParticipantsOffset:], h.ParticipantsOffset)
	le.PutUint64(b[HeaderEntriesOffset:], h.EntriesOffset)
	le.PutUint64(b[HeaderAccountsOffset:], h.AccountsOffset)
	le.PutUint64(b[HeaderDataOffset:], h.DataOffset)
	le.PutUint32(b[HeaderSysvKey:], h.SysvKey)
	le.PutUint32(b[HeaderSysvID:], h.SysvID)
	le.PutUint64(b[HeaderStart:], h.Start)
	le.PutUint32(b[HeaderCreatorPid:], h.CreatorPID)
	h.Checksum = xxhash.Sum64(b[:checked])
	le.PutUint64(b[HeaderChecksum:], h.Checksum)
}

// read takes all fields from the first HeaderSize bytes of b, unchecked.
func (h *Header) read(b []byte) {
	le := binary.LittleEndian
	copy(h.Magic[:], b[HeaderMagic:])
	h.ByteOrder = le.Uint32(b[HeaderByteOrder:])
	h.Version = le.Uint32(b[HeaderVersion:])
	h.Layout = le.Uint64(b[HeaderLayout:])
	h.HeaderSize = le.Uint32(b[HeaderHeaderSize:])
	h.Flags = le.Uint32(b[HeaderFlags:])
	h.SegmentSize = le.Uint64(b[HeaderSegmentSize:])
	copy(h.ID[:], b[HeaderID:])
	h.Created = le.Uint64(b[HeaderCreated:])
	h.Backing = le.Uint32(b[HeaderBacking:])
	h.Huge = le.Uint32(b[HeaderHuge:])
	h.Kind = le.Uint32(b[HeaderKind:])
	h.Policy = le.Uint32(b[HeaderPolicy:])
	h.Slots = le.Uint64(b[HeaderSlots:])
	h.SlotSize = le.Uint64(b[HeaderSlotSize:])
	h.EntryStride = le.Uint32(b[HeaderEntryStride:])
	h.InlineSize = le.Uint32(b[HeaderInlineSize:])
	h.Participants = le.Uint32(b[HeaderParticipants:])
	h.ParticipantStride = le.Uint32(b[HeaderParticipantStride:])
	h.MaxDeliveries = le.Uint32(b[HeaderMaxDeliveries:])
	h.Mode = le.Uint32(b[HeaderMode:])
	h.ParticipantsOffset = le.Uint64(b[HeaderParticipantsOffset:])
	h.EntriesOffset = le.Uint64(b[HeaderEntriesOffset:])
	h.AccountsOffset = le.Uint64(b[HeaderAccountsOffset:])
	h.DataOffset = le.Uint64(b[HeaderDataOffset:])
	h.SysvKey = le.Uint32(b[HeaderSysvKey:])
	h.SysvID = le.Uint32(b[HeaderSysvID:])
	h.Start = le.Uint64(b[HeaderStart:])
	h.CreatorPID = le.Uint32(b[HeaderCreatorPid:])
	h.Checksum = le.Uint64(b[HeaderChecksum:])
	h.Ready = le.Uint32(b[HeaderReady:])
}

// Decode reads a header and makes every check of FORMAT section 4, Opening, step 4, in that order. b holds the
// beginning of the file and fileSize its length. A System V header is accepted from its anchor, whose length says
// nothing about the segment: use CheckSize with the size of the segment as well.
//
// Failure: a *FormatError.
func Decode(b []byte, fileSize int64) (Header, error) {
	var h Header
	if size := min(int64(len(b)), fileSize); size < HeaderSize {
		copy(h.Magic[:], b) // tells a truncated segment from something else
		return h, &FormatError{"file size", fmt.Sprintf("%d bytes", size), fmt.Sprintf("at least %d bytes", HeaderSize), ErrNotSegment}
	}
	b = b[:HeaderSize]
	h.read(b)
	if string(h.Magic[:]) != Magic {
		return h, &FormatError{"magic", h.Magic[:], []byte(Magic), ErrNotSegment}
	}
	if h.ByteOrder != ByteOrder {
		return h, &FormatError{"byte_order", hex(h.ByteOrder), hex(uint32(ByteOrder)), ErrByteOrder}
	}
	if h.Version != Version {
		return h, &FormatError{"version", h.Version, uint32(Version), ErrVersion}
	}
	if h.Layout != Fingerprint {
		return h, &FormatError{"layout", hex(h.Layout), hex(Fingerprint), ErrLayout}
	}
	if sum := xxhash.Sum64(b[:checked]); h.Checksum != sum {
		return h, &FormatError{"checksum", hex(h.Checksum), hex(sum), ErrCorrupt}
	}
	if h.Ready != 1 {
		return h, &FormatError{"ready", h.Ready, uint32(1), ErrCorrupt}
	}
	if err := h.limits(func(field string, got any, want string) error {
		return &FormatError{field, got, want, ErrCorrupt}
	}); err != nil {
		return h, err
	}
	if err := h.choices(); err != nil {
		return h, err
	}
	for i, x := range b[HeaderCreatorPid+4 : checked] {
		if x != 0 {
			return h, &FormatError{fmt.Sprintf("reserved byte %d", HeaderCreatorPid+4+i), x, uint8(0), ErrCorrupt}
		}
	}
	if err := h.recompute(); err != nil {
		return h, err
	}
	if h.Backing == BackingSysV {
		return h, nil
	}
	return h, h.CheckSize(fileSize)
}

// CheckSize refuses memory of size bytes that is smaller than the segment: a mapping beyond its end would fault.
func (h *Header) CheckSize(size int64) error {
	if size < 0 || uint64(size) < h.SegmentSize {
		return &FormatError{"file size", fmt.Sprintf("%d bytes", size), fmt.Sprintf("at least segment_size, %d bytes", h.SegmentSize), ErrCorrupt}
	}
	return nil
}

// choices checks the fields that name one of a few things.
func (h *Header) choices() error {
	corrupt := func(field string, got any, want string) error { return &FormatError{field, got, want, ErrCorrupt} }
	switch {
	case h.Flags&^uint32(HeaderFlagTemporary) != 0:
		return corrupt("flags", h.Flags, "0 or 1")
	case h.Backing < BackingPOSIX || h.Backing > BackingMemfd:
		return corrupt("backing", h.Backing, "1, 2 or 3")
	case h.Huge > Huge1G:
		return corrupt("huge", h.Huge, "0, 1, 2 or 3")
	case h.Mode&^0o777 != 0:
		return corrupt("mode", fmt.Sprintf("%#o", h.Mode), "permission bits")
	}
	return nil
}

// recompute derives every offset and size from the options and compares.
func (h *Header) recompute() error {
	want := *h
	if err := want.Geometry(PageSize(h.Huge)); err != nil {
		return &FormatError{"options", err, "options within the limits", ErrCorrupt}
	}
	for _, f := range []struct {
		field     string
		got, want uint64
	}{
		{"header_size", uint64(h.HeaderSize), uint64(want.HeaderSize)},
		{"inline_size", uint64(h.InlineSize), uint64(want.InlineSize)},
		{"participant_stride", uint64(h.ParticipantStride), uint64(want.ParticipantStride)},
		{"participants_offset", h.ParticipantsOffset, want.ParticipantsOffset},
		{"entries_offset", h.EntriesOffset, want.EntriesOffset},
		{"accounts_offset", h.AccountsOffset, want.AccountsOffset},
		{"data_offset", h.DataOffset, want.DataOffset},
		{"segment_size", h.SegmentSize, want.SegmentSize},
	} {
		if f.got != f.want {
			return &FormatError{f.field, f.got, f.want, ErrLayout}
		}
	}
	return nil
}

func hex[T uint32 | uint64](v T) string { return fmt.Sprintf("%#x", v) }
