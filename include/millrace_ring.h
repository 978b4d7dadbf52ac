/* Rings: making, opening, registering, closing, and what fork does to all of it. */
#ifndef MILLRACE_RING_H
#define MILLRACE_RING_H

#include "millrace_create.h"
#include "millrace_remove.h"
#include "millrace_wait.h"

enum { MR_DEFAULT_SLOTS = 1024, MR_DEFAULT_SLOT_SIZE = 256, MR_DEFAULT_PARTICIPANTS = 256, MR_DEFAULT_PERM = 0600 };

MR_SLOW void mr_before_fork(void) { mr_lock_process(); }
MR_SLOW void mr_in_parent(void) { mr_unlock_process(); }

/* A child inherits no role: its handles are closed, and its copies of the descriptors, which would keep the parent alive in the eyes of others, go. They are closed
 * without unlocking, which would take the parent's locks away. */
MR_SLOW void mr_in_child(void)
{
	for (mr_owned *o = mr_process_.owned; o != NULL; o = o->next) {
		(void)close(o->fd);
		o->fd = -1;
	}
	mr_process_.owned = NULL;
	for (mr_ring *r = mr_process_.rings; r != NULL; r = r->next) {
		r->forked = true;
		for (mr_handle *h = r->handles; h != NULL; h = h->next)
			h->gate = MR_GATE_CLOSED;
	}
	mr_process_.rings = NULL;
	mr_unlock_process();
}

/* Makes a ring of an attached segment, or ends the attachment. */
MR_SLOW int mr_ring_made(mr_ring *r, mr_ring **ring)
{
	mr_core_init(&r->c, r->segment.mem, &r->segment.header);
	r->c.lost = &r->segment.guard->lost;
	r->c.fd = r->segment.file.fd;
	(void)pthread_mutex_init(&r->mutex, NULL);
	mr_lock_process();
	int error = 0;
	if (!mr_process_.watching_forks) {
		error = pthread_atfork(mr_before_fork, mr_in_parent, mr_in_child);
		mr_process_.watching_forks = error == 0;
	}
	if (error == 0) {
		r->next = mr_process_.rings;
		r->link = &mr_process_.rings;
		if (r->next != NULL)
			r->next->link = &r->next;
		mr_process_.rings = r;
	}
	mr_unlock_process();
	if (error != 0) {
		mr_detach(&r->segment);
		free(r);
		return mr_fail_errno("register for", "fork", error);
	}
	*ring = r;
	return MR_OK;
}

/* A new ring without a segment; NULL after mr_fail. */
MR_SLOW mr_ring *mr_ring_alloc(mr_ring **ring)
{
	*ring = NULL;
	mr_ring *r = (mr_ring *)calloc(1, sizeof *r);
	if (r == NULL)
		(void)mr_fail_errno("allocate", "ring", ENOMEM);
	else
		r->segment.file.fd = -1;
	return r;
}

/* An option, or its default. */
MR_FAST uint32_t mr_or(uint32_t option, uint32_t otherwise) { return option != 0 ? option : otherwise; }

/* The part of the header that options choose. With a cache line an entry, a small message and its state word share one line; two to a line are enough for the smallest. */
MR_SLOW void mr_header_of(struct millrace_header *h, const mr_options *o)
{
	memset(h, 0, sizeof *h);
	h->kind = mr_or(o->kind, MR_MPMC);
	h->policy = mr_or(o->policy, MR_REDELIVER);
	h->slots = o->slots != 0 ? o->slots : (uint64_t)MR_DEFAULT_SLOTS;
	h->slot_size = o->slot_size != 0 ? o->slot_size : (uint64_t)MR_DEFAULT_SLOT_SIZE;
	h->participants = mr_or(o->participants, MR_DEFAULT_PARTICIPANTS);
	h->max_deliveries = o->max_deliveries;
	h->backing = mr_or(o->backing, MR_POSIX);
	h->huge = o->huge;
	h->mode = mr_or(o->perm, MR_DEFAULT_PERM);
	h->flags = o->temporary != 0 ? MILLRACE_HEADER_FLAG_TEMPORARY : 0;
	const bool apart = mr_shared_is_slow(); /* there neighbours that one core asks for and another one uses are slow, too */
	h->entry_stride = 64;
	if (h->kind == MR_MPMC && apart && h->slot_size <= 48)
		h->entry_stride = 128;
	else if (h->kind == MR_SPSC && h->slot_size <= 16 && !(apart && h->slots * 64 > MR_FIRST_CACHE))
		h->entry_stride = 32;
	else if (h->kind == MR_SPSC && h->slot_size > 48 && h->slot_size <= 112)
		h->entry_stride = 128;
}

MILLRACE_API int mr_create(mr_ring **ring, const char *name, const mr_options *options)
{
	mr_options defaults;
	memset(&defaults, 0, sizeof defaults);
	const mr_options *o = options != NULL ? options : &defaults;
	mr_ring *r = mr_ring_alloc(ring);
	if (r == NULL)
		return MR_NO_SPACE;
	mr_segment *s = &r->segment;
	mr_header_of(&s->header, o);
	int status = mr_locate(s->path, name, mr_dir(o->dir));
	if (status == MR_OK)
		status = mr_create_segment(s, name, mr_dir(o->dir), mr_initialise);
	if (status == MR_OK) {
		status = mr_attached(s, 0);
		if (status != MR_OK)
			mr_detach(s);
	}
	if (status != MR_OK) {
		free(r);
		return status;
	}
	return mr_ring_made(r, ring);
}

MILLRACE_API int mr_open(mr_ring **ring, const char *name, const char *dir, unsigned flags)
{
	mr_ring *r = mr_ring_alloc(ring);
	if (r == NULL)
		return MR_NO_SPACE;
	int status = mr_locate(r->segment.path, name, mr_dir(dir));
	if (status == MR_OK)
		status = mr_open_segment(&r->segment, flags);
	if (status == MR_OK)
		return mr_ring_made(r, ring);
	free(r);
	return status;
}

MILLRACE_API int mr_open_fd(mr_ring **ring, int fd, unsigned flags)
{
	mr_ring *r = mr_ring_alloc(ring);
	if (r == NULL)
		return MR_NO_SPACE;
	int status = mr_open_segment_fd(&r->segment, fd, flags);
	if (status == MR_OK)
		return mr_ring_made(r, ring);
	free(r);
	return status;
}

MILLRACE_API void mr_ring_options(const mr_ring *ring, mr_options *options)
{
	const struct millrace_header *h = &ring->segment.header;
	memset(options, 0, sizeof *options);
	options->kind = h->kind;
	options->policy = h->policy;
	options->slots = h->slots;
	options->slot_size = h->slot_size;
	options->max_deliveries = h->max_deliveries;
	options->participants = h->participants;
	options->backing = h->backing;
	options->huge = h->huge;
	options->perm = h->mode;
	options->temporary = (h->flags & MILLRACE_HEADER_FLAG_TEMPORARY) != 0;
}

MILLRACE_API size_t mr_max_message(const mr_ring *ring) { return ring->c.max_message; }

/* Compares the options that were asked for with those in force. */
MR_SLOW int mr_matches(const mr_ring *r, const mr_options *o)
{
	const struct millrace_header *h = &r->segment.header;
	const struct {
		const char *name;
		uint64_t want, got;
	} fields[] = {
		{"kind", o->kind, h->kind}, {"slots", o->slots, h->slots}, {"slot_size", o->slot_size, h->slot_size}, {"policy", o->policy, h->policy},
		{"max_deliveries", o->max_deliveries, h->max_deliveries}, {"backing", o->backing, h->backing}, {"participants", o->participants, h->participants},
	};
	for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
		if (fields[i].want != 0 && fields[i].want != fields[i].got)
			return mr_fail(MR_MISMATCH, "options differ: %s is %llu there, %llu was asked for; open it with its own options or remove it first", fields[i].name,
			               (unsigned long long)fields[i].got, (unsigned long long)fields[i].want);
	return MR_OK;
}

/* Ends a handle: X1..X5. settle gives up what it still holds. */
MR_SLOW void mr_end_handle(mr_handle *h, bool settle, void (*settler)(mr_handle *h))
{
	mr_ring *r = h->ring;
	if (settle) /* X1 */
		settler(h);
	h->gate = MR_GATE_CLOSED;
	if (h->role == MR_ROLE_PRODUCER) {
		(void)mr_recover_all(r); /* so that who died before this close is known to have ended before it */
		mr_store_rlx(&h->me->ended, (uint64_t)mr_now(CLOCK_REALTIME) << 1); /* order: X2 rlx, pairs E2 */
	}
	(void)mr_add32_sc(mr_session_of(&h->c, h->id, h->role).closed, 1); /* order: X2 rel, pairs X5 */
	(void)mr_add32_sc(&h->c.ctl->roster, 1);                           /* order: X3 rel, pairs E1 */
	mr_wake_everybody(h);                                              /* X4 */
}

/* Takes a handle off its ring. */
MR_SLOW void mr_unlink_handle(mr_handle *h)
{
	mr_lock_process();
	*h->link = h->next;
	if (h->next != NULL)
		h->next->link = h->link;
	mr_unlock_process();
}

MR_SLOW void mr_settle_producer(mr_handle *h)
{
	mr_producer *p = (mr_producer *)(void *)((uint8_t *)h - offsetof(mr_producer, h));
	if (h->c.kind == MR_SPSC)
		mr_spsc_finish(p, 0, false);
	else
		mr_mpmc_finish(p, 0, false);
	mr_hold(h, 0);
	mr_bump(&h->me->discarded, 1);
}

MR_SLOW void mr_settle_consumer(mr_handle *h)
{
	mr_consumer *q = (mr_consumer *)(void *)((uint8_t *)h - offsetof(mr_consumer, h));
	if (h->c.kind == MR_SPSC)
		mr_spsc_return(q, true);
	else
		mr_mpmc_return(q, true);
}

MR_SLOW int mr_close_handle(mr_handle *h, void (*settler)(mr_handle *h))
{
	if (h->gate == MR_GATE_INSIDE)
		return mr_fail(MR_MISUSE, "misuse: another thread is in a call on the handle");
	if (!h->ring->forked) {
		if (h->gate != MR_GATE_CLOSED)
			mr_end_handle(h, h->gate == MR_GATE_HELD, settler);
		mr_disown(&h->lock); /* X5 */
	}
	mr_unlink_handle(h);
	return MR_OK;
}

MILLRACE_API int mr_producer_close(mr_producer *producer)
{
	int status = producer == NULL ? MR_OK : mr_close_handle(&producer->h, mr_settle_producer);
	if (status == MR_OK)
		free(producer);
	return status;
}

MILLRACE_API int mr_consumer_close(mr_consumer *consumer)
{
	int status = consumer == NULL ? MR_OK : mr_close_handle(&consumer->h, mr_settle_consumer);
	if (status == MR_OK && consumer != NULL) {
		free(consumer->lease.items);
		free(consumer);
	}
	return status;
}

MILLRACE_API int mr_close(mr_ring *ring)
{
	if (ring == NULL)
		return MR_OK;
	while (ring->handles != NULL) {
		mr_handle *h = ring->handles;
		int status = h->role == MR_ROLE_PRODUCER ? mr_producer_close((mr_producer *)(void *)((uint8_t *)h - offsetof(mr_producer, h)))
		                                         : mr_consumer_close((mr_consumer *)(void *)((uint8_t *)h - offsetof(mr_consumer, h)));
		if (status != MR_OK)
			return status;
	}
	if (!ring->forked) {
		mr_lock_process();
		*ring->link = ring->next;
		if (ring->next != NULL)
			ring->next->link = ring->link;
		mr_unlock_process();
		(void)pthread_mutex_destroy(&ring->mutex);
	}
	mr_detach(&ring->segment);
	free(ring->sights);
	free(ring);
	return MR_OK;
}

MILLRACE_API void mr_shutdown(mr_ring *ring)
{
	(void)__atomic_fetch_or(&ring->segment.guard->lost, (uint32_t)MR_ENDING_SHUT, __ATOMIC_SEQ_CST);
	if (!ring->forked && !ring->segment.read_only) {
		mr_notify_all(&ring->c.ctl->not_empty);
		mr_notify_all(&ring->c.ctl->not_full);
	}
}

MILLRACE_API int mr_open_or_create(mr_ring **ring, const char *name, const mr_options *options, bool *created)
{
	mr_options defaults;
	memset(&defaults, 0, sizeof defaults);
	const mr_options *o = options != NULL ? options : &defaults;
	*ring = NULL;
	if (created != NULL)
		*created = false;
	if (o->backing == MR_MEMFD)
		return mr_fail(MR_UNSUPPORTED, "a memfd cannot be opened by name; use mr_create, hand mr_fd on, and use mr_open_fd");
	int status = MR_NOT_EXIST;
	for (int i = 0; i < MR_OPEN_TRIES && status == MR_NOT_EXIST; i++) {
		status = mr_open(ring, name, o->dir, 0);
		if (status == MR_OK && (status = mr_matches(*ring, o)) != MR_OK) {
			(void)mr_close(*ring); /* no handles are open */
			*ring = NULL;
		}
		if (status != MR_NOT_EXIST)
			return status;
		status = mr_create(ring, name, o);
		if (created != NULL)
			*created = status == MR_OK;
		if (status == MR_EXIST)
			status = MR_NOT_EXIST; /* somebody was faster: open it */
	}
	return status;
}

MILLRACE_API int mr_fd(mr_ring *ring, int *fd)
{
	*fd = -1;
	if (ring->segment.header.backing == MR_SYSV)
		return mr_fail(MR_UNSUPPORTED, "a System V segment has no descriptor");
	if (ring->forked)
		return mr_fail(MR_CLOSED, "a forked child has no ring");
	char path[64];
	mr_proc_path(path, sizeof path, ring->segment.file.fd);
	*fd = mr_open_file(path, ring->segment.read_only ? O_RDONLY : O_RDWR, 0);
	return *fd < 0 ? mr_fail_errno("open again", ring->segment.path, errno) : MR_OK;
}

#endif /* MILLRACE_RING_H */
