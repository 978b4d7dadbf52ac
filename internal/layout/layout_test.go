package layout

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// sound returns a header that Decode accepts.
func sound(t testing.TB) Header {
	h := Header{Kind: KindMPMC, Policy: PolicyRedeliver, Slots: 8, SlotSize: 100, EntryStride: 64, Participants: 33,
		MaxDeliveries: 3, Backing: BackingPOSIX, Mode: 0o640, Flags: HeaderFlagTemporary, Start: 7, Created: 1, CreatorPID: 2, SysvKey: 3, SysvID: 4}
	h.Identify()
	copy(h.ID[:], "0123456789abcdef")
	if err := h.Geometry(PageSize(h.Huge)); err != nil {
		t.Fatal(err)
	}
	return h
}

// encode returns the header page of h, ready.
func encode(h *Header) []byte {
	b := make([]byte, HeaderSize)
	h.Encode(b)
	binary.LittleEndian.PutUint32(b[HeaderReady:], 1)
	return b
}

// reseal computes the checksum anew, as somebody who forges a header would.
func reseal(b []byte) {
	binary.LittleEndian.PutUint64(b[HeaderChecksum:], xxhash.Sum64(b[:HeaderChecksum]))
}

func TestDecodeReturnsWhatWasEncoded(t *testing.T) {
	h := sound(t)
	b := encode(&h)
	h.Ready = 1
	got, err := Decode(b, int64(h.SegmentSize))
	if err != nil {
		t.Fatal(err)
	}
	if got != h {
		t.Fatalf("got  %+v\nwant %+v", got, h)
	}
}

func TestEncodeLeavesTheSegmentNotReady(t *testing.T) {
	h := sound(t)
	b := make([]byte, HeaderSize)
	for i := range b {
		b[i] = 0xff
	}
	h.Encode(b)
	if _, err := Decode(b, int64(h.SegmentSize)); !isField(err, "ready", ErrCorrupt) {
		t.Fatalf("got %v, want ready", err)
	}
}

// The struct, Encode and read are written by hand: every field of the table must be in them, at its offset.
func TestHeaderFollowsTheTable(t *testing.T) {
	text, err := os.ReadFile("layout.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Tables []struct {
			Name   string
			Fields []struct {
				Name         string
				Offset, Size int
			}
		}
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	for _, table := range doc.Tables {
		if table.Name != "Header" {
			continue
		}
		if n := reflect.TypeFor[Header]().NumField(); n != len(table.Fields) {
			t.Fatalf("the struct has %d fields, the table %d", n, len(table.Fields))
		}
		reserved := HeaderChecksum
		for i, f := range table.Fields {
			b := make([]byte, HeaderSize)
			for k := range f.Size {
				b[f.Offset+k] = byte(i + 1)
			}
			var h, zero Header
			h.read(b)
			v := reflect.ValueOf(h).Field(i)
			name := reflect.TypeFor[Header]().Field(i).Name
			if !strings.EqualFold(name, strings.ReplaceAll(f.Name, "_", "")) {
				t.Errorf("field %d is %s, in the table %s", i, name, f.Name)
			}
			if v.IsZero() {
				t.Errorf("%s is not read from offset %d", name, f.Offset)
			}
			reflect.ValueOf(&h).Elem().Field(i).SetZero()
			if h != zero {
				t.Errorf("the bytes of %s show in other fields: %+v", name, h)
			}
			if f.Name == "checksum" || f.Name == "ready" {
				continue
			}
			reserved -= f.Size
			h.read(b)
			out := make([]byte, HeaderSize)
			h.Encode(out)
			clear(out[HeaderChecksum : HeaderChecksum+8])
			if string(out) != string(b) {
				t.Errorf("%s is not written to offset %d", name, f.Offset)
			}
		}
		// Decode takes all bytes between creator_pid and checksum for the only reserved ones.
		if want := HeaderChecksum - (HeaderCreatorPid + 4); reserved != want {
			t.Errorf("%d reserved bytes below the checksum, Decode checks %d", reserved, want)
		}
	}
}

func isField(err error, field string, class error) bool {
	var f *FormatError
	return errors.As(err, &f) && f.Field == field && errors.Is(err, class)
}

func TestDecodeNamesWhatIsWrong(t *testing.T) {
	le := binary.LittleEndian
	h := sound(t)
	size := int64(h.SegmentSize)
	cases := []struct {
		name  string
		field string
		class error
		spoil func(b []byte) (newSize int64)
		seal  bool // make the checksum right again
	}{
		{"too short", "file size", ErrNotSegment, func([]byte) int64 { return HeaderSize - 1 }, false},
		{"empty", "file size", ErrNotSegment, func([]byte) int64 { return 0 }, false},
		{"magic", "magic", ErrNotSegment, func(b []byte) int64 { b[3]++; return size }, true},
		{"byte order", "byte_order", ErrByteOrder, func(b []byte) int64 { le.PutUint32(b[HeaderByteOrder:], 0x0D0C0B0A); return size }, true},
		{"version", "version", ErrVersion, func(b []byte) int64 { b[HeaderVersion]++; return size }, true},
		{"layout", "layout", ErrLayout, func(b []byte) int64 { b[HeaderLayout]++; return size }, true},
		{"checksum", "checksum", ErrCorrupt, func(b []byte) int64 { b[HeaderChecksum]++; return size }, false},
		{"changed field", "checksum", ErrCorrupt, func(b []byte) int64 { b[HeaderStart]++; return size }, false},
		{"not ready", "ready", ErrCorrupt, func(b []byte) int64 { b[HeaderReady] = 0; return size }, false},
		{"kind", "kind", ErrCorrupt, func(b []byte) int64 { b[HeaderKind] = 3; return size }, true},
		{"policy", "policy", ErrCorrupt, func(b []byte) int64 { b[HeaderPolicy] = 0; return size }, true},
		{"slots no power of two", "slots", ErrCorrupt, func(b []byte) int64 { b[HeaderSlots] = 9; return size }, true},
		{"no slots", "slots", ErrCorrupt, func(b []byte) int64 { b[HeaderSlots] = 0; return size }, true},
		{"many slots", "slots", ErrCorrupt, func(b []byte) int64 { le.PutUint64(b[HeaderSlots:], 1<<25); return size }, true},
		{"slots overflow", "slots", ErrCorrupt, func(b []byte) int64 { le.PutUint64(b[HeaderSlots:], 1<<63); return size }, true},
		{"slot size", "slot_size", ErrCorrupt, func(b []byte) int64 { le.PutUint64(b[HeaderSlotSize:], 1<<30+1); return size }, true},
		{"data size", "slot_size", ErrCorrupt, func(b []byte) int64 {
			le.PutUint64(b[HeaderSlots:], 1<<24)
			le.PutUint64(b[HeaderSlotSize:], 1<<17)
			return size
		}, true},
		{"stride", "entry_stride", ErrCorrupt, func(b []byte) int64 { b[HeaderEntryStride] = 48; return size }, true},
		{"participants", "participants", ErrCorrupt, func(b []byte) int64 { le.PutUint32(b[HeaderParticipants:], 4097); return size }, true},
		{"deliveries", "max_deliveries", ErrCorrupt, func(b []byte) int64 { b[HeaderMaxDeliveries] = 49; return size }, true},
		{"flags", "flags", ErrCorrupt, func(b []byte) int64 { b[HeaderFlags] = 2; return size }, true},
		{"backing", "backing", ErrCorrupt, func(b []byte) int64 { b[HeaderBacking] = 4; return size }, true},
		{"huge", "huge", ErrCorrupt, func(b []byte) int64 { b[HeaderHuge] = 4; return size }, true},
		{"mode", "mode", ErrCorrupt, func(b []byte) int64 { b[HeaderMode+1] = 8; return size }, true},
		{"reserved", "reserved byte 172", ErrCorrupt, func(b []byte) int64 { b[172] = 1; return size }, true},
		{"last reserved", "reserved byte 247", ErrCorrupt, func(b []byte) int64 { b[247] = 1; return size }, true},
		{"header size", "header_size", ErrLayout, func(b []byte) int64 { b[HeaderHeaderSize]++; return size }, true},
		{"inline size", "inline_size", ErrLayout, func(b []byte) int64 { b[HeaderInlineSize]++; return size }, true},
		{"participant stride", "participant_stride", ErrLayout, func(b []byte) int64 { b[HeaderParticipantStride]++; return size }, true},
		{"participants offset", "participants_offset", ErrLayout, func(b []byte) int64 { b[HeaderParticipantsOffset]++; return size }, true},
		{"entries offset", "entries_offset", ErrLayout, func(b []byte) int64 { b[HeaderEntriesOffset]++; return size }, true},
		{"accounts offset", "accounts_offset", ErrLayout, func(b []byte) int64 { b[HeaderAccountsOffset]++; return size }, true},
		{"data offset", "data_offset", ErrLayout, func(b []byte) int64 { b[HeaderDataOffset]++; return size }, true},
		{"segment size", "segment_size", ErrLayout, func(b []byte) int64 { b[HeaderSegmentSize]++; return size }, true},
		{"pages and size", "segment_size", ErrLayout, func(b []byte) int64 { b[HeaderHuge] = Huge2M; return size }, true},
		{"truncated", "file size", ErrCorrupt, func([]byte) int64 { return size - 1 }, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := encode(&h)
			n := c.spoil(b)
			if c.seal {
				reseal(b)
			}
			_, err := Decode(b[:min(int64(len(b)), n)], n)
			if !isField(err, c.field, c.class) {
				t.Fatalf("got %v, want field %s, %v", err, c.field, c.class)
			}
			for _, other := range []error{ErrNotSegment, ErrByteOrder, ErrVersion, ErrLayout, ErrCorrupt} {
				if other != c.class && errors.Is(err, other) {
					t.Errorf("%v is also %v", err, other)
				}
			}
			if s := err.Error(); !strings.Contains(s, "want") || !strings.Contains(s, ";") {
				t.Errorf("text without expectation or advice: %s", s)
			}
		})
	}
}

// The checks come in the order of the specification: with everything wrong, the first one speaks.
func TestDecodeOrder(t *testing.T) {
	h := sound(t)
	b := encode(&h)
	spoil := []struct {
		field string
		at    int
	}{
		{"magic", HeaderMagic}, {"byte_order", HeaderByteOrder}, {"version", HeaderVersion}, {"layout", HeaderLayout},
		{"checksum", HeaderChecksum}, {"ready", HeaderReady}, {"kind", HeaderKind},
	}
	for _, s := range spoil {
		b[s.at] ^= 0x55
	}
	for _, s := range spoil {
		_, err := Decode(b, 1<<40)
		var f *FormatError
		if !errors.As(err, &f) || f.Field != s.field {
			t.Fatalf("got %v, want %s", err, s.field)
		}
		if s.field == "checksum" {
			reseal(b) // over what is still wrong
		} else {
			b[s.at] ^= 0x55
		}
	}
	if _, err := Decode(b, 1<<40); !isField(err, "checksum", ErrCorrupt) {
		t.Fatalf("got %v, want the checksum over the wrong kind", err)
	}
}

func TestSysVAnchorMayBeShorterThanItsSegment(t *testing.T) {
	h := sound(t)
	h.Backing = BackingSysV
	b := encode(&h)
	got, err := Decode(b, HeaderSize)
	if err != nil {
		t.Fatal(err)
	}
	if err := got.CheckSize(int64(h.SegmentSize) - 1); !isField(err, "file size", ErrCorrupt) {
		t.Fatalf("got %v", err)
	}
	if err := got.CheckSize(-1); err == nil {
		t.Fatal("negative size accepted")
	}
}

func TestGeometry(t *testing.T) {
	h := sound(t)
	want := Header{HeaderSize: 4096, InlineSize: 48, ParticipantStride: 128, ParticipantsOffset: 8192, EntriesOffset: 8192 + 8192,
		AccountsOffset: 16384 + 4096, DataOffset: 20480 + 4096, SegmentSize: 28672}
	for _, c := range []struct {
		name      string
		got, want uint64
	}{
		{"header_size", uint64(h.HeaderSize), uint64(want.HeaderSize)},
		{"inline_size", uint64(h.InlineSize), uint64(want.InlineSize)},
		{"participants_offset", h.ParticipantsOffset, want.ParticipantsOffset},
		{"entries_offset", h.EntriesOffset, want.EntriesOffset},
		{"accounts_offset", h.AccountsOffset, want.AccountsOffset},
		{"data_offset", h.DataOffset, want.DataOffset},
		{"segment_size", h.SegmentSize, want.SegmentSize},
	} {
		if c.got != c.want {
			t.Errorf("%s is %d, want %d", c.name, c.got, c.want)
		}
	}
	for _, page := range []int64{Page2M, Page1G} {
		if err := h.Geometry(page); err != nil || h.SegmentSize != uint64(page) {
			t.Errorf("with pages of %d: %d bytes, %v", page, h.SegmentSize, err)
		}
	}
	largest := Header{Kind: KindSPSC, Policy: PolicyDrop, Slots: MaxSlots, SlotSize: MaxDataSize / MaxSlots, EntryStride: 128, Participants: MaxParticipants, MaxDeliveries: MaxDeliveriesLimit}
	if err := largest.Geometry(Page1G); err != nil || largest.SegmentSize < MaxDataSize || largest.SegmentSize > 2*MaxDataSize {
		t.Errorf("largest segment: %d bytes, %v", largest.SegmentSize, err)
	}
}

func TestGeometryNamesTheOption(t *testing.T) {
	for _, c := range []struct {
		option string
		spoil  func(h *Header)
	}{
		{"Kind", func(h *Header) { h.Kind = 0 }},
		{"OnConsumerDeath", func(h *Header) { h.Policy = 3 }},
		{"Slots", func(h *Header) { h.Slots = 3 }},
		{"Slots", func(h *Header) { h.Slots = 0 }},
		{"Slots", func(h *Header) { h.Slots = 2 * MaxSlots }},
		{"SlotSize", func(h *Header) { h.SlotSize = 0 }},
		{"SlotSize", func(h *Header) { h.SlotSize = MaxSlotSize + 1 }},
		{"SlotSize", func(h *Header) { h.SlotSize, h.Slots = MaxSlotSize, 2048 }},
		{"entry stride", func(h *Header) { h.EntryStride = 0 }},
		{"Participants", func(h *Header) { h.Participants = 0 }},
		{"Participants", func(h *Header) { h.Participants = MaxParticipants + 1 }},
		{"MaxDeliveries", func(h *Header) { h.MaxDeliveries = 49 }},
	} {
		h := sound(t)
		c.spoil(&h)
		before := h
		err := h.Geometry(Page)
		var o *OptionError
		if !errors.As(err, &o) || o.Option != c.option || !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("got %v, want option %s", err, c.option)
		}
		if h != before {
			t.Errorf("%s: the header was changed", c.option)
		}
	}
	h := sound(t)
	if err := h.Geometry(12345); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("page size: got %v", err)
	}
}

// FuzzDecode looks for bytes that make Decode panic, or that it accepts although a mapping of segment_size bytes would
// reach beyond the file or an area beyond the mapping.
func FuzzDecode(f *testing.F) {
	h := sound(f)
	b := encode(&h)
	f.Add(b[:320], int64(h.SegmentSize), true)
	f.Add(b[:100], int64(100), false)
	f.Add([]byte(Magic), int64(1<<40), true)
	f.Fuzz(func(t *testing.T, head []byte, fileSize int64, forge bool) {
		b := make([]byte, HeaderSize)
		copy(b, head)
		if forge {
			reseal(b)
		}
		for _, b := range [][]byte{b, head} {
			h, err := Decode(b, fileSize)
			if err != nil {
				if err.Error() == "" {
					t.Fatal("error without text")
				}
				continue
			}
			if h.Backing != BackingSysV && int64(h.SegmentSize) > fileSize {
				t.Fatalf("segment of %d bytes in a file of %d accepted", h.SegmentSize, fileSize)
			}
			if end := h.DataOffset + h.Slots*h.SlotSize; end > h.SegmentSize || h.DataOffset < h.AccountsOffset+8*h.Slots ||
				h.AccountsOffset < h.EntriesOffset+h.Slots*uint64(h.EntryStride) || h.EntriesOffset < h.ParticipantsOffset+128*uint64(h.Participants) {
				t.Fatalf("areas overlap: %+v", h)
			}
		}
	})
}
