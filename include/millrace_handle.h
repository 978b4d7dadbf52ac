/* Rings and handles, and what producers and consumers have in common. */
#ifndef MILLRACE_HANDLE_H
#define MILLRACE_HANDLE_H

#include "millrace_copy.h"
#include "millrace_recover.h"

#define MR_LINE 128

/* Gates: who is inside a handle. A second thread that comes while one is inside is turned away, as far as a plain word can tell. */
enum {
	MR_GATE_OPEN = 0,   /* nobody */
	MR_GATE_INSIDE = 1, /* a call */
	MR_GATE_HELD = 2,   /* nobody, but a lease or a reservation is open */
	MR_GATE_BROKEN = 3, /* nobody ever again: the ring is corrupt */
	MR_GATE_CLOSED = 4  /* nobody ever again: closed, or a forked child */
};

/* What an unsuccessful attempt found in its way: the state word at a position. */
typedef struct mr_blockage {
	uint64_t at, word;
	int64_t since; /* of a wait: when it was first seen */
} mr_blockage;

typedef struct mr_handle {
	mr_core c; /* a copy: one indirection less */
	struct millrace_participant *me;
	uint32_t id, gate;
	bool fenced, alone;
	int role;

	mr_ring *ring;
	mr_owned lock; /* the description that holds the participant's byte */
	struct mr_handle *next, **link;
	mr_blockage blocked, stalled;
	int64_t spin, looked; /* how long it paid to spin; last look for the dead by a try call */
	unsigned apart;       /* MPMC: pauses between two looks of a spin */
	unsigned distance;    /* extra pauses before the first attempt of a spin */
	uint32_t roster, peer;
} mr_handle;

enum { MR_RIVALRY = 64 }; /* MPMC: spins for which a consumer remembers that another one was faster */

/* A message: its positions, and bytes << 8 | lies inline << 7 | times given back before. */
typedef struct mr_item {
	uint64_t p, e, word;
} mr_item;

#define MR_ITEM_INLINE UINT64_C(0x80)

/* What is left to send: slices, or count values of size bytes in a row. */
typedef struct mr_batch {
	const mr_slice *slices;
	const uint8_t *base;
	uint64_t size; /* of each message, when even */
	size_t count;
	bool even, small; /* all of one size; every one takes one slot */
} mr_batch;

enum { MR_PENDING_SEND, MR_PENDING_RESERVE, MR_PENDING_BATCH };

struct mr_producer {
	uint64_t pos;    /* own candidate: every position below it is claimed */
	uint64_t limit;  /* SPSC: private copy of the space that was given back */
	uint64_t fetch_mask; /* SPSC: line_mask, or what fits no position, see mr_fetch_for_answers */
	uint64_t hinted; /* SPSC: producer_position as stored last */
	uint64_t mapped, looks; /* the memory of the positions before the first is mapped; how many spans were looked at */
	uint64_t slipped; /* MPMC: where it was looked last how far the consumers are, */
	unsigned slip;   /* and how many pauses there are between two looks then */
	bool coarse;     /* SPSC: do not ask for the exact position */
	bool wait_for_consumers;

	mr_handle h;

	struct { /* the open reservation: extent [head, end) with the message at `at` */
		uint64_t head, at, end, n, word;
	} resv;
	struct { /* what a blocked call is trying to do */
		int what;
		const void *data;
		uint64_t n;
		mr_batch batch;
		size_t done;
	} pending;
};

/* What a consumer holds: messages next .. count-1 of those that the lease was taken with. */
typedef struct mr_lease {
	size_t next, count, room;
	mr_item *items; /* the messages; unused for a run */
	mr_item run;    /* SPSC: the first of count messages of one run, when is_run */
	bool is_run;
	bool shared;  /* MPMC: all in one extent, whose word is the first one's; otherwise each has its own */
	uint64_t end; /* MPMC: end of that extent */
} mr_lease;

struct mr_consumer {
	uint64_t pos;        /* own candidate: every position below it has been taken by somebody */
	uint64_t seen;       /* returns when the last scan for given-back messages found none */
	uint64_t given;      /* SPSC: space given back */
	uint64_t slipped;    /* where it was looked last how far the producers are, */
	bool dry;            /* a call that only tries found nothing, and no message has come since */
	uint64_t dries;      /* and how often there was nothing since then */
	unsigned gap, slip;  /* pauses between two looks of a watch of an SPSC ring, and of a slip */
	unsigned tight;      /* SPSC: so many looks of a watch have none */
	unsigned answer, answer_most; /* SPSC: how long to hold off the first look for an answer, in turns of mr_delay, and at most; */
	uint64_t awaited;    /* the position behind the last message that was waited for */
	uint64_t run_end;    /* SPSC: end of the run that pos is in, or not above pos */
	uint64_t run_length; /* SPSC: bytes of each message of that run */
	uint64_t most;       /* bytes that a message may have to be leased; while an array is received, those of a cell */
	uint64_t last_position;
	uint32_t last_deliveries;
	uint32_t rivals;     /* MPMC: spins for which other consumers are expected to be after the same messages */
	bool follow;

	mr_handle h;
	mr_lease lease;
	int64_t grace, drained, held_nap; /* drained: when grace began to count, or 0 */
	uint32_t drained_at;              /* roster then */

	struct { /* what a blocked call is trying to do */
		void *buffer;
		size_t capacity, size, limit; /* limit 0: copy into buffer */
		size_t count, *sizes, received; /* of an array: buffer has count cells of capacity bytes; 0: it is for one message */
	} pending;
};

struct mr_sight { /* what a participant was seen to hold, and since when */
	uint64_t position, session;
	int64_t since;
	bool holding;
};

struct mr_ring {
	mr_segment segment;
	mr_core c;
	pthread_mutex_t mutex; /* recovery and looks */
	mr_handle *handles;
	struct mr_sight *sights;
	struct mr_ring *next, **link;
	bool forked;
};

#define MR_FAULT_AROUND (64u << 10) /* bytes that the kernel maps for a read; for a write it is one page */

/*
 * Reads a byte at both ends of the span of positions that `next` is in: it is then mapped when it is written, at an eighth of the price of a write to each page. A span is as many positions as
 * share what is mapped for one read; when those are too few it is not worth a look. The memory itself is there and clear since the creation.
 */
MR_SLOW void mr_look(mr_producer *p, uint64_t next)
{
	const mr_core *c = &p->h.c;
	const uint64_t stride = UINT64_C(1) << c->stride_shift, wide = stride > c->slot_size ? stride : c->slot_size;
	uint64_t span = 1;
	while (2 * span * wide <= MR_FAULT_AROUND && 2 * span <= c->slots)
		span *= 2;
	p->mapped = next + (UINT64_C(1) << 62);
	if (MR_TSAN || span < MR_HINT_EVERY || p->looks++ > c->slots / span) /* it has been round */
		return;
	const uint64_t first = next & ~(span - 1), last = first + span - 1;
	(void)*(const volatile uint8_t *)mr_entry(c, first);
	(void)*(const volatile uint8_t *)mr_entry(c, last);
	(void)*(const volatile uint8_t *)mr_cell(c, first);
	(void)*(const volatile uint8_t *)mr_cell(c, last);
	p->mapped = last + 1;
}

/* Has the memory of the span that position `next` is in mapped, once for each of them. It is called when a hint is stored. */
MR_FAST void mr_reached(mr_producer *p, uint64_t next)
{
	if (mr_unlikely((int64_t)(next - p->mapped) >= 0))
		mr_look(p, next);
}

MR_SLOW int mr_refused(const mr_handle *h)
{
	const uint32_t ending = mr_load32_rlx(h->c.lost);
	if (h->gate == MR_GATE_CLOSED || (ending & MR_ENDING_SHUT) != 0)
		return mr_fail(MR_CLOSED, "handle is closed");
	if ((ending & MR_ENDING_LOST) != 0)
		return mr_fail(MR_LOST, "%s", mr_strerror(MR_LOST));
	if (h->gate == MR_GATE_BROKEN)
		return mr_fail(MR_CORRUPT, "segment is corrupt: it was found so by an earlier call");
	return mr_fail(MR_MISUSE, "%s", mr_strerror(MR_MISUSE));
}

/* Goes from a gate state to inside. */
MR_FAST bool mr_enter(mr_handle *h, uint32_t from)
{
	if (mr_unlikely(mr_load32_rlx(&h->gate) != from || mr_load32_rlx(h->c.lost) != 0))
		return false;
	mr_store32_rlx(&h->gate, MR_GATE_INSIDE);
	return true;
}

MR_SLOW int mr_leave_badly(mr_handle *h, int status, uint32_t to)
{
	mr_store32_rlx(&h->gate, to);
	if ((mr_load32_rlx(h->c.lost) & MR_ENDING_LOST) != 0)
		return mr_fail(MR_LOST, "%s", mr_strerror(MR_LOST));
	if (status == MR_CORRUPT)
		mr_store32_rlx(&h->gate, MR_GATE_BROKEN);
	return status;
}

/* Ends a call: the gate goes to `to` if it succeeded, otherwise to `otherwise`. What was done to a segment that is lost was done to nobody. */
MR_FAST int mr_leave(mr_handle *h, int status, uint32_t to, uint32_t otherwise)
{
	if (mr_unlikely(status == MR_CORRUPT || (mr_load32_rlx(h->c.lost) & MR_ENDING_LOST) != 0))
		return mr_leave_badly(h, status, otherwise);
	mr_store32_rlx(&h->gate, status == MR_OK ? to : otherwise);
	return status;
}

/* Notes the first position of an open lease or reservation (position + 1), or none (0). order: L4 rel, pairs V0 */
MR_FAST void mr_hold(mr_handle *h, uint64_t v) { mr_store_rel(&h->me->held, v); }

/* Whether somebody's claim, lease or unfinished release stands in the way. */
MR_FAST bool mr_is_owned(const mr_blockage *b)
{
	const uint64_t st = mr_state_of(b->word);
	return st == MILLRACE_STATE_CLAIMED || st == MILLRACE_STATE_DONE || mr_is_taken(b->word);
}

/* Wakes up to n sleepers after something was published. */
MR_SLOW void mr_wake(mr_handle *h, uint64_t *e, uint64_t n)
{
	uint64_t calls = mr_notify(e, n);
	if (calls > 0)
		mr_bump(&h->me->wakes, calls);
}

/* Makes every sleeper look again. */
MR_SLOW void mr_wake_everybody(mr_handle *h)
{
	mr_notify_all(&h->c.ctl->not_empty);
	mr_notify_all(&h->c.ctl->not_full);
	mr_bump(&h->me->wakes, 2);
}

/* Notes that position at is in the way. */
MR_SLOW int mr_full(mr_producer *p, uint64_t at)
{
	p->h.blocked.at = at;
	p->h.blocked.word = p->h.c.kind == MR_MPMC ? mr_load_acq(mr_state(&p->h.c, at)) : 0; /* order: P1 acq, pairs P3 L2 */
	return MR_FULL;
}

MR_SLOW int mr_too_large(uint64_t n, uint64_t most)
{
	return mr_fail(MR_SIZE, "message of %llu bytes: at most %llu fit; send less, or create the ring with larger slots", (unsigned long long)n, (unsigned long long)most);
}

/* Frees the interior slots [q, e) of an own extent, from the last to the first: whoever steps over a free slot must not land in something live (I3). */
MR_FAST void mr_free_stretch(const mr_core *c, uint64_t q, uint64_t e)
{
	while (mr_ahead(--e, q) >= 0)
		mr_store_rel(mr_state(c, e), mr_free_word(e + c->slots)); /* order: P5 rel, pairs P2 C2 */
}

/* Recovers participant id if it is dead. */
MR_SLOW bool mr_recover_if_dead(mr_ring *r, uint32_t id)
{
	if (id >= r->c.participants || mr_is_alive(&r->c, id))
		return false;
	(void)pthread_mutex_lock(&r->mutex);
	const bool done = mr_recover_one(&r->c, id);
	(void)pthread_mutex_unlock(&r->mutex);
	return done;
}

/* Recovers everybody who is dead and not yet retired. */
MR_SLOW bool mr_recover_all(mr_ring *r)
{
	bool any = false;
	for (uint32_t id = 0; id < r->c.participants; id++)
		if (mr_anything_open(&r->c, id) && mr_recover_if_dead(r, id))
			any = true;
	return any;
}

MR_FAST mr_item mr_new_item(uint64_t p, uint64_t e, uint64_t r, uint64_t length)
{
	mr_item it;
	it.p = p;
	it.e = e;
	it.word = (length & MILLRACE_LENGTH_MASK) << 8 | ((length & MILLRACE_FLAG_INLINE) != 0 ? MR_ITEM_INLINE : 0) | r;
	return it;
}

MR_FAST uint64_t mr_item_size(const mr_item *it) { return it->word >> 8; }
MR_FAST uint64_t mr_item_given(const mr_item *it) { return it->word & MILLRACE_DELIVERIES_MASK; }
MR_FAST const uint8_t *mr_item_bytes(const mr_core *c, const mr_item *it)
{
	return (it->word & MR_ITEM_INLINE) != 0 ? mr_inline_at(mr_entry(c, it->p)) : mr_cell(c, it->p);
}

MR_FAST bool mr_lease_open(const mr_lease *l) { return l->next < l->count; }

/* Message i of the lease. */
MR_FAST mr_item mr_lease_at(const mr_lease *l, size_t i)
{
	if (!l->is_run)
		return l->items[i];
	mr_item it = l->run;
	it.p += i;
	it.e += i;
	return it;
}

MR_FAST void mr_lease_reset(mr_lease *l)
{
	l->next = l->count = 0;
	l->is_run = l->shared = false;
}

MR_FAST void mr_lease_add(mr_lease *l, mr_item it) { l->items[l->count++] = it; }

/* Notes the first message that is still held, or none. L4 */
MR_FAST void mr_unhold(mr_consumer *q)
{
	const mr_lease *l = &q->lease;
	mr_hold(&q->h, mr_lease_open(l) ? mr_lease_at(l, l->next).p + 1 : 0);
}

/* Counts the messages of a new lease. */
MR_SLOW void mr_count_again(mr_consumer *q)
{
	uint64_t again = 0;
	for (size_t i = 0; i < q->lease.count; i++)
		again += mr_item_given(&q->lease.items[i]) > 0;
	if (again > 0)
		mr_bump(&q->h.me->redelivered, again);
}

MR_FAST void mr_count_taken(mr_consumer *q)
{
	const mr_lease *l = &q->lease;
	mr_bump(&q->h.me->received, l->count);
	if (!l->shared && !l->is_run)
		mr_count_again(q);
}

#endif /* MILLRACE_HANDLE_H */
