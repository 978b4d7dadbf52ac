/* The C peer of tests/interop/PEER.md: the protocol, and the commands on rings. */
#include "peer.h"

#include <sys/wait.h>

static const struct {
	int status;
	const char *code;
} codes[] = {
	{MR_OK, "ok"}, {MR_FULL, "full"}, {MR_EMPTY, "empty"}, {MR_EOF, "eof"}, {MR_NO_CONSUMERS, "noconsumers"}, {MR_TIMEOUT, "timeout"},
	{MR_STALLED, "stalled"}, {MR_CLOSED, "closed"}, {MR_LOST, "lost"}, {MR_MISUSE, "misuse"}, {MR_ROLE_TAKEN, "roletaken"}, {MR_TOO_MANY, "toomany"},
	{MR_MISMATCH, "mismatch"}, {MR_NOT_SEGMENT, "notsegment"}, {MR_BYTE_ORDER, "byteorder"}, {MR_VERSION, "version"}, {MR_LAYOUT, "layout"},
	{MR_CORRUPT, "corrupt"}, {MR_UNSUPPORTED, "unsupported"}, {MR_IN_USE, "inuse"}, {MR_EXIST, "exist"}, {MR_NOT_EXIST, "notexist"},
	{MR_PERMISSION, "permission"}, {MR_SIZE, "size"}, {MR_SHORT_BUFFER, "shortbuffer"}, {MR_INVALID, "invalid"}, {TORN, "torn"}, {ORDER, "order"},
	{PROTOCOL, "protocol"},
};

const char *code_of(int status)
{
	for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
		if (codes[i].status == status)
			return codes[i].code;
	return "system";
}

uint8_t *buffer_of(size_t n)
{
	uint8_t *b = (uint8_t *)malloc(n + 1);
	if (b == NULL)
		abort();
	return b;
}

void add(peer *p, const char *format, ...)
{
	for (;;) {
		va_list args;
		va_start(args, format);
		int n = vsnprintf(p->out + p->used, p->room - p->used, format, args);
		va_end(args);
		if (n >= 0 && (size_t)n < p->room - p->used) {
			p->used += (size_t)n;
			return;
		}
		p->room = 2 * p->room + 1024;
		p->out = (char *)realloc(p->out, p->room);
		if (p->out == NULL)
			abort();
	}
}

const char *word(peer *p) { return p->next < p->count ? p->words[p->next++] : ""; }

bool number(peer *p, uint64_t *n)
{
	const char *w = word(p);
	char *end = NULL;
	*n = strtoull(w, &end, 10);
	return *w >= '0' && *w <= '9' && *end == 0;
}

bool read_sizes(peer *p, sizes *s)
{
	const char *w = word(p);
	char *end = NULL;
	s->from = s->to = strtoull(w, &end, 10);
	if (strncmp(end, "..", 2) == 0)
		s->to = strtoull(end + 2, &end, 10);
	return *w >= '0' && *w <= '9' && *end == 0 && s->from <= s->to;
}

int protocol(const char *why) { return mr_fail(PROTOCOL, "bad command: %s", why); }

/* Whether w is among the words that are left. */
static bool flag(const peer *p, const char *w)
{
	for (int i = p->next; i < p->count; i++)
		if (strcmp(p->words[i], w) == 0)
			return true;
	return false;
}

/* The value of KEY=VALUE among the words that are left, or NULL. */
static const char *key(const peer *p, const char *k)
{
	for (int i = p->next; i < p->count; i++)
		if (strncmp(p->words[i], k, strlen(k)) == 0 && p->words[i][strlen(k)] == '=')
			return p->words[i] + strlen(k) + 1;
	return NULL;
}

static uint32_t key_number(const peer *p, const char *k, int base)
{
	const char *v = key(p, k);
	return v == NULL ? 0 : (uint32_t)strtoul(v, NULL, base);
}

static uint32_t one_of(const char *w, const char *first, const char *second) { return strcmp(w, first) == 0 ? 1 : strcmp(w, second) == 0 ? 2 : 0; }

/* Makes r the ring of the peer. */
static int use(peer *p, mr_ring *r)
{
	int status = mr_close(p->ring);
	p->ring = r;
	p->producer = NULL;
	p->consumer = NULL;
	p->leased = 0;
	return status;
}

static int run_hello(peer *p)
{
	add(p, " c");
	return MR_OK;
}

static int run_timeout(peer *p)
{
	uint64_t ms;
	if (!number(p, &ms))
		return protocol("timeout MS");
	p->timeout = ms == 0 ? MR_FOREVER : (int64_t)ms * MR_MILLISECOND;
	return MR_OK;
}

/* Reads KIND SLOTS SLOTSIZE POLICY [KEY=VALUE]... */
static bool read_options(peer *p, mr_options *o)
{
	memset(o, 0, sizeof *o);
	o->kind = one_of(word(p), "spsc", "mpmc");
	bool fits = number(p, &o->slots) && number(p, &o->slot_size);
	o->policy = one_of(word(p), "redeliver", "drop");
	o->max_deliveries = key_number(p, "maxdeliveries", 10);
	o->participants = key_number(p, "participants", 10);
	o->perm = key_number(p, "perm", 8);
	if (key(p, "backing") != NULL && (o->backing = one_of(key(p, "backing"), "posix", "sysv")) == 0)
		return false;
	return fits && o->kind != 0 && o->policy != 0;
}

static int run_create(peer *p)
{
	const char *name = word(p);
	mr_options o;
	mr_ring *r;
	if (!read_options(p, &o))
		return protocol("create NAME KIND SLOTS SLOTSIZE POLICY");
	int status = mr_create(&r, name, &o);
	return status == MR_OK ? use(p, r) : status;
}

static int run_open_or_create(peer *p)
{
	const char *name = word(p);
	mr_options o;
	mr_ring *r;
	bool created;
	if (!read_options(p, &o))
		return protocol("openorcreate NAME KIND SLOTS SLOTSIZE POLICY");
	int status = mr_open_or_create(&r, name, &o, &created);
	if (status != MR_OK)
		return status;
	add(p, created ? " created" : " opened");
	return use(p, r);
}

static int open_with(peer *p, unsigned flags)
{
	mr_ring *r;
	int status = mr_open(&r, word(p), NULL, flags);
	return status == MR_OK ? use(p, r) : status;
}

static int run_open(peer *p) { return open_with(p, 0); }
static int run_observe(peer *p) { return open_with(p, MR_READ_ONLY); }

static int run_remove(peer *p)
{
	const char *name = word(p);
	return mr_remove(name, NULL, (flag(p, "drained") ? MR_IF_DRAINED : 0u) | (flag(p, "force") ? MR_FORCE : 0u));
}

static int run_producer(peer *p)
{
	mr_producer *made;
	if (p->ring == NULL)
		return protocol("no ring");
	int status = mr_producer_new(p->ring, flag(p, "wait") ? MR_WAIT_FOR_CONSUMERS : 0, &made);
	if (status == MR_OK)
		p->producer = made;
	return status;
}

static int run_consumer(peer *p)
{
	mr_consumer *made;
	if (p->ring == NULL)
		return protocol("no ring");
	int status = mr_consumer_new(p->ring, flag(p, "follow") ? MR_FOLLOW : 0, key_number(p, "grace", 10) * MR_MILLISECOND, &made);
	if (status == MR_OK) {
		p->consumer = made;
		p->leased = 0;
	}
	return status;
}

static int run_recover(peer *p)
{
	size_t n = 0;
	if (p->ring == NULL)
		return protocol("no ring");
	int status = mr_recover(p->ring, &n);
	if (status == MR_OK)
		add(p, " %zu", n);
	return status;
}

static int run_info(peer *p)
{
	static const char *const backings[] = {"", "posix", "sysv", "memfd"};
	mr_options o;
	if (p->ring == NULL)
		return protocol("no ring");
	mr_ring_options(p->ring, &o);
	add(p, " kind=%s slots=%llu slotsize=%llu policy=%s maxdeliveries=%u participants=%u backing=%s maxmessage=%zu", o.kind == MR_SPSC ? "spsc" : "mpmc",
	    (unsigned long long)o.slots, (unsigned long long)o.slot_size, o.policy == MR_DROP ? "drop" : "redeliver", o.max_deliveries, o.participants, backings[o.backing],
	    mr_max_message(p->ring));
	return MR_OK;
}

static int run_stats(peer *p)
{
	mr_stats s;
	if (p->ring == NULL)
		return protocol("no ring");
	int status = mr_ring_stats(p->ring, &s);
	const struct {
		const char *name;
		uint64_t value;
	} all[] = {
		{"used", s.used}, {"producer_position", s.producer_position}, {"consumer_position", s.consumer_position}, {"sent", s.sent}, {"received", s.received},
		{"redelivered", s.redelivered}, {"lost", s.lost}, {"skipped", s.skipped}, {"padding", s.padding}, {"discarded", s.discarded}, {"recoveries", s.recoveries},
		{"producers_ever", s.producers_ever}, {"producers_live", s.producers_live}, {"producers_died", s.producers_died}, {"consumers_ever", s.consumers_ever},
		{"consumers_live", s.consumers_live}, {"consumers_died", s.consumers_died},
	};
	for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
		add(p, " %s=%llu", all[i].name, (unsigned long long)all[i].value);
	return status;
}

static int run_who(peer *p)
{
	static const char *const roles[] = {"", "producer", "consumer"}, *const states[] = {"", "live", "stalled", "dead"};
	mr_participant list[256];
	size_t n;
	if (p->ring == NULL)
		return protocol("no ring");
	int status = mr_participants(p->ring, list, 256, &n);
	for (size_t i = 0; status == MR_OK && i < n && i < 256; i++)
		add(p, " %u:%s:%s", list[i].id, roles[list[i].role], states[list[i].state]);
	return status;
}

/* What a forked child gets from the handles that it inherited. */
static int run_fork(peer *p)
{
	int ends[2];
	char line[64] = "";
	if (pipe(ends) != 0)
		return mr_fail_errno("make", "pipe", errno);
	pid_t child = fork();
	if (child == 0) {
		uint8_t byte;
		size_t n;
		(void)snprintf(line, sizeof line, " %s %s", p->producer == NULL ? "none" : code_of(mr_try_send(p->producer, "", 0)),
		               p->consumer == NULL ? "none" : code_of(mr_try_receive(p->consumer, &byte, 1, &n)));
		_exit(write(ends[1], line, strlen(line)) < 0 || mr_close(p->ring) != MR_OK);
	}
	(void)close(ends[1]);
	ssize_t n = read(ends[0], line, sizeof line - 1);
	(void)close(ends[0]);
	int how = 0;
	(void)waitpid(child, &how, 0);
	if (n <= 0 || !WIFEXITED(how) || WEXITSTATUS(how) != 0)
		return mr_fail(MR_SYSTEM, "the child failed");
	add(p, "%.*s", (int)n, line);
	return MR_OK;
}

static int run_close(peer *p)
{
	const char *what = word(p);
	int status = protocol("close producer, consumer or ring");
	if (strcmp(what, "producer") == 0 && p->producer != NULL) {
		status = mr_producer_close(p->producer);
		p->producer = NULL;
	} else if (strcmp(what, "consumer") == 0 && p->consumer != NULL) {
		status = mr_consumer_close(p->consumer);
		p->consumer = NULL;
	} else if (strcmp(what, "ring") == 0 && p->ring != NULL) {
		status = use(p, NULL);
	}
	return status;
}

static void wait_for_ever(peer *p)
{
	(void)p;
	for (;;)
		(void)pause();
}

static int run_hold(peer *p)
{
	p->then = wait_for_ever;
	return MR_OK;
}

static const entry ring_commands[] = {
	{"hello", run_hello}, {"timeout", run_timeout}, {"create", run_create}, {"openorcreate", run_open_or_create}, {"open", run_open}, {"observe", run_observe},
	{"remove", run_remove}, {"producer", run_producer}, {"consumer", run_consumer}, {"recover", run_recover}, {"info", run_info}, {"stats", run_stats},
	{"who", run_who}, {"fork", run_fork}, {"close", run_close}, {"hold", run_hold}, {NULL, NULL},
};

static command *find(const char *name)
{
	const entry *const tables[] = {ring_commands, message_commands, storm_commands};
	for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++)
		for (const entry *e = tables[t]; e->name != NULL; e++)
			if (strcmp(e->name, name) == 0)
				return e->run;
	return NULL;
}

/* Runs the command in line and prints its answer. */
static void answer(peer *p, char *line)
{
	p->count = p->next = 0;
	for (char *save = NULL, *w = strtok_r(line, " \n", &save); w != NULL && p->count < 64; w = strtok_r(NULL, " \n", &save))
		p->words[p->count++] = w;
	if (p->count == 0)
		return;
	if (strcmp(p->words[0], "exit") == 0)
		_exit(0);
	p->used = p->moved = 0;
	add(p, "%s", "");
	p->then = NULL;
	command *run = find(word(p));
	int status = run == NULL ? protocol(p->words[0]) : run(p);
	if (status == MR_OK) {
		(void)printf("ok%s\n", p->out);
	} else {
		(void)fprintf(stderr, "peer: %s\n", status == MR_FULL || status == MR_EMPTY || status == MR_EOF ? mr_strerror(status) : mr_error());
		(void)printf("err %s %zu%s\n", code_of(status), p->moved, p->moved > 0 ? p->out : "");
	}
	if (fflush(stdout) != 0)
		_exit(1);
	if (status == MR_OK && p->then != NULL)
		p->then(p);
}

int main(void)
{
	static peer p;
	char line[4096];
	p.timeout = 20 * MR_SECOND;
	while (fgets(line, sizeof line, stdin) != NULL)
		answer(&p, line);
	_exit(0); /* without closing anything, as if it had crashed */
}
