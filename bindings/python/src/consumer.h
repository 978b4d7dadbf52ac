/* class Consumer: receives messages from a ring. Used by one thread at a time. An iterator over messages as bytes. */

typedef struct {
	PyObject_HEAD
	gate g;
	mr_consumer *consumer;
	uint64_t position; /* of the last message that was received as bytes or into a buffer */
	uint32_t deliveries;
} ConsumerObject;

static PyTypeObject ConsumerType;

static PyObject *ring_consumer(RingObject *ring, PyObject *args, PyObject *kwargs)
{
	static char *keys[] = {"follow", "grace", NULL};
	ConsumerObject *self;
	mr_consumer *consumer;
	double grace = 0;
	int status, follow = 0;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$pd", keys, &follow, &grace) || !is_open(ring))
		return NULL;
	if (!(grace >= 0 && grace < 4e9)) {
		PyErr_SetString(PyExc_ValueError, "grace is a number of seconds");
		return NULL;
	}
	status = mr_consumer_new(ring->ring, follow ? MR_FOLLOW : 0, (int64_t)(grace * 1e9), &consumer);
	if (status != MR_OK)
		return fail(status);
	self = PyObject_New(ConsumerObject, &ConsumerType);
	if (self == NULL) {
		mr_consumer_close(consumer);
		return NULL;
	}
	Py_INCREF(ring);
	self->g = (gate){.ring = ring};
	self->consumer = consumer;
	self->position = 0;
	self->deliveries = 0;
	return (PyObject *)self;
}

static PyObject *consumer_close(ConsumerObject *self, PyObject *unused)
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
	status = mr_consumer_close(self->consumer);
	if (status != MR_OK)
		return fail(status);
	Py_RETURN_NONE;
}

static void consumer_dealloc(ConsumerObject *self)
{
	if (!self->g.closed && self->g.ring->ring != NULL)
		mr_consumer_close(self->consumer); /* nobody is left to hear of an error */
	Py_DECREF(self->g.ring);
	Py_TYPE(self)->tp_free((PyObject *)self);
}

/* take_bytes makes a bytes object of the message that is leased alone, and releases it. */
static PyObject *take_bytes(ConsumerObject *self, const mr_message *m)
{
	PyObject *bytes = PyBytes_FromStringAndSize(m->data, (Py_ssize_t)m->size);
	int status = bytes != NULL ? mr_release(self->consumer) : mr_return(self->consumer, 0);

	if (bytes == NULL)
		return NULL;
	if (status != MR_OK) {
		Py_DECREF(bytes);
		return fail(status);
	}
	self->position = m->position;
	self->deliveries = m->deliveries;
	return bytes;
}

/* small is the size up to which a message is received by copying, in one step, without a lease. */
#define small 1024

/* receive_one is one attempt of receive, without waiting. NULL with *status = MR_EMPTY, and no exception, when nothing is ready. */
static PyObject *receive_one(ConsumerObject *self, int *status)
{
	char buffer[small];
	size_t size = 0;
	PyObject *bytes;

	*status = mr_try_receive(self->consumer, buffer, sizeof buffer, &size);
	if (*status == MR_OK) {
		mr_last(self->consumer, &self->position, &self->deliveries);
		return PyBytes_FromStringAndSize(buffer, (Py_ssize_t)size);
	}
	while (*status == MR_SHORT_BUFFER) { /* with several consumers the next message may be another one by now */
		bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
		if (bytes == NULL)
			return NULL;
		*status = mr_try_receive(self->consumer, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes), &size);
		if (*status == MR_OK && (Py_ssize_t)size < PyBytes_GET_SIZE(bytes))
			_PyBytes_Resize(&bytes, (Py_ssize_t)size);
		if (*status == MR_OK) {
			mr_last(self->consumer, &self->position, &self->deliveries);
			return bytes;
		}
		Py_DECREF(bytes);
	}
	if (*status != MR_EMPTY)
		fail(*status);
	return NULL;
}

/* receive_until receives one message as bytes. */
static PyObject *receive_until(ConsumerObject *self, int64_t end)
{
	mr_message m;
	PyObject *bytes;
	int status;
	bool raised;

	if (!enter(&self->g))
		return NULL;
	bytes = receive_one(self, &status);
	if (bytes == NULL && status == MR_EMPTY) {
		WAIT(&self->g, MR_EMPTY, MR_EMPTY, mr_next(self->consumer, &m, wait));
		if (ended(status, raised))
			bytes = take_bytes(self, &m);
	}
	leave(&self->g);
	return bytes;
}

static PyObject *consumer_receive(ConsumerObject *self, PyObject *args, PyObject *kwargs)
{
	static char *keys[] = {"timeout", NULL};
	PyObject *timeout = NULL;
	int64_t end;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O", keys, &timeout) || !deadline(timeout, &end))
		return NULL;
	return receive_until(self, end);
}

static PyObject *consumer_try_receive(ConsumerObject *self, PyObject *unused)
{
	PyObject *bytes;
	int status;

	(void)unused;
	if (!enter(&self->g))
		return NULL;
	bytes = receive_one(self, &status);
	leave(&self->g);
	if (bytes == NULL && !PyErr_Occurred())
		fail(status);
	return bytes;
}

static PyObject *consumer_receive_into(ConsumerObject *self, PyObject *args, PyObject *kwargs)
{
	static char *keys[] = {"buffer", "timeout", NULL};
	PyObject *timeout = NULL;
	Py_buffer b;
	size_t size = 0;
	int64_t end;
	int status;
	bool raised;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "w*|O", keys, &b, &timeout))
		return NULL;
	if (!deadline(timeout, &end) || !enter(&self->g)) {
		PyBuffer_Release(&b);
		return NULL;
	}
	WAIT(&self->g, MR_EMPTY, mr_try_receive(self->consumer, b.buf, (size_t)b.len, &size),
	     mr_receive(self->consumer, b.buf, (size_t)b.len, &size, wait));
	if (status == MR_OK)
		mr_last(self->consumer, &self->position, &self->deliveries);
	leave(&self->g);
	PyBuffer_Release(&b);
	return ended(status, raised) ? PyLong_FromSize_t(size) : NULL;
}

/* leased makes the Lease of count messages that were taken. */
static PyObject *leased(ConsumerObject *self, int status, Py_ssize_t count)
{
	LeaseObject *lease;
	Py_ssize_t i;

	if (status != MR_OK)
		return status == MR_CLOSED ? refuse(status) : fail(status);
	lease = (LeaseObject *)new_lease((PyObject *)self, &self->g, count);
	if (lease == NULL) {
		mr_return(self->consumer, 0);
		return NULL;
	}
	lease->consumer = self->consumer;
	for (i = 0; i < count; i++)
		lease->messages[i] = mr_at(self->consumer, (size_t)i);
	lease->over = false;
	return (PyObject *)lease;
}

static PyObject *consumer_next_batch(ConsumerObject *self, PyObject *args, PyObject *kwargs)
{
	static char *keys[] = {"max", "timeout", NULL};
	PyObject *timeout = NULL;
	Py_ssize_t max = 1;
	size_t count = 0;
	int64_t end;
	int status;
	bool raised;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n|O", keys, &max, &timeout) || !deadline(timeout, &end))
		return NULL;
	if (max < 1)
		return refuse(MR_MISUSE);
	if (!enter(&self->g))
		return NULL;
	WAIT(&self->g, MR_EMPTY, mr_try_next_batch(self->consumer, (size_t)max, &count), mr_next_batch(self->consumer, (size_t)max, &count, wait));
	leave(&self->g);
	return raised ? NULL : leased(self, status, (Py_ssize_t)count);
}

static PyObject *consumer_try_next_batch(ConsumerObject *self, PyObject *args)
{
	Py_ssize_t max;
	size_t count = 0;
	int status;

	if (!PyArg_ParseTuple(args, "n", &max))
		return NULL;
	if (max < 1)
		return refuse(MR_MISUSE);
	if (!enter(&self->g))
		return NULL;
	status = mr_try_next_batch(self->consumer, (size_t)max, &count);
	leave(&self->g);
	return leased(self, status, (Py_ssize_t)count);
}

static PyObject *consumer_next(ConsumerObject *self, PyObject *args, PyObject *kwargs)
{
	static char *keys[] = {"timeout", NULL};
	PyObject *timeout = NULL;
	size_t count = 0;
	int64_t end;
	int status;
	bool raised;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O", keys, &timeout) || !deadline(timeout, &end) || !enter(&self->g))
		return NULL;
	WAIT(&self->g, MR_EMPTY, mr_try_next_batch(self->consumer, 1, &count), mr_next_batch(self->consumer, 1, &count, wait));
	leave(&self->g);
	return raised ? NULL : leased(self, status, 1);
}

static PyObject *consumer_try_next(ConsumerObject *self, PyObject *unused)
{
	size_t count = 0;
	int status;

	(void)unused;
	if (!enter(&self->g))
		return NULL;
	status = mr_try_next_batch(self->consumer, 1, &count);
	leave(&self->g);
	return leased(self, status, 1);
}

/* copy_rows copies leased messages of exactly size bytes to rows, and says how many. */
static size_t copy_rows(ConsumerObject *self, char *rows, size_t size, size_t count)
{
	mr_message m;
	size_t i;

	for (i = 0; i < count; i++) {
		m = mr_at(self->consumer, i);
		if (m.size != size)
			break;
		memcpy(rows + i * size, m.data, size);
	}
	return i;
}

static PyObject *consumer_receive_array(ConsumerObject *self, PyObject *args, PyObject *kwargs)
{
	static char *keys[] = {"array", "timeout", NULL};
	PyObject *array, *timeout = NULL;
	Py_buffer b;
	size_t rows, size, count = 0, got = 0, odd = 0;
	int64_t end;
	int status;
	bool raised;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O", keys, &array, &timeout) || !deadline(timeout, &end) ||
	    !get_rows(array, &b, &rows, &size, PyBUF_WRITABLE))
		return NULL;
	if (rows == 0 || !enter(&self->g)) {
		PyBuffer_Release(&b);
		return rows == 0 ? PyLong_FromLong(0) : NULL;
	}
	WAIT(&self->g, MR_EMPTY, mr_try_next_batch(self->consumer, rows, &count), mr_next_batch(self->consumer, rows, &count, wait));
	while (status == MR_OK && !raised) { /* what else is there without waiting */
		size_t n = copy_rows(self, (char *)b.buf + got * size, size, count);

		if (n < count)
			odd = mr_at(self->consumer, n).size;
		if (n > 0)
			status = mr_release_to(self->consumer, n - 1);
		if (status == MR_OK && n < count) {
			mr_return(self->consumer, n);
			count = 0;
		}
		got += n;
		if (n == 0 || count == 0 || got == rows || status != MR_OK)
			break;
		status = mr_try_next_batch(self->consumer, rows - got, &count);
	}
	leave(&self->g);
	PyBuffer_Release(&b);
	if (got > 0)
		return PyLong_FromSize_t(got);
	if (!ended(status, raised))
		return NULL;
	PyErr_Format(PyExc_ValueError, "a message of %zu bytes where rows of %zu are expected; it was given back", odd, size);
	return NULL;
}

/* consumer_iternext ends the iteration at the end of the stream. */
static PyObject *consumer_iternext(ConsumerObject *self)
{
	PyObject *bytes = receive_until(self, -1), *type, *value, *trace, *cls;

	if (bytes != NULL)
		return bytes;
	PyErr_Fetch(&type, &value, &trace);
	cls = PyObject_GetAttrString(errors, "EndOfStream");
	if (cls == NULL || !PyErr_GivenExceptionMatches(type, cls)) {
		PyErr_Restore(type, value, trace);
	} else {
		Py_XDECREF(type);
		Py_XDECREF(value);
		Py_XDECREF(trace);
	}
	Py_XDECREF(cls);
	return NULL;
}

static PyObject *consumer_last(ConsumerObject *self, void *unused)
{
	(void)unused;
	if (self->g.closed || self->g.ring->ring == NULL)
		return refuse(MR_CLOSED);
	return Py_BuildValue("KI", (unsigned long long)self->position, self->deliveries);
}

static PyObject *consumer_ring(ConsumerObject *self, void *unused)
{
	(void)unused;
	Py_INCREF(self->g.ring);
	return (PyObject *)self->g.ring;
}

static PyObject *consumer_closed(ConsumerObject *self, void *unused)
{
	(void)unused;
	return PyBool_FromLong(self->g.closed || self->g.ring->ring == NULL);
}
