/*
 * Spinning: the first part of a wait. A consumer watches the word that brings the news, then either side tries again and again, a little apart, for as long
 * as that has paid of late. It costs the core, and saves a sleep here and a wake on the other side. Nothing here changes the ring.
 */
#ifndef MILLRACE_SPIN_H
#define MILLRACE_SPIN_H

#include "millrace_batch.h"

#define MR_SPIN_LEAST INT64_C(20000) /* spinning that is always done: parking costs as much */
#define MR_SPIN_MOST INT64_C(100000) /* and while it pays, or while those who sleep are woken sooner than that */

enum {
	MR_WATCH_LOOKS = 128, /* looks at one word before anything else is tried, twice as many in an MPMC ring, */
	MR_WATCH_APART = 40,  /* so many nanoseconds apart in an SPSC ring, which makes four or five of the time that an answer takes, see mr_watch, */
	MR_WATCH_TIGHT = 128, /* but for the first ones for messages of two lines, */
	MR_LOOK_APART = 16,   /* and in an MPMC ring */
	MR_ANSWER_MOST = 56,  /* turns of mr_delay before the first look for an answer, at most: some 45 ns, */
	MR_ANSWER_STEP = 16,  /* and how many more after a look that was a bit too early; one fewer after each that was not */
	MR_ANSWER_LATE = 8,   /* a message that comes at one of so many looks, behind the first one, is an answer */
	MR_SPIN_HOT = 32,     /* attempts without a pause, in an MPMC ring with the one above: on some processors one takes half as long as the news */
	MR_SPIN_CLOSE = 64,   /* attempts that follow each other closely */
	MR_SPIN_LOOK = 16,    /* attempts between two looks at the clock, behind those */
	MR_SLIP_LEAST = 256,  /* slots of a ring in which anybody slips, */
	MR_SLIP_LOOK = 400,   /* nanoseconds between two looks at where the producers are, and half of one more */
	MR_SLIP_BYTES = 8192, /* for each byte of a slot, up to so many: large messages are slow to come, */
	MR_SLIP_LOOKS = 10,   /* and how many of them at most */
	MR_SPIN_FAR = 15,     /* most extra pauses before the first attempt */

	MR_STRETCH_MOST = 128,     /* MPMC: slots that are to be free, at most, before a producer that found the ring full goes on; */
	MR_STRETCH_LEAST = 16,     /* in a ring of fewer slots the consumers would be idle meanwhile */
	MR_STRETCH_BYTES = 3 << 20, /* in a ring of more than MR_OWN_CACHE bytes: how many bytes of slots, */
	MR_STRETCH_LEFT = 4,       /* and how many slots are left to the consumers, or a quarter of all */

	MR_STRETCH_TIME = 1000000 /* for how many nanoseconds a spin for that may be renewed, when space is given back all the time */
};

/*
 * How many slots a producer wants to be free before it leaves a spin in front of a full ring. One that took each slot as it comes free would fetch its
 * lines from the cache of the consumer, which is about to leave the next one, message by message. In a ring that is larger than caches it would go on to
 * do so, for all of what the consumer has read last is there: such a ring is best neither full nor empty. The space of an SPSC ring comes back in strides.
 */
MR_SLOW uint64_t mr_stretch_of(const mr_core *c, bool *large)
{
	const uint64_t bytes = (UINT64_C(1) << c->stride_shift) + c->slot_size;
	uint64_t stretch = 0, left = c->slots / 4;
	if (left < MR_STRETCH_LEFT)
		left = MR_STRETCH_LEFT;
	if (c->kind == MR_MPMC && c->slots >= MR_STRETCH_LEAST)
		stretch = mr_min(c->slots / 2, MR_STRETCH_MOST);
	*large = c->slots * bytes > MR_OWN_CACHE && c->slots > left;
	if (*large && mr_min(c->slots - left, MR_STRETCH_BYTES / bytes) > stretch)
		stretch = mr_min(c->slots - left, MR_STRETCH_BYTES / bytes);
	return stretch;
}

/* Whether fewer slots are free than the producer wants. It is a wish: a slot inside of a message of several does not count. */
MR_FAST bool mr_is_crammed(const mr_producer *p, uint64_t stretch)
{
	const mr_core *c = &p->h.c;
	const uint64_t t = p->pos + stretch;
	uint64_t e;
	if (c->kind == MR_SPSC)
		return t - mr_load_acq(&c->ctl->space_position) > c->slots; /* order: S1 acq, pairs D5 */
	return mr_stand(mr_load_acq(mr_state(c, t)), t, c->slots, &e) == MR_STAND_OLD; /* order: P1 acq, pairs C4 C5 L3 */
}

/* A position that moves while space is given back. */
MR_FAST uint64_t mr_gained(const mr_producer *p)
{
	const mr_core *c = &p->h.c;
	return mr_load_acq(c->kind == MR_SPSC ? &c->ctl->space_position : &c->ctl->consumer_position); /* order: S1 acq, pairs D5; C1 acq, pairs C6 */
}

typedef struct mr_spinner {
	unsigned attempts;
	int64_t start, budget, renewed; /* since when, for how long; when it was renewed first */
	uint64_t gained;                /* at the last renewal */
} mr_spinner;

/* Begins the time for spinning anew when there is news of space, up to MR_STRETCH_TIME and to the deadline. */
MR_FAST void mr_renew(mr_spinner *s, uint64_t gained, int64_t deadline)
{
	if (gained == s->gained)
		return;
	const int64_t now = mr_monotonic();
	if (now >= deadline)
		return;
	s->gained = gained;
	if (s->renewed == 0)
		s->renewed = now;
	if (now - s->renewed < MR_STRETCH_TIME)
		s->start = now;
}

/* How many pauses take about ns, at least 1: one takes 1 to 140 cycles, by processor. */
MR_SLOW unsigned mr_pauses(int64_t ns)
{
	enum { TIMED = 100 };
	int64_t best = INT64_MAX; /* when nothing disturbs them */
	for (int i = 0; i < 3; i++) {
		const int64_t start = mr_monotonic();
		for (int j = 0; j < TIMED; j++)
			mr_pause();
		const int64_t took = mr_monotonic() - start;
		if (took > 0 && took < best)
			best = took;
	}
	const int64_t n = TIMED * ns / best;
	return n < 1 ? 1 : (unsigned)n;
}

/* Lets a little time pass; false when the time for spinning is up. On one core there is nobody to spin for. */
MR_FAST bool mr_spin_more(mr_spinner *s, const mr_handle *h)
{
	if (++s->attempts == 1)
		s->budget = h->alone ? 0 : h->spin > MR_SPIN_LEAST ? h->spin : MR_SPIN_LEAST;
	if (s->budget == 0)
		return false;
	if (s->attempts == MR_SPIN_CLOSE) /* most spins are over before they are worth a look at the clock, which costs as much as some attempts */
		s->start = mr_monotonic();
	else if (s->attempts > MR_SPIN_CLOSE && s->attempts % MR_SPIN_LOOK == 0 && mr_monotonic() - s->start > s->budget)
		return false;
	const unsigned pauses = s->attempts == 1 ? h->distance : s->attempts <= MR_SPIN_HOT ? h->apart : s->attempts <= MR_SPIN_CLOSE ? 1 : 4;
	for (unsigned i = 0; i < pauses; i++)
		mr_pause();
	return true;
}

/*
 * Learns how far to stay behind the other side. Who finds something at the first look again and again treads on the heels of the other side and takes the
 * line that it is writing; a longer first pause lets it get ahead.
 */
MR_FAST void mr_keep_distance(mr_handle *h, bool close)
{
	if (h->c.fetches_next) /* there the first look for an answer is held off, see mr_watch */
		return;
	h->distance = close ? 2 * h->distance + 1 : h->distance / 2;
	if (h->distance > MR_SPIN_FAR)
		h->distance = MR_SPIN_FAR;
}

/* Learns that the message at the own position was waited for, soon if it came at one of the first looks. */
MR_FAST void mr_learn_answer(mr_consumer *q, bool soon)
{
	if (!soon)
		q->answer = 0;
	else if (q->answer > 0 || q->awaited == q->pos)
		q->answer = (unsigned)mr_min(q->answer + MR_ANSWER_STEP, q->answer_most);
	q->awaited = q->pos + 1;
}

/*
 * Looks at the state word of the own position until there is a message of one slot, for some microseconds at most. The first part of a spin: nothing but
 * loads, so that the news of a message is in use as soon as it is there. In an MPMC ring, where a CAS on that word follows, each look takes the line for
 * writing at once, but not among rivals, who would only take it from each other; and they are a bit apart: a producer writes the word twice, and should not
 * lose its line in between.
 *
 * The looks are apart, and few, so that the processor learns at which of them a message comes, as answers do after always the same time. It then executes what
 * follows while the line is on its way, instead of expecting each look to be in vain.
 *
 * A look that is too early takes the line, which the producer has fetched in advance (mr_fetch_next), away from it: then the message waits for its line, once there and once
 * back. So one that is expected to be an answer, since those before it were waited for, and not long, is first looked for when it should be there, see mr_hold_off. For how long
 * is learned. Of a message of two lines the second one is on its way meanwhile, and looks that follow each other closely are best.
 */
MR_SLOW bool mr_watch(mr_consumer *q)
{
	const mr_core *c = &q->h.c;
	uint64_t *word = mr_state(c, q->pos);
	const uint64_t want = c->kind == MR_SPSC ? mr_spsc_word(q->pos + 1, 0) : mr_ready_word(q->pos + 1, 0);
	if (q->h.alone)
		return false;
	q->dries++;
	const bool to_write = q->rivals == 0;
	if (q->rivals > 0)
		q->rivals--;
	for (unsigned i = 0; i < q->h.distance; i++)
		mr_pause();
	const uint64_t was = mr_load_acq(word); /* order: D1 acq, pairs S4; C2 acq, pairs P6 */
	const unsigned looks = c->kind == MR_SPSC ? MR_WATCH_LOOKS + q->tight : 2 * MR_WATCH_LOOKS;
	for (unsigned i = 0; i < looks; i++) {
		if (c->kind == MR_MPMC && i > 0) {
			for (unsigned j = 0; j < q->h.apart; j++)
				mr_pause();
			if (to_write)
				mr_prefetch_write(word);
		} else if (i > q->tight) {
			for (unsigned j = 0; j < q->gap; j++)
				mr_pause();
		}
		const uint64_t w = mr_load_acq(word); /* order: D1 acq, pairs S4; C2 acq, pairs P6 */
		if (w == want) {
			mr_keep_distance(&q->h, i == 0);
			mr_learn_answer(q, i < MR_ANSWER_LATE);
			return true;
		}
		if (w != was && (c->kind == MR_SPSC || mr_state_of(w) != MILLRACE_STATE_CLAIMED)) {
			if (c->kind == MR_MPMC)
				q->rivals = MR_RIVALRY;
			return true; /* a run, or a message of several slots; or somebody else took it */
		}
	}
	q->h.distance = 0;
	q->answer = 0;
	return false;
}

/* Holds off the first look for the next message, which is expected to be an answer. */
MR_SLOW void mr_hold_off(mr_consumer *q)
{
	const unsigned turns = (unsigned)mr_min(q->answer, q->answer_most);
	if (turns == 0) /* calls of two threads that overlap */
		return;
	mr_delay(turns);
	q->answer = turns - 1;
}

/* Waits until position is far ahead of from, when it is near, and as long as it moves. It returns how often it looked again. */
MR_SLOW int mr_await_far(const mr_core *c, const uint64_t *position, uint64_t from, unsigned pauses)
{
	const int64_t want = (int64_t)c->far;
	int64_t ahead = mr_ahead(mr_load_acq(position), from), was = ahead - 1; /* order: P0 acq, pairs P7 S5; C1 acq, pairs C6 */
	if (ahead >= (int64_t)c->near)
		return 0;
	int looks = 0;
	for (; was != ahead && ahead < want && looks < MR_SLIP_LOOKS; looks++) {
		for (unsigned j = 0; j < pauses; j++)
			mr_pause();
		was = ahead;
		ahead = mr_ahead(mr_load_acq(position), from); /* order: P0 acq, pairs P7 S5; C1 acq, pairs C6 */
	}
	return looks;
}

/*
 * Lets the producers get ahead when the consumer is close behind: temporal slipping, as in FastForward (Giacomoni, Moseley, Vachharajani, PPoPP 2008). Who follows so closely never
 * runs dry, and takes line after line away while it is written, or has its core's prefetcher do so; a message then takes up to twice as long, on both sides. Further off it still
 * asks for lines that the producer's core has in its first cache, which are slower to come than those that have left it. It comes after a stride of messages, and waits
 * for a few microseconds and only while they go on. It returns how often it looked again.
 */
MR_SLOW int mr_slip(mr_consumer *q)
{
	const mr_core *c = &q->h.c;
	const bool often = q->dries > c->stride / 8, rivals = q->rivals > 0;
	q->slipped = q->pos;
	q->dries = 0;
	q->rivals /= 2; /* they may have left */
	if (q->h.alone || rivals || c->slots < MR_SLIP_LEAST)
		return 0;
	if (often) {
		/* Who waits for answers runs dry, or for a slow producer, and who is faster than a producer that could be faster with more room. */
		for (unsigned j = 0; j < q->slip; j++)
			mr_pause();
		const uint64_t next = q->pos + 1, word = mr_load_acq(mr_state(c, next)); /* order: D1 acq, pairs S4; C2 acq, pairs P6 */
		if (word != (c->kind == MR_SPSC ? mr_spsc_word(next + 1, 0) : mr_ready_word(next + 1, 0)))
			return 0;
	}
	return mr_await_far(c, &c->ctl->producer_position, q->pos, q->slip);
}

/*
 * Lets the consumers of an MPMC ring get ahead when the producer is close behind them, in a ring that is more than half full. It is the same there: the producer, or
 * its core's prefetcher, takes lines that a consumer is about to use. The space of an SPSC ring comes back a stride at a time, so its producer is a stride away by itself.
 */
MR_SLOW int mr_slip_full(mr_producer *p)
{
	const mr_core *c = &p->h.c;
	p->slipped = p->pos;
	if (p->h.alone || c->slots < MR_SLIP_LEAST)
		return 0;
	return mr_await_far(c, &c->ctl->consumer_position, p->pos - c->slots, p->slip);
}

/* How many pauses there are between two looks of a slip. */
MR_SLOW unsigned mr_slip_pauses(const mr_core *c) { return mr_pauses(MR_SLIP_LOOK + (int64_t)mr_min(c->slot_size, MR_SLIP_BYTES) / 2); }

/* Learns how many pauses make the times between looks. */
MR_SLOW void mr_pace(mr_consumer *q)
{
	q->slipped = q->pos;
	q->gap = mr_pauses(MR_WATCH_APART);
	q->slip = mr_slip_pauses(&q->h.c);
	if (q->h.c.fetches_next && q->h.c.slot_size <= q->h.c.beside)
		q->answer_most = MR_ANSWER_MOST;
	else if (q->h.c.fetches_next)
		q->tight = MR_WATCH_TIGHT;
}

/* Learns from a spin whether it paid. */
MR_FAST void mr_spun(mr_handle *h, const mr_spinner *s, bool paid)
{
	if (!paid) {
		h->spin /= 2;
		h->distance = 0;
		return;
	}
	mr_keep_distance(h, s->attempts == 1);
	h->spin = 2 * (h->spin > MR_SPIN_LEAST ? h->spin : MR_SPIN_LEAST);
	if (h->spin > MR_SPIN_MOST)
		h->spin = MR_SPIN_MOST;
}

/* Learns from a wait that ended in the kernel: when a longer spin would have done, the next one is longer. */
MR_FAST void mr_slept(mr_handle *h, int64_t parked)
{
	const int64_t d = mr_monotonic() - parked;
	if (d < MR_SPIN_MOST && h->spin < 2 * d)
		h->spin = 2 * d < MR_SPIN_MOST ? 2 * d : MR_SPIN_MOST;
}

#endif
