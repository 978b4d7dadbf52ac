/*
 * class Lease: memory in the ring that belongs to the caller for a while: a message or a batch that is leased, or a reservation. It gives out memoryviews
 * of itself, which it releases when it ends. As long as something made from one of them, an array say, is alive, it cannot end: BufferError.
 */

typedef struct {
	PyObject_HEAD
	PyObject *handle; /* the producer or consumer */
	gate *g;
	mr_producer *producer; /* of a reservation */
	mr_consumer *consumer; /* of a message or batch */
	mr_message *messages;  /* count of them */
	Py_ssize_t count;
	Py_ssize_t next;    /* the first that is still held */
	Py_ssize_t exports; /* views that are alive */
	Py_ssize_t viewing; /* the message that the next export shows */
	PyObject *views;    /* list of weak references to the views given out */
	bool over;
} LeaseObject;

static PyTypeObject LeaseType;

static PyObject *new_lease(PyObject *handle, gate *g, Py_ssize_t count)
{
	LeaseObject *self = PyObject_New(LeaseObject, &LeaseType);

	if (self == NULL)
		return NULL;
	self->messages = PyMem_Calloc((size_t)count, sizeof *self->messages);
	self->handle = handle;
	Py_INCREF(handle);
	self->g = g;
	self->producer = NULL;
	self->consumer = NULL;
	self->count = count;
	self->next = self->exports = self->viewing = 0;
	self->over = true; /* until the caller has filled it in */
	self->views = PyList_New(0);
	if (self->messages == NULL || self->views == NULL) {
		Py_DECREF(self);
		return PyErr_NoMemory();
	}
	return (PyObject *)self;
}

static int lease_getbuffer(LeaseObject *self, Py_buffer *view, int flags)
{
	const mr_message *m = &self->messages[self->viewing];

	if (self->over || self->g->closed || self->g->ring->ring == NULL) {
		PyErr_SetString(PyExc_BufferError, "the lease has ended");
		view->obj = NULL;
		return -1;
	}
	if (PyBuffer_FillInfo(view, (PyObject *)self, (void *)(uintptr_t)m->data, (Py_ssize_t)m->size, self->producer == NULL, flags) != 0)
		return -1;
	self->exports++;
	self->g->ring->exports++;
	return 0;
}

static void lease_releasebuffer(LeaseObject *self, Py_buffer *view)
{
	(void)view;
	self->exports--;
	self->g->ring->exports--;
}

static PyBufferProcs lease_buffer = {(getbufferproc)lease_getbuffer, (releasebufferproc)lease_releasebuffer};

/* release_views releases every memoryview that was given out. It fails while something else is made from one. */
static bool release_views(LeaseObject *self)
{
	PyObject *view, *result;

	while (PyList_GET_SIZE(self->views) > 0) {
		view = PyWeakref_GetObject(PyList_GET_ITEM(self->views, PyList_GET_SIZE(self->views) - 1));
		if (view != NULL && view != Py_None) {
			Py_INCREF(view);
			result = PyObject_CallMethod(view, "release", NULL);
			Py_DECREF(view);
			if (result == NULL)
				return false;
			Py_DECREF(result);
		}
		if (PyList_SetSlice(self->views, PyList_GET_SIZE(self->views) - 1, PyList_GET_SIZE(self->views), NULL) != 0)
			return false;
	}
	return true;
}

/* begin_end enters the handle to end the lease, or a part of it. */
static bool begin_end(LeaseObject *self)
{
	if (!release_views(self))
		return false;
	if (self->exports > 0) {
		PyErr_SetString(PyExc_BufferError, "views of the message are still in use");
		return false;
	}
	if (self->over) {
		refuse(MR_MISUSE);
		return false;
	}
	return enter(self->g);
}

static PyObject *finish_end(LeaseObject *self, int status, bool over)
{
	leave(self->g);
	if (status != MR_OK)
		return fail(status);
	self->over = over;
	Py_RETURN_NONE;
}

static PyObject *lease_view(LeaseObject *self, Py_ssize_t i)
{
	PyObject *view, *ref;

	if (i < 0)
		i += self->count;
	if (i < self->next || i >= self->count) {
		PyErr_SetString(PyExc_IndexError, "no such message in the lease, or released");
		return NULL;
	}
	self->viewing = i;
	view = PyMemoryView_FromObject((PyObject *)self);
	if (view == NULL)
		return NULL;
	ref = PyWeakref_NewRef(view, NULL);
	if (ref == NULL || PyList_Append(self->views, ref) != 0)
		Py_CLEAR(view);
	Py_XDECREF(ref);
	return view;
}

static PyObject *lease_data(LeaseObject *self, void *unused)
{
	(void)unused;
	return lease_view(self, self->next);
}

static PyObject *lease_item(LeaseObject *self, Py_ssize_t i) { return lease_view(self, i); }
static Py_ssize_t lease_length(LeaseObject *self) { return self->count; }
static PySequenceMethods lease_sequence = {.sq_length = (lenfunc)lease_length, .sq_item = (ssizeargfunc)lease_item};

static PyObject *lease_release(LeaseObject *self, PyObject *args)
{
	Py_ssize_t i = self->count - 1;
	int status;

	if (!PyArg_ParseTuple(args, "|n", &i))
		return NULL;
	if (self->consumer == NULL || i < self->next || i >= self->count)
		return refuse(MR_MISUSE);
	if (!begin_end(self))
		return NULL;
	status = mr_release_to(self->consumer, (size_t)i);
	if (status == MR_OK)
		self->next = i + 1;
	return finish_end(self, status, self->next == self->count);
}

static PyObject *lease_give_back(LeaseObject *self, PyObject *args)
{
	Py_ssize_t i = self->next;

	if (!PyArg_ParseTuple(args, "|n", &i))
		return NULL;
	if (self->consumer == NULL || i < 0 || i >= self->count)
		return refuse(MR_MISUSE);
	if (!begin_end(self))
		return NULL;
	return finish_end(self, mr_return(self->consumer, (size_t)i), true);
}

static PyObject *lease_commit(LeaseObject *self, PyObject *args)
{
	Py_ssize_t size = (Py_ssize_t)self->messages[0].size;

	if (!PyArg_ParseTuple(args, "|n", &size))
		return NULL;
	if (self->producer == NULL)
		return refuse(MR_MISUSE);
	if (!begin_end(self))
		return NULL;
	return finish_end(self, mr_commit(self->producer, (size_t)size), true);
}

static PyObject *lease_discard(LeaseObject *self, PyObject *unused)
{
	(void)unused;
	if (self->producer == NULL)
		return refuse(MR_MISUSE);
	if (!begin_end(self))
		return NULL;
	return finish_end(self, mr_discard(self->producer), true);
}

/* __exit__: a reservation is committed, or discarded after an exception; a lease is released, or given back after an exception. */
static PyObject *lease_exit(LeaseObject *self, PyObject *args)
{
	PyObject *type = Py_None;
	const char *method;

	if (PyTuple_GET_SIZE(args) > 0)
		type = PyTuple_GET_ITEM(args, 0);
	if (self->over || self->g->closed)
		Py_RETURN_NONE;
	if (type == Py_None)
		method = self->producer != NULL ? "commit" : "release";
	else
		method = self->producer != NULL ? "discard" : "give_back";
	return PyObject_CallMethod((PyObject *)self, method, NULL);
}

static void lease_dealloc(LeaseObject *self)
{
	/* A lease that nobody can end any more would block its handle: it is given back. No view is alive, since views keep the lease. */
	if (!self->over && !self->g->closed && !self->g->closing && self->g->ring->ring != NULL && !self->g->busy) {
		if (self->producer != NULL)
			mr_discard(self->producer);
		else
			mr_return(self->consumer, (size_t)self->next);
	}
	PyMem_Free(self->messages);
	Py_XDECREF(self->views);
	Py_XDECREF(self->handle);
	Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *lease_position(LeaseObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLongLong(self->messages[self->next < self->count ? self->next : self->count - 1].position);
}

static PyObject *lease_deliveries(LeaseObject *self, void *unused)
{
	(void)unused;
	return PyLong_FromUnsignedLong(self->messages[self->next < self->count ? self->next : self->count - 1].deliveries);
}

static PyObject *lease_place(LeaseObject *self, PyObject *args)
{
	Py_ssize_t i;

	if (!PyArg_ParseTuple(args, "n", &i))
		return NULL;
	if (i < 0 || i >= self->count) {
		PyErr_SetString(PyExc_IndexError, "no such message in the lease");
		return NULL;
	}
	return Py_BuildValue("KI", (unsigned long long)self->messages[i].position, self->messages[i].deliveries);
}

static PyMethodDef lease_methods[] = {
	{"place", (PyCFunction)lease_place, METH_VARARGS, "place(i) -> (position, deliveries) of message i."},
	{"release", (PyCFunction)lease_release, METH_VARARGS, "release(i=last): release the messages up to i."},
	{"give_back", (PyCFunction)lease_give_back, METH_VARARGS, "give_back(i=first held): give message i and all behind it back, to be delivered again."},
	{"commit", (PyCFunction)lease_commit, METH_VARARGS, "commit(size=all): publish the first size bytes of the reservation."},
	{"discard", (PyCFunction)lease_discard, METH_NOARGS, "discard(): give the room back; the message never existed."},
	{"__enter__", self_enter, METH_NOARGS, NULL},
	{"__exit__", (PyCFunction)lease_exit, METH_VARARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef lease_properties[] = {
	{"data", (getter)lease_data, NULL, "A memoryview of the first message that is held, or of the reservation.", NULL},
	{"position", (getter)lease_position, NULL, "Position of the first message that is held.", NULL},
	{"deliveries", (getter)lease_deliveries, NULL, "How often it was delivered: 1, 2, ...; saturates at 49.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject LeaseType = {
	PyVarObject_HEAD_INIT(NULL, 0)
	.tp_name = "millrace.Lease",
	.tp_basicsize = sizeof(LeaseObject),
	.tp_dealloc = (destructor)lease_dealloc,
	.tp_flags = Py_TPFLAGS_DEFAULT,
	.tp_doc = "A leased message or batch, or a reservation.",
	.tp_as_buffer = &lease_buffer,
	.tp_as_sequence = &lease_sequence,
	.tp_methods = lease_methods,
	.tp_getset = lease_properties,
};
