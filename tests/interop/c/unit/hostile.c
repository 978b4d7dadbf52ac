/* Arbitrary bytes in the segment: every call returns, within its memory. */
#include "unit.h"

enum { ROUNDS = 3000 };

static uint64_t rng_state = UINT64_C(0x243F6A8885A308D3);

static uint64_t rng(void)
{
	rng_state ^= rng_state << 13;
	rng_state ^= rng_state >> 7;
	rng_state ^= rng_state << 17;
	return rng_state;
}

/* A value that is likely to hurt: near the truth, near a boundary, or anything. */
static uint64_t hurt(uint64_t old)
{
	switch (rng() % 6) {
	case 0: return old + rng() % 5 - 2;
	case 1: return old ^ UINT64_C(1) << rng() % 64;
	case 2: return mr_owned_word(rng() % 40, (uint32_t)(rng() % 10), rng() % 256);
	case 3: return ~UINT64_C(0) - rng() % 3;
	case 4: return rng() % 64;
	default: return rng();
	}
}

/* Changes some words of the ring behind the header. */
static void spoil(mr_ring *r)
{
	const struct millrace_header *h = &r->segment.header;
	uint64_t *words = (uint64_t *)(void *)r->segment.mem;
	for (uint64_t i = 1 + rng() % 3; i > 0; i--) {
		uint64_t at = rng() % 3 == 0 ? MILLRACE_CONTROL_OFFSET + rng() % 800
		              : rng() % 2 == 0 ? h->participants_offset + rng() % ((uint64_t)h->participants * MILLRACE_PARTICIPANT_SIZE)
		                               : h->entries_offset + rng() % (h->slots * h->entry_stride);
		words[at / 8] = hurt(words[at / 8]);
	}
}

/* Makes some calls; what they answer is of no interest, that they return is. */
static void use(mr_producer **p, mr_consumer **q, mr_ring *r)
{
	static uint8_t buf[4096];
	mr_stats stats;
	mr_participant list[8];
	size_t n;
	void *room;
	mr_slice s[3] = {{buf, 10}, {buf, 40}, {buf, 10}};
	for (int i = 0; i < 6; i++) {
		switch (rng() % 10) {
		case 0: (void)mr_try_send(*p, buf, rng() % 130); break;
		case 1: (void)mr_try_send_batch(*p, s, 3, &n); break;
		case 2: (void)mr_try_send_array(*p, buf, 32, 4, &n); break;
		case 3:
			if (mr_try_reserve(*p, rng() % 130, &room) == MR_OK)
				(void)(rng() % 2 == 0 ? mr_commit(*p, 0) : mr_discard(*p));
			break;
		case 4:
		case 5: (void)mr_try_receive(*q, buf, sizeof buf, &n); break;
		case 6:
		case 7:
			if (mr_try_next_batch(*q, 1 + rng() % 9, &n) == MR_OK) {
				for (size_t k = 0; k < n; k++) {
					mr_message m = mr_at(*q, k);
					if (m.size > 0)
						memcpy(buf, m.data, m.size);
				}
				(void)(rng() % 2 == 0 ? mr_release(*q) : mr_return(*q, 0));
			}
			break;
		case 8: (void)mr_ring_stats(r, &stats); break;
		default: (void)mr_participants(r, list, 8, &n);
		}
	}
}

static void hostile_ring(uint32_t kind)
{
	for (int round = 0; round < ROUNDS; round++) {
		mr_ring *r = ring_of(kind, UINT64_C(1) << rng() % 5, 32);
		mr_producer *p;
		mr_consumer *q;
		OK(mr_producer_new(r, 0, &p));
		OK(mr_consumer_new(r, 0, 0, &q));
		for (int i = 0; i < 8; i++) {
			use(&p, &q, r);
			spoil(r);
		}
		(void)mr_recover(r, NULL);
		mr_producer *p2;
		mr_consumer *q2;
		if (kind == MR_SPSC && round % 256 != 0) { /* a role that is locked, and that the table does not explain, is waited for */
			(void)mr_producer_close(p);
			(void)mr_consumer_close(q);
		}
		if (mr_producer_new(r, 0, &p2) == MR_OK)
			(void)mr_try_send(p2, "x", 1);
		if (mr_consumer_new(r, 0, 0, &q2) == MR_OK)
			(void)mr_consumer_close(q2);
		(void)mr_close(r);
		OK(mr_remove("unit", NULL, 0));
	}
}

static void hostile_spsc(void) { hostile_ring(MR_SPSC); }
static void hostile_mpmc(void) { hostile_ring(MR_MPMC); }

/* Every byte of the header, changed one at a time, is refused, with the checksum as it was and with one that fits. */
static void hostile_header(void)
{
	mr_ring *r = ring_of(MR_MPMC, 16, 64), *s;
	char path[MR_PATH];
	struct millrace_header good, bad;
	memcpy(&good, r->segment.mem, sizeof good);
	memcpy(path, r->segment.path, sizeof path);
	const uint64_t size = good.segment_size;
	CHECK(mr_check_header(&good, sizeof good, size) == MR_OK);
	for (size_t i = 0; i < MILLRACE_HEADER_READY_OFFSET + 4; i++) {
		bad = good;
		((uint8_t *)&bad)[i] ^= 0x41;
		CHECK(mr_check_header(&bad, sizeof bad, size) != MR_OK);
	}
	for (int i = 0; i < 100000; i++) {
		bad = good;
		const size_t at = rng() % MILLRACE_HEADER_CHECKSUM_OFFSET;
		((uint8_t *)&bad)[at] = (uint8_t)rng();
		bad.checksum = mr_checksum(&bad);
		if (mr_check_header(&bad, sizeof bad, size) == MR_OK) /* what it says must then lie within the file */
			CHECK(bad.segment_size <= size && bad.data_offset + bad.slots * bad.slot_size <= size);
	}
	CHECK(mr_check_header(&good, sizeof good, size - 1) == MR_CORRUPT);
	CHECK(mr_check_header(&good, 4095, size) == MR_NOT_SEGMENT);
	OK(mr_close(r));
	CHECK(truncate(path, (off_t)size - 1) == 0);
	STATUS(MR_CORRUPT, mr_open(&s, "unit", NULL, 0));
	CHECK(truncate(path, 100) == 0);
	STATUS(MR_NOT_SEGMENT, mr_open(&s, "unit", NULL, 0));
	OK(mr_remove("unit", NULL, 0));
	CHECK(mkdir(path, 0700) == 0);
	STATUS(MR_NOT_SEGMENT, mr_open(&s, "unit", NULL, 0));
	CHECK(rmdir(path) == 0 && symlink("/dev/null", path) == 0);
	STATUS(MR_SYSTEM, mr_open(&s, "unit", NULL, 0));
	CHECK(unlink(path) == 0);
}

const test hostile_tests[] = {{"hostile_header", hostile_header}, {"hostile_spsc", hostile_spsc}, {"hostile_mpmc", hostile_mpmc}, {NULL, NULL}};
