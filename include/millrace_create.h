/* Making segments, docs/FORMAT.md section 4: whatever dies when, nobody sees a half-made one. */
#ifndef MILLRACE_CREATE_H
#define MILLRACE_CREATE_H

#include "millrace_segment.h"
#include "millrace_space.h"

enum { MR_CREATE_TRIES = 100, MR_KEY_TRIES = 100 };

#define MR_SWEPT (-1) /* the private name of a creation went away under it: start again */

/* A segment in the making. */
typedef struct mr_creation {
	const char *dir, *name;
	mr_segment *s;
	uint32_t huge; /* as asked for */
	int fd;        /* the description that is mapped */
	int shm;       /* System V segment, or -1 */
	char hidden[MR_PATH]; /* private name, or "" when the file has no name */
	void (*init)(uint8_t *mem, const struct millrace_header *h);
} mr_creation;

/* The size of huge pages as memfd_create and shmget want it: log2, shifted by 26. */
MR_FAST unsigned mr_page_bits(uint32_t huge) { return (huge == MR_HUGE_2M ? 21u : 30u) << 26; }

MR_FAST bool mr_hugetlb(uint32_t huge) { return huge == MR_HUGE_2M || huge == MR_HUGE_1G; }

/* Completes the header for a segment with this kind of pages. */
MR_SLOW int mr_fill_header(struct millrace_header *h, uint32_t huge)
{
	memcpy(h->magic, MILLRACE_MAGIC, sizeof h->magic);
	h->byte_order = MILLRACE_BYTE_ORDER;
	h->version = MILLRACE_VERSION;
	h->layout = MILLRACE_FINGERPRINT;
	h->created = (uint64_t)mr_now(CLOCK_REALTIME);
	h->creator_pid = (uint32_t)getpid();
	h->huge = huge;
	uint64_t got = 0;
	const char *field = mr_outside(h, &got);
	if (field != NULL)
		return mr_fail(MR_INVALID, "option %s is %llu, which is out of range (FORMAT 2)", field, (unsigned long long)got);
	mr_geometry(h);
	return MR_OK;
}

/* Takes or converts the lock on a private file. While there is none a sweep may take the file for a dead creator's: the name tells. */
MR_SLOW int mr_lock_hidden(mr_creation *c, int how)
{
	int error = mr_flock(c->s->file.fd, how);
	if (error != 0)
		return mr_fail_errno("flock", c->hidden, error);
	if (!mr_leads_to(c->hidden, c->s->file.fd)) {
		c->hidden[0] = 0; /* somebody else's now, if anybody's */
		return MR_SWEPT;
	}
	return MR_OK;
}

/* Opens a new file under a private name and holds LOCK_EX on it. */
MR_SLOW int mr_open_hidden(mr_creation *c)
{
	int status = mr_private_path(c->hidden, c->dir, c->name);
	if (status != MR_OK)
		return status;
	c->fd = mr_open_file(c->hidden, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	if (c->fd < 0) {
		status = mr_fail_errno("create", c->hidden, errno);
		c->hidden[0] = 0;
		return status;
	}
	if (fchmod(c->fd, 0600) != 0)
		return mr_fail_errno("chmod", c->hidden, errno);
	int error = mr_own_again(&c->s->file, c->fd, O_RDWR);
	if (error != 0)
		return error == ENOENT || error == ESTALE ? MR_SWEPT : mr_fail_errno("open again", c->hidden, error);
	return mr_lock_hidden(c, LOCK_EX);
}

/* Opens a new file that nobody else can find: without a name, or under a private one where that is not possible. */
MR_SLOW int mr_open_unnamed(mr_creation *c)
{
	c->fd = mr_open_file(c->dir, O_TMPFILE | O_RDWR, 0600);
	if (c->fd < 0) {
		if (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL || errno == ENOENT)
			return mr_open_hidden(c);
		return mr_fail_errno("create in", c->dir, errno);
	}
	if (fchmod(c->fd, 0600) != 0) /* the umask may have taken even the owner's bits, and it is opened once more */
		return mr_fail_errno("chmod", c->dir, errno);
	if (mr_own_again(&c->s->file, c->fd, O_RDWR) == 0)
		return MR_OK;
	(void)close(c->fd); /* without /proc an unnamed file cannot get a name either */
	c->fd = -1;
	return mr_open_hidden(c);
}

/* Writes everything into the mapped segment and makes it valid. */
MR_SLOW void mr_fill_memory(mr_creation *c)
{
	struct millrace_header *h = &c->s->header;
	c->init(c->s->mem, h);
	h->ready = 0;
	h->checksum = mr_checksum(h);
	memcpy(c->s->mem, h, sizeof *h);
	/* order: F1 rel, pairs F2. Whoever sees it sees all of the above. */
	mr_store32_rel((uint32_t *)(void *)(c->s->mem + MILLRACE_HEADER_READY_OFFSET), 1);
	h->ready = 1;
}

/* Lays the file out anew, without the transparent huge pages that it could not get. */
MR_SLOW int mr_without_huge(mr_creation *c)
{
	(void)munmap(c->s->mem, c->s->mapped);
	c->s->mem = NULL;
	int status = mr_fill_header(&c->s->header, MR_NO_HUGE);
	if (status == MR_OK && ftruncate(c->fd, (off_t)c->s->header.segment_size) != 0)
		status = mr_fail_errno("truncate", c->s->path, errno);
	return status;
}

/* Reserves and maps the file and writes it completely, mode included. */
MR_SLOW int mr_fill_file(mr_creation *c)
{
	mr_segment *s = c->s;
	int status = mr_reserve_space(c->fd, &s->header, c->dir);
	for (bool mapped = false; status == MR_OK && !mapped;) {
		s->mem = mr_map_file(c->fd, s->header.segment_size, s->header.huge, false);
		s->mapped = s->header.segment_size;
		if (s->mem == NULL)
			return mr_explain_space("mmap", &s->header, c->dir, errno);
		mapped = s->header.huge != MR_TRANSPARENT || mr_collapse(s->mem, s->mapped);
		if (!mapped)
			status = mr_without_huge(c);
	}
	if (status != MR_OK)
		return status;
	if (!mr_hugetlb(c->huge) && !mr_populate(s->mem, s->mapped))
		return mr_explain_space("madvise", &s->header, c->dir, errno);
	mr_fill_memory(c);
	return fchmod(c->fd, s->header.mode) == 0 ? MR_OK : mr_fail_errno("chmod", s->path, errno);
}

/* Gives the complete file its name, under the shared lock of everybody who is attached. */
MR_SLOW int mr_publish_name(mr_creation *c)
{
	char from[MR_PATH];
	const bool hidden = c->hidden[0] != 0;
	if (hidden) {
		int status = mr_lock_hidden(c, LOCK_SH);
		if (status != MR_OK)
			return status;
		memcpy(from, c->hidden, sizeof from);
	} else {
		int error = mr_flock(c->s->file.fd, LOCK_SH);
		if (error != 0)
			return mr_fail_errno("flock", c->s->path, error);
		mr_proc_path(from, sizeof from, c->fd);
	}
	if (linkat(AT_FDCWD, from, AT_FDCWD, c->s->path, hidden ? 0 : AT_SYMLINK_FOLLOW) != 0)
		return mr_fail_errno("link", c->s->path, errno);
	if (hidden)
		(void)unlink(c->hidden); /* the segment is there and works; a sweep removes its second name */
	c->hidden[0] = 0;
	return MR_OK;
}

MR_SLOW int mr_make_file(mr_creation *c)
{
	int status = mr_check_dir(c->dir, c->huge);
	if (status == MR_OK)
		status = mr_open_unnamed(c);
	if (status == MR_OK)
		status = mr_fill_file(c);
	return status == MR_OK ? mr_publish_name(c) : status;
}

MR_SLOW int mr_make_memfd(mr_creation *c)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	if (mr_hugetlb(c->huge))
		flags |= MFD_HUGETLB | mr_page_bits(c->huge);
	c->fd = memfd_create(c->name, flags);
	if (c->fd < 0)
		return mr_explain_space("memfd_create", &c->s->header, c->dir, errno);
	int error = mr_own_again(&c->s->file, c->fd, O_RDWR);
	if (error != 0)
		return mr_fail_errno("open again", c->name, error);
	int status = mr_fill_file(c);
	if (status != MR_OK)
		return status;
	if (fcntl(c->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0 && !(mr_hugetlb(c->huge) && errno == EINVAL))
		return mr_fail_errno("seal", c->name, errno);
	error = mr_flock(c->s->file.fd, LOCK_SH);
	c->s->path[0] = 0;
	return error == 0 ? MR_OK : mr_fail_errno("flock", c->name, error);
}

MR_SLOW int mr_write_anchor(mr_creation *c, const void *bytes)
{
	for (size_t at = 0; at < MILLRACE_HEADER_SIZE;) {
		ssize_t n = pwrite(c->fd, (const uint8_t *)bytes + at, MILLRACE_HEADER_SIZE - at, (off_t)at);
		if (n < 0 && errno != EINTR)
			return mr_explain_space("write", &c->s->header, c->dir, errno);
		at += n > 0 ? (size_t)n : 0;
	}
	return MR_OK;
}

/* Chooses a key, writes it into the anchor, so that a sweep finds the segment of a creator that died, and makes the segment. */
MR_SLOW int mr_get_shm(mr_creation *c)
{
	struct millrace_header *h = &c->s->header;
	int flags = IPC_CREAT | IPC_EXCL | (int)h->mode | 0600;
	if (mr_hugetlb(c->huge))
		flags |= SHM_HUGETLB | (int)mr_page_bits(c->huge);
	for (int i = 0; i < MR_KEY_TRIES; i++) {
		int status = mr_random(&h->sysv_key, sizeof h->sysv_key);
		if (status != MR_OK)
			return status;
		if (h->sysv_key == (uint32_t)IPC_PRIVATE)
			continue;
		h->checksum = mr_checksum(h);
		status = mr_write_anchor(c, h);
		if (status != MR_OK)
			return status;
		c->shm = shmget((key_t)h->sysv_key, h->segment_size, flags);
		if (c->shm >= 0) {
			h->sysv_id = (uint32_t)c->shm;
			return MR_OK;
		}
		if (errno != EEXIST)
			return mr_explain_space("shmget", h, c->dir, errno);
	}
	return mr_fail(MR_SYSTEM, "shmget: %d random keys were all taken", MR_KEY_TRIES);
}

MR_SLOW int mr_make_sysv(mr_creation *c)
{
	mr_segment *s = c->s;
	struct millrace_header *h = &s->header;
	int status = mr_check_memory(h, c->dir);
	if (status == MR_OK)
		status = mr_open_hidden(c);
	if (status == MR_OK)
		status = mr_get_shm(c);
	if (status != MR_OK)
		return status;
	s->mem = mr_shm_attach(c->shm, h->segment_size, h->huge, false, &s->mapped);
	if (s->mem == NULL)
		return MR_SYSTEM;
	memcpy(s->mem + MILLRACE_HEADER_ID_OFFSET, h->id, sizeof h->id); /* from here on a sweep is sure whose it is */
	if (!mr_hugetlb(c->huge) && !mr_populate(s->mem, s->mapped))
		return mr_explain_space("madvise", h, c->dir, errno);
	if (h->huge == MR_TRANSPARENT && !mr_collapse(s->mem, s->mapped)) {
		status = mr_fill_header(h, MR_NO_HUGE); /* it keeps its size, which is a little more than needed */
		if (status != MR_OK)
			return status;
	}
	mr_fill_memory(c);
	if ((h->mode & 0600) != 0600) { /* take the bits away that were only needed to fill it */
		struct shmid_ds d;
		if (shmctl(c->shm, IPC_STAT, &d) != 0)
			return mr_fail_errno("shmctl IPC_STAT", s->path, errno);
		d.shm_perm.mode = (unsigned short)h->mode;
		if (shmctl(c->shm, IPC_SET, &d) != 0)
			return mr_fail_errno("shmctl IPC_SET", s->path, errno);
	}
	struct millrace_header anchor;
	memcpy(&anchor, s->mem, sizeof anchor);
	status = mr_write_anchor(c, &anchor);
	if (status != MR_OK)
		return status;
	if (fchmod(c->fd, h->mode) != 0)
		return mr_fail_errno("chmod", c->hidden, errno);
	return mr_publish_name(c);
}

/* Removes what a failed creation has made: the memory first, then the private name that would lead to it, then the lock that tells sweepers that its creator lives. */
MR_SLOW void mr_undo(mr_creation *c)
{
	mr_unmap(c->s);
	if (c->shm >= 0)
		(void)shmctl(c->shm, IPC_RMID, NULL);
	if (c->hidden[0] != 0)
		(void)unlink(c->hidden);
	if (c->fd >= 0)
		(void)close(c->fd);
	mr_disown(&c->s->file);
}

/* Makes the segment s, whose header carries the options. init writes what is behind the header, which is all zero. */
MR_SLOW int mr_create_segment(mr_segment *s, const char *name, const char *dir, void (*init)(uint8_t *mem, const struct millrace_header *h))
{
	struct stat st;
	const struct millrace_header options = s->header;
	int status = MR_SWEPT;
	const bool named = options.backing != MR_MEMFD;
	for (int i = 0; i < MR_CREATE_TRIES && status == MR_SWEPT; i++) {
		mr_creation c;
		memset(&c, 0, sizeof c);
		c.dir = dir, c.name = name, c.s = s, c.huge = options.huge, c.fd = -1, c.shm = -1, c.init = init;
		s->header = options;
		s->file.fd = -1;
		status = mr_random(s->header.id, sizeof s->header.id);
		if (status == MR_OK)
			status = mr_fill_header(&s->header, options.huge);
		if (status != MR_OK)
			return status;
		if (named && lstat(s->path, &st) == 0) /* racers that lose are told before they reserve memory; what decides is the link at the end */
			return mr_fail_errno("create", s->path, EEXIST);
		status = options.backing == MR_SYSV ? mr_make_sysv(&c) : named ? mr_make_file(&c) : mr_make_memfd(&c);
		if (status == MR_OK) {
			(void)close(c.fd); /* the mapping keeps the description; no lock is on it */
			return MR_OK;
		}
		mr_undo(&c);
		if (named && status != MR_EXIST && status != MR_SWEPT && lstat(s->path, &st) == 0)
			return mr_fail_errno("create", s->path, EEXIST); /* it may have failed for want of memory only because the winner has it */
	}
	return status == MR_SWEPT ? mr_fail(MR_IN_USE, "in use: the private name of %s was swept %d times", s->path, MR_CREATE_TRIES) : status;
}

#endif /* MILLRACE_CREATE_H */
