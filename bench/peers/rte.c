// rte.c: DPDK's rte_ring with elements of the message's size, without EAL: rte_ring_init works on any memory. One program for each way to synchronise.
// The element functions of one mode are called directly, and with a constant size, as rte_ring_elem.h advises for speed.
#include "peer.h"

#include <rte_ring.h>
#include <rte_ring_elem.h>

#if defined(MODE_SP)
#define FLAGS (RING_F_SP_ENQ | RING_F_SC_DEQ)
#define ENQUEUE rte_ring_sp_enqueue_bulk_elem
#define DEQUEUE rte_ring_sc_dequeue_bulk_elem
#define ENQUEUE_BURST rte_ring_sp_enqueue_burst_elem
#define DEQUEUE_BURST rte_ring_sc_dequeue_burst_elem
#elif defined(MODE_MP)
#define FLAGS 0
#define ENQUEUE rte_ring_mp_enqueue_bulk_elem
#define DEQUEUE rte_ring_mc_dequeue_bulk_elem
#define ENQUEUE_BURST rte_ring_mp_enqueue_burst_elem
#define DEQUEUE_BURST rte_ring_mc_dequeue_burst_elem
#elif defined(MODE_RTS)
#define FLAGS (RING_F_MP_RTS_ENQ | RING_F_MC_RTS_DEQ)
#define ENQUEUE rte_ring_mp_rts_enqueue_bulk_elem
#define DEQUEUE rte_ring_mc_rts_dequeue_bulk_elem
#define ENQUEUE_BURST rte_ring_mp_rts_enqueue_burst_elem
#define DEQUEUE_BURST rte_ring_mc_rts_dequeue_burst_elem
#elif defined(MODE_HTS)
#define FLAGS (RING_F_MP_HTS_ENQ | RING_F_MC_HTS_DEQ)
#define ENQUEUE rte_ring_mp_hts_enqueue_bulk_elem
#define DEQUEUE rte_ring_mc_hts_dequeue_bulk_elem
#define ENQUEUE_BURST rte_ring_mp_hts_enqueue_burst_elem
#define DEQUEUE_BURST rte_ring_mc_hts_dequeue_burst_elem
#endif

typedef struct rte_ring *queue;

static void queue_open(queue *q, struct run *r, int which, size_t size)
{
	ssize_t bytes = rte_ring_get_memsize_elem((unsigned)size, (unsigned)r->slots);
	if (bytes < 0)
		die("%s: %ld slots of %ld bytes: refused", r->mech, (long)r->slots, (long)size);
	*q = (struct rte_ring *)map_queue(r, which, (size_t)bytes);
	if (r->index == 0 && rte_ring_init(*q, r->mech, (unsigned)r->slots, FLAGS) != 0)
		die("%s: rte_ring_init refused", r->mech);
}

static void queue_arm(queue *q, struct run *r, int which) { (void)q, (void)r, (void)which; }

INLINE int queue_send(queue *q, const void *msg, size_t size)
{
	return (int)ENQUEUE(*q, msg, (unsigned)size, 1, NULL);
}

INLINE int queue_receive(queue *q, void *buf, size_t size)
{
	return (int)DEQUEUE(*q, buf, (unsigned)size, 1, NULL);
}

#define HAVE_BURST
INLINE unsigned queue_send_burst(queue *q, const void *msgs, size_t size, unsigned n)
{
	return ENQUEUE_BURST(*q, msgs, (unsigned)size, n, NULL);
}

INLINE unsigned queue_receive_burst(queue *q, void *buf, size_t size, unsigned n)
{
	return DEQUEUE_BURST(*q, buf, (unsigned)size, n, NULL);
}

#include "loops.h"
