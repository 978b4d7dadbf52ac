//go:build linux && amd64

package step

import "github.com/cd1900cf/millrace/ring"

// scenario is one operation of the child in one situation.
type scenario struct {
	name      string
	op        string // of the child; the name, when it is empty
	skip      int    // slots that go by before
	fill      []int  // sizes of the messages that are in the ring then
	batch     bool   // they were sent as a batch
	dead      string // what another child has done that was killed before
	recovered bool   // and was recovered
	tried     int    // messages that the child is going to send
	consumer  bool   // the child is a consumer

	// leases says that the child, or the one that died before, holds a lease: what becomes of it is the ring's policy.
	leases bool

	// sampled says that only some instructions are tried, beside those that change something: more than one slot is recovered.
	sampled bool

	// long says that the operation is one of many system calls: what changes nothing is tried at random.
	long bool

	// What becomes of the messages when the child is killed, from the first instruction to the last: their delivery counts, those of the test before
	// the bar and those of the child behind it, and what is counted. Up to four texts: SPSC, MPMC,
	// then SPSC and MPMC under Drop; the last one stands for those that are not there.
	fates []string
}

func (s *scenario) operation() string {
	if s.op == "" {
		return s.name
	}
	return s.op
}

// fate returns what is expected in a setting.
func (s *scenario) fate(k ring.Kind, policy ring.DeathPolicy) string {
	i := 0
	if k == ring.MPMC {
		i = 1
	}
	if policy == ring.Drop && len(s.fates) > 2 {
		i += 2
	}
	return s.fates[min(i, len(s.fates)-1)]
}

const (
	oneCommit  = "1|0; 1|1"
	oneClaim   = "1|0; 1|0 skipped 1; 1|1"
	oneReceive = "11|; 01|"
)

var scenarios = []*scenario{
	{name: "send", fill: []int{20}, tried: 1, fates: []string{oneCommit, oneClaim}},
	{name: "send word", fill: []int{20}, tried: 1, fates: []string{oneCommit, oneClaim}},
	{name: "send cell", fill: []int{20}, tried: 1, fates: []string{oneCommit, oneClaim}},
	{name: "send large", fill: []int{20}, tried: 1, fates: []string{oneCommit, oneClaim}},
	{name: "send over the end", op: "send large", skip: 6, fill: []int{20}, tried: 1, fates: []string{oneCommit, oneClaim}},
	{name: "send to a full ring", op: "try send", fill: []int{256, 256}, tried: 1, fates: []string{"11|0"}},
	{name: "commit", fill: []int{20}, tried: 1, fates: []string{oneClaim}},
	{name: "commit short", skip: 6, fill: []int{20}, tried: 1, fates: []string{oneClaim}},
	{name: "discard", skip: 6, fill: []int{20}, tried: 1, fates: []string{"1|0; 1|0 skipped 1; 1|0"}},
	{name: "send run", skip: 6, fill: []int{20}, tried: 3, fates: []string{"1|000; 1|111", "1|000; 1|000 skipped 1; 1|111"}},
	{name: "send words", skip: 6, fill: []int{20}, tried: 3, fates: []string{"1|000; 1|111", "1|000; 1|000 skipped 1; 1|111"}},
	{name: "send mixed", skip: 6, fill: []int{20}, tried: 3, fates: []string{"1|000; 1|100; 1|110; 1|111", "1|000; 1|000 skipped 1; 1|111"}},
	{name: "try batch", fill: []int{20, 200}, tried: 6,
		fates: []string{"11|000000; 11|100000; 11|110000", "11|000000; 11|000000 skipped 1; 11|110000"}},

	{name: "receive", fill: []int{20, 64}, consumer: true, fates: []string{oneReceive}},
	{name: "receive on", skip: 3, fill: []int{64, 20, 20}, consumer: true, fates: []string{"011|; 001|"}},
	{name: "receive cell on", op: "receive on", fill: []int{20, 64, 20}, consumer: true, fates: []string{"011|; 001|"}},
	{name: "receive word", op: "receive", fill: []int{8, 64}, consumer: true, fates: []string{oneReceive}},
	{name: "receive word on", op: "receive on", fill: []int{20, 8, 20}, consumer: true, fates: []string{"011|; 001|"}},
	{name: "receive cell", op: "receive", fill: []int{64, 20}, consumer: true, fates: []string{oneReceive}},
	{name: "receive large", op: "receive", fill: []int{200, 20}, consumer: true, fates: []string{oneReceive}},
	{name: "receive over the end", op: "receive", skip: 6, fill: []int{200, 20}, consumer: true, fates: []string{oneReceive}},
	{name: "receive a run", op: "receive", fill: []int{30, 30, 30}, batch: true, consumer: true, fates: []string{"111|; 011|"}},
	{name: "receive a batch", op: "receive batch", skip: 6, fill: []int{30, 30, 30, 30}, batch: true, consumer: true, leases: true,
		fates: []string{"1111|; 0001|", "1111|; 2221|; 0001|", "1111|; 0001|", "1111|; 0001| lost 3; 0001|"}},
	{name: "receive a batch of words", op: "receive words", skip: 6, fill: []int{8, 8, 8, 8}, batch: true, consumer: true, leases: true,
		fates: []string{"1111|; 0001|", "1111|; 2221|; 0001|", "1111|; 0001|", "1111|; 0001| lost 3; 0001|"}},
	{name: "receive a batch on", op: "batch on", skip: 6, fill: []int{30, 30, 30, 30, 30}, batch: true, consumer: true, leases: true,
		fates: []string{"01111|; 00001|", "01111|; 02221|; 00001|", "01111|; 00001|", "01111|; 00001| lost 3; 00001|"}},
	{name: "receive from an empty ring", op: "try receive", consumer: true, fates: []string{"|"}},
	{name: "receive what was given back", op: "receive", fill: []int{20, 200, 20}, dead: "hold lease", recovered: true, consumer: true, leases: true,
		fates: []string{"211|; 011|", "211|; 011|", "011| lost 1; 001| lost 1"}},
	{name: "receive beside a dead lease", op: "receive", fill: []int{20, 200, 20}, dead: "hold lease", consumer: true, leases: true,
		fates: []string{"211|; 011|", "211|; 201|", "011| lost 1; 001| lost 1"}},
	{name: "send waking", op: "send", dead: "wait", tried: 1, fates: []string{"|0; |1", "|0; |0 skipped 1; |1"}},
	{name: "next release", fill: []int{20, 64}, consumer: true, leases: true, fates: []string{"11|; 21|; 01|", "11|; 21|; 01|", "11|; 01| lost 1; 01|"}},
	{name: "next on", fill: []int{20, 64, 20}, consumer: true, leases: true, fates: []string{"011|; 021|; 001|", "011|; 021|; 001|", "011|; 001| lost 1; 001|"}},
	{name: "next release large", op: "next release", fill: []int{200, 20}, consumer: true, leases: true,
		fates: []string{"11|; 21|; 01|", "11|; 21|; 01|", "11|; 01| lost 1; 01|"}},
	{name: "next return", fill: []int{20, 64}, consumer: true, leases: true, fates: []string{"11|; 21|", "11|; 21|", "11|; 01| lost 1; 21|"}},
	{name: "batch release", skip: 6, fill: []int{20, 200, 20}, consumer: true, leases: true,
		fates: []string{"111|; 222|; 022|; 002|; 000|", "111|; 222|; 022|; 002|; 000|", "111|; 000| lost 3; 000| lost 2; 000| lost 1; 000|"}},
	{name: "batch return", skip: 6, fill: []int{20, 200, 20}, consumer: true, leases: true,
		fates: []string{"111|; 222|; 022|", "111|; 222|; 022|", "111|; 000| lost 3; 000| lost 2; 022|", "111|; 000| lost 3; 000| lost 2; 020| lost 1; 022|"}},
	{name: "batch return of a run", op: "batch return", fill: []int{30, 30, 30, 30}, batch: true, consumer: true, leases: true,
		fates: []string{"1111|; 2221|; 0221|", "1111|; 2221|; 0221|", "1111|; 0001| lost 3; 0001| lost 2; 0221|", "1111|; 0001| lost 3; 0001| lost 2; 0201| lost 1; 0221|"}},

	{name: "recover a claim", op: "recover", fill: []int{20}, dead: "hold claim", tried: 1, fates: []string{"1|0 skipped 1"}},
	{name: "recover a large claim", op: "recover", skip: 6, fill: []int{20}, dead: "hold large claim", tried: 1, sampled: true, fates: []string{"1|0 skipped 1"}},
	{name: "recover a lease", op: "recover", fill: []int{20, 64}, dead: "hold lease", leases: true, fates: []string{"21|", "21|", "01| lost 1"}},
	{name: "recover a batch", op: "recover", skip: 6, fill: []int{20, 200, 20}, dead: "hold batch", leases: true, sampled: true,
		fates: []string{"222|", "222|", "000| lost 3"}},
	{name: "recover all", op: "recover", skip: 6, fill: []int{20, 200, 20}, dead: "hold batch, hold claim", tried: 1, leases: true, long: true,
		fates: []string{"222|0 skipped 1", "222|0 skipped 1", "000|0 skipped 1 lost 3"}},
	{name: "open", fill: []int{20}, long: true, fates: []string{"1|"}},
	{name: "register producer", fill: []int{20}, long: true, fates: []string{"1|"}},
	{name: "register consumer", fill: []int{20}, consumer: true, long: true, fates: []string{"1|"}},
	{name: "close producer", fill: []int{20}, tried: 1, long: true, fates: []string{"1|0 skipped 1; 1|0"}},
	{name: "close consumer", fill: []int{20, 64, 20}, consumer: true, leases: true, long: true, fates: []string{"222|", "222|", "000| lost 3"}},
	{name: "close ring", fill: []int{20, 64, 20}, consumer: true, leases: true, long: true, fates: []string{"222|", "222|", "000| lost 3"}},
}
