package weak

import "slices"

type opKind uint8

const (
	opEnd opKind = iota
	opLoad
	opStore
	opCAS
	opAdd
	opFence
	opMembarrier
	opAwait
	opProof
	opSleep
	opWake
	opRead
	opWrite
	opPeek
	opConfirm
	opFail
)

func (k opKind) String() string {
	return [...]string{"end", "load", "store", "cas", "add", "fence", "membarrier", "await", "proof", "sleep", "wake", "read", "write", "peek", "confirm", "fail"}[k]
}

// plain says whether the operation touches nothing that others could see happen, so that it needs no moment of its own.
func (k opKind) plain() bool { return k >= opRead }

// op is what a program does next.
type op struct {
	kind opKind
	row  string
	ord  Order
	at   uint8 // location, cell or thread
	a, b int32
	text string
}

// T is a thread of a program. A program is a function that calls the methods of T and nothing else that could change from call to call: where it
// stands is found by running it again with what its operations returned before.
type T struct {
	id      int
	orders  Orders
	history []int32
	next    op
	results []int32
}

// halt ends a run of the program at its next operation.
type halt struct{}

func (t *T) do(o op) int32 {
	if len(t.history) > 0 {
		v := t.history[0]
		t.history = t.history[1:]
		return v
	}
	t.next = o
	panic(halt{})
}

func (t *T) order(row string) Order { return t.orders.of(row) }

// Skips says whether a mutant leaves this step out.
func (t *T) Skips(step string) bool {
	if t.orders.drops != nil {
		t.orders.drops[step] = true
	}
	return t.orders.Dropped == step
}

// Load reads x with the order of the row.
func (t *T) Load(row string, x Loc) int32 {
	return t.do(op{kind: opLoad, row: row, ord: t.order(row), at: uint8(x)})
}

// Store writes x.
func (t *T) Store(row string, x Loc, v int32) {
	if t.Skips(row) {
		return
	}
	t.do(op{kind: opStore, row: row, ord: t.order(row), at: uint8(x), a: v})
}

// CAS changes x from was to v if it is was. Failed, it is a load with the acquire part of its order.
func (t *T) CAS(row string, x Loc, was, v int32) bool {
	if t.Skips(row) {
		return true
	}
	return t.do(op{kind: opCAS, row: row, ord: t.order(row), at: uint8(x), a: was, b: v}) == was
}

// Add adds n to x and returns the old value.
func (t *T) Add(row string, x Loc, n int32) int32 {
	if t.Skips(row) {
		return 0
	}
	return t.do(op{kind: opAdd, row: row, ord: t.order(row), at: uint8(x), a: n})
}

// Fence is a fence with the order of the row.
func (t *T) Fence(row string) { t.do(op{kind: opFence, row: row, ord: t.order(row)}) }

// FenceIf is a full fence if the row is sc: the fence that makes an sc access one half of a store-load pair.
func (t *T) FenceIf(row string) {
	if t.order(row) == SC && t.orders.Dropped != row {
		t.do(op{kind: opFence, row: row, ord: SC})
	}
}

// Membarrier fences every thread, unless a mutant has lowered its row.
func (t *T) Membarrier(row string) {
	if t.order(row) == SC && !t.Skips(row) {
		t.do(op{kind: opMembarrier, row: row, ord: SC})
	}
}

// Await waits until x has the value v, which a Signal gave it: order from outside the algorithm.
func (t *T) Await(x Loc, v int32) {
	t.do(op{kind: opAwait, row: "await", ord: Acq, at: uint8(x), a: v})
}

// Signal gives x the value v for an Await.
func (t *T) Signal(x Loc, v int32) {
	t.do(op{kind: opStore, row: "signal", ord: Rel, at: uint8(x), a: v})
}

// Proof waits until thread d is dead and knows everything it did, as the lock of the kernel gives it.
func (t *T) Proof(d int) { t.do(op{kind: opProof, row: "V1", at: uint8(d)}) }

// Peer reads x behind the barrier of another thread: with no fence of its own, whatever the row says.
func (t *T) Peer(row string, x Loc) int32 {
	return t.do(op{kind: opLoad, row: row, ord: min(Acq, t.order(row)), at: uint8(x)})
}

// Sleep is FUTEX_WAIT: it returns at once when the epoch in x is not key.
func (t *T) Sleep(x Loc, key int32) { t.do(op{kind: opSleep, row: "W4", at: uint8(x), a: key}) }

// Wake is FUTEX_WAKE of n sleepers; it returns how many there were.
func (t *T) Wake(x Loc, n int32) int32 { return t.do(op{kind: opWake, row: "N2", at: uint8(x), a: n}) }

// Read reads payload; a race is a violation.
func (t *T) Read(c Cell) int32 { return t.do(op{kind: opRead, row: "payload", at: uint8(c)}) }

// Write writes payload.
func (t *T) Write(c Cell, v int32) { t.do(op{kind: opWrite, row: "payload", at: uint8(c), a: v}) }

// Peek reads payload that may change meanwhile; Confirm says whether the peeks since the last one count.
func (t *T) Peek(c Cell) int32 { return t.do(op{kind: opPeek, row: "payload", at: uint8(c)}) }

// Confirm makes the peeks count as reads, or drops them.
func (t *T) Confirm(counts bool) {
	o := op{kind: opConfirm, row: "payload"}
	if counts {
		o.a = 1
	}
	t.do(o)
}

// Fail is the violation of a property.
func (t *T) Fail(property string) { t.do(op{kind: opFail, text: property}) }

// Report adds a result, for the check at the end.
func (t *T) Report(v int32) { t.results = append(t.results, v) }

// resume runs the program with a history and returns what it does next and has reported.
func resume(program func(*T), id int, orders Orders, history []int32) (next op, results []int32) {
	t := &T{id: id, orders: orders, history: history}
	func() {
		defer func() {
			if r := recover(); r != nil {
				if _, ok := r.(halt); !ok {
					panic(r)
				}
			}
		}()
		program(t)
	}()
	return t.next, slices.Clone(t.results)
}
