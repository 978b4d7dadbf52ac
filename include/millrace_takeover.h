/* What a new participant of an SPSC ring settles of the last one, and giving back: docs/FORMAT.md sections 10.3 and 10.4. The caller holds the role. */
#ifndef MILLRACE_TAKEOVER_H
#define MILLRACE_TAKEOVER_H

#include "millrace_spsc.h"

/* Whether position x, which has no valid word of its own, is inside the run that the consumer entered last. */
MR_SLOW bool mr_inside_run(const mr_core *c, uint64_t x, uint64_t *e, uint64_t *length)
{
	*e = mr_load_acq(&c->ctl->run_end); /* order: D2 acq, pairs D2 of the last owner of the role */
	*length = mr_load_rlx(&c->ctl->run_length); /* order: D2 rlx, pairs D2 */
	return *e - x - 1 < c->slots && *length <= c->slot_size;
}

/* Makes the entry at m that of a message of size bytes in its data cell. */
MR_SLOW void mr_write_single(const mr_core *c, uint64_t m, uint64_t size)
{
	mr_store_rel(&mr_entry(c, m)->length, size);             /* order: S3 rel, pairs D2: at the head of a run not before J4 */
	mr_store_rel(mr_state(c, m), mr_spsc_word(m + 1, 0)); /* order: J4 rel, pairs D1 */
}

/*
 * Rewrites every run that reaches into [from, to) as single entries, the last first, so that a reader finds the same messages throughout. The head of a
 * run, if its word is valid, becomes a run of one first: with the length word first it would be one message of all slots for a moment.
 */
MR_SLOW void mr_explode(const mr_core *c, uint64_t from, uint64_t to)
{
	uint64_t e = from;
	for (uint64_t x = from; mr_ahead(to, x) > 0; x = e) {
		const bool valid = mr_spsc_end(mr_load_acq(mr_state(c, x)), x, c->slots, &e); /* order: D1 acq, pairs S4 J4 */
		uint64_t length = mr_load_rlx(&mr_entry(c, x)->length);                            /* order: D2 rlx, pairs S3 */
		if (!valid) {
			if (!mr_inside_run(c, x, &e, &length))
				return;
			length |= MILLRACE_FLAG_RUN;
		}
		if ((length & MILLRACE_FLAG_RUN) == 0)
			continue;
		const uint64_t size = length & MILLRACE_LENGTH_MASK;
		for (uint64_t m = e - 1; m != x; m--)
			mr_write_single(c, m, size);
		if (valid)
			mr_store_rel(mr_state(c, x), mr_spsc_word(x + 1, 0)); /* order: J4 rel, pairs D1 */
		mr_write_single(c, x, size);
	}
}

/* The next message of [x, to), which are single entries: *e its end, *w its word. False when there is none. */
MR_SLOW bool mr_next_single(const mr_core *c, uint64_t *x, uint64_t to, uint64_t *e, uint64_t *w)
{
	for (; mr_ahead(to, *x) > 0; *x = *e) {
		*w = mr_load_acq(mr_state(c, *x)); /* order: D1 acq, pairs S4 J4 */
		if (!mr_spsc_end(*w, *x, c->slots, e))
			return false;
		if ((mr_load_rlx(&mr_entry(c, *x)->length) & MILLRACE_FLAG_PAD) == 0) /* order: D2 rlx, pairs S3 */
			return true;
	}
	return false;
}

/* Gives back one message, J1, J2; done is the journal as it was found. */
MR_SLOW void mr_journal_back(const mr_core *c, uint64_t x, uint64_t e, uint64_t w, uint64_t done)
{
	const uint64_t r = mr_given_back(w);
	if (c->max_deliveries > 0 && r >= c->max_deliveries && done >> 8 != (x & ((UINT64_C(1) << 56) - 1)))
		return; /* counted before, and waits to be stepped over */
	uint64_t next = mr_next_given_back(r);
	const int64_t behind = (int64_t)(((done >> 8) - x) << 8);
	if (done != 0 && behind > 0)
		return; /* settled before the last owner died */
	if (done != 0 && behind == 0)
		next = done & MILLRACE_DELIVERIES_MASK; /* the last owner of the role died here */
	mr_store_rel(&c->ctl->journal, x << 8 | next); /* order: J1 rel, pairs J1 */
	if (c->max_deliveries > 0 && next >= c->max_deliveries)
		(void)mr_count(c, x, w, MR_LOST_ONE);
	mr_store_rel(mr_state(c, x), mr_spsc_word(e, next)); /* order: J2 rel, pairs D1 of the next owner */
}

/* Gives back the messages in [from, leased), and returns the position where reading goes on. A death in the middle repeats the work. */
MR_SLOW uint64_t mr_spsc_give_back(const mr_core *c, uint64_t from, uint64_t leased, bool by_policy)
{
	uint64_t e, w;
	mr_explode(c, from, leased);
	if (by_policy && c->policy == MR_DROP) {
		for (uint64_t x = from; mr_next_single(c, &x, leased, &e, &w); x = e)
			(void)mr_count(c, x, w, MR_LOST_ONE);
		mr_store_rel(&c->ctl->consumer_position, leased); /* order: D4 rel, pairs S1 */
		mr_store_rel(&c->ctl->journal, 0);                /* order: J1 rel, pairs J1: a return that died may have left it */
		return leased;
	}
	const uint64_t done = mr_load_acq(&c->ctl->journal); /* order: J1 acq, pairs J1 of the last owner of the role */
	for (uint64_t x = from; mr_next_single(c, &x, leased, &e, &w); x = e)
		mr_journal_back(c, x, e, w, done);
	mr_store_rel(&c->ctl->lease_end, from); /* order: J3 rel, pairs J1 of the next owner */
	mr_store_rel(&c->ctl->journal, 0);      /* order: J1 rel, pairs J1 */
	return from;
}

/* Gives back what the last consumer left leased, and returns where reading goes on. */
MR_SLOW uint64_t mr_spsc_settle(const mr_core *c)
{
	const uint64_t h = mr_load_acq(&c->ctl->consumer_position); /* order: D4 acq, pairs D4 of the last owner */
	const uint64_t leased = mr_load_acq(&c->ctl->lease_end);    /* order: L2 acq, pairs L2 of the last owner */
	if (leased - h - 1 < c->slots)
		return mr_spsc_give_back(c, h, leased, true);
	mr_store_rel(&c->ctl->journal, 0); /* order: J1 rel, own role */
	return h;
}

/* Gives back the messages that are still held. */
MR_SLOW void mr_spsc_return(mr_consumer *q, bool by_policy)
{
	mr_lease *l = &q->lease;
	const uint64_t from = mr_lease_at(l, l->next).p;
	l->next = l->count;
	q->pos = mr_spsc_give_back(&q->h.c, from, q->pos, by_policy);
	if (mr_ahead(q->given, q->pos) > 0)
		q->given = q->pos;
	q->run_end = q->pos;
	mr_unhold(q);
	mr_wake_everybody(&q->h);
}

/* Starts a producer where the ring stands; for SPSC it settles what the last one left (10.3). */
MR_SLOW int mr_adopt_producer(mr_producer *p)
{
	const mr_core *c = &p->h.c;
	p->pos = mr_load_acq(&c->ctl->producer_position); /* order: P0 acq, pairs P7 S5 */
	p->mapped = p->pos;
	if (c->kind == MR_MPMC)
		return MR_OK;
	const uint64_t limit = mr_load_acq(&c->ctl->consumer_position); /* order: S1 acq, pairs D4 */
	uint64_t e;
	for (uint64_t i = 0; i < c->slots && mr_spsc_end(mr_load_acq(mr_state(c, p->pos)), p->pos, c->slots, &e); i++) /* order: D1 acq, pairs S4 */
		p->pos = e;
	if (p->pos - limit > c->slots)
		return mr_fail_corrupt("consumer position", p->pos, limit);
	p->limit = limit;
	p->fetch_mask = c->fetches_next ? c->line_mask : UINT64_MAX;
	if (mr_load_acq(&c->ctl->reserved_position) == p->pos + 1) { /* order: S5 acq, pairs S3 of the last owner */
		const uint64_t t = p->pos;
		(void)mr_count(c, t, mr_load_acq(mr_state(c, t)), MR_SKIPPED);                              /* order: V9 acq, own role */
		mr_store_rlx(&mr_entry(c, t)->length, MILLRACE_FLAG_PAD | MILLRACE_FLAG_SKIP); /* order: S3 rlx, pairs D2 */
		mr_store_rel(mr_state(c, t), mr_spsc_word(t + 1, 0));                        /* order: S4 rel, pairs D1 */
		p->pos++;
	}
	p->hinted = p->pos;
	mr_store_rel(&c->ctl->reserved_position, 0);      /* order: S5 rel, own role */
	mr_store_rel(&c->ctl->producer_position, p->pos); /* order: S5 rel, own role */
	return MR_OK;
}

/* Starts a consumer where the ring stands; for SPSC it settles what the last one left (10.4). */
MR_SLOW int mr_adopt_consumer(mr_consumer *q)
{
	const mr_core *c = &q->h.c;
	if (c->kind == MR_MPMC) {
		q->pos = mr_load_acq(&c->ctl->consumer_position); /* order: C1 acq, pairs C6 */
		q->seen = mr_load_acq(&c->ctl->returns) - 1;      /* order: C0 acq; never equal, so the first call looks for what was given back */
		return MR_OK;
	}
	uint64_t e, length, x;
	q->pos = q->given = q->run_end = mr_spsc_settle(c);
	if (mr_inside_run(c, q->pos, &e, &length) && !mr_spsc_end(mr_load_acq(mr_state(c, q->pos)), q->pos, c->slots, &x)) { /* order: D1 acq, pairs S4 J4 */
		q->run_end = e;
		q->run_length = length;
	}
	mr_store_rel(&c->ctl->space_position, q->pos); /* order: D5 rel, pairs S1 */
	return MR_OK;
}

#endif /* MILLRACE_TAKEOVER_H */
