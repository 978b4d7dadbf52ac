/* Descriptors, locks and mappings; what happens to them in a forked child; and the guard against truncated files. */
#ifndef MILLRACE_FILE_H
#define MILLRACE_FILE_H

#include "millrace_header.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef F_OFD_SETLK
#error "millrace: include millrace.h before the headers of the system, or compile with -D_GNU_SOURCE"
#endif

#define MR_PATH 4096

/* A descriptor that carries locks. Its copies in a forked child are closed there at once: they would keep this process alive in the eyes of others. */
typedef struct mr_owned {
	int fd;
	struct mr_owned *next, **link;
} mr_owned;

/* A mapping that may fault, and whether it did. Entries are never freed, because a signal handler reads them. */
typedef struct mr_guard {
	uintptr_t from, size; /* 0: unused */
	uint32_t lost, used;
} mr_guard;

enum { MR_GUARDS = 64 };

typedef struct mr_guards {
	mr_guard guard[MR_GUARDS];
	struct mr_guards *next;
} mr_guards;

/* What all rings of a process have in common. Zero bytes are an unlocked mutex. */
typedef struct mr_process {
	pthread_mutex_t mutex;
	mr_owned *owned;
	struct mr_ring *rings;
	mr_guards guards;
	struct sigaction before; /* what handled SIGBUS before */
	bool watching_forks, guarding;
	uint32_t membarrier; /* 0: not asked yet, 1: registered, 2: not to be had */
} mr_process;

#ifdef __cplusplus
extern "C" {
#endif
MR_SHARED mr_process mr_process_;
#ifdef __cplusplus
}
#endif

MR_FAST void mr_lock_process(void) { (void)pthread_mutex_lock(&mr_process_.mutex); }
MR_FAST void mr_unlock_process(void) { (void)pthread_mutex_unlock(&mr_process_.mutex); }

MR_FAST int64_t mr_now(clockid_t clock)
{
	struct timespec t;
	(void)clock_gettime(clock, &t); /* cannot fail for these clocks */
	return (int64_t)t.tv_sec * MR_SECOND + t.tv_nsec;
}

MR_FAST int64_t mr_monotonic(void) { return mr_now(CLOCK_MONOTONIC); }

MR_FAST void mr_nap(int64_t ns)
{
	struct timespec t;
	t.tv_sec = (time_t)(ns / MR_SECOND);
	t.tv_nsec = (long)(ns % MR_SECOND);
	(void)nanosleep(&t, NULL);
}

/* open(2), close-on-exec, again when a signal came between. */
MR_SLOW int mr_open_file(const char *path, int flags, unsigned mode)
{
	for (;;) {
		int fd = open(path, flags | O_CLOEXEC, mode);
		if (fd >= 0 || errno != EINTR)
			return fd;
	}
}

MR_SLOW int mr_flock(int fd, int how)
{
	for (;;) {
		if (flock(fd, how) == 0)
			return 0;
		if (errno != EINTR)
			return errno;
	}
}

MR_SLOW int mr_random(void *bytes, size_t n)
{
	int fd = mr_open_file("/dev/urandom", O_RDONLY, 0);
	ssize_t k = fd < 0 ? -1 : read(fd, bytes, n);
	int error = k < 0 ? errno : EIO;
	if (fd >= 0)
		(void)close(fd);
	return k == (ssize_t)n ? MR_OK : mr_fail_errno("read", "/dev/urandom", error);
}

/* The path by which a descriptor can be opened once more. */
MR_FAST void mr_proc_path(char *path, size_t size, int fd) { (void)snprintf(path, size, "/proc/self/fd/%d", fd); }

/* Opens the file behind fd once more, as an owned descriptor. Returns an error number. */
MR_SLOW int mr_own_again(mr_owned *own, int fd, int flags)
{
	char path[64];
	mr_proc_path(path, sizeof path, fd);
	mr_lock_process();
	own->fd = mr_open_file(path, flags, 0);
	int error = own->fd < 0 ? errno : 0;
	if (error == 0) {
		own->next = mr_process_.owned;
		own->link = &mr_process_.owned;
		if (own->next != NULL)
			own->next->link = &own->next;
		mr_process_.owned = own;
	}
	mr_unlock_process();
	return error;
}

/* Gives the locks of a descriptor up and closes it. The unlock is explicit: a child that is being started has a copy until its exec. */
MR_SLOW void mr_disown(mr_owned *own)
{
	if (own->fd < 0)
		return;
	struct flock all;
	memset(&all, 0, sizeof all);
	all.l_type = F_UNLCK;
	all.l_whence = SEEK_SET;
	mr_lock_process();
	(void)fcntl(own->fd, F_OFD_SETLK, &all); /* there may be none */
	(void)mr_flock(own->fd, LOCK_UN);
	(void)close(own->fd);
	*own->link = own->next;
	if (own->next != NULL)
		own->next->link = own->link;
	mr_unlock_process();
	own->fd = -1;
}

/* F_OFD_SETLK on one byte. 0: done, EAGAIN: somebody else has it, otherwise an error number. */
MR_SLOW int mr_set_lock(int fd, uint64_t byte, short kind)
{
	for (;;) {
		struct flock lock;
		memset(&lock, 0, sizeof lock);
		lock.l_type = kind;
		lock.l_whence = SEEK_SET;
		lock.l_start = (off_t)byte;
		lock.l_len = 1;
		if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
			return 0;
		if (errno == EACCES || errno == EAGAIN)
			return EAGAIN;
		if (errno != EINTR)
			return errno;
	}
}

/* Whether somebody holds the write lock on one of count bytes, on another description than fd's. Who cannot be asked about counts as alive. */
MR_SLOW bool mr_any_locked(int fd, uint64_t byte, uint64_t count)
{
	for (;;) {
		struct flock lock;
		memset(&lock, 0, sizeof lock);
		lock.l_type = F_RDLCK;
		lock.l_whence = SEEK_SET;
		lock.l_start = (off_t)byte;
		lock.l_len = (off_t)count;
		if (fcntl(fd, F_OFD_GETLK, &lock) == 0)
			return lock.l_type != F_UNLCK;
		if (errno != EINTR)
			return true;
	}
}

MR_SLOW bool mr_locked(int fd, uint64_t byte) { return mr_any_locked(fd, byte, 1); }

/* Whether the name path is the file behind fd. */
MR_SLOW bool mr_leads_to(const char *path, int fd)
{
	struct stat named, own;
	return fstat(fd, &own) == 0 && lstat(path, &named) == 0 && named.st_dev == own.st_dev && named.st_ino == own.st_ino;
}

/*
 * The guard: a store beyond the end of a file that somebody truncated raises SIGBUS. The handler puts zero pages of this process over the whole mapping and
 * notes that, so that the call goes on, harmlessly, and answers MR_LOST at its end. Faults elsewhere go to whoever handled them before.
 */
MR_SLOW void mr_on_fault(int number, siginfo_t *info, void *context)
{
	int error = errno;
	/* Only a fault behind the end of a file: what else there is, zeros do not cure, and the access would fault for ever. */
	for (mr_guards *t = info->si_code == BUS_ADRERR ? &mr_process_.guards : NULL; t != NULL; t = __atomic_load_n(&t->next, __ATOMIC_ACQUIRE)) {
		for (int i = 0; i < MR_GUARDS; i++) {
			mr_guard *g = &t->guard[i];
			uintptr_t size = __atomic_load_n(&g->size, __ATOMIC_ACQUIRE), from = __atomic_load_n(&g->from, __ATOMIC_RELAXED);
			if ((uintptr_t)info->si_addr - from >= size)
				continue;
			mr_store32_rel(&g->lost, 1);
			if (mmap((void *)from, size, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED) {
				errno = error;
				return;
			}
		}
	}
	if ((mr_process_.before.sa_flags & SA_SIGINFO) != 0)
		mr_process_.before.sa_sigaction(number, info, context);
	else if (mr_process_.before.sa_handler == SIG_DFL || mr_process_.before.sa_handler == SIG_IGN)
		(void)signal(number, SIG_DFL); /* the access faults once more, and ends the process */
	else
		mr_process_.before.sa_handler(number);
	errno = error;
}

/* Guards a mapping, or, with size 0, only finds a place for its `lost`. NULL when there is no memory. */
MR_SLOW mr_guard *mr_guard_mapping(const void *from, size_t size)
{
	mr_guard *found = NULL;
	mr_lock_process();
	for (mr_guards *t = &mr_process_.guards; found == NULL; t = t->next) {
		for (int i = 0; i < MR_GUARDS && found == NULL; i++)
			if (!t->guard[i].used)
				found = &t->guard[i];
		if (found == NULL && t->next == NULL) {
			mr_guards *more = (mr_guards *)calloc(1, sizeof *more);
			if (more == NULL)
				break;
			__atomic_store_n(&t->next, more, __ATOMIC_RELEASE);
		}
	}
	if (found != NULL) {
		found->used = 1;
		mr_store32_rlx(&found->lost, 0);
		__atomic_store_n(&found->from, (uintptr_t)from, __ATOMIC_RELAXED);
		__atomic_store_n(&found->size, (uintptr_t)size, __ATOMIC_RELEASE);
		if (size > 0 && !mr_process_.guarding) {
			struct sigaction action;
			memset(&action, 0, sizeof action);
			action.sa_sigaction = mr_on_fault;
			action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
			(void)sigemptyset(&action.sa_mask);
			mr_process_.guarding = sigaction(SIGBUS, &action, &mr_process_.before) == 0;
		}
	}
	mr_unlock_process();
	return found;
}

MR_SLOW void mr_unguard(mr_guard *g)
{
	mr_lock_process();
	__atomic_store_n(&g->size, (uintptr_t)0, __ATOMIC_RELEASE);
	g->used = 0;
	mr_unlock_process();
}

/* madvise over a long range, in pieces that make progress between two signals. */
MR_SLOW bool mr_advise(uint8_t *mem, uint64_t size, int advice, bool again)
{
	const uint64_t piece = UINT64_C(64) << 20;
	while (size > 0) {
		uint64_t n = size < piece ? size : piece;
		if (madvise(mem, n, advice) != 0) {
			if (errno == EINTR || (again && errno == EAGAIN))
				continue;
			return false;
		}
		mem += n;
		size -= n;
	}
	return true;
}

/* Sets addresses aside that begin at a multiple of 2 MiB; something is to be mapped over them. */
MR_SLOW uint8_t *mr_aligned_range(uint64_t size)
{
	size = mr_round_up(size, MR_PAGE_2M);
	uint8_t *all = (uint8_t *)mmap(NULL, size + MR_PAGE_2M, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (all == MAP_FAILED)
		return NULL;
	uint64_t before = ((uint64_t)0 - (uint64_t)(uintptr_t)all) & (MR_PAGE_2M - 1);
	if (before > 0)
		(void)munmap(all, before);
	if (before < MR_PAGE_2M)
		(void)munmap(all + before + size, MR_PAGE_2M - before);
	return all + before;
}

/* Maps the first size bytes of a file; NULL with errno otherwise. */
MR_SLOW uint8_t *mr_map_file(int fd, uint64_t size, uint32_t huge, bool read_only)
{
	int flags = MAP_SHARED;
	uint8_t *at = NULL;
	if (huge == MR_TRANSPARENT) {
		at = mr_aligned_range(size);
		if (at == NULL)
			return NULL;
		flags |= MAP_FIXED;
	}
	uint8_t *mem = (uint8_t *)mmap(at, size, read_only ? PROT_READ : PROT_READ | PROT_WRITE, flags, fd, 0);
	if (mem == MAP_FAILED) {
		int error = errno;
		if (at != NULL)
			(void)munmap(at, size);
		errno = error;
		return NULL;
	}
	if (huge == MR_TRANSPARENT)
		(void)madvise(mem, size, MADV_HUGEPAGE); /* a wish */
	return mem;
}

#endif /* MILLRACE_FILE_H */
