// millrace.c: millrace's own client for C. It waits by itself, with the same futexes as the one in Go.
#include "../../include/millrace.h"

#include "peer.h"

#define ANY_SIZE

typedef struct {
	mr_ring *ring;
	mr_producer *producer;
	mr_consumer *consumer;
} queue;

#define done(call) do { int status = (call); if (status != MR_OK) die(#call ": %s: %s", mr_strerror(status), mr_error()); } while (0)

static void queue_open(queue *q, struct run *r, int which, size_t size)
{
	mr_options o = {.slots = r->slots, .slot_size = size, .dir = r->dir};
	if (size > 4096) /* a message fits into one slot, and the ring is not larger; as in mech/ring.go */
		o.slots = r->slots * 4096 / size > 2 ? r->slots * 4096 / size : 2;
	o.participants = (uint32_t)(r->senders + r->receivers > 16 ? r->senders + r->receivers : 16);
#ifdef MODE_MPMC
	o.kind = MR_MPMC;
#else
	o.kind = MR_SPSC;
#endif
	done(mr_open_or_create(&q->ring, which ? "back" : "there", &o, NULL));
	if ((r->index < r->senders) == (which == 0))
		done(mr_producer_new(q->ring, 0, &q->producer));
	else
		done(mr_consumer_new(q->ring, 0, 0, &q->consumer));
}

static void queue_arm(queue *q, struct run *r, int which) { (void)q, (void)r, (void)which; }

#ifdef MODE_ZEROCOPY
INLINE int queue_send(queue *q, const void *msg, size_t size)
{
	void *room;
	done(mr_reserve(q->producer, size, &room, MR_FOREVER));
	memcpy(room, msg, size);
	done(mr_commit(q->producer, size));
	return 1;
}

INLINE int queue_receive(queue *q, void *buf, size_t size)
{
	mr_message m;
	done(mr_next(q->consumer, &m, MR_FOREVER));
	memcpy(buf, m.data, size);
	done(mr_release(q->consumer));
	return 1;
}
#else
INLINE int queue_send(queue *q, const void *msg, size_t size)
{
	done(mr_send(q->producer, msg, size, MR_FOREVER));
	return 1;
}

INLINE int queue_receive(queue *q, void *buf, size_t size)
{
	size_t got;
	done(mr_receive(q->consumer, buf, size, &got, MR_FOREVER));
	return 1;
}

#define HAVE_BURST
INLINE unsigned queue_send_burst(queue *q, const void *msgs, size_t size, unsigned n)
{
	done(mr_send_array(q->producer, msgs, size, n, NULL, MR_FOREVER));
	return n;
}

INLINE unsigned queue_receive_burst(queue *q, void *buf, size_t size, unsigned n)
{
	size_t got;
	done(mr_receive_array(q->consumer, buf, size, n, NULL, &got, MR_FOREVER));
	return (unsigned)got;
}
#endif

#include "loops.h"
