package main

import (
	"context"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/seg"
)

// ringFlags are the options of a ring that is made.
type ringFlags struct{ ring.Options }

// register adds the flags; send has them for --create.
func (rf *ringFlags) register(f *flags) {
	o := &rf.Options
	choice(f, &o.Kind, "kind", "one producer and one consumer, or many of both", []string{"spsc", "mpmc"}, ring.SPSC, ring.MPMC)
	f.number(&o.Slots, "slots", "slots, a power of two")
	f.size(&o.SlotSize, "slot-size", "payload bytes of one slot; a message may take up to half of the slots")
	f.add(parsed(&o.Perm, parseMode), "mode", "MODE", "permissions, in octal; default 0600")
	choice(f, &o.Backing, "backing", "POSIX or System V shared memory", []string{"posix", "sysv"}, seg.POSIX, seg.SysV)
	choice(f, &o.HugePages, "huge", "huge pages: none, transparent (if there are any), 2 MiB, 1 GiB", []string{"none", "thp", "2m", "1g"},
		seg.NoHuge, seg.Transparent, seg.Huge2M, seg.Huge1G)
	choice(f, &o.OnConsumerDeath, "on-consumer-death", "what becomes of a message whose consumer died holding it", []string{"redeliver", "drop"},
		ring.Redeliver, ring.Drop)
	f.number(&o.MaxDeliveries, "max-deliveries", "give a message up after so many deliveries; 0: never")
	f.number(&o.Participants, "participants", "producers and consumers at once, at most 4096; default 256")
}

// parseMode reads permissions such as 0660.
func parseMode(s string) (fs.FileMode, error) {
	m, err := strconv.ParseUint(s, 8, 32)
	if err != nil || m == 0 || m > 0o777 {
		return 0, fmt.Errorf("not permissions in octal, such as 0660")
	}
	return fs.FileMode(m), nil
}

var createCommand = &command{
	name: "create", operands: "NAME --kind spsc|mpmc", summary: "make a ring", takesName: true, changes: true,
	detail: "Without --slots and --slot-size a ring has 1024 slots of 256 bytes. A message larger than a slot takes several\n" +
		"consecutive slots. All memory is reserved here, so that nobody meets a full /dev/shm later.",
	new: func(f *flags) runner {
		f.withDir()
		var rf ringFlags
		rf.register(f)
		return func(ctx context.Context, a *app, operands []string) error {
			name, err := oneName(operands)
			if err != nil {
				return err
			}
			if rf.Kind == 0 {
				return usagef("--kind spsc or --kind mpmc is missing")
			}
			o := rf.Options
			o.Dir = a.dir
			r, err := ring.Create(name, o)
			if err != nil {
				return err
			}
			if have := r.Options().HugePages; have != o.HugePages {
				a.warn("it has huge pages: %s; %s was asked for and is not to be had", have, o.HugePages)
			}
			return r.Close()
		}
	},
}
