/* Registration, docs/FORMAT.md section 7: R1..R5. */
#ifndef MILLRACE_REGISTER_H
#define MILLRACE_REGISTER_H

#include "millrace_ring.h"

enum { MR_ROLE_TRIES = 100 };

/* Takes the one role of an SPSC ring. A lock that nobody alive explains is a recoverer's, or a process on its way out: it is waited for. */
MR_SLOW int mr_lock_role(mr_ring *r, int fd, int role)
{
	uint32_t hint = 0;
	for (int i = 0; i < MR_ROLE_TRIES; i++) {
		bool ever;
		int error = mr_set_lock(fd, role == MR_ROLE_PRODUCER ? MILLRACE_LOCK_PRODUCER : MILLRACE_LOCK_CONSUMER, F_WRLCK);
		if (error == 0)
			return MR_OK;
		if (error != EAGAIN)
			return mr_fail_errno("lock the role in", r->segment.path, error);
		if (mr_anybody_alive(&r->c, role, &hint, &ever))
			break;
		mr_nap(MR_MILLISECOND);
	}
	return mr_fail(MR_ROLE_TAKEN, "the role is taken by a live participant (an SPSC ring has one producer and one consumer)");
}

/* Writes the entry of a new session, R3..R5. The caller holds the lock. */
MR_SLOW void mr_begin(const mr_core *c, uint32_t id, int role)
{
	struct millrace_participant *m = &c->table[id];
	mr_store32_rlx(&m->pid, (uint32_t)getpid());               /* order: R3 rlx, pairs E3 */
	mr_store32_rlx(&m->publish, mr_publishes());               /* order: R3 rlx, pairs W2: published by R4 */
	mr_store_rlx(&m->since, (uint64_t)mr_now(CLOCK_REALTIME)); /* order: R3 rlx, pairs E3 */
	mr_store_rlx(&m->held, 0);                                 /* order: R3 rlx, pairs V0 */
	(void)mr_add32_sc(mr_session_of(c, id, role).registered, 1); /* order: R4 sc, pairs X5; and W2 with the first N1 */
	mr_fence();                                                  /* its store half, too */
	(void)mr_add32_sc(&c->ctl->roster, 1);                       /* order: R5 rel, pairs E1 */
}

/* R2: an id whose byte is locked through fd and whose sessions are closed; free entries first, then those of the dead. */
MR_SLOW int mr_take_id(mr_ring *r, int fd, uint32_t *id, bool *again)
{
	*again = false;
	for (int retire = 0; retire < 2; retire++) {
		for (*id = 0; *id < r->c.participants; ++*id) {
			const uint64_t byte = MILLRACE_LOCK_PARTICIPANT + *id;
			if (mr_anything_open(&r->c, *id) && (!retire || (!mr_recover_if_dead(r, *id) && mr_anything_open(&r->c, *id))))
				continue; /* it lives; otherwise somebody else may just have retired it */
			int error = mr_set_lock(fd, byte, F_WRLCK);
			if (error == EAGAIN) { /* somebody recovers its dead owner, or is about to leave it */
				*again = true;
				continue;
			}
			if (error != 0)
				return mr_fail_errno("lock an id in", r->segment.path, error);
			if (!mr_anything_open(&r->c, *id))
				return MR_OK;
			error = mr_set_lock(fd, byte, F_UNLCK); /* somebody came, and died, between the look and the lock */
			if (error != 0)
				return mr_fail_errno("unlock an id in", r->segment.path, error);
		}
	}
	return mr_fail(MR_TOO_MANY, "the participant table is full (%u entries); close handles, or create the ring with more participants", r->c.participants);
}

/* The same, and again for a while; once in any case: an entry that somebody else tries for a moment looks as if its dead owner lived. */
MR_SLOW int mr_choose_id(mr_ring *r, int fd, uint32_t *id)
{
	bool again = true;
	int status = MR_OK;
	for (int i = 0; (again || i < 2) && i < MR_ROLE_TRIES; i++) {
		if (i > 0)
			mr_nap(MR_MILLISECOND);
		status = mr_take_id(r, fd, id, &again);
		if (status != MR_TOO_MANY)
			break;
	}
	return status;
}

/* Whether the machine has one processor only, so that nothing can happen while somebody spins. What sysconf returns is with some libraries another thing:
   how many processors this process may use. */
MR_SLOW bool mr_one_processor(void)
{
	char list[8];
	const int fd = open("/sys/devices/system/cpu/online", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return sysconf(_SC_NPROCESSORS_ONLN) == 1;
	const ssize_t n = read(fd, list, sizeof list);
	close(fd);
	return n > 0 && memchr(list, '-', (size_t)n) == NULL && memchr(list, ',', (size_t)n) == NULL; /* "0", not "0-3" or "0,2" */
}

/* Registers a handle in a role. */
MR_SLOW int mr_register(mr_ring *r, mr_handle *h, int role)
{
	memset(h, 0, sizeof *h);
	h->lock.fd = -1;
	if (r->forked)
		return mr_fail(MR_CLOSED, "a forked child has no ring; open it again");
	if ((mr_load32_rlx(r->c.lost) & MR_ENDING_SHUT) != 0)
		return mr_fail(MR_CLOSED, "the ring was shut down");
	if (r->segment.read_only)
		return mr_fail(MR_PERMISSION, "%s is open for observing only", r->segment.path);
	if (mr_is_lost(&r->c) || mr_was_removed(&r->c))
		return mr_fail(MR_LOST, "%s", mr_strerror(MR_LOST));
	if (role == MR_ROLE_PRODUCER && mr_load_acq(&r->c.ctl->typed) != 0) /* order: Y1 acq, pairs Y1 */
		return mr_fail(MR_MISMATCH, "the ring carries typed values, which this client does not send");
	int error = mr_own_again(&h->lock, r->segment.file.fd, O_RDWR);
	if (error != 0)
		return mr_fail_errno("open again", r->segment.path, error);
	uint32_t id = 0;
	int status = r->c.kind == MR_SPSC ? mr_lock_role(r, h->lock.fd, role) : MR_OK; /* R1 */
	if (status == MR_OK)
		status = mr_choose_id(r, h->lock.fd, &id);
	if (status != MR_OK) {
		mr_disown(&h->lock);
		return status;
	}
	h->c = r->c;
	h->ring = r;
	h->role = role;
	h->id = id;
	h->me = &r->c.table[id];
	h->fenced = mr_publishes() == MILLRACE_PUBLISH_FENCED;
	h->alone = mr_one_processor();
	h->apart = h->c.kind == MR_MPMC ? mr_pauses(MR_LOOK_APART) : 0;
	mr_begin(&r->c, id, role);
	mr_lock_process();
	h->next = r->handles;
	h->link = &r->handles;
	if (h->next != NULL)
		h->next->link = &h->next;
	r->handles = h;
	mr_unlock_process();
	return MR_OK;
}

/* Ends a registration that could not start: the ring is corrupt, nothing of ours is in it, so it ends as by a death. */
MR_SLOW int mr_adopted(mr_handle *h, int status)
{
	if (status == MR_OK)
		mr_wake_everybody(h);
	if (mr_is_lost(&h->c)) /* whatever was found there */
		status = mr_fail(MR_LOST, "%s", mr_strerror(MR_LOST));
	if (status != MR_OK) {
		mr_unlink_handle(h);
		mr_disown(&h->lock);
	}
	return status;
}

/* Handles have cache lines of their own. */
MR_SLOW void *mr_alloc_handle(size_t size)
{
	void *mem = aligned_alloc(MR_LINE, mr_round_up(size, MR_LINE));
	if (mem == NULL)
		(void)mr_fail_errno("allocate", "handle", ENOMEM);
	else
		memset(mem, 0, size);
	return mem;
}

MILLRACE_API int mr_producer_new(mr_ring *ring, unsigned flags, mr_producer **producer)
{
	*producer = NULL;
	mr_producer *p = (mr_producer *)mr_alloc_handle(sizeof *p);
	if (p == NULL)
		return MR_NO_SPACE;
	p->wait_for_consumers = (flags & MR_WAIT_FOR_CONSUMERS) != 0;
	int status = mr_register(ring, &p->h, MR_ROLE_PRODUCER);
	if (status == MR_OK)
		status = mr_adopted(&p->h, mr_adopt_producer(p));
	if (status != MR_OK) {
		free(p);
		return status;
	}
	p->slipped = p->pos;
	if (p->h.c.kind == MR_MPMC)
		p->slip = mr_slip_pauses(&p->h.c);
	*producer = p;
	return MR_OK;
}

MILLRACE_API int mr_consumer_new(mr_ring *ring, unsigned flags, int64_t grace, mr_consumer **consumer)
{
	*consumer = NULL;
	mr_consumer *q = (mr_consumer *)mr_alloc_handle(sizeof *q);
	if (q == NULL)
		return MR_NO_SPACE;
	q->follow = (flags & MR_FOLLOW) != 0;
	q->most = UINT64_MAX;
	q->grace = grace;
	q->lease.room = 1;
	q->lease.items = (mr_item *)malloc(sizeof *q->lease.items);
	int status = q->lease.items == NULL ? mr_fail_errno("allocate", "lease", ENOMEM) : mr_register(ring, &q->h, MR_ROLE_CONSUMER);
	if (status == MR_OK)
		status = mr_adopted(&q->h, mr_adopt_consumer(q));
	if (status != MR_OK) {
		free(q->lease.items);
		free(q);
		return status;
	}
	mr_pace(q);
	*consumer = q;
	return MR_OK;
}

#endif /* MILLRACE_REGISTER_H */
