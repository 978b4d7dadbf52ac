/*
 * The extension module behind the Python package: the C client, wrapped. One translation unit, because the client lives in headers and has a state for the
 * process. Read in the order of the includes.
 */
#define PY_SSIZE_T_CLEAN
#include "common.h"

static PyObject *async_support; /* the module millrace._async */

#include "ring.h"

#include "lease.h"

#include "producer.h"

#include "consumer.h"

#include "async.h"

#define METHOD(f) (PyCFunction)(void (*)(void))(f)
#define KEYWORDS (METH_VARARGS | METH_KEYWORDS)

static PyMethodDef producer_methods[] = {
	{"send", METHOD(producer_send), METH_FASTCALL | METH_KEYWORDS, "send(data, timeout=None): commit a copy of data; wait until it fits."},
	{"try_send", METHOD(producer_try_send), METH_O, "try_send(data): commit a copy of data, or raise Full."},
	{"reserve", METHOD(producer_reserve), KEYWORDS, "reserve(size, timeout=None) -> Lease: room for a message, to be filled in place."},
	{"try_reserve", METHOD(producer_try_reserve), METH_VARARGS, "try_reserve(size) -> Lease, or raise Full."},
	{"send_batch", METHOD(producer_send_batch), KEYWORDS, "send_batch(messages, timeout=None) -> number: commit copies, in order."},
	{"try_send_batch", METHOD(producer_try_send_batch), METH_O, "try_send_batch(messages) -> number: commit the longest prefix that fits."},
	{"send_array", METHOD(producer_send_array), KEYWORDS, "send_array(array, timeout=None) -> number: each row (or item) is a message."},
	{"send_async", METHOD(producer_send_async), METH_O, "await send_async(data): send without blocking the event loop."},
	{"close", METHOD(producer_close), METH_NOARGS, "close(): end the registration. From any thread."},
	{"__enter__", self_enter, METH_NOARGS, NULL},
	{"__exit__", close_at_exit, METH_VARARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef producer_properties[] = {
	{"ring", (getter)producer_ring, NULL, "The ring.", NULL},
	{"closed", (getter)producer_closed, NULL, "Whether close() was called.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject ProducerType = {
	PyVarObject_HEAD_INIT(NULL, 0)
	.tp_name = "millrace.Producer",
	.tp_basicsize = sizeof(ProducerObject),
	.tp_dealloc = (destructor)producer_dealloc,
	.tp_flags = Py_TPFLAGS_DEFAULT,
	.tp_doc = "Sends messages into a ring. Used by one thread at a time.",
	.tp_methods = producer_methods,
	.tp_getset = producer_properties,
};

static PyMethodDef consumer_methods[] = {
	{"receive", METHOD(consumer_receive), KEYWORDS, "receive(timeout=None) -> bytes: receive and release the next message."},
	{"try_receive", METHOD(consumer_try_receive), METH_NOARGS, "try_receive() -> bytes, or raise Empty."},
	{"receive_into", METHOD(consumer_receive_into), KEYWORDS, "receive_into(buffer, timeout=None) -> size."},
	{"receive_array", METHOD(consumer_receive_array), KEYWORDS,
	 "receive_array(array, timeout=None) -> number: fill rows (or items) with messages; wait for the first only."},
	{"receive_async", METHOD(consumer_receive_async), METH_NOARGS, "await receive_async() -> bytes."},
	{"next", METHOD(consumer_next), KEYWORDS, "next(timeout=None) -> Lease: lease the next message without copying it."},
	{"try_next", METHOD(consumer_try_next), METH_NOARGS, "try_next() -> Lease, or raise Empty."},
	{"next_batch", METHOD(consumer_next_batch), KEYWORDS, "next_batch(max, timeout=None) -> Lease of 1 to max messages."},
	{"try_next_batch", METHOD(consumer_try_next_batch), METH_VARARGS, "try_next_batch(max) -> Lease, or raise Empty."},
	{"close", METHOD(consumer_close), METH_NOARGS, "close(): end the registration. From any thread."},
	{"__enter__", self_enter, METH_NOARGS, NULL},
	{"__exit__", close_at_exit, METH_VARARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef consumer_properties[] = {
	{"ring", (getter)consumer_ring, NULL, "The ring.", NULL},
	{"closed", (getter)consumer_closed, NULL, "Whether close() was called.", NULL},
	{"last", (getter)consumer_last, NULL, "(position, deliveries) of the last message that was received by copying.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyAsyncMethods consumer_async = {.am_aiter = (unaryfunc)consumer_aiter, .am_anext = (unaryfunc)consumer_anext};

static PyTypeObject ConsumerType = {
	PyVarObject_HEAD_INIT(NULL, 0)
	.tp_name = "millrace.Consumer",
	.tp_basicsize = sizeof(ConsumerObject),
	.tp_dealloc = (destructor)consumer_dealloc,
	.tp_flags = Py_TPFLAGS_DEFAULT,
	.tp_doc = "Receives messages from a ring; iterating yields them as bytes until the end of the stream. Used by one thread at a time.",
	.tp_as_async = &consumer_async,
	.tp_iter = PyObject_SelfIter,
	.tp_iternext = (iternextfunc)consumer_iternext,
	.tp_methods = consumer_methods,
	.tp_getset = consumer_properties,
};

/* Ring.producer and Ring.consumer make handles; a handle that is used in a with statement keeps the ring open. */
static PyMethodDef ring_methods[] = {
	{"producer", METHOD(ring_producer), KEYWORDS, "producer(*, wait_for_consumers=False) -> Producer"},
	{"consumer", METHOD(ring_consumer), KEYWORDS, "consumer(*, follow=False, grace=0.0) -> Consumer"},
	{"stats", METHOD(ring_stats), METH_NOARGS, "stats() -> dict of counters and positions"},
	{"options", METHOD(ring_options), METH_NOARGS, "options() -> dict of the options in force"},
	{"participants", METHOD(ring_participants), METH_NOARGS, "participants() -> list of dicts"},
	{"recover", METHOD(ring_recover), METH_NOARGS, "recover() -> number of dead participants whose remains were settled"},
	{"dup_fd", METHOD(ring_dup_fd), METH_NOARGS, "dup_fd() -> a new descriptor of the segment, to hand on to another process"},
	{"close", METHOD(ring_close), METH_NOARGS, "close(): close the handles and detach. The ring itself stays. From any thread."},
	{"__enter__", self_enter, METH_NOARGS, NULL},
	{"__exit__", close_at_exit, METH_VARARGS, NULL},
	{NULL, NULL, 0, NULL},
};

static PyGetSetDef ring_properties[] = {
	{"max_message", (getter)ring_max_message, NULL, "The largest message in bytes.", NULL},
	{"closed", (getter)ring_closed, NULL, "Whether close() was called.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyTypeObject RingType = {
	PyVarObject_HEAD_INIT(NULL, 0)
	.tp_name = "millrace.Ring",
	.tp_basicsize = sizeof(RingObject),
	.tp_dealloc = (destructor)ring_dealloc,
	.tp_flags = Py_TPFLAGS_DEFAULT,
	.tp_doc = "An open ring.",
	.tp_methods = ring_methods,
	.tp_getset = ring_properties,
};

static PyMethodDef functions[] = {
	{"create", METHOD(py_create), KEYWORDS, "create(name, *, kind='mpmc', slots=1024, slot_size=256, ...) -> Ring"},
	{"open_or_create", METHOD(py_open_or_create), KEYWORDS, "open_or_create(name, *, ...) -> Ring"},
	{"open", METHOD(py_open), KEYWORDS, "open(name, *, dir=None, read_only=False) -> Ring"},
	{"open_fd", METHOD(py_open_fd), METH_VARARGS, "open_fd(fd) -> Ring"},
	{"remove", METHOD(py_remove), KEYWORDS, "remove(name, *, dir=None, force=False, if_drained=False)"},
	{"_arm", METHOD(py_arm), METH_O, "announce a wait"},
	{"_disarm", METHOD(py_disarm), METH_O, "end a wait"},
	{"_unchanged", METHOD(py_unchanged), METH_VARARGS, "whether an event is as it was"},
	{"_wait", METHOD(py_wait), METH_VARARGS, "wait for any of several handles"},
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "millrace._millrace", .m_doc = "The C client of millrace.", .m_size = -1, .m_methods = functions};

PyMODINIT_FUNC PyInit__millrace(void)
{
	PyTypeObject *const types[] = {&RingType, &LeaseType, &ProducerType, &ConsumerType, &DoorbellType};
	static const char *const names[] = {"Ring", "Lease", "Producer", "Consumer", "_Doorbell"};
	PyObject *module;
	size_t i;

	errors = PyImport_ImportModule("millrace._errors");
	module = errors != NULL ? PyModule_Create(&definition) : NULL;
	for (i = 0; module != NULL && i < sizeof types / sizeof *types; i++) {
		if (PyType_Ready(types[i]) != 0) {
			Py_CLEAR(module);
			break;
		}
		Py_INCREF(types[i]);
		if (PyModule_AddObject(module, names[i], (PyObject *)types[i]) != 0)
			Py_CLEAR(module);
	}
	return module;
}
