/* Leases of the MPMC ring, docs/FORMAT.md section 9.4. */
#ifndef MILLRACE_LEASE_H
#define MILLRACE_LEASE_H

#include "millrace_mpmc.h"

/* Adds the committed messages behind p that nobody has passed, up to limit in all, and returns the end of the last (I2). */
MR_SLOW uint64_t mr_extend(mr_consumer *q, uint64_t p, size_t limit)
{
	const mr_core *c = &q->h.c;
	mr_lease *l = &q->lease;
	uint64_t end = l->items[0].e;
	for (uint64_t x = end; l->count < limit && x - p < c->slots;) {
		uint64_t e, n;
		const uint64_t w = mr_load_acq(mr_state(c, x)); /* order: C2 acq, pairs P6 */
		const mr_standing s = mr_stand(w, x, c->slots, &e);
		if (s == MR_STAND_PASSED) { /* skipped, discarded or padding */
			x++;
			continue;
		}
		if (s != MR_STAND_READY || mr_given_back(w) != 0 || e - p > c->slots)
			break;
		const uint64_t length = mr_load_rlx(&mr_entry(c, x)->length); /* order: C3 rlx, pairs P4: ordered by C2 */
		if (mr_payload(c, x, e - x, length, &n) == NULL || n > q->most)
			break;
		mr_lease_add(l, mr_new_item(x, e, 0, length));
		x = end = e;
	}
	return end;
}

/* Takes further messages that were given back, one word each, up to limit messages in all. */
MR_SLOW void mr_take_returned(mr_consumer *q, size_t limit)
{
	const mr_core *c = &q->h.c;
	mr_lease *l = &q->lease;
	for (uint64_t i = 0; l->count < limit && i < c->slots; i++) {
		mr_found f;
		uint64_t n;
		if (!mr_rescue(q, &f))
			return;
		const uint64_t length = mr_load_rlx(&mr_entry(c, f.p)->length), r = mr_given_back(f.w); /* order: C3 rlx, pairs P4: ordered by C2 */
		if (mr_payload(c, f.p, f.e - f.p, length, &n) == NULL || n > q->most || mr_ahead(f.p, l->items[l->count - 1].p) < 0)
			return; /* positions in a batch ascend */
		if (mr_cas(mr_state(c, f.p), f.w, mr_taken_word(f.e, q->h.id, r))) /* order: L2 acqrel, pairs V3 */
			mr_lease_add(l, mr_new_item(f.p, f.e, r, length));
	}
}

/* Takes the next 1..limit messages, L1, L2. */
MR_SLOW int mr_mpmc_lease(mr_consumer *q, size_t limit)
{
	const mr_core *c = &q->h.c;
	mr_lease *l = &q->lease;
	for (uint64_t step = 0; step < c->max_steps; step++) {
		mr_found f;
		int status = mr_mpmc_find(q, &f);
		if (status != MR_OK) {
			mr_lease_reset(l);
			return status;
		}
		uint64_t n;
		const uint64_t length = mr_load_acq(&mr_entry(c, f.p)->length), r = mr_given_back(f.w); /* order: C3 acq, pairs P4: before the second look at the word */
		if (mr_payload(c, f.p, f.e - f.p, length, &n) == NULL) {
			if (mr_load_acq(mr_state(c, f.p)) != f.w) /* order: C2 acq, pairs C4: somebody took it meanwhile */
				continue;
			return mr_fail_corrupt("length word", f.p, length);
		}
		if (n > q->most) {
			if (mr_load_acq(mr_state(c, f.p)) != f.w) /* order: C2 acq, pairs C4: somebody took it meanwhile */
				continue;
			mr_lease_reset(l);
			return MR_SHORT_BUFFER;
		}
		mr_lease_reset(l);
		mr_lease_add(l, mr_new_item(f.p, f.e, r, length));
		l->end = r == 0 && limit > 1 ? mr_extend(q, f.p, limit) : f.e;
		mr_hold(&q->h, f.p + 1); /* L1 */
		if (!mr_cas(mr_state(c, f.p), f.w, mr_taken_word(l->end, q->h.id, r))) { /* order: L2 acqrel, pairs P6 V3 */
			mr_hold(&q->h, 0);
			continue;
		}
		l->shared = r == 0;
		if (r > 0)
			mr_take_returned(q, limit);
		if (l->items[0].p == q->pos) /* after a rescue the own candidate stays */
			mr_passed(q, q->pos, l->end);
		mr_count_taken(q);
		return MR_OK;
	}
	return mr_fail_corrupt("state word", q->pos, mr_load_acq(mr_state(c, q->pos)));
}

/* Ends the lease of the extent [p, e). */
MR_FAST void mr_free_lease(mr_consumer *q, uint64_t p, uint64_t e)
{
	const mr_core *c = &q->h.c;
	if (e - p == 1) {
		mr_publish(mr_state(c, p), mr_free_word(p + c->slots), q->h.fenced); /* order: L3 rel, pairs P1 and N1 */
		return;
	}
	mr_store_rel(mr_state(c, p), mr_done_word(e, q->h.id)); /* order: L3 rel, pairs V2 */
	mr_free_done(q, p, e);
}

/* Ends the part of a shared lease that goes up to index i, and gives the rest, if any, a word of its own. The part is [return value, *m). */
MR_FAST uint64_t mr_cut(mr_consumer *q, size_t i, uint64_t *m)
{
	mr_lease *l = &q->lease;
	const uint64_t p = l->items[l->next].p;
	*m = l->end;
	if (i + 1 < l->count) {
		*m = l->items[i + 1].p;
		/* order: L3 rel, pairs V2: while both words stand, both name this consumer */
		mr_store_rel(mr_state(&q->h.c, *m), mr_taken_word(l->end, q->h.id, 0));
	}
	l->next = i + 1;
	return p;
}

/* Releases the messages up to index i, L3, L4. */
MR_SLOW void mr_mpmc_release(mr_consumer *q, size_t i)
{
	mr_lease *l = &q->lease;
	if (l->shared) {
		uint64_t m, p = mr_cut(q, i, &m);
		mr_free_lease(q, p, m);
	} else {
		for (; l->next <= i; l->next++)
			mr_free_lease(q, l->items[l->next].p, l->items[l->next].e);
	}
	mr_unhold(q);
	mr_announce_space(q);
}

/* Gives the messages that are still held back: redelivered, or, with by_policy, as the policy says for a dead consumer. */
MR_SLOW void mr_mpmc_return(mr_consumer *q, bool by_policy)
{
	const mr_core *c = &q->h.c;
	mr_lease *l = &q->lease;
	while (mr_lease_open(l)) {
		const mr_item it = l->items[l->next];
		uint64_t m;
		if (l->shared)
			(void)mr_cut(q, l->next, &m);
		else
			l->next++;
		const uint64_t w = mr_load_rlx(mr_state(c, it.p)), r = mr_item_given(&it); /* order: L3 rlx, own word */
		if (mr_loses(c, r, by_policy)) {
			(void)mr_count(c, it.p, w, MR_LOST_ONE);
			mr_free_lease(q, it.p, it.e);
		} else {
			mr_store_rel(mr_state(c, it.p), mr_ready_word(it.e, mr_next_given_back(r))); /* order: L3 rel, pairs C2 */
		}
	}
	(void)mr_add_sc(&c->ctl->returns, 1); /* order: V4 rel, pairs C0 */
	mr_wake_everybody(&q->h);
	mr_unhold(q);
}

#endif /* MILLRACE_LEASE_H */
