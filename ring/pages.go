package ring

import "unsafe"

// Pages. The memory of a ring is there and clear since its creation, but each process stops for each page of it that it touches for the first time: on a
// write for that page, on a read for all sixteen around it, and for twice as long. A producer of a large ring, which writes, would so spend more time on its
// first lap than on the messages; with its first message in a span of positions it looks at the memory of all of it. What it misses costs faults and no more.

// faultAround is how many bytes the kernel maps for a read.
const faultAround = 64 << 10

// spanOf returns how many positions a producer looks at at once: as many as share what is mapped for a read; 0 when those are too few to be worth a look.
func spanOf(stride, slotSize, slots uint64) uint64 {
	span := uint64(1)
	for 2*span*max(stride, slotSize) <= faultAround && 2*span <= slots {
		span *= 2
	}
	if span < hintEvery {
		return 0
	}
	return span
}

// reached has the memory of the span that position next is in mapped, unless it was before.
func (p *Producer) reached(next uint64) {
	if int64(next-p.mapped) >= 0 {
		p.look(next)
	}
}

// look reads a byte at both ends of the span of next, of its entries and of its cells.
func (p *Producer) look(next uint64) {
	c := p.c
	if c.span == 0 || p.looks > c.slots/c.span { // it has been round
		p.mapped = next + 1<<62
		return
	}
	p.looks++
	first := next &^ (c.span - 1)
	for _, x := range [...]uint64{first, first + c.span - 1} {
		p.glance ^= *(*byte)(unsafe.Pointer(c.entry(x))) ^ *(*byte)(c.cell(x))
	}
	p.mapped = first + c.span
}
