/*
 * Waiting, docs/FORMAT.md section 8: a short spin, then the kernel, in bounded sleeps. After each the waiter looks for what nobody would wake it for:
 * a dead participant in its way, the end of the stream, nobody left to read.
 */
#ifndef MILLRACE_WAIT_H
#define MILLRACE_WAIT_H

#include "millrace_spin.h"

#define MR_TICK (40 * MR_MILLISECOND)         /* FORMAT 8.2: what a waker's death costs */
#define MR_POLLING_TICK MR_MILLISECOND        /* while somebody is registered that neither fences nor can be fenced (8.4) */
#define MR_HELD_TICK (5 * MR_MILLISECOND)     /* the first sleep at the end of a stream while another consumer holds a message; doubles up to a tick */
#define MR_LOOK_EVERY (20 * MR_MILLISECOND)   /* how often a try call that finds its way blocked looks for the dead */
#define MR_STALL_AFTER (100 * MR_MILLISECOND) /* how long somebody holds on to one position before it is called stalled */

/* How long to sleep at most, after making sure that plain-store publishers cannot be missed (W2). */
MR_SLOW int64_t mr_nap_length(const mr_handle *h)
{
	bool polling = false, plain = false;
	for (uint32_t id = 0; id < h->c.participants; id++) { /* of either role: who gives back or discards wakes those who do the same as he */
		if (id == h->id || !mr_anything_open(&h->c, id))
			continue;
		const uint32_t how = mr_load32_acq(&h->c.table[id].publish); /* order: W2 acq, pairs R3 */
		if ((how & MILLRACE_PUBLISH_FENCED) != 0)
			continue;
		if ((how & MILLRACE_PUBLISH_MEMBARRIER) != 0)
			plain = true;
		else
			polling = true;
	}
	/* order: W2 sc REQUIRED, pairs P6-N1: the barrier makes every running publisher's store visible before W3 reads, or its N1 see W1 */
	if (plain && !mr_membarrier())
		polling = true;
	return polling ? MR_POLLING_TICK : MR_TICK;
}

/* Whether the handle was told to end: shut down, or the segment is lost. */
MR_FAST bool mr_is_ending(const mr_handle *h) { return mr_load32_rlx(h->c.lost) != 0; }

MR_SLOW int mr_ending(const mr_handle *h)
{
	return (mr_load32_rlx(h->c.lost) & MR_ENDING_LOST) != 0 ? mr_fail(MR_LOST, "%s", mr_strerror(MR_LOST)) : mr_fail(MR_CLOSED, "the ring was shut down");
}

/* Recovers a dead participant that blocks the way, and dead consumers that hold a lease. */
MR_SLOW bool mr_repair(mr_handle *h)
{
	bool repaired = false;
	if (h->c.kind == MR_SPSC)
		return false; /* settled by the successor */
	if (mr_is_owned(&h->blocked))
		repaired = mr_recover_if_dead(h->ring, mr_owner_of(h->blocked.word));
	for (uint32_t id = 0; id < h->c.participants; id++)
		if (mr_load_acq(&h->c.table[id].held) != 0 && mr_role_open(&h->c, id, MR_ROLE_CONSUMER) && mr_recover_if_dead(h->ring, id)) /* order: V0 acq, pairs L1 */
			repaired = true;
	return repaired;
}

/* Remembers since when one word has stood in the way. */
MR_FAST void mr_look_stalled(mr_handle *h)
{
	if (h->blocked.at != h->stalled.at || h->blocked.word != h->stalled.word || h->stalled.since == 0) {
		h->stalled = h->blocked;
		h->stalled.since = mr_monotonic();
	}
}

/* A time-out: behind a stalled participant, or not. */
MR_SLOW int mr_timed_out(mr_handle *h)
{
	mr_look_stalled(h);
	if (h->c.kind == MR_MPMC && mr_is_owned(&h->blocked) && mr_monotonic() - h->stalled.since >= MR_STALL_AFTER) {
		const uint32_t id = mr_owner_of(h->blocked.word);
		const unsigned pid = id < h->c.participants ? mr_load32_rlx(&h->c.table[id].pid) : 0; /* order: E3 rlx, for people */
		return mr_fail(MR_STALLED, "the time-out passed behind a stalled %s (pid %u, position %llu)",
		               mr_state_of(h->blocked.word) == MILLRACE_STATE_CLAIMED ? "producer" : "consumer", pid, (unsigned long long)h->blocked.at);
	}
	return mr_fail(MR_TIMEOUT, "%s", mr_strerror(MR_TIMEOUT));
}

/* One sleep on e under key, of at most nap, not beyond deadline (INT64_MAX: none). False when the deadline has passed. */
MR_FAST bool mr_sleep(mr_handle *h, uint64_t *e, uint32_t key, int64_t nap, int64_t deadline)
{
	const int64_t now = mr_monotonic();
	if (now >= deadline)
		return false;
	mr_bump(&h->me->sleeps, 1);
	mr_futex_wait(e, key, deadline - now < nap ? deadline : now + nap);
	return true;
}

MR_FAST int64_t mr_deadline(int64_t timeout)
{
	const int64_t now = timeout < 0 ? 0 : mr_monotonic();
	return timeout < 0 || timeout > INT64_MAX - now ? INT64_MAX : now + timeout;
}

/* The time that is left until a deadline. */
MR_FAST int64_t mr_left(int64_t deadline)
{
	const int64_t left = deadline == INT64_MAX ? MR_FOREVER : deadline - mr_monotonic();
	return deadline == INT64_MAX || left > 0 ? left : 0;
}

MR_SLOW int mr_try_reserve_once(mr_producer *p, uint64_t n)
{
	const mr_core *c = &p->h.c;
	if (n > c->max_message)
		return mr_too_large(n, c->max_message);
	const uint64_t k = mr_slots_for(c, n);
	int status = c->kind == MR_SPSC ? mr_spsc_reserve(p, k) : mr_claim(p, k, &p->resv.head, &p->resv.at);
	if (status != MR_OK)
		return status;
	p->resv.end = p->resv.at + k;
	p->resv.n = n;
	(void)mr_place(c, p->resv.at, n, &p->resv.word);
	mr_hold(&p->h, p->resv.head + 1);
	return MR_OK;
}

/* Tries the pending call once more. */
MR_SLOW int mr_attempt_send(mr_producer *p)
{
	if (p->pending.what == MR_PENDING_BATCH)
		return mr_send_part(p, &p->pending.batch, false, &p->pending.done);
	if (p->pending.what == MR_PENDING_RESERVE)
		return mr_try_reserve_once(p, p->pending.n);
	return p->h.c.kind == MR_SPSC ? mr_spsc_send(p, p->pending.data, p->pending.n, p->coarse) : mr_mpmc_send(p, p->pending.data, p->pending.n);
}

/* Looks for what nobody would wake a producer for. MR_FULL: go on waiting. */
MR_SLOW int mr_look_while_full(mr_producer *p)
{
	mr_ring *r = p->h.ring;
	bool ever;
	int status;
	if (mr_was_removed(&r->c))
		return mr_fail(MR_LOST, "%s", mr_strerror(MR_LOST));
	if (mr_repair(&p->h) && (status = mr_attempt_send(p)) != MR_FULL)
		return status;
	if (p->wait_for_consumers || mr_anybody_alive(&r->c, MR_ROLE_CONSUMER, &p->h.peer, &ever) || !ever)
		return MR_FULL;
	(void)mr_recover_all(r);
	if ((status = mr_attempt_send(p)) != MR_FULL)
		return status;
	if (mr_anybody_alive(&r->c, MR_ROLE_CONSUMER, &p->h.peer, &ever))
		return MR_FULL;
	return mr_fail(MR_NO_CONSUMERS, "%s", mr_strerror(MR_NO_CONSUMERS));
}

/* Makes the pending call succeed, or says why it cannot. */
MR_SLOW int mr_await_space(mr_producer *p, int64_t timeout)
{
	const int64_t deadline = mr_deadline(timeout);
	bool large;
	const uint64_t stretch = mr_stretch_of(&p->h.c, &large);
	mr_spinner s = {0, 0, 0, 0, 0};
	int status = MR_FULL;
	p->coarse = true;
	while (status == MR_FULL && mr_spin_more(&s, &p->h)) {
		if (!mr_is_crammed(p, stretch))
			status = mr_attempt_send(p);
		else if (large) /* otherwise it takes no time, and is not worth the line */
			mr_renew(&s, mr_gained(p), deadline);
	}
	p->coarse = false;
	if (status == MR_FULL)
		status = mr_attempt_send(p); /* there may be less than what it spun for */
	mr_spun(&p->h, &s, status != MR_FULL);
	if (status != MR_FULL)
		return status;
	p->h.stalled.since = 0;
	const int64_t parked = mr_monotonic();
	uint64_t *e = &p->h.c.ctl->not_full;
	uint32_t key = 0;
	for (bool again = false; status == MR_FULL; again = true) {
		if (!again || !mr_still_arrived(e, key))
			key = mr_arrive(e);
		const int64_t nap = mr_nap_length(&p->h);
		if (mr_is_ending(&p->h))
			return mr_ending(&p->h);
		if ((status = mr_attempt_send(p)) != MR_FULL)
			break;
		mr_look_stalled(&p->h);
		if ((status = mr_look_while_full(p)) != MR_FULL)
			break;
		if (!mr_sleep(&p->h, e, key, nap, deadline) && (status = mr_attempt_send(p)) == MR_FULL)
			return mr_timed_out(&p->h);
	}
	mr_slept(&p->h, parked);
	return status;
}

/* What a try call does that found the ring full: at most every 20 ms it looks for the dead in its way. Whether something was repaired. */
MR_SLOW bool mr_unblock(mr_handle *h, int *status)
{
	if (mr_was_removed(&h->c)) { /* it will stay full: nobody new can come */
		*status = mr_fail(MR_LOST, "%s", mr_strerror(MR_LOST));
		return false;
	}
	if (h->c.kind == MR_SPSC)
		return false; /* space of a dead SPSC consumer is given back by its successor */
	const int64_t now = mr_monotonic();
	if (h->looked != 0 && now - h->looked < MR_LOOK_EVERY)
		return false;
	h->looked = now;
	return mr_repair(h);
}

/* Copies up to count messages, one or more of them: what is left of a run at once, or one after the other. */
MR_FAST int mr_receive_cells(mr_consumer *q, uint8_t *to, size_t size, size_t count, size_t *sizes, size_t *received)
{
	size_t n;
	*received = 0;
	if (q->h.c.kind == MR_MPMC)
		return mr_mpmc_receive_cells(q, to, size, count, sizes, received);
	*received = mr_spsc_receive_run(q, to, size, count, &n);
	if (*received > 0) {
		for (size_t i = 0; sizes != NULL && i < *received; i++)
			sizes[i] = n;
		return MR_OK;
	}
	for (; *received < count; ++*received) {
		const int status = mr_spsc_receive(q, to + *received * size, size, &n, false);
		if (status != MR_OK)
			return *received > 0 && (status == MR_EMPTY || status == MR_SHORT_BUFFER) ? MR_OK : status;
		if (sizes != NULL)
			sizes[*received] = n;
	}
	return MR_OK;
}

/* Tries the pending call once more. */
MR_SLOW int mr_attempt_receive(mr_consumer *q)
{
	if (q->pending.count > 0)
		return mr_receive_cells(q, (uint8_t *)q->pending.buffer, q->pending.capacity, q->pending.count, q->pending.sizes, &q->pending.received);
	if (q->pending.limit > 0)
		return q->h.c.kind == MR_SPSC ? mr_spsc_lease(q, q->pending.limit) : mr_mpmc_lease(q, q->pending.limit);
	if (q->h.c.kind == MR_SPSC)
		return mr_spsc_receive(q, q->pending.buffer, q->pending.capacity, &q->pending.size, true);
	return mr_mpmc_receive(q, q->pending.buffer, q->pending.capacity, &q->pending.size, true);
}

/* How long to wait for a successor of a last producer that died. The time begins anew whenever the roster has changed. */
MR_SLOW int64_t mr_grace_left(mr_consumer *q, uint32_t roster)
{
	if (q->grace <= 0 || !mr_last_producer_died(&q->h.c))
		return 0;
	if (q->drained == 0 || q->drained_at != roster) {
		q->drained = mr_monotonic();
		q->drained_at = roster;
	}
	return q->grace - (mr_monotonic() - q->drained);
}

/* Bounds a sleep at the end of a stream that somebody else still holds a message of. */
MR_SLOW int64_t mr_held_nap(mr_consumer *q, int64_t nap)
{
	q->held_nap = 2 * q->held_nap < MR_HELD_TICK ? MR_HELD_TICK : 2 * q->held_nap > MR_TICK ? MR_TICK : 2 * q->held_nap;
	return nap < q->held_nap ? nap : q->held_nap;
}

/* Looks for what nobody would wake a consumer for. MR_EMPTY: go on waiting, sleeping at most *nap. */
MR_SLOW int mr_look_while_empty(mr_consumer *q, int64_t *nap)
{
	mr_ring *r = q->h.ring;
	const mr_core *c = &q->h.c;
	bool ever;
	int status;
	if (mr_was_removed(c))
		return mr_fail(MR_LOST, "%s", mr_strerror(MR_LOST));
	uint32_t roster = mr_load32_acq(&c->ctl->roster); /* order: E1 acq, pairs R5 X3 V6 */
	if (mr_repair(&q->h) && (status = mr_attempt_receive(q)) != MR_EMPTY)
		return status;
	if (mr_anybody_alive(c, MR_ROLE_PRODUCER, &q->h.peer, &ever) || !ever || q->follow)
		return MR_EMPTY;
	if (mr_recover_all(r))
		roster = mr_load32_acq(&c->ctl->roster); /* order: E1 acq, pairs R5 X3 V6 */
	if (mr_anybody_alive(c, MR_ROLE_PRODUCER, &q->h.peer, &ever))
		return MR_EMPTY;
	if ((status = mr_attempt_receive(q)) != MR_EMPTY)
		return status;
	if ((c->kind == MR_MPMC && mr_unreleased(c)) || mr_load32_acq(&c->ctl->roster) != roster) { /* order: E1 acq, pairs R5 X3 V6 */
		*nap = mr_held_nap(q, *nap);
		return MR_EMPTY;
	}
	const int64_t left = mr_grace_left(q, roster);
	if (left > 0) {
		*nap = left < *nap ? left : *nap;
		return MR_EMPTY;
	}
	return MR_EOF;
}

/* Wakes one more sleeper when more is ready: a message that completes a stretch wakes one consumer, and those behind it woke theirs too early. */
MR_FAST void mr_baton(mr_consumer *q)
{
	mr_found f;
	uint64_t *e = &q->h.c.ctl->not_empty;
	if (q->h.c.kind == MR_MPMC && mr_pending(e) && mr_mpmc_find(q, &f) == MR_OK)
		mr_wake(&q->h, e, 1);
}

/* Makes the pending call succeed, or says why it cannot. */
MR_SLOW int mr_await_message(mr_consumer *q, int64_t timeout)
{
	const int64_t deadline = mr_deadline(timeout);
	mr_spinner s = {0, 0, 0, 0, 0};
	int status = MR_EMPTY;
	while (status == MR_EMPTY && mr_spin_more(&s, &q->h))
		status = mr_attempt_receive(q);
	mr_spun(&q->h, &s, status != MR_EMPTY);
	if (status != MR_EMPTY)
		return status;
	q->h.stalled.since = q->held_nap = 0;
	const int64_t parked = mr_monotonic();
	uint64_t *e = &q->h.c.ctl->not_empty;
	uint32_t key = 0;
	for (bool again = false; status == MR_EMPTY; again = true) {
		if (!again || !mr_still_arrived(e, key))
			key = mr_arrive(e);
		int64_t nap = mr_nap_length(&q->h);
		if (mr_is_ending(&q->h)) {
			status = mr_ending(&q->h);
			break;
		}
		status = mr_attempt_receive(q);
		if (status == MR_EMPTY) {
			mr_look_stalled(&q->h);
			status = mr_look_while_empty(q, &nap);
		}
		if (status == MR_EMPTY && !mr_sleep(&q->h, e, key, nap, deadline) && (status = mr_attempt_receive(q)) == MR_EMPTY)
			status = mr_timed_out(&q->h);
	}
	mr_slept(&q->h, parked);
	if (status != MR_CORRUPT)
		mr_baton(q);
	return status;
}

/* What a try call does that found nothing: when the roster changed, and at most every 20 ms, it looks for the dead and for the end of the stream. */
MR_SLOW int mr_poll(mr_consumer *q)
{
	const uint32_t roster = mr_load32_acq(&q->h.c.ctl->roster); /* order: E1 acq, pairs R5 X3 V6 */
	const int64_t now = mr_monotonic();
	int64_t nap = MR_TICK;
	if (roster == q->h.roster && q->h.looked != 0 && now - q->h.looked < MR_LOOK_EVERY)
		return MR_EMPTY;
	q->h.roster = roster;
	q->h.looked = now;
	return mr_look_while_empty(q, &nap);
}

#endif /* MILLRACE_WAIT_H */
