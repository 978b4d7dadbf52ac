/* Removal and sweeping, docs/FORMAT.md section 4. */
#ifndef MILLRACE_REMOVE_H
#define MILLRACE_REMOVE_H

#include "millrace_segment.h"

/* What a removal does with the mapped segment just before the name goes; anything but MR_OK ends the removal. */
typedef int mr_inspection(uint8_t *mem, const struct millrace_header *h);

/* Maps the segment behind fd for f. */
MR_SLOW int mr_inspect(int fd, const char *path, const struct millrace_header *h, mr_inspection *f)
{
	mr_segment s;
	memset(&s, 0, sizeof s);
	s.header = *h;
	if (h->backing == MR_SYSV) {
		int status = mr_shm_attach_anchored(h, false, &s.mem, &s.mapped);
		if (status != MR_OK)
			return status;
	} else {
		s.mem = mr_map_file(fd, h->segment_size, MR_NO_HUGE, false);
		s.mapped = h->segment_size;
		if (s.mem == NULL)
			return mr_fail_errno("mmap", path, errno);
	}
	s.guard = mr_guard_mapping(s.mem, h->backing == MR_SYSV ? 0 : s.mapped);
	int status = s.guard == NULL ? mr_fail_errno("allocate", "guard", ENOMEM) : f(s.mem, h);
	if (s.guard != NULL)
		mr_unguard(s.guard);
	mr_unmap(&s);
	return status;
}

/* Takes the name away, and with it the memory. For System V the anchor first gets a private name, so that a sweep finds what a dead remover left. */
MR_SLOW int mr_drop_name(const char *path, const char *dir, const char *name, const struct millrace_header *h, bool usable, uid_t uid)
{
	if (h->backing != MR_SYSV || !usable)
		return unlink(path) == 0 ? MR_OK : mr_fail_errno("unlink", path, errno);
	char private_path[MR_PATH];
	int status = mr_private_path(private_path, dir, name);
	if (status != MR_OK)
		return status;
	if (rename(path, private_path) != 0)
		return mr_fail_errno("rename", path, errno);
	status = mr_shm_remove(h, uid, true);
	if (status != MR_OK) { /* not allowed to, as a rule: the segment keeps its name, unless somebody has taken it */
		(void)renameat2(AT_FDCWD, private_path, AT_FDCWD, path, RENAME_NOREPLACE);
		return status;
	}
	if (unlink(private_path) != 0 && errno != ENOENT) /* a sweep may have been faster */
		return mr_fail_errno("unlink", private_path, errno);
	return MR_OK;
}

/* Takes the lock that a removal needs. *alone: nobody is attached. */
MR_SLOW int mr_lock_for_removal(int fd, const char *path, bool force, bool *alone)
{
	int error = mr_flock(fd, LOCK_EX | LOCK_NB);
	*alone = error == 0;
	if (error == EWOULDBLOCK && force) /* a shared lock keeps ordinary removers away: two of them could meet at the name */
		error = mr_flock(fd, LOCK_SH | LOCK_NB);
	if (error == EWOULDBLOCK)
		return mr_fail(MR_IN_USE, "in use: somebody is attached to %s", path);
	if (error == 0 && !force && mr_any_locked(fd, MILLRACE_LOCK_PARTICIPANT, MILLRACE_MAX_PARTICIPANTS)) /* participants that cannot flock */
		return mr_fail(MR_IN_USE, "in use: somebody is registered with %s", path);
	return error == 0 ? MR_OK : mr_fail_errno("flock", path, error);
}

/* Removes the segment behind fd, a description that nobody else has. *replaced: the name leads elsewhere by now. */
MR_SLOW int mr_remove_open(int fd, const char *path, const char *dir, const char *name, unsigned flags, mr_inspection *check, mr_inspection *tell, bool *replaced)
{
	bool alone = false;
	const bool force = (flags & MR_FORCE) != 0;
	*replaced = false;
	int status = mr_lock_for_removal(fd, path, force, &alone);
	if (status != MR_OK)
		return status;
	if (!mr_leads_to(path, fd)) {
		*replaced = true;
		return MR_OK;
	}
	struct millrace_header h;
	const int sound = mr_read_header(fd, path, &h);
	if (sound == MR_NOT_SEGMENT && memcmp(h.magic, MILLRACE_MAGIC, sizeof h.magic) != 0)
		return sound; /* no segment at all is left alone; a damaged one, or one of another version, is removed */
	struct stat st;
	if (fstat(fd, &st) != 0)
		return mr_fail_errno("fstat", path, errno);
	if ((flags & MR_IF_DRAINED) != 0 && (alone || !force)) {
		status = sound == MR_OK ? mr_inspect(fd, path, &h, check) : sound;
	} else if (force && sound == MR_OK) {
		status = mr_inspect(fd, path, &h, tell);
		if (status == MR_CORRUPT)
			status = MR_OK; /* nobody can be told through a segment that nobody can open */
	}
	if (status != MR_OK)
		return status;
	return mr_drop_name(path, dir, name, &h, sound == MR_OK || sound == MR_CORRUPT, st.st_uid);
}

MR_SLOW int mr_remove_segment(const char *name, const char *dir, unsigned flags, mr_inspection *check, mr_inspection *tell)
{
	char path[MR_PATH];
	dir = mr_dir(dir);
	int status = mr_locate(path, name, dir);
	const bool mapped = (flags & (MR_IF_DRAINED | MR_FORCE)) != 0;
	for (int i = 0; status == MR_OK && i < MR_OPEN_TRIES; i++) {
		int fd = -1;
		bool replaced = false;
		status = mr_open_regular(&fd, path, mapped ? O_RDWR : O_RDONLY);
		if (status != MR_OK)
			return status;
		status = mr_remove_open(fd, path, dir, name, flags, check, tell, &replaced);
		(void)mr_flock(fd, LOCK_UN); /* a child that was forked meanwhile has the description, too */
		(void)close(fd);
		if (!replaced)
			return status;
	}
	return status != MR_OK ? status : mr_fail(MR_IN_USE, "in use: %s was removed and made anew %d times while removing it", path, MR_OPEN_TRIES);
}

/* Whether a file name is a private one: .NAME.<16 hexadecimal digits>.tmp. The length of NAME is *n. */
MR_SLOW bool mr_is_private(const char *file, size_t *n)
{
	const char *dot = file[0] == '.' ? strchr(file + 1, '.') : NULL;
	if (dot == NULL || dot == file + 1 || strlen(dot) != 1 + 16 + 4 || strcmp(dot + 17, ".tmp") != 0)
		return false;
	for (int i = 1; i <= 16; i++)
		if (!isxdigit((unsigned char)dot[i]))
			return false;
	*n = (size_t)(dot - file) - 1;
	return *n <= MR_MAX_NAME;
}

/* Removes one private name if its creator is dead: nobody holds a lock on it. */
MR_SLOW bool mr_sweep_one(const char *dir, const char *file, size_t n)
{
	char path[MR_PATH], name[MR_PATH];
	int fd = -1;
	if (snprintf(path, sizeof path, "%s/%s", dir, file) >= MR_PATH || snprintf(name, sizeof name, "%s/%.*s", dir, (int)n, file + 1) >= MR_PATH)
		return false;
	if (mr_open_regular(&fd, path, O_RDONLY) != MR_OK)
		return false;
	bool removed = false, published = mr_leads_to(name, fd);
	if (!published && mr_flock(fd, LOCK_EX | LOCK_NB) != 0)
		goto done; /* its creator lives, or somebody else is sweeping */
	published = published || mr_leads_to(name, fd); /* under the lock the name can no longer be published */
	if (!mr_leads_to(path, fd))
		goto done;
	if (!published) {
		struct stat st;
		struct millrace_header h;
		if (fstat(fd, &st) != 0)
			goto done;
		const int sound = mr_read_header(fd, path, &h);
		if ((sound == MR_OK || sound == MR_CORRUPT) && mr_shm_remove(&h, st.st_uid, false) != MR_OK)
			goto done;
	}
	removed = unlink(path) == 0;
done:
	(void)close(fd);
	return removed;
}

MILLRACE_API int mr_sweep(const char *dir, int *removed)
{
	dir = mr_dir(dir);
	DIR *d = opendir(dir);
	if (d == NULL)
		return mr_fail_errno("opendir", dir, errno);
	int count = 0;
	for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
		size_t n = 0;
		if (mr_is_private(e->d_name, &n) && mr_sweep_one(dir, e->d_name, n))
			count++;
	}
	(void)closedir(d);
	if (removed != NULL)
		*removed = count;
	return MR_OK;
}

#endif /* MILLRACE_REMOVE_H */
