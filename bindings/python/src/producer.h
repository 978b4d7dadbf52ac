/* class Producer: sends messages into a ring. Used by one thread at a time. */

typedef struct {
	PyObject_HEAD
	gate g;
	mr_producer *producer;
} ProducerObject;

static PyTypeObject ProducerType;

static PyObject *ring_producer(RingObject *ring, PyObject *args, PyObject *kwargs)
{
	static char *keys[] = {"wait_for_consumers", NULL};
	ProducerObject *self;
	mr_producer *producer;
	int status, wait = 0;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$p", keys, &wait) || !is_open(ring))
		return NULL;
	status = mr_producer_new(ring->ring, wait ? MR_WAIT_FOR_CONSUMERS : 0, &producer);
	if (status != MR_OK)
		return fail(status);
	self = PyObject_New(ProducerObject, &ProducerType);
	if (self == NULL) {
		mr_producer_close(producer);
		return NULL;
	}
	Py_INCREF(ring);
	self->g = (gate){.ring = ring};
	self->producer = producer;
	return (PyObject *)self;
}

static PyObject *producer_close(ProducerObject *self, PyObject *unused)
{
	int status;

	(void)unused;
	switch (shut(&self->g)) {
	case 0:
		Py_RETURN_NONE;
	case 1:
		break;
	default:
		return NULL;
	}
	status = mr_producer_close(self->producer);
	if (status != MR_OK)
		return fail(status);
	Py_RETURN_NONE;
}

static void producer_dealloc(ProducerObject *self)
{
	if (!self->g.closed && self->g.ring->ring != NULL)
		mr_producer_close(self->producer); /* nobody is left to hear of an error */
	Py_DECREF(self->g.ring);
	Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *producer_send(ProducerObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
	PyObject *timeout = nargs > 1 ? args[1] : NULL;
	Py_buffer b;
	int64_t end;
	int status;
	bool raised;

	if (nargs < 1 || nargs > 2 || (kwnames != NULL && (PyTuple_GET_SIZE(kwnames) != 1 || nargs != 1 ||
							  PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), "timeout") != 0))) {
		PyErr_SetString(PyExc_TypeError, "send(data, timeout=None)");
		return NULL;
	}
	if (kwnames != NULL)
		timeout = args[nargs];
	if (!deadline(timeout, &end) || PyObject_GetBuffer(args[0], &b, PyBUF_SIMPLE) != 0)
		return NULL;
	if (!enter(&self->g)) {
		PyBuffer_Release(&b);
		return NULL;
	}
	WAIT(&self->g, MR_FULL, mr_try_send(self->producer, b.buf, (size_t)b.len), mr_send(self->producer, b.buf, (size_t)b.len, wait));
	leave(&self->g);
	PyBuffer_Release(&b);
	if (!ended(status, raised))
		return NULL;
	Py_RETURN_NONE;
}

static PyObject *producer_try_send(ProducerObject *self, PyObject *data)
{
	Py_buffer b;
	int status;

	if (PyObject_GetBuffer(data, &b, PyBUF_SIMPLE) != 0)
		return NULL;
	if (!enter(&self->g)) {
		PyBuffer_Release(&b);
		return NULL;
	}
	status = mr_try_send(self->producer, b.buf, (size_t)b.len);
	leave(&self->g);
	PyBuffer_Release(&b);
	if (status != MR_OK)
		return fail(status);
	Py_RETURN_NONE;
}

static PyObject *reserved(ProducerObject *self, int status, void *data, Py_ssize_t size)
{
	LeaseObject *lease;

	if (status != MR_OK)
		return fail(status);
	lease = (LeaseObject *)new_lease((PyObject *)self, &self->g, 1);
	if (lease == NULL) {
		mr_discard(self->producer);
		return NULL;
	}
	lease->producer = self->producer;
	lease->messages[0] = (mr_message){.data = data, .size = (size_t)size};
	lease->over = false;
	return (PyObject *)lease;
}

static PyObject *producer_reserve(ProducerObject *self, PyObject *args, PyObject *kwargs)
{
	static char *keys[] = {"size", "timeout", NULL};
	PyObject *timeout = NULL;
	Py_ssize_t size;
	void *data = NULL;
	int64_t end;
	int status;
	bool raised;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n|O", keys, &size, &timeout) || !deadline(timeout, &end) || !enter(&self->g))
		return NULL;
	WAIT(&self->g, MR_FULL, mr_try_reserve(self->producer, (size_t)size, &data), mr_reserve(self->producer, (size_t)size, &data, wait));
	leave(&self->g);
	if (raised)
		return NULL;
	return status == MR_CLOSED ? refuse(status) : reserved(self, status, data, size);
}

static PyObject *producer_try_reserve(ProducerObject *self, PyObject *args)
{
	Py_ssize_t size;
	void *data = NULL;
	int status;

	if (!PyArg_ParseTuple(args, "n", &size) || !enter(&self->g))
		return NULL;
	status = mr_try_reserve(self->producer, (size_t)size, &data);
	leave(&self->g);
	return reserved(self, status, data, size);
}

/* slices is a sequence of buffers as mr_slice. */
typedef struct {
	PyObject *list;
	Py_buffer *buffers;
	mr_slice *slices;
	Py_ssize_t count;
} slices;

static void free_slices(slices *s)
{
	while (s->count > 0)
		PyBuffer_Release(&s->buffers[--s->count]);
	PyMem_Free(s->buffers);
	PyMem_Free(s->slices);
	Py_CLEAR(s->list);
}

static bool get_slices(PyObject *messages, slices *s)
{
	Py_ssize_t n;

	memset(s, 0, sizeof *s);
	s->list = PySequence_Fast(messages, "a sequence of bytes-like objects is needed");
	if (s->list == NULL)
		return false;
	n = PySequence_Fast_GET_SIZE(s->list);
	s->buffers = PyMem_Calloc((size_t)n + 1, sizeof *s->buffers);
	s->slices = PyMem_Calloc((size_t)n + 1, sizeof *s->slices);
	if (s->buffers == NULL || s->slices == NULL) {
		PyErr_NoMemory();
		free_slices(s);
		return false;
	}
	while (s->count < n) {
		if (PyObject_GetBuffer(PySequence_Fast_GET_ITEM(s->list, s->count), &s->buffers[s->count], PyBUF_SIMPLE) != 0) {
			free_slices(s);
			return false;
		}
		s->slices[s->count] = (mr_slice){s->buffers[s->count].buf, (size_t)s->buffers[s->count].len};
		s->count++;
	}
	return true;
}

static PyObject *producer_send_batch(ProducerObject *self, PyObject *args, PyObject *kwargs)
{
	static char *keys[] = {"messages", "timeout", NULL};
	PyObject *messages, *timeout = NULL;
	slices s;
	size_t n = 0, done = 0;
	int64_t end;
	int status;
	bool raised;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O", keys, &messages, &timeout) || !deadline(timeout, &end) || !get_slices(messages, &s))
		return NULL;
	if (!enter(&self->g)) {
		free_slices(&s);
		return NULL;
	}
	WAIT(&self->g, MR_TIMEOUT, mr_send_batch(self->producer, s.slices, (size_t)s.count, &done, 0),
	     (n = 0, status = mr_send_batch(self->producer, s.slices + done, (size_t)s.count - done, &n, wait), done += n, status));
	leave(&self->g);
	free_slices(&s);
	if (!ended(status, raised))
		return NULL;
	return PyLong_FromSize_t(done);
}

static PyObject *producer_try_send_batch(ProducerObject *self, PyObject *messages)
{
	slices s;
	size_t n = 0;
	int status;

	if (!get_slices(messages, &s))
		return NULL;
	if (!enter(&self->g)) {
		free_slices(&s);
		return NULL;
	}
	status = mr_try_send_batch(self->producer, s.slices, (size_t)s.count, &n);
	leave(&self->g);
	free_slices(&s);
	if (status != MR_OK && status != MR_FULL)
		return fail(status);
	return PyLong_FromSize_t(n);
}

/* get_rows reads an array: its first dimension counts messages, the rest is one message. */
static bool get_rows(PyObject *array, Py_buffer *b, size_t *count, size_t *size, int flags)
{
	if (PyObject_GetBuffer(array, b, PyBUF_ND | flags) != 0)
		return false;
	if (b->ndim < 1) {
		PyErr_SetString(PyExc_ValueError, "an array of at least one dimension is needed");
		PyBuffer_Release(b);
		return false;
	}
	*count = (size_t)b->shape[0];
	*size = *count == 0 ? 0 : (size_t)b->len / *count;
	return true;
}

static PyObject *producer_send_array(ProducerObject *self, PyObject *args, PyObject *kwargs)
{
	static char *keys[] = {"array", "timeout", NULL};
	PyObject *array, *timeout = NULL;
	Py_buffer b;
	size_t count, size, n = 0, done = 0;
	int64_t end;
	int status;
	bool raised;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O", keys, &array, &timeout) || !deadline(timeout, &end) ||
	    !get_rows(array, &b, &count, &size, 0))
		return NULL;
	if (!enter(&self->g)) {
		PyBuffer_Release(&b);
		return NULL;
	}
	WAIT(&self->g, MR_TIMEOUT, mr_send_array(self->producer, b.buf, size, count, &done, 0),
	     (n = 0, status = mr_send_array(self->producer, (char *)b.buf + done * size, size, count - done, &n, wait), done += n, status));
	leave(&self->g);
	PyBuffer_Release(&b);
	if (!ended(status, raised))
		return NULL;
	return PyLong_FromSize_t(done);
}

static PyObject *producer_ring(ProducerObject *self, void *unused)
{
	(void)unused;
	Py_INCREF(self->g.ring);
	return (PyObject *)self->g.ring;
}

static PyObject *producer_closed(ProducerObject *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong(self->g.closed || self->g.ring->ring == NULL);
}
