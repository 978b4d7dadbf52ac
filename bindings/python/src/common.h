/* What the parts of the extension have in common: exceptions, the way a call waits, buffers. */
#include <Python.h>
#include <structmember.h>

#include "millrace.h"

/* A blocked call comes back to the interpreter this often, so that signals are handled (Ctrl-C). */
#define SLICE (50 * MR_MILLISECOND)

static PyObject *errors; /* the module millrace._errors */

static const struct {
	int status;
	const char *name;
} exceptions[] = {
	{MR_FULL, "Full"}, {MR_EMPTY, "Empty"}, {MR_EOF, "EndOfStream"}, {MR_NO_CONSUMERS, "NoConsumers"}, {MR_TIMEOUT, "Timeout"},
	{MR_STALLED, "Stalled"}, {MR_CLOSED, "Closed"}, {MR_LOST, "SegmentLost"}, {MR_MISUSE, "Misuse"}, {MR_ROLE_TAKEN, "RoleTaken"},
	{MR_TOO_MANY, "TooManyParticipants"}, {MR_MISMATCH, "Mismatch"}, {MR_NOT_SEGMENT, "NotSegment"}, {MR_BYTE_ORDER, "ByteOrderError"},
	{MR_VERSION, "VersionError"}, {MR_LAYOUT, "LayoutError"}, {MR_CORRUPT, "Corrupt"}, {MR_UNSUPPORTED, "Unsupported"},
	{MR_IN_USE, "InUse"}, {MR_EXIST, "Exists"}, {MR_NOT_EXIST, "NotFound"}, {MR_PERMISSION, "PermissionDenied"}, {MR_SIZE, "SizeError"},
	{MR_SHORT_BUFFER, "ShortBuffer"}, {MR_INVALID, "InvalidOption"}, {MR_NO_SPACE, "NoSpace"}, {MR_SYSTEM, "SystemFailure"},
};

/* raise_as raises the exception that stands for a status. */
static void raise_as(int status, const char *text)
{
	const char *name = "SystemFailure";
	PyObject *cls;
	size_t i;

	for (i = 0; i < sizeof exceptions / sizeof *exceptions; i++)
		if (exceptions[i].status == status)
			name = exceptions[i].name;
	cls = PyObject_GetAttrString(errors, name);
	if (cls != NULL) {
		PyErr_SetString(cls, text);
		Py_DECREF(cls);
	}
}

/* fail raises what the last call in this thread returned. */
static PyObject *fail(int status)
{
	const char *text = NULL;

	if (status != MR_FULL && status != MR_EMPTY && status != MR_EOF && status != MR_TIMEOUT)
		text = mr_error();
	raise_as(status, text != NULL && *text != '\0' ? text : mr_strerror(status));
	return NULL;
}

/* refuse raises for a call that never reached the library. */
static PyObject *refuse(int status)
{
	raise_as(status, mr_strerror(status));
	return NULL;
}

/* now is CLOCK_MONOTONIC in nanoseconds. */
static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * MR_SECOND + t.tv_nsec;
}

/* deadline turns a time-out in seconds, or None, into the end of the wait. -1: for ever. False with an exception when it is no number. */
static bool deadline(PyObject *timeout, int64_t *end)
{
	double seconds;

	if (timeout == NULL || timeout == Py_None) {
		*end = -1;
		return true;
	}
	seconds = PyFloat_AsDouble(timeout);
	if (seconds == -1 && PyErr_Occurred())
		return false;
	if (!(seconds >= 0)) {
		PyErr_SetString(PyExc_ValueError, "timeout must not be negative");
		return false;
	}
	*end = seconds > 4e9 ? -1 : now() + (int64_t)(seconds * 1e9);
	return true;
}

/* slice returns how long the next part of the wait may take. */
static int64_t slice(int64_t end)
{
	int64_t left;

	if (end < 0)
		return SLICE;
	left = end - now();
	return left < 0 ? 0 : left < SLICE ? left : SLICE;
}

/* over says whether a wait that ended with a time-out has ended for good. An exception of a signal handler ends it too. */
static bool over(int status, int64_t end, bool *raised)
{
	*raised = false;
	if (status != MR_TIMEOUT && status != MR_STALLED)
		return true;
	if (PyErr_CheckSignals() != 0) {
		*raised = true;
		return true;
	}
	return end >= 0 && now() >= end;
}

/*
 * WAIT runs TRY with the interpreter's lock, and while it answers unavailable (MR_FULL, MR_EMPTY), CALL without the lock in slices: the time-out of
 * CALL is the variable wait. It sets status, and raised when a signal handler raised. The caller is inside the gate g, and end is when the wait ends.
 */
#define WAIT(g, unavailable, TRY, CALL)                                                              \
	do {                                                                                         \
		raised = false;                                                                      \
		status = (TRY);                                                                      \
		if (status == (unavailable) || status == MR_STALLED) {                               \
			do {                                                                         \
				int64_t wait = slice(end);                                           \
				Py_BEGIN_ALLOW_THREADS;                                              \
				status = (CALL);                                                     \
				Py_END_ALLOW_THREADS;                                                \
				if ((g)->closing && (status == MR_TIMEOUT || status == MR_STALLED)) \
					status = MR_CLOSED;                                          \
			} while (!over(status, end, &raised));                                       \
		}                                                                                    \
	} while (0)

/* ended turns the end of a WAIT into a result: true when it succeeded. */
static bool ended(int status, bool raised)
{
	if (raised)
		return false;
	if (status == MR_OK)
		return true;
	if (status == MR_CLOSED)
		refuse(status);
	else
		fail(status);
	return false;
}
