/*
 * millrace: a ring of messages in shared memory between unrelated processes of one machine, safe against SIGKILL at any instruction. The C client.
 *
 * Header-only, C11 or C++17 and later, gcc or clang, Linux on amd64 and arm64. Include it before the headers of the system, or compile with -D_GNU_SOURCE.
 * millrace_api.h is the interface; this file has the calls on handles, and includes the rest:
 *
 *   millrace_layout.h    the layout, generated from docs/FORMAT.md
 *   millrace_atomic.h    all memory ordering               millrace_copy.h      copying
 *   millrace_status.h    errors                            millrace_event.h     sleeping and waking
 *   millrace_header.h    the header of a segment           millrace_recover.h   who lives; recovery
 *   millrace_file.h      descriptors, locks, mappings      millrace_handle.h    rings and handles
 *   millrace_segment.h   opening                           millrace_spsc.h      the SPSC ring; millrace_takeover.h its successors
 *   millrace_create.h    making; millrace_space.h memory   millrace_mpmc.h      the MPMC ring; millrace_lease.h its leases
 *   millrace_remove.h    removing, sweeping                millrace_batch.h     batches; millrace_row.h MPMC rows
 *   millrace_core.h      state words and memory            millrace_wait.h      waiting; millrace_spin.h spinning
 *   millrace_ring.h, millrace_register.h, millrace_stats.h
 */
#ifndef MILLRACE_H
#define MILLRACE_H

#include "millrace_api.h"

#ifndef MILLRACE_SHARED

#include "millrace_stats.h"

MILLRACE_API int mr_try_send(mr_producer *p, const void *data, size_t size)
{
	if (!mr_enter(&p->h, MR_GATE_OPEN))
		return mr_refused(&p->h);
	const bool spsc = p->h.c.kind == MR_SPSC;
	int status = spsc ? mr_spsc_send(p, data, size, false) : mr_mpmc_send(p, data, size);
	if (mr_unlikely(status == MR_FULL) && mr_unblock(&p->h, &status))
		status = mr_mpmc_send(p, data, size);
	return mr_leave(&p->h, status, MR_GATE_OPEN, MR_GATE_OPEN);
}

MILLRACE_API int mr_send(mr_producer *p, const void *data, size_t size, int64_t timeout)
{
	if (!mr_enter(&p->h, MR_GATE_OPEN))
		return mr_refused(&p->h);
	int status = p->h.c.kind == MR_SPSC ? mr_spsc_send(p, data, size, timeout != 0) : mr_mpmc_send(p, data, size);
	if (mr_unlikely(status == MR_FULL)) {
		p->pending.what = MR_PENDING_SEND;
		p->pending.data = data;
		p->pending.n = size;
		status = mr_await_space(p, timeout);
	} else if (p->h.c.kind == MR_MPMC && mr_unlikely(p->pos - p->slipped > p->h.c.stride) && status == MR_OK && timeout != 0) {
		(void)mr_slip_full(p);
	}
	return mr_leave(&p->h, status, MR_GATE_OPEN, MR_GATE_OPEN);
}

/* Where the open reservation lies. */
MR_FAST void *mr_reserved(const mr_producer *p)
{
	uint64_t word;
	return mr_place(&p->h.c, p->resv.at, p->resv.n, &word);
}

MILLRACE_API int mr_try_reserve(mr_producer *p, size_t size, void **data)
{
	*data = NULL;
	if (!mr_enter(&p->h, MR_GATE_OPEN))
		return mr_refused(&p->h);
	int status = mr_try_reserve_once(p, size);
	if (status == MR_FULL && mr_unblock(&p->h, &status))
		status = mr_try_reserve_once(p, size);
	if (status == MR_OK)
		*data = mr_reserved(p);
	return mr_leave(&p->h, status, MR_GATE_HELD, MR_GATE_OPEN);
}

MILLRACE_API int mr_reserve(mr_producer *p, size_t size, void **data, int64_t timeout)
{
	*data = NULL;
	if (!mr_enter(&p->h, MR_GATE_OPEN))
		return mr_refused(&p->h);
	if (p->h.c.kind == MR_MPMC && p->pos - p->slipped > p->h.c.stride && size <= p->h.c.max_message && timeout != 0)
		(void)mr_slip_full(p);
	int status = mr_try_reserve_once(p, size);
	if (status == MR_FULL) {
		p->pending.what = MR_PENDING_RESERVE;
		p->pending.n = size;
		status = mr_await_space(p, timeout);
	}
	if (status == MR_OK)
		*data = mr_reserved(p);
	return mr_leave(&p->h, status, MR_GATE_HELD, MR_GATE_OPEN);
}

MILLRACE_API int mr_commit(mr_producer *p, size_t size)
{
	if (!mr_enter(&p->h, MR_GATE_HELD))
		return mr_refused(&p->h);
	if (size > p->resv.n)
		return mr_leave(&p->h, mr_too_large(size, p->resv.n), MR_GATE_OPEN, MR_GATE_HELD);
	if (p->h.c.kind == MR_SPSC)
		mr_spsc_finish(p, size, true);
	else
		mr_mpmc_finish(p, size, true);
	mr_hold(&p->h, 0);
	return mr_leave(&p->h, MR_OK, MR_GATE_OPEN, MR_GATE_OPEN);
}

MILLRACE_API int mr_discard(mr_producer *p)
{
	if (!mr_enter(&p->h, MR_GATE_HELD))
		return mr_refused(&p->h);
	mr_settle_producer(&p->h);
	return mr_leave(&p->h, MR_OK, MR_GATE_OPEN, MR_GATE_OPEN);
}

/* Sends a batch, blocking when the time-out is not NULL. */
MR_FAST int mr_send_messages(mr_producer *p, mr_batch *b, size_t *sent, const int64_t *timeout)
{
	size_t done = 0;
	int64_t deadline = 0;
	bool repaired = false;
	if (sent != NULL)
		*sent = 0;
	if (!mr_enter(&p->h, MR_GATE_OPEN))
		return mr_refused(&p->h);
	int status = mr_fits(&p->h.c, b);
	p->coarse = timeout != NULL && *timeout != 0;
	while (status == MR_OK && b->count > 0) {
		size_t n = 0;
		status = mr_send_part(p, b, timeout == NULL, &n);
		if (mr_unlikely(status == MR_FULL && timeout != NULL)) {
			p->pending.what = MR_PENDING_BATCH;
			p->pending.batch = *b;
			p->pending.done = 0;
			if (deadline == 0) /* one for all parts, from the first wait on */
				deadline = mr_deadline(*timeout);
			status = mr_await_space(p, mr_left(deadline));
			n = p->pending.done;
		} else if (status == MR_FULL && n == 0 && !repaired) {
			repaired = true;
			if (mr_unblock(&p->h, &status))
				status = MR_OK;
		}
		done += n;
		mr_drop_first(b, n);
	}
	p->coarse = false;
	status = mr_leave(&p->h, status, MR_GATE_OPEN, MR_GATE_OPEN);
	if (sent != NULL)
		*sent = status == MR_LOST ? 0 : done;
	return status;
}

/* Written in place: a struct that is returned is copied, by loads wider than the stores that made it, for which a processor waits. */
MR_FAST void mr_set_batch(mr_batch *b, const mr_slice *slices, const void *base, size_t size, size_t count)
{
	b->slices = slices;
	b->base = (const uint8_t *)base;
	b->size = size;
	b->count = count;
	b->even = b->small = false;
}

MILLRACE_API int mr_send_batch(mr_producer *p, const mr_slice *messages, size_t count, size_t *sent, int64_t timeout)
{
	mr_batch b;
	mr_set_batch(&b, messages, NULL, 0, count);
	return mr_send_messages(p, &b, sent, &timeout);
}

MILLRACE_API int mr_try_send_batch(mr_producer *p, const mr_slice *messages, size_t count, size_t *sent)
{
	mr_batch b;
	mr_set_batch(&b, messages, NULL, 0, count);
	return mr_send_messages(p, &b, sent, NULL);
}

MILLRACE_API int mr_send_array(mr_producer *p, const void *base, size_t size, size_t count, size_t *sent, int64_t timeout)
{
	mr_batch b;
	mr_set_batch(&b, NULL, base == NULL ? "" : base, size, base == NULL && size > 0 ? 0 : count);
	return mr_send_messages(p, &b, sent, &timeout);
}

MILLRACE_API int mr_try_send_array(mr_producer *p, const void *base, size_t size, size_t count, size_t *sent)
{
	mr_batch b;
	mr_set_batch(&b, NULL, base == NULL ? "" : base, size, base == NULL && size > 0 ? 0 : count);
	return mr_send_messages(p, &b, sent, NULL);
}

MILLRACE_API int mr_try_receive(mr_consumer *q, void *buffer, size_t capacity, size_t *size)
{
	if (!mr_enter(&q->h, MR_GATE_OPEN))
		return mr_refused(&q->h);
	int status = q->h.c.kind == MR_SPSC ? mr_spsc_receive(q, buffer, capacity, size, q->dry) : mr_mpmc_receive(q, buffer, capacity, size, q->dry);
	q->dry = status == MR_EMPTY;
	if (mr_unlikely(status == MR_EMPTY)) {
		q->pending.buffer = buffer;
		q->pending.capacity = capacity;
		q->pending.limit = 0;
		status = mr_poll(q);
		if (status == MR_OK || status == MR_SHORT_BUFFER)
			*size = q->pending.size;
	}
	return mr_leave(&q->h, status, MR_GATE_OPEN, MR_GATE_OPEN);
}

MILLRACE_API int mr_receive(mr_consumer *q, void *buffer, size_t capacity, size_t *size, int64_t timeout)
{
	if (!mr_enter(&q->h, MR_GATE_OPEN))
		return mr_refused(&q->h);
	const bool answer = mr_unlikely(q->answer > 0) && timeout != 0;
	if (answer)
		mr_hold_off(q);
	int status = q->h.c.kind == MR_SPSC ? mr_spsc_receive(q, buffer, capacity, size, answer) : mr_mpmc_receive(q, buffer, capacity, size, false);
	if (mr_unlikely(status == MR_EMPTY) && timeout != 0 && mr_watch(q))
		status = q->h.c.kind == MR_SPSC ? mr_spsc_receive(q, buffer, capacity, size, true) : mr_mpmc_receive(q, buffer, capacity, size, true);
	if (mr_unlikely(status == MR_EMPTY)) {
		q->pending.buffer = buffer;
		q->pending.capacity = capacity;
		q->pending.limit = 0;
		status = mr_await_message(q, timeout);
		if (status == MR_OK || status == MR_SHORT_BUFFER)
			*size = q->pending.size;
	} else if (mr_unlikely(q->pos - q->slipped > q->h.c.stride) && timeout != 0) {
		(void)mr_slip(q);
	}
	return mr_leave(&q->h, status, MR_GATE_OPEN, MR_GATE_OPEN);
}

/* Makes room for a lease of max messages. */
MR_SLOW int mr_lease_room(mr_consumer *q, size_t max)
{
	mr_item *items = (mr_item *)malloc(max * sizeof *items);
	if (items == NULL)
		return mr_fail_errno("allocate", "lease", ENOMEM);
	free(q->lease.items);
	q->lease.items = items;
	q->lease.room = max;
	return MR_OK;
}

/* Receives an array, blocking when the time-out is not NULL. */
MR_FAST int mr_receive_messages(mr_consumer *q, void *base, size_t size, size_t count, size_t *sizes, size_t *received, const int64_t *timeout)
{
	*received = 0;
	if (!mr_enter(&q->h, MR_GATE_OPEN))
		return mr_refused(&q->h);
	int status = MR_OK;
	count = mr_min(count, q->h.c.slots);
	if (mr_unlikely(count > q->lease.room && q->h.c.kind == MR_MPMC))
		status = mr_lease_room(q, count);
	if (mr_likely(status == MR_OK && count > 0))
		status = mr_receive_cells(q, (uint8_t *)base, size, count, sizes, received);
	if (mr_unlikely(status == MR_EMPTY)) {
		q->pending.buffer = base;
		q->pending.capacity = size;
		q->pending.sizes = sizes;
		q->pending.limit = 0;
		q->pending.count = count;
		status = timeout == NULL ? mr_poll(q) : mr_await_message(q, *timeout);
		*received = status == MR_OK ? q->pending.received : 0;
		q->pending.count = 0;
	}
	status = mr_leave(&q->h, status, MR_GATE_OPEN, MR_GATE_OPEN);
	if (mr_unlikely(status == MR_LOST))
		*received = 0;
	return status;
}

MILLRACE_API int mr_receive_array(mr_consumer *q, void *base, size_t size, size_t count, size_t *sizes, size_t *received, int64_t timeout)
{
	return mr_receive_messages(q, base, size, count, sizes, received, &timeout);
}

MILLRACE_API int mr_try_receive_array(mr_consumer *q, void *base, size_t size, size_t count, size_t *sizes, size_t *received)
{
	return mr_receive_messages(q, base, size, count, sizes, received, NULL);
}

MILLRACE_API void mr_last(const mr_consumer *q, uint64_t *position, uint32_t *deliveries)
{
	if (position != NULL)
		*position = q->last_position;
	if (deliveries != NULL)
		*deliveries = q->last_deliveries;
}

/* Leases up to max messages, blocking when the time-out is not NULL. */
MR_FAST int mr_take(mr_consumer *q, size_t max, const int64_t *timeout)
{
	int status = MR_OK;
	if (!mr_enter(&q->h, MR_GATE_OPEN))
		return mr_refused(&q->h);
	if (max > q->h.c.slots)
		max = q->h.c.slots;
	if (mr_unlikely(max == 0))
		status = mr_fail(MR_MISUSE, "misuse: a batch of no messages");
	else if (mr_unlikely(max > q->lease.room))
		status = mr_lease_room(q, max);
	if (status == MR_OK && max == 1 && q->pos - q->slipped > q->h.c.stride && timeout != NULL && *timeout != 0)
		(void)mr_slip(q);
	if (mr_likely(status == MR_OK))
		status = q->h.c.kind == MR_SPSC ? mr_spsc_lease(q, max) : mr_mpmc_lease(q, max);
	if (mr_unlikely(status == MR_EMPTY)) {
		q->pending.limit = max;
		status = timeout == NULL ? mr_poll(q) : mr_await_message(q, *timeout);
	}
	return mr_leave(&q->h, status, MR_GATE_HELD, MR_GATE_OPEN);
}

MILLRACE_API mr_message mr_at(const mr_consumer *q, size_t i)
{
	mr_message m;
	m.data = NULL;
	m.size = 0;
	m.position = 0;
	m.deliveries = 0;
	if (mr_unlikely(q->h.gate != MR_GATE_HELD || i >= q->lease.count))
		return m;
	const mr_item it = mr_lease_at(&q->lease, i);
	m.data = mr_item_bytes(&q->h.c, &it);
	m.size = mr_item_size(&it);
	m.position = it.p;
	m.deliveries = mr_deliveries(mr_item_given(&it));
	return m;
}

MILLRACE_API int mr_try_next(mr_consumer *q, mr_message *message)
{
	int status = mr_take(q, 1, NULL);
	if (status == MR_OK)
		*message = mr_at(q, 0);
	return status;
}

MILLRACE_API int mr_next(mr_consumer *q, mr_message *message, int64_t timeout)
{
	int status = mr_take(q, 1, &timeout);
	if (status == MR_OK)
		*message = mr_at(q, 0);
	return status;
}

MILLRACE_API int mr_try_next_batch(mr_consumer *q, size_t max, size_t *count)
{
	int status = mr_take(q, max, NULL);
	*count = status == MR_OK ? q->lease.count : 0;
	return status;
}

MILLRACE_API int mr_next_batch(mr_consumer *q, size_t max, size_t *count, int64_t timeout)
{
	int status = mr_take(q, max, &timeout);
	*count = status == MR_OK ? q->lease.count : 0;
	return status;
}

MILLRACE_API int mr_release_to(mr_consumer *q, size_t i)
{
	if (!mr_enter(&q->h, MR_GATE_HELD))
		return mr_refused(&q->h);
	if (mr_unlikely(i < q->lease.next || i >= q->lease.count))
		return mr_leave(&q->h, mr_fail(MR_MISUSE, "misuse: message %zu of the lease is not held", i), MR_GATE_HELD, MR_GATE_HELD);
	if (q->h.c.kind == MR_SPSC)
		mr_spsc_release(q, i);
	else
		mr_mpmc_release(q, i);
	const uint32_t to = mr_lease_open(&q->lease) ? MR_GATE_HELD : MR_GATE_OPEN;
	return mr_leave(&q->h, MR_OK, to, to);
}

MILLRACE_API int mr_release(mr_consumer *q) { return mr_release_to(q, q->lease.count - 1); }

MILLRACE_API int mr_return(mr_consumer *q, size_t i)
{
	if (!mr_enter(&q->h, MR_GATE_HELD))
		return mr_refused(&q->h);
	if (i != q->lease.next)
		return mr_leave(&q->h, mr_fail(MR_MISUSE, "misuse: message %zu is not the first of the lease that is held", i), MR_GATE_HELD, MR_GATE_HELD);
	if (q->h.c.kind == MR_SPSC)
		mr_spsc_return(q, false);
	else
		mr_mpmc_return(q, false);
	return mr_leave(&q->h, MR_OK, MR_GATE_OPEN, MR_GATE_OPEN);
}

#endif /* MILLRACE_SHARED */

#endif /* MILLRACE_H */
