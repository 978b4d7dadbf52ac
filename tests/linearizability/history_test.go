//go:build linux

package linearizability

import (
	"fmt"
	"hash/maphash"
	"math"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/cd1900cf/millrace/internal/atomicx"
	"github.com/cd1900cf/millrace/ring"
	"github.com/cd1900cf/millrace/tests/internal/clock"
)

// A history is what the journal and the deaths of one run say, as steps of the queue.

// death is the end of a process, between two moments.
type death struct {
	actors   uint16
	from, to uint64
}

// callRecord is one call as the journal has it.
type callRecord struct {
	actor            uint8
	call             call
	called, returned uint64 // returned 0: it died in the call
	outcome          outcome
	n, results       int
	words            []uint64
	got              []delivery
}

func (c callRecord) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[%d, %d] %d %s(", c.called, c.returned, c.actor, callNames[c.call])
	for _, w := range c.words {
		fmt.Fprintf(&b, " %#x:%d", w>>16, w&0xFFFF)
	}
	fmt.Fprintf(&b, " %d ) = %s %d", c.n, [...]string{"pending", "ok", "full", "empty", "EOF", "no consumers", "failed"}[c.outcome], c.results)
	for _, d := range c.got {
		fmt.Fprintf(&b, " m%d@%d/%d", d.msg, d.pos, d.count)
	}
	return b.String()
}

// history is one run, ready to be checked.
type history struct {
	queue
	initial uint16 // actors that were registered before it began
	calls   []callRecord
	deaths  []death
	numbers map[uint64]uint8 // identity of a message to its number
	account *step
	ops     []porcupine.Operation
	next    [maxActors]uint16
	held    [maxActors][]delivery
	leased  [maxActors]int
}

// read collects what the journal says.
func (h *history) read(j *journal) error {
	h.numbers = map[uint64]uint8{}
	for a := range j.areas {
		for i := range int(j.areas[a].records.Load()) {
			r := &j.areas[a].at[i]
			c := callRecord{actor: uint8(a), call: call(r.call.Load()), called: r.called.Load(), returned: r.returned.Load(), outcome: outcome(r.outcome.Load()),
				n: int(r.n.Load()), results: int(r.results.Load())}
			if c.returned == 0 {
				c.outcome, c.results = pending, 0
			}
			if n := h.arguments(&c); n > 0 {
				for k := range n {
					c.words = append(c.words, r.msgs[k].Load())
				}
				h.number(&c)
			}
			h.calls = append(h.calls, c)
		}
	}
	i := 0
	for a := range j.areas { // now that every message has a number
		for k := range int(j.areas[a].records.Load()) {
			c := &h.calls[i]
			i++
			if c.call < callReceive || c.call > callTryNextBatch {
				continue
			}
			for m := range c.results {
				g := &j.areas[a].at[k].got[m]
				if err := h.received(c, g[0].Load(), g[1].Load(), g[2].Load()); err != nil {
					return err
				}
			}
		}
	}
	slices.SortStableFunc(h.calls, func(a, b callRecord) int { return int(int64(a.called - b.called)) })
	return nil
}

// arguments returns how many messages are among the arguments of a call.
func (h *history) arguments(c *callRecord) int {
	switch {
	case c.call == callSendBatch || c.call == callTrySendBatch || c.call == callClose && h.producers&bit(c.actor) != 0:
		return c.n
	case c.call >= callSend && c.call <= callDiscard:
		return 1
	}
	return 0
}

// number gives the messages of a call numbers.
func (h *history) number(c *callRecord) {
	for _, w := range c.words {
		if _, known := h.numbers[w>>16]; known {
			continue
		}
		m := message{slots: slotsOf(int(w & 0xFFFF)), at: -1}
		m.apart = atomicx.SharedIsSlow && w&0xFFFF > 48 // FORMAT 9.3
		if c.call == callReserve || c.call == callTryReserve {
			m.room = slotsOf(c.n)
		}
		h.numbers[w>>16] = uint8(len(h.messages))
		h.messages = append(h.messages, m)
	}
}

// received adds a message to the result of a call.
func (h *history) received(c *callRecord, id, position, count uint64) error {
	m, known := h.numbers[id]
	if !known {
		return fmt.Errorf("%v received message %#x, torn or never sent, at position %d", c, id, position)
	}
	if at := h.messages[m].at; at >= 0 && at != int(position) {
		return fmt.Errorf("%v received message %#x at position %d, which was at %d before", c, id, position, at)
	}
	h.messages[m].at = int(position)
	c.got = append(c.got, delivery{m, uint16(position), uint8(count)})
	return nil
}

// death returns the end of an actor's process, or nil.
func (h *history) death(actor uint8) *death {
	for i := range h.deaths {
		if h.deaths[i].actors&bit(actor) != 0 {
			return &h.deaths[i]
		}
	}
	return nil
}

// add adds a step of a call.
func (h *history) add(c *callRecord, o step) {
	o.actor, o.index = c.actor, h.next[c.actor]
	h.next[c.actor]++
	ret := c.returned
	if ret == 0 {
		ret = h.death(c.actor).to
	}
	h.ops = append(h.ops, porcupine.Operation{ClientId: int(c.actor), Input: &o, Call: int64(c.called), Return: int64(ret)})
}

// makeSteps makes the steps of all calls.
func (h *history) makeSteps() error {
	for i := range h.calls {
		c := &h.calls[i]
		if c.returned == 0 && h.death(c.actor) == nil {
			return fmt.Errorf("%v never returned, and its process lives", c)
		}
		switch c.outcome {
		case failed:
			return fmt.Errorf("%v failed", c)
		case empty:
			h.add(c, step{kind: stepEmpty})
			continue
		case eof:
			h.add(c, step{kind: stepEOF})
			continue
		}
		var msgs []uint8
		for _, w := range c.words {
			msgs = append(msgs, h.numbers[w>>16])
		}
		switch c.call {
		case callRegister:
			h.add(c, step{kind: stepRegister})
		case callSend, callTrySend, callSendBatch, callTrySendBatch:
			h.sends(c, msgs)
		case callReserve, callTryReserve:
			h.reserve(c, msgs)
		case callCommit:
			h.add(c, step{kind: stepCommit, msgs: msgs})
		case callDiscard:
			h.add(c, step{kind: stepDiscard, msgs: msgs})
		case callRelease, callReturn, callClose:
			h.ends(c)
		default:
			h.takes(c)
		}
	}
	for _, d := range h.deaths {
		for _, c := range h.calls {
			if d.actors&bit(c.actor) != 0 {
				d.from = max(d.from, c.called, c.returned)
			}
		}
		h.ops = append(h.ops, porcupine.Operation{ClientId: bits.TrailingZeros16(d.actors), Input: &step{kind: stepHalt, actor: maxActors, halts: d.actors}, Call: int64(d.from), Return: int64(d.to)})
	}
	h.queue.steps = h.next
	last := clock.Now()
	h.account.actor, h.account.index = drainer, h.next[drainer]
	h.queue.steps[drainer]++
	h.ops = append(h.ops, porcupine.Operation{ClientId: drainer, Input: h.account, Call: int64(last), Return: math.MaxInt64})
	return nil
}

func (h *history) reserve(c *callRecord, msgs []uint8) {
	switch {
	case c.outcome == full:
		h.add(c, step{kind: stepFull, msgs: msgs})
		return
	case c.outcome == noConsumers:
		h.add(c, step{kind: stepNoConsumers, msgs: msgs})
		return
	case h.kind == ring.SPSC:
		h.add(c, step{kind: stepPad, msgs: msgs})
	}
	h.add(c, step{kind: stepClaim, msgs: msgs})
}

// sends makes the steps of a Send or SendBatch of either kind: part by part.
func (h *history) sends(c *callRecord, msgs []uint8) {
	even := true // the messages are equally long, and take a slot each
	for _, w := range c.words {
		even = even && w&0xFFFF == c.words[0]&0xFFFF && slotsOf(int(w&0xFFFF)) == 1
	}
	sent := len(msgs)
	if c.outcome == full || c.outcome == noConsumers {
		sent = c.results
	}
	some := c.outcome == pending && c.call == callTrySendBatch // nobody knows how much of it there was
	for rest := msgs; len(rest) > 0; {
		n := h.part(rest)
		if n <= sent {
			h.publish(c, rest[:n], even, some)
			rest, sent = rest[n:], sent-n
			continue
		}
		if c.outcome == noConsumers {
			h.add(c, step{kind: stepNoConsumers, msgs: rest[:n]})
			return
		}
		h.add(c, step{kind: stepFull, msgs: rest[:sent+1]})
		if sent > 0 {
			h.publish(c, rest[:sent], even, some)
		}
		return
	}
}

// part returns how many messages a batch sends as one.
func (h *history) part(msgs []uint8) int {
	slots := 0
	for i, m := range msgs {
		if slots += int(h.messages[m].slots); slots > max(1, h.slots/2) {
			return i
		}
	}
	return len(msgs)
}

// publish adds the steps that send the messages of a part.
func (h *history) publish(c *callRecord, part []uint8, even, some bool) {
	switch {
	case h.kind == ring.MPMC:
		h.add(c, step{kind: stepClaim, msgs: part, some: some})
		h.add(c, step{kind: stepCommit, msgs: part, some: some})
	case even:
		h.add(c, step{kind: stepSend, msgs: part, some: some})
	default:
		for i := range part {
			h.add(c, step{kind: stepPad, msgs: part[i : i+1]})
			h.add(c, step{kind: stepSend, msgs: part[i : i+1]})
		}
	}
}

// takes makes the steps of a call that receives.
func (h *history) takes(c *callRecord) {
	keep := c.call >= callNext
	if c.outcome == pending {
		h.add(c, step{kind: stepTakeUnknown, limit: c.n, keep: keep})
		switch {
		case h.kind == ring.SPSC:
		case keep:
			for range c.n - 1 {
				h.add(c, step{kind: stepTakeMore, keep: keep})
			}
		default:
			h.add(c, step{kind: stepFreeAny})
		}
		return
	}
	if keep {
		h.held[c.actor], h.leased[c.actor] = c.got, len(c.got)
	}
	if h.kind == ring.MPMC && c.got[0].count > 1 { // each by itself
		for _, d := range c.got {
			h.add(c, step{kind: stepTake, got: []delivery{d}, keep: keep})
		}
	} else {
		h.add(c, step{kind: stepTake, got: c.got, keep: keep})
	}
	if m := c.got[0].msg; !keep && h.kind == ring.MPMC && (h.messages[m].slots > 1 || h.messages[m].apart) {
		h.add(c, step{kind: stepFree, msgs: []uint8{m}})
	}
}

// ends makes the steps of a call that ends a lease, or a registration.
func (h *history) ends(c *callRecord) {
	if h.producers&bit(c.actor) != 0 { // Close
		if c.n > 0 {
			h.add(c, step{kind: stepDiscard, msgs: []uint8{h.numbers[c.words[0]>>16]}})
		}
		h.add(c, step{kind: stepClose})
		return
	}
	list := h.held[c.actor][:c.n]
	h.held[c.actor] = h.held[c.actor][c.n:]
	var msgs []uint8
	for _, d := range list {
		msgs = append(msgs, d.msg)
	}
	kind := map[call]kindOf{callRelease: stepRelease, callReturn: stepBack, callClose: stepBackByPolicy}[c.call]
	switch {
	case len(msgs) == 0:
	case h.kind == ring.SPSC:
		h.add(c, step{kind: kind, msgs: msgs})
	case kind != stepRelease:
		for i := range msgs {
			h.add(c, step{kind: kind, msgs: msgs[i : i+1]})
			h.add(c, step{kind: stepFree, msgs: msgs[i : i+1]}) // if it is lost
		}
		h.add(c, step{kind: stepAnnounce})
	case h.leased[c.actor] == 1 && h.messages[msgs[0]].slots == 1:
		h.add(c, step{kind: stepRelease, msgs: msgs})
	case list[0].count > 1: // a word each
		for i := range msgs {
			h.add(c, step{kind: stepDone, msgs: msgs[i : i+1]})
			h.add(c, step{kind: stepFree, msgs: msgs[i : i+1]})
		}
	default:
		h.add(c, step{kind: stepDone, msgs: msgs})
		h.add(c, step{kind: stepFree, msgs: msgs})
	}
	if c.call == callClose {
		h.add(c, step{kind: stepClose})
	}
}

var seed = maphash.MakeSeed()

// model is the queue as the checker wants it.
func (h *history) model() porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{state{live: h.initial}} },
		Step: func(s, in, _ any) []any {
			var next []any
			for _, n := range h.step(s.(state), in.(*step)) {
				next = append(next, n)
			}
			return next
		},
		Hash:              func(s any) uint64 { return maphash.Comparable(seed, s.(state)) },
		DescribeOperation: func(in, _ any) string { return in.(*step).String() },
		DescribeState:     func(s any) string { return fmt.Sprintf("%+v", s) },
	}
	return m.ToModel()
}

// check says why the history is not linearizable; nil when it is. A checker that does not finish is an error too.
func (h *history) check(most time.Duration) error {
	switch result := porcupine.CheckOperationsTimeout(h.model(), h.ops, most); result {
	case porcupine.Ok:
		return nil
	case porcupine.Illegal:
		return fmt.Errorf("not linearizable: %s", h.describe())
	default:
		return fmt.Errorf("the checker did not finish within %v: %s", most, h.describe())
	}
}

// describe prints the history, and how far the checker came.
func (h *history) describe() string {
	var b strings.Builder
	policy := "redeliver"
	if h.drop {
		policy = "drop"
	}
	fmt.Fprintf(&b, "%v, %d slots, %s, at most %d deliveries; producers %016b\n", h.kind, h.slots, policy, h.max, h.producers)
	begin := uint64(math.MaxUint64)
	for _, c := range h.calls {
		begin = min(begin, c.called)
	}
	for _, c := range h.calls {
		c.called -= begin
		if c.returned > 0 {
			c.returned -= begin
		}
		fmt.Fprintf(&b, "  %v", c)
		for _, w := range c.words {
			fmt.Fprintf(&b, " m%d", h.numbers[w>>16])
		}
		b.WriteByte('\n')
	}
	for _, d := range h.deaths {
		fmt.Fprintf(&b, "  [%d, %d] the process of actors %016b was killed\n", int64(d.from-begin), d.to-begin, d.actors)
	}
	fmt.Fprintf(&b, "  %v\n", h.account)
	_, info := porcupine.CheckOperationsVerbose(h.model(), h.ops, 10*time.Second)
	var best []porcupine.Operation
	for _, l := range info.PartialLinearizationsOperations()[0] {
		if len(l) > len(best) {
			best = l
		}
	}
	fmt.Fprintf(&b, "the longest order found has %d of %d steps:", len(best), len(h.ops))
	done := map[any]bool{}
	for _, o := range best {
		done[o.Input] = true
		fmt.Fprintf(&b, " (%v)", o.Input)
	}
	b.WriteString("\nleft:")
	for _, o := range h.ops {
		if !done[o.Input] {
			fmt.Fprintf(&b, " (%v)", o.Input)
		}
	}
	return b.String()
}
