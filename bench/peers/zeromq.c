// zeromq.c: ZeroMQ over ipc://: PUSH and PULL, with a high-water mark of the number of slots. Its I/O threads may use every core.
#include "peer.h"

#include <zmq.h>

#define ANY_SIZE

typedef struct {
	void *context, *socket;
} queue;

static void queue_open(queue *q, struct run *r, int which, size_t size)
{
	char at[300];
	int sends = (r->index < r->senders) == (which == 0), mark = (int)r->slots, linger = 0;
	(void)size;
	snprintf(at, sizeof at, "ipc://%s/queue%d", r->dir, which);
	must(q->context = zmq_ctx_new(), "zmq_ctx_new");
	for (int core = 0; core < sysconf(_SC_NPROCESSORS_ONLN); core++)
		zmq_ctx_set(q->context, ZMQ_THREAD_AFFINITY_CPU_ADD, core);
	must(q->socket = zmq_socket(q->context, sends ? ZMQ_PUSH : ZMQ_PULL), "zmq_socket");
	zmq_setsockopt(q->socket, sends ? ZMQ_SNDHWM : ZMQ_RCVHWM, &mark, sizeof mark);
	zmq_setsockopt(q->socket, ZMQ_LINGER, &linger, sizeof linger);
	must((r->index == 0 ? zmq_bind(q->socket, at) : zmq_connect(q->socket, at)) == 0, at);
}

static void queue_arm(queue *q, struct run *r, int which) { (void)q, (void)r, (void)which; }

INLINE int queue_send(queue *q, const void *msg, size_t size)
{
	must(zmq_send(q->socket, msg, size, 0) == (int)size, "zmq_send");
	return 1;
}

INLINE int queue_receive(queue *q, void *buf, size_t size)
{
	must(zmq_recv(q->socket, buf, size, 0) == (int)size, "zmq_recv");
	return 1;
}

#include "loops.h"
