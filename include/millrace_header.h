/* The header of a segment: geometry, checksum, and the checks of docs/FORMAT.md section 4. Pure arithmetic on bytes. */
#ifndef MILLRACE_HEADER_H
#define MILLRACE_HEADER_H

#include "millrace_layout.h"
#include "millrace_status.h"

#define MR_PAGE UINT64_C(4096)
#define MR_PAGE_2M (UINT64_C(1) << 21)
#define MR_PAGE_1G (UINT64_C(1) << 30)
#define MR_ACCOUNT_SIZE 8 /* FORMAT 2 */

/* XXH64 (Yann Collet, the XXH64 specification) with seed 0. */
#define MR_XXH1 UINT64_C(0x9E3779B185EBCA87)
#define MR_XXH2 UINT64_C(0xC2B2AE3D27D4EB4F)
#define MR_XXH3 UINT64_C(0x165667B19E3779F9)
#define MR_XXH4 UINT64_C(0x85EBCA77C2B2AE63)
#define MR_XXH5 UINT64_C(0x27D4EB2F165667C5)

MR_FAST uint64_t mr_rotl(uint64_t x, unsigned n) { return x << n | x >> (64 - n); }

MR_FAST uint64_t mr_xxh_word(const uint8_t *b, size_t n)
{
	uint64_t v = 0;
	memcpy(&v, b, n);
	return v;
}

MR_FAST uint64_t mr_xxh_round(uint64_t acc, uint64_t v) { return mr_rotl(acc + v * MR_XXH2, 31) * MR_XXH1; }

MR_SLOW uint64_t mr_xxh64(const uint8_t *b, size_t n)
{
	static const unsigned turn[4] = {1, 7, 12, 18};
	uint64_t h = MR_XXH5;
	size_t left = n;
	if (n >= 32) {
		uint64_t acc[4] = {MR_XXH1 + MR_XXH2, MR_XXH2, 0, (uint64_t)0 - MR_XXH1};
		for (; left >= 32; b += 32, left -= 32)
			for (unsigned i = 0; i < 4; i++)
				acc[i] = mr_xxh_round(acc[i], mr_xxh_word(b + 8 * i, 8));
		h = 0;
		for (unsigned i = 0; i < 4; i++)
			h += mr_rotl(acc[i], turn[i]);
		for (unsigned i = 0; i < 4; i++)
			h = (h ^ mr_xxh_round(0, acc[i])) * MR_XXH1 + MR_XXH4;
	}
	h += n;
	for (; left >= 8; b += 8, left -= 8)
		h = mr_rotl(h ^ mr_xxh_round(0, mr_xxh_word(b, 8)), 27) * MR_XXH1 + MR_XXH4;
	if (left >= 4) {
		h = mr_rotl(h ^ mr_xxh_word(b, 4) * MR_XXH1, 23) * MR_XXH2 + MR_XXH3;
		b += 4;
		left -= 4;
	}
	for (; left > 0; b++, left--)
		h = mr_rotl(h ^ *b * MR_XXH5, 11) * MR_XXH1;
	h = (h ^ h >> 33) * MR_XXH2;
	h = (h ^ h >> 29) * MR_XXH3;
	return h ^ h >> 32;
}

MR_FAST uint64_t mr_checksum(const struct millrace_header *h)
{
	return mr_xxh64((const uint8_t *)h, offsetof(struct millrace_header, checksum));
}

/* The page size that a segment is rounded up to. */
MR_FAST uint64_t mr_page_size(uint32_t huge)
{
	return huge == MR_TRANSPARENT || huge == MR_HUGE_2M ? MR_PAGE_2M : huge == MR_HUGE_1G ? MR_PAGE_1G : MR_PAGE;
}

MR_FAST uint64_t mr_round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

/* The limits of FORMAT 2 on what a creator chooses: the name of the first field that is outside, or NULL. */
MR_SLOW const char *mr_outside(const struct millrace_header *h, uint64_t *got)
{
	const struct {
		const char *field;
		uint64_t got;
		bool fits;
	} limits[] = {
		{"kind", h->kind, h->kind == MR_SPSC || h->kind == MR_MPMC},
		{"policy", h->policy, h->policy == MR_REDELIVER || h->policy == MR_DROP},
		{"slots", h->slots, h->slots >= 1 && h->slots <= MILLRACE_MAX_SLOTS && (h->slots & (h->slots - 1)) == 0},
		{"slot_size", h->slot_size, h->slot_size >= 1 && h->slot_size <= MILLRACE_MAX_SLOT_SIZE && h->slot_size <= MILLRACE_MAX_DATA_SIZE / (h->slots ? h->slots : 1)},
		{"entry_stride", h->entry_stride, h->entry_stride == 16 || h->entry_stride == 32 || h->entry_stride == 64 || h->entry_stride == 128},
		{"participants", h->participants, h->participants >= 1 && h->participants <= MILLRACE_MAX_PARTICIPANTS},
		{"max_deliveries", h->max_deliveries, h->max_deliveries <= MILLRACE_DELIVERIES_WRAP},
		{"flags", h->flags, (h->flags & ~(uint32_t)MILLRACE_HEADER_FLAG_TEMPORARY) == 0},
		{"backing", h->backing, h->backing >= MR_POSIX && h->backing <= MR_MEMFD},
		{"huge", h->huge, h->huge <= MR_HUGE_1G},
		{"mode", h->mode, (h->mode & ~0777u) == 0},
	};
	for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
		if (!limits[i].fits) {
			*got = limits[i].got;
			return limits[i].field;
		}
	}
	return NULL;
}

/* Computes sizes and offsets from the options, which are within the limits: the largest sum is below 2^42. */
MR_SLOW void mr_geometry(struct millrace_header *h)
{
	h->header_size = MILLRACE_HEADER_SIZE;
	h->inline_size = h->entry_stride - (uint32_t)MILLRACE_ENTRY_SIZE;
	h->participant_stride = MILLRACE_PARTICIPANT_SIZE;
	h->participants_offset = MILLRACE_PARTICIPANTS_OFFSET;
	h->entries_offset = mr_round_up(h->participants_offset + (uint64_t)h->participants * MILLRACE_PARTICIPANT_SIZE, MR_PAGE);
	h->accounts_offset = mr_round_up(h->entries_offset + h->slots * h->entry_stride, MR_PAGE);
	h->data_offset = mr_round_up(h->accounts_offset + h->slots * MR_ACCOUNT_SIZE, MR_PAGE);
	h->segment_size = mr_round_up(h->data_offset + h->slots * h->slot_size, mr_page_size(h->huge));
}

/*
 * Checks a header, of which `have` bytes were read from a file of file_size bytes, in the order of FORMAT 4, Opening, step 4. A System V anchor says
 * nothing about the size of its segment.
 */
MR_SLOW int mr_check_header(const struct millrace_header *h, uint64_t have, uint64_t file_size)
{
	if (have < sizeof *h || file_size < sizeof *h)
		return mr_fail_format(MR_NOT_SEGMENT, "file size", have < file_size ? have : file_size, sizeof *h);
	if (memcmp(h->magic, MILLRACE_MAGIC, sizeof h->magic) != 0)
		return mr_fail_format(MR_NOT_SEGMENT, "magic", mr_xxh_word(h->magic, 8), mr_xxh_word((const uint8_t *)MILLRACE_MAGIC, 8));
	if (h->byte_order != MILLRACE_BYTE_ORDER)
		return mr_fail_format(MR_BYTE_ORDER, "byte_order", h->byte_order, MILLRACE_BYTE_ORDER);
	if (h->version != MILLRACE_VERSION)
		return mr_fail_format(MR_VERSION, "version", h->version, MILLRACE_VERSION);
	if (h->layout != MILLRACE_FINGERPRINT)
		return mr_fail_format(MR_LAYOUT, "layout", h->layout, MILLRACE_FINGERPRINT);
	if (h->checksum != mr_checksum(h))
		return mr_fail_format(MR_CORRUPT, "checksum", h->checksum, mr_checksum(h));
	if (h->ready != 1)
		return mr_fail_format(MR_CORRUPT, "ready", h->ready, 1);
	uint64_t got = 0;
	const char *field = mr_outside(h, &got);
	if (field != NULL)
		return mr_fail(MR_CORRUPT, "segment is corrupt: %s is %llu", field, (unsigned long long)got);
	for (size_t i = 0; i < sizeof h->reserved_172; i++)
		if (h->reserved_172[i] != 0)
			return mr_fail(MR_CORRUPT, "segment is corrupt: reserved byte %zu is %u", offsetof(struct millrace_header, reserved_172) + i, h->reserved_172[i]);
	struct millrace_header want = *h;
	mr_geometry(&want);
	const struct {
		const char *field;
		uint64_t got, want;
	} computed[] = {
		{"header_size", h->header_size, want.header_size},
		{"inline_size", h->inline_size, want.inline_size},
		{"participant_stride", h->participant_stride, want.participant_stride},
		{"participants_offset", h->participants_offset, want.participants_offset},
		{"entries_offset", h->entries_offset, want.entries_offset},
		{"accounts_offset", h->accounts_offset, want.accounts_offset},
		{"data_offset", h->data_offset, want.data_offset},
		{"segment_size", h->segment_size, want.segment_size},
	};
	for (size_t i = 0; i < sizeof computed / sizeof computed[0]; i++)
		if (computed[i].got != computed[i].want)
			return mr_fail_format(MR_LAYOUT, computed[i].field, computed[i].got, computed[i].want);
	if (h->backing != MR_SYSV && file_size < h->segment_size)
		return mr_fail_format(MR_CORRUPT, "file size", file_size, h->segment_size);
	return MR_OK;
}

#endif /* MILLRACE_HEADER_H */
