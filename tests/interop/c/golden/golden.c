/*
 * golden: reads the ring q, a copy of a golden segment (fuzz/golden/README.md), and prints what it finds, one thing a line:
 *   refused CLASS | stats LINE | receive POSITION DELIVERIES PAYLOAD | end HOW | after LOST SKIPPED | laps ok
 */
#include "millrace.h"

static int fail(const char *what)
{
	fprintf(stderr, "golden: %s: %s\n", what, mr_error());
	return 1;
}

static void print_stats(const mr_stats *s)
{
	const struct {
		const char *name;
		uint64_t value;
	} all[] = {
		{"slots", s->slots}, {"used", s->used}, {"producer_position", s->producer_position}, {"consumer_position", s->consumer_position}, {"sent", s->sent},
		{"received", s->received}, {"redelivered", s->redelivered}, {"lost", s->lost}, {"skipped", s->skipped}, {"padding", s->padding}, {"discarded", s->discarded},
		{"recoveries", s->recoveries}, {"sleeps", s->sleeps}, {"wakes", s->wakes}, {"producers_ever", s->producers_ever}, {"producers_live", s->producers_live},
		{"producers_died", s->producers_died}, {"consumers_ever", s->consumers_ever}, {"consumers_live", s->consumers_live}, {"consumers_died", s->consumers_died},
	};
	printf("stats");
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		printf(" %s=%llu", all[i].name, (unsigned long long)all[i].value);
	printf("\n");
}

/* Receives to the end; how it ended, or NULL. */
static const char *receive(mr_consumer *q, uint8_t *buf, size_t capacity, bool ever)
{
	for (;;) {
		size_t n = 0;
		uint64_t position;
		uint32_t deliveries;
		int status = ever ? mr_receive(q, buf, capacity, &n, 60 * MR_SECOND) : mr_try_receive(q, buf, capacity, &n);
		if (status == MR_EOF)
			return "eof";
		if (status == MR_EMPTY)
			return "waiting";
		if (status != MR_OK)
			return NULL;
		mr_last(q, &position, &deliveries);
		printf("receive %llu %u ", (unsigned long long)position, deliveries);
		for (size_t i = 0; i < n; i++)
			printf("%02x", buf[i]);
		printf("\n");
	}
}

/* Sends and receives three laps, to see that every slot of the ring is of use again. */
static bool run_laps(mr_ring *r, mr_consumer *q, uint8_t *buf, size_t capacity, uint64_t slots)
{
	mr_producer *p;
	size_t n = 0;
	int status = mr_producer_new(r, 0, &p);
	if (status == MR_MISMATCH)
		return true; /* typed */
	for (uint64_t i = 0; status == MR_OK && i < 3 * slots; i++) {
		uint8_t sent = (uint8_t)i;
		status = mr_try_send(p, &sent, 1);
		if (status == MR_OK)
			status = mr_try_receive(q, buf, capacity, &n);
		if (status == MR_OK && (n != 1 || buf[0] != sent))
			return false;
	}
	return status == MR_OK && mr_producer_close(p) == MR_OK;
}

int main(void)
{
	mr_ring *r;
	mr_consumer *q;
	mr_stats s;
	int status = mr_open(&r, "q", NULL, MR_READ_ONLY);
	if (status == MR_NOT_SEGMENT || status == MR_BYTE_ORDER || status == MR_VERSION || status == MR_LAYOUT || status == MR_CORRUPT) {
		static const char *const classes[] = {"not_segment", "byte_order", "version", "layout", "corrupt"};
		printf("refused %s\n", mr_open(&r, "q", NULL, 0) == status ? classes[status - MR_NOT_SEGMENT] : "differently");
		return 0;
	}
	if (status != MR_OK || mr_ring_stats(r, &s) != MR_OK || mr_close(r) != MR_OK)
		return fail("observe");
	print_stats(&s);
	if (mr_open(&r, "q", NULL, 0) != MR_OK)
		return fail("open");
	status = mr_consumer_new(r, 0, 0, &q);
	if (status == MR_LOST) {
		printf("end removed\n");
		return mr_close(r) != MR_OK;
	}
	if (status != MR_OK || mr_recover(r, NULL) != MR_OK)
		return fail("recover");
	const size_t capacity = mr_max_message(r);
	uint8_t *buf = (uint8_t *)malloc(capacity);
	const char *end = buf == NULL ? NULL : receive(q, buf, capacity, s.producers_ever > 0);
	if (end == NULL)
		return fail("receive");
	printf("end %s\n", end);
	if (mr_ring_stats(r, &s) != MR_OK || s.used != 0)
		return fail("stats");
	printf("after %llu %llu\n", (unsigned long long)s.lost, (unsigned long long)s.skipped);
	if (mr_load_acq(&q->h.c.ctl->journal) != 0)
		return fail("the journal is left over");
	if (s.producers_ever > 0 && !run_laps(r, q, buf, capacity, s.slots))
		return fail("laps");
	free(buf);
	return mr_close(r) == MR_OK && mr_remove("q", NULL, MR_IF_DRAINED) == MR_OK ? 0 : fail("remove");
}
