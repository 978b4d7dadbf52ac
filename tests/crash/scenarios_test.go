//go:build testpoint && linux

package crash

import (
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/cd1900cf/millrace/ring"
)

// The rings of these tests have 16 slots of 64 bytes: messages up to 48 bytes lie inline, up to 64 take one slot, up to 512 eight.
const (
	slots    = 16
	slotSize = 64
)

var (
	small = []int{16, 48, 64, 30}
	large = []int{200, 300, 16, 450, 512, 100, 65}
	mixed = []int{40, 300, 16, 64, 150, 20, 512, 30}
)

// scenario is what one child does, and what goes on around it.
type scenario struct {
	role   ring.Role
	labels map[ring.Kind]string // reached by the child, separated by |; those in once are reached one time only
	once   string
	later  int64 // the later hit at which it is killed; default 4
	child  func(*actor)
	opens  bool // the child opens or creates the ring itself

	both, drop    bool // with both policies, with Drop only; otherwise with Redeliver
	maxDeliveries int
	participants  int

	before []victim // children that are killed before this one starts
	fill   []int    // messages that the test sends before anybody else does anything

	consumers int  // the test's consumers while the child sends; default 1
	late      bool // the other side starts when the child has ended, or has gone on after a stop
	alone     bool // the other side starts when the child has ended: it has the role of the child
	sleepers  int  // the child waits until so many of the other side are about to sleep
	sizes     []int
	batch     int // the test sends in batches of so many equal messages
}

// victim is a child of another scenario that is killed at the n-th hit of a label; without one it kills itself.
type victim struct {
	scenario, label string
	n               int64
}

// labelsFor returns the labels that a kill of this scenario can be at.
func (s *scenario) labelsFor(k ring.Kind) []string {
	if s.labels[k] == "" {
		return nil
	}
	return strings.Split(s.labels[k], "|")
}

func (s *scenario) onlyOnce(label string) bool {
	return s.once == "all" || slices.Contains(strings.Split(s.once, "|"), label)
}

// die kills this process, as if somebody else did.
func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

func sending(sizes []int) func(*actor) {
	return func(a *actor) {
		a.producer()
		for i := range 48 {
			a.send(sizes[i%len(sizes)])
		}
	}
}

func receiving(n int) func(*actor) {
	return func(a *actor) {
		a.consumer()
		for range n {
			a.receive()
		}
	}
}

type perKind = map[ring.Kind]string

const (
	regs  = "R1|R2|R3|R4|R5"
	exits = "X1|X2|X3|X4"
)

var scenarios = map[string]*scenario{
	"send": {
		role: ring.ProducerRole, child: sending(small),
		labels: perKind{ring.MPMC: "P3|P4 payload|P4 length|P6|P7|P7 counted", ring.SPSC: "S3 payload|S3|S4|S5"},
	},
	"send large": {
		role: ring.ProducerRole, child: sending(large),
		labels: perKind{ring.MPMC: "P3|P4 payload|P4 length|P5|P5 free|P6|P7|P7 counted", ring.SPSC: "S2|S3 payload|S3|S4|S5"},
	},
	"send blocked": {
		role: ring.ProducerRole, child: sending(small), late: true, once: "W1",
		labels: perKind{ring.MPMC: "W1", ring.SPSC: "W1"},
	},
	"send waking": {
		role: ring.ProducerRole, sleepers: 1, once: "all",
		child: func(a *actor) {
			a.producer()
			a.ready()
			a.send(16)
		},
		labels: perKind{ring.MPMC: "N2|N2 woken", ring.SPSC: "N2|N2 woken"},
	},
	"send waking one of three": {
		role: ring.ProducerRole, sleepers: 3, consumers: 3, once: "all",
		child: func(a *actor) {
			a.producer()
			a.ready()
			a.send(16)
		},
		labels: perKind{ring.MPMC: "N2|N3"},
	},
	"reserve": {
		role: ring.ProducerRole, once: "P5",
		child: func(a *actor) {
			a.producer()
			for i := range 12 {
				a.reserve(small[i%len(small)])
				a.commitN(400, 80+i)
				a.discard(16)
				a.reserve(330)
				a.discard(500)
				a.reserve(20)
				a.reserve(512)
			}
		},
		labels: perKind{
			ring.MPMC: "P3|reserved|P4 length|P5|P5 free|P6|P7|P7 counted|discarding|discarded",
			ring.SPSC: "S1 reserved|reserved|S2|S3|S4|S5|discarded",
		},
	},
	"send batch": {
		role: ring.ProducerRole,
		child: func(a *actor) {
			a.producer()
			for range 8 {
				a.sendBatch(20, 20, 20, 20, 20)
				a.sendBatch(16, 200, 30, 130, 64)
				a.sendBatch(16, 400, 30)
				a.trySendBatch(16, 64, 16, 64, 16, 64, 16, 64, 16, 64, 16, 64, 16, 64, 16, 64, 16, 64, 200)
			}
		},
		labels: perKind{ring.MPMC: "P3|P4 payload|P5|P5 free|P6|P7|P7 counted", ring.SPSC: "S2|S3 payload|S3|S4|S5"},
	},
	"producer lives": {
		role: ring.ProducerRole,
		child: func(a *actor) {
			for i := range 6 {
				a.producer()
				a.send(16)
				a.closeProducer(i % 2 * 300)
			}
		},
		labels: perKind{ring.MPMC: regs + "|" + exits, ring.SPSC: regs + "|10.3|" + exits},
	},
	"receive": {
		role: ring.ConsumerRole, child: receiving(40), both: true, sizes: small,
		labels: perKind{ring.MPMC: "C3|C4|C6 counted|C6", ring.SPSC: "D3|D4|D5"},
	},
	"receive large": {
		role: ring.ConsumerRole, child: receiving(40), both: true, sizes: large,
		labels: perKind{ring.MPMC: "C3|C4|P5 free|C5|C6 counted|C6", ring.SPSC: "D3|D4|D5"},
	},
	"receive run": {
		role: ring.ConsumerRole, child: receiving(40), sizes: small, batch: 5,
		labels: perKind{ring.MPMC: "C3|C4", ring.SPSC: "D2 run|D3|D4|D5"},
	},
	"receive blocked": {
		role: ring.ConsumerRole, child: receiving(4), sizes: small, late: true, once: "W1",
		labels: perKind{ring.MPMC: "W1", ring.SPSC: "W1"},
	},
	"receive waking": {
		role: ring.ConsumerRole, sizes: small, sleepers: 1, once: "all",
		child: func(a *actor) {
			a.consumer()
			a.ready()
			a.receive()
			a.receive()
		},
		labels: perKind{ring.MPMC: "N2|N2 woken", ring.SPSC: "N2|N2 woken"},
	},
	"next": {
		role: ring.ConsumerRole, both: true, sizes: small,
		child: func(a *actor) {
			a.consumer()
			for range 40 {
				a.release(a.lease(1), 1)
			}
		},
		labels: perKind{ring.MPMC: "L1|L2|L2 counted|L3|L4|C6", ring.SPSC: "D lease|L2 counted|D4|D5|L4"},
	},
	"next large": {
		role: ring.ConsumerRole, both: true, sizes: large,
		child: func(a *actor) {
			a.consumer()
			for range 40 {
				a.release(a.lease(1), 1)
			}
		},
		labels: perKind{ring.MPMC: "L1|L2|L2 counted|L3 done|P5 free|C5|L4", ring.SPSC: "D lease|D4|D5|L4"},
	},
	"batch in parts": {
		role: ring.ConsumerRole, both: true, sizes: mixed, child: inParts, once: "L3",
		labels: perKind{ring.MPMC: "L1|L2|L2 counted|L3 rest|L3|L3 done|P5 free|C5|L4", ring.SPSC: "D lease|L2 counted|D4|D5|L4"},
	},
	"run in parts": {
		role: ring.ConsumerRole, both: true, sizes: []int{20}, batch: 6, child: inParts,
		labels: perKind{ring.MPMC: "L2|L3 rest|L3", ring.SPSC: "D2 run|D lease|L2 counted|D4|D5|L4"},
	},
	"return": {
		role: ring.ConsumerRole, both: true, sizes: mixed, child: returning,
		labels: perKind{ring.MPMC: "L2|L3 rest|given back|V4|L4|C3|C4|C5", ring.SPSC: "D lease|J1|J2|J3|L4|D4"},
	},
	"return runs": {
		role: ring.ConsumerRole, both: true, sizes: []int{30}, batch: 6, child: returning,
		labels: perKind{ring.MPMC: "given back|V4", ring.SPSC: "D2 run|D lease|J4|J1|J2|J3|L4|D4"},
	},
	"return beyond the limit": {
		role: ring.ConsumerRole, sizes: mixed, maxDeliveries: 1, child: returning,
		labels: perKind{ring.MPMC: "V8|L3|L3 done|V4|L4", ring.SPSC: "J1|V8|J2|J3|L4"},
	},
	"close leased": {
		role: ring.ConsumerRole, both: true, sizes: mixed, child: closing,
		labels: perKind{ring.MPMC: regs + "|L2|V4|L4|" + exits, ring.SPSC: regs + "|10.4|D lease|L4|" + exits},
	},
	"close leased runs": {
		role: ring.ConsumerRole, both: true, sizes: []int{20}, batch: 6, child: closing, once: "D2 run|J4 head",
		labels: perKind{ring.SPSC: "J4 head|J4|10.4|D2 run"},
	},
	"consumer lives": {
		role: ring.ConsumerRole, sizes: small,
		child: func(a *actor) {
			for range 6 {
				a.consumer()
				a.receive()
				a.receive()
				must(a.q.Close())
			}
		},
		labels: perKind{ring.MPMC: regs + "|" + exits, ring.SPSC: regs + "|10.4|" + exits},
	},
}

// inParts leases batches and releases each in two steps.
func inParts(a *actor) {
	a.consumer()
	for i := range 10 {
		a.untilReady(3)
		held := a.lease(5)
		if held = a.release(held, min(1+i%2, len(held))); len(held) > 0 {
			a.release(held, len(held))
		}
	}
}

// returning gives most of each batch back, and consumes what comes next.
func returning(a *actor) {
	a.consumer()
	for range 8 {
		a.untilReady(2)
		if held := a.lease(4); len(held) > 1 {
			a.giveBack(a.release(held, 1))
		} else {
			a.giveBack(held)
		}
		a.receive()
		a.receive()
	}
}

// closing closes handles with open leases.
func closing(a *actor) {
	for range 6 {
		a.consumer()
		a.untilReady(2)
		a.lease(3)
		a.c.Say("closing")
		must(a.q.Close())
		a.c.Say("closed")
		a.consumer()
		a.receive()
		must(a.q.Close())
	}
}
