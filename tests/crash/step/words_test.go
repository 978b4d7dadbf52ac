//go:build linux && amd64

package step

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"

	"github.com/cd1900cf/millrace/internal/layout"
	"github.com/cd1900cf/millrace/ring"
)

// The words of the segment, read without the help of the code that writes them.

// word returns the u64 at an offset of the segment.
func (w *world) word(offset uint64) uint64 {
	return binary.LittleEndian.Uint64(w.mem[offset-layout.ControlOffset:])
}

func (w *world) control(field uint64) uint64 { return w.word(layout.ControlOffset + field) }

// words checks the words of a drained ring that nobody has open.
func (w *world) words() error {
	for id := range uint64(participants) {
		at := w.h.ParticipantsOffset + id*layout.ParticipantSize
		if v := w.word(at + layout.ParticipantHeld); v != 0 {
			return fmt.Errorf("participant %d still holds position %d", id, v-1)
		}
		for _, role := range []uint64{layout.ParticipantProducerRegistered, layout.ParticipantConsumerRegistered} {
			u32 := func(field uint64) uint32 { return uint32(w.word(at+field) & 0xFFFFFFFF) }
			if ever, closed, died := u32(role), u32(role+4), u32(role+8); ever != closed+died {
				return fmt.Errorf("participant %d: %d sessions, %d closed, %d died", id, ever, closed, died)
			}
		}
	}
	if w.r.Options().Kind == ring.SPSC {
		if v := w.control(layout.ControlReservedPosition); v != 0 {
			return fmt.Errorf("reserved position %d of a ring without a producer", v)
		}
		at := w.control(layout.ControlConsumerPosition)
		if v := w.control(layout.ControlJournal); v != 0 && v>>8 >= at { // one that names what is gone is cleared by the next consumer
			return fmt.Errorf("journal %#x of a ring without a consumer", v)
		}
		if end := w.control(layout.ControlLeaseEnd); int64(end-at) > 0 {
			return fmt.Errorf("lease up to %d of a ring without a consumer at %d", end, at)
		}
		return nil
	}
	return w.free()
}

// free checks that every slot of an MPMC ring is FREE, and for a position of the same lap as the others.
func (w *world) free() error {
	lowest, highest := ^uint64(0), uint64(0)
	for i := range uint64(slots) {
		v := w.word(w.h.EntriesOffset + i*uint64(w.h.EntryStride) + layout.EntryState)
		p := v >> layout.MpmcSequenceShift
		if v&(1<<layout.MpmcSequenceShift-1) != layout.StateFree || p%slots != i {
			return fmt.Errorf("slot %d of a drained ring has state %#x", i, v)
		}
		lowest, highest = min(lowest, p), max(highest, p)
	}
	if highest-lowest != slots-1 {
		return fmt.Errorf("the slots of a drained ring are free for positions %d to %d", lowest, highest)
	}
	return nil
}

var seed = maphash.MakeSeed()

// fingerprint names the state of the segment. What differs from run to run is left out: process numbers and times.
func fingerprint(mem []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	const table = layout.ParticipantsOffset - layout.ControlOffset
	h.Write(mem[:table])
	for id := range participants {
		m := mem[table+id*layout.ParticipantSize:][:layout.ParticipantSize]
		h.Write(m[:layout.ParticipantPid])
		h.Write(m[layout.ParticipantHeld:])
	}
	h.Write(mem[table+participants*layout.ParticipantSize:])
	return h.Sum64()
}
