/*
 * Copying into and out of a ring. The library's memcpy is for memory that one processor uses: from some kilobytes on it may use an instruction of the
 * processor for strings, and from a MiB on stores that pass the caches; both can be slow for lines that another core has, or wants next: by a third, or not at all, by where in its page the
 * buffer lies.
 */
#ifndef MILLRACE_COPY_H
#define MILLRACE_COPY_H

#include "millrace_atomic.h"

#include <string.h>

enum {
	MR_LONG = 8192,   /* more bytes than this are copied in parts; below it, in a ring that stays in the caches, memcpy is as fast or faster */
	MR_PART = 31 * 64 /* of so many */
};

/* Two 16-byte pieces at the ends of n bytes, which may overlap each other. */
MR_FAST void mr_copy_ends(uint8_t *to, const uint8_t *from, size_t n, size_t inner)
{
	uint64_t a[2], b[2];
	memcpy(a, from + inner, 16);
	memcpy(b, from + n - 16 - inner, 16);
	memcpy(to + inner, a, 16);
	memcpy(to + n - 16 - inner, b, 16);
}

/* Copies 64 to 512 bytes. The second step may overlap the first. */
MR_FAST void mr_copy_lines(uint8_t *to, const uint8_t *from, size_t n)
{
	uint64_t line[8];
	for (size_t step = ((n - 1) & 63) + 1;; step = 64) {
		memcpy(line, from, sizeof line);
		memcpy(to, line, sizeof line);
		if (n == step)
			return;
		n -= step;
		to += step;
		from += step;
	}
}

/* Copies more than MR_LONG bytes. */
MR_SLOW void mr_copy_parts(uint8_t *to, const uint8_t *from, size_t n)
{
	for (size_t part = MR_PART; n > part; n -= part, to += part, from += part) {
		__asm__ volatile("" : "+r"(part) : : "memory"); /* nor may the compiler do so, which sees the size, or that all of it is one memcpy */
		memcpy(to, from, part);
	}
	memcpy(to, from, n);
}

/* Copies n bytes; small ones without a call, which would cost as much as the rest of a send. NULL is fine for nothing. */
MR_FAST void mr_copy(void *to, const void *from, size_t n)
{
	if (n - 8 <= 8) {
		uint64_t a, b;
		memcpy(&a, from, 8);
		memcpy(&b, (const uint8_t *)from + n - 8, 8);
		memcpy(to, &a, 8);
		memcpy((uint8_t *)to + n - 8, &b, 8);
	} else if (n - 8 <= 24) {
		mr_copy_ends((uint8_t *)to, (const uint8_t *)from, n, 0);
	} else if (n - 8 <= 56) {
		mr_copy_ends((uint8_t *)to, (const uint8_t *)from, n, 0);
		mr_copy_ends((uint8_t *)to, (const uint8_t *)from, n, 16);
	} else if (n - 8 <= 504) {
		mr_copy_lines((uint8_t *)to, (const uint8_t *)from, n);
	} else if (n > MR_LONG) {
		mr_copy_parts((uint8_t *)to, (const uint8_t *)from, n);
	} else if (n > 0) {
		memcpy(to, from, n);
	}
}

#endif
