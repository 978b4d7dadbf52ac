"""asyncio: one thread of the process waits for all handles, however many rings there are."""

from __future__ import annotations

import asyncio
import os
import threading

from . import _millrace
from ._errors import Empty, EndOfStream, Full

#: Messages that are handed out without a pause before other tasks get a turn.
_TURN = 64


class _Waits:
    """The thread, and what it waits for: handle -> (key, loop, future)."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.bell = _millrace._Doorbell()
        self.waits: dict = {}
        self.thread: threading.Thread | None = None

    async def sleep(self, handle, key: int, nap: int) -> None:
        """Sleep until something happened to the ring of handle since it was armed, or until the nap is over."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        timer = loop.call_later(nap / 1e9, _finish, future)
        with self.lock:
            self.waits[id(future)] = (handle, key, loop, future)
            if self.thread is None:
                self.thread = threading.Thread(target=self.run, name="millrace", daemon=True)
                self.thread.start()
        self.bell.ring()
        try:
            await future
        finally:
            timer.cancel()
            with self.lock:
                self.waits.pop(id(future), None)

    def run(self) -> None:
        while True:
            value = self.bell.value()
            with self.lock:
                waits = dict(self.waits)
            handles = [w[0] for w in waits.values()]
            keys = [w[1] for w in waits.values()]
            _millrace._wait(handles, keys, self.bell, value, 3_600_000_000_000)
            for name, (handle, key, loop, future) in waits.items():
                if not _millrace._unchanged(handle, key):
                    with self.lock:
                        if self.waits.pop(name, None) is None:
                            continue
                    try:
                        loop.call_soon_threadsafe(_finish, future)
                    except RuntimeError:  # the loop is closed
                        pass


def _finish(future: asyncio.Future) -> None:
    if not future.done():
        future.set_result(None)


_waits = _Waits()


def _forked() -> None:
    global _waits
    _waits = _Waits()


os.register_at_fork(after_in_child=_forked)


async def _retry(handle, attempt, unavailable):
    """Call attempt until it does not raise unavailable."""
    try:
        return attempt()
    except unavailable:
        pass
    try:
        while True:
            key, nap = _millrace._arm(handle)
            try:
                return attempt()
            except unavailable:
                pass
            await _waits.sleep(handle, key, nap)
    finally:
        if not handle.closed:
            _millrace._disarm(handle)


async def receive(consumer) -> bytes:
    return await _retry(consumer, consumer.try_receive, Empty)


async def send(producer, data) -> None:
    await _retry(producer, lambda: producer.try_send(data), Full)


_turns = 0


async def anext(consumer) -> bytes:
    global _turns
    _turns += 1
    if _turns % _TURN == 0:
        await asyncio.sleep(0)
    try:
        return await receive(consumer)
    except EndOfStream:
        raise StopAsyncIteration from None
