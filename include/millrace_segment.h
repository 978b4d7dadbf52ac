/* Segments: names, opening, System V attachment, removal and sweeping, docs/FORMAT.md section 4. millrace_create.h makes them. */
#ifndef MILLRACE_SEGMENT_H
#define MILLRACE_SEGMENT_H

#include "millrace_file.h"

#include <ctype.h>
#include <dirent.h>
#include <sys/ipc.h>
#include <sys/shm.h>

enum { MR_MAX_NAME = 200, MR_OPEN_TRIES = 1000, MR_REMOVER_PATIENCE_MS = 2000 };

/* A mapped segment. header is a private copy: nothing that others write later is trusted. */
typedef struct mr_segment {
	struct millrace_header header;
	uint8_t *mem;
	uint64_t mapped; /* bytes */
	mr_owned file;   /* holds LOCK_SH (observers: nothing), answers probes, and is never mapped: a mapping would keep its locks alive */
	mr_guard *guard;
	bool read_only, sealed;
	char path[MR_PATH]; /* for messages, and to find it again; "" for a memfd */
} mr_segment;

/* Checks a name and makes the path of the ring. */
MR_SLOW int mr_locate(char *path, const char *name, const char *dir)
{
	size_t n = name == NULL ? 0 : strnlen(name, MR_MAX_NAME + 1);
	bool fits = n >= 1 && n <= MR_MAX_NAME;
	for (size_t i = 0; fits && i < n; i++)
		fits = name[i] != '/' && name[i] != '.' && (unsigned char)name[i] >= 0x20 && name[i] != 0x7f;
	if (!fits)
		return mr_fail(MR_INVALID, "bad name \"%.40s\": 1 to %d bytes, no '/', no '.' and no control characters", name == NULL ? "" : name, MR_MAX_NAME);
	if (snprintf(path, MR_PATH, "%s/%s", dir, name) >= MR_PATH)
		return mr_fail(MR_INVALID, "directory name too long: %.80s...", dir);
	return MR_OK;
}

/* The directory to use. */
MR_FAST const char *mr_dir(const char *dir)
{
	if (dir == NULL || *dir == 0)
		dir = getenv("MILLRACE_DIR");
	return dir == NULL || *dir == 0 ? "/dev/shm" : dir;
}

MR_SLOW int mr_check_regular(int fd, const char *path)
{
	struct stat st;
	if (fstat(fd, &st) != 0)
		return mr_fail_errno("fstat", path, errno);
	if (!S_ISREG(st.st_mode))
		return mr_fail(MR_NOT_SEGMENT, "not a segment: %s is no regular file", path);
	return MR_OK;
}

/* Opens a regular file without following a link. */
MR_SLOW int mr_open_regular(int *fd, const char *path, int flags)
{
	*fd = mr_open_file(path, flags | O_NOFOLLOW | O_NONBLOCK, 0);
	if (*fd < 0) {
		if (errno == EISDIR || errno == ENXIO)
			return mr_fail(MR_NOT_SEGMENT, "not a segment: %s is no regular file", path);
		return mr_fail_errno(errno == ELOOP ? "open, not following a link," : "open", path, errno);
	}
	int status = mr_check_regular(*fd, path);
	if (status != MR_OK)
		(void)close(*fd);
	return status;
}

/* Reads and checks the header behind fd. */
MR_SLOW int mr_read_header(int fd, const char *path, struct millrace_header *h)
{
	struct stat st;
	memset(h, 0, sizeof *h);
	if (fstat(fd, &st) != 0)
		return mr_fail_errno("fstat", path, errno);
	size_t n = 0;
	while (n < sizeof *h) {
		ssize_t k = pread(fd, (uint8_t *)h + n, sizeof *h - n, (off_t)n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return mr_fail_errno("read", path, errno);
		if (k == 0)
			break;
		n += (size_t)k;
	}
	return mr_check_header(h, n, (uint64_t)st.st_size);
}

/* LOCK_SH. Only removers and creators hold the file exclusively, both for a moment. */
MR_SLOW int mr_share(int fd, const char *path)
{
	for (int ms = 0;; ms++) {
		int error = mr_flock(fd, LOCK_SH | LOCK_NB);
		if (error == 0)
			return MR_OK;
		if (error != EWOULDBLOCK)
			return mr_fail_errno("flock", path, error);
		if (ms == MR_REMOVER_PATIENCE_MS)
			return mr_fail(MR_IN_USE, "in use: somebody has been removing %s for 2 s", path);
		mr_nap(MR_MILLISECOND);
	}
}

/* Attaches a System V segment of at least size bytes; NULL after mr_fail. */
MR_SLOW uint8_t *mr_shm_attach(int id, uint64_t size, uint32_t huge, bool read_only, uint64_t *mapped)
{
	struct shmid_ds d;
	uint8_t *at = NULL;
	if (shmctl(id, IPC_STAT, &d) != 0 || d.shm_segsz < size) {
		(void)mr_fail(MR_CORRUPT, "segment is corrupt: sysv_id %d is no System V segment of %llu bytes in this IPC namespace", id, (unsigned long long)size);
		return NULL;
	}
	if (huge == MR_TRANSPARENT)
		at = mr_aligned_range(d.shm_segsz);
	uint8_t *mem = (uint8_t *)shmat(id, at, (read_only ? SHM_RDONLY : 0) | (at != NULL ? SHM_REMAP : 0));
	if (mem == (void *)-1) {
		(void)mr_fail_errno("shmat", "System V segment", errno);
		if (at != NULL)
			(void)munmap(at, mr_round_up(d.shm_segsz, MR_PAGE_2M));
		return NULL;
	}
	*mapped = d.shm_segsz;
	return mem;
}

/* Attaches the segment that a checked anchor names, and makes sure that it is that one. */
MR_SLOW int mr_shm_attach_anchored(const struct millrace_header *h, bool read_only, uint8_t **mem, uint64_t *mapped)
{
	*mem = mr_shm_attach((int)h->sysv_id, h->segment_size, h->huge, read_only, mapped);
	if (*mem == NULL)
		return MR_CORRUPT;
	struct millrace_header own;
	memcpy(&own, *mem, sizeof own);
	int status = mr_check_header(&own, sizeof own, *mapped);
	if (status == MR_OK && memcmp(&own, h, offsetof(struct millrace_header, ready)) != 0)
		status = mr_fail(MR_CORRUPT, "segment is corrupt: id of the System V segment is not that of its anchor");
	if (status != MR_OK)
		(void)shmdt(*mem);
	return status;
}

/*
 * Removes the System V segment of an anchor, if it exists and is that of the anchor. complete: the anchor was published; otherwise its creator died,
 * perhaps before it wrote the id. uid owns the anchor: nobody is made to remove a segment that its owner did not make himself.
 */
MR_SLOW int mr_shm_remove(const struct millrace_header *h, uid_t uid, bool complete)
{
	if (h->backing != MR_SYSV || h->sysv_key == (uint32_t)IPC_PRIVATE)
		return MR_OK;
	int id = shmget((key_t)h->sysv_key, 0, 0);
	if (id < 0)
		return errno == ENOENT ? MR_OK : mr_fail_errno("shmget", "System V segment", errno);
	struct shmid_ds d;
	if (shmctl(id, IPC_STAT, &d) != 0)
		return mr_fail_errno("shmctl", "System V segment", errno);
	if (d.shm_perm.cuid != uid || d.shm_segsz < sizeof *h)
		return MR_OK;
	const uint8_t *mem = (const uint8_t *)shmat(id, NULL, SHM_RDONLY);
	if (mem == (void *)-1)
		return mr_fail_errno("shmat", "System V segment", errno);
	uint8_t own[sizeof h->id];
	memcpy(own, mem + MILLRACE_HEADER_ID_OFFSET, sizeof own);
	(void)shmdt(mem);
	/* A creator that died before, or in, the write of the id leaves zeros or a part of it, attached by nobody, made after the anchor. The kernel's clock lags by a tick. */
	bool begun = !complete && d.shm_nattch == 0 && d.shm_segsz == h->segment_size && (uint64_t)d.shm_ctime + 1 >= h->created / UINT64_C(1000000000);
	for (size_t i = 0; i < sizeof own; i++)
		begun = begun && (own[i] == 0 || own[i] == h->id[i]);
	if (memcmp(own, h->id, sizeof own) != 0 && !begun)
		return MR_OK;
	return shmctl(id, IPC_RMID, NULL) == 0 ? MR_OK : mr_fail_errno("shmctl IPC_RMID", "System V segment", errno);
}

MR_SLOW void mr_unmap(mr_segment *s)
{
	if (s->mem == NULL)
		return;
	if (s->header.backing == MR_SYSV)
		(void)shmdt(s->mem);
	else
		(void)munmap(s->mem, s->mapped);
	s->mem = NULL;
}

/* Ends an attachment: first the memory, then the lock, so that whoever finds the lock free may rely on it that nothing is stored any more. */
MR_SLOW void mr_detach(mr_segment *s)
{
	if (s->guard != NULL)
		mr_unguard(s->guard);
	mr_unmap(s);
	mr_disown(&s->file);
}

/* The part of an attachment that comes behind the mapping. */
MR_SLOW int mr_attached(mr_segment *s, unsigned flags)
{
	int seals = fcntl(s->file.fd, F_GET_SEALS);
	s->sealed = s->header.backing == MR_SYSV || (seals >= 0 && (seals & F_SEAL_SHRINK) != 0);
	s->guard = mr_guard_mapping(s->mem, s->sealed || (flags & MR_WITHOUT_FAULT_GUARD) != 0 ? 0 : s->mapped);
	if (s->guard == NULL)
		return mr_fail_errno("allocate", "guard", ENOMEM);
	/* order: F2 acq, pairs F1. The header was read through the descriptor; only this load orders what is read through the mapping. */
	if (mr_load32_acq((const uint32_t *)(const void *)(s->mem + MILLRACE_HEADER_READY_OFFSET)) != 1)
		return mr_fail_format(MR_CORRUPT, "ready", 0, 1);
	return MR_OK;
}

/* Maps the segment behind s->file, which is open and shared. Ends the attachment when that fails. */
MR_SLOW int mr_attach(mr_segment *s, unsigned flags)
{
	s->read_only = (flags & MR_READ_ONLY) != 0;
	int status = mr_read_header(s->file.fd, s->path, &s->header);
	if (status == MR_OK && s->header.backing == MR_SYSV) {
		status = mr_shm_attach_anchored(&s->header, s->read_only, &s->mem, &s->mapped);
	} else if (status == MR_OK) {
		char proc[64];
		mr_proc_path(proc, sizeof proc, s->file.fd);
		int fd = mr_open_file(proc, s->read_only ? O_RDONLY : O_RDWR, 0);
		if (fd >= 0) {
			s->mem = mr_map_file(fd, s->header.segment_size, s->header.huge, s->read_only);
			s->mapped = s->header.segment_size;
		}
		if (fd < 0 || s->mem == NULL)
			status = mr_fail_errno(fd < 0 ? "open again" : "mmap", s->path, errno);
		if (fd >= 0)
			(void)close(fd);
	}
	if (status == MR_OK)
		status = mr_attached(s, flags);
	if (status != MR_OK)
		mr_detach(s);
	return status;
}

/* Opens s->path and attaches. */
MR_SLOW int mr_open_segment(mr_segment *s, unsigned flags)
{
	const int how = (flags & MR_READ_ONLY) != 0 ? O_RDONLY : O_RDWR;
	for (int i = 0; i < MR_OPEN_TRIES; i++) {
		int fd = -1;
		int status = mr_open_regular(&fd, s->path, how);
		if (status != MR_OK)
			return status;
		int error = mr_own_again(&s->file, fd, how);
		(void)close(fd);
		if (error != 0)
			return mr_fail_errno("open again", s->path, error);
		status = how == O_RDWR ? mr_share(s->file.fd, s->path) : MR_OK;
		if (status == MR_OK && mr_leads_to(s->path, s->file.fd)) {
			status = mr_attach(s, flags);
			if (status == MR_OK && s->header.backing == MR_MEMFD) {
				mr_detach(s);
				return mr_fail(MR_UNSUPPORTED, "%s is the copy of a memfd, which has no name and is handed on by descriptor", s->path);
			}
			return status;
		}
		mr_disown(&s->file);
		if (status != MR_OK)
			return status;
	}
	return mr_fail(MR_IN_USE, "in use: %s was removed and made anew %d times while opening it", s->path, MR_OPEN_TRIES);
}

/* Attaches to the segment behind a descriptor of somebody else's. */
MR_SLOW int mr_open_segment_fd(mr_segment *s, int fd, unsigned flags)
{
	const bool read_only = (flags & MR_READ_ONLY) != 0;
	char proc[64];
	mr_proc_path(proc, sizeof proc, fd);
	ssize_t n = readlink(proc, s->path, sizeof s->path - 1);
	s->path[n > 0 ? n : 0] = 0;
	int status = mr_check_regular(fd, proc);
	if (status != MR_OK)
		return status;
	int error = mr_own_again(&s->file, fd, read_only ? O_RDONLY : O_RDWR);
	if (error != 0)
		return mr_fail_errno("open again", proc, error);
	status = read_only ? MR_OK : mr_share(s->file.fd, proc);
	if (status != MR_OK) {
		mr_disown(&s->file);
		return status;
	}
	return mr_attach(s, flags);
}

/* A private name: .NAME.<16 hexadecimal digits>.tmp */
MR_SLOW int mr_private_path(char *path, const char *dir, const char *name)
{
	uint64_t random = 0;
	int status = mr_random(&random, sizeof random);
	if (status != MR_OK)
		return status;
	if (snprintf(path, MR_PATH, "%s/.%s.%016llx.tmp", dir, name, (unsigned long long)random) >= MR_PATH)
		return mr_fail(MR_INVALID, "directory name too long: %.80s...", dir);
	return MR_OK;
}

#endif /* MILLRACE_SEGMENT_H */
