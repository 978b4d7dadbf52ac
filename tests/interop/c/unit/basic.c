/* One process, one thread: what each call promises. */
#include "unit.h"

static void checksum(void)
{
	uint8_t b[101];
	for (size_t i = 0; i < sizeof b; i++)
		b[i] = (uint8_t)(i * 7 + 3);
	CHECK(mr_xxh64(b, 0) == UINT64_C(0xEF46DB3751D8E999)); /* the value of the XXH64 specification for no bytes */
	CHECK(mr_xxh64((const uint8_t *)"abc", 3) == UINT64_C(0x44BC2CF5AD770999));
	const char *text = "Nobody inspects the spammish repetition";
	CHECK(mr_xxh64((const uint8_t *)text, strlen(text)) == UINT64_C(0xFBCEA83C8A378BF1));
}

static void names(void)
{
	static const char *const bad[] = {"", ".", "..", "a/b", "a.b", "a\nb", "\x7f"};
	mr_ring *r;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		STATUS(MR_INVALID, mr_open(&r, bad[i], NULL, 0));
	char longest[202];
	memset(longest, 'x', sizeof longest);
	longest[201] = 0;
	STATUS(MR_INVALID, mr_open(&r, longest, NULL, 0));
	longest[200] = 0;
	STATUS(MR_NOT_EXIST, mr_open(&r, longest, NULL, 0));
	STATUS(MR_NOT_EXIST, mr_remove("nothing", NULL, 0));
}

static void options(void)
{
	mr_options o, got;
	mr_ring *r, *s;
	bool created;
	memset(&o, 0, sizeof o);
	o.slots = 3;
	STATUS(MR_INVALID, mr_create(&r, "unit", &o));
	CHECK(r == NULL && strstr(mr_error(), "slots") != NULL);
	o.slots = 16;
	o.max_deliveries = 49;
	STATUS(MR_INVALID, mr_create(&r, "unit", &o));
	o.max_deliveries = 0;
	o.huge = MR_HUGE_2M;
	STATUS(MR_INVALID, mr_create(&r, "unit", &o)); /* the directory is no hugetlbfs */
	o.huge = MR_TRANSPARENT;
	o.perm = 0640;
	OK(mr_open_or_create(&r, "unit", &o, &created));
	CHECK(created);
	struct stat st;
	int fd;
	OK(mr_fd(r, &fd));
	CHECK(fstat(fd, &st) == 0 && (st.st_mode & 07777) == 0640);
	(void)close(fd);
	STATUS(MR_EXIST, mr_create(&s, "unit", &o));
	o.slots = 32;
	STATUS(MR_MISMATCH, mr_open_or_create(&s, "unit", &o, &created));
	OK(mr_open_or_create(&s, "unit", NULL, &created));
	CHECK(!created);
	mr_ring_options(s, &got);
	CHECK(got.slots == 16 && got.perm == 0640 && got.kind == MR_MPMC && mr_max_message(s) == 8 * 256);
	OK(mr_close(s));
	STATUS(MR_IN_USE, mr_remove("unit", NULL, 0));
	drop(r);
}

static void misuse(void)
{
	for (uint32_t kind = MR_SPSC; kind <= MR_MPMC; kind++) {
		mr_ring *r = ring_of(kind, 8, 32);
		mr_producer *p, *p2;
		mr_consumer *q;
		mr_message m;
		void *room;
		size_t n;
		uint8_t buf[256];
		OK(mr_producer_new(r, 0, &p));
		OK(mr_consumer_new(r, 0, 0, &q));
		if (kind == MR_SPSC)
			STATUS(MR_ROLE_TAKEN, mr_producer_new(r, 0, &p2));
		STATUS(MR_MISUSE, mr_commit(p, 0));
		STATUS(MR_MISUSE, mr_discard(p));
		STATUS(MR_MISUSE, mr_release(q));
		OK(mr_reserve(p, 5, &room, 0));
		STATUS(MR_MISUSE, mr_try_send(p, "x", 1));
		STATUS(MR_MISUSE, mr_try_reserve(p, 5, &room));
		STATUS(MR_SIZE, mr_commit(p, 6));
		OK(mr_discard(p));
		STATUS(MR_SIZE, mr_try_send(p, buf, 4 * 32 + 1));
		OK(mr_try_send(p, "hello", 5));
		STATUS(MR_SHORT_BUFFER, mr_try_receive(q, buf, 4, &n));
		CHECK(n == 5);
		STATUS(MR_MISUSE, mr_try_next_batch(q, 0, &n));
		OK(mr_try_next(q, &m));
		CHECK(m.size == 5 && memcmp(m.data, "hello", 5) == 0 && m.deliveries == 1);
		STATUS(MR_MISUSE, mr_try_next(q, &m));
		STATUS(MR_MISUSE, mr_try_receive(q, buf, sizeof buf, &n));
		STATUS(MR_MISUSE, mr_release_to(q, 1));
		STATUS(MR_MISUSE, mr_return(q, 1));
		CHECK(mr_at(q, 1).data == NULL);
		OK(mr_return(q, 0));
		OK(mr_try_next(q, &m));
		CHECK(m.deliveries == 2);
		OK(mr_release(q));
		CHECK(mr_at(q, 0).data == NULL);
		STATUS(MR_EMPTY, mr_try_next(q, &m));
		STATUS(MR_TIMEOUT, mr_next(q, &m, MR_MILLISECOND));
		mr_shutdown(r);
		STATUS(MR_CLOSED, mr_try_send(p, "x", 1));
		STATUS(MR_CLOSED, mr_producer_new(r, 0, &p2));
		drop(r);
	}
}

/* mr_send_array and mr_send_batch over many laps, of equal and of mixed sizes. */
static void batches(void)
{
	for (uint32_t kind = MR_SPSC; kind <= MR_MPMC; kind++) {
		mr_ring *r = ring_of(kind, 16, 8);
		mr_producer *p;
		mr_consumer *q;
		size_t n, sent;
		uint64_t values[20], next = 0, seen = 0;
		OK(mr_producer_new(r, 0, &p));
		OK(mr_consumer_new(r, 0, 0, &q));
		for (int round = 0; round < 500; round++) {
			mr_slice s[20];
			const size_t count = (size_t)(round % 8 + 1);
			for (size_t i = 0; i < count; i++) {
				values[i] = next++;
				s[i].data = &values[i];
				s[i].size = sizeof values[i];
			}
			if (round % 2 == 0)
				OK(mr_send_array(p, values, sizeof values[0], count, &sent, 0));
			else
				OK(mr_try_send_batch(p, s, count, &sent));
			CHECK(sent == count);
			while (seen < next) {
				OK(mr_try_next_batch(q, 5, &n));
				for (size_t i = 0; i < n; i++) {
					mr_message m = mr_at(q, i);
					CHECK(m.size == 8 && memcmp(m.data, &seen, 8) == 0);
					seen++;
				}
				OK(mr_release_to(q, 0));
				if (n > 1)
					OK(mr_release(q));
			}
		}
		memset(values, 1, sizeof values);
		STATUS(MR_FULL, mr_try_send_array(p, values, 8, 20, &sent));
		CHECK(sent == 16);
		STATUS(MR_NO_CONSUMERS, (mr_consumer_close(q), mr_send_array(p, values, 8, 3, &sent, MR_SECOND)));
		drop(r);
	}
}

/* mr_receive_array: runs, part by part and over the end of the ring, and single messages of several sizes. */
static void arrays(void)
{
	for (uint32_t kind = MR_SPSC; kind <= MR_MPMC; kind++) {
		for (uint32_t cell = 8; cell <= 24; cell += 8) { /* as large as the messages, or larger */
			mr_ring *r = ring_of(kind, 16, 8);
			mr_producer *p;
			mr_consumer *q;
			size_t n, sent, sizes[8];
			uint64_t values[8], next = 0, seen = 0, position;
			uint32_t deliveries;
			unsigned char cells[8 * 24];
			OK(mr_producer_new(r, 0, &p));
			OK(mr_consumer_new(r, 0, 0, &q));
			for (int round = 0; round < 500; round++) {
				const size_t count = (size_t)(round % 8 + 1);
				for (size_t i = 0; i < count; i++)
					values[i] = next++;
				if (round % 3 == 0)
					for (size_t i = 0; i < count; i++)
						OK(mr_send(p, &values[i], 8, 0));
				else
					OK(mr_send_array(p, values, 8, count, &sent, 0));
				while (seen < next) {
					OK(mr_receive_array(q, cells, cell, 5, round % 2 == 0 ? sizes : NULL, &n, MR_SECOND));
					CHECK(n >= 1 && n <= 5);
					for (size_t i = 0; i < n; i++) {
						CHECK(memcmp(cells + i * cell, &seen, 8) == 0 && (round % 2 != 0 || sizes[i] == 8));
						seen++;
					}
				}
				mr_last(q, &position, &deliveries);
				CHECK(deliveries == 1);
			}
			STATUS(MR_EMPTY, mr_try_receive_array(q, cells, cell, 5, NULL, &n));
			CHECK(n == 0);
			STATUS(MR_TIMEOUT, mr_receive_array(q, cells, cell, 5, NULL, &n, MR_MILLISECOND));
			OK(mr_try_receive_array(q, cells, cell, 0, NULL, &n));
			OK(mr_send_array(p, values, 8, 3, &sent, 0));
			STATUS(MR_SHORT_BUFFER, mr_try_receive_array(q, cells, 7, 5, NULL, &n));
			OK(mr_send(p, cells, 24, 0)); /* several slots */
			OK(mr_try_receive_array(q, cells, 8, 5, sizes, &n));
			CHECK(n == 3);
			STATUS(MR_SHORT_BUFFER, mr_try_receive_array(q, cells, 8, 5, sizes, &n));
			OK(mr_try_receive_array(q, cells, 24, 5, sizes, &n));
			CHECK(n == 1 && sizes[0] == 24);
			mr_consumer_close(q);
			mr_producer_close(p);
			drop(r);
		}
	}
}

/* The producer's hint is never further behind than FORMAT 3.2 permits, whatever the messages; and a consumer that is close behind waits for one look, not in try calls. */
static void hints(void)
{
	enum { SLOTS = 1024, CELL = 16 };
	static char message[CELL * 8], out[CELL * 8];
	mr_ring *r = ring_of(MR_SPSC, SLOTS, CELL);
	mr_producer *p;
	mr_consumer *q;
	OK(mr_producer_new(r, 0, &p));
	OK(mr_consumer_new(r, 0, 0, &q));
	for (uint64_t i = 0; i < 5 * SLOTS; i++) {
		size_t got;
		const uint64_t slipped = q->slipped;
		OK(mr_send(p, message, i <= SLOTS || i > 2 * SLOTS ? CELL : 8 * CELL, 0)); /* of eight slots, from one behind a multiple of eight */
		CHECK(p->pos - mr_load_acq(&r->c.ctl->producer_position) <= SLOTS / 2 + 8);
		OK(mr_receive(q, out, sizeof out, &got, i % 2 == 0 ? 0 : MR_FOREVER));
		CHECK(i % 2 == 0 ? q->slipped == slipped : q->pos - q->slipped <= r->c.stride);
	}
	void *room; /* padding goes past a place for a hint */
	while ((p->pos & (SLOTS - 1)) != SLOTS / 2 + 1)
		OK(mr_send(p, message, CELL, 0));
	for (size_t got; mr_try_receive(q, out, sizeof out, &got) == MR_OK;)
		;
	OK(mr_reserve(p, SLOTS / 2 * CELL, &room, 0));
	OK(mr_commit(p, CELL));
	CHECK((p->pos & (SLOTS - 1)) == 1 && mr_load_acq(&r->c.ctl->producer_position) == p->pos - 1);
	q->pos = p->pos;
	q->h.alone = false;
	q->dries = 0;
	CHECK(mr_slip(q) == 1); /* nobody goes on */
	q->dries = r->c.stride;
	CHECK(mr_slip(q) == 0 && q->dries == 0);
	q->rivals = 1;
	CHECK(mr_slip(q) == 0 && mr_slip(q) == 1);
	mr_store_rel(&r->c.ctl->producer_position, q->pos + r->c.near - 1);
	CHECK(mr_slip(q) == 1);
	mr_store_rel(&r->c.ctl->producer_position, q->pos + r->c.near);
	CHECK(mr_slip(q) == 0);
	mr_consumer_close(q);
	mr_producer_close(p);
	drop(r);
}

/* A producer stores in advance for a consumer that is right behind it whenever it gets space, and not for another one. */
static void answers(void)
{
	enum { SLOTS = 64, ROUNDS = 5 * SLOTS };
	char message[16] = {0};
	size_t got;
	mr_ring *r = ring_of(MR_SPSC, SLOTS, sizeof message);
	mr_producer *p;
	mr_consumer *q;
	OK(mr_producer_new(r, 0, &p));
	OK(mr_consumer_new(r, 0, 0, &q));
	p->h.c.fetches_next = true;
	p->fetch_mask = p->h.c.line_mask;
	for (int i = 0; i < 2 * ROUNDS; i++) {
		OK(mr_send(p, message, sizeof message, MR_FOREVER));
		if (i >= ROUNDS && i < ROUNDS + 2 * MR_ANSWERING)
			continue; /* from here on it is behind */
		OK(mr_receive(q, message, sizeof message, &got, MR_FOREVER));
		CHECK(i >= ROUNDS || p->fetch_mask == p->h.c.line_mask);
	}
	CHECK(p->fetch_mask == UINT64_MAX);
	for (int i = 0; i < 2 * MR_ANSWERING; i++)
		OK(mr_receive(q, message, sizeof message, &got, MR_FOREVER));
	for (int i = 0; i < ROUNDS; i++) {
		OK(mr_send(p, message, sizeof message, MR_FOREVER));
		OK(mr_receive(q, message, sizeof message, &got, MR_FOREVER));
	}
	CHECK(p->fetch_mask == p->h.c.line_mask);
	mr_consumer_close(q);
	mr_producer_close(p);
	drop(r);
}

/*
 * The first look for an answer is held off, for longer after each that was a bit too early, up to a limit, and for less after each that was not. What was waited for for long is no
 * answer, nor is what was not waited for; a call that does not wait does not hold off.
 */
static void held_off(void)
{
	char message[16] = {0};
	size_t got;
	mr_ring *r = ring_of(MR_SPSC, 64, sizeof message);
	mr_producer *p;
	mr_consumer *q;
	OK(mr_producer_new(r, 0, &p));
	OK(mr_consumer_new(r, 0, 0, &q));
	q->h.alone = false;
	q->answer_most = 0;
	q->pos++;
	q->awaited = q->pos;
	mr_learn_answer(q, true);
	CHECK(q->answer == 0 && q->awaited == q->pos + 1); /* nothing is fetched in this ring */
	q->answer_most = MR_ANSWER_MOST;
	mr_learn_answer(q, true);
	CHECK(q->answer == 0); /* the one before was there */
	for (unsigned i = 1; i < 6; i++) {
		q->awaited = q->pos;
		mr_learn_answer(q, true);
		CHECK(q->answer == mr_min(i * MR_ANSWER_STEP, MR_ANSWER_MOST));
	}
	mr_learn_answer(q, false);
	CHECK(q->answer == 0);
	q->pos--;
	q->answer = MR_ANSWER_MOST;
	CHECK(mr_try_receive(q, message, sizeof message, &got) == MR_EMPTY && q->answer == MR_ANSWER_MOST);
	for (unsigned i = 1; i <= MR_ANSWER_MOST + 2; i++) {
		OK(mr_send(p, message, sizeof message, MR_FOREVER));
		OK(mr_receive(q, message, sizeof message, &got, MR_FOREVER));
		CHECK(q->answer == (i < MR_ANSWER_MOST ? MR_ANSWER_MOST - i : 0));
	}
	q->answer = 1;
	CHECK(!mr_watch(q) && q->answer == 0); /* it did not come for long */
	mr_consumer_close(q);
	mr_producer_close(p);
	drop(r);
}

/* Messages of every size around the steps that they are copied by, to and from any address: whole, and nothing beside them. */
static void copies(void)
{
	enum { MOST = 66000, AROUND = 160 };
	static const size_t sizes[] = {0, 128, 256, 512, 1024, 4096, 8192, 65536};
	static unsigned char from[AROUND + MOST], to[AROUND + MOST + AROUND];
	for (size_t i = 0; i < sizeof from; i++)
		from[i] = (unsigned char)(i * 31 >> 3);
	for (uint32_t kind = MR_SPSC; kind <= MR_MPMC; kind++) {
		mr_ring *r = ring_of(kind, 4, MOST);
		mr_producer *p;
		mr_consumer *q;
		OK(mr_producer_new(r, 0, &p));
		OK(mr_consumer_new(r, 0, 0, &q));
		for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
			for (size_t n = sizes[i] < AROUND ? 0 : sizes[i] - AROUND; n <= sizes[i] + AROUND; n++) {
				const size_t a = n * 7 % AROUND, b = n * 11 % AROUND;
				size_t got;
				memset(to, 0xA5, b + n + AROUND);
				OK(mr_send(p, from + a, n, 0));
				OK(mr_receive(q, to + b, n, &got, 0));
				CHECK(got == n && memcmp(to + b, from + a, n) == 0);
				for (size_t k = 0; k < AROUND; k++)
					CHECK((k >= b || to[k] == 0xA5) && to[b + n + k] == 0xA5);
			}
		}
		mr_consumer_close(q);
		mr_producer_close(p);
		drop(r);
	}
}

static void backings(void)
{
	for (uint32_t backing = MR_SYSV; backing <= MR_MEMFD; backing++) {
		mr_options o;
		mr_ring *r, *s;
		mr_producer *p;
		mr_consumer *q;
		char buf[8];
		size_t n;
		int fd = -1;
		memset(&o, 0, sizeof o);
		o.backing = backing;
		(void)mr_remove("unit", NULL, MR_FORCE);
		OK(mr_create(&r, "unit", &o));
		if (backing == MR_SYSV) {
			STATUS(MR_UNSUPPORTED, mr_fd(r, &fd));
			OK(mr_open(&s, "unit", NULL, 0));
		} else {
			STATUS(MR_NOT_EXIST, mr_open(&s, "unit", NULL, 0));
			OK(mr_fd(r, &fd));
			OK(mr_open_fd(&s, fd, 0));
			CHECK(ftruncate(fd, 0) != 0); /* sealed */
			(void)close(fd);
		}
		OK(mr_producer_new(r, 0, &p));
		OK(mr_consumer_new(s, 0, 0, &q));
		OK(mr_send(p, "x", 1, 0));
		OK(mr_receive(q, buf, sizeof buf, &n, 0));
		CHECK(n == 1 && buf[0] == 'x');
		OK(mr_close(s));
		OK(mr_close(r));
		if (backing == MR_SYSV)
			OK(mr_remove("unit", NULL, MR_IF_DRAINED));
	}
}

/* A producer that only tries learns that its ring was removed when it is full: it would stay full. */
static void removed_full(void)
{
	for (uint32_t kind = MR_SPSC; kind <= MR_MPMC; kind++) {
		mr_ring *r = ring_of(kind, 4, 8);
		mr_producer *p;
		void *room;
		size_t sent = 9;
		const uint64_t values[2] = {1, 2};
		OK(mr_producer_new(r, 0, &p));
		for (int i = 0; i < 4; i++)
			OK(mr_try_send(p, "x", 1));
		STATUS(MR_FULL, mr_try_send(p, "x", 1));
		OK(mr_remove("unit", NULL, MR_FORCE));
		STATUS(MR_LOST, mr_try_send(p, "x", 1));
		STATUS(MR_LOST, mr_try_reserve(p, 3, &room));
		STATUS(MR_LOST, mr_try_send_array(p, values, 8, 2, &sent));
		CHECK(sent == 0);
		OK(mr_close(r));
	}
}

static void *receives_slowly(void *consumer)
{
	uint64_t value;
	size_t n;
	int status;
	do {
		mr_nap(30 * MR_MILLISECOND);
		status = mr_receive((mr_consumer *)consumer, &value, sizeof value, &n, MR_FOREVER);
	} while (status == MR_OK);
	CHECK(status == MR_EOF);
	return NULL;
}

/* A batch of many parts has one time-out. Observers and registrations beside a shutdown do not call the ring lost. */
static void deadlines(void)
{
	for (uint32_t kind = MR_SPSC; kind <= MR_MPMC; kind++) {
		mr_ring *r = ring_of(kind, 2, 8);
		mr_producer *p;
		mr_consumer *q;
		mr_stats s;
		uint64_t values[40] = {0};
		size_t sent, count;
		pthread_t slow;
		OK(mr_producer_new(r, MR_WAIT_FOR_CONSUMERS, &p));
		OK(mr_consumer_new(r, 0, 0, &q));
		CHECK(pthread_create(&slow, NULL, receives_slowly, q) == 0);
		STATUS(MR_TIMEOUT, mr_send_array(p, values, 8, 40, &sent, 60 * INT64_C(1000000)));
		CHECK(sent > 0 && sent < 20);
		OK(mr_producer_close(p));
		CHECK(pthread_join(slow, NULL) == 0);
		OK(mr_consumer_close(q));
		mr_shutdown(r);
		OK(mr_ring_stats(r, &s));
		OK(mr_recover(r, &count));
		STATUS(MR_CLOSED, mr_consumer_new(r, 0, 0, &q));
		drop(r);
	}
}

/* A file that is truncated under the ring: MR_LOST from every call, no signal. */
static void truncated(void)
{
	for (uint32_t kind = MR_SPSC; kind <= MR_MPMC; kind++) {
		mr_ring *r = ring_of(kind, 8, 8192);
		mr_producer *p;
		mr_consumer *q;
		mr_stats stats;
		int fd;
		size_t n;
		static uint8_t buf[8192];
		OK(mr_producer_new(r, 0, &p));
		OK(mr_consumer_new(r, 0, 0, &q));
		OK(mr_send(p, buf, sizeof buf, 0));
		OK(mr_fd(r, &fd));
		CHECK(ftruncate(fd, 0) == 0);
		(void)close(fd);
		STATUS(MR_LOST, mr_try_send(p, buf, sizeof buf));
		STATUS(MR_LOST, mr_try_send(p, buf, 1));
		STATUS(MR_LOST, mr_receive(q, buf, sizeof buf, &n, MR_FOREVER));
		STATUS(MR_LOST, mr_ring_stats(r, &stats));
		char path[MR_PATH];
		memcpy(path, r->segment.path, sizeof path);
		OK(mr_close(r));
		STATUS(MR_NOT_SEGMENT, mr_remove("unit", NULL, 0)); /* an empty file is nobody's segment */
		CHECK(unlink(path) == 0);
	}
}

/* A child inherits no role, and does not keep its parent alive. */
static void forked(void)
{
	mr_ring *r = ring_of(MR_MPMC, 8, 32);
	mr_ring *other;
	mr_stats stats;
	OK(mr_open(&other, "unit", NULL, 0));
	int ready[2], go[2];
	char byte = 0;
	CHECK(pipe(ready) == 0 && pipe(go) == 0);
	pid_t middle = fork();
	if (middle == 0) { /* registers, has a child of its own that lives on, and dies */
		mr_ring *own;
		mr_producer *p;
		OK(mr_open(&own, "unit", NULL, 0));
		OK(mr_producer_new(own, 0, &p));
		if (fork() == 0) {
			STATUS(MR_CLOSED, mr_try_send(p, "x", 1));
			STATUS(MR_CLOSED, mr_recover(own, NULL));
			OK(mr_close(own));
			CHECK(write(ready[1], &byte, 1) == 1);
			(void)close(go[1]);
			_exit(read(go[0], &byte, 1) != 0);
		}
		(void)pause();
	}
	CHECK(read(ready[0], &byte, 1) == 1);
	OK(mr_ring_stats(other, &stats));
	CHECK(stats.producers_live == 1);
	CHECK(kill(middle, SIGKILL) == 0 && waitpid(middle, NULL, 0) == middle);
	OK(mr_ring_stats(other, &stats)); /* the grandchild lives, its parent is seen to be dead */
	CHECK(stats.producers_live == 0 && stats.producers_died == 1);
	(void)close(go[1]);
	OK(mr_close(other));
	drop(r);
}

static void observers(void)
{
	mr_ring *r = ring_of(MR_MPMC, 8, 32), *o;
	mr_producer *p;
	mr_stats stats;
	mr_participant list[4];
	size_t n;
	void *room;
	OK(mr_open(&o, "unit", NULL, MR_READ_ONLY));
	OK(mr_producer_new(r, 0, &p));
	STATUS(MR_PERMISSION, mr_producer_new(o, 0, &p));
	CHECK(p == NULL);
	OK(mr_producer_new(r, 0, &p));
	OK(mr_reserve(p, 3, &room, 0));
	OK(mr_ring_stats(o, &stats));
	CHECK(stats.producers_live == 2 && stats.used == 1);
	OK(mr_participants(o, list, 4, &n));
	CHECK(n == 2 && list[0].state == MR_LIVE && list[1].holding && list[1].position == 0 && !list[0].holding);
	OK(mr_close(o));
	drop(r);
}

const test basic_tests[] = {
	{"checksum", checksum}, {"names", names}, {"options", options}, {"misuse", misuse}, {"batches", batches}, {"arrays", arrays}, {"copies", copies}, {"hints", hints}, {"answers", answers}, {"held_off", held_off}, {"backings", backings},
	{"removed_full", removed_full}, {"deadlines", deadlines}, {"truncated", truncated}, {"forked", forked}, {"observers", observers}, {NULL, NULL},
};
