/* Who is registered, who is alive, and the repair of what the dead held: docs/FORMAT.md sections 7, 11 and 12. */
#ifndef MILLRACE_RECOVER_H
#define MILLRACE_RECOVER_H

#include "millrace_event.h"

#include <sched.h>

/* Account fields, FORMAT 11.3: tag:24 | lost:20 | skipped:20. */
#define MR_SKIPPED UINT64_C(1)
#define MR_LOST_ONE (UINT64_C(1) << 20)
#define MR_ACCOUNT_MASK (MR_LOST_ONE - 1)
#define MR_ACCOUNT_TAG 40

/* One role of one participant. */
typedef struct mr_session {
	uint32_t *registered, *closed, *died;
} mr_session;

MR_FAST mr_session mr_session_of(const mr_core *c, uint32_t id, int role)
{
	struct millrace_participant *m = &c->table[id];
	mr_session s;
	s.registered = role == MR_ROLE_PRODUCER ? &m->producer_registered : &m->consumer_registered;
	s.closed = role == MR_ROLE_PRODUCER ? &m->producer_closed : &m->consumer_closed;
	s.died = role == MR_ROLE_PRODUCER ? &m->producer_died : &m->consumer_died;
	return s;
}

/* Whether a session is begun and neither closed nor retired. order: X5 acq, pairs R4 X2 V6. Values that fit no history count as not open. */
MR_FAST bool mr_is_open(mr_session s) { return mr_load32_acq(s.registered) - mr_load32_acq(s.closed) - mr_load32_acq(s.died) == 1; }

MR_FAST bool mr_role_open(const mr_core *c, uint32_t id, int role) { return mr_is_open(mr_session_of(c, id, role)); }
MR_FAST bool mr_anything_open(const mr_core *c, uint32_t id) { return mr_role_open(c, id, MR_ROLE_PRODUCER) || mr_role_open(c, id, MR_ROLE_CONSUMER); }

/* Whether participant id holds its lock: whether it is alive. */
MR_FAST bool mr_is_alive(const mr_core *c, uint32_t id) { return mr_locked(c->fd, MILLRACE_LOCK_PARTICIPANT + id); }

/* Whether a session in the role is open and its owner alive; *ever: whether one was ever begun. *hint is where to look first. */
MR_SLOW bool mr_anybody_alive(const mr_core *c, int role, uint32_t *hint, bool *ever)
{
	*ever = true;
	if (*hint < c->participants && mr_role_open(c, *hint, role) && mr_is_alive(c, *hint))
		return true;
	*ever = false;
	for (uint32_t id = 0; id < c->participants; id++) {
		mr_session s = mr_session_of(c, id, role);
		if (mr_load32_acq(s.registered) == 0) /* order: X5 acq, pairs R4 */
			continue;
		*ever = true;
		if (mr_is_open(s) && mr_is_alive(c, id)) {
			*hint = id;
			return true;
		}
	}
	return false;
}

/* Adds one to the account of position p, once for that position however often it is tried. w is the state word that the decision rests on. Whether it still
 * stood: if not, the message is settled, and nothing more may be done with its slots. */
MR_SLOW bool mr_count(const mr_core *c, uint64_t p, uint64_t w, uint64_t what)
{
	uint64_t *a = &c->accounts[p & c->mask];
	const uint64_t tag = (p / c->slots & ((UINT64_C(1) << 23) - 1)) << 1 | 1;
	for (int i = 0; i < MR_CAS_TRIES; i++) { /* a CAS fails only when another recoverer counted */
		uint64_t v = mr_load_acq(a);               /* order: V8 acq, pairs V8 */
		if (mr_load_acq(mr_state(c, p)) != w) /* order: V9 acq, pairs V3: nobody has counted behind our back */
			return false;
		if (v >> MR_ACCOUNT_TAG == tag)
			return true;
		uint64_t next = (v & ((UINT64_C(1) << MR_ACCOUNT_TAG) - 1)) | tag << MR_ACCOUNT_TAG;
		if ((v / what & MR_ACCOUNT_MASK) != MR_ACCOUNT_MASK) /* saturates */
			next += what;
		if (mr_cas(a, v, next)) /* order: V8 acqrel, pairs V8 */
			return true;
	}
	return false;
}

/* Whether a message that was given back r times before is lost now. */
MR_FAST bool mr_loses(const mr_core *c, uint64_t r, bool by_policy)
{
	return (by_policy && c->policy == MR_DROP) || (c->max_deliveries > 0 && r + 1 >= c->max_deliveries);
}

/* Frees the first slot of an extent, last. order: V3 acqrel, pairs P1 C2 */
MR_FAST void mr_free_head(const mr_core *c, uint64_t p, uint64_t w) { (void)mr_cas(mr_state(c, p), w, mr_free_word(p + c->slots)); }

/* Frees the slots behind p that are still of its lap. *left bounds the steps of one scan: extents of honest participants do not overlap. */
MR_SLOW void mr_free_interior(const mr_core *c, uint64_t p, uint64_t e, uint64_t *left)
{
	for (uint64_t q = e - 1; mr_ahead(q, p) > 0 && *left > 0; q--) {
		--*left;
		for (int i = 0; i < 4; i++) { /* a CAS fails only when another recoverer did the same; hostile bytes end here */
			uint64_t x, v = mr_load_acq(mr_state(c, q)); /* order: V2 acq, pairs P5 L3 */
			mr_standing s = mr_stand(v, q, c->slots, &x);
			if (s == MR_STAND_PASSED || s == MR_STAND_OLD || s == MR_STAND_CORRUPT || mr_cas(mr_state(c, q), v, mr_free_word(q + c->slots))) /* order: V3 acqrel, pairs P2 C2 */
				break;
		}
	}
}

/* Makes the message [p, e), whose word is v, readable again, or loses it. */
MR_SLOW void mr_give_back_one(const mr_core *c, uint64_t p, uint64_t e, uint64_t v, uint64_t *left)
{
	const uint64_t r = mr_given_back(v);
	if (!mr_loses(c, r, true)) {
		(void)mr_cas(mr_state(c, p), v, mr_ready_word(e, mr_next_given_back(r))); /* order: V3 acqrel, pairs C2 */
	} else if (mr_count(c, p, v, MR_LOST_ONE)) {
		mr_free_interior(c, p, e, left);
		mr_free_head(c, p, v);
	}
}

/* Gives back the lease [p, e): the messages behind the first, last to first, then the first, whose word w is the lease's. */
MR_SLOW void mr_give_back(const mr_core *c, uint64_t p, uint64_t e, uint64_t w, uint64_t *left)
{
	uint64_t n = mr_load_acq(&mr_entry(c, p)->length) & MILLRACE_LENGTH_MASK; /* order: C3 acq, pairs P4: before the next load */
	if (mr_load_acq(mr_state(c, p)) != w)                                         /* order: V3 acq, pairs V3: settled, and n may be of a later message */
		return;
	uint64_t first = p + mr_slots_for(c, mr_min(n, c->max_message));
	if (mr_ahead(first, e) > 0)
		first = e;
	for (uint64_t x = e - 1; mr_ahead(x, first) >= 0 && *left > 0; x--) {
		--*left;
		uint64_t end, v = mr_load_acq(mr_state(c, x)); /* order: V2 acq, pairs P6 L3 */
		if (mr_stand(v, x, c->slots, &end) == MR_STAND_READY && mr_given_back(v) == 0 && mr_ahead(e, end) >= 0)
			mr_give_back_one(c, x, end, v, left);
	}
	mr_give_back_one(c, p, first, w, left);
}

/* Settles every word that names owner id, V2, V3. */
MR_SLOW void mr_settle_words(const mr_core *c, uint32_t id)
{
	uint64_t left = 8 * c->slots + 64;
	for (uint64_t i = 0; i < c->slots; i++) {
		uint64_t w = mr_load_acq(mr_state(c, i)); /* order: V2 acq, pairs P3 P6 L2 L3 */
		if (mr_owner_of(w) != id)
			continue;
		uint64_t e = mr_sequence(w, mr_load_rlx(&c->ctl->producer_position)); /* order: P0 rlx: only widens the sequence */
		uint64_t p = e - 1 - ((e - 1 - i) & c->mask);
		if (mr_state_of(w) == MILLRACE_STATE_CLAIMED) {
			mr_free_interior(c, p, e, &left);
			if (mr_count(c, p, w, MR_SKIPPED))
				mr_free_head(c, p, w);
		} else if (mr_state_of(w) == MILLRACE_STATE_DONE) {
			mr_free_interior(c, p, e, &left);
			mr_free_head(c, p, w);
		} else if (mr_is_taken(w)) {
			mr_give_back(c, p, e, w, &left);
		}
	}
}

/* Counts every session that is neither closed nor counted as died, once, and says whether it did. The caller holds the lock, so the other two do not move. */
MR_SLOW bool mr_retire(mr_session s)
{
	uint32_t died = mr_load32_acq(s.died);                                      /* order: V6 acq, pairs V6 */
	uint32_t now = mr_load32_acq(s.registered) - mr_load32_acq(s.closed); /* order: V6 acq, pairs R4 X2 */
	return now != died && mr_cas32(s.died, died, now);                           /* order: V6 acqrel, pairs X5 */
}

/* Settles what participant id left when it died, V1..V7. The caller holds the mutex of its ring: a process has one description to hold locks with. False when it
 * lives, or when nothing was left to do. */
MR_SLOW bool mr_recover_one(const mr_core *c, uint32_t id)
{
	const uint64_t byte = MILLRACE_LOCK_PARTICIPANT + id;
	struct millrace_participant *m = &c->table[id];
	if (mr_set_lock(c->fd, byte, F_RDLCK) != 0) /* V1 */
		return false;
	const bool producer = mr_role_open(c, id, MR_ROLE_PRODUCER), any = producer || mr_role_open(c, id, MR_ROLE_CONSUMER);
	if (any) {
		if (c->kind == MR_MPMC)
			mr_settle_words(c, id);
		(void)mr_add_sc(&c->ctl->returns, 1); /* order: V4 rel, pairs C0 */
		mr_notify_all(&c->ctl->not_empty);    /* V5 */
		mr_notify_all(&c->ctl->not_full);
		mr_store_rlx(&m->held, 0); /* order: V6 rlx: nobody registers while the lock is held */
		if (producer)
			mr_store_rlx(&m->ended, (uint64_t)mr_now(CLOCK_REALTIME) << 1 | 1); /* order: V6 rlx, pairs E2 */
		const bool was_producer = mr_retire(mr_session_of(c, id, MR_ROLE_PRODUCER)), was_consumer = mr_retire(mr_session_of(c, id, MR_ROLE_CONSUMER));
		if (was_producer || was_consumer) {
			(void)mr_add_sc(&c->ctl->recoveries, 1); /* order: V6 rlx, counter */
			(void)mr_add32_sc(&c->ctl->roster, 1);   /* order: V6 rel, pairs E1 */
		}
	}
	(void)mr_set_lock(c->fd, byte, F_UNLCK); /* V7 */
	return any;
}

/* Whether the producer session that ended last ended by death. */
MR_SLOW bool mr_last_producer_died(const mr_core *c)
{
	uint64_t last = 0;
	for (uint32_t id = 0; id < c->participants; id++) {
		if (mr_load32_acq(&c->table[id].producer_registered) == 0) /* order: X5 acq, pairs R4 */
			continue;
		uint64_t ended = mr_load_rlx(&c->table[id].ended); /* order: E2 rlx, pairs X2 V6 */
		if (ended > last)
			last = ended;
	}
	return (last & 1) != 0;
}

/* Whether some message of the last N positions is claimed, ready or leased (FORMAT 12). */
MR_SLOW bool mr_unreleased(const mr_core *c)
{
	for (uint64_t i = 0; i < c->slots; i++) {
		uint64_t w = mr_load_acq(mr_state(c, i)); /* order: C2 acq, pairs P6 L2 L3 */
		if (mr_is_ready(w) || mr_is_taken(w) || mr_state_of(w) == MILLRACE_STATE_CLAIMED)
			return true;
	}
	return false;
}

#endif /* MILLRACE_RECOVER_H */
