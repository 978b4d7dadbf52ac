package ring

import (
	"unsafe"

	"github.com/cd1900cf/millrace/internal/atomicx"
)

// Lines: what a consumer does for the producer that will write to the same slots a lap later.
//
// A line that a consumer has only read is in both cores' caches, and where writing to such a line is slow (atomicx.SharedIsSlow) that is what a message
// costs. There the consumer writes to each line that it has read, before it gives the slot back: what it finds. Then only its core has the line, and the
// producer's asks for it ahead as for any that it does not have. Not for a message that was waited for: the answer would wait for those stores.
//
// Invariant: D1 made the slot the consumer's and D4 gives it back; in between nobody else writes to it, and nothing changes.

// lineSize is how many bytes go from core to core at once.
const lineSize = 64

// takeEntry takes the line of an entry for this core.
func takeEntry(e *entry) {
	atomicx.StoreRelaxed(&e.length, e.length.Load()) // order: D3 rlx, pairs nothing: what is there
}

// takePayload takes the lines of the n bytes of the message at h, other than that of the entry. It carries n through, see fast.go.
//
//go:noinline
func (q *Consumer) takePayload(h, n uint64) uint64 {
	if c := q.c; n <= c.inline {
		atomicx.TakeLines(unsafe.Add(unsafe.Pointer(c.entry(h)), lineSize), n-c.beside)
	} else {
		atomicx.TakeLines(c.cell(h), n)
	}
	return n
}

// takeRun takes the lines of the n cells from position h on, and of the entry there.
func (c *core) takeRun(h, n uint64) {
	takeEntry(c.entry(h))
	row := min(n, c.slots-h&c.mask)
	atomicx.TakeLines(c.cell(h), row*c.slotSize)
	atomicx.TakeLines(c.data, (n-row)*c.slotSize)
}
