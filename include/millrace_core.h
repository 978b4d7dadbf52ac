/* State words and the memory of a ring, docs/FORMAT.md sections 3, 5 and 6. */
#ifndef MILLRACE_CORE_H
#define MILLRACE_CORE_H

#include "millrace_segment.h"

#define MR_CLASS UINT64_C(0xC0) /* READY and TAKEN carry a count in the low six bits */
#define MR_NO_POSITION (~UINT64_C(0))

/* A positive difference of positions, as a sign. */
MR_FAST int64_t mr_ahead(uint64_t a, uint64_t b) { return (int64_t)(a - b); }
MR_FAST uint64_t mr_later(uint64_t a, uint64_t b) { return mr_ahead(a, b) > 0 ? a : b; }
MR_FAST uint64_t mr_min(uint64_t a, uint64_t b) { return a < b ? a : b; }
MR_FAST uint64_t mr_max(uint64_t a, uint64_t b) { return a > b ? a : b; }

MR_FAST uint64_t mr_free_word(uint64_t p) { return p << MILLRACE_MPMC_SEQUENCE_SHIFT | MILLRACE_STATE_FREE; }
MR_FAST uint64_t mr_ready_word(uint64_t e, uint64_t r) { return e << MILLRACE_MPMC_SEQUENCE_SHIFT | (MILLRACE_STATE_READY + r); }
MR_FAST uint64_t mr_owned_word(uint64_t e, uint32_t owner, uint64_t state)
{
	return e << MILLRACE_MPMC_SEQUENCE_SHIFT | (uint64_t)owner << MILLRACE_OWNER_SHIFT | state;
}
MR_FAST uint64_t mr_claimed_word(uint64_t e, uint32_t owner) { return mr_owned_word(e, owner, MILLRACE_STATE_CLAIMED); }
MR_FAST uint64_t mr_done_word(uint64_t e, uint32_t owner) { return mr_owned_word(e, owner, MILLRACE_STATE_DONE); }
MR_FAST uint64_t mr_taken_word(uint64_t e, uint32_t owner, uint64_t r) { return mr_owned_word(e, owner, MILLRACE_STATE_TAKEN + r); }
MR_FAST uint64_t mr_spsc_word(uint64_t e, uint64_t r) { return e << MILLRACE_SPSC_SEQUENCE_SHIFT | (MILLRACE_STATE_READY + r); }

MR_FAST uint64_t mr_state_of(uint64_t w) { return w & 0xFF; }
MR_FAST uint32_t mr_owner_of(uint64_t w) { return (uint32_t)(w >> MILLRACE_OWNER_SHIFT) & MILLRACE_OWNER_MASK; }
MR_FAST bool mr_is_ready(uint64_t w) { return (w & MR_CLASS) == MILLRACE_STATE_READY; }
MR_FAST bool mr_is_taken(uint64_t w) { return (w & MR_CLASS) == MILLRACE_STATE_TAKEN; }
MR_FAST uint64_t mr_given_back(uint64_t w) { return w & MILLRACE_DELIVERIES_MASK; }

/* The count that a message with r give-backs reports; it saturates. */
MR_FAST uint32_t mr_deliveries(uint64_t r) { return (uint32_t)mr_min(r, MILLRACE_DELIVERIES_WRAP) + 1; }
/* One more give-back. Beyond the field it returns to deliveries_wrap, so that the state word still changes every time. */
MR_FAST uint64_t mr_next_given_back(uint64_t r) { return r >= MILLRACE_DELIVERIES_MASK ? (uint64_t)MILLRACE_DELIVERIES_WRAP : r + 1; }

/* Widens the sequence of an MPMC word to 64 bits, as the position nearest to near. */
MR_FAST uint64_t mr_sequence(uint64_t w, uint64_t near)
{
	return near + (uint64_t)((int64_t)(w - (near << MILLRACE_MPMC_SEQUENCE_SHIFT)) >> MILLRACE_MPMC_SEQUENCE_SHIFT);
}

/* SPSC: whether w is valid for position h; *e is the end of the extent that it publishes. */
MR_FAST bool mr_spsc_end(uint64_t w, uint64_t h, uint64_t slots, uint64_t *e)
{
	uint64_t d = (uint64_t)((int64_t)(w - (h << MILLRACE_SPSC_SEQUENCE_SHIFT)) >> MILLRACE_SPSC_SEQUENCE_SHIFT);
	*e = h + d;
	return mr_is_ready(w) && d - 1 < slots;
}

/* How an MPMC state word relates to a position p of its slot. */
typedef enum mr_standing {
	MR_STAND_FREE,    /* FREE(p): p is not claimed */
	MR_STAND_OLD,     /* still in use by the lap before: p is not claimed */
	MR_STAND_CLAIMED, /* claimed and not committed */
	MR_STAND_READY,   /* committed, and waits */
	MR_STAND_TAKEN,   /* leased */
	MR_STAND_DONE,    /* received, its slots are being given back */
	MR_STAND_PASSED,  /* was claimed, and its slot is free again, or in use by a later lap */
	MR_STAND_CORRUPT  /* no such word can stand there */
} mr_standing;

/* Classifies w for position p; *e is its sequence as a position. */
MR_FAST mr_standing mr_stand(uint64_t w, uint64_t p, uint64_t slots, uint64_t *e)
{
	uint64_t st = mr_state_of(w);
	*e = mr_sequence(w, p);
	if (st == MILLRACE_STATE_FREE) {
		int64_t d = mr_ahead(*e, p);
		if (mr_owner_of(w) != 0 || ((uint64_t)d & (slots - 1)) != 0 || d < 0) /* FREE of the lap before: p - N was never claimed, so p cannot be next */
			return MR_STAND_CORRUPT;
		return d == 0 ? MR_STAND_FREE : MR_STAND_PASSED;
	}
	if (st != MILLRACE_STATE_CLAIMED && st != MILLRACE_STATE_DONE && !mr_is_ready(w) && !mr_is_taken(w))
		return MR_STAND_CORRUPT;
	int64_t d = mr_ahead(*e - 1 - ((*e - 1 - p) & (slots - 1)), p);
	if (d > 0)
		return MR_STAND_PASSED;
	if (d < 0)
		return d == -(int64_t)slots ? MR_STAND_OLD : MR_STAND_CORRUPT;
	if (st == MILLRACE_STATE_CLAIMED)
		return MR_STAND_CLAIMED;
	if (st == MILLRACE_STATE_DONE)
		return MR_STAND_DONE;
	return mr_is_ready(w) ? MR_STAND_READY : MR_STAND_TAKEN;
}

/* The first position that may still be unclaimed or held, given that w stands in the slot of p and is passed, with sequence e (I5). */
MR_FAST uint64_t mr_beyond(uint64_t w, uint64_t p, uint64_t e, uint64_t slots)
{
	if (mr_state_of(w) == MILLRACE_STATE_FREE)
		e -= slots;
	else
		e = e - 1 - ((e - 1 - p) & (slots - 1));
	return mr_later(p + 1, e - slots + 1);
}

/* A hint, if ordinary traffic can have led from p to it; otherwise p. Hints are input. */
MR_FAST uint64_t mr_hint(uint64_t h, uint64_t p) { return h - p < UINT64_C(1) << 40 ? h : p; }

enum {
	MR_HINT_EVERY = 8,   /* positions between two stores of a hint, */
	MR_HINT_SMALL = 64,  /* but in a ring of so many slots it is stored every time */
	MR_CACHE_LINE = 64,     /* bytes that go from core to core at once */
	MR_OWN_CACHE = 1 << 20, /* about what a core's own cache holds, */
	MR_FIRST_CACHE = 32 << 10, /* and the first of them */
	MR_TAKE_MOST = 4 << 20, /* bytes of the largest ring whose lines are taken: in a larger one they have left all caches */
	MR_STRIDE_MOST = 256 /* space is given back when so many slots are consumed, or a quarter of the ring; an MPMC ring has half of both, between two slips */
};

/* Says whether this processor takes long to write to a line that another core has only read. */
MR_FAST bool mr_shared_is_slow(void)
{
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
	__builtin_cpu_init();
	return __builtin_cpu_is("amd") != 0;
#else
	return false;
#endif
}

/*
 * Writes to every line of the n bytes at p, between D1 and D4, what is there. A line that a consumer has only read is in both cores' caches, and where writing to such
 * a line is slow that is what a message costs. After this only the consumer's core has it, and the producer's asks for it ahead as for any that it does
 * not have. Not for a message that was waited for: the answer would wait for those stores.
 */
MR_FAST void mr_take_lines(uint8_t *p, uint64_t n)
{
	if (n == 0)
		return;
	for (uint64_t i = 0; i < n; i += MR_CACHE_LINE)
		*(volatile uint8_t *)(p + i) = *(volatile uint8_t *)(p + i);
	*(volatile uint8_t *)(p + n - 1) = *(volatile uint8_t *)(p + n - 1);
}

/* Takes the lines of n messages of size bytes, step bytes apart. */
MR_FAST void mr_take_cells(uint8_t *at, uint64_t step, uint64_t n, uint64_t size)
{
	if (step - size < MR_CACHE_LINE) {
		mr_take_lines(at, n * step);
		return;
	}
	for (uint64_t i = 0; i < n; i++)
		mr_take_lines(at + i * step, size);
}

/* One mapping of a ring's memory, with private copies of everything that is immutable. Nothing of it is read from the segment again. */
typedef struct mr_core {
	uint8_t *entries, *data;
	uint64_t slots, mask, slot_size, inline_size;
	uint64_t hint_mask; /* a hint is stored when a position is passed that has none of these bits */
	uint64_t stride;    /* an SPSC consumer gives space back when more than this was consumed; either kind slips then, */
	uint64_t near, far; /* so that the other side is not near, but so many positions away */
	uint64_t line_mask; /* entries in a line, minus one */
	uint64_t beside;    /* bytes of payload that lie in the line of the entry */
	bool take_lines;    /* see mr_take_lines */
	bool fetches_next;  /* see mr_fetch_next */
	unsigned stride_shift;
	uint32_t kind, policy, participants;
	struct millrace_control *ctl;
	const uint32_t *lost; /* of the guard */

	uint64_t *accounts;
	struct millrace_participant *table;
	uint64_t max_slots, max_message, max_steps, max_deliveries, start;
	int fd; /* probes and holds */
} mr_core;

MR_SLOW void mr_core_init(mr_core *c, uint8_t *mem, const struct millrace_header *h)
{
	memset(c, 0, sizeof *c);
	c->entries = mem + h->entries_offset;
	c->data = mem + h->data_offset;
	c->slots = h->slots;
	c->mask = h->slots - 1;
	c->slot_size = h->slot_size;
	c->inline_size = mr_min(h->inline_size, h->slot_size); /* only messages of one slot lie inline */
	c->stride_shift = (unsigned)__builtin_ctz(h->entry_stride);
	c->hint_mask = h->slots <= MR_HINT_SMALL ? 0 : MR_HINT_EVERY - 1;
	c->kind = h->kind;
	c->stride = c->kind == MR_SPSC ? mr_min(h->slots / 4 + (h->slots < 4), MR_STRIDE_MOST) - 1 : mr_min(h->slots / 8, MR_STRIDE_MOST / 2);
	c->line_mask = h->entry_stride < MR_CACHE_LINE ? MR_CACHE_LINE / h->entry_stride - 1 : 0;
	c->beside = mr_min(c->inline_size, MR_CACHE_LINE - MILLRACE_ENTRY_SIZE);
	/* Three quarters of the positions that a core's first cache holds the lines of, and all of them; half of the ring at most, and half a stride and a stride at least. */
	const uint64_t held = mr_min(h->slots / 2, MR_FIRST_CACHE / (h->entry_stride + (c->slot_size > c->inline_size ? c->slot_size : 0)));
	c->near = mr_max(c->stride / 2, held - held / 4);
	c->far = mr_max(c->stride, held);
	c->take_lines = mr_shared_is_slow() && h->slots * (h->entry_stride + h->slot_size) <= MR_TAKE_MOST;
	c->fetches_next = c->take_lines && c->kind == MR_SPSC && c->slot_size <= c->inline_size;
	c->policy = h->policy;
	c->participants = h->participants;
	c->ctl = (struct millrace_control *)(void *)(mem + MILLRACE_CONTROL_OFFSET);
	c->accounts = (uint64_t *)(void *)(mem + h->accounts_offset);
	c->table = (struct millrace_participant *)(void *)(mem + h->participants_offset);
	c->max_slots = h->slots / 2 > 1 ? h->slots / 2 : 1;
	c->max_message = c->max_slots * h->slot_size;
	c->max_steps = 64 * h->slots + 65536;
	c->max_deliveries = h->max_deliveries;
	c->start = h->start;
	c->fd = -1;
}

MR_FAST struct millrace_entry *mr_entry(const mr_core *c, uint64_t p)
{
	return (struct millrace_entry *)(void *)(c->entries + ((p & c->mask) << c->stride_shift));
}
MR_FAST uint64_t *mr_state(const mr_core *c, uint64_t p) { return &mr_entry(c, p)->state; }
MR_FAST uint8_t *mr_inline_at(struct millrace_entry *e) { return (uint8_t *)e + MILLRACE_ENTRY_SIZE; }
MR_FAST uint8_t *mr_cell(const mr_core *c, uint64_t p) { return c->data + (p & c->mask) * c->slot_size; }

/* Takes the lines of the n bytes of the message at h, other than that of its entry. */
MR_FAST void mr_take_payload(const mr_core *c, struct millrace_entry *e, uint64_t h, uint64_t n)
{
	if (n <= c->inline_size)
		mr_take_lines((uint8_t *)e + MR_CACHE_LINE, n - c->beside);
	else
		mr_take_lines(mr_cell(c, h), n);
}

/* How many slots n bytes take. */
MR_FAST uint64_t mr_slots_for(const mr_core *c, uint64_t n) { return n <= c->slot_size ? 1 : (n + c->slot_size - 1) / c->slot_size; }

/* How many slots must be stepped over so that k slots from t on do not wrap. */
MR_FAST uint64_t mr_pad(const mr_core *c, uint64_t t, uint64_t k)
{
	uint64_t left = c->slots - (t & c->mask);
	return k > left ? left : 0;
}

/* Where n bytes of a message at position p go, and its length word. */
MR_FAST uint8_t *mr_place(const mr_core *c, uint64_t p, uint64_t n, uint64_t *word)
{
	if (n <= c->inline_size) {
		*word = n | MILLRACE_FLAG_INLINE;
		return mr_inline_at(mr_entry(c, p));
	}
	*word = n;
	return mr_cell(c, p);
}

/* The payload of the message at p that takes k slots, from its length word; NULL when the word cannot be true. */
MR_FAST const uint8_t *mr_payload(const mr_core *c, uint64_t p, uint64_t k, uint64_t length, uint64_t *n)
{
	*n = length & MILLRACE_LENGTH_MASK;
	switch (length & ~MILLRACE_LENGTH_MASK) {
	case 0:
		if (k == 0 || k > c->max_slots || *n > k * c->slot_size || (p & c->mask) + k > c->slots || (k > 1 && *n <= (k - 1) * c->slot_size))
			return NULL;
		return mr_cell(c, p);
	case MILLRACE_FLAG_INLINE:
		return k == 1 && *n <= c->inline_size ? mr_inline_at(mr_entry(c, p)) : NULL;
	default:
		return NULL;
	}
}

/* mr_payload for a message of one slot. */
MR_FAST const uint8_t *mr_single(const mr_core *c, struct millrace_entry *e, uint64_t p, uint64_t length, uint64_t *n)
{
	if (mr_likely((length & MILLRACE_FLAG_INLINE) != 0)) {
		*n = length & ~MILLRACE_FLAG_INLINE;
		return mr_likely(*n <= c->inline_size) ? mr_inline_at(e) : NULL;
	}
	*n = length;
	return mr_likely(*n <= c->slot_size) ? mr_cell(c, p) : NULL;
}

/* Bits of the ring's ending word, which is the guard's `lost`. */
enum { MR_ENDING_LOST = 1, MR_ENDING_SHUT = 2 };

MR_FAST bool mr_is_lost(const mr_core *c) { return mr_unlikely((mr_load32_rlx(c->lost) & MR_ENDING_LOST) != 0); }
MR_FAST bool mr_was_removed(const mr_core *c) { return mr_load32_acq(&c->ctl->removed) != 0; } /* order: X6 acq, pairs X6 */

/* Writes the words of a new ring. The memory is zero and nobody else sees it yet. order: F0 rlx, pairs F1 */
MR_SLOW void mr_initialise(uint8_t *mem, const struct millrace_header *h)
{
	mr_core c;
	mr_core_init(&c, mem, h);
	mr_store_rlx(&c.ctl->producer_position, h->start);
	mr_store_rlx(&c.ctl->consumer_position, h->start);
	mr_store_rlx(&c.ctl->lease_end, h->start);
	mr_store_rlx(&c.ctl->space_position, h->start);
	mr_store_rlx(&c.ctl->run_end, h->start);
	for (uint64_t i = 0; c.kind == MR_MPMC && i < c.slots; i++)
		mr_store_rlx(mr_state(&c, h->start + i), mr_free_word(h->start + i));
}

#endif /* MILLRACE_CORE_H */
