/* class Ring: an open ring. Its handles keep it alive; it closes when the last of them and it itself are gone, or by close(). */

typedef struct {
	PyObject_HEAD
	mr_ring *ring;
	long exports;  /* views of leases and reservations that are alive */
	long busy;     /* calls of other threads that are inside */
	bool closing;
} RingObject;

static bool is_open(RingObject *self)
{
	if (self->ring == NULL || self->closing)
		refuse(MR_CLOSED);
	return self->ring != NULL && !self->closing;
}

/* A handle is used by one thread at a time. The interpreter's lock makes the check exact: a gate is entered and left with the lock held. */
typedef struct {
	RingObject *ring;
	bool busy;    /* a call is inside, perhaps without the lock */
	bool closing; /* it shall end */
	bool closed;
} gate;

static bool enter(gate *g)
{
	if (g->closed || g->closing || g->ring->closing || g->ring->ring == NULL) {
		refuse(MR_CLOSED);
		return false;
	}
	if (g->busy) {
		refuse(MR_MISUSE);
		return false;
	}
	g->busy = true;
	g->ring->busy++;
	return true;
}

static void leave(gate *g)
{
	g->busy = false;
	g->ring->busy--;
}

/* shut keeps new calls out of a handle, ends the one that is inside, and waits until it has left. It returns 1 when there is something to close, 0 when that is
 * done already, -1 with an exception. */
static int shut(gate *g)
{
	if (g->closed || g->ring->ring == NULL)
		return 0;
	g->closing = true;
	while (g->busy) {
		Py_BEGIN_ALLOW_THREADS;
		usleep(1000);
		Py_END_ALLOW_THREADS;
		if (PyErr_CheckSignals() != 0)
			return -1;
	}
	if (g->closed || g->ring->ring == NULL)
		return 0;
	g->closed = true;
	return 1;
}

/* options reads the keyword arguments of create and open_or_create. */
static int read_options(PyObject *kwargs, mr_options *o, const char **name, PyObject *args)
{
	static char *keys[] = {"name", "kind", "slots", "slot_size", "on_consumer_death", "max_deliveries", "participants",
			       "backing", "huge_pages", "perm", "temporary", "dir", NULL};
	const char *kind = NULL, *policy = NULL, *backing = NULL, *huge = NULL;
	unsigned long long slots = 0, slot_size = 0;
	unsigned int deliveries = 0, participants = 0, perm = 0;
	int temporary = 0;

	memset(o, 0, sizeof *o);
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|$zKKzIIzzIpz", keys, name, &kind, &slots, &slot_size, &policy, &deliveries, &participants,
					 &backing, &huge, &perm, &temporary, &o->dir))
		return -1;
#define CHOOSE(field, word, text, value)                              \
	if ((word) != NULL && strcmp((word), (text)) == 0)            \
		(field) = (value)
	CHOOSE(o->kind, kind, "spsc", MR_SPSC);
	CHOOSE(o->kind, kind, "mpmc", MR_MPMC);
	CHOOSE(o->policy, policy, "redeliver", MR_REDELIVER);
	CHOOSE(o->policy, policy, "drop", MR_DROP);
	CHOOSE(o->backing, backing, "posix", MR_POSIX);
	CHOOSE(o->backing, backing, "sysv", MR_SYSV);
	CHOOSE(o->backing, backing, "memfd", MR_MEMFD);
	CHOOSE(o->huge, huge, "thp", MR_TRANSPARENT);
	CHOOSE(o->huge, huge, "2m", MR_HUGE_2M);
	CHOOSE(o->huge, huge, "1g", MR_HUGE_1G);
#undef CHOOSE
	if ((kind && !o->kind) || (policy && !o->policy) || (backing && !o->backing) || (huge && !o->huge && strcmp(huge, "none") != 0)) {
		PyErr_SetString(PyExc_ValueError, "kind is 'spsc' or 'mpmc', on_consumer_death 'redeliver' or 'drop', backing 'posix', 'sysv' or 'memfd', "
						  "huge_pages 'none', 'thp', '2m' or '1g'");
		return -1;
	}
	o->slots = slots;
	o->slot_size = slot_size;
	o->max_deliveries = deliveries;
	o->participants = participants;
	o->perm = perm;
	o->temporary = (uint32_t)temporary;
	return 0;
}

static PyTypeObject RingType;

static PyObject *new_ring(mr_ring *ring)
{
	RingObject *self = PyObject_New(RingObject, &RingType);

	if (self == NULL) {
		mr_close(ring);
		return NULL;
	}
	self->ring = ring;
	self->exports = self->busy = 0;
	self->closing = false;
	return (PyObject *)self;
}

static PyObject *py_create(PyObject *module, PyObject *args, PyObject *kwargs)
{
	mr_options o;
	const char *name;
	mr_ring *ring;
	int status;

	(void)module;
	if (read_options(kwargs, &o, &name, args) != 0)
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	status = mr_create(&ring, name, &o);
	Py_END_ALLOW_THREADS;
	return status == MR_OK ? new_ring(ring) : fail(status);
}

static PyObject *py_open_or_create(PyObject *module, PyObject *args, PyObject *kwargs)
{
	mr_options o;
	const char *name;
	mr_ring *ring;
	int status;

	(void)module;
	if (read_options(kwargs, &o, &name, args) != 0)
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	status = mr_open_or_create(&ring, name, &o, NULL);
	Py_END_ALLOW_THREADS;
	return status == MR_OK ? new_ring(ring) : fail(status);
}

static PyObject *py_open(PyObject *module, PyObject *args, PyObject *kwargs)
{
	static char *keys[] = {"name", "dir", "read_only", NULL};
	const char *name, *dir = NULL;
	mr_ring *ring;
	int status, read_only = 0;

	(void)module;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|$zp", keys, &name, &dir, &read_only))
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	status = mr_open(&ring, name, dir, read_only ? MR_READ_ONLY : 0);
	Py_END_ALLOW_THREADS;
	return status == MR_OK ? new_ring(ring) : fail(status);
}

static PyObject *py_open_fd(PyObject *module, PyObject *args)
{
	mr_ring *ring;
	int status, fd = -1;

	(void)module;
	if (!PyArg_ParseTuple(args, "i", &fd))
		return NULL;
	status = mr_open_fd(&ring, fd, 0);
	return status == MR_OK ? new_ring(ring) : fail(status);
}

static PyObject *py_remove(PyObject *module, PyObject *args, PyObject *kwargs)
{
	static char *keys[] = {"name", "dir", "force", "if_drained", NULL};
	const char *name, *dir = NULL;
	int status, force = 0, drained = 0;

	(void)module;
	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|$zpp", keys, &name, &dir, &force, &drained))
		return NULL;
	Py_BEGIN_ALLOW_THREADS;
	status = mr_remove(name, dir, (force ? MR_FORCE : 0u) | (drained ? MR_IF_DRAINED : 0u));
	Py_END_ALLOW_THREADS;
	if (status != MR_OK)
		return fail(status);
	Py_RETURN_NONE;
}

static PyObject *ring_close(RingObject *self, PyObject *unused)
{
	mr_ring *ring;
	int status;

	(void)unused;
	if (self->ring == NULL)
		Py_RETURN_NONE;
	if (self->exports > 0) {
		PyErr_SetString(PyExc_BufferError, "views of messages or reservations of this ring are still in use");
		return NULL;
	}
	self->closing = true;
	mr_shutdown(self->ring);
	while (self->busy > 0) { /* calls of other threads, which end now */
		Py_BEGIN_ALLOW_THREADS;
		usleep(1000);
		Py_END_ALLOW_THREADS;
		if (PyErr_CheckSignals() != 0)
			return NULL;
	}
	ring = self->ring;
	if (ring == NULL)
		Py_RETURN_NONE;
	self->ring = NULL;
	status = mr_close(ring);
	if (status != MR_OK)
		return fail(status);
	Py_RETURN_NONE;
}

static void ring_dealloc(RingObject *self)
{
	if (self->ring != NULL)
		mr_close(self->ring); /* nobody is left to hear of an error */
	Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *ring_dup_fd(RingObject *self, PyObject *unused)
{
	int status, fd = -1;

	(void)unused;
	if (!is_open(self))
		return NULL;
	status = mr_fd(self->ring, &fd);
	return status == MR_OK ? PyLong_FromLong(fd) : fail(status);
}

static PyObject *ring_stats(RingObject *self, PyObject *unused)
{
	mr_stats s;
	int status;

	(void)unused;
	if (!is_open(self))
		return NULL;
	status = mr_ring_stats(self->ring, &s);
	if (status != MR_OK)
		return fail(status);
#define N(field) #field, (unsigned long long)s.field
	return Py_BuildValue("{sKsKsKsKsKsKsKsKsKsKsKsKsKsKsKsKsKsKsKsK}", N(slots), N(used), N(producer_position), N(consumer_position), N(sent),
			     N(received), N(redelivered), N(lost), N(skipped), N(padding), N(discarded), N(recoveries), N(sleeps), N(wakes),
			     N(producers_ever), N(producers_live), N(producers_died), N(consumers_ever), N(consumers_live), N(consumers_died));
#undef N
}

static PyObject *ring_options(RingObject *self, PyObject *unused)
{
	static const char *const huge[] = {"none", "thp", "2m", "1g"};
	mr_options o;

	(void)unused;
	if (!is_open(self))
		return NULL;
	mr_ring_options(self->ring, &o);
	return Py_BuildValue("{sssKsKsssIsIsssssIsO}", "kind", o.kind == MR_SPSC ? "spsc" : "mpmc", "slots", (unsigned long long)o.slots, "slot_size",
			     (unsigned long long)o.slot_size, "on_consumer_death", o.policy == MR_DROP ? "drop" : "redeliver", "max_deliveries",
			     o.max_deliveries, "participants", o.participants, "backing",
			     o.backing == MR_SYSV ? "sysv" : o.backing == MR_MEMFD ? "memfd" : "posix", "huge_pages", huge[o.huge & 3], "perm", o.perm,
			     "temporary", o.temporary ? Py_True : Py_False);
}

static PyObject *ring_participants(RingObject *self, PyObject *unused)
{
	mr_participant *list;
	mr_options o;
	size_t count = 0, i;
	PyObject *result, *item;
	int status;

	(void)unused;
	if (!is_open(self))
		return NULL;
	mr_ring_options(self->ring, &o);
	list = PyMem_Calloc(2 * (size_t)o.participants, sizeof *list);
	if (list == NULL)
		return PyErr_NoMemory();
	status = mr_participants(self->ring, list, 2 * (size_t)o.participants, &count);
	result = status == MR_OK ? PyList_New(0) : fail(status);
	for (i = 0; result != NULL && i < count && i < 2 * (size_t)o.participants; i++) {
		const mr_participant *p = &list[i];
		item = Py_BuildValue("{sIsssIsssO}", "id", p->id, "role", p->role == MR_ROLE_PRODUCER ? "producer" : "consumer", "pid", p->pid, "state",
				     p->state == MR_LIVE ? "live" : p->state == MR_DEAD ? "dead" : "stalled", "holding", p->holding ? Py_True : Py_False);
		if (item == NULL || PyList_Append(result, item) != 0)
			Py_CLEAR(result);
		Py_XDECREF(item);
	}
	PyMem_Free(list);
	return result;
}

static PyObject *ring_recover(RingObject *self, PyObject *unused)
{
	size_t count = 0;
	int status;

	(void)unused;
	if (!is_open(self))
		return NULL;
	status = mr_recover(self->ring, &count);
	return status == MR_OK ? PyLong_FromSize_t(count) : fail(status);
}

static PyObject *ring_max_message(RingObject *self, void *unused)
{
	(void)unused;
	return is_open(self) ? PyLong_FromSize_t(mr_max_message(self->ring)) : NULL;
}

static PyObject *ring_closed(RingObject *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong(self->ring == NULL);
}

static PyObject *self_enter(PyObject *self, PyObject *unused)
{
	(void)unused;
	Py_INCREF(self);
	return self;
}

/* close_at_exit is __exit__ of everything that has close(). */
static PyObject *close_at_exit(PyObject *self, PyObject *args)
{
	(void)args;
	return PyObject_CallMethod(self, "close", NULL);
}
