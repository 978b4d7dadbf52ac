/* The C peer: commands for tests that kill. They note what they have done where it outlives them. */
#include "peer.h"

enum { BATCH = 8 };

static void end(const char *code, uint64_t count)
{
	(void)printf("end %s %llu\n", code, (unsigned long long)count);
	if (fflush(stdout) != 0)
		_exit(1);
}

static uint8_t *make(const peer *p, uint64_t i, size_t *size)
{
	*size = size_of(p->size, p->first + i);
	uint8_t *b = buffer_of(*size);
	fill(b, *size, p->seed, p->first + i);
	return b;
}

static int pour_batch(peer *p, uint64_t sent, size_t *n)
{
	mr_slice s[BATCH];
	size_t count = 0;
	for (; count < BATCH && (p->total == 0 || sent + count < p->total); count++)
		s[count].data = make(p, sent + count, &s[count].size);
	int status = mr_send_batch(p->producer, s, count, n, p->timeout);
	for (size_t i = 0; i < count; i++)
		free((void *)(uintptr_t)s[i].data);
	return status;
}

static int pour_one(peer *p, uint64_t i, size_t *n)
{
	size_t size;
	uint8_t *b = make(p, i, &size);
	int status;
	if (strcmp(p->mode, "reserve") == 0) {
		void *room;
		status = mr_reserve(p->producer, size, &room, p->timeout);
		if (status == MR_OK) {
			mr_copy(room, b, size);
			status = mr_commit(p->producer, size);
		}
	} else if (strcmp(p->mode, "try") == 0) {
		while ((status = mr_try_send(p->producer, b, size)) == MR_FULL)
			continue;
	} else {
		status = mr_send(p->producer, b, size, p->timeout);
	}
	free(b);
	*n = status == MR_OK;
	return status;
}

static void pour(peer *p)
{
	uint64_t sent = 0;
	int status = MR_OK;
	while (status == MR_OK && (p->total == 0 || sent < p->total)) {
		size_t n = 0;
		status = strcmp(p->mode, "batch") == 0 ? pour_batch(p, sent, &n) : pour_one(p, sent, &n);
		sent += n;
		mr_store_rel(p->progress, sent);
	}
	end(code_of(status), sent);
}

/* Keeps a mode beyond its line. */
static bool read_mode(peer *p, const char *const *modes)
{
	const char *w = word(p);
	for (; *modes != NULL; modes++) {
		if (strcmp(*modes, w) == 0) {
			p->mode = *modes;
			return true;
		}
	}
	return false;
}

static int run_pour(peer *p)
{
	static const char *const modes[] = {"send", "try", "batch", "reserve", NULL};
	if (!read_mode(p, modes) || !read_sizes(p, &p->size) || !number(p, &p->seed) || !number(p, &p->first) || !number(p, &p->total) || p->producer == NULL)
		return protocol("pour MODE SIZE SEED FIRST COUNT FILE, with a producer");
	const char *file = word(p);
	int fd = open(file, O_RDWR | O_CLOEXEC);
	void *mem = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *p->progress, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mem == MAP_FAILED)
		return mr_fail_errno("map", file, errno);
	(void)close(fd);
	p->progress = (uint64_t *)mem;
	p->then = pour;
	return MR_OK;
}

static int record(peer *p, const void *data, size_t size, uint32_t deliveries)
{
	uint64_t r[3];
	if (!identify((const uint8_t *)data, size, &r[1], &r[0]))
		return mr_fail(TORN, "torn message");
	r[2] = deliveries;
	return write(p->log, r, sizeof r) == (ssize_t)sizeof r ? MR_OK : mr_fail_errno("write", "log", errno);
}

static int swallow_copy(peer *p, uint8_t *b, size_t capacity, size_t *n)
{
	size_t size = 0;
	uint32_t deliveries;
	int status;
	if (strcmp(p->mode, "try") == 0) {
		while ((status = mr_try_receive(p->consumer, b, capacity, &size)) == MR_EMPTY)
			continue;
	} else {
		status = mr_receive(p->consumer, b, capacity, &size, p->timeout);
	}
	mr_last(p->consumer, NULL, &deliveries);
	if (status == MR_OK)
		status = record(p, b, size, deliveries);
	*n = status == MR_OK;
	return status;
}

static int swallow_lease(peer *p, size_t *n)
{
	size_t count = 0;
	int status = mr_next_batch(p->consumer, strcmp(p->mode, "batch") == 0 ? BATCH : 1, &count, p->timeout);
	for (; status == MR_OK && *n < count; *n += status == MR_OK) {
		mr_message m = mr_at(p->consumer, *n);
		status = record(p, m.data, m.size, m.deliveries);
	}
	return status == MR_OK ? mr_release(p->consumer) : status;
}

static void swallow(peer *p)
{
	uint64_t received = 0;
	int status = MR_OK;
	const size_t capacity = mr_max_message(p->ring);
	uint8_t *b = buffer_of(capacity);
	const bool leases = strcmp(p->mode, "next") == 0 || strcmp(p->mode, "batch") == 0;
	while (status == MR_OK) {
		size_t n = 0;
		status = leases ? swallow_lease(p, &n) : swallow_copy(p, b, capacity, &n);
		received += n;
	}
	free(b);
	(void)close(p->log);
	end(code_of(status), received);
}

static int run_swallow(peer *p)
{
	static const char *const modes[] = {"receive", "try", "next", "batch", NULL};
	if (!read_mode(p, modes) || p->consumer == NULL)
		return protocol("swallow MODE FILE, with a consumer");
	const char *file = word(p);
	p->log = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (p->log < 0)
		return mr_fail_errno("open", file, errno);
	p->then = swallow;
	return MR_OK;
}

const entry storm_commands[] = {{"pour", run_pour}, {"swallow", run_swallow}, {NULL, NULL}};
