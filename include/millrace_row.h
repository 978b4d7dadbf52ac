/*
 * Rows: batches of an MPMC ring whose messages have one size, take one slot each and lie one behind the other, which is nearly all of them; docs/FORMAT.md sections 9.2
 * and 9.4. The words and their order are those of mr_mpmc_batch and mr_mpmc_lease; what is left out is to note each message, and to ask for each where it is.
 */
#ifndef MILLRACE_ROW_H
#define MILLRACE_ROW_H

#include "millrace_lease.h"

/* What lies between the words of two positions. */
#define MR_NEXT_WORD (UINT64_C(1) << MILLRACE_MPMC_SEQUENCE_SHIFT)

/* Copies n messages of length bytes each, which begin so many bytes one behind the other here and there. */
MR_FAST void mr_copy_row(uint8_t *to, size_t to_step, const uint8_t *from, size_t from_step, size_t n, size_t length)
{
	if (to_step == length && from_step == length) {
		mr_copy(to, from, n * length);
	} else if (length == sizeof(uint64_t)) {
		for (size_t i = 0; i < n; i++)
			memcpy(to + i * to_step, from + i * from_step, sizeof(uint64_t));
	} else {
		for (size_t i = 0; i < n; i++)
			mr_copy(to + i * to_step, from + i * from_step, length);
	}
}

/* Where the payload of a message at position x with that length word is, and how many bytes it is from there to the next one. */
MR_FAST uint8_t *mr_row_at(const mr_core *c, uint64_t x, uint64_t length, size_t *step)
{
	if ((length & MILLRACE_FLAG_INLINE) != 0) {
		*step = (size_t)1 << c->stride_shift;
		return mr_inline_at(mr_entry(c, x));
	}
	*step = c->slot_size;
	return mr_cell(c, x);
}

/* Fills and publishes the extent claimed at head for the first n messages, which are equally long: everything behind the head first, the head last. */
MR_SLOW void mr_mpmc_row(mr_producer *p, const mr_batch *b, size_t n, uint64_t head)
{
	const mr_core *c = &p->h.c;
	const uint64_t size = b->size;
	const uint64_t word = size <= c->inline_size ? size | MILLRACE_FLAG_INLINE : size;
	size_t step, row;
	for (size_t i = 0; i < n; i += row) { /* once, or twice where the ring ends */
		row = mr_min(n - i, c->slots - ((head + i) & c->mask));
		uint8_t *at = mr_row_at(c, head + i, word, &step);
		if (b->base != NULL) {
			mr_copy_row(at, step, b->base + i * size, size, row, size);
			continue;
		}
		for (size_t j = 0; j < row; j++)
			mr_copy(at + j * step, b->slices[i + j].data, size);
	}
	mr_store_rlx(&mr_entry(c, head)->length, word); /* order: P4 rlx, pairs C3: published by P6 */
	for (uint64_t x = head + 1, ready = mr_ready_word(head + 2, 0); x != head + n; x++, ready += MR_NEXT_WORD) {
		struct millrace_entry *e = mr_entry(c, x);
		mr_store_rlx(&e->length, word); /* order: P4 rlx, pairs C3: published by P6 */
		mr_store_rel(&e->state, ready); /* order: P5 rel, pairs C2: reached only past head */
	}
	mr_publish(mr_state(c, head), mr_ready_word(head + 1, 0), p->h.fenced); /* order: P6 rel, pairs C2 and N1 */
	mr_advance(p, head, head + n, n);
	mr_announce(p, n, false);
}

/*
 * How many messages from p on, at most `most`, are ready and have the same length word, and the word; 0 when the one behind them, also of one slot, has another
 * word, or theirs is not that of a message of one slot. None of them changes before the first one does.
 */
MR_FAST size_t mr_alike(const mr_core *c, uint64_t p, size_t most, uint64_t *length, uint64_t *size)
{
	struct millrace_entry *e = mr_entry(c, p);
	uint64_t ready = mr_ready_word(p + 1, 0);
	if (mr_load_acq(&e->state) != ready) /* order: C2 acq, pairs P6 */
		return 0;
	*length = mr_load_rlx(&e->length); /* order: C3 rlx, pairs P4: ordered by C2 */
	if (mr_single(c, e, p, *length, size) == NULL)
		return 0;
	size_t n = 1;
	for (; n < most; n++) {
		e = mr_entry(c, p + n);
		ready += MR_NEXT_WORD;
		if (mr_load_acq(&e->state) != ready) /* order: C2 acq, pairs P6 */
			break;
		if (mr_load_rlx(&e->length) != *length) /* order: C3 rlx, pairs P4: ordered by C2 */
			return 0;
	}
	return n;
}

/* Takes the lines of n messages of size bytes from position x on, whose payloads lie step bytes apart, other than those of the entries. */
MR_FAST void mr_take_row(const mr_core *c, uint64_t x, size_t n, size_t size, size_t step)
{
	if (size > c->inline_size) {
		mr_take_cells(mr_cell(c, x), step, n, size);
		return;
	}
	for (size_t i = 0; size > c->beside && i < n; i++)
		mr_take_payload(c, mr_entry(c, x + i), x + i, size);
}

/* Copies up to count messages of a row into cells of `room` bytes; 0 when the next message is not of that sort or does not fit, one of another size is behind them, or somebody else was quicker. */
MR_FAST size_t mr_receive_row(mr_consumer *q, uint8_t *to, size_t room, size_t count, size_t *size)
{
	const mr_core *c = &q->h.c;
	const uint64_t p = q->pos;
	uint64_t length;
	if (mr_load_acq(&c->ctl->returns) != q->seen) /* order: C0 acq, pairs V4 */
		return 0;
	const size_t n = mr_alike(c, p, mr_min(count, c->slots), &length, size);
	if (n == 0 || *size > room)
		return 0;
	mr_hold(&q->h, p + 1);                                                                             /* L1 */
	if (!mr_cas(mr_state(c, p), mr_ready_word(p + 1, 0), mr_taken_word(p + n, q->h.id, 0))) { /* order: L2 acqrel, pairs P6 V3 */
		mr_hold(&q->h, 0);
		return 0;
	}
	mr_passed(q, p, p + n);
	mr_bump(&q->h.me->received, n);
	size_t step, row;
	for (size_t i = 0; i < n; i += row) { /* once, or twice where the ring ends */
		row = mr_min(n - i, c->slots - ((p + i) & c->mask));
		const uint8_t *from = mr_row_at(c, p + i, length, &step);
		mr_copy_row(to + i * room, room, from, step, row, *size);
		if (c->take_lines)
			mr_take_row(c, p + i, row, *size, step);
	}
	q->last_position = p + n - 1;
	q->last_deliveries = 1;
	mr_free_lease(q, p, p + n);
	mr_hold(&q->h, 0); /* L4 */
	mr_announce_space(q);
	return n;
}

/* Copies up to count messages, one or more of them, under a lease that ends at once. The room for the lease was made. */
MR_SLOW int mr_receive_leased(mr_consumer *q, uint8_t *to, size_t size, size_t count, size_t *sizes, size_t *received)
{
	const mr_lease *l = &q->lease;
	q->most = size;
	const int status = mr_mpmc_lease(q, mr_min(count, l->room));
	q->most = UINT64_MAX;
	if (status != MR_OK)
		return status;
	*received = l->count;
	for (size_t i = 0; i < l->count; i++) {
		const mr_item *it = &l->items[i];
		mr_copy(to + i * size, mr_item_bytes(&q->h.c, it), mr_item_size(it));
		if (sizes != NULL)
			sizes[i] = mr_item_size(it);
	}
	q->last_position = l->items[l->count - 1].p;
	q->last_deliveries = mr_deliveries(mr_item_given(&l->items[l->count - 1]));
	mr_mpmc_release(q, l->count - 1);
	return MR_OK;
}

/* Copies up to count messages, one or more of them: a row at once, others under a lease. The room for the lease was made. */
MR_FAST int mr_mpmc_receive_cells(mr_consumer *q, uint8_t *to, size_t size, size_t count, size_t *sizes, size_t *received)
{
	size_t n;
	*received = mr_receive_row(q, to, size, count, &n);
	if (*received == 0)
		return mr_receive_leased(q, to, size, count, sizes, received);
	for (size_t i = 0; sizes != NULL && i < *received; i++)
		sizes[i] = n;
	return MR_OK;
}

#endif /* MILLRACE_ROW_H */
