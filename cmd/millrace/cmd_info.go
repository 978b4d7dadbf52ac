package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/seg"
)

// info is everything about a ring that can be seen from outside.
type info struct {
	Name      string `json:"name"`
	Path      string `json:"path"`
	ID        string `json:"id"`
	Kind      string `json:"kind"`
	Backing   string `json:"backing"`
	HugePages string `json:"huge_pages"`
	Temporary bool   `json:"temporary"`

	Size              int64  `json:"size"`
	Slots             uint64 `json:"slots"`
	SlotSize          uint64 `json:"slot_size"`
	MaxMessage        int    `json:"max_message"`
	EntryStride       uint32 `json:"entry_stride"`
	InlineSize        uint32 `json:"inline_size"`
	MaxParticipants   uint32 `json:"max_participants"`
	ParticipantStride uint32 `json:"participant_stride"`
	OnConsumerDeath   string `json:"on_consumer_death"`
	MaxDeliveries     uint32 `json:"max_deliveries"`

	Version            uint32 `json:"version"`
	Layout             string `json:"layout"`
	ParticipantsOffset uint64 `json:"participants_offset"`
	EntriesOffset      uint64 `json:"entries_offset"`
	AccountsOffset     uint64 `json:"accounts_offset"`
	DataOffset         uint64 `json:"data_offset"`
	Start              uint64 `json:"start"`

	Mode       string `json:"mode"`
	UID        uint32 `json:"uid"`
	GID        uint32 `json:"gid"`
	Created    string `json:"created"`
	CreatedNS  int64  `json:"created_ns"`
	CreatorPID uint32 `json:"creator_pid"`
	SysVKey    uint32 `json:"sysv_key,omitempty"`
	SysVID     uint32 `json:"sysv_id,omitempty"`

	Attached    bool `json:"attached"`
	Attachments int  `json:"attachments"`

	ring.Stats
	Participants []participant `json:"participants"`
}

// participant is one registered producer or consumer.
type participant struct {
	ID       int     `json:"id"`
	Role     string  `json:"role"`
	PID      int     `json:"pid"`
	State    string  `json:"state"`
	Proof    string  `json:"proof"`              // what shows that it lives or not
	Position *uint64 `json:"position,omitempty"` // of what it holds; absent: nothing
	AgeNS    int64   `json:"age_ns"`             // of what it holds, or of its registration
}

var infoCommand = &command{
	name: "info", operands: "NAME", summary: "header, layout, participants with their proof of life, positions, losses", takesName: true,
	new: func(f *flags) runner {
		f.withDir()
		var jsonOut bool
		f.toggle(&jsonOut, "j json", "one JSON object")
		return func(ctx context.Context, a *app, operands []string) error {
			name, err := oneName(operands)
			if err != nil {
				return err
			}
			i, err := inspect(ctx, a, name)
			if err != nil {
				return err
			}
			if jsonOut {
				return writeJSON(a.stdout, i)
			}
			return i.print(a.stdout)
		}
	},
}

// stallLook is how long after the first look a second one can tell that somebody stalls.
const stallLook = 110 * time.Millisecond

func inspect(ctx context.Context, a *app, name string) (*info, error) {
	seen, err := seg.Inspect(name, a.dir)
	if err != nil {
		return nil, notFound(a, name, nextList, err)
	}
	if seen.Err != nil {
		return nil, fmt.Errorf("%s: %w", seen.Path, seen.Err)
	}
	r, err := ring.Open(name, ring.WithDir(a.dir), ring.ReadOnly())
	if err != nil {
		return nil, notFound(a, name, nextList, err)
	}
	defer r.Close()
	h := r.Header()
	o := r.Options()
	i := &info{
		Name: name, Path: seen.Path, ID: hex.EncodeToString(h.ID[:]), Kind: o.Kind.String(), Backing: o.Backing.String(), HugePages: o.HugePages.String(),
		Temporary: o.Temporary, Size: seen.Size, Slots: h.Slots, SlotSize: h.SlotSize, MaxMessage: r.MaxMessage(), EntryStride: h.EntryStride,
		InlineSize: h.InlineSize, MaxParticipants: h.Participants, ParticipantStride: h.ParticipantStride, OnConsumerDeath: o.OnConsumerDeath.String(),
		MaxDeliveries: h.MaxDeliveries, Version: h.Version, Layout: fmt.Sprintf("%#016x", h.Layout), ParticipantsOffset: h.ParticipantsOffset,
		EntriesOffset: h.EntriesOffset, AccountsOffset: h.AccountsOffset, DataOffset: h.DataOffset, Start: h.Start, Mode: octal(seen.Mode),
		UID: seen.UID, GID: seen.GID, Created: stamp(time.Unix(0, int64(h.Created))), CreatedNS: int64(h.Created), CreatorPID: h.CreatorPID,
		SysVKey: h.SysvKey, SysVID: h.SysvID, Attached: seen.Attached, Attachments: seen.NAttach,
	}
	all := r.Participants()
	for _, p := range all {
		if p.Holding {
			if err := sleep(ctx, stallLook); err != nil {
				return nil, err
			}
			all = r.Participants()
			break
		}
	}
	i.Stats = r.Stats()
	i.Participants = []participant{}
	for _, p := range all {
		i.Participants = append(i.Participants, describe(p))
	}
	return i, nil
}

func describe(p ring.Participant) participant {
	d := participant{ID: p.ID, Role: p.Role.String(), PID: p.PID, State: p.State.String(), AgeNS: int64(p.Age)}
	d.Proof = fmt.Sprintf("holds its lock on byte %d", p.LockByte())
	if p.State == ring.Dead {
		d.Proof = fmt.Sprintf("its lock on byte %d is gone", p.LockByte())
	}
	if p.Holding {
		d.Position = &p.Position
	}
	return d
}

func (i *info) print(w io.Writer) error {
	t := table{head: []string{"", ""}}
	line := func(key, format string, args ...any) { t.add(key, fmt.Sprintf(format, args...)) }
	line("ring", "%s (%s), id %s", i.Name, i.Path, i.ID)
	kind := i.Kind
	if i.Temporary {
		kind += ", temporary: the last recv removes it"
	}
	line("kind", "%s", kind)
	line("memory", "%s, %d bytes, huge pages: %s", i.Backing, i.Size, i.HugePages)
	line("slots", "%d of %d bytes; messages of up to %d bytes", i.Slots, i.SlotSize, i.MaxMessage)
	line("layout", "version %d, fingerprint %s; entries every %d bytes from %d, accounts from %d, data from %d", i.Version, i.Layout, i.EntryStride,
		i.EntriesOffset, i.AccountsOffset, i.DataOffset)
	deliveries := "any number of deliveries"
	if i.MaxDeliveries > 0 {
		deliveries = fmt.Sprintf("at most %d deliveries", i.MaxDeliveries)
	}
	line("on consumer death", "%s, %s", i.OnConsumerDeath, deliveries)
	line("created", "%s by pid %d; mode %s, uid %d, gid %d", i.Created, i.CreatorPID, i.Mode, i.UID, i.GID)
	line("attached", "%d", i.Attachments)
	line("positions", "producer %d, consumer %d; %d of %d slots used", i.ProducerPosition, i.ConsumerPosition, i.Used, i.Stats.Slots)
	line("messages", "%d sent, %d received, %d of them redelivered", i.Sent, i.Received, i.Redelivered)
	line("losses", "%d messages lost, %d claims of dead producers skipped, %d reservations discarded", i.Lost, i.Skipped, i.Discarded)
	line("producers", "%d ever, %d live, %d died", i.ProducersEver, i.ProducersLive, i.ProducersDied)
	line("consumers", "%d ever, %d live, %d died; %d recoveries", i.ConsumersEver, i.ConsumersLive, i.ConsumersDied, i.Recoveries)
	line("waits", "%d sleeps, %d wakes", i.Sleeps, i.Wakes)
	if err := t.print(w, false); err != nil || len(i.Participants) == 0 {
		return err
	}
	p := table{head: []string{"ID", "ROLE", "PID", "STATE", "HOLDS", "AGE", "PROOF"}}
	for _, x := range i.Participants {
		holds := "-"
		if x.Position != nil {
			holds = strconv.FormatUint(*x.Position, 10)
		}
		p.add(strconv.Itoa(x.ID), x.Role, strconv.Itoa(x.PID), x.State, holds, time.Duration(x.AgeNS).Round(time.Millisecond).String(), x.Proof)
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	return p.print(w, true)
}
