/* Checks of the C client's own tests. */
#ifndef UNIT_H
#define UNIT_H

#include "millrace.h"

#include <sys/wait.h>

#define CHECK(x)                                                                                                       \
	do {                                                                                                               \
		if (!(x)) {                                                                                                    \
			fprintf(stderr, "%s:%d: %s is false (%s)\n", __FILE__, __LINE__, #x, mr_error());                          \
			exit(1);                                                                                                   \
		}                                                                                                              \
	} while (0)

#define STATUS(want, call)                                                                                             \
	do {                                                                                                               \
		int got_ = (call);                                                                                             \
		if (got_ != (want)) {                                                                                          \
			fprintf(stderr, "%s:%d: %s: %s, want %s (%s)\n", __FILE__, __LINE__, #call, mr_strerror(got_),             \
			        mr_strerror(want), mr_error());                                                                    \
			exit(1);                                                                                                   \
		}                                                                                                              \
	} while (0)

#define OK(call) STATUS(MR_OK, call)

typedef struct test {
	const char *name;
	void (*run)(void);
} test;

extern const test basic_tests[], hostile_tests[], thread_tests[];

/* A new ring under a name that is free again when it is closed and removed. */
static inline mr_ring *ring_of(uint32_t kind, uint64_t slots, uint64_t slot_size)
{
	mr_options o;
	mr_ring *r;
	memset(&o, 0, sizeof o);
	o.kind = kind;
	o.slots = slots;
	o.slot_size = slot_size;
	o.participants = 8;
	(void)mr_remove("unit", NULL, MR_FORCE); /* of a test that failed */
	OK(mr_create(&r, "unit", &o));
	return r;
}

static inline void drop(mr_ring *r)
{
	OK(mr_close(r));
	OK(mr_remove("unit", NULL, 0));
}

#endif /* UNIT_H */
