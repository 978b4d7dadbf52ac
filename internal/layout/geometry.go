package layout

import "fmt"

// PageSize returns the page size that a segment with this value of huge is rounded up to.
func PageSize(huge uint32) int64 {
	switch huge {
	case HugeTransparent, Huge2M:
		return Page2M
	case Huge1G:
		return Page1G
	}
	return Page
}

// Geometry computes the offsets and sizes of a segment from kind, policy, slots, slot_size, entry_stride,
// participants and max_deliveries: header_size, inline_size, participant_stride, all offsets, and segment_size
// rounded up to pageSize.
//
// Failure: an *OptionError when an option is outside the limits of FORMAT section 2; nothing is changed then.
func (h *Header) Geometry(pageSize int64) error {
	if pageSize < Page || pageSize > Page1G || pageSize&(pageSize-1) != 0 {
		return &OptionError{"page size", pageSize, "4096, 2 MiB or 1 GiB"}
	}
	if err := h.limits(func(field string, got any, want string) error {
		return &OptionError{optionNames[field], got, want}
	}); err != nil {
		return err
	}
	h.HeaderSize = HeaderSize
	h.InlineSize = h.EntryStride - EntrySize
	h.ParticipantStride = ParticipantSize
	h.ParticipantsOffset = ParticipantsOffset
	// With the limits checked the largest sum is below 2^42.
	h.EntriesOffset = roundUp(h.ParticipantsOffset+uint64(h.Participants)*ParticipantSize, Page)
	h.AccountsOffset = roundUp(h.EntriesOffset+h.Slots*uint64(h.EntryStride), Page)
	h.DataOffset = roundUp(h.AccountsOffset+h.Slots*accountSize, Page)
	h.SegmentSize = roundUp(h.DataOffset+h.Slots*h.SlotSize, uint64(pageSize))
	return nil
}

// optionNames says what the user of the library calls a field.
var optionNames = map[string]string{
	"kind":           "Kind",
	"policy":         "OnConsumerDeath",
	"slots":          "Slots",
	"slot_size":      "SlotSize",
	"entry_stride":   "entry stride",
	"participants":   "Participants",
	"max_deliveries": "MaxDeliveries",
}

// limits checks the fields that the creator chooses against the limits of FORMAT section 2 and reports the first
// that is outside through fail.
func (h *Header) limits(fail func(field string, got any, want string) error) error {
	switch {
	case h.Kind != KindSPSC && h.Kind != KindMPMC:
		return fail("kind", h.Kind, "1 (SPSC) or 2 (MPMC)")
	case h.Policy != PolicyRedeliver && h.Policy != PolicyDrop:
		return fail("policy", h.Policy, "1 (redeliver) or 2 (drop)")
	case h.Slots < 1 || h.Slots > MaxSlots || h.Slots&(h.Slots-1) != 0:
		return fail("slots", h.Slots, fmt.Sprintf("a power of two, 1 to %d", MaxSlots))
	case h.SlotSize < 1 || h.SlotSize > MaxSlotSize:
		return fail("slot_size", h.SlotSize, fmt.Sprintf("1 to %d", MaxSlotSize))
	case h.Slots*h.SlotSize > MaxDataSize:
		return fail("slot_size", h.SlotSize, fmt.Sprintf("slots * slot_size at most %d; there are %d slots", int64(MaxDataSize), h.Slots))
	case h.EntryStride != 16 && h.EntryStride != 32 && h.EntryStride != 64 && h.EntryStride != 128:
		return fail("entry_stride", h.EntryStride, "16, 32, 64 or 128")
	case h.Participants < 1 || h.Participants > MaxParticipants:
		return fail("participants", h.Participants, fmt.Sprintf("1 to %d", MaxParticipants))
	case h.MaxDeliveries > MaxDeliveriesLimit:
		return fail("max_deliveries", h.MaxDeliveries, fmt.Sprintf("0 to %d", MaxDeliveriesLimit))
	}
	return nil
}

func roundUp(n, to uint64) uint64 { return (n + to - 1) / to * to }
