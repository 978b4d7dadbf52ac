/*
 * The interface of the C client: types, functions, and what each promises. docs/C.md is the guide.
 *
 * Every function that can fail returns an mr_status: MR_OK is 0. mr_error() tells more about the last failure of the calling thread.
 * Time-outs are in nanoseconds; MR_FOREVER waits without end, 0 does not wait.
 *
 * Threads: a ring may be used by any number of threads, a producer or a consumer by one at a time (misuse is detected as well as that costs
 * nothing). Handles do not survive fork: in the child every call on them returns MR_CLOSED.
 */
#ifndef MILLRACE_API_H
#define MILLRACE_API_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How the functions are linked: inline in the including file; with MILLRACE_SHARED they come from libmillrace.so, which defines MILLRACE_API itself. */
#ifndef MILLRACE_API
#ifdef MILLRACE_SHARED
#define MILLRACE_API extern
#else
#define MILLRACE_API __attribute__((unused)) static inline
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define MR_FOREVER INT64_C(-1)
#define MR_SECOND INT64_C(1000000000)
#define MR_MILLISECOND INT64_C(1000000)

typedef enum mr_status {
	MR_OK = 0,
	MR_FULL,         /* try calls: not all positions that the message needs were free at some moment of the call */
	MR_EMPTY,        /* try calls: nothing was ready at some moment of the call */
	MR_EOF,          /* end of stream: producers there were, none is left, and everything has been received */
	MR_NO_CONSUMERS, /* full, there were consumers, and none is left to read */
	MR_TIMEOUT,      /* the time-out passed */
	MR_STALLED,      /* the time-out passed, behind a participant that is alive and does not move */
	MR_CLOSED,       /* the handle is closed, the ring shut down, or this is a forked child */
	MR_LOST,         /* the segment was truncated or removed by force */
	MR_MISUSE,       /* two threads at once, a second lease or reservation, none at all, a bad index */
	MR_ROLE_TAKEN,   /* an SPSC ring has a live participant in this role */
	MR_TOO_MANY,     /* the participant table is full */
	MR_MISMATCH,     /* the ring exists with other options, or carries typed values */
	MR_NOT_SEGMENT,  /* something else lies there */
	MR_BYTE_ORDER,   /* a segment of the other byte order */
	MR_VERSION,      /* a segment of another version */
	MR_LAYOUT,       /* a segment of another layout */
	MR_CORRUPT,      /* a value that the format does not allow */
	MR_UNSUPPORTED,  /* not with this backing, or not on this machine */
	MR_IN_USE,       /* somebody is attached, or unread messages are left */
	MR_EXIST,        /* the name exists */
	MR_NOT_EXIST,    /* the name does not exist */
	MR_PERMISSION,   /* not permitted, or open for observing only */
	MR_SIZE,         /* larger than mr_max_message, or than the reservation */
	MR_SHORT_BUFFER, /* the buffer is too small; the message stays */
	MR_INVALID,      /* a bad name or option */
	MR_NO_SPACE,     /* memory or a file system is full */
	MR_SYSTEM        /* another error of the system; see mr_error */
} mr_status;

/* mr_strerror says in a few words what a status means. It never returns NULL. */
MILLRACE_API const char *mr_strerror(int status);
/* mr_error returns what is known about the last failure in this thread other than MR_FULL, MR_EMPTY and MR_EOF. Lifetime: until the next one. */
MILLRACE_API const char *mr_error(void);

typedef struct mr_ring mr_ring;
typedef struct mr_producer mr_producer;
typedef struct mr_consumer mr_consumer;

enum { MR_SPSC = 1, MR_MPMC = 2 };            /* kind */
enum { MR_REDELIVER = 1, MR_DROP = 2 };       /* policy: what becomes of a message whose consumer died holding it */
enum { MR_POSIX = 1, MR_SYSV = 2, MR_MEMFD = 3 }; /* backing */
enum { MR_NO_HUGE = 0, MR_TRANSPARENT = 1, MR_HUGE_2M = 2, MR_HUGE_1G = 3 };
enum { MR_ROLE_PRODUCER = 1, MR_ROLE_CONSUMER = 2 };
enum { MR_LIVE = 1, MR_IS_STALLED = 2, MR_DEAD = 3 }; /* state of a participant */

/* Flags of mr_open, mr_remove, mr_producer_new and mr_consumer_new. */
enum {
	MR_READ_ONLY = 1,          /* mr_open: observe only; maps read-only, registers nothing, needs read permission only */
	MR_WITHOUT_FAULT_GUARD = 2, /* mr_open: no SIGBUS handler; a truncated segment ends the process */
	MR_IF_DRAINED = 4,         /* mr_remove: MR_IN_USE when unread messages are left */
	MR_FORCE = 8,              /* mr_remove: also while it is in use; the calls of everybody return MR_LOST */
	MR_WAIT_FOR_CONSUMERS = 16, /* mr_producer_new: wait while nobody is left to read */
	MR_FOLLOW = 32             /* mr_consumer_new: wait for new producers at the end of the stream */
};

/* Options of a new ring. Zero stands for the default. */
typedef struct mr_options {
	uint32_t kind;           /* default MR_MPMC */
	uint32_t policy;         /* default MR_REDELIVER */
	uint64_t slots;          /* a power of two, 1 to 2^24; default 1024 */
	uint64_t slot_size;      /* payload bytes of one slot, 1 to 2^30; default 256 */
	uint32_t max_deliveries; /* 0 to 48; 0: no limit */
	uint32_t participants;   /* producers and consumers at once, 1 to 4096; default 256 */
	uint32_t backing;        /* default MR_POSIX */
	uint32_t huge;           /* default MR_NO_HUGE */
	uint32_t perm;           /* permission bits, exact; default 0600 */
	uint32_t temporary;      /* not 0: whoever reads it to the end should remove it; nothing happens by itself */
	const char *dir;         /* default $MILLRACE_DIR, or /dev/shm */
} mr_options;

/* mr_create makes a ring that did not exist. Of any number of callers one succeeds, the others get MR_EXIST; nobody sees a half-made ring.
 * Blocks: while the memory is reserved and cleared, about a millisecond a MiB. Errors: MR_INVALID, MR_EXIST, MR_PERMISSION, MR_NO_SPACE, MR_SYSTEM. */
MILLRACE_API int mr_create(mr_ring **ring, const char *name, const mr_options *options);

/* mr_open opens a ring. dir may be NULL. Blocks: up to two seconds while somebody is removing it. Errors: MR_NOT_EXIST, MR_PERMISSION, what is wrong with the file. */
MILLRACE_API int mr_open(mr_ring **ring, const char *name, const char *dir, unsigned flags);

/* mr_open_fd opens a ring that was handed on by descriptor. The descriptor stays the caller's. */
MILLRACE_API int mr_open_fd(mr_ring **ring, int fd, unsigned flags);

/* mr_open_or_create opens a ring, or creates it. When it exists, zero options match anything; others must be equal (MR_MISMATCH), except perm, huge and dir. created may be NULL. */
MILLRACE_API int mr_open_or_create(mr_ring **ring, const char *name, const mr_options *options, bool *created);

/* mr_remove unlinks a ring; unread messages go with it. MR_IN_USE while anybody is attached, this process included. */
MILLRACE_API int mr_remove(const char *name, const char *dir, unsigned flags);

/* mr_sweep removes what creators and removers that died left in a directory. removed, how many files, may be NULL. */
MILLRACE_API int mr_sweep(const char *dir, int *removed);

/* mr_close closes the handles of this ring that are still open and detaches. NULL is fine. The ring itself stays, and so do its messages.
 * No other thread may be in a call: end them with mr_shutdown first. Lifetime: ends that of everything that came from the ring. */
MILLRACE_API int mr_close(mr_ring *ring);

/* mr_shutdown makes calls on the handles of this ring, also those that are blocked, return MR_CLOSED. From any thread. */
MILLRACE_API void mr_shutdown(mr_ring *ring);

/* mr_fd returns a new descriptor of the segment, to hand on to another process. MR_UNSUPPORTED for System V. */
MILLRACE_API int mr_fd(mr_ring *ring, int *fd);

/* mr_ring_options tells what is in force; huge is what was obtained, dir is NULL. */
MILLRACE_API void mr_ring_options(const mr_ring *ring, mr_options *options);
/* mr_max_message returns the largest message in bytes: slot_size x max(1, slots/2). */
MILLRACE_API size_t mr_max_message(const mr_ring *ring);

/* Counters and positions, of all participants since the ring was created; docs/FORMAT.md section 13 says which are exact. */
typedef struct mr_stats {
	uint64_t slots, used;                           /* used: slots that are not free */
	uint64_t producer_position, consumer_position; /* next to claim, next to receive for the first time */
	uint64_t sent, received, redelivered, lost, skipped, padding, discarded, recoveries, sleeps, wakes;
	uint64_t producers_ever, producers_live, producers_died, consumers_ever, consumers_live, consumers_died;
} mr_stats;

/* mr_ring_stats reads the counters. Time in proportion to slots and participants. MR_LOST when the segment is gone. */
MILLRACE_API int mr_ring_stats(mr_ring *ring, mr_stats *stats);

typedef struct mr_participant {
	uint32_t id, role, pid, state; /* pid: for people; state: MR_LIVE, MR_IS_STALLED, MR_DEAD */
	uint64_t position;             /* of the first claim or lease that it holds, when holding */
	bool holding;
} mr_participant;

/* mr_participants lists who is registered: up to max of them, and in *count how many there are. A participant is stalled that held the same position
 * in the call before, at least 100 ms ago. */
MILLRACE_API int mr_participants(mr_ring *ring, mr_participant *list, size_t max, size_t *count);

/* mr_recover settles what dead participants left. Rings do it as they are used; this is for one that nobody uses. count, how many, may be NULL. */
MILLRACE_API int mr_recover(mr_ring *ring, size_t *count);

/*
 * Producers.
 */

/* mr_producer_new registers a producer. Errors: MR_ROLE_TAKEN, MR_TOO_MANY, MR_PERMISSION. Blocks: for some system calls.
 * Lifetime: until mr_producer_close, mr_close or the end of the process. */
MILLRACE_API int mr_producer_new(mr_ring *ring, unsigned flags, mr_producer **producer);
/* mr_producer_close ends the registration; an open reservation is discarded. NULL is fine. By the thread that uses the handle. */
MILLRACE_API int mr_producer_close(mr_producer *producer);

/* mr_send commits a copy of a message. Once it returned MR_OK the message stays until a consumer has released it, whoever dies.
 * Blocks: until it fits; MR_TIMEOUT or MR_STALLED, MR_NO_CONSUMERS, MR_CLOSED. After 128 positions of an MPMC ring that is more than half full a call lets busy
 * consumers get ahead, for as long as in mr_receive. Progress: wait-free when there is room (SPSC); lock-free (MPMC). */
MILLRACE_API int mr_send(mr_producer *producer, const void *data, size_t size, int64_t timeout);
/* mr_try_send commits a copy of a message, or returns MR_FULL. Blocks: never. */
MILLRACE_API int mr_try_send(mr_producer *producer, const void *data, size_t size);

/* mr_reserve claims room for a message of size bytes, to be filled in place. Until mr_commit or mr_discard other calls on the handle are MR_MISUSE.
 * Lifetime: *data aliases the ring until then. Visibility: nothing is readable before. Failure: a death before is skipped and counted. Blocks as mr_send. */
MILLRACE_API int mr_reserve(mr_producer *producer, size_t size, void **data, int64_t timeout);
MILLRACE_API int mr_try_reserve(mr_producer *producer, size_t size, void **data);
/* mr_commit publishes the first size bytes of the reservation. Blocks: never. MR_SIZE leaves it open. */
MILLRACE_API int mr_commit(mr_producer *producer, size_t size);
/* mr_discard gives the room back; the message never existed. */
MILLRACE_API int mr_discard(mr_producer *producer);

typedef struct mr_slice {
	const void *data;
	size_t size;
} mr_slice;

/* mr_send_batch commits copies of messages, in order; *sent, which may be NULL, says how many. All sizes are checked first. A batch that needs at most half the
 * slots is claimed whole; a longer one goes as several such parts. A death within a part leaves a prefix of it, never a hole. Blocks as mr_send. */
MILLRACE_API int mr_send_batch(mr_producer *producer, const mr_slice *messages, size_t count, size_t *sent, int64_t timeout);
/* mr_try_send_batch commits the longest prefix that fits; MR_FULL when that is not all. Blocks: never. */
MILLRACE_API int mr_try_send_batch(mr_producer *producer, const mr_slice *messages, size_t count, size_t *sent);
/* mr_send_array is mr_send_batch for count messages of size bytes that lie in a row. */
MILLRACE_API int mr_send_array(mr_producer *producer, const void *base, size_t size, size_t count, size_t *sent, int64_t timeout);
MILLRACE_API int mr_try_send_array(mr_producer *producer, const void *base, size_t size, size_t count, size_t *sent);

/*
 * Consumers.
 */

/* mr_consumer_new registers a consumer. grace: how long to wait for a successor when the last producer died without closing. See mr_producer_new. */
MILLRACE_API int mr_consumer_new(mr_ring *ring, unsigned flags, int64_t grace, mr_consumer **consumer);
/* mr_consumer_close ends the registration; an open lease is given back as if the consumer had died. NULL is fine. By the thread that uses the handle. */
MILLRACE_API int mr_consumer_close(mr_consumer *consumer);

/* mr_receive copies the next message into buffer and releases it, as one step. *size gets its size, also with MR_SHORT_BUFFER, when the message stays.
 * Blocks: until a message is ready; MR_EOF, MR_TIMEOUT or MR_STALLED, MR_CLOSED. After 128, or 256, positions in front of busy producers a call lets them get
 * ahead, for some five microseconds, and six for each KiB of a slot, up to eight. Progress: wait-free (SPSC); lock-free (MPMC). */
MILLRACE_API int mr_receive(mr_consumer *consumer, void *buffer, size_t capacity, size_t *size, int64_t timeout);
/* mr_try_receive is mr_receive, or MR_EMPTY. Blocks: never. */
MILLRACE_API int mr_try_receive(mr_consumer *consumer, void *buffer, size_t capacity, size_t *size);
/* mr_receive_array copies the next 1 to count messages into a row of cells of size bytes each, and releases them; *received: how many. sizes, which may be NULL,
 * gets the size of each. It waits for the first one only. A message that does not fit ends it and stays; as the first one it is MR_SHORT_BUFFER. Blocks as mr_receive.
 * Failure: after a death in the call a first part has been received and the rest is in the ring; of an MPMC ring it may come
 * again with a higher count, or is lost and counted, as the policy says. */
MILLRACE_API int mr_receive_array(mr_consumer *consumer, void *base, size_t size, size_t count, size_t *sizes, size_t *received, int64_t timeout);
/* mr_try_receive_array is mr_receive_array, or MR_EMPTY. Blocks: never. */
MILLRACE_API int mr_try_receive_array(mr_consumer *consumer, void *base, size_t size, size_t count, size_t *sizes, size_t *received);
/* mr_last tells which message the last mr_receive got: position, and deliveries (1, 2, ...; saturates at 49). Both pointers may be NULL. */
MILLRACE_API void mr_last(const mr_consumer *consumer, uint64_t *position, uint32_t *deliveries);

typedef struct mr_message {
	const void *data; /* aliases the ring until the release */
	size_t size;
	uint64_t position;
	uint32_t deliveries; /* 1, 2, ...; saturates at 49 */
} mr_message;

/* mr_next leases the next message without copying it. One lease at a time: until it is released other calls on the handle are MR_MISUSE.
 * Blocks as mr_receive. Failure: a death before the release gives it to somebody else with a higher count, or it is lost and counted, as the policy says. */
MILLRACE_API int mr_next(mr_consumer *consumer, mr_message *message, int64_t timeout);
MILLRACE_API int mr_try_next(mr_consumer *consumer, mr_message *message);
/* mr_next_batch leases 1 to max messages, *count of them; it never waits for a second one. */
MILLRACE_API int mr_next_batch(mr_consumer *consumer, size_t max, size_t *count, int64_t timeout);
MILLRACE_API int mr_try_next_batch(mr_consumer *consumer, size_t max, size_t *count);
/* mr_at returns message i of the open lease; with data NULL when there is no such message. */
MILLRACE_API mr_message mr_at(const mr_consumer *consumer, size_t i);
/* mr_release ends the lease. Blocks: never. Progress: wait-free. */
MILLRACE_API int mr_release(mr_consumer *consumer);
/* mr_release_to releases messages 0 to i of the lease. */
MILLRACE_API int mr_release_to(mr_consumer *consumer, size_t i);
/* mr_return gives message i and all behind it back, to be delivered again to somebody, under either policy. Those before it must have been released. */
MILLRACE_API int mr_return(mr_consumer *consumer, size_t i);

#ifdef __cplusplus
}
#endif

#endif /* MILLRACE_API_H */
