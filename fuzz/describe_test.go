//go:build linux && (amd64 || arm64)

package fuzz

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"sync"

	"github.com/cd1900cf/millrace/internal/layout"
)

// describe reads a segment by the tables of docs/FORMAT.md, without the code of the library.

// table is one table of the format, as layout.json has it.
type table struct {
	Name   string
	Size   int
	Fields []struct {
		Name         string
		Offset, Size int
		Type         string
	}
}

var tables = sync.OnceValue(func() map[string]table {
	b, err := os.ReadFile(filepath.Join("..", "internal", "layout", "layout.json"))
	if err != nil {
		panic(err)
	}
	var all struct{ Tables []table }
	if err := json.Unmarshal(b, &all); err != nil {
		panic(err)
	}
	byName := map[string]table{}
	for _, t := range all.Tables {
		byName[t.Name] = t
	}
	return byName
})

// read takes the numbers of a table from b.
func (t table) read(b []byte) fields {
	f := fields{}
	for _, x := range t.Fields {
		switch x.Type {
		case "u32":
			f[x.Name] = uint64(binary.LittleEndian.Uint32(b[x.Offset:]))
		case "u64":
			f[x.Name] = binary.LittleEndian.Uint64(b[x.Offset:])
		}
	}
	return f
}

func describe(mem []byte) Contents {
	h := tables()["Header"].read(mem)
	c := Contents{
		ID: hex.EncodeToString(mem[layout.HeaderID:][:16]), Header: h, Control: fields{},
		Participants: []participant{}, Entries: []entry{}, Accounts: []account{},
	}
	if len(mem) == layout.HeaderSize {
		return c
	}
	c.Control = tables()["Control"].read(mem[layout.ControlOffset:])
	for id := range int(h["participants"]) {
		f := tables()["Participant"].read(mem[h["participants_offset"]+uint64(id)*layout.ParticipantSize:])
		if f["producer_registered"]+f["consumer_registered"] == 0 {
			continue
		}
		open := "none"
		for _, role := range []string{"producer", "consumer"} {
			if f[role+"_registered"]-f[role+"_closed"]-f[role+"_died"] == 1 {
				open = role
			}
		}
		c.Participants = append(c.Participants, participant{id, open, f})
	}
	for slot := range h["slots"] {
		e := tables()["Entry"].read(mem[h["entries_offset"]+slot*h["entry_stride"]:])
		c.Entries = append(c.Entries, describeEntry(slot, e["state"], e["length"], h))
		if a := binary.LittleEndian.Uint64(mem[h["accounts_offset"]+8*slot:]); a != 0 {
			c.Accounts = append(c.Accounts, account{slot, a >> 40, a >> 20 & (1<<20 - 1), a & (1<<20 - 1)})
		}
	}
	return c
}

// describeEntry says what the words of a slot mean, FORMAT sections 3.4 and 5.
func describeEntry(slot, state, length uint64, h fields) entry {
	e := entry{Slot: slot, State: state, Length: length, Kind: "none", Bytes: length & layout.LengthMask, LengthFlag: []string{}}
	for _, f := range []struct {
		name string
		bit  uint64
	}{{"inline", layout.FlagInline}, {"run", layout.FlagRun}, {"pad", layout.FlagPad}, {"skip", layout.FlagSkip}} {
		if length&f.bit != 0 {
			e.LengthFlag = append(e.LengthFlag, f.name)
		}
	}
	shift, modulus := uint(layout.SpscSequenceShift), uint64(1<<56-1)
	if h["kind"] == layout.KindMPMC {
		shift, modulus = layout.MpmcSequenceShift, 1<<44-1
		e.Owner = state >> layout.OwnerShift & layout.OwnerMask
	}
	switch b := state & 0xff; {
	case b == layout.StateFree:
		e.Kind = "free"
	case b == layout.StateClaimed:
		e.Kind = "claimed"
	case b == layout.StateDone:
		e.Kind = "done"
	case b&0xc0 == layout.StateReady:
		e.Kind, e.GivenBack = "ready", b&layout.DeliveriesMask
	case b&0xc0 == layout.StateTaken:
		e.Kind, e.GivenBack = "taken", b&layout.DeliveriesMask
	default:
		return e
	}
	e.Sequence = state >> shift
	e.Position = e.Sequence
	if e.Kind != "free" { // the largest position below the end that lies in this slot
		e.Position = (e.Sequence - 1 - (e.Sequence-1-slot)&(h["slots"]-1)) & modulus
	}
	return e
}
