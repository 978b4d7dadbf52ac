/*
 * The SPSC ring, docs/FORMAT.md section 10.
 *
 * From producer to consumer: the state word beside the message, as in FastForward (Giacomoni, Moseley, Vachharajani, PPoPP 2008). From consumer to producer: a position, as in
 * Lamport's queue, read only when the private copy is used up. ring/spsc.go tells the deviations. Progress: every operation is wait-free.
 */
#ifndef MILLRACE_SPSC_H
#define MILLRACE_SPSC_H

#include "millrace_handle.h"

#define MR_PREFETCH_MOST 1024 /* bytes of a run that are asked for when it is leased: as many lines as a core can wait for at once */
#define MR_ANSWERING 8        /* how many positions a consumer is behind, at most, that is taken for one whose answers are waited for */
#define MR_PREFETCH_RUN 512   /* bytes that the next run has at most to be asked for; it is expected to be as long as this one */

/* Asks for the cache lines of n bytes, at least one, and does not wait for them. */
MR_FAST void mr_prefetch(const void *p, size_t n)
{
	size_t i = 0;
	do
		__builtin_prefetch((const uint8_t *)p + i);
	while ((i += 64) < n);
}

/* Decides, when space has come back, whether this producer stores into the next line in advance, see mr_fetch_next. */
MR_SLOW void mr_fetch_for_answers(mr_producer *p)
{
	const mr_core *c = &p->h.c;
	p->fetch_mask = UINT64_MAX;
	if (c->fetches_next && p->pos - p->limit <= c->stride + 1 && /* otherwise the consumer is further behind than it keeps space for itself */
		p->pos - mr_load_rlx(&c->ctl->consumer_position) <= MR_ANSWERING) /* order: D4 rlx, pairs nothing: a hint */
		p->fetch_mask = c->line_mask;
}

/* Whether the positions up to e are free, S1. While it spins, coarse, a producer goes by the space given back in strides only. */
MR_SLOW int mr_room(mr_producer *p, uint64_t e)
{
	const mr_core *c = &p->h.c;
	for (int i = 0; e - p->limit > c->slots; i++) {
		if (i == 2 || (i == 1 && p->coarse))
			return mr_full(p, e - c->slots);
		uint64_t now = mr_load_acq(i == 0 ? &c->ctl->space_position : &c->ctl->consumer_position); /* order: S1 acq, pairs D5, D4 */
		if (mr_ahead(p->pos, now) < 0 || (i == 1 && p->pos - now > c->slots)) /* ahead of the producer, or more than the ring behind */
			return mr_fail_corrupt("consumer position", p->pos, now);
		if (mr_ahead(now, p->limit) > 0) {
			p->limit = now;
			mr_fetch_for_answers(p);
		}
	}
	return MR_OK;
}

MR_FAST int mr_need_room(mr_producer *p, uint64_t e) { return mr_likely(e - p->limit <= p->h.c.slots) ? MR_OK : mr_room(p, e); }

/* Notes that everything below position e is published, S5, S6. */
MR_FAST void mr_spsc_committed(mr_producer *p, uint64_t e, uint64_t messages)
{
	const mr_core *c = &p->h.c;
	if (e - p->pos == 1 ? (e & c->hint_mask) == 0 : (p->hinted ^ e) > c->hint_mask) { /* a single slot passes none of them unseen, see mr_skip_to_start */
		p->hinted = e;
		mr_store_rel(&c->ctl->producer_position, e); /* order: S5 rel, pairs S5: a compiler must not move it in front of S4 */
		mr_reached(p, e);
	}
	p->pos = e;
	mr_bump(&p->h.me->sent, messages);
	if (mr_pending(&c->ctl->not_empty)) /* order: N1 sc, pairs W1 */
		mr_wake(&p->h, &c->ctl->not_empty, messages);
}

/* Publishes padding up to the end of the ring, S2. The room was checked. */
MR_SLOW void mr_skip_to_start(mr_producer *p, uint64_t pad)
{
	const mr_core *c = &p->h.c;
	const uint64_t t = p->pos;
	mr_store_rlx(&mr_entry(c, t)->length, MILLRACE_FLAG_PAD);     /* order: S3 rlx, pairs D2 */
	mr_store_rel(mr_state(c, t), mr_spsc_word(t + pad, 0)); /* order: S2 rel, pairs D1 */
	p->pos = p->hinted = t + pad; /* here, because what follows one slot at a time does not see that padding went past a place for a hint */
	mr_bump(&p->h.me->padding, pad);
	mr_store_rel(&c->ctl->producer_position, p->pos); /* order: S5 rel, pairs S5 */
}

/* Writes and publishes a message of k slots at the own position. The room was checked. */
MR_FAST void mr_spsc_put(mr_producer *p, const void *data, uint64_t n, uint64_t k, bool fenced)
{
	const mr_core *c = &p->h.c;
	const uint64_t t = p->pos;
	uint64_t word;
	mr_copy(mr_place(c, t, n, &word), data, n);
	struct millrace_entry *e = mr_entry(c, t);
	mr_store_rlx(&e->length, word);                            /* order: S3 rlx, pairs D2: published by S4 */
	mr_publish(&e->state, mr_spsc_word(t + k, 0), fenced); /* order: S4 rel, pairs D1 and N1 */
}

/* Makes room for k slots that do not wrap. */
MR_SLOW int mr_spsc_prepare(mr_producer *p, uint64_t k)
{
	uint64_t pad = mr_pad(&p->h.c, p->pos, k);
	int status = mr_need_room(p, p->pos + pad + k);
	if (status == MR_OK && pad != 0)
		mr_skip_to_start(p, pad);
	return status;
}

MR_SLOW int mr_spsc_send_slow(mr_producer *p, const void *data, uint64_t n, bool coarse)
{
	const uint64_t k = mr_slots_for(&p->h.c, n);
	if (n > p->h.c.max_message)
		return mr_too_large(n, p->h.c.max_message);
	const bool was = p->coarse; /* of a wait that tries again and again */
	p->coarse = coarse;
	int status = mr_spsc_prepare(p, k);
	p->coarse = was;
	if (status != MR_OK)
		return status;
	mr_spsc_put(p, data, n, k, p->h.fenced);
	mr_spsc_committed(p, p->pos + k, 1);
	return MR_OK;
}

/*
 * Stores into the lines of the next slot when it is the producer's own, into words that are stored again with the next message, if it has n bytes, too. A message that
 * nobody takes leaves its lines shared, and an answer would wait for that; now there is nothing to do. In a stream there is: it is left out there, from the first
 * time on that the producer gets space and the consumer is not right behind it. A consumer that looked for the answer too early would take the lines away again: see mr_watch.
 */
MR_FAST void mr_fetch_next(mr_producer *p, uint64_t n)
{
	const mr_core *c = &p->h.c;
	const uint64_t next = p->pos + 1;
	if ((next & p->fetch_mask) == 0 && next - p->limit < c->slots) {
		struct millrace_entry *e = mr_entry(c, next);
		mr_store_rlx(&e->length, 0); /* order: S3 rlx, pairs nothing: stored again before S4 */
		if (n > c->beside && n <= c->inline_size) /* more in a ring where it is not done, at a position that hostile memory made up */
			*(volatile uint8_t *)((uint8_t *)e + MILLRACE_ENTRY_SIZE + n - 1) = 0;
	}
}

/* Sends one message, S1..S6. Coarse: who may wait gets its space a stride at a time. */
MR_FAST int mr_spsc_send(mr_producer *p, const void *data, uint64_t n, bool coarse)
{
	if (mr_unlikely(n > p->h.c.slot_size || p->pos + 1 - p->limit > p->h.c.slots))
		return mr_spsc_send_slow(p, data, n, coarse);
	mr_spsc_put(p, data, n, 1, p->h.fenced);
	mr_fetch_next(p, n);
	mr_spsc_committed(p, p->pos + 1, 1);
	return MR_OK;
}

/* Reserves k slots that do not wrap. */
MR_SLOW int mr_spsc_reserve(mr_producer *p, uint64_t k)
{
	int status = mr_spsc_prepare(p, k);
	if (status != MR_OK)
		return status;
	p->resv.head = p->resv.at = p->pos;
	mr_store_rlx(&p->h.c.ctl->reserved_position, p->pos + 1); /* order: S3 rlx: read by observers and by the next producer */
	return MR_OK;
}

/* Ends the open reservation. */
MR_SLOW void mr_spsc_finish(mr_producer *p, uint64_t n, bool commit)
{
	const mr_core *c = &p->h.c;
	const uint64_t at = p->resv.at, end = at + mr_slots_for(c, n);
	if (commit) {
		mr_store_rlx(&mr_entry(c, at)->length, (p->resv.word & ~MILLRACE_LENGTH_MASK) | n); /* order: S3 rlx, pairs D2: published by S4 */
		mr_publish(mr_state(c, at), mr_spsc_word(end, 0), p->h.fenced);            /* order: S4 rel, pairs D1 and N1 */
	}
	mr_store_rel(&c->ctl->reserved_position, 0); /* order: S5 rel, pairs S5 of the next owner: not before S4 */
	if (commit)
		mr_spsc_committed(p, end, 1);
}

/* Publishes n equally long messages, one slot each, by one word. */
MR_FAST void mr_spsc_run(mr_producer *p, const mr_batch *b, uint64_t n)
{
	const mr_core *c = &p->h.c;
	const uint64_t t = p->pos;
	if (b->base != NULL && b->size == c->slot_size) {
		const uint64_t first = mr_min(n, c->slots - (t & c->mask));
		mr_copy(mr_cell(c, t), b->base, first * b->size);
		mr_copy(c->data, b->base + first * b->size, (n - first) * b->size);
	} else {
		for (uint64_t i = 0; i < n; i++)
			mr_copy(mr_cell(c, t + i), b->base != NULL ? b->base + i * b->size : b->slices[i].data, b->size);
	}
	mr_store_rlx(&mr_entry(c, t)->length, b->size | MILLRACE_FLAG_RUN);  /* order: S3 rlx, pairs D2: published by S4 */
	mr_publish(mr_state(c, t), mr_spsc_word(t + n, 0), p->h.fenced); /* order: S4 rel, pairs D1 and N1 */
	mr_spsc_committed(p, t + n, n);
}

/* Makes e the exact position, D4, and gives the space below it back in strides, D5. */
MR_FAST void mr_give_space(mr_consumer *q, uint64_t e)
{
	const mr_core *c = &q->h.c;
	mr_publish(&c->ctl->consumer_position, e, q->h.fenced); /* order: D4 rel, pairs S1 and N1 */
	if (e - q->given > c->stride) {
		q->given = e;
		mr_store_rel(&c->ctl->space_position, e); /* order: D5 rel, pairs S1 */
	}
	if (mr_pending(&c->ctl->not_full)) /* order: N1 sc, pairs W1 */
		mr_wake(&q->h, &c->ctl->not_full, MR_ALL);
}

/* Notes a run for oneself and, before the position moves into it, for a successor. */
MR_SLOW void mr_enter_run(mr_consumer *q, uint64_t e, uint64_t n)
{
	q->run_end = e;
	q->run_length = n;
	mr_store_rlx(&q->h.c.ctl->run_length, n); /* order: D2 rlx, pairs D2 of a successor: published by the next store */
	mr_store_rel(&q->h.c.ctl->run_end, e);    /* order: D2 rel, pairs D2 of a successor */
}

/* Passes an extent that holds no message to receive. */
MR_SLOW void mr_step_over(mr_consumer *q, uint64_t e)
{
	if (!mr_lease_open(&q->lease))
		mr_give_space(q, e);
	q->pos = e;
}

/* Finds the message at the own position, D1, D2. Nothing is taken. */
MR_SLOW int mr_spsc_find(mr_consumer *q, mr_item *it)
{
	const mr_core *c = &q->h.c;
	for (uint64_t step = 0; step < c->max_steps; step++) {
		const uint64_t h = q->pos;
		if (mr_ahead(q->run_end, h) > 0) {
			*it = mr_new_item(h, h + 1, 0, q->run_length);
			return MR_OK;
		}
		uint64_t e, n, w = mr_load_acq(mr_state(c, h)); /* order: D1 acq, pairs S4 S2 */
		if (!mr_spsc_end(w, h, c->slots, &e))
			return MR_EMPTY;
		const uint64_t length = mr_load_rlx(&mr_entry(c, h)->length), r = mr_given_back(w); /* order: D2 rlx, pairs S3: ordered by D1 */
		if ((length & MILLRACE_FLAG_PAD) != 0) {
			mr_step_over(q, e);
			continue;
		}
		if ((length & MILLRACE_FLAG_RUN) != 0) {
			n = length & ~MILLRACE_FLAG_RUN;
			if (n > c->slot_size || r != 0)
				return mr_fail_corrupt("length word", h, length);
			if (mr_lease_open(&q->lease))
				return MR_EMPTY; /* a batch ends before a run */
			mr_enter_run(q, e, n);
			continue;
		}
		if (mr_payload(c, h, e - h, length, &n) == NULL)
			return mr_fail_corrupt("length word", h, length);
		if (c->max_deliveries > 0 && r >= c->max_deliveries) { /* given back beyond the limit, and already counted as lost */
			mr_step_over(q, e);
			continue;
		}
		*it = mr_new_item(h, e, r, length);
		return MR_OK;
	}
	return mr_fail_corrupt("state word", q->pos, mr_load_acq(mr_state(c, q->pos)));
}

/* Ends the receipt by copying of the message [p, e). */
MR_FAST void mr_spsc_consumed(mr_consumer *q, uint64_t p, uint64_t e, uint32_t deliveries)
{
	q->pos = e;
	mr_give_space(q, e);
	q->last_position = p;
	q->last_deliveries = deliveries;
	mr_bump(&q->h.me->received, 1);
	if (mr_unlikely(deliveries > 1))
		mr_bump(&q->h.me->redelivered, 1);
}

MR_SLOW int mr_spsc_receive_slow(mr_consumer *q, void *buffer, size_t capacity, size_t *size)
{
	mr_item it;
	int status = mr_spsc_find(q, &it);
	if (status != MR_OK)
		return status;
	*size = mr_item_size(&it);
	if (*size > capacity)
		return MR_SHORT_BUFFER;
	mr_copy(buffer, mr_item_bytes(&q->h.c, &it), *size);
	mr_spsc_consumed(q, it.p, it.e, mr_deliveries(mr_item_given(&it)));
	return MR_OK;
}

/* Copies the next message into buffer, D1..D6. It changes nothing when the buffer is too small. */
MR_FAST int mr_spsc_receive(mr_consumer *q, void *buffer, size_t capacity, size_t *size, bool waited)
{
	const mr_core *c = &q->h.c;
	const uint64_t h = q->pos;
	struct millrace_entry *e = mr_entry(c, h);
	if (mr_likely(mr_load_acq(&e->state) == mr_spsc_word(h + 1, 0))) { /* order: D1 acq, pairs S4. The common case: one slot, never given back */
		uint64_t n;
		const uint8_t *at = mr_single(c, e, h, mr_load_rlx(&e->length), &n); /* order: D2 rlx, pairs S3: ordered by D1 */
		if (mr_likely(at != NULL && n <= capacity)) {
			*size = n;
			mr_copy(buffer, at, n);
			if (c->take_lines && !waited && (h & c->line_mask) == c->line_mask) {
				mr_store_rlx(&e->length, mr_load_rlx(&e->length)); /* order: D3 rlx, pairs nothing: what is there */
				if (n > c->beside)
					mr_take_payload(c, e, h, n);
			}
			mr_spsc_consumed(q, h, h + 1, 1);
			return MR_OK;
		}
	}
	return mr_spsc_receive_slow(q, buffer, capacity, size);
}

/* Copies up to count messages of a run at the own position into cells of size bytes, in one step; 0 when there is no run, or its messages do not fit. */
MR_FAST size_t mr_spsc_receive_run(mr_consumer *q, uint8_t *to, size_t size, size_t count, size_t *length)
{
	const mr_core *c = &q->h.c;
	const uint64_t h = q->pos;
	uint64_t e = q->run_end;
	*length = q->run_length;
	if (mr_ahead(e, h) <= 0) {
		struct millrace_entry *entry = mr_entry(c, h);
		const uint64_t w = mr_load_acq(&entry->state); /* order: D1 acq, pairs S4 */
		if (!mr_spsc_end(w, h, c->slots, &e))
			return 0;
		*length = mr_load_rlx(&entry->length) ^ MILLRACE_FLAG_RUN; /* order: D2 rlx, pairs S3: ordered by D1 */
		if (*length > c->slot_size || mr_given_back(w) != 0)
			return 0;
		mr_prefetch(mr_entry(c, e), 1); /* where the next one begins, */
		if ((e - h) * c->slot_size <= MR_PREFETCH_RUN) /* and a short one whole */
			mr_prefetch(mr_cell(c, e), (e - h) * c->slot_size);
	}
	if (*length > size)
		return 0;
	const uint64_t n = mr_min(e - h, count), first = mr_min(n, c->slots - (h & c->mask));
	if (*length == size && size == c->slot_size) {
		mr_copy(to, mr_cell(c, h), first * size);
		mr_copy(to + first * size, c->data, (n - first) * size);
	} else {
		for (uint64_t i = 0; i < n; i++)
			mr_copy(to + i * size, mr_cell(c, h + i), *length);
	}
	if (c->take_lines) {
		struct millrace_entry *entry = mr_entry(c, h);
		mr_store_rlx(&entry->length, mr_load_rlx(&entry->length)); /* order: D3 rlx, pairs nothing: what is there */
		mr_take_cells(mr_cell(c, h), c->slot_size, first, *length);
		mr_take_cells(c->data, c->slot_size, n - first, *length);
	}
	if (h + n != e && q->run_end != e)
		mr_enter_run(q, e, *length); /* the position will be inside the run */
	q->pos = h + n;
	mr_give_space(q, q->pos);
	q->last_position = q->pos - 1;
	q->last_deliveries = 1;
	mr_bump(&q->h.me->received, n);
	return n;
}

/* Takes the next 1..limit messages: those of one run, or single ones up to the next run. */
MR_FAST int mr_spsc_lease(mr_consumer *q, size_t limit)
{
	mr_lease *l = &q->lease;
	mr_lease_reset(l);
	mr_item it;
	int status = mr_spsc_find(q, &it);
	if (status != MR_OK)
		return status;
	if (mr_ahead(q->run_end, it.p) > 0) {
		l->is_run = true;
		l->run = it;
		l->count = mr_min(q->run_end - it.p, limit);
		q->pos = it.p + l->count;
		mr_prefetch(mr_cell(&q->h.c, it.p), mr_min(l->count * q->h.c.slot_size, MR_PREFETCH_MOST));
		mr_prefetch(mr_entry(&q->h.c, q->pos), 1); /* where the next one begins */
	} else {
		for (; status == MR_OK; status = mr_spsc_find(q, &it)) {
			mr_lease_add(l, it);
			q->pos = it.e;
			if (l->count == limit)
				break;
		}
	}
	mr_hold(&q->h, mr_lease_at(l, 0).p + 1);
	mr_store_rel(&q->h.c.ctl->lease_end, q->pos); /* order: L2 rel: read by the next consumer */
	mr_count_taken(q);
	return MR_OK;
}

/* Releases the messages up to index i. */
MR_FAST void mr_spsc_release(mr_consumer *q, size_t i)
{
	mr_lease *l = &q->lease;
	uint64_t e = mr_lease_at(l, i).e;
	l->next = i + 1;
	if (!mr_lease_open(l))
		e = q->pos; /* padding behind the last message goes with it */
	mr_give_space(q, e);
	mr_unhold(q);
}

#endif /* MILLRACE_SPSC_H */
