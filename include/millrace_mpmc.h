/*
 * The MPMC ring, docs/FORMAT.md section 9.
 *
 * After Dmitry Vyukov's bounded MPMC queue (1024cores.net): one sequence word per slot. The claim is a CAS on the slot's own word, which names the owner, the end of the
 * extent and the lap; so one CAS by a recoverer repairs it, and the shared positions are hints. ring/mpmc.go tells who owns a slot when. Progress: lock-free.
 */
#ifndef MILLRACE_MPMC_H
#define MILLRACE_MPMC_H

#include "millrace_takeover.h"

/* Notes what was committed or given up in [head, end), after the fact. */
MR_FAST void mr_advance(mr_producer *p, uint64_t head, uint64_t end, uint64_t messages)
{
	p->pos = end;
	if ((head ^ end) / MR_HINT_EVERY != 0 || p->h.c.slots <= MR_HINT_SMALL) {
		mr_store_rel(&p->h.c.ctl->producer_position, end); /* order: P7 rel, pairs P0 */
		mr_reached(p, end);
	}
	mr_bump(&p->h.me->sent, messages);
}

/* The first position of [q, e) whose slot is not free for it, or e. */
MR_SLOW uint64_t mr_first_used(const mr_core *c, uint64_t q, uint64_t e)
{
	while (q != e && mr_load_acq(mr_state(c, q)) == mr_free_word(q)) /* order: P2 acq, pairs C5 L3: what the consumer read there is done with */
		q++;
	return q;
}

/* Where a producer goes on from a claimed or passed word at t. order: P0 acq, pairs P7 */
MR_FAST uint64_t mr_further(const mr_core *c, mr_standing s, uint64_t w, uint64_t t, uint64_t e)
{
	if (s == MR_STAND_PASSED)
		e = mr_beyond(w, t, e, c->slots);
	return mr_later(e, mr_hint(mr_load_acq(&c->ctl->producer_position), t));
}

/* Moves the own candidate to the next free position, whose word is *w. P0, P1 */
MR_SLOW int mr_peek_free(mr_producer *p, uint64_t *w)
{
	const mr_core *c = &p->h.c;
	for (uint64_t step = 0; step < c->max_steps; step++) {
		const uint64_t t = p->pos;
		uint64_t e;
		*w = mr_load_acq(mr_state(c, t)); /* order: P1 acq, pairs C4 C5 L3 */
		const mr_standing s = mr_stand(*w, t, c->slots, &e);
		if (s == MR_STAND_FREE)
			return MR_OK;
		if (s == MR_STAND_OLD)
			return mr_full(p, t);
		if (s == MR_STAND_CORRUPT)
			return mr_fail_corrupt("state word", t, *w);
		p->pos = mr_further(c, s, *w, t, e);
	}
	return mr_fail_corrupt("state word", p->pos, *w);
}

/* Claims k slots that do not wrap, P0..P3. *head is the head of the extent, *at the position of the message behind the padding. */
MR_SLOW int mr_claim(mr_producer *p, uint64_t k, uint64_t *head, uint64_t *at)
{
	const mr_core *c = &p->h.c;
	for (uint64_t step = 0; step < c->max_steps; step++) {
		uint64_t w;
		int status = mr_peek_free(p, &w);
		if (status != MR_OK)
			return status;
		const uint64_t t = p->pos, pad = mr_pad(c, t, k), e = t + pad + k, q = mr_first_used(c, t + 1, e);
		if (q != e) {
			if (mr_load_acq(mr_state(c, t)) != w) /* order: P2 acq, pairs P3: t was claimed meanwhile, so nothing is known about q */
				continue;
			return mr_full(p, q);
		}
		if (mr_cas(mr_state(c, t), w, mr_claimed_word(e, p->h.id))) { /* order: P3 acqrel, pairs C4 C5 L3 and C2 */
			if (pad != 0)
				mr_bump(&p->h.me->padding, pad);
			*head = t;
			*at = t + pad;
			return MR_OK;
		}
	}
	return mr_fail_corrupt("state word", p->pos, mr_load_acq(mr_state(c, p->pos)));
}

/* Wakes whom a commit concerns: consumers, and producers too when it freed slots. order: N1 sc, pairs W1 */
MR_FAST void mr_announce(mr_producer *p, uint64_t messages, bool freed)
{
	struct millrace_control *ctl = p->h.c.ctl;
	if (mr_pending(&ctl->not_empty))
		mr_wake(&p->h, &ctl->not_empty, messages);
	if (freed && mr_pending(&ctl->not_full))
		mr_wake(&p->h, &ctl->not_full, MR_ALL);
}

/* Commits the n bytes at position at of the extent [head, end), whose length word is word: P4..P8. */
MR_SLOW void mr_mpmc_publish(mr_producer *p, uint64_t head, uint64_t at, uint64_t end, uint64_t n, uint64_t word)
{
	const mr_core *c = &p->h.c;
	const uint64_t e = at + mr_slots_for(c, n);
	mr_store_rlx(&mr_entry(c, at)->length, word); /* order: P4 rlx, pairs C3: published by P6 */
	mr_free_stretch(c, e, end);                   /* slots that were reserved and not needed */
	if (at == head) {
		mr_publish(mr_state(c, at), mr_ready_word(e, 0), p->h.fenced); /* order: P6 rel, pairs C2 and N1 */
	} else {
		mr_store_rel(mr_state(c, at), mr_ready_word(e, 0)); /* order: P5 rel, pairs C2: reached only past head */
		mr_free_stretch(c, head + 1, at);
		mr_publish(mr_state(c, head), mr_free_word(head + c->slots), p->h.fenced); /* order: P6 rel, pairs C2 and N1 */
	}
	mr_advance(p, head, end, 1);
	mr_announce(p, 1, at != head || e != end);
}

/* Sends a message of several slots. */
MR_SLOW int mr_mpmc_send_large(mr_producer *p, const void *data, uint64_t n)
{
	const mr_core *c = &p->h.c;
	uint64_t head, at, k = mr_slots_for(c, n);
	if (n > c->max_message)
		return mr_too_large(n, c->max_message);
	int status = mr_claim(p, k, &head, &at);
	if (status != MR_OK)
		return status;
	mr_copy(mr_cell(c, at), data, n);
	mr_mpmc_publish(p, head, at, at + k, n, n);
	return MR_OK;
}

/* Sends one message. A retry means that another producer claimed. */
MR_FAST int mr_mpmc_send(mr_producer *p, const void *data, uint64_t n)
{
	const mr_core *c = &p->h.c;
	if (mr_unlikely(n > c->slot_size))
		return mr_mpmc_send_large(p, data, n);
	uint64_t head, word, t = p->pos;
	if (n > c->inline_size)
		mr_prefetch_write(mr_cell(c, t)); /* so that it comes together with the entry */
	/* order: P3 acqrel, pairs C4 C5 L3 (acquire: the consumer has read the payload that is overwritten next) and C2 */
	if (mr_unlikely(!mr_cas(mr_state(c, t), mr_free_word(t), mr_claimed_word(t + 1, p->h.id)))) {
		int status = mr_claim(p, 1, &head, &t);
		if (status != MR_OK)
			return status;
	}
	struct millrace_entry *e = mr_entry(c, t);
	mr_copy(mr_place(c, t, n, &word), data, n);
	mr_store_rlx(&e->length, word);                              /* order: P4 rlx, pairs C3: published by P6 */
	mr_publish(&e->state, mr_ready_word(t + 1, 0), p->h.fenced); /* order: P6 rel, pairs C2 and N1 */
	mr_advance(p, t, t + 1, 1);
	mr_announce(p, 1, false);
	return MR_OK;
}

/* Ends the open reservation. */
MR_SLOW void mr_mpmc_finish(mr_producer *p, uint64_t n, bool commit)
{
	const mr_core *c = &p->h.c;
	const uint64_t head = p->resv.head, end = p->resv.end;
	if (commit) {
		mr_mpmc_publish(p, head, p->resv.at, end, n, (p->resv.word & ~MILLRACE_LENGTH_MASK) | n);
		return;
	}
	mr_free_stretch(c, head + 1, end);
	mr_publish(mr_state(c, head), mr_free_word(head + c->slots), p->h.fenced); /* order: P6 rel, pairs C2 P1 and N1 */
	mr_advance(p, head, end, 0);
	mr_wake(&p->h, &c->ctl->not_empty, MR_ALL); /* the slots are free, and the consumers have one claim less to wait for */
	mr_wake(&p->h, &c->ctl->not_full, MR_ALL);
}

/* A message that a consumer may take: position, end, and state word as loaded. */
typedef struct mr_found {
	uint64_t p, e, w;
} mr_found;

/* Looks for a message that was given back, at any position, lowest first (9.5). A scan that finds none makes returns seen. */
MR_SLOW bool mr_rescue(mr_consumer *q, mr_found *best)
{
	const mr_core *c = &q->h.c;
	const uint64_t g = mr_load_acq(&c->ctl->returns); /* order: C0 acq, pairs V4 */
	bool found = false;
	for (uint64_t i = 0; i < c->slots; i++) {
		const uint64_t w = mr_load_acq(mr_state(c, i)); /* order: C2 acq, pairs V3 */
		if (!mr_is_ready(w) || mr_given_back(w) == 0)
			continue;
		const uint64_t e = mr_sequence(w, q->pos), p = e - 1 - ((e - 1 - i) & c->mask);
		if (!found || mr_ahead(p, best->p) < 0) {
			best->p = p;
			best->e = e;
			best->w = w;
			found = true;
		}
	}
	if (!found)
		q->seen = g;
	return found;
}

/* Finds the next message, C0..C2. MR_EMPTY leaves a note of what stands in the way. */
MR_SLOW int mr_mpmc_find(mr_consumer *q, mr_found *f)
{
	const mr_core *c = &q->h.c;
	uint64_t g = mr_load_acq(&c->ctl->returns); /* order: C0 acq, pairs V4 */
	if (g != q->seen && mr_rescue(q, f))
		return MR_OK;
	uint64_t p = q->pos;
	q->h.blocked.at = q->h.blocked.word = 0;
	for (uint64_t step = 0; step < c->max_steps; step++) {
		uint64_t e;
		const uint64_t w = mr_load_acq(mr_state(c, p)); /* order: C2 acq, pairs P6 */
		const mr_standing s = mr_stand(w, p, c->slots, &e);
		switch (s) {
		case MR_STAND_READY:
			q->pos = f->p = p;
			f->e = e;
			f->w = w;
			return MR_OK;
		case MR_STAND_CLAIMED:
		case MR_STAND_FREE:
		case MR_STAND_OLD: {
			if (s == MR_STAND_CLAIMED) {
				q->h.blocked.at = p;
				q->h.blocked.word = w;
			}
			q->pos = p;
			const uint64_t now = mr_load_acq(&c->ctl->returns); /* order: C0 acq, pairs V4: no give-back was announced up to the load of w */
			if (now == g)
				return MR_EMPTY;
			g = now;
			if (now != q->seen && mr_rescue(q, f))
				return MR_OK;
			break;
		}
		case MR_STAND_PASSED:
			e = mr_beyond(w, p, e, c->slots);
			p = mr_later(e, mr_hint(mr_load_acq(&c->ctl->consumer_position), p)); /* order: C1 acq, pairs C6 */
			break;
		case MR_STAND_TAKEN:
		case MR_STAND_DONE:
			p = mr_later(e, mr_hint(mr_load_acq(&c->ctl->consumer_position), p)); /* order: C1 acq, pairs C6 */
			break;
		default:
			return mr_fail_corrupt("state word", p, w);
		}
	}
	return mr_fail_corrupt("state word", p, mr_load_acq(mr_state(c, p)));
}

/* Moves the own candidate to e, and the hint now and then. */
MR_FAST void mr_passed(mr_consumer *q, uint64_t p, uint64_t e)
{
	q->pos = e;
	if ((p ^ e) / MR_HINT_EVERY != 0 || q->h.c.slots <= MR_HINT_SMALL)
		mr_store_rel(&q->h.c.ctl->consumer_position, e); /* order: C6 rel, pairs C1 */
}

/* Notes one received message, after the fact. */
MR_FAST void mr_received(mr_consumer *q, uint64_t p, uint64_t e, uint32_t deliveries)
{
	if (mr_likely(p == q->pos)) /* after a rescue the own candidate stays */
		mr_passed(q, p, e);
	q->last_position = p;
	q->last_deliveries = deliveries;
	mr_bump(&q->h.me->received, 1);
	if (mr_unlikely(deliveries > 1))
		mr_bump(&q->h.me->redelivered, 1);
}

/* Gives the slots of a received extent back, C5: the interior first, so that whoever sees the head free sees all of it free. */
MR_SLOW void mr_free_done(mr_consumer *q, uint64_t p, uint64_t e)
{
	mr_free_stretch(&q->h.c, p + 1, e);
	mr_publish(mr_state(&q->h.c, p), mr_free_word(p + q->h.c.slots), q->h.fenced); /* order: C5 rel, pairs P1 and N1 */
}

/* Wakes producers that wait for space. order: N1 sc, pairs W1 */
MR_FAST void mr_announce_space(mr_consumer *q)
{
	uint64_t *e = &q->h.c.ctl->not_full;
	if (mr_pending(e))
		mr_wake(&q->h, e, MR_ALL);
}

/* The same as the fast path for every case. */
MR_SLOW int mr_mpmc_receive_slow(mr_consumer *q, void *buffer, size_t capacity, size_t *size)
{
	const mr_core *c = &q->h.c;
	for (uint64_t step = 0; step < c->max_steps; step++) {
		mr_found f;
		int status = mr_mpmc_find(q, &f);
		if (status != MR_OK)
			return status;
		uint64_t n;
		const uint64_t length = mr_load_acq(&mr_entry(c, f.p)->length); /* order: C3 acq, pairs P4: before the second look at the word */
		const uint8_t *at = mr_payload(c, f.p, f.e - f.p, length, &n);
		if (at != NULL && n <= capacity) {
			if (!MR_TSAN) /* a copy that turns out to be stale is thrown away, which the sanitizer cannot know */
				mr_copy(buffer, at, n);
		} else if (mr_load_acq(mr_state(c, f.p)) != f.w) { /* order: C2 acq, pairs C4: somebody took it meanwhile */
			continue;
		} else if (at == NULL) {
			return mr_fail_corrupt("length word", f.p, length);
		} else {
			*size = n;
			return MR_SHORT_BUFFER;
		}
		const bool whole = f.e - f.p > 1 || MR_TSAN;
		/* order: C4 acqrel, pairs P3 (release: the payload has been read before the slot is handed back) and C2 */
		if (!mr_cas(mr_state(c, f.p), f.w, whole ? mr_done_word(f.e, q->h.id) : mr_free_word(f.p + c->slots)))
			continue;
		if (MR_TSAN)
			mr_copy(buffer, at, n);
		if (whole)
			mr_free_done(q, f.p, f.e);
		*size = n;
		mr_received(q, f.p, f.e, mr_deliveries(mr_given_back(f.w)));
		mr_announce_space(q); /* C4, or the publish in mr_free_done, is the fence */
		return MR_OK;
	}
	return mr_fail_corrupt("state word", q->pos, mr_load_acq(mr_state(c, q->pos)));
}

/*
 * Ends the receipt of a message of n bytes at p, which was copied, whose payload is in lines of its own, and which was not waited for: in the way of one of several slots, so that
 * nobody else has those lines when they are taken. False when somebody else was quicker.
 */
MR_FAST bool mr_mpmc_receive_taking(mr_consumer *q, struct millrace_entry *e, uint64_t p, uint64_t n)
{
	const mr_core *c = &q->h.c;
	if (!mr_cas(&e->state, mr_ready_word(p + 1, 0), mr_done_word(p + 1, q->h.id))) /* order: C4 acqrel, pairs P3 C2 */
		return false;
	mr_take_payload(c, e, p, n);
	mr_publish(&e->state, mr_free_word(p + c->slots), q->h.fenced); /* order: C5 rel, pairs P1 and N1 */
	return true;
}

/* Copies the next message into buffer, C2..C7. It changes nothing when the buffer is too small. */
MR_FAST int mr_mpmc_receive(mr_consumer *q, void *buffer, size_t capacity, size_t *size, bool waited)
{
	const mr_core *c = &q->h.c;
	const uint64_t p = q->pos;
	struct millrace_entry *e = mr_entry(c, p);
	const uint64_t w = mr_load_acq(&e->state);                                                                 /* order: C2 acq, pairs P6 */
	if (!MR_TSAN && mr_likely(w == mr_ready_word(p + 1, 0) && mr_load_acq(&c->ctl->returns) == q->seen)) { /* order: C0 acq, pairs V4 */
		uint64_t n;
		const uint8_t *at = mr_single(c, e, p, mr_load_rlx(&e->length), &n); /* order: C3 rlx, pairs P4: ordered by C2 */
		if (mr_likely(at != NULL && n <= capacity)) {
			mr_copy(buffer, at, n);
			const bool got = n > c->beside && c->take_lines && !waited
				? mr_mpmc_receive_taking(q, e, p, n)
				: mr_cas(&e->state, w, mr_free_word(p + c->slots)); /* order: C4 acqrel, pairs P3 and C2 */
			if (mr_likely(got)) {
				*size = n;
				mr_received(q, p, p + 1, 1);
				mr_announce_space(q);
				return MR_OK;
			}
			q->rivals = MR_RIVALRY;
		}
	}
	return mr_mpmc_receive_slow(q, buffer, capacity, size);
}

#endif /* MILLRACE_MPMC_H */
