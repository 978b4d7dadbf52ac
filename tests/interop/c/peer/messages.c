/* The C peer: sending and receiving. */
#include "peer.h"

/* Reads N SIZE SEED FIRST. */
static bool read_stream(peer *p) { return number(p, &p->total) && read_sizes(p, &p->size) && number(p, &p->seed) && number(p, &p->first) && p->producer != NULL; }

/* Makes message i of the stream that was read; to be freed. */
static uint8_t *make(const peer *p, uint64_t i, size_t *size)
{
	*size = size_of(p->size, p->first + i);
	uint8_t *b = buffer_of(*size);
	fill(b, *size, p->seed, p->first + i);
	return b;
}

static int send_each(peer *p, bool blocking)
{
	int status = MR_OK;
	if (!read_stream(p))
		return protocol("N SIZE SEED FIRST, with a producer");
	for (; status == MR_OK && p->moved < p->total; p->moved += status == MR_OK) {
		size_t size;
		uint8_t *b = make(p, p->moved, &size);
		status = blocking ? mr_send(p->producer, b, size, p->timeout) : mr_try_send(p->producer, b, size);
		free(b);
	}
	if (status == MR_OK)
		add(p, " %zu", p->moved);
	return status;
}

static int run_send(peer *p) { return send_each(p, true); }
static int run_try_send(peer *p) { return send_each(p, false); }

static int send_all(peer *p, bool blocking)
{
	if (!read_stream(p))
		return protocol("N SIZE SEED FIRST, with a producer");
	mr_slice *s = (mr_slice *)calloc(p->total + 1, sizeof *s);
	if (s == NULL)
		abort();
	for (uint64_t i = 0; i < p->total; i++)
		s[i].data = make(p, i, &s[i].size);
	int status = blocking ? mr_send_batch(p->producer, s, p->total, &p->moved, p->timeout) : mr_try_send_batch(p->producer, s, p->total, &p->moved);
	for (uint64_t i = 0; i < p->total; i++)
		free((void *)(uintptr_t)s[i].data);
	free(s);
	if (status == MR_OK)
		add(p, " %zu", p->moved);
	return status;
}

static int run_send_batch(peer *p) { return send_all(p, true); }
static int run_try_send_batch(peer *p) { return send_all(p, false); }

static int reserve_with(peer *p, bool blocking)
{
	sizes s;
	uint64_t seed, seq;
	if (!read_sizes(p, &s) || !number(p, &seed) || !number(p, &seq) || p->producer == NULL)
		return protocol("SIZE SEED SEQ, with a producer");
	const size_t n = size_of(s, seq);
	int status = blocking ? mr_reserve(p->producer, n, &p->reserved, p->timeout) : mr_try_reserve(p->producer, n, &p->reserved);
	if (status == MR_OK) {
		fill((uint8_t *)p->reserved, n, seed, seq);
		p->reserved_size = n;
	}
	return status;
}

static int run_reserve(peer *p) { return reserve_with(p, true); }
static int run_try_reserve(peer *p) { return reserve_with(p, false); }

static int run_commit(peer *p)
{
	uint64_t n = p->reserved_size;
	if (p->producer == NULL || (p->next < p->count && !number(p, &n)))
		return protocol("commit [BYTES], with a producer");
	return mr_commit(p->producer, n);
}

static int run_discard(peer *p) { return p->producer == NULL ? protocol("no producer") : mr_discard(p->producer); }

int add_item(peer *p, const void *data, size_t size, uint64_t position, uint32_t deliveries)
{
	uint64_t seed, seq;
	bool whole = identify((const uint8_t *)data, size, &seed, &seq);
	if (!whole)
		return mr_fail(TORN, "torn message at position %llu", (unsigned long long)position);
	add(p, " %llu:%u:%zu:%llu:%llu", (unsigned long long)position, deliveries, size, (unsigned long long)seed, (unsigned long long)seq);
	return MR_OK;
}

/* Puts the count in front of the items of the answer. */
static void prepend_count(peer *p, size_t n)
{
	char *items = p->out;
	p->out = NULL;
	p->used = p->room = 0;
	add(p, " %zu%s", n, items == NULL ? "" : items);
	free(items);
}

static int receive_each(peer *p, bool blocking)
{
	uint64_t n, position;
	uint32_t deliveries;
	int status = MR_OK;
	if (!number(p, &n) || p->consumer == NULL)
		return protocol("receive N, with a consumer");
	const size_t capacity = mr_max_message(p->ring);
	uint8_t *b = buffer_of(capacity);
	for (; status == MR_OK && p->moved < n; p->moved += status == MR_OK) {
		size_t size = 0;
		status = blocking ? mr_receive(p->consumer, b, capacity, &size, p->timeout) : mr_try_receive(p->consumer, b, capacity, &size);
		mr_last(p->consumer, &position, &deliveries);
		if (status == MR_OK)
			status = add_item(p, b, size, position, deliveries);
	}
	free(b);
	if (status == MR_OK)
		prepend_count(p, p->moved);
	return status;
}

static int run_receive(peer *p) { return receive_each(p, true); }
static int run_try_receive(peer *p) { return receive_each(p, false); }

static int run_last(peer *p)
{
	uint64_t position;
	uint32_t deliveries;
	if (p->consumer == NULL)
		return protocol("no consumer");
	mr_last(p->consumer, &position, &deliveries);
	add(p, " %llu %u", (unsigned long long)position, deliveries);
	return MR_OK;
}

typedef struct summary {
	uint64_t seed, count, low, high, sum, newest;
} summary;

/* The summary of stream seed in s[0..*n), which stays sorted; a new one if need be. */
static summary *summary_of(summary **s, size_t *n, uint64_t seed)
{
	size_t i = 0;
	while (i < *n && (*s)[i].seed < seed)
		i++;
	if (i < *n && (*s)[i].seed == seed)
		return &(*s)[i];
	*s = (summary *)realloc(*s, (*n + 1) * sizeof **s);
	if (*s == NULL)
		abort();
	memmove(&(*s)[i + 1], &(*s)[i], (*n - i) * sizeof **s);
	memset(&(*s)[i], 0, sizeof **s);
	(*s)[i].seed = seed;
	(*s)[i].low = ~UINT64_C(0);
	++*n;
	return &(*s)[i];
}

static int run_drain(peer *p)
{
	summary *all = NULL;
	size_t streams = 0, count = 0, again = 0, size = 0;
	int status;
	if (p->consumer == NULL)
		return protocol("no consumer");
	const size_t capacity = mr_max_message(p->ring);
	uint8_t *b = buffer_of(capacity);
	while ((status = mr_receive(p->consumer, b, capacity, &size, p->timeout)) == MR_OK) {
		uint64_t seed, seq;
		uint32_t deliveries;
		mr_last(p->consumer, NULL, &deliveries);
		if (!identify(b, size, &seed, &seq)) {
			status = mr_fail(TORN, "torn message");
			break;
		}
		summary *s = summary_of(&all, &streams, seed);
		if (deliveries == 1 && seq < s->newest) {
			status = mr_fail(ORDER, "message %llu of stream %llu out of order", (unsigned long long)seq, (unsigned long long)seed);
			break;
		}
		if (deliveries == 1)
			s->newest = seq + 1;
		again += deliveries > 1;
		count++;
		s->count++;
		s->low = seq < s->low ? seq : s->low;
		s->high = seq > s->high ? seq : s->high;
		s->sum += seq;
	}
	free(b);
	p->moved = status == MR_EOF ? 0 : count;
	if (status == MR_EOF) {
		status = MR_OK;
		add(p, " %zu %zu", count, again);
		for (size_t i = 0; i < streams; i++)
			add(p, " %llu:%llu:%llu:%llu:%llu", (unsigned long long)all[i].seed, (unsigned long long)all[i].count, (unsigned long long)all[i].low,
			    (unsigned long long)all[i].high, (unsigned long long)all[i].sum);
	}
	free(all);
	return status;
}

/* Shows the messages of the lease that are held. */
static int show_lease(peer *p)
{
	int status = MR_OK;
	for (size_t i = p->held; status == MR_OK && i < p->leased; i++) {
		mr_message m = mr_at(p->consumer, i);
		status = add_item(p, m.data, m.size, m.position, m.deliveries);
	}
	return status;
}

static int lease_with(peer *p, bool blocking, bool batch)
{
	uint64_t max = 1;
	size_t n = 1;
	mr_message m;
	if (p->consumer == NULL || (batch && !number(p, &max)))
		return protocol("no consumer, or no MAX");
	int status;
	if (batch)
		status = blocking ? mr_next_batch(p->consumer, max, &n, p->timeout) : mr_try_next_batch(p->consumer, max, &n);
	else
		status = blocking ? mr_next(p->consumer, &m, p->timeout) : mr_try_next(p->consumer, &m);
	if (status != MR_OK)
		return status;
	p->leased = n;
	p->held = 0;
	add(p, " %zu", n);
	return show_lease(p);
}

static int run_next(peer *p) { return lease_with(p, true, false); }
static int run_try_next(peer *p) { return lease_with(p, false, false); }
static int run_next_batch(peer *p) { return lease_with(p, true, true); }
static int run_try_next_batch(peer *p) { return lease_with(p, false, true); }

static int run_release(peer *p)
{
	uint64_t i = p->leased - 1;
	if (p->consumer == NULL || (p->next < p->count && !number(p, &i)))
		return protocol("release [I], with a consumer");
	const size_t used = p->used;
	int status = show_lease(p); /* they must not have changed while they were held */
	p->used = used;
	p->out[used] = 0;
	if (status != MR_OK)
		return status;
	status = mr_release_to(p->consumer, i);
	if (status == MR_OK)
		p->held = i + 1;
	return status;
}

static int run_return(peer *p)
{
	uint64_t i = p->held;
	if (p->consumer == NULL || (p->next < p->count && !number(p, &i)))
		return protocol("return [I], with a consumer");
	int status = mr_return(p->consumer, i);
	if (status == MR_OK)
		p->held = p->leased;
	return status;
}

const entry message_commands[] = {
	{"send", run_send}, {"trysend", run_try_send}, {"sendbatch", run_send_batch}, {"trysendbatch", run_try_send_batch}, {"reserve", run_reserve},
	{"tryreserve", run_try_reserve}, {"commit", run_commit}, {"discard", run_discard}, {"receive", run_receive}, {"tryreceive", run_try_receive},
	{"last", run_last}, {"drain", run_drain}, {"next", run_next}, {"trynext", run_try_next}, {"nextbatch", run_next_batch}, {"trynextbatch", run_try_next_batch},
	{"release", run_release}, {"return", run_return}, {NULL, NULL},
};
