/* Batches: one claim, one word to publish, for many messages; docs/FORMAT.md sections 9.2 and 10.1. */
#ifndef MILLRACE_BATCH_H
#define MILLRACE_BATCH_H

#include "millrace_row.h"

MR_FAST uint64_t mr_size_of(const mr_batch *b, size_t i) { return b->base != NULL ? b->size : b->slices[i].size; }
MR_FAST const void *mr_data_of(const mr_batch *b, size_t i) { return b->base != NULL ? b->base + i * b->size : b->slices[i].data; }

/* Drops the first n messages. */
MR_FAST void mr_drop_first(mr_batch *b, size_t n)
{
	b->count -= n;
	if (b->base != NULL)
		b->base += n * b->size;
	else
		b->slices += n;
}

/* Checks every size, and notes what the sizes have in common. */
MR_SLOW int mr_fits(const mr_core *c, mr_batch *b)
{
	uint64_t largest = b->count == 0 ? 0 : mr_size_of(b, 0);
	b->even = true;
	if (b->base == NULL) {
		b->size = largest;
		for (size_t i = 0; i < b->count; i++) {
			b->even = b->even && b->slices[i].size == b->size;
			largest = b->slices[i].size > largest ? b->slices[i].size : largest;
		}
	}
	b->small = largest <= c->slot_size;
	return largest > c->max_message ? mr_too_large(largest, c->max_message) : MR_OK;
}

/* How many messages make up the next part: as many as need at most max_slots slots. */
MR_FAST size_t mr_part(const mr_core *c, const mr_batch *b)
{
	if (b->small)
		return mr_min(b->count, c->max_slots);
	uint64_t slots = 0;
	size_t n = 0;
	while (n < b->count && (slots += mr_slots_for(c, mr_size_of(b, n))) <= c->max_slots)
		n++;
	return n;
}

/* How many of the first `most` messages fit into [t, room), where they end, and the padding among them. */
MR_FAST size_t mr_prefix(const mr_core *c, const mr_batch *b, size_t most, uint64_t t, uint64_t room, uint64_t *end, uint64_t *pad)
{
	size_t n = 0;
	*pad = 0;
	*end = t;
	if (b->small) {
		n = mr_ahead(room, t) > 0 ? mr_min(most, room - t) : 0;
		*end = t + n;
		return n;
	}
	for (; n < most; n++) {
		const uint64_t k = mr_slots_for(c, mr_size_of(b, n)), skip = mr_pad(c, *end, k);
		if (mr_ahead(room, *end + skip + k) < 0)
			break;
		*end += skip + k;
		*pad += skip;
	}
	return n;
}

/* Publishes the first n messages. The room was checked. */
MR_FAST void mr_spsc_batch(mr_producer *p, const mr_batch *b, size_t n)
{
	const mr_core *c = &p->h.c;
	if (n > 1 && b->even && b->small) {
		mr_spsc_run(p, b, n);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		const uint64_t size = mr_size_of(b, i), k = mr_slots_for(c, size), pad = mr_pad(c, p->pos, k);
		if (pad != 0)
			mr_skip_to_start(p, pad);
		mr_spsc_put(p, mr_data_of(b, i), size, k, p->h.fenced && i == n - 1);
		p->pos += k;
	}
	mr_spsc_committed(p, p->pos, n);
}

/* Fills and publishes the extent claimed at head for the first n messages: everything behind the head first, the head last. */
MR_SLOW void mr_mpmc_batch(mr_producer *p, const mr_batch *b, size_t n, uint64_t head)
{
	const mr_core *c = &p->h.c;
	if (b->even && b->small) {
		mr_mpmc_row(p, b, n, head);
		return;
	}
	uint64_t head_word = mr_free_word(head + c->slots), x = head; /* unless the extent begins with a message */
	bool padded = false;
	for (size_t i = 0; i < n; i++) {
		const uint64_t size = mr_size_of(b, i), k = mr_slots_for(c, size), pad = mr_pad(c, x, k);
		uint64_t word;
		if (pad != 0) {
			padded = true;
			mr_free_stretch(c, x == head ? x + 1 : x, x + pad);
			x += pad;
		}
		struct millrace_entry *e = mr_entry(c, x);
		mr_copy(mr_place(c, x, size, &word), mr_data_of(b, i), size);
		mr_store_rlx(&e->length, word); /* order: P4 rlx, pairs C3: published by P6 */
		if (x == head)
			head_word = mr_ready_word(x + k, 0);
		else
			mr_store_rel(&e->state, mr_ready_word(x + k, 0)); /* order: P5 rel, pairs C2: reached only past head */
		x += k;
	}
	mr_publish(mr_state(c, head), head_word, p->h.fenced); /* order: P6 rel, pairs C2 and N1 */
	mr_advance(p, head, x, n);
	mr_announce(p, n, padded);
}

/* Claims room for messages of b in one step and publishes them: all n of the next part, or, with any, the longest prefix that fits. *n: how many. */
MR_SLOW int mr_mpmc_send_part(mr_producer *p, const mr_batch *b, bool any, size_t *n)
{
	const mr_core *c = &p->h.c;
	const size_t part = *n;
	for (uint64_t step = 0; step < c->max_steps; step++) {
		uint64_t w, end, pad, all;
		int status = mr_peek_free(p, &w);
		*n = 0;
		if (status != MR_OK)
			return status;
		const uint64_t t = p->pos;
		(void)mr_prefix(c, b, part, t, t + 2 * c->slots, &all, &pad);
		const uint64_t room = mr_first_used(c, t + 1, mr_ahead(all, t + c->slots) > 0 ? t + c->slots : all);
		const size_t fit = mr_prefix(c, b, part, t, room, &end, &pad);
		if (fit == 0 || (fit < part && !any)) {
			if (mr_load_acq(mr_state(c, t)) != w) /* order: P2 acq, pairs P3: t was claimed meanwhile */
				continue;
			return mr_full(p, room);
		}
		if (mr_cas(mr_state(c, t), w, mr_claimed_word(end, p->h.id))) { /* order: P3 acqrel, pairs C4 C5 L3 and C2 */
			if (pad != 0)
				mr_bump(&p->h.me->padding, pad);
			mr_mpmc_batch(p, b, fit, t);
			*n = fit;
			return fit < part ? MR_FULL : MR_OK;
		}
	}
	*n = 0;
	return mr_fail_corrupt("state word", p->pos, mr_load_acq(mr_state(c, p->pos)));
}

/* Commits the whole next part of b, or with any the longest prefix of it that fits. *n: how many messages; MR_FULL when that is not the whole part. */
MR_FAST int mr_send_part(mr_producer *p, const mr_batch *b, bool any, size_t *n)
{
	const mr_core *c = &p->h.c;
	uint64_t end, pad;
	const size_t part = *n = mr_part(c, b);
	if (c->kind == MR_MPMC)
		return mr_mpmc_send_part(p, b, any, n);
	(void)mr_prefix(c, b, part, p->pos, p->pos + 2 * c->slots, &end, &pad);
	int status = mr_need_room(p, end);
	if (status == MR_FULL && any)
		*n = mr_prefix(c, b, part, p->pos, p->limit + c->slots, &end, &pad); /* mr_room learnt all there is */
	else if (status != MR_OK)
		*n = 0;
	if (*n > 0)
		mr_spsc_batch(p, b, *n);
	return status;
}

#endif /* MILLRACE_BATCH_H */
