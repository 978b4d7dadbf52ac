// ck.c: Concurrency Kit's ck_ring, with entries of the message's size stored in the ring (CK_RING_PROTOTYPE), SPSC or MPMC.
#include "peer.h"

#include <ck_ring.h>

struct m8 { char b[8]; };
struct m64 { char b[64]; };
struct m256 { char b[256]; };
CK_RING_PROTOTYPE(m8, m8)
CK_RING_PROTOTYPE(m64, m64)
CK_RING_PROTOTYPE(m256, m256)

typedef struct {
	struct ck_ring *ring;
	void *buffer;
} queue;

#ifdef MODE_MPMC
#define ENQUEUE(n) ck_ring_enqueue_mpmc_##n
#define DEQUEUE(n) ck_ring_dequeue_mpmc_##n
#else
#define ENQUEUE(n) ck_ring_enqueue_spsc_##n
#define DEQUEUE(n) ck_ring_dequeue_spsc_##n
#endif

static void queue_open(queue *q, struct run *r, int which, size_t size)
{
	q->ring = (struct ck_ring *)map_queue(r, which, 4096 + r->slots * size);
	q->buffer = (char *)q->ring + 4096;
	if (r->index == 0)
		ck_ring_init(q->ring, (unsigned)r->slots);
}

static void queue_arm(queue *q, struct run *r, int which) { (void)q, (void)r, (void)which; }

INLINE int queue_send(queue *q, const void *msg, size_t size)
{
	switch (size) {
	case 8: return ENQUEUE(m8)(q->ring, (struct m8 *)q->buffer, (struct m8 *)msg);
	case 64: return ENQUEUE(m64)(q->ring, (struct m64 *)q->buffer, (struct m64 *)msg);
	default: return ENQUEUE(m256)(q->ring, (struct m256 *)q->buffer, (struct m256 *)msg);
	}
}

INLINE int queue_receive(queue *q, void *buf, size_t size)
{
	switch (size) {
	case 8: return DEQUEUE(m8)(q->ring, (struct m8 *)q->buffer, (struct m8 *)buf);
	case 64: return DEQUEUE(m64)(q->ring, (struct m64 *)q->buffer, (struct m64 *)buf);
	default: return DEQUEUE(m256)(q->ring, (struct m256 *)q->buffer, (struct m256 *)buf);
	}
}

#include "loops.h"
