// loops.h: the work itself, the same for every peer. It is written once for any size and compiled for each size that matters, so that the compiler sees
// a constant where a program would have a sizeof. The file that includes it has defined queue, and for it
//     queue_open(queue *, struct run *, int which, size_t size)   makes or opens
//     queue_arm(queue *, struct run *, int which)                 when all have opened; before the start
//     queue_send(queue *, const void *, size_t)                   1, or 0 when it is full (a blocking one waits instead)
//     queue_receive(queue *, void *, size_t)                      1, or 0 when it is empty (likewise)
// and, with HAVE_BURST, queue_send_burst and queue_receive_burst with a number of messages, which return how many went.
#include <pthread.h>

INLINE void send_one(struct run *r, queue *q, const void *msg, size_t size)
{
	unsigned spins = 0;
	while (!queue_send(q, msg, size))
		relax(r, &spins);
}

INLINE void receive_one(struct run *r, queue *q, void *buf, size_t size)
{
	unsigned spins = 0;
	while (!queue_receive(q, buf, size))
		relax(r, &spins);
}

#ifndef HAVE_BURST
INLINE unsigned queue_send_burst(queue *q, const void *msgs, size_t size, unsigned n)
{
	(void)n;
	return (unsigned)queue_send(q, msgs, size);
}

INLINE unsigned queue_receive_burst(queue *q, void *buf, size_t size, unsigned n)
{
	(void)n;
	return (unsigned)queue_receive(q, buf, size);
}
#endif

// chunk is how many messages a worker takes at once when several share the work.
INLINE uint64_t chunk(const struct run *r, int workers)
{
	return workers == 1 ? r->count : r->batch * 64;
}

INLINE void stream_send(struct run *r, queue *q, char *buf, size_t size)
{
	uint64_t value = 1, sum = 0, n;
	while ((n = ticket(r, &r->page->sent, chunk(r, r->senders))) > 0) {
		r->me->count += n;
		while (n > 0) {
			if (r->batch == 1) {
				memcpy(buf, &value, 8);
				sum += value++;
				send_one(r, q, buf, size);
				n--;
				continue;
			}
			unsigned want = (unsigned)(n < r->batch ? n : r->batch), spins = 0;
			for (unsigned i = 0; i < want; i++) {
				memcpy(buf + i * size, &value, 8);
				sum += value++;
			}
			for (unsigned done = 0, k; done < want; done += k)
				if ((k = queue_send_burst(q, buf + done * size, size, want - done)) == 0)
					relax(r, &spins);
			n -= want;
		}
	}
	r->me->sum = sum;
}

INLINE void stream_receive(struct run *r, queue *q, char *buf, size_t size)
{
	uint64_t value, sum = 0, n;
	while ((n = ticket(r, &r->page->received, chunk(r, r->receivers))) > 0) {
		r->me->count += n;
		while (n > 0) {
			if (r->batch == 1) {
				receive_one(r, q, buf, size);
				memcpy(&value, buf, 8);
				sum += value;
				n--;
				continue;
			}
			unsigned want = (unsigned)(n < r->batch ? n : r->batch), spins = 0, k;
			while ((k = queue_receive_burst(q, buf, size, want)) == 0)
				relax(r, &spins);
			for (unsigned i = 0; i < k; i++) {
				memcpy(&value, buf + i * size, 8);
				sum += value;
			}
			n -= k;
		}
	}
	r->me->sum = sum;
}

// round_trips: the first worker sends and waits for the echo. With a pause, both sides fall asleep before each trip, which is
// measured alone.
INLINE void round_trips(struct run *r, queue *there, queue *back, char *buf, size_t size)
{
	for (uint64_t i = 0; i < r->count; i++) {
		if (r->index != 0) {
			receive_one(r, there, buf, size);
			send_one(r, back, buf, size);
			continue;
		}
		uint64_t t = 0;
		if (r->pause) {
			sleep_until(now() + r->pause);
			t = now();
		}
		memcpy(buf, &i, 8);
		send_one(r, there, buf, size);
		receive_one(r, back, buf, size);
		r->me->sum += memcmp(buf, &i, 8) != 0;
		if (r->pause)
			r->samples[r->sampled++] = now() - t;
	}
}

// open_loop: messages leave at fixed times and carry them; what waits in the sender counts.
INLINE void open_loop(struct run *r, queue *q, char *buf, size_t size)
{
	uint64_t start = now(), due, t;
	for (uint64_t i = 0; i < r->count; i++) {
		if (r->index == 0) {
			due = start + i * 1000000000u / r->rate;
			while (now() < due)
				cpu_pause();
			memcpy(buf, &due, 8);
			send_one(r, q, buf, size);
			r->me->sum += due;
		} else {
			receive_one(r, q, buf, size);
			t = now();
			memcpy(&due, buf, 8);
			r->samples[r->sampled++] = t > due ? t - due : 0;
			r->me->sum += due;
		}
	}
}

// idle: the receiver waits for one message that comes after a pause; what it costs meanwhile is measured.
INLINE void idle(struct run *r, queue *q, char *buf, size_t size)
{
	if (r->index == 0) {
		sleep_until(now() + r->pause);
		send_one(r, q, buf, size);
		return;
	}
	uint64_t before = cpu_used();
	receive_one(r, q, buf, size);
	r->me->cpu = cpu_used() - before;
}

INLINE void work(struct run *r, size_t size)
{
	static __thread queue queues[2];
	int both = !strcmp(r->work, "rtt"), sender = r->index < r->senders;
	char *buf;
	must(posix_memalign((void **)&buf, 4096, size * r->batch + 64) == 0, "memory");
	memset(buf, 1, size * r->batch);
	r->samples = (uint64_t *)calloc(r->count + 1, 8);
	must(r->samples, "memory");
	memset(r->samples, 1, (r->count + 1) * 8);
	for (int i = 0; i <= both; i++)
		queue_open(&queues[i], r, i, size);
	barrier(r, 1);
	for (int i = 0; i <= both; i++)
		queue_arm(&queues[i], r, i);
	barrier(r, 2);
	r->me->delay = delay();
	r->me->start = now();
	if (both)
		round_trips(r, &queues[0], &queues[1], buf, size);
	else if (!strcmp(r->work, "open"))
		open_loop(r, &queues[0], buf, size);
	else if (!strcmp(r->work, "idle"))
		idle(r, &queues[0], buf, size);
	else if (sender)
		stream_send(r, &queues[0], buf, size);
	else
		stream_receive(r, &queues[0], buf, size);
	r->me->end = now();
	r->me->delay = delay() - r->me->delay;
	if (r->sampled)
		keep_samples(r);
	barrier(r, 3); // nobody closes while others work
}

static void *worker(void *arg)
{
	struct run *r = (struct run *)arg;
	pin(r->core);
	r->me = &r->page->workers[r->index];
	switch (r->size) {
	case 8: work(r, 8); break;
	case 64: work(r, 64); break;
	case 256: work(r, 256); break;
	default:
#ifdef ANY_SIZE
		work(r, r->size); break;
#else
		die("%s: not compiled for messages of %lu bytes", r->mech, (unsigned long)r->size);
#endif
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct run r;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	parse(&r, argc, argv);
#ifdef THREADS // this queue cannot be shared by processes: all workers are threads of this one
	int n = r.senders + r.receivers;
	struct run *runs = (struct run *)calloc((size_t)n, sizeof r);
	pthread_t *threads = (pthread_t *)calloc((size_t)n, sizeof *threads);
	must(runs && threads, "memory");
	queues_make(&r);
	for (int i = 0; i < n; i++) {
		runs[i] = r;
		runs[i].index = i;
		runs[i].core = r.core < 0 ? -1 : (i + r.core) % (int)sysconf(_SC_NPROCESSORS_ONLN);
		must(pthread_create(&threads[i], NULL, worker, &runs[i]) == 0, "pthread_create");
	}
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
#else
	worker(&r);
#endif
	return 0;
}
