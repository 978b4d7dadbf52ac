//go:build linux

package linearizability

import (
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/cd1900cf/millrace/tests/internal/clock"
)

// The journal is a file that all processes of a history map. Each actor writes into an area of its own what it is about to do, with the time of the
// call, and afterwards what came of it, with the time of the return. What a process wrote before it was killed stays.

const (
	maxRecords = 64
	maxBatch   = 4 // messages in one call
	recordSize = 8 + maxBatch + 3*maxBatch
	areaSize   = 8 + maxRecords*recordSize // words
)

// call is what an actor does.
type call uint64

const (
	callRegister call = 1 + iota
	callSend
	callTrySend
	callSendBatch
	callTrySendBatch
	callReserve
	callTryReserve
	callCommit
	callDiscard
	callReceive
	callTryReceive
	callNext
	callTryNext
	callNextBatch
	callTryNextBatch
	callRelease
	callReturn
	callClose
)

var callNames = [...]string{"?", "Register", "Send", "TrySend", "SendBatch", "TrySendBatch", "Reserve", "TryReserve", "Commit", "Discard", "Receive", "TryReceive", "Next", "TryNext",
	"NextBatch", "TryNextBatch", "Release", "Return", "Close"}

// outcome is how a call ended.
type outcome uint64

const (
	pending outcome = iota
	fine
	full
	empty
	eof
	noConsumers
	failed // anything else; the child says what
)

// record is one call, as words in the journal.
type record struct {
	called   atomic.Uint64 // CLOCK_MONOTONIC
	returned atomic.Uint64
	call     atomic.Uint64
	outcome  atomic.Uint64
	n        atomic.Uint64 // arguments: messages, or the most that are asked for
	results  atomic.Uint64
	_        [2]atomic.Uint64
	msgs     [maxBatch]atomic.Uint64    // identity << 16 | size
	got      [maxBatch][3]atomic.Uint64 // identity, position, deliveries
}

// area is the part of the journal that one actor writes.
type area struct {
	records atomic.Uint64 // begun
	_       [7]atomic.Uint64
	at      [maxRecords]record
}

// journal is the whole.
type journal struct {
	start atomic.Uint64 // 1: everybody goes
	_     [7]atomic.Uint64
	areas [maxActors]area
}

var _ [areaSize * 8]struct{} = [unsafe.Sizeof(area{})]struct{}{}

// openJournal maps the journal at path, which is made if it is not there.
func openJournal(path string) (j *journal, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := int(unsafe.Sizeof(journal{}))
	if err := f.Truncate(int64(size)); err != nil {
		return nil, err
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return (*journal)(unsafe.Pointer(unsafe.SliceData(b))), nil
}

func (j *journal) close() error {
	return syscall.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(j)), unsafe.Sizeof(*j)))
}

// reset makes the journal that of a new history.
func (j *journal) reset() {
	j.start.Store(0)
	for i := range j.areas {
		j.areas[i].records.Store(0)
	}
}

// begin writes down what is about to be done. The call is seen from here on, whether it returns or not.
func (a *area) begin(c call, n int, msgs ...uint64) *record {
	r := &a.at[a.records.Load()]
	r.returned.Store(0)
	r.outcome.Store(uint64(pending))
	r.results.Store(0)
	r.call.Store(uint64(c))
	r.n.Store(uint64(n))
	for i, m := range msgs {
		r.msgs[i].Store(m)
	}
	r.called.Store(clock.Now())
	a.records.Add(1)
	return r
}

// end writes down what came of it. now is when the call had returned.
func (r *record) end(now uint64, o outcome) {
	r.outcome.Store(uint64(o))
	r.returned.Store(now)
}
