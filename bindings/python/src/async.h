/*
 * Waiting for several handles at once, for millrace/_async.py: one thread of the process sleeps on the event words of all of them and on a doorbell of its own.
 * The order is that of every wait (docs/FORMAT.md section 8): announce (_arm), look once more, sleep while the epoch is the key (_wait), look, and pass on a
 * wake-up that came too early (_disarm).
 */

/* class _Doorbell: a futex word of this process. */
typedef struct {
	PyObject_HEAD
	uint32_t word;
} DoorbellObject;

static PyTypeObject DoorbellType;

static PyObject *doorbell_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	(void)args;
	(void)kwargs;
	return type->tp_alloc(type, 0);
}

static PyObject *doorbell_ring(DoorbellObject *self, PyObject *unused)
{
	(void)unused;
	__atomic_fetch_add(&self->word, 1, __ATOMIC_SEQ_CST);
	(void)syscall(SYS_futex, &self->word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0);
	Py_RETURN_NONE;
}

static PyObject *doorbell_value(DoorbellObject *self, PyObject *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLong(__atomic_load_n(&self->word, __ATOMIC_SEQ_CST));
}

static PyMethodDef doorbell_methods[] = {
	{"ring", (PyCFunction)doorbell_ring, METH_NOARGS, "wake the thread that waits"},
	{"value", (PyCFunction)doorbell_value, METH_NOARGS, "changes with every ring"},
	{NULL, NULL, 0, NULL},
};

static PyTypeObject DoorbellType = {
	PyVarObject_HEAD_INIT(NULL, 0)
	.tp_name = "millrace._Doorbell",
	.tp_basicsize = sizeof(DoorbellObject),
	.tp_flags = Py_TPFLAGS_DEFAULT,
	.tp_new = doorbell_new,
	.tp_methods = doorbell_methods,
};

/* waited is what a handle waits on. */
typedef struct {
	gate *g;
	mr_handle *h;
	uint64_t *event;
	int other; /* the role whose doings end the wait */
} waited;

static bool get_waited(PyObject *handle, waited *w)
{
	if (PyObject_TypeCheck(handle, &ConsumerType)) {
		ConsumerObject *c = (ConsumerObject *)handle;

		*w = (waited){.g = &c->g, .h = &c->consumer->h, .other = MR_ROLE_PRODUCER};
		if (!c->g.closed && c->g.ring->ring != NULL)
			w->event = &w->h->c.ctl->not_empty;
		return true;
	}
	if (PyObject_TypeCheck(handle, &ProducerType)) {
		ProducerObject *p = (ProducerObject *)handle;

		*w = (waited){.g = &p->g, .h = &p->producer->h, .other = MR_ROLE_CONSUMER};
		if (!p->g.closed && p->g.ring->ring != NULL)
			w->event = &w->h->c.ctl->not_full;
		return true;
	}
	PyErr_SetString(PyExc_TypeError, "a producer or a consumer is needed");
	return false;
}

/* _arm(handle) -> (key, nap): announces a wait; the caller tries once more, and then waits with key, nap nanoseconds at most. */
static PyObject *py_arm(PyObject *module, PyObject *handle)
{
	waited w;
	uint32_t key;
	int64_t nap;

	(void)module;
	if (!get_waited(handle, &w) || !enter(w.g))
		return NULL;
	key = mr_arrive(w.event);
	nap = mr_nap_length(w.h);
	leave(w.g);
	return Py_BuildValue("IL", key, (long long)nap);
}

/* _disarm(handle): after a wait, whatever became of it: what is ready for others is passed on. */
static PyObject *py_disarm(PyObject *module, PyObject *handle)
{
	waited w;

	(void)module;
	if (!get_waited(handle, &w) || !enter(w.g))
		return NULL;
	if (w.other == MR_ROLE_PRODUCER)
		mr_baton(((ConsumerObject *)handle)->consumer);
	leave(w.g);
	Py_RETURN_NONE;
}

/* _unchanged(handle, key): whether nothing has happened to the ring since the handle was armed. */
static PyObject *py_unchanged(PyObject *module, PyObject *args)
{
	PyObject *handle;
	unsigned int key;
	waited w;

	(void)module;
	if (!PyArg_ParseTuple(args, "OI", &handle, &key) || !get_waited(handle, &w))
		return NULL;
	return PyBool_FromLong(w.event != NULL && (uint32_t)(mr_load_acq(w.event) >> 32) == key); /* order: W4 acq, pairs N2 */
}

#define MOST_WAITED 120 /* the kernel takes 128 words at once */

struct waitv {
	uint64_t val, uaddr;
	uint32_t flags, reserved;
};

/* _wait(handles, keys, doorbell, value, nap) sleeps until an event of the handles, a ring of the doorbell, or nap nanoseconds have passed. Without futex_waitv, or with too many
 * handles, it sleeps a millisecond on the doorbell alone. */
static PyObject *py_wait(PyObject *module, PyObject *args)
{
	PyObject *handles, *keys;
	DoorbellObject *bell;
	unsigned int value;
	long long nap;
	struct waitv words[MOST_WAITED + 1];
	struct timespec until;
	Py_ssize_t n, i;
	unsigned count = 0;
	waited w;
	int64_t end;
	long r = -1;

	(void)module;
	if (!PyArg_ParseTuple(args, "O!O!O!IL", &PyList_Type, &handles, &PyList_Type, &keys, &DoorbellType, &bell, &value, &nap))
		return NULL;
	n = PyList_GET_SIZE(handles);
	memset(words, 0, sizeof words);
	words[count++] = (struct waitv){.val = value, .uaddr = (uintptr_t)&bell->word, .flags = 2 | FUTEX_PRIVATE_FLAG};
	for (i = 0; i < n && n <= MOST_WAITED; i++) {
		unsigned long key = PyLong_AsUnsignedLong(PyList_GET_ITEM(keys, i));

		if (PyErr_Occurred() || !get_waited(PyList_GET_ITEM(handles, i), &w))
			return NULL;
		if (w.event == NULL)
			Py_RETURN_NONE; /* closed: whoever waits for it has to hear of it */
		words[count++] = (struct waitv){.val = (uint32_t)key, .uaddr = (uintptr_t)mr_epoch(w.event), .flags = 2};
	}
	end = now() + (int64_t)nap;
	until = (struct timespec){.tv_sec = (time_t)(end / MR_SECOND), .tv_nsec = (long)(end % MR_SECOND)};
	Py_BEGIN_ALLOW_THREADS;
	errno = ENOSYS;
#ifdef SYS_futex_waitv
	if (n <= MOST_WAITED)
		r = syscall(SYS_futex_waitv, words, count, 0, &until, CLOCK_MONOTONIC);
#endif
	if ((r < 0 && (errno == ENOSYS || errno == EPERM)) || n > MOST_WAITED) {
		if (n > 0 && nap > MR_MILLISECOND)
			nap = MR_MILLISECOND;
		until = (struct timespec){.tv_sec = (time_t)(nap / MR_SECOND), .tv_nsec = (long)(nap % MR_SECOND)};
		(void)syscall(SYS_futex, &bell->word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, value, &until, NULL, 0);
	}
	Py_END_ALLOW_THREADS;
	Py_RETURN_NONE;
}

/* coroutine calls a function of millrace._async, which returns a coroutine. */
static PyObject *coroutine(const char *name, PyObject *self, PyObject *arg)
{
	if (async_support == NULL && (async_support = PyImport_ImportModule("millrace._async")) == NULL)
		return NULL;
	return PyObject_CallMethod(async_support, name, arg != NULL ? "OO" : "O", self, arg);
}

static PyObject *producer_send_async(PyObject *self, PyObject *data) { return coroutine("send", self, data); }
static PyObject *consumer_receive_async(PyObject *self, PyObject *unused) { return (void)unused, coroutine("receive", self, NULL); }
static PyObject *consumer_anext(PyObject *self) { return coroutine("anext", self, NULL); }
static PyObject *consumer_aiter(PyObject *self) { return self_enter(self, NULL); }
