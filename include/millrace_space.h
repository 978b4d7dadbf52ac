/* Memory for a new segment: reserved before the first byte is used, and if it is not there, said in words that help. */
#ifndef MILLRACE_SPACE_H
#define MILLRACE_SPACE_H

#include "millrace_file.h"

#include <sys/vfs.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define MR_HUGETLBFS 0x958458f6L

/* Makes all pages of a fresh mapping exist and be clear, which the first lap would wait for otherwise. */
MR_SLOW bool mr_populate(uint8_t *mem, uint64_t size)
{
	if (mr_advise(mem, size, MADV_POPULATE_WRITE, true))
		return true;
	if (errno != EINVAL) {
		if (errno == EFAULT) /* what a failed allocation is called here */
			errno = ENOMEM;
		return false;
	}
	for (uint64_t i = 0; i < size; i += MR_PAGE) /* before Linux 5.14 */
		*(volatile uint8_t *)(mem + i) = 0;
	return true;
}

/* Makes the pages of a fresh mapping transparent huge pages, and says whether all of them became so. */
MR_SLOW bool mr_collapse(uint8_t *mem, uint64_t size)
{
	(void)madvise(mem, size, MADV_HUGEPAGE); /* MADV_COLLAPSE decides */
	return mr_advise(mem, size, MADV_POPULATE_WRITE, true) && mr_advise(mem, size, MADV_COLLAPSE, false);
}

/* Reads a number from a file, or behind a key in a file of "key number" lines. False when it is not there. */
MR_SLOW bool mr_read_number(const char *path, const char *key, uint64_t *value)
{
	FILE *f = fopen(path, "re");
	char line[256];
	bool found = false;
	if (f == NULL)
		return false;
	while (!found && fgets(line, sizeof line, f) != NULL) {
		const char *number = line;
		if (key != NULL) {
			if (strncmp(line, key, strlen(key)) != 0)
				continue;
			number = line + strlen(key);
		}
		char *end = NULL;
		unsigned long long v = strtoull(number, &end, 10);
		found = end != number;
		*value = v;
	}
	(void)fclose(f);
	return found;
}

/* What the memory cgroup of a directory has left. False when it has no limit. */
MR_SLOW bool mr_cgroup_left(const char *dir, bool v2, uint64_t *left)
{
	char path[MR_PATH];
	uint64_t limit = 0, usage = 0, active = 0, inactive = 0;
	(void)snprintf(path, sizeof path, "%s/%s", dir, v2 ? "memory.max" : "memory.limit_in_bytes");
	if (!mr_read_number(path, NULL, &limit) || limit >= UINT64_C(1) << 62) /* "max" is no number */
		return false;
	(void)snprintf(path, sizeof path, "%s/%s", dir, v2 ? "memory.current" : "memory.usage_in_bytes");
	if (!mr_read_number(path, NULL, &usage))
		return false;
	(void)snprintf(path, sizeof path, "%s/memory.stat", dir);
	(void)mr_read_number(path, v2 ? "active_file " : "total_active_file ", &active);
	(void)mr_read_number(path, v2 ? "inactive_file " : "total_inactive_file ", &inactive);
	usage -= active + inactive < usage ? active + inactive : usage;
	*left = limit > usage ? limit - usage : 0;
	return true;
}

MR_SLOW int mr_refuse_memory(const struct millrace_header *h, const char *what, uint64_t left)
{
	return mr_fail(MR_NO_SPACE, "reserve %llu bytes: no memory: %s has %llu bytes left; free some or raise its limit, or choose smaller slots or slot_size",
	               (unsigned long long)h->segment_size, what, (unsigned long long)left);
}

/*
 * Refuses a segment that is larger than what the machine and the memory cgroups of this process have left. The kernel would answer with its OOM
 * killer instead of an error. What it finds may have changed a moment later.
 */
MR_SLOW int mr_check_memory(const struct millrace_header *h, const char *dir)
{
	(void)dir;
	uint64_t left = 0, swap = 0;
	if (h->huge == MR_HUGE_2M || h->huge == MR_HUGE_1G)
		return MR_OK;
	(void)mr_read_number("/proc/meminfo", "SwapFree:", &swap);
	swap <<= 10;
	if (mr_read_number("/proc/meminfo", "MemAvailable:", &left) && h->segment_size > (left << 10) + swap)
		return mr_refuse_memory(h, "the machine", (left << 10) + swap);
	FILE *f = fopen("/proc/self/cgroup", "re");
	char line[1024];
	int status = MR_OK;
	while (f != NULL && status == MR_OK && fgets(line, sizeof line, f) != NULL) {
		line[strcspn(line, "\n")] = 0;
		const bool v2 = strncmp(line, "0::", 3) == 0;
		char *group = v2 ? line + 3 : strstr(line, ":memory:");
		if (group == NULL)
			continue;
		group += v2 ? 0 : 8;
		for (;;) { /* every group above; within a container the path may be the host's, then the root of the mount is its own */
			char path[MR_PATH];
			(void)snprintf(path, sizeof path, "/sys/fs/cgroup%s%s", v2 ? "" : "/memory", group);
			if (mr_cgroup_left(path, v2, &left) && h->segment_size > left + swap) {
				status = mr_refuse_memory(h, path, left + swap);
				break;
			}
			char *slash = strrchr(group, '/');
			if (slash == NULL)
				break;
			*slash = 0;
		}
	}
	if (f != NULL)
		(void)fclose(f);
	return status;
}

/* Adds to an error number what is free where the segment was to go, and the remedy. */
MR_SLOW int mr_explain_space(const char *call, const struct millrace_header *h, const char *dir, int error)
{
	int status = mr_fail(mr_status_of(error), "reserve %llu bytes: %s: %s", (unsigned long long)h->segment_size, call, strerror(error));
	struct statfs fs;
	if (h->huge == MR_HUGE_2M || h->huge == MR_HUGE_1G) {
		const unsigned long long kib = mr_page_size(h->huge) >> 10;
		char path[128];
		uint64_t free_pages = 0;
		(void)snprintf(path, sizeof path, "/sys/kernel/mm/hugepages/hugepages-%llukB/free_hugepages", kib);
		if (!mr_read_number(path, NULL, &free_pages))
			return mr_fail_more(status, "; this kernel has no huge pages of %llu KiB", kib);
		return mr_fail_more(status, "; it needs %llu huge pages of %llu KiB, %llu are free; raise nr_hugepages beside %s",
		                    (unsigned long long)(h->segment_size / mr_page_size(h->huge)), kib, (unsigned long long)free_pages, path);
	}
	if ((error == ENOSPC || error == EDQUOT) && h->backing == MR_POSIX && statfs(dir, &fs) == 0)
		return mr_fail_more(status, "; %s has %llu bytes free of %llu; enlarge it (mount -o remount,size=..., docker run --shm-size=...), remove what is not needed, or choose smaller slots or slot_size",
		                    dir, (unsigned long long)fs.f_bavail * (unsigned long long)fs.f_bsize, (unsigned long long)fs.f_blocks * (unsigned long long)fs.f_bsize);
	if (error == EINVAL || error == ENOSPC)
		return mr_fail_more(status, h->backing == MR_SYSV ? "; see kernel.shmmax, kernel.shmall, kernel.shmmni and ipcs -m" : "; choose smaller slots or slot_size");
	if (error == ENOMEM)
		return mr_fail_more(status, "; the machine or its memory cgroup has no memory left; choose smaller slots or slot_size");
	return status;
}

/* Gives the file behind fd its size and all its memory. Without it a full file system shows as SIGBUS at the first touch of a page. */
MR_SLOW int mr_reserve_space(int fd, const struct millrace_header *h, const char *dir)
{
	int status = mr_check_memory(h, dir);
	if (status != MR_OK)
		return status;
	const uint64_t piece = mr_page_size(h->huge) > (UINT64_C(64) << 20) ? mr_page_size(h->huge) : UINT64_C(64) << 20; /* a signal undoes the whole call on tmpfs */
	for (uint64_t at = 0; at < h->segment_size;) {
		uint64_t n = h->segment_size - at < piece ? h->segment_size - at : piece;
		if (fallocate(fd, 0, (off_t)at, (off_t)n) == 0) {
			at += n;
		} else if (errno == EOPNOTSUPP || errno == ENOSYS) {
			static const uint8_t zeros[1 << 16] = {0};
			ssize_t k = pwrite(fd, zeros, n < sizeof zeros ? n : sizeof zeros, (off_t)at);
			if (k < 0 && errno != EINTR)
				return mr_explain_space("write", h, dir, errno);
			at += k > 0 ? (uint64_t)k : 0;
		} else if (errno != EINTR) {
			return mr_explain_space("fallocate", h, dir, errno);
		}
	}
	return MR_OK;
}

/* Refuses pages that the file system of the directory does not have. */
MR_SLOW int mr_check_dir(const char *dir, uint32_t huge)
{
	struct statfs fs;
	if (statfs(dir, &fs) != 0)
		return mr_fail_errno("statfs", dir, errno);
	const bool is_huge = (unsigned long)fs.f_type == (unsigned long)MR_HUGETLBFS, wants = huge == MR_HUGE_2M || huge == MR_HUGE_1G;
	if (is_huge != wants || (is_huge && (uint64_t)fs.f_bsize != mr_page_size(huge)))
		return mr_fail(MR_INVALID, "option huge is %u: %s is %s; huge pages need a directory on a hugetlbfs with pages of that size, or MR_MEMFD, or MR_SYSV, or MR_TRANSPARENT",
		               huge, dir, is_huge ? "a hugetlbfs of one page size" : "no hugetlbfs");
	return MR_OK;
}

#endif /* MILLRACE_SPACE_H */
