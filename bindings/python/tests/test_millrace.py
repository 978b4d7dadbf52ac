"""Tests of the Python client. They need millrace on the path: installed, or built in place (python build_backend.py) with PYTHONPATH set."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import pathlib
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import millrace

try:
    import numpy
except ImportError:
    numpy = None

KINDS = ("spsc", "mpmc")


class Case(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None, prefix="millrace-python-")
        self.addCleanup(scratch.cleanup)
        self.dir = scratch.name
        self.made = 0

    @contextlib.contextmanager
    def ring(self, **options):
        """A ring with a producer and a consumer."""
        self.made += 1
        with millrace.create(f"r{self.made}", dir=self.dir, **options) as ring, ring.producer() as p, ring.consumer() as c:
            yield ring, p, c

    def child(self, program: str, *args: str, **kwargs) -> subprocess.Popen:
        """Another Python that runs program."""
        env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), MILLRACE_DIR=self.dir)
        return subprocess.Popen([sys.executable, "-c", program, *args], env=env, stdout=subprocess.PIPE, text=True, **kwargs)


class TestMessages(Case):
    def test_sizes(self):
        for kind in KINDS:
            with self.ring(kind=kind, slots=8, slot_size=100) as (ring, p, c):
                self.assertEqual(ring.max_message, 400)
                for size in (0, 1, 99, 100, 101, 399, 400):
                    for data in (os.urandom(size), bytearray(size), memoryview(os.urandom(size))):
                        p.send(data)
                        self.assertEqual(c.receive(), bytes(data))
                with self.assertRaises(millrace.SizeError):
                    p.send(bytes(401))
                with self.assertRaises(TypeError):
                    p.send("text")

    def test_full_and_empty(self):
        for kind in KINDS:
            with self.ring(kind=kind, slots=4, slot_size=8) as (_, p, c):
                with self.assertRaises(millrace.Empty):
                    c.try_receive()
                for i in range(4):
                    p.try_send(bytes([i]))
                with self.assertRaises(millrace.Full):
                    p.try_send(b"x")
                with self.assertRaises(TimeoutError):
                    p.send(b"x", timeout=0.01)
                self.assertEqual([c.try_receive()[0] for _ in range(4)], [0, 1, 2, 3])
                with self.assertRaises(millrace.Timeout):
                    c.receive(timeout=0.01)
                with self.assertRaises(ValueError):
                    c.receive(timeout=-1)

    def test_iteration_ends_with_the_stream(self):
        for kind in KINDS:
            with self.ring(kind=kind) as (_, p, c):
                p.send_batch([b"a", b"bb", b""])
                p.close()
                self.assertEqual(list(c), [b"a", b"bb", b""])
                with self.assertRaises(EOFError):
                    c.receive()

    def test_no_consumers(self):
        with self.ring(slots=2, slot_size=8) as (_, p, c):
            p.send(b"1")
            p.send(b"2")
            c.close()
            with self.assertRaises(BrokenPipeError):
                p.send(b"3")

    def test_large_batches(self):
        for kind in KINDS:
            with self.ring(kind=kind, slots=64, slot_size=16) as (_, p, c):
                messages = [struct.pack("<Q", i) + bytes(i % 9) for i in range(1000)]
                sender = threading.Thread(target=lambda: self.assertEqual(p.send_batch(messages), 1000))
                sender.start()
                self.assertEqual([c.receive() for _ in messages], messages)
                sender.join()
                self.assertEqual(p.try_send_batch([b"x"] * 100), 64)

    def test_receive_into(self):
        with self.ring(slot_size=8) as (_, p, c):
            p.send(b"12345678")
            small, large = bytearray(4), bytearray(10)
            with self.assertRaises(millrace.ShortBuffer):
                c.receive_into(small)
            self.assertEqual(c.receive_into(large), 8)
            self.assertEqual(large[:8], b"12345678")
            self.assertEqual(c.last[1], 1)


class TestLeases(Case):
    def test_views(self):
        for kind in KINDS:
            with self.ring(kind=kind, slots=8, slot_size=32) as (ring, p, c):
                with p.reserve(20) as r:
                    r.data[:] = bytes(range(20))
                with c.next() as m:
                    view = m.data
                    self.assertTrue(view.readonly)
                    self.assertEqual(view.tobytes(), bytes(range(20)))
                    self.assertEqual(m.deliveries, 1)
                with self.assertRaises(ValueError):
                    view.tobytes()  # released with its message
                self.assertEqual(ring.stats()["used"], 0)

    def test_what_is_made_of_a_view_keeps_the_lease(self):
        with self.ring() as (ring, p, c):
            p.send(b"abc")
            m = c.next()
            part = m.data[1:]
            with self.assertRaises(BufferError):
                m.release()
            with self.assertRaises(BufferError):
                ring.close()
            self.assertEqual(part.tobytes(), b"bc")
            del part
            gc.collect()
            m.release()
            with self.assertRaises(millrace.Misuse):
                m.release()

    def test_an_exception_gives_back(self):
        for kind in KINDS:
            with self.ring(kind=kind) as (_, p, c):
                p.send(b"abc")
                with self.assertRaises(KeyError), c.next() as m:
                    raise KeyError
                with self.assertRaises(KeyError), p.reserve(5) as r:
                    raise KeyError
                with c.next() as m:
                    self.assertEqual((m.data.tobytes(), m.deliveries), (b"abc", 2))
                with self.assertRaises(millrace.Empty):
                    c.try_next()

    def test_a_lease_that_is_forgotten_is_given_back(self):
        for kind in KINDS:
            with self.ring(kind=kind) as (_, p, c):
                p.send(b"abc")
                c.next()
                gc.collect()
                self.assertEqual(c.receive(), b"abc")
                p.reserve(3)
                gc.collect()
                p.send(b"def")
                self.assertEqual(c.receive(), b"def")

    def test_batches(self):
        for kind in KINDS:
            with self.ring(kind=kind, slots=16, slot_size=8) as (_, p, c):
                p.send_batch([bytes([i]) * (i + 1) for i in range(5)])
                got = []
                while len(got) < 5:
                    with c.next_batch(3) as batch:
                        got += [bytes(v) for v in batch]
                self.assertEqual(got, [bytes([i]) * (i + 1) for i in range(5)])
                p.send_batch([b"a", b"b", b"c"])
                batch = c.next_batch(3)
                batch.release(0)
                batch.give_back()
                self.assertEqual([c.receive(), c.receive()], [b"b", b"c"])

    def test_one_lease_at_a_time(self):
        with self.ring() as (_, p, c):
            p.send(b"a")
            p.send(b"b")
            with c.next():
                with self.assertRaises(millrace.Misuse):
                    c.next()
                with self.assertRaises(millrace.Misuse):
                    c.receive()
            with p.reserve(1):
                with self.assertRaises(millrace.Misuse):
                    p.send(b"x")


class TestWaiting(Case):
    def test_other_threads_run_and_a_message_wakes(self):
        for kind in KINDS:
            with self.ring(kind=kind, slots=2, slot_size=8) as (_, p, c):
                got = []
                waiter = threading.Thread(target=lambda: got.append(c.receive()))
                waiter.start()
                time.sleep(0.05)
                p.send(b"late")
                waiter.join(10)
                self.assertEqual(got, [b"late"])

    def test_interrupt(self):
        for call in ("c.receive()", "c.next()", "c.next_batch(2)", "next(c)", "[p.send(b'x') for _ in range(9)]", "[p.send_batch([b'x'] * 2) for _ in range(9)]"):
            program = (
                "import millrace, sys\n"
                "with millrace.create('q', slots=2, slot_size=8) as r, r.producer() as p, r.consumer() as c:\n"
                " print('ready', flush=True)\n"
                " try:\n"
                f"  {call}\n"
                " except KeyboardInterrupt:\n"
                "  print('interrupted')\n"
            )
            child = self.child(program)
            self.assertEqual(child.stdout.readline(), "ready\n")
            time.sleep(0.1)
            child.send_signal(signal.SIGINT)
            self.assertEqual(child.communicate(timeout=20)[0], "interrupted\n", call)
            millrace.remove("q", dir=self.dir)

    def test_close_ends_a_wait(self):
        for what in ("handle", "ring"):
            with self.ring() as (ring, _, c):
                errors = []

                def wait(c=c, errors=errors):
                    try:
                        c.receive()
                    except millrace.Error as e:
                        errors.append(type(e))

                waiter = threading.Thread(target=wait)
                waiter.start()
                time.sleep(0.05)
                (c if what == "handle" else ring).close()
                waiter.join(10)
                self.assertEqual(errors, [millrace.Closed])

    def test_two_threads_on_one_handle(self):
        with self.ring() as (_, p, c):
            waiter = threading.Thread(target=c.receive)
            waiter.start()
            time.sleep(0.1)
            with self.assertRaises(millrace.Misuse):
                c.try_receive()
            p.send(b"x")
            waiter.join(10)

    def test_death_of_the_producer_ends_the_stream(self):
        with millrace.create("q", dir=self.dir) as ring, ring.consumer() as c:
            child = self.child("import millrace, os, time; p = millrace.open('q').producer(); p.send(b'x'); p.reserve(5); print('ready', flush=True); time.sleep(99)")
            self.assertEqual(child.stdout.readline(), "ready\n")
            child.kill()
            self.assertEqual(list(c), [b"x"])
            child.communicate()
            self.assertEqual(ring.stats()["producers_died"], 1)

    def test_death_of_a_consumer_redelivers(self):
        with millrace.create("q", dir=self.dir) as ring, ring.producer() as p:
            p.send(b"x")
            child = self.child("import millrace, time; c = millrace.open('q').consumer(); m = c.next(); print('ready', flush=True); time.sleep(99)")
            self.assertEqual(child.stdout.readline(), "ready\n")
            with ring.consumer() as c:
                with self.assertRaises(millrace.Timeout):
                    c.receive(timeout=0.2)
                child.kill()
                self.assertEqual(c.receive(timeout=10), b"x")
                self.assertEqual(c.last[1], 2)
            child.communicate()

    def test_a_forked_child_inherits_no_role(self):
        for kind in KINDS:
            with self.ring(kind=kind) as (ring, p, c):
                read, write = os.pipe()
                pid = os.fork()
                if pid == 0:
                    said = []
                    for call in (lambda: p.send(b"x"), lambda: c.try_receive(), lambda: p.try_reserve(1)):
                        try:
                            call()
                        except BaseException as e:
                            said.append(type(e).__name__)
                    os.write(write, " ".join(said).encode())
                    os._exit(0)
                os.close(write)
                with os.fdopen(read) as f:
                    self.assertEqual(f.read(), "Closed Closed Closed")
                os.waitpid(pid, 0)
                p.send(b"parent")
                self.assertEqual(c.receive(), b"parent")
                self.assertEqual(len(ring.participants()), 2)


class TestAsync(Case):
    def test_many_rings_one_thread(self):
        async def run():
            with contextlib.ExitStack() as stack:
                pairs = []
                for i in range(12):
                    ring = stack.enter_context(millrace.create(f"a{i}", dir=self.dir, kind=KINDS[i % 2], slots=4, slot_size=8))
                    pairs.append((ring.producer(), ring.consumer()))

                async def produce(p):
                    for i in range(200):
                        await p.send_async(struct.pack("<Q", i))
                    p.close()

                async def consume(c):
                    return [struct.unpack("<Q", m)[0] async for m in c]

                before = threading.active_count()
                got = await asyncio.gather(*(consume(c) for _, c in pairs), *(produce(p) for p, _ in pairs))
                self.assertLessEqual(threading.active_count(), before + 1)
                for numbers in got[: len(pairs)]:
                    self.assertEqual(numbers, list(range(200)))

        asyncio.run(run())

    def test_cancel(self):
        async def run():
            with self.ring() as (_, p, c):
                task = asyncio.create_task(c.receive_async())
                await asyncio.sleep(0.02)
                task.cancel()
                with self.assertRaises(asyncio.CancelledError):
                    await task
                p.send(b"x")
                self.assertEqual(await c.receive_async(), b"x")

        asyncio.run(run())

    def test_end_and_error(self):
        async def run():
            with self.ring() as (_, p, c):
                task = asyncio.create_task(c.receive_async())
                await asyncio.sleep(0.02)
                p.close()
                with self.assertRaises(millrace.EndOfStream):
                    await task
                c.close()
                with self.assertRaises(millrace.Closed):
                    await c.receive_async()

        asyncio.run(run())

    def test_a_wake_up_from_another_process(self):
        async def run():
            with millrace.create("q", dir=self.dir) as ring, ring.consumer() as c:
                child = self.child("import millrace, sys; p = millrace.open('q').producer(); sys.stdin.readline(); p.send(b'hello')", stdin=subprocess.PIPE)
                task = asyncio.create_task(c.receive_async())
                await asyncio.sleep(0.05)
                child.stdin.write("\n")
                child.stdin.flush()
                self.assertEqual(await asyncio.wait_for(task, 20), b"hello")
                child.communicate()

        asyncio.run(run())


class TestArrays(Case):
    def test_buffers(self):
        for kind in KINDS:
            with self.ring(kind=kind, slots=64, slot_size=8) as (_, p, c):
                import array

                values = array.array("Q", range(500))
                sender = threading.Thread(target=lambda: self.assertEqual(p.send_array(values), 500))
                sender.start()
                got = array.array("Q")
                while len(got) < 500:
                    part = array.array("Q", bytes(8 * 100))
                    n = c.receive_array(part, timeout=10)
                    got.extend(part[:n])
                sender.join()
                self.assertEqual(got, values)
                p.send(b"odd")
                with self.assertRaises(ValueError):
                    c.receive_array(array.array("Q", bytes(80)))
                self.assertEqual(c.receive(), b"odd")

    @unittest.skipIf(numpy is None, "numpy is not installed")
    def test_numpy(self):
        tick = numpy.dtype([("price", "<f8"), ("size", "<u4"), ("side", "S4")])
        with self.ring(slots=256, slot_size=tick.itemsize) as (_, p, c):
            ticks = numpy.zeros(100, tick)
            ticks["price"] = numpy.arange(100) / 4
            self.assertEqual(p.send_array(ticks), 100)
            back = numpy.zeros(100, tick)
            got = 0
            while got < 100:
                got += c.receive_array(back[got:])
            self.assertTrue((back == ticks).all())
            with p.reserve(tick.itemsize) as r:  # in and out without a copy
                numpy.frombuffer(r.data, tick)["price"] = 7.5
            with c.next() as m:
                self.assertEqual(numpy.frombuffer(m.data, tick)["price"][0], 7.5)


class TestRings(Case):
    def test_names_and_options(self):
        with self.assertRaises(FileNotFoundError):
            millrace.open("nothing", dir=self.dir)
        with self.assertRaises(ValueError):
            millrace.create("a/b", dir=self.dir)
        with self.assertRaises(ValueError):
            millrace.create("a", dir=self.dir, kind="other")
        with self.assertRaises(ValueError):
            millrace.create("a", dir=self.dir, slots=3)
        with millrace.create("a", dir=self.dir, kind="spsc", slots=16, slot_size=24, on_consumer_death="drop", perm=0o640, participants=9) as ring:
            with self.assertRaises(FileExistsError):
                millrace.create("a", dir=self.dir)
            o = ring.options()
            self.assertEqual((o["kind"], o["slots"], o["slot_size"], o["on_consumer_death"], o["participants"]), ("spsc", 16, 24, "drop", 9))
            self.assertEqual(os.stat(f"{self.dir}/a").st_mode & 0o777, 0o640)
            with self.assertRaises(millrace.InUse):
                millrace.remove("a", dir=self.dir)
            p = ring.producer()
            with self.assertRaises(millrace.RoleTaken):
                ring.producer()
            p.close()
        with millrace.open("a", dir=self.dir, read_only=True) as ring, self.assertRaises(PermissionError):
            ring.producer()
        with self.assertRaises(millrace.Mismatch):
            millrace.open_or_create("a", dir=self.dir, kind="mpmc")
        millrace.remove("a", dir=self.dir)
        pathlib.Path(self.dir, "b").write_bytes(bytes(5000))
        with self.assertRaises(millrace.FormatError):
            millrace.open("b", dir=self.dir)

    def test_a_handle_keeps_its_ring(self):
        with millrace.create("a", dir=self.dir).producer() as p:
            gc.collect()
            p.send(b"x")
        with millrace.open("a", dir=self.dir).consumer() as c:
            self.assertEqual(list(c), [b"x"])
        del p, c
        gc.collect()
        millrace.remove("a", dir=self.dir)

    def test_descriptor(self):
        with millrace.create("m", backing="memfd") as ring, ring.producer() as p:
            fd = ring.dup_fd()
            try:
                with millrace.open_fd(fd) as other, other.consumer() as c:
                    p.send(b"x")
                    self.assertEqual(c.receive(), b"x")
            finally:
                os.close(fd)

    def test_use_after_close(self):
        with self.ring() as (ring, p, c):
            ring.close()
            ring.close()
            for call in (lambda: p.send(b"x"), c.receive, ring.stats, ring.producer, lambda: c.last):
                with self.assertRaises(millrace.Closed):
                    call()
            p.close()
            c.close()

    def test_nothing_leaks(self):
        def once():
            with self.ring(slots=8, slot_size=8) as (_, p, c):
                p.send(b"x")
                with c.next() as m:
                    bytes(m.data)

        once()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            once()
        gc.collect()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)


if __name__ == "__main__":
    unittest.main()
