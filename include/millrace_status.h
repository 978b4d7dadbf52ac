/* What went wrong: status codes in words, and the detailed message of each thread. */
#ifndef MILLRACE_STATUS_H
#define MILLRACE_STATUS_H

#include "millrace_api.h"
#include "millrace_atomic.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* One object for all files of a program that include this, in C and in C++: a weak definition. */
#define MR_SHARED __attribute__((weak))

typedef struct mr_detail {
	char text[512];
} mr_detail;

#ifdef __cplusplus
extern "C" {
#endif
MR_SHARED __thread mr_detail mr_detail_;
#ifdef __cplusplus
}
#endif

MILLRACE_API const char *mr_strerror(int status)
{
	switch (status) {
	case MR_OK: return "success";
	case MR_FULL: return "full";
	case MR_EMPTY: return "empty";
	case MR_EOF: return "end of stream";
	case MR_NO_CONSUMERS: return "full, and no consumer is left to read it";
	case MR_TIMEOUT: return "the time-out passed";
	case MR_STALLED: return "the time-out passed behind a stalled participant";
	case MR_CLOSED: return "handle is closed";
	case MR_LOST: return "the segment was truncated or removed by force";
	case MR_MISUSE: return "misuse: handle busy, second open lease or reservation, or none";
	case MR_ROLE_TAKEN: return "the role is taken by a live participant";
	case MR_TOO_MANY: return "the participant table is full";
	case MR_MISMATCH: return "options differ";
	case MR_NOT_SEGMENT: return "not a segment";
	case MR_BYTE_ORDER: return "segment of the other byte order";
	case MR_VERSION: return "segment of another version";
	case MR_LAYOUT: return "segment of another layout";
	case MR_CORRUPT: return "segment is corrupt";
	case MR_UNSUPPORTED: return "not supported";
	case MR_IN_USE: return "in use";
	case MR_EXIST: return "exists";
	case MR_NOT_EXIST: return "does not exist";
	case MR_PERMISSION: return "permission denied";
	case MR_SIZE: return "message too large";
	case MR_SHORT_BUFFER: return "buffer too small";
	case MR_INVALID: return "bad name or option";
	case MR_NO_SPACE: return "no memory left";
	case MR_SYSTEM: return "system error";
	default: return "unknown status";
	}
}

MILLRACE_API const char *mr_error(void) { return mr_detail_.text; }

/* Notes a failure in words and returns its status. */
__attribute__((unused, noinline, format(printf, 2, 3))) static int mr_fail(int status, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	(void)vsnprintf(mr_detail_.text, sizeof mr_detail_.text, format, args);
	va_end(args);
	return status;
}

/* Adds to the words of the last failure. */
__attribute__((unused, noinline, format(printf, 2, 3))) static int mr_fail_more(int status, const char *format, ...)
{
	size_t n = strlen(mr_detail_.text);
	va_list args;
	va_start(args, format);
	(void)vsnprintf(mr_detail_.text + n, sizeof mr_detail_.text - n, format, args);
	va_end(args);
	return status;
}

/* The status of an error number. */
MR_SLOW int mr_status_of(int error)
{
	switch (error) {
	case ENOENT: return MR_NOT_EXIST;
	case EEXIST: return MR_EXIST;
	case EACCES:
	case EPERM:
	case EROFS: return MR_PERMISSION;
	case ENOSPC:
	case EDQUOT:
	case ENOMEM: return MR_NO_SPACE;
	default: return MR_SYSTEM;
	}
}

/* A system call on something failed. */
MR_SLOW int mr_fail_errno(const char *call, const char *what, int error)
{
	return mr_fail(mr_status_of(error), "%s %s: %s", call, what, strerror(error));
}

/* A field of the header is not what it must be. */
MR_SLOW int mr_fail_format(int status, const char *field, uint64_t got, uint64_t want)
{
	return mr_fail(status, "%s: %s is 0x%llx, want 0x%llx", mr_strerror(status), field, (unsigned long long)got, (unsigned long long)want);
}

/* A word of the ring fits no case of the format. */
MR_SLOW int mr_fail_corrupt(const char *field, uint64_t position, uint64_t got)
{
	return mr_fail(MR_CORRUPT, "segment is corrupt: %s at position %llu is 0x%llx", field, (unsigned long long)position, (unsigned long long)got);
}

#endif /* MILLRACE_STATUS_H */
