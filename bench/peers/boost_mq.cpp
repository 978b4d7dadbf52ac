// boost_mq.cpp: Boost.Interprocess's message_queue: a mutex and condition variables in shared memory.
#include "peer.h"

#include <boost/interprocess/ipc/message_queue.hpp>

#define ANY_SIZE

namespace ipc = boost::interprocess;
typedef ipc::message_queue *queue;

static void queue_open(queue *q, struct run *r, int which, size_t size)
{
	const char *base = strrchr(r->dir, '/');
	char name[128];
	snprintf(name, sizeof name, "%.100s-%d", base ? base + 1 : r->dir, which);
	if (r->index == 0) {
		*q = new ipc::message_queue(ipc::create_only, name, r->slots, size, ipc::permissions(0600));
	} else {
		*q = new ipc::message_queue(ipc::open_only, name);
		if (r->index == r->senders + r->receivers - 1)
			ipc::message_queue::remove(name);
	}
}

static void queue_arm(queue *, struct run *, int) {}

INLINE int queue_send(queue *q, const void *msg, size_t size)
{
	(*q)->send(msg, size, 0);
	return 1;
}

INLINE int queue_receive(queue *q, void *buf, size_t size)
{
	ipc::message_queue::size_type got;
	unsigned priority;
	(*q)->receive(buf, size, got, priority);
	return 1;
}

#include "loops.h"
