// boost_spsc.cpp: Boost.Lockfree's spsc_queue with a capacity that is known when it is compiled, placed in shared memory.
#include "peer.h"

#include <boost/lockfree/spsc_queue.hpp>
#include <new>

static constexpr size_t slots = 1024;

template <size_t N> struct message {
	char b[N];
};
template <size_t N> using queue_of = boost::lockfree::spsc_queue<message<N>, boost::lockfree::capacity<slots>>;

typedef void *queue;

template <size_t N> static void open_as(queue *q, struct run *r, int which)
{
	*q = map_queue(r, which, sizeof(queue_of<N>));
	if (r->index == 0)
		new (*q) queue_of<N>;
}

static void queue_open(queue *q, struct run *r, int which, size_t size)
{
	if (r->slots != slots)
		die("%s: compiled for %zu slots", r->mech, slots);
	switch (size) {
	case 8: return open_as<8>(q, r, which);
	case 64: return open_as<64>(q, r, which);
	default: return open_as<256>(q, r, which);
	}
}

static void queue_arm(queue *, struct run *, int) {}

template <size_t N> INLINE unsigned push(queue *q, const void *msgs, unsigned n)
{
	return (unsigned)static_cast<queue_of<N> *>(*q)->push(static_cast<const message<N> *>(msgs), n);
}

template <size_t N> INLINE unsigned pop(queue *q, void *buf, unsigned n)
{
	return (unsigned)static_cast<queue_of<N> *>(*q)->pop(static_cast<message<N> *>(buf), n);
}

INLINE int queue_send(queue *q, const void *msg, size_t size)
{
	switch (size) {
	case 8: return static_cast<queue_of<8> *>(*q)->push(*static_cast<const message<8> *>(msg));
	case 64: return static_cast<queue_of<64> *>(*q)->push(*static_cast<const message<64> *>(msg));
	default: return static_cast<queue_of<256> *>(*q)->push(*static_cast<const message<256> *>(msg));
	}
}

INLINE int queue_receive(queue *q, void *buf, size_t size)
{
	switch (size) {
	case 8: return static_cast<queue_of<8> *>(*q)->pop(*static_cast<message<8> *>(buf));
	case 64: return static_cast<queue_of<64> *>(*q)->pop(*static_cast<message<64> *>(buf));
	default: return static_cast<queue_of<256> *>(*q)->pop(*static_cast<message<256> *>(buf));
	}
}

#define HAVE_BURST
INLINE unsigned queue_send_burst(queue *q, const void *msgs, size_t size, unsigned n)
{
	switch (size) {
	case 8: return push<8>(q, msgs, n);
	case 64: return push<64>(q, msgs, n);
	default: return push<256>(q, msgs, n);
	}
}

INLINE unsigned queue_receive_burst(queue *q, void *buf, size_t size, unsigned n)
{
	switch (size) {
	case 8: return pop<8>(q, buf, n);
	case 64: return pop<64>(q, buf, n);
	default: return pop<256>(q, buf, n);
	}
}

#include "loops.h"
