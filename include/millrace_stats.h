/* Observers: they take nothing and change nothing, and everything they return is a guess as soon as it is returned. */
#ifndef MILLRACE_STATS_H
#define MILLRACE_STATS_H

#include "millrace_register.h"

/* Adds one participant's sessions in one role. */
MR_SLOW void mr_count_sessions(const mr_core *c, uint32_t id, int role, uint64_t *ever, uint64_t *live, uint64_t *died)
{
	mr_session s = mr_session_of(c, id, role);
	*ever += mr_load32_acq(s.registered); /* order: X5 acq, pairs R4 */
	*died += mr_load32_acq(s.died);       /* order: X5 acq, pairs V6 */
	if (mr_is_open(s))
		++*(mr_is_alive(c, id) ? live : died);
}

/* The lowest position that can be in use when next is the next to claim. */
MR_FAST uint64_t mr_oldest(const mr_core *c, uint64_t next) { return mr_later(next - c->slots, c->start); }

/* SPSC: the end of the extent at x and its length word, as a consumer would read them. False at the end. */
MR_SLOW bool mr_spsc_extent(const mr_core *c, uint64_t x, uint64_t *e, uint64_t *length, uint64_t *w)
{
	*w = mr_load_acq(mr_state(c, x));                /* order: D1 acq, pairs S4 */
	*length = mr_load_rlx(&mr_entry(c, x)->length); /* order: D2 rlx, pairs S3 */
	if (mr_spsc_end(*w, x, c->slots, e))
		return true;
	if (!mr_inside_run(c, x, e, length))
		return false;
	*length |= MILLRACE_FLAG_RUN;
	*w = mr_spsc_word(*e, 0);
	return true;
}

/* Where the walk over a word goes on; *stop when it ends there. */
MR_FAST uint64_t mr_walk_on(const mr_core *c, uint64_t p, bool producer, bool *stop)
{
	uint64_t e;
	const uint64_t w = mr_load_acq(mr_state(c, p)); /* order: C2 acq, pairs P3 P6 */
	const mr_standing s = mr_stand(w, p, c->slots, &e);
	*stop = s == MR_STAND_FREE || s == MR_STAND_OLD || s == MR_STAND_CORRUPT || (!producer && (s == MR_STAND_CLAIMED || s == MR_STAND_READY));
	return s == MR_STAND_PASSED ? mr_beyond(w, p, e, c->slots) : e;
}

MR_SLOW void mr_positions(const mr_core *c, mr_stats *s)
{
	uint64_t next = mr_load_acq(&c->ctl->producer_position), taken = mr_load_acq(&c->ctl->consumer_position), e; /* order: P0, C1, D4 acq */
	if (c->kind == MR_SPSC) {
		for (uint64_t i = 0; i < c->slots && mr_spsc_end(mr_load_acq(mr_state(c, next)), next, c->slots, &e); i++) /* order: D1 acq, pairs S4 */
			next = e;
		s->used = mr_min(next - taken, c->slots);
	} else {
		bool stop = false;
		for (uint64_t i = 0; i < 4 * c->slots; i++) {
			e = mr_walk_on(c, next, true, &stop);
			if (stop)
				break;
			next = e;
		}
		for (uint64_t i = 0; i < 4 * c->slots; i++) {
			e = mr_walk_on(c, taken, false, &stop);
			if (stop)
				break;
			taken = e;
		}
		for (uint64_t p = mr_oldest(c, next), i = 0; mr_ahead(next, p) > 0 && i <= 2 * c->slots; i++) {
			const mr_standing st = mr_stand(mr_load_acq(mr_state(c, p)), p, c->slots, &e); /* order: C2 acq, pairs P6 */
			if (st == MR_STAND_CLAIMED || st == MR_STAND_READY || st == MR_STAND_TAKEN || st == MR_STAND_DONE) {
				s->used += e - p;
				p = e;
			} else {
				p++;
			}
		}
		s->used = mr_min(s->used, c->slots);
	}
	s->producer_position = next;
	s->consumer_position = taken;
}

MILLRACE_API int mr_ring_stats(mr_ring *ring, mr_stats *s)
{
	const mr_core *c = &ring->c;
	memset(s, 0, sizeof *s);
	s->slots = c->slots;
	s->recoveries = mr_load_rlx(&c->ctl->recoveries); /* order: K2 rlx, counters */
	for (uint64_t i = 0; i < c->slots; i++) {
		const uint64_t v = mr_load_rlx(&c->accounts[i]);
		s->lost += v / MR_LOST_ONE & MR_ACCOUNT_MASK;
		s->skipped += v & MR_ACCOUNT_MASK;
	}
	for (uint32_t id = 0; id < c->participants; id++) {
		const struct millrace_participant *m = &c->table[id];
		s->sent += mr_load_rlx(&m->sent);
		s->received += mr_load_rlx(&m->received);
		s->redelivered += mr_load_rlx(&m->redelivered);
		s->padding += mr_load_rlx(&m->padding);
		s->discarded += mr_load_rlx(&m->discarded);
		s->sleeps += mr_load_rlx(&m->sleeps);
		s->wakes += mr_load_rlx(&m->wakes);
		mr_count_sessions(c, id, MR_ROLE_PRODUCER, &s->producers_ever, &s->producers_live, &s->producers_died);
		mr_count_sessions(c, id, MR_ROLE_CONSUMER, &s->consumers_ever, &s->consumers_live, &s->consumers_died);
	}
	mr_positions(c, s);
	return mr_is_lost(c) ? mr_fail(MR_LOST, "%s", mr_strerror(MR_LOST)) : MR_OK;
}

/* Notes the first position that each participant holds: from the state words for MPMC, from their entries for SPSC. */
MR_SLOW void mr_holdings(const mr_core *c, struct mr_sight *now)
{
	for (uint32_t id = 0; c->kind == MR_SPSC && id < c->participants; id++) {
		const uint64_t v = mr_load_acq(&c->table[id].held); /* order: V0 acq, pairs L1 */
		now[id].holding = v != 0;
		now[id].position = v - 1;
	}
	for (uint64_t i = 0; c->kind == MR_MPMC && i < c->slots; i++) {
		const uint64_t w = mr_load_acq(mr_state(c, i)); /* order: C2 acq, pairs P3 L2 */
		const uint32_t id = mr_owner_of(w);
		if ((mr_state_of(w) != MILLRACE_STATE_CLAIMED && mr_state_of(w) != MILLRACE_STATE_DONE && !mr_is_taken(w)) || id >= c->participants)
			continue;
		const uint64_t e = mr_sequence(w, mr_load_rlx(&c->ctl->producer_position)), p = e - 1 - ((e - 1 - i) & c->mask); /* order: P0 rlx: only widens */
		if (!now[id].holding || mr_ahead(p, now[id].position) < 0)
			now[id].position = p;
		now[id].holding = true;
	}
}

MILLRACE_API int mr_participants(mr_ring *ring, mr_participant *list, size_t max, size_t *count)
{
	const mr_core *c = &ring->c;
	const int64_t at = mr_monotonic();
	*count = 0;
	struct mr_sight *now = (struct mr_sight *)calloc(c->participants, sizeof *now);
	if (now == NULL)
		return mr_fail_errno("allocate", "list", ENOMEM);
	mr_holdings(c, now);
	(void)pthread_mutex_lock(&ring->mutex);
	for (uint32_t id = 0; id < c->participants; id++) {
		const bool producer = mr_role_open(c, id, MR_ROLE_PRODUCER);
		if (!producer && !mr_role_open(c, id, MR_ROLE_CONSUMER)) {
			now[id].holding = false;
			continue;
		}
		const struct mr_sight *old = ring->sights != NULL ? &ring->sights[id] : &now[id];
		now[id].session = mr_load_rlx(&c->table[id].since); /* order: E3 rlx, for people */
		const bool same = old->holding && old->since != 0 && old->position == now[id].position && old->session == now[id].session;
		now[id].since = same ? old->since : at;
		if (*count < max) {
			mr_participant *m = &list[*count];
			m->id = id;
			m->role = producer ? MR_ROLE_PRODUCER : MR_ROLE_CONSUMER;
			m->pid = mr_load32_rlx(&c->table[id].pid); /* order: E3 rlx, for people */
			m->holding = now[id].holding;
			m->position = m->holding ? now[id].position : 0;
			m->state = !mr_is_alive(c, id) ? MR_DEAD : m->holding && at - now[id].since >= MR_STALL_AFTER ? MR_IS_STALLED : MR_LIVE;
		}
		++*count;
	}
	free(ring->sights);
	ring->sights = now;
	(void)pthread_mutex_unlock(&ring->mutex);
	return mr_is_lost(c) ? mr_fail(MR_LOST, "%s", mr_strerror(MR_LOST)) : MR_OK;
}

/* Takes over the role of a dead SPSC participant for as long as it takes to settle what it held. A role that is locked has a successor, who has settled it. */
MR_SLOW int mr_settle_role(mr_ring *r, int role)
{
	mr_owned lock;
	int status = MR_OK, error = mr_own_again(&lock, r->segment.file.fd, O_RDWR);
	if (error != 0)
		return mr_fail_errno("open again", r->segment.path, error);
	error = mr_set_lock(lock.fd, role == MR_ROLE_PRODUCER ? MILLRACE_LOCK_PRODUCER : MILLRACE_LOCK_CONSUMER, F_WRLCK);
	if (error != 0 && error != EAGAIN)
		status = mr_fail_errno("lock the role in", r->segment.path, error);
	if (error == 0 && role == MR_ROLE_CONSUMER)
		(void)mr_spsc_settle(&r->c);
	if (error == 0 && role == MR_ROLE_PRODUCER) {
		mr_producer p;
		memset(&p, 0, sizeof p);
		p.h.c = r->c;
		status = mr_adopt_producer(&p);
	}
	mr_disown(&lock);
	return status;
}

MILLRACE_API int mr_recover(mr_ring *ring, size_t *count)
{
	const mr_core *c = &ring->c;
	size_t n = 0;
	int status = ring->segment.read_only ? mr_fail(MR_PERMISSION, "%s is open for observing only", ring->segment.path) : ring->forked ? mr_fail(MR_CLOSED, "a forked child has no ring") : MR_OK;
	if (status == MR_OK && c->kind == MR_SPSC) /* whoever found them dead may have retired them, and settled nothing */
		status = mr_settle_role(ring, MR_ROLE_PRODUCER);
	if (status == MR_OK && c->kind == MR_SPSC)
		status = mr_settle_role(ring, MR_ROLE_CONSUMER);
	for (uint32_t id = 0; status == MR_OK && id < c->participants; id++) {
		if (!mr_anything_open(c, id) || mr_is_alive(c, id))
			continue;
		n++;
		(void)mr_recover_if_dead(ring, id);
	}
	if (count != NULL)
		*count = n;
	return mr_is_lost(c) ? mr_fail(MR_LOST, "%s", mr_strerror(MR_LOST)) : status;
}

/* Whether unread messages are left, or a producer is in the middle of one. */
MR_SLOW bool mr_has_unread(const mr_core *c)
{
	if (c->kind == MR_MPMC)
		return mr_unreleased(c);
	uint64_t e, length, w, x = mr_load_acq(&c->ctl->consumer_position); /* order: D4 acq, pairs D4 */
	for (uint64_t i = 0; i <= c->slots && mr_spsc_extent(c, x, &e, &length, &w); i++, x = e)
		if ((length & MILLRACE_FLAG_PAD) == 0 && (c->max_deliveries == 0 || mr_given_back(w) < c->max_deliveries))
			return true;
	return false;
}

MR_SLOW int mr_check_drained(uint8_t *mem, const struct millrace_header *h)
{
	mr_core c;
	mr_core_init(&c, mem, h);
	return mr_has_unread(&c) ? mr_fail(MR_IN_USE, "in use: unread messages are left") : MR_OK;
}

MR_SLOW int mr_tell_removed(uint8_t *mem, const struct millrace_header *h)
{
	mr_core c;
	mr_core_init(&c, mem, h);
	mr_store32_rel(&c.ctl->removed, 1); /* order: X6 rel, pairs X6 */
	mr_notify_all(&c.ctl->not_empty);
	mr_notify_all(&c.ctl->not_full);
	return MR_OK;
}

MILLRACE_API int mr_remove(const char *name, const char *dir, unsigned flags)
{
	return mr_remove_segment(name, dir, flags, mr_check_drained, mr_tell_removed);
}

#endif /* MILLRACE_STATS_H */
