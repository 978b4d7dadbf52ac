package ring

import "fmt"

// The model of a ring: a slice of items and the rules of docs/FORMAT.md sections 5, 6, 9 and 10 written down as plainly as possible. It knows nothing of
// words, hints, laps or memory. model_rapid_test.go compares it with the real thing.

type modelState uint8

const (
	modelClaimed modelState = iota
	modelReady
	modelLeased
	modelPad   // SPSC: padding or a skipped reservation that nobody has stepped over
	modelSpent // SPSC: given back too often, counted as lost, waits to be stepped over
)

// modelItem is one message, claim or padding. It uses the slots [lo, hi).
type modelItem struct {
	lo, at, hi uint64
	payload    []byte
	state      modelState
	r          int // times given back
}

func (it *modelItem) deliveries() int { return min(it.r, 48) + 1 }

// model is the expected state of a ring.
type model struct {
	kind          Kind
	policy        DeathPolicy
	slots         uint64
	slotSize      uint64
	maxDeliveries int

	items []*modelItem // in the order of positions
	next  uint64       // next position to claim
	read  uint64       // SPSC: where the consumer reads
	freed uint64       // SPSC: everything below is free

	want Stats // the counters
}

func newModel(o Options, start uint64) *model {
	return &model{kind: o.Kind, policy: o.OnConsumerDeath, slots: uint64(o.Slots), slotSize: uint64(o.SlotSize), maxDeliveries: o.MaxDeliveries,
		next: start, read: start, freed: start}
}

func (m *model) maxSlots() uint64 { return max(1, m.slots/2) }
func (m *model) maxMessage() int  { return int(m.maxSlots() * m.slotSize) }

func (m *model) slotsFor(n int) uint64 {
	return max(1, (uint64(n)+m.slotSize-1)/m.slotSize)
}

// pad is what must be stepped over so that k slots from t on do not wrap.
func (m *model) pad(t, k uint64) uint64 {
	if left := m.slots - t%m.slots; k > left {
		return left
	}
	return 0
}

// free says whether the positions from next up to end are all free.
func (m *model) free(end uint64) bool {
	if m.kind == SPSC {
		return end-m.freed <= m.slots
	}
	for x := m.next; x != end; x++ {
		for _, it := range m.items {
			if x-m.slots-it.lo < it.hi-it.lo {
				return false
			}
		}
	}
	return true
}

// end is where messages of these sizes would end.
func (m *model) end(sizes ...int) uint64 {
	t := m.next
	for _, n := range sizes {
		k := m.slotsFor(n)
		t += m.pad(t, k) + k
	}
	return t
}

func (m *model) fits(sizes ...int) bool { return m.free(m.end(sizes...)) }

// stepPad makes room for k slots that do not wrap.
func (m *model) stepPad(k uint64) {
	pad := m.pad(m.next, k)
	if pad == 0 {
		return
	}
	if m.kind == SPSC {
		m.items = append(m.items, &modelItem{lo: m.next, hi: m.next + pad, state: modelPad})
	}
	m.next += pad
	m.want.Padding += pad
}

// send appends one message.
func (m *model) send(payload []byte) {
	k := m.slotsFor(len(payload))
	m.stepPad(k)
	m.items = append(m.items, &modelItem{lo: m.next, at: m.next, hi: m.next + k, payload: payload, state: modelReady})
	m.next += k
	m.want.Sent++
}

// sendBatch sends what fits, in parts of at most half of the slots, and returns how many messages that were: the longest prefix, or, with whole, as many whole parts
// as possible, which is what a blocking call does before it has to wait.
func (m *model) sendBatch(msgs [][]byte, whole bool) int {
	done := 0
	for done < len(msgs) {
		var part []int
		slots := uint64(0)
		for _, b := range msgs[done:] {
			if slots += m.slotsFor(len(b)); slots > m.maxSlots() {
				break
			}
			part = append(part, len(b))
		}
		most := len(part)
		for len(part) > 0 && !m.fits(part...) {
			part = part[:len(part)-1]
		}
		if whole && len(part) < most {
			break
		}
		for range part {
			m.send(msgs[done])
			done++
		}
		if len(part) < most {
			break
		}
	}
	return done
}

// reserve claims room for n bytes. An SPSC ring shows nothing of it but the padding.
func (m *model) reserve(n int) *modelItem {
	k := m.slotsFor(n)
	head := m.next
	m.stepPad(k)
	it := &modelItem{lo: head, at: m.next, hi: m.next + k, state: modelClaimed}
	if m.kind == MPMC {
		m.next += k
		m.items = append(m.items, it)
	}
	return it
}

func (m *model) commit(it *modelItem, payload []byte) {
	it.payload, it.state, it.lo, it.hi = payload, modelReady, it.at, it.at+m.slotsFor(len(payload))
	if m.kind == SPSC {
		m.items = append(m.items, it)
		m.next = it.hi
	}
	m.want.Sent++
}

func (m *model) discard(it *modelItem) {
	m.remove(it)
	m.want.Discarded++
}

// abandon is the death of a producer with an open reservation, once somebody has settled it.
func (m *model) abandon(it *modelItem) {
	m.remove(it)
	m.want.Skipped++
	if m.kind == SPSC {
		m.items = append(m.items, &modelItem{lo: it.at, hi: it.at + 1, state: modelPad})
		m.next = it.at + 1
	}
}

func (m *model) remove(it *modelItem) {
	for i, x := range m.items {
		if x == it {
			m.items = append(m.items[:i:i], m.items[i+1:]...)
			return
		}
	}
}

// look returns up to limit messages that a consumer would get now, and changes nothing.
func (m *model) look(limit int) (got []*modelItem) {
	if m.kind == SPSC {
		for _, it := range m.items {
			if int64(it.lo-m.read) >= 0 && it.state == modelReady && len(got) < limit {
				got = append(got, it)
			}
		}
		return got
	}
	for _, it := range m.items { // given back: first, lowest first
		if it.state == modelReady && it.r > 0 && len(got) < limit {
			got = append(got, it)
		}
	}
	if len(got) > 0 {
		return got
	}
	for _, it := range m.items {
		if it.state == modelClaimed || it.state == modelLeased && len(got) > 0 || len(got) == limit {
			break
		}
		if it.state == modelReady {
			got = append(got, it)
		}
	}
	return got
}

// stepTo says that the consumer of an SPSC ring has freed everything below p, or why that cannot be: there are messages between. How soon it steps over
// padding is its own business.
func (m *model) stepTo(p uint64) error {
	for len(m.items) > 0 && int64(m.items[0].lo-p) < 0 {
		if it := m.items[0]; int64(it.hi-m.freed) > 0 && it.state < modelPad {
			return fmt.Errorf("position %d is past a message at %d", p, it.lo)
		}
		m.items = m.items[1:]
	}
	if int64(p-m.freed) < 0 || int64(p-m.next) > 0 {
		return fmt.Errorf("position %d is not between %d and %d", p, m.freed, m.next)
	}
	m.freed, m.read = p, later(m.read, p)
	return nil
}

// lease hands messages to a consumer.
func (m *model) lease(got []*modelItem) {
	for _, it := range got {
		it.state = modelLeased
		m.read = it.hi
		m.want.Received++
		if it.r > 0 {
			m.want.Redelivered++
		}
	}
}

// release ends the lease of these messages, the first of those that are held.
func (m *model) release(held []*modelItem) {
	for _, it := range held {
		m.freed = it.hi
		if m.kind == MPMC {
			m.remove(it)
		}
	}
	for m.kind == SPSC && len(m.items) > 0 && int64(m.items[0].hi-m.freed) <= 0 {
		m.items = m.items[1:]
	}
}

// receive takes and releases one message.
func (m *model) receive() *modelItem {
	got := m.look(1)
	if len(got) == 0 {
		return nil
	}
	m.lease(got)
	m.release(got)
	return got[0]
}

// giveBack ends a lease without releasing it: by Return, or as the policy says.
func (m *model) giveBack(held []*modelItem, byPolicy bool) {
	drop := byPolicy && m.policy == Drop
	if len(held) > 0 && !drop {
		m.read = held[0].lo
	}
	for _, it := range held {
		it.r++
		it.state = modelReady
		if drop || m.maxDeliveries > 0 && it.r >= m.maxDeliveries {
			m.want.Lost++
			it.state = modelSpent
			if m.kind == MPMC {
				m.remove(it)
			}
		}
	}
}

// unreleased are the messages that Peek shows.
func (m *model) unreleased() (list []*modelItem) {
	for _, it := range m.items {
		if it.state == modelReady || it.state == modelLeased {
			list = append(list, it)
		}
	}
	return list
}

// idle says that nothing is ready, leased or claimed.
func (m *model) idle() bool {
	for _, it := range m.items {
		if it.state <= modelLeased {
			return false
		}
	}
	return true
}

// used is how many slots are in use; those between the messages of one lease are not.
func (m *model) used() (least uint64) {
	if m.kind == SPSC {
		return m.next - m.freed
	}
	for _, it := range m.items {
		least += it.hi - it.lo
	}
	return least
}
