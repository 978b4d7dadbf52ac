// kernel.c: what the kernel offers: pipes, Unix sockets (stream and seqpacket), POSIX message queues, eventfd. All of them block, and one program is made for
// each. An eventfd carries no bytes, only that something happened: it is the least that a sleeping process can be woken with.
#include "peer.h"

#include <mqueue.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#define ANY_SIZE

typedef struct {
	int fd, listener;
} queue;

// whole: the calls of a stream may move a part only.
#define whole(call, fd, p, size)                                             \
	do {                                                                 \
		for (size_t done = 0; done < (size);) {                      \
			ssize_t k = call(fd, (char *)(p) + done, (size) - done); \
			if (k > 0)                                           \
				done += (size_t)k;                           \
			else if (k == 0 || errno != EINTR)                   \
				die(#call ": %s", k == 0 ? "the other end is gone" : strerror(errno)); \
		}                                                            \
	} while (0)

#if defined(MODE_STREAM) || defined(MODE_SEQPACKET) || defined(MODE_EVENTFD)
#ifdef MODE_SEQPACKET
#define TYPE SOCK_SEQPACKET
#else
#define TYPE SOCK_STREAM
#endif

static void socket_open(queue *q, struct run *r, int which)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	if ((size_t)snprintf(at.sun_path, sizeof at.sun_path, "%s/queue%d", r->dir, which) >= sizeof at.sun_path)
		die("%s: too long for a socket", r->dir);
	int fd = socket(AF_UNIX, TYPE, 0);
	must(fd >= 0, "socket");
	int bytes = (int)(r->slots * r->size < (4u << 20) ? r->slots * r->size : (4u << 20));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes); // as far as the machine allows
	if (r->index == 0) {
		must(bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, 1) == 0, at.sun_path);
		q->listener = fd;
	} else {
		must(connect(fd, (struct sockaddr *)&at, sizeof at) == 0, at.sun_path);
		q->fd = fd;
	}
}

static void socket_arm(queue *q, struct run *r)
{
	if (r->index == 0) {
		must((q->fd = accept(q->listener, NULL, NULL)) >= 0, "accept");
		int bytes = (int)(r->slots * r->size < (4u << 20) ? r->slots * r->size : (4u << 20));
		setsockopt(q->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
	}
}
#endif

#if defined(MODE_PIPE)
static void queue_open(queue *q, struct run *r, int which, size_t size)
{
	char path[300];
	snprintf(path, sizeof path, "%s/queue%d", r->dir, which);
	if (r->index == 0)
		must(mkfifo(path, 0600) == 0, path);
	must((q->fd = open(path, O_RDWR)) >= 0, path); // both ways: it does not wait for the other end
	fcntl(q->fd, F_SETPIPE_SZ, r->slots * size < (1u << 20) ? (int)(r->slots * size) : 1 << 20); // as far as the machine allows
}
static void queue_arm(queue *q, struct run *r, int which) { (void)q, (void)r, (void)which; }
#endif

#if defined(MODE_PIPE) || defined(MODE_STREAM)
INLINE int queue_send(queue *q, const void *msg, size_t size)
{
	whole(write, q->fd, msg, size);
	return 1;
}
INLINE int queue_receive(queue *q, void *buf, size_t size)
{
	whole(read, q->fd, buf, size);
	return 1;
}
#endif

#if defined(MODE_STREAM) || defined(MODE_SEQPACKET)
static void queue_open(queue *q, struct run *r, int which, size_t size) { (void)size, socket_open(q, r, which); }
static void queue_arm(queue *q, struct run *r, int which) { (void)which, socket_arm(q, r); }
#endif

#if defined(MODE_SEQPACKET)
INLINE int queue_send(queue *q, const void *msg, size_t size)
{
	must(send(q->fd, msg, size, 0) == (ssize_t)size, "send");
	return 1;
}
INLINE int queue_receive(queue *q, void *buf, size_t size)
{
	must(recv(q->fd, buf, size, 0) == (ssize_t)size, "recv");
	return 1;
}
#endif

#if defined(MODE_MQ)
static void queue_open(queue *q, struct run *r, int which, size_t size)
{
	static const long lengths[] = {1024, 256, 64, 10}; // the machine has a limit, 10 for most users
	char name[128];
	const char *base = strrchr(r->dir, '/');
	snprintf(name, sizeof name, "/%.100s-%d", base ? base + 1 : r->dir, which);
	if (r->index != 0) {
		must((q->fd = (int)mq_open(name, O_RDWR)) >= 0 && mq_unlink(name) == 0, name);
		return;
	}
	for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		struct mq_attr attr = {.mq_maxmsg = lengths[i], .mq_msgsize = (long)size};
		if ((q->fd = (int)mq_open(name, O_RDWR | O_CREAT, 0600, &attr)) >= 0)
			return;
	}
	must(0, name);
}
static void queue_arm(queue *q, struct run *r, int which) { (void)q, (void)r, (void)which; }
INLINE int queue_send(queue *q, const void *msg, size_t size)
{
	must(mq_send(q->fd, (const char *)msg, size, 0) == 0, "mq_send");
	return 1;
}
INLINE int queue_receive(queue *q, void *buf, size_t size)
{
	must(mq_receive(q->fd, (char *)buf, size, NULL) == (ssize_t)size, "mq_receive");
	return 1;
}
#endif

#if defined(MODE_EVENTFD)
static void queue_open(queue *q, struct run *r, int which, size_t size) { (void)size, socket_open(q, r, which); }

// queue_arm hands the eventfd from the first to the second.
static void queue_arm(queue *q, struct run *r, int which)
{
	char byte = 0;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = {&byte, 1};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
	(void)which;
	socket_arm(q, r);
	if (r->index == 0) {
		int fd = eventfd(0, EFD_SEMAPHORE);
		must(fd >= 0, "eventfd");
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
		must(sendmsg(q->fd, &m, 0) == 1, "sendmsg");
		q->fd = fd;
	} else {
		must(recvmsg(q->fd, &m, 0) == 1, "recvmsg");
		memcpy(&q->fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof q->fd);
	}
}
INLINE int queue_send(queue *q, const void *msg, size_t size)
{
	uint64_t one = 1;
	(void)msg, (void)size;
	must(write(q->fd, &one, 8) == 8, "write");
	return 1;
}
INLINE int queue_receive(queue *q, void *buf, size_t size)
{
	uint64_t one;
	(void)buf, (void)size;
	must(read(q->fd, &one, 8) == 8, "read");
	return 1;
}
#endif

#include "loops.h"
