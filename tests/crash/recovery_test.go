//go:build testpoint && linux

package crash

import "github.com/cd1900cf/millrace/ring"

// Scenarios in which a child dies while it recovers what others left that died before it.

const retires = "V1|V4|V5|V6"

func init() {
	for name, s := range recoveries {
		scenarios[name] = s
	}
}

var recoveries = map[string]*scenario{
	// Victims: nobody else is around. They kill themselves holding something.
	"dies with a claim": {
		role: ring.ProducerRole, late: true,
		child: func(a *actor) {
			a.producer()
			a.send(16)
			a.c.Say("try %d %d discard", a.seq+1, 1)
			_, err := a.p.Reserve(forever, len(a.message(400)))
			must(err)
			die()
		},
	},
	"dies with a lease": {
		role: ring.ConsumerRole, sizes: mixed, late: true,
		child: func(a *actor) {
			a.consumer()
			a.lease(5)
			die()
		},
	},
	"dies with a part of a lease": {
		role: ring.ConsumerRole, sizes: mixed, late: true,
		child: func(a *actor) {
			a.consumer()
			a.release(a.lease(5), 1)
			die()
		},
	},
	"dies returning behind padding": {
		role: ring.ConsumerRole, late: true,
		child: func(a *actor) {
			a.producer()
			a.consumer()
			for _, n := range []int{512, 300} {
				a.send(n)
				a.receive()
			}
			for _, n := range []int{64, 300, 30, 30} { // the second does not fit behind the first
				a.send(n)
			}
			must(a.p.Close())
			a.giveBack(a.release(a.lease(4), 1))
		},
	},

	"recover a claim": {
		role: ring.ProducerRole, late: true, child: recoverAll, once: "all",
		before: []victim{{scenario: "dies with a claim"}},
		labels: perKind{ring.MPMC: retires + "|V3 interior|V8|V3 skip"},
	},
	"recover half a batch": {
		role: ring.ProducerRole, late: true, child: recoverAll, once: "all",
		before: []victim{{"send batch", "P5", 2}},
		labels: perKind{ring.MPMC: retires + "|V3 interior|V8|V3 skip"},
	},
	"recover a claim by receiving": {
		role: ring.ConsumerRole, late: true, child: receiving(2), once: "all", sizes: mixed,
		before: []victim{{scenario: "dies with a claim"}},
		labels: perKind{ring.MPMC: retires + "|V3 interior|V8|V3 skip"},
	},
	"recover claims again and again": {
		role: ring.ProducerRole, late: true, child: recoverAll, later: 2,
		before: []victim{{scenario: "dies with a claim"}, {"reserve", "P5 free", 1}},
		labels: perKind{ring.MPMC: "V3 interior|V8|V3 skip|V1|V4|V5|V6"},
	},
	"recover a lease": {
		role: ring.ConsumerRole, both: true, late: true, child: recoverAll, sizes: mixed, fill: []int{40, 150, 16, 64, 100}, later: 2, once: retires + "|V3 lost",
		before: []victim{{scenario: "dies with a lease"}},
		labels: perKind{ring.MPMC: retires},
	},
	"recover a redelivered lease": {
		role: ring.ConsumerRole, late: true, child: recoverAll, sizes: mixed, fill: []int{40, 150, 16, 64, 100}, later: 3,
		before: []victim{{scenario: "dies with a lease"}},
		labels: perKind{ring.MPMC: "V3 back", ring.SPSC: "J1|J2"},
	},
	"recover a lost lease": {
		role: ring.ConsumerRole, late: true, child: recoverAll, sizes: mixed, fill: []int{40, 150, 16, 64, 100}, maxDeliveries: 1, later: 3,
		before: []victim{{scenario: "dies with a lease"}},
		labels: perKind{ring.MPMC: "V8|V3 lost|V3 interior", ring.SPSC: "J1|V8|J2"},
	},
	"recover a part of a lease": {
		role: ring.ConsumerRole, late: true, child: recoverAll, sizes: mixed, fill: []int{40, 150, 16, 64, 100}, later: 2,
		before: []victim{{scenario: "dies with a part of a lease"}},
		labels: perKind{ring.MPMC: "V3 back", ring.SPSC: "J1|J2"},
	},
	"recover half a release": {
		role: ring.ConsumerRole, late: true, child: recoverAll, sizes: mixed, fill: []int{300, 150, 16, 64}, once: "all",
		before: []victim{{"next", "L3 done", 1}},
		labels: perKind{ring.MPMC: retires + "|V3 interior|V3 done"},
	},
	"recover half a split": {
		role: ring.ConsumerRole, late: true, both: true, child: recoverAll, sizes: mixed, fill: []int{40, 150, 16, 64, 100}, once: "all",
		before: []victim{{"batch in parts", "L3 rest", 1}},
		labels: perKind{ring.MPMC: retires},
	},
	"recover by sending": {
		role: ring.ProducerRole, late: true, both: true, child: sending(small), fill: []int{40, 450, 16, 200, 64, 64}, once: retires,
		before: []victim{{scenario: "dies with a lease"}},
		labels: perKind{ring.MPMC: retires},
	},
	"recover by registering": {
		role: ring.ConsumerRole, late: true, both: true, participants: 2, child: receiving(1), fill: []int{40, 150, 16}, once: "all", sizes: small,
		before: []victim{{scenario: "dies with a lease"}},
		labels: perKind{ring.MPMC: retires + "|R2|R4"},
	},
	"succeed a producer with a claim": {
		role: ring.ProducerRole, late: true, child: sending(small[:1]), once: "all",
		before: []victim{{scenario: "dies with a claim"}},
		labels: perKind{ring.SPSC: "V8|10.3 skipped|10.3|R4"},
	},
	"recover an SPSC claim": {
		role: ring.ProducerRole, late: true, child: recoverAll, once: "all",
		before: []victim{{scenario: "dies with a claim"}},
		labels: perKind{ring.SPSC: "V8|10.3 skipped|10.3|" + retires},
	},
	"succeed a consumer with a lease": {
		role: ring.ConsumerRole, late: true, child: receiving(4), later: 3, fill: []int{40, 150, 16, 64, 100}, once: "J3|10.4", sizes: mixed,
		before: []victim{{scenario: "dies with a lease"}},
		labels: perKind{ring.SPSC: "J1|J2|J3|10.4"},
	},
	"succeed a consumer with a run": {
		role: ring.ConsumerRole, late: true, child: receiving(4), later: 3, fill: []int{20, 20, 20, 20, 20}, batch: 5, once: "J3|10.4", sizes: []int{20},
		before: []victim{{scenario: "dies with a part of a lease"}},
		labels: perKind{ring.SPSC: "J4|J1|J2|J3|10.4"},
	},
	"return what was returned behind padding": {
		role: ring.ProducerRole, late: true, alone: true, both: true, once: "10.4|J3",
		child: func(a *actor) {
			a.consumer()
			a.giveBack(a.lease(4))
			a.giveBack(a.release(a.lease(4), 1))
		},
		before: []victim{{"dies returning behind padding", "J3", 1}},
		labels: perKind{ring.SPSC: "J1|J2|J3|10.4"},
	},
	"recover a dead SPSC consumer": {
		role: ring.ConsumerRole, late: true, both: true, child: recoverAll, fill: []int{20, 20, 20, 20, 20}, batch: 5, once: "all", sizes: []int{20},
		before: []victim{{scenario: "dies with a lease"}},
		labels: perKind{ring.SPSC: "J4 head|J4|" + retires},
	},
	"recover a dropped SPSC lease": {
		role: ring.ConsumerRole, drop: true, late: true, child: recoverAll, fill: []int{20, 150, 20}, later: 2, once: "SPSC dropped", sizes: mixed,
		before: []victim{{scenario: "dies with a lease"}},
		labels: perKind{ring.SPSC: "V8|SPSC dropped"},
	},
	"recover a dropped lease": {
		role: ring.ConsumerRole, drop: true, late: true, child: recoverAll, sizes: mixed, fill: []int{40, 150, 16, 64, 100}, later: 3,
		before: []victim{{scenario: "dies with a lease"}},
		labels: perKind{ring.MPMC: "V8|V3 lost|V3 interior"},
	},
}

// recoverAll is what an operator does.
func recoverAll(a *actor) {
	_, err := a.r.Recover(false)
	must(err)
}
