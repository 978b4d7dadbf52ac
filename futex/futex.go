// Package futex waits and wakes on 32-bit words in shared memory, with deadlines and contexts. It knows nothing of rings.
//
// Three layers, from raw to safe:
//
//   - Wait and Wake are the two system calls on a word that several processes map.
//   - Membarrier lets the side that publishes often do without a full fence: the side that sleeps pays for both.
//   - Queue and Waiter let any number of goroutines of one process wait on one word at the cost of one thread:
//     one of them, the leader, sleeps in the kernel, the others on channels.
//
// The caller brings the event protocol (docs/FORMAT.md section 8). This package promises it one thing: a change of the word
// before or after the start of a wait ends that wait, provided that the change is followed by a Wake.
//
// The words are shared between processes, so no FUTEX_PRIVATE_FLAG is used on them: the kernel then finds the sleepers by
// the file and offset, or by the page, behind the address. See futex(2), and Drepper, "Futexes Are Tricky", 2011.
package futex

import (
	"errors"
	"fmt"
	"os"
)

var (
	// ErrTimeout says that the longest time a wait was allowed has passed while the word kept its value.
	ErrTimeout = errors.New("futex: wait: time is over")

	// ErrClosed says that the Waiter was closed. It is os.ErrClosed.
	ErrClosed = fmt.Errorf("futex: waiter: %w", os.ErrClosed)

	// ErrUnsupported says that this system or kernel lacks the call. It is errors.ErrUnsupported.
	ErrUnsupported = fmt.Errorf("futex: %w", errors.ErrUnsupported)
)
