// peer.h: what every peer program needs: its arguments, the page that it shares with the harness, a clock, a barrier.
//
// A peer program includes this file, defines
//     QUEUE(size)                               the type of a queue for messages of that size
//     int QUEUE_OPEN(size)(queue *, struct run *, int which)     makes it (index 0) or opens it; which: 0 there, 1 back
//     send and receive functions                see loops.h
// and then includes loops.h. docs/BENCHMARKS.md says what each kind of work measures.
#ifndef PEER_H
#define PEER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define INLINE static inline __attribute__((always_inline))

// worker is what one worker reports: 128 bytes.
struct worker {
	uint64_t start, end, count, sum, cpu, delay;
	char pad[80];
};

// page is the layout of internal/measure: each word that somebody spins on has a line of its own.
struct page {
	uint64_t go;
	char p0[56];
	uint64_t ready;
	char p1[56];
	uint64_t sent; // tickets given to senders
	char p2[56];
	uint64_t received; // tickets given to receivers
	char p3[56];
	char floor[768];
	struct worker workers[];
};

// run is one start of this program, or one thread of it.
struct run {
	char dir[256], mech[64], work[16];
	int index, senders, receivers, core, crowded;
	uint64_t count, size, batch, slots, rate, pause;
	struct page *page;
	struct worker *me;
	uint64_t *samples, sampled;
};

#define die(...) (fprintf(stderr, __VA_ARGS__), fprintf(stderr, "\n"), exit(1))
#define must(x, what) do { if (!(x)) die("%s: %s", what, strerror(errno)); } while (0)

INLINE uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

INLINE void cpu_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

// relax is one step of waiting: a hint to the processor, and now and then the processor to others when there are more workers than cores.
INLINE void relax(const struct run *r, unsigned *spins)
{
	if (r->crowded && ++*spins >= 64) {
		*spins = 0;
		sched_yield();
		return;
	}
	cpu_pause();
}

static void pin(int core)
{
	if (core < 0)
		return;
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(core, &set);
	if (sched_setaffinity(0, sizeof set, &set) != 0)
		fprintf(stderr, "not pinned to core %d: %s\n", core, strerror(errno));
}

// map_file maps size bytes of a file, which it makes when it is not there.
static void *map_file(const char *path, size_t size)
{
	int fd = open(path, O_RDWR | O_CREAT, 0600);
	must(fd >= 0, path);
	struct stat st;
	must(fstat(fd, &st) == 0, path);
	if ((size_t)st.st_size < size)
		must(ftruncate(fd, (off_t)size) == 0, path);
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	must(p != MAP_FAILED, path);
	close(fd);
	return p;
}

// map_queue maps the memory of one queue of this run.
static inline void *map_queue(const struct run *r, int which, size_t size)
{
	char path[300];
	snprintf(path, sizeof path, "%s/queue%d", r->dir, which);
	return map_file(path, (size + 4095) & ~(size_t)4095);
}

static void parse(struct run *r, int argc, char **argv)
{
	memset(r, 0, sizeof *r);
	for (int i = 1; i < argc; i++) {
		char *v = strchr(argv[i], '=');
		if (!v)
			die("%s: not KEY=VALUE", argv[i]);
		*v++ = 0;
		const char *k = argv[i];
		uint64_t n = strtoull(v, NULL, 10);
		if (!strcmp(k, "dir")) snprintf(r->dir, sizeof r->dir, "%s", v);
		else if (!strcmp(k, "mech")) snprintf(r->mech, sizeof r->mech, "%s", v);
		else if (!strcmp(k, "work")) snprintf(r->work, sizeof r->work, "%s", v);
		else if (!strcmp(k, "index")) r->index = atoi(v);
		else if (!strcmp(k, "senders")) r->senders = atoi(v);
		else if (!strcmp(k, "receivers")) r->receivers = atoi(v);
		else if (!strcmp(k, "core")) r->core = atoi(v);
		else if (!strcmp(k, "count")) r->count = n;
		else if (!strcmp(k, "size")) r->size = n;
		else if (!strcmp(k, "batch")) r->batch = n;
		else if (!strcmp(k, "slots")) r->slots = n;
		else if (!strcmp(k, "rate")) r->rate = n;
		else if (!strcmp(k, "pause")) r->pause = n;
		else die("unknown argument %s", k);
	}
	char path[300];
	snprintf(path, sizeof path, "%s/page", r->dir);
	r->page = (struct page *)map_file(path, 65536);
	r->crowded = r->senders + r->receivers > sysconf(_SC_NPROCESSORS_ONLN);
}

// barrier tells the harness that this worker is there, and waits until all are as far.
static inline void barrier(struct run *r, uint64_t stage)
{
	__atomic_fetch_add(&r->page->ready, 1, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; __atomic_load_n(&r->page->go, __ATOMIC_ACQUIRE) < stage; i++) {
		if (r->crowded)
			usleep(100);
		else if (i % 64 == 63)
			sched_yield();
		else
			cpu_pause();
	}
}

// ticket takes up to chunk messages from what is left to do; 0 when nothing is.
INLINE uint64_t ticket(struct run *r, uint64_t *given, uint64_t chunk)
{
	uint64_t at = __atomic_fetch_add(given, chunk, __ATOMIC_RELAXED);
	if (at >= r->count)
		return 0;
	return r->count - at < chunk ? r->count - at : chunk;
}

static inline uint64_t cpu_used(void)
{
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return ((uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000u + (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec)) * 1000u;
}

// delay is how long this thread has waited for its core because others had it, in nanoseconds.
static inline uint64_t delay(void)
{
	unsigned long long ran, waited;
	FILE *f = fopen("/proc/thread-self/schedstat", "r");
	must(f && fscanf(f, "%llu %llu", &ran, &waited) == 2, "/proc/thread-self/schedstat");
	fclose(f);
	return waited;
}

static inline void sleep_until(uint64_t t)
{
	struct timespec ts = {(time_t)(t / 1000000000u), (long)(t % 1000000000u)};
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR) {
	}
}

// keep_samples writes the latencies that this worker saw to the file that the harness reads.
static inline void keep_samples(struct run *r)
{
	char path[300];
	snprintf(path, sizeof path, "%s/samples%d", r->dir, r->index);
	FILE *f = fopen(path, "w");
	must(f, path);
	must(fwrite(r->samples, 8, r->sampled, f) == r->sampled && fclose(f) == 0, path);
}

#endif
