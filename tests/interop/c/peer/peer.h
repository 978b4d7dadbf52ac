/* What the files of the C peer have in common: tests/interop/PEER.md. */
#ifndef PEER_H
#define PEER_H

#include "message.h"

/* Codes that only the protocol has. */
enum { TORN = 100, ORDER, PROTOCOL };

/* The state of the peer. */
typedef struct peer {
	mr_ring *ring;
	mr_producer *producer;
	mr_consumer *consumer;
	void *reserved;
	size_t reserved_size;
	size_t leased, held; /* messages of the lease; first that is held */
	int64_t timeout;
	char *words[64];
	int count, next;      /* of words */
	char *out;            /* the answer so far, without code */
	size_t used, room;
	size_t moved;         /* messages, for the answer to an error */
	void (*then)(struct peer *p);
	const char *mode;     /* of pour and swallow */
	sizes size;
	uint64_t seed, first, total;
	uint64_t *progress;
	int log;
} peer;

typedef int command(peer *p);

typedef struct entry {
	const char *name;
	command *run;
} entry;

extern const entry message_commands[], storm_commands[];

const char *code_of(int status);
void add(peer *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *word(peer *p);
bool number(peer *p, uint64_t *n);
bool read_sizes(peer *p, sizes *s);
int protocol(const char *why);
int add_item(peer *p, const void *data, size_t size, uint64_t position, uint32_t deliveries);
uint8_t *buffer_of(size_t n);

#endif /* PEER_H */
