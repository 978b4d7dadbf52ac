/* One process, several threads, each with handles of its own: every message arrives once, in the order of its producer. Run under the thread sanitizer, too. */
#include "unit.h"

#include <sys/mman.h>

enum { MESSAGES = 20000, MOST = 4 };

typedef struct job {
	mr_ring *ring;
	unsigned number;
	uint8_t *seen; /* MOST * MESSAGES */
	pthread_t thread;
} job;

typedef struct letter {
	uint64_t from, seq, check;
} letter;

static void *produce(void *arg)
{
	const job *j = (const job *)arg;
	mr_producer *p;
	OK(mr_producer_new(j->ring, 0, &p));
	for (uint64_t i = 0; i < MESSAGES;) {
		letter l[3];
		for (uint64_t k = 0; k < 3; k++) {
			l[k].from = j->number;
			l[k].seq = i + k;
			l[k].check = ~l[k].seq;
		}
		void *room;
		size_t sent;
		switch (i % 4) {
		case 0:
			OK(mr_reserve(p, sizeof l[0], &room, MR_FOREVER));
			memcpy(room, &l[0], sizeof l[0]);
			OK(mr_commit(p, sizeof l[0]));
			i++;
			break;
		case 1:
			OK(mr_send_array(p, l, sizeof l[0], i + 3 <= MESSAGES ? 3 : 1, &sent, MR_FOREVER));
			i += sent;
			break;
		default:
			OK(mr_send(p, &l[0], sizeof l[0], MR_FOREVER));
			i++;
		}
	}
	OK(mr_producer_close(p));
	return NULL;
}

static void note(job *j, const letter *l, uint64_t *newest)
{
	CHECK(l->from < MOST && l->seq < MESSAGES && l->check == ~l->seq);
	CHECK(l->seq + 1 > newest[l->from]);
	newest[l->from] = l->seq + 1;
	CHECK(__atomic_fetch_add(&j->seen[l->from * MESSAGES + l->seq], 1, __ATOMIC_RELAXED) == 0);
}

static void *consume(void *arg)
{
	job *j = (job *)arg;
	mr_consumer *q;
	uint64_t newest[MOST] = {0, 0, 0, 0};
	int status;
	size_t n;
	OK(mr_consumer_new(j->ring, 0, 0, &q));
	for (unsigned i = 0;; i++) {
		letter l;
		if (i % 2 == 0) {
			if ((status = mr_receive(q, &l, sizeof l, &n, MR_FOREVER)) != MR_OK)
				break;
			note(j, &l, newest);
			continue;
		}
		if ((status = mr_next_batch(q, 4, &n, MR_FOREVER)) != MR_OK)
			break;
		for (size_t k = 0; k < n; k++) {
			memcpy(&l, mr_at(q, k).data, sizeof l);
			note(j, &l, newest);
		}
		OK(mr_release(q));
	}
	STATUS(MR_EOF, status);
	OK(mr_consumer_close(q));
	return NULL;
}

static void run_threads(uint32_t kind, unsigned producers, unsigned consumers, uint64_t slots, uint64_t slot_size)
{
	mr_ring *r = ring_of(kind, slots, slot_size);
	job jobs[2 * MOST];
	uint8_t *seen = (uint8_t *)calloc(MOST, MESSAGES);
	mr_producer *first = NULL;
	CHECK(seen != NULL);
	if (kind == MR_MPMC) /* nobody finds the end of the stream before all have begun */
		OK(mr_producer_new(r, 0, &first));
	for (unsigned i = 0; i < producers + consumers; i++) {
		jobs[i].ring = r;
		jobs[i].number = i;
		jobs[i].seen = seen;
		CHECK(pthread_create(&jobs[i].thread, NULL, i < producers ? produce : consume, &jobs[i]) == 0);
	}
	for (unsigned i = 0; i < producers + consumers; i++) {
		if (i == producers)
			OK(mr_producer_close(first));
		CHECK(pthread_join(jobs[i].thread, NULL) == 0);
	}
	for (size_t i = 0; i < (size_t)producers * MESSAGES; i++)
		CHECK(seen[i] == 1);
	free(seen);
	drop(r);
}

static void spsc_threads(void) { run_threads(MR_SPSC, 1, 1, 64, 32); }
static void mpmc_threads(void) { run_threads(MR_MPMC, 3, 3, 64, 32); }

/* Producers would like most of a large ring to be free before they go on, and do with less. */
static void spsc_large(void) { run_threads(MR_SPSC, 1, 1, 16, 128 << 10); }
static void mpmc_large(void) { run_threads(MR_MPMC, 3, 3, 16, 128 << 10); }

/* Byte i of message number. */
static uint8_t stamp(uint64_t number, size_t i) { return (uint8_t)(number >> i % 3 * 8 ^ i); }

/* Lets nobody write to the pages between from and to, which are after those of anything at from - 1. */
static void protect(const uint8_t *from, const uint8_t *to, int how)
{
	const uintptr_t begin = mr_round_up((uintptr_t)from, MR_PAGE), end = (uintptr_t)to & ~(uintptr_t)(MR_PAGE - 1);
	if (begin < end)
		CHECK(mprotect((void *)begin, end - begin, how) == 0);
}

/* A consumer that takes the lines of messages for its core changes nothing there, and writes to nothing beside them, whatever the sizes of slots and messages. */
static void take_lines(uint32_t kind)
{
	static const size_t sizes[][2] = {{8, 8}, {8, 5}, {32, 24}, {48, 48}, {49, 49}, {64, 64}, {64, 50}, {100, 97}, {112, 112}, {113, 113}, {256, 256}, {600, 511}, {600, 600}};
	for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
		mr_ring *r = ring_of(kind, 1024, sizes[k][0]);
		mr_producer *p;
		mr_consumer *q;
		static uint8_t msg[32 * 600], buf[600]; /* the first of 32 messages, or all of them */
		size_t n, got;
		OK(mr_producer_new(r, 0, &p));
		OK(mr_consumer_new(r, 0, 0, &q));
		mr_core *c = &q->h.c;
		c->take_lines = true;
		const uint64_t page = MR_PAGE >> c->stride_shift; /* entries in a page */
		for (uint64_t lap = 0; lap < 3; lap++) {
			for (uint64_t m = 0; m < 1024; m++) {
				for (size_t i = 0; i < sizes[k][1]; i++)
					msg[i] = stamp(m, i);
				if (lap < 2)
					OK(mr_send(p, msg, sizes[k][1], 0));
			}
			if (lap == 2) /* in runs */
				for (uint64_t m = 0; m < 1024; m += 32)
					OK(mr_send_array(p, msg, sizes[k][1], 32, &n, 0));
			for (uint64_t m = 0; m < 1024; m++) {
				protect(c->entries + ((m / page + 1) * page << c->stride_shift), c->entries + (1024 << c->stride_shift), PROT_READ);
				protect(mr_cell(c, m) + c->slot_size, c->data + 1024 * c->slot_size, PROT_READ);
				if (lap == 2) {
					OK(mr_receive_array(q, buf, sizes[k][1], 1, NULL, &got, 0));
					CHECK(got == 1);
				} else {
					OK(mr_receive(q, buf, sizeof buf, &n, 0));
					CHECK(n == sizes[k][1]);
					for (size_t i = 0; i < n; i++)
						CHECK(buf[i] == stamp(m, i));
				}
				protect(c->entries, c->entries + (1024 << c->stride_shift), PROT_READ | PROT_WRITE);
				protect(c->data, c->data + 1024 * c->slot_size, PROT_READ | PROT_WRITE);
			}
		}
		OK(mr_consumer_close(q));
		OK(mr_producer_close(p));
		drop(r);
	}
}

static void spsc_lines(void) { take_lines(MR_SPSC); }
static void mpmc_lines(void) { take_lines(MR_MPMC); }

static void *wait_for_message(void *arg)
{
	mr_message m;
	STATUS(MR_CLOSED, mr_next((mr_consumer *)arg, &m, MR_FOREVER));
	return NULL;
}

/* mr_shutdown ends a blocked call. */
static void shut_down(void)
{
	mr_ring *r = ring_of(MR_MPMC, 8, 32);
	mr_consumer *q;
	pthread_t t;
	OK(mr_consumer_new(r, 0, 0, &q));
	CHECK(pthread_create(&t, NULL, wait_for_message, q) == 0);
	mr_nap(20 * MR_MILLISECOND); /* likely asleep by then; it must end either way */
	mr_shutdown(r);
	CHECK(pthread_join(t, NULL) == 0);
	drop(r);
}

const test thread_tests[] = {
	{"spsc_threads", spsc_threads}, {"mpmc_threads", mpmc_threads}, {"spsc_large", spsc_large}, {"mpmc_large", mpmc_large}, {"spsc_lines", spsc_lines}, {"mpmc_lines", mpmc_lines}, {"shut_down", shut_down}, {NULL, NULL},
};
