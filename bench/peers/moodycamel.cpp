// moodycamel.cpp: ReaderWriterQueue (SPSC) or ConcurrentQueue (MPMC) between threads; both keep pointers and cannot be shared by processes.
// ConcurrentQueue is used with tokens and, for batches, with its bulk functions, as its documents advise. With one producer, try_enqueue
// keeps it bounded.
#include "peer.h"
#define THREADS

template <size_t N> struct message {
	char b[N];
};

#ifdef MODE_MPMC
#include <concurrentqueue/concurrentqueue.h>
template <size_t N> using queue_of = moodycamel::ConcurrentQueue<message<N>>;
template <size_t N> struct handle {
	queue_of<N> *q;
	bool grow; // one of several producers may take all blocks; then the others must allocate
	moodycamel::ProducerToken producer;
	moodycamel::ConsumerToken consumer;
	handle(queue_of<N> *q, bool grow) : q(q), grow(grow), producer(*q), consumer(*q) {}
	bool send(const message<N> &m) { return grow ? q->enqueue(producer, m) : q->try_enqueue(producer, m); }
	bool receive(message<N> &m) { return q->try_dequeue(consumer, m); }
};
#define HAVE_BURST
#else
#include <readerwriterqueue/readerwriterqueue.h>
template <size_t N> using queue_of = moodycamel::ReaderWriterQueue<message<N>>;
template <size_t N> struct handle {
	queue_of<N> *q;
	handle(queue_of<N> *q, bool) : q(q) {}
	bool send(const message<N> &m) { return q->try_enqueue(m); }
	bool receive(message<N> &m) { return q->try_dequeue(m); }
};
#endif

typedef void *queue;

static void *made[2]; // there and back

template <size_t N> static void make(struct run *r)
{
	for (auto &q : made) {
#ifdef MODE_MPMC
		q = new queue_of<N>(r->slots, (size_t)(r->senders + r->receivers), 0);
#else
		q = new queue_of<N>(r->slots - 1); // one more block would double it
#endif
	}
}

static void queues_make(struct run *r)
{
	switch (r->size) {
	case 8: return make<8>(r);
	case 64: return make<64>(r);
	default: return make<256>(r);
	}
}

static void queue_open(queue *q, struct run *r, int which, size_t size)
{
	switch (size) {
	case 8: *q = new handle<8>(static_cast<queue_of<8> *>(made[which]), r->senders > 1); return;
	case 64: *q = new handle<64>(static_cast<queue_of<64> *>(made[which]), r->senders > 1); return;
	default: *q = new handle<256>(static_cast<queue_of<256> *>(made[which]), r->senders > 1); return;
	}
}

static void queue_arm(queue *, struct run *, int) {}

#define AS(n) static_cast<handle<n> *>(*q)

INLINE int queue_send(queue *q, const void *msg, size_t size)
{
	switch (size) {
	case 8: return AS(8)->send(*static_cast<const message<8> *>(msg));
	case 64: return AS(64)->send(*static_cast<const message<64> *>(msg));
	default: return AS(256)->send(*static_cast<const message<256> *>(msg));
	}
}

INLINE int queue_receive(queue *q, void *buf, size_t size)
{
	switch (size) {
	case 8: return AS(8)->receive(*static_cast<message<8> *>(buf));
	case 64: return AS(64)->receive(*static_cast<message<64> *>(buf));
	default: return AS(256)->receive(*static_cast<message<256> *>(buf));
	}
}

#ifdef HAVE_BURST
#define BULK(n) (AS(n)->q->try_enqueue_bulk(AS(n)->producer, static_cast<const message<n> *>(msgs), count) ? count : 0)
#define UNBULK(n) (unsigned)AS(n)->q->try_dequeue_bulk(AS(n)->consumer, static_cast<message<n> *>(buf), count)

INLINE unsigned queue_send_burst(queue *q, const void *msgs, size_t size, unsigned count)
{
	switch (size) {
	case 8: return BULK(8);
	case 64: return BULK(64);
	default: return BULK(256);
	}
}

INLINE unsigned queue_receive_burst(queue *q, void *buf, size_t size, unsigned count)
{
	switch (size) {
	case 8: return UNBULK(8);
	case 64: return UNBULK(64);
	default: return UNBULK(256);
	}
}
#endif

#include "loops.h"
