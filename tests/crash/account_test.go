//go:build testpoint && linux

package crash

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cd1900cf/millrace/ring"
)

// The account of a run: what every process says that it sent and received, and what is in doubt because it was killed in the middle.

// delivery is one message as a consumer got it.
type delivery struct {
	seq   uint64
	count int
}

// child is what one child said, and what it was doing when it ended.
type childAccount struct {
	sent     []uint64
	trying   []uint64 // messages of a send that did not return
	discards bool     // that send is a reservation to be discarded
	got      []delivery
	held     []delivery // leased and neither released nor returned
	ending   int        // how many of held are being released or returned right now
	endsBack bool       // returned, that is
	returned []delivery
	dropped  []delivery // leased when the handle was closed, under Drop
	taking   int        // messages that a receive or lease which did not return may have taken
	copying  bool
}

// read replays the lines that a child printed.
func (a *childAccount) read(lines []string, drops, returnsDrop bool) error {
	for _, line := range lines {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		var x, y uint64
		_, _ = fmt.Sscan(strings.Join(f[1:], " "), &x, &y) // lines with fewer numbers leave the rest 0
		switch f[0] {
		case "try":
			a.trying, a.discards = nil, len(f) > 3
			for i := range y {
				a.trying = append(a.trying, x+i)
			}
		case "ok": // of those tried, this many are sent; the others are not
			a.sent = append(a.sent, a.trying[:x]...)
			a.trying = nil
		case "taking":
			a.taking, a.copying = int(x), len(f) > 2
		case "nothing":
			a.taking = 0
		case "got", "held":
			a.taking = 0
			for _, s := range f[1:] {
				var d delivery
				if _, err := fmt.Sscanf(s, "%d:%d", &d.seq, &d.count); err != nil {
					return fmt.Errorf("%q: %w", line, err)
				}
				if f[0] == "got" {
					a.got = append(a.got, d)
				} else {
					a.held = append(a.held, d)
				}
			}
		case "releasing":
			a.ending, a.endsBack = int(x), false
		case "released":
			a.got = append(a.got, a.held[:a.ending]...)
			a.held, a.ending = a.held[a.ending:], 0
		case "returning", "closing":
			a.ending, a.endsBack = len(a.held), true
		case "closed", "returned":
			if drops && f[0] == "closed" || returnsDrop {
				a.dropped = append(a.dropped, a.held...)
			} else {
				a.returned = append(a.returned, a.held...)
			}
			a.held, a.ending = nil, 0
		}
	}
	return nil
}

// account is the whole run. Beside the policy of the ring, a limit of one delivery makes every give-back a loss.
type account struct {
	drops, returnsDrop bool
	children           []*childAccount
	sent               []uint64     // by the test
	got                [][]delivery // by the consumers of the test
}

// fate is what the account knows of one message.
type fate struct {
	sent, maybeSent bool
	got             []int // counts of those who received and released it
	had             int   // how often somebody had it and did not release it
	mayMiss         bool  // it was being released, or being given back where that may lose it
	mayLose         bool  // it was leased by somebody who died, and that loses it
	dropped         bool  // it was leased when the handle was closed, and that loses it
}

// fates puts together what everybody says. unknown and copied are messages that killed calls may have taken, which nobody can name.
func (a *account) fates() (all map[uint64]*fate, unknown, copied int) {
	all = map[uint64]*fate{}
	at := func(seq uint64) *fate {
		if all[seq] == nil {
			all[seq] = &fate{}
		}
		return all[seq]
	}
	for _, seq := range a.sent {
		at(seq).sent = true
	}
	for _, d := range slices.Concat(a.got...) {
		at(d.seq).got = append(at(d.seq).got, d.count)
	}
	for _, c := range a.children {
		for _, seq := range c.sent {
			at(seq).sent = true
		}
		for _, seq := range c.trying {
			at(seq).maybeSent = true
		}
		for _, d := range slices.Concat(c.returned, c.dropped, c.held) {
			at(d.seq).sent = true // whatever became of the call that sent it
		}
		for _, d := range c.returned {
			at(d.seq).had++
		}
		for _, d := range c.dropped {
			at(d.seq).dropped = true
		}
		for _, d := range c.got {
			at(d.seq).got = append(at(d.seq).got, d.count)
		}
		for i, d := range c.held {
			f := at(d.seq)
			f.had++
			f.mayLose = f.mayLose || a.drops && i >= c.ending
			f.mayMiss = f.mayMiss || i < c.ending && (a.drops || !c.endsBack)
		}
		if c.copying {
			copied += c.taking
		} else {
			unknown += c.taking
		}
	}
	return all, unknown, copied
}

// check compares what was sent with what was received, and returns how many messages that were sent are missing for a good reason. Stats are those
// after everything has been drained.
func (a *account) check(s ring.Stats) (missing int, err error) {
	all, unknown, copied := a.fates()
	lost, doubtful := 0, 0 // certainly lost; perhaps sent, and then lost by a call that was killed
	for seq, f := range all {
		switch len(f.got) {
		case 0:
			if !f.sent {
				if doubtful < unknown {
					doubtful++
				}
				continue
			}
			missing++
			switch {
			case f.dropped, f.mayLose && !f.mayMiss:
				lost++
			case f.mayMiss: // released, or lost
			case copied > 0: // received by the call that was killed
				copied--
			case a.drops && unknown > 0: // leased by it, and lost
				unknown--
			default:
				return 0, fmt.Errorf("message %#x was sent and never received", seq)
			}
		case 1:
			extra := f.got[0] - 1 - f.had // leases that nobody could report
			switch {
			case f.dropped:
				return 0, fmt.Errorf("message %#x was received after it had been dropped", seq)
			case !f.sent && !f.maybeSent:
				return 0, fmt.Errorf("message %#x was received and never sent", seq)
			case extra < 0 || extra > unknown:
				return 0, fmt.Errorf("message %#x came with count %d; %d consumers had had it", seq, f.got[0], f.had)
			}
			unknown -= extra
		default:
			return 0, fmt.Errorf("message %#x was received %d times", seq, len(f.got))
		}
	}
	if !a.drops && s.Lost != 0 {
		return 0, fmt.Errorf("%d messages lost under redeliver", s.Lost)
	}
	if s.Lost < uint64(lost) || s.Lost > uint64(missing+doubtful) {
		return 0, fmt.Errorf("%d messages counted as lost; %d are missing, %d of which were leased", s.Lost, missing, lost)
	}
	return missing, a.order()
}

// order checks that messages of one sender which came for the first time came in the order in which they were sent.
func (a *account) order() error {
	for _, got := range a.got {
		last := map[uint64]uint64{}
		for _, d := range got {
			if source := d.seq >> 32; d.count == 1 {
				if d.seq <= last[source] {
					return fmt.Errorf("message %#x came after %#x", d.seq, last[source])
				}
				last[source] = d.seq
			}
		}
	}
	return nil
}

// committed says how many of the messages of a send that did not return were received.
func (a *account) committed(c *childAccount) (n int) {
	for _, d := range slices.Concat(a.got...) {
		if slices.Contains(c.trying, d.seq) {
			n++
		}
	}
	return n
}

// describe prints what the children said, for a report.
func (a *account) describe() string {
	var b strings.Builder
	for i, c := range a.children {
		fmt.Fprintf(&b, "child %d: sent %x, trying %x, got %x, held %x (ending %d), returned %x, dropped %x, taking %d\n", i, c.sent, c.trying, c.got, c.held, c.ending,
			c.returned, c.dropped, c.taking)
	}
	fmt.Fprintf(&b, "test: sent %x, got %x\n", a.sent, a.got)
	return b.String()
}
