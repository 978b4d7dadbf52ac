/* Event words, docs/FORMAT.md section 8.1: epoch, which is the futex word, in the high half, arrivals in the low half. */
#ifndef MILLRACE_EVENT_H
#define MILLRACE_EVENT_H

#include "millrace_core.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>

#define MR_ARRIVALS UINT64_C(0xFFFFFFFF)
#define MR_EPOCH (UINT64_C(1) << 32)
#define MR_ALL MR_EPOCH
#define MR_CAS_TRIES 4096 /* honest participants leave a CAS loop at once; who gives up costs a sleeper a tick */

enum { MR_MEMBARRIER_QUERY = 0, MR_MEMBARRIER_GLOBAL = 1 << 1, MR_MEMBARRIER_REGISTER = 1 << 2 };

/* The futex word: the high half, at offset 4 in the little-endian format. */
MR_FAST uint32_t *mr_epoch(uint64_t *e) { return (uint32_t *)(void *)e + 1; }

/* Wakes up to n sleepers; how many it woke. It fails only when the mapping is gone; then nobody can be asleep on it. */
MR_SLOW uint64_t mr_futex_wake(uint64_t *e, uint64_t n)
{
	long k = syscall(SYS_futex, mr_epoch(e), FUTEX_WAKE, n > INT_MAX ? INT_MAX : (int)n, NULL, NULL, 0);
	return k > 0 ? (uint64_t)k : 0;
}

/* W4: sleeps while the epoch is key, until the monotonic clock shows deadline. Returns without a reason, too. */
MR_SLOW void mr_futex_wait(uint64_t *e, uint32_t key, int64_t deadline)
{
	struct timespec t;
	t.tv_sec = (time_t)(deadline / MR_SECOND);
	t.tv_nsec = (long)(deadline % MR_SECOND);
	(void)syscall(SYS_futex, mr_epoch(e), FUTEX_WAIT_BITSET, key, &t, NULL, FUTEX_BITSET_MATCH_ANY);
}

/* Announces a sleeper and returns the epoch to sleep on. The caller looks at its condition once more afterwards. order: W1 sc REQUIRED, pairs N1 */
MR_FAST uint32_t mr_arrive(uint64_t *e)
{
	const uint64_t v = mr_add_sc(e, 1);
	mr_fence(); /* the loads of the condition that follow (W3) are acquire only, and must not pass the store half of W1 */
	return (uint32_t)(v >> 32);
}

/* Whether an arrival under key still stands. order: W5 acq, pairs N2 N3 */
MR_FAST bool mr_still_arrived(const uint64_t *e, uint32_t key)
{
	uint64_t v = mr_load_acq(e);
	return (uint32_t)(v >> 32) == key && (v & MR_ARRIVALS) != 0;
}

/* Whether somebody may be asleep: all that a fast path does about waking. order: N1 sc REQUIRED, pairs W1: mr_publish, or a CAS, came before. */
MR_FAST bool mr_pending(const uint64_t *e) { return mr_unlikely((mr_load_sc(e) & MR_ARRIVALS) != 0); }

/* Wakes at least min(n, sleepers) after something was published. Returns the number of system calls. */
MR_SLOW uint64_t mr_notify(uint64_t *e, uint64_t n)
{
	uint64_t calls = 0;
	for (int i = 0; i < MR_CAS_TRIES; i++) {
		uint64_t v = mr_load_sc(e); /* order: N1 sc, pairs W1 */
		uint64_t arrivals = v & MR_ARRIVALS, next = v + MR_EPOCH;
		if (arrivals == 0)
			return calls;
		const bool all = n >= arrivals;
		if (all)
			next &= ~MR_ARRIVALS;
		if (!mr_cas(e, v, next)) /* order: N2 acqrel, pairs W4: a sleeper that comes late finds another epoch */
			continue;
		calls++;
		if (all)
			(void)mr_futex_wake(e, INT_MAX);
		else if (mr_futex_wake(e, n) == 0)
			(void)mr_cas(e, next, (next + MR_EPOCH) & ~MR_ARRIVALS); /* order: N3 acqrel, pairs W1: fails when somebody arrived meanwhile */
		return calls;
	}
	return calls;
}

/* Advances the epoch and wakes everybody, also those who are about to sleep. */
MR_SLOW void mr_notify_all(uint64_t *e)
{
	for (int i = 0; i < MR_CAS_TRIES; i++) {
		uint64_t v = mr_load_acq(e);                              /* order: N4 acq, pairs W1 */
		if (mr_cas(e, v, (v + MR_EPOCH) & ~MR_ARRIVALS)) /* order: N2 acqrel, pairs W4 */
			break;
	}
	(void)mr_futex_wake(e, INT_MAX);
}

/* A full fence on each running thread of each registered process. */
MR_SLOW bool mr_membarrier(void) { return syscall(SYS_membarrier, MR_MEMBARRIER_GLOBAL, 0, 0) == 0; }

/* How this process publishes (FORMAT 8.4): with plain stores if the kernel has the barrier and takes the registration. */
MR_SLOW uint32_t mr_publishes(void)
{
	mr_lock_process();
	if (mr_process_.membarrier == 0) {
		const long need = MR_MEMBARRIER_GLOBAL | MR_MEMBARRIER_REGISTER, have = syscall(SYS_membarrier, MR_MEMBARRIER_QUERY, 0, 0);
		mr_process_.membarrier = have > 0 && (have & need) == need && syscall(SYS_membarrier, MR_MEMBARRIER_REGISTER, 0, 0) == 0 ? 1 : 2;
	}
	const uint32_t how = mr_process_.membarrier == 1 ? MILLRACE_PUBLISH_MEMBARRIER : MILLRACE_PUBLISH_FENCED;
	mr_unlock_process();
	return how;
}

#endif /* MILLRACE_EVENT_H */
