/* Messages of tests/interop/PEER.md. */
#ifndef MESSAGE_H
#define MESSAGE_H

#include "millrace.h"

#include <stdlib.h>

typedef struct sizes {
	uint64_t from, to;
} sizes;

static inline uint64_t size_of(sizes s, uint64_t seq) { return s.from + seq * 7919 % (s.to - s.from + 1); }

/* Writes bytes [0, n) of message seq of stream seed. */
static inline void fill(uint8_t *b, size_t n, uint64_t seed, uint64_t seq)
{
	uint64_t x = (seed ^ seq * UINT64_C(0x9E3779B97F4A7C15)) | 1;
	for (size_t i = 0; i < n; i += 8) {
		uint64_t word = i == 0 ? seq : seed;
		if (i >= 16) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			word = x;
		}
		memcpy(b + i, &word, n - i < 8 ? n - i : 8);
	}
}

/* Reads which message b is; false when the rest of it is not what it must be. */
static inline bool identify(const uint8_t *b, size_t n, uint64_t *seed, uint64_t *seq)
{
	uint64_t head[2] = {0, 0};
	memcpy(head, b, n < sizeof head ? n : sizeof head);
	*seq = head[0];
	*seed = head[1];
	uint8_t *want = (uint8_t *)malloc(n + 1);
	if (want == NULL)
		abort();
	fill(want, n, *seed, *seq);
	bool whole = n <= sizeof head || memcmp(want, b, n) == 0;
	free(want);
	return whole;
}

#endif /* MESSAGE_H */
