package futex

import (
	"sync"
	"sync/atomic"
	"time"
)

// rotateAfter is how long a follower waits at most before its condition is looked at again although the leader found nothing.
// It is one tick (docs/FORMAT.md section 8.2): what a follower alone can see is then late by about as much as anything else.
const rotateAfter = 40 * time.Millisecond

// Queue is where the waiting goroutines of one process on one word meet. The zero value is ready to use.
//
// At most one of them leads: it alone sleeps in the kernel, so that a thousand waiting goroutines cost one thread and not a
// thousand. The others follow: each sleeps on a channel of its own. The leadership belongs to a goroutine from the moment
// it is given until it gives it away, also while it is awake; whoever gets it looks at its own condition first. Hence a
// wake-up that reached the process is never lost: it stays with the leadership until somebody finds nothing to do.
//
// The leadership goes to the follower that has waited longest
//
//   - in End, always;
//   - in Wait, when the leader comes back from a kernel sleep without success and that follower has not looked since the word
//     changed, or has waited for a tick;
//   - in Wait of a follower just promoted, when both hold for the next one;
//   - in Wait, when that follower has not looked since the last Nudge.
//
// The first is enough if all goroutines wait for the same. The others are for those that do not: a producer of a large
// message that leads must not keep one of a small message asleep, nor a consumer that follows the stream for ever one that wants
// to see its end. They cost one more look for each wake-up in vain, not one for each follower; only a Nudge makes everybody look.
//
// The pattern is leader/followers: Schmidt, O'Ryan, Kircher, Pyarali, Buschmann, "Leader/Followers", PLoP 2000. It deviates in
// that the leader keeps its role while it works on the event, if that work is only a look at its condition.
type Queue struct {
	mu          sync.Mutex
	leader      *Waiter
	first, last *Waiter // followers, the longest waiting first

	nudges atomic.Uint32 // calls of Nudge; a futex word, private to this process
}

// Nudge makes every goroutine that waits in q look at its condition again, without touching the word that it waits on: only this
// process looks. It is for news that come from elsewhere.
//
// Blocks: never.
func (q *Queue) Nudge() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.nudges.Add(1) // order: K7 rel, pairs K8
	if q.leader != nil {
		q.wakeNudged()
	}
}

// role is what a goroutine does in Wait.
type role int

const (
	lookAgain role = iota
	leader
	follower
)

// enter gives w, which has looked at its condition while *word was val, its role.
func (q *Queue) enter(w *Waiter, word *atomic.Uint32, val uint32) role {
	q.mu.Lock()
	defer q.mu.Unlock()
	// order: W4 sc, pairs N2. For a leader it saves the system call: the kernel compares again under its lock. A follower has
	// no other comparison. It is under mu, so that after a later change the leader finds the follower in the list.
	if word.Load() != val || w.nudged() {
		return lookAgain
	}
	switch {
	case q.leader == nil:
		q.leader = w
		w.leads, w.slept = true, false
		return leader
	case q.leader == w && !q.due(w, val):
		return leader
	case q.leader == w:
		w.leads = false
		q.pass()
	}
	q.push(w, val)
	return follower
}

// due reports whether the leader w, about to sleep while the word is key, lets the first follower look before.
func (q *Queue) due(w *Waiter, key uint32) bool {
	f := q.first
	if f == nil {
		return false
	}
	if f.nudged() {
		return true
	}
	stale := f.key != key
	if w.slept && stale {
		return true
	}
	return (w.slept || stale) && time.Since(f.since) >= rotateAfter
}

// pass gives the leadership to the first follower, or to nobody.
func (q *Queue) pass() {
	f := q.first
	q.leader = f
	if f != nil {
		q.remove(f)
		f.turn <- struct{}{} // never blocks: the channel is empty while f is in the list
	}
}

// leave takes the follower w out of the queue. If it has just become the leader it passes the leadership on, with the
// wake-up that may have come with it.
func (q *Queue) leave(w *Waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.leader == w {
		<-w.turn
		q.pass()
		return
	}
	q.remove(w)
}

func (q *Queue) push(w *Waiter, key uint32) {
	w.key, w.since = key, time.Now()
	w.prev, w.next = q.last, nil
	if q.last == nil {
		q.first = w
	} else {
		q.last.next = w
	}
	q.last = w
}

func (q *Queue) remove(w *Waiter) {
	if w.prev == nil {
		q.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next = nil, nil
}
