package futex

import (
	"context"
	"sync/atomic"
	"time"
)

// cancelBit is set in the cancel word when the sleep of its generation shall end; the other bits are the generation.
const cancelBit = 1

// Waiter is the place of one goroutine in a Queue. One per handle, used again for each blocking call:
//
//	w.Begin(ctx)
//	defer w.End()
//	for !ready() {
//		key := … // announce the wait, read the word
//		if ready() { break }
//		if _, err := w.Wait(word, key, tick); err != nil && err != futex.ErrTimeout { return err }
//	}
//
// Only Close and Closed may be called while another goroutine uses it. It must not be copied.
type Waiter struct {
	q    *Queue
	turn chan struct{} // holds a token from the promotion of a follower until it sees it
	gone chan struct{} // closed by Close

	// cancel is the second futex word of the leader, private to this process. A sleep ends when it is no longer gen.
	// Written by the owner (a new generation), by the context's AfterFunc and by Close (the cancel bit).
	cancel atomic.Uint32
	closed atomic.Bool

	// Plain: only the goroutine that waits.
	ctx    context.Context
	done   <-chan struct{} // ctx.Done()
	stop   func() bool     // of the AfterFunc, when there is one
	gen    uint32          // what cancel holds when nobody has cancelled
	leads  bool
	slept  bool // slept in the kernel since it leads
	kernel kernelSleep

	nudge uint32 // q.nudges before the last look; for others under q.mu

	// Under q.mu.
	prev, next *Waiter
	key        uint32    // value of the word that the follower has seen
	since      time.Time // when it began to follow
}

// NewWaiter returns a place in q.
func NewWaiter(q *Queue) *Waiter {
	return &Waiter{q: q, turn: make(chan struct{}, 1), gone: make(chan struct{})}
}

// Begin starts a blocking call, which End must finish. The waits in between end with ctx.
//
// Blocks: never. Allocates nothing; a leader's first Wait does when ctx can be cancelled.
func (w *Waiter) Begin(ctx context.Context) {
	if w.leads || w.stop != nil {
		w.End()
	}
	w.ctx, w.done = ctx, ctx.Done()
	w.nudge = w.q.nudges.Load() // order: K8 acq, pairs K7: before the look that it stands for
}

// nudged reports whether there was a Nudge since the last look.
func (w *Waiter) nudged() bool {
	return w.q.nudges.Load() != w.nudge // order: K8 acq, pairs K7
}

// Wait sleeps while *word is val; it returns the number of futex wait system calls it made.
//
//   - nil: look at the condition again. The value differs, there was a wake-up or a Nudge, or this goroutine now leads.
//   - ErrTimeout: max has passed. Only a leader hears it: a follower has no tick of its own, and sleeps until it is
//     promoted or cancelled. As the leader of the process has ticks, what they are for gets done.
//   - the error of the context, or ErrClosed: at once if they came before the call. If the word changed as well, the
//     first return is nil, so that the caller looks once more, and the next one is the error.
//   - ErrUnsupported, or the errno of a kernel that refuses.
//
// A goroutine that leads when Wait returns keeps the leadership until its next Wait or End, and all others of the Queue
// wait for that: only look at the condition in between.
//
// Blocks: in the kernel as the leader, on a channel otherwise; ends within about 1 ms of the end of the context, as the leader
// on a kernel without futex_waitv within 10 ms.
// Lifetime: the memory behind word must stay mapped until Wait returns. All waits of one Queue are on the same word.
func (w *Waiter) Wait(word *atomic.Uint32, val uint32, max time.Duration) (sleeps int, err error) {
	if err := w.ended(); err != nil {
		return 0, err
	}
	switch w.q.enter(w, word, val) {
	case leader:
		w.slept = true
		sleeps, err = w.sleep(word, val, max)
	case follower:
		err = w.follow()
	}
	w.nudge = w.q.nudges.Load() // order: K8 acq, pairs K7: before the look that it stands for
	return sleeps, err
}

// follow sleeps until w is promoted or cancelled.
func (w *Waiter) follow() error {
	select {
	case <-w.turn:
		w.leads, w.slept = true, false
		return nil
	case <-w.done:
	case <-w.gone:
	}
	w.q.leave(w)
	return w.ended()
}

// End finishes the blocking call and passes the leadership on, if this goroutine holds it.
//
// Blocks: never.
func (w *Waiter) End() {
	if w.stop != nil && !w.stop() {
		// The AfterFunc runs, now or later. In the next generation it finds nothing to cancel.
		w.gen += 2 * cancelBit
		// order: K3 sc REQUIRED, pairs K4. This may wipe out the bit of a Close, which has set closed before; the next Wait loads
		// closed after this store, so one of the two is seen.
		w.cancel.Store(w.gen)
	}
	w.ctx, w.done, w.stop = nil, nil, nil
	if w.leads {
		w.leads = false
		// No Gosched after it: the caller has a message to work on, and the new leader would take the P along into the
		// kernel. Measured (BenchmarkRoundTrip/8): 7 µs without, 120 µs with.
		w.q.mu.Lock()
		w.q.pass()
		w.q.mu.Unlock()
	}
}

// Close ends the running Wait and all later ones with ErrClosed. Any goroutine may call it, any number of times.
//
// Blocks: never. It wakes this Waiter and no other.
// Failure: the goroutine that uses the Waiter still has to call End, or the others of the Queue wait for ever.
func (w *Waiter) Close() {
	// order: K4 sc REQUIRED, pairs K3, K5. Before the bit, so that whoever sees the bit, or wipes it out, sees closed.
	if !w.closed.CompareAndSwap(false, true) {
		return
	}
	close(w.gone)
	w.cancel.Or(cancelBit) // order: K2 rel, pairs K6
	w.wakeCancel()
}

// Closed reports whether Close was called.
//
// Blocks: never. True stays true; false may be out of date.
func (w *Waiter) Closed() bool {
	return w.closed.Load() // order: K5 sc REQUIRED, pairs K4
}

// ended returns why this blocking call must not wait any longer, or nil.
func (w *Waiter) ended() error {
	if w.Closed() {
		return ErrClosed
	}
	if w.done != nil {
		return w.ctx.Err()
	}
	return nil
}

// arm makes the end of the context reach the kernel sleep. Followers do not need it: they select on the context.
func (w *Waiter) arm() {
	if w.done == nil || w.stop != nil {
		return
	}
	gen := w.gen
	w.stop = context.AfterFunc(w.ctx, func() {
		// order: K1 rel, pairs K6. Fails in a later generation: that is another call, and its context has not ended.
		if w.cancel.CompareAndSwap(gen, gen|cancelBit) {
			w.wakeCancel()
		}
	})
}

// cancelled reports whether the context has ended or Close was called since arm.
func (w *Waiter) cancelled() bool {
	return w.cancel.Load() != w.gen // order: K6 acq, pairs K1, K2
}
