"""The Python peer of tests/interop/PEER.md. It needs millrace on the path: installed, or built in place with PYTHONPATH set."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import sys

import millrace

MASK = (1 << 64) - 1
BATCH = 8

CODES = [
    (millrace.Full, "full"), (millrace.Empty, "empty"), (millrace.EndOfStream, "eof"), (millrace.NoConsumers, "noconsumers"),
    (millrace.Stalled, "stalled"), (millrace.Timeout, "timeout"), (millrace.Closed, "closed"), (millrace.SegmentLost, "lost"),
    (millrace.Misuse, "misuse"), (millrace.RoleTaken, "roletaken"), (millrace.TooManyParticipants, "toomany"), (millrace.Mismatch, "mismatch"),
    (millrace.NotSegment, "notsegment"), (millrace.ByteOrderError, "byteorder"), (millrace.VersionError, "version"),
    (millrace.LayoutError, "layout"), (millrace.Corrupt, "corrupt"), (millrace.Unsupported, "unsupported"), (millrace.InUse, "inuse"),
    (millrace.Exists, "exist"), (millrace.NotFound, "notexist"), (millrace.PermissionDenied, "permission"), (millrace.SizeError, "size"),
    (millrace.ShortBuffer, "shortbuffer"), (millrace.InvalidOption, "invalid"),
]


class ProtocolError(Exception):
    """The command is wrong, not the ring."""


class Torn(Exception):
    """A message is not what it must be."""


class OutOfOrder(Exception):
    """Messages of one stream came in another order."""


class Partial(Exception):
    """An error after some messages."""

    def __init__(self, count, items, cause):
        super().__init__(str(cause))
        self.count, self.items, self.cause = count, items, cause


def code(error) -> str:
    if error is None:
        return "ok"
    if isinstance(error, Partial):
        return code(error.cause)
    for cls, name in [(ProtocolError, "protocol"), (Torn, "torn"), (OutOfOrder, "order"), *CODES]:
        if isinstance(error, cls):
            return name
    return "system"


def content(seed: int, seq: int, size: int) -> bytes:
    x = (seed ^ (seq * 0x9E3779B97F4A7C15 & MASK)) | 1
    words = [seq, seed]
    while len(words) * 8 < size:
        x ^= x << 13 & MASK
        x ^= x >> 7
        x ^= x << 17 & MASK
        words.append(x)
    return struct.pack(f"<{len(words)}Q", *words)[:size]


def identify(data) -> tuple[int, int]:
    """Which message data is: (seed, seq). Torn when its bytes are wrong."""
    data = bytes(data)
    seq, seed = struct.unpack("<QQ", data[:16].ljust(16, b"\0"))
    if len(data) > 16 and data != content(seed, seq, len(data)):
        raise Torn(f"message {seq} of stream {seed} is torn")
    return seed, seq


class Sizes:
    def __init__(self, word: str):
        low, _, high = word.partition("..")
        self.low, self.high = int(low), int(high or low)
        if self.high < self.low:
            raise ValueError(word)

    def of(self, seq: int) -> int:
        return self.low + seq * 7919 % (self.high - self.low + 1)


class Stream:
    """What the sending commands send: messages of a stream from first on."""

    def __init__(self, sizes: str, seed: str, first: str):
        self.sizes, self.seed, self.first = Sizes(sizes), int(seed), int(first)

    def message(self, i: int) -> bytes:
        seq = self.first + i
        return content(self.seed, seq, self.sizes.of(seq))


class Peer:
    def __init__(self):
        self.timeout = 20.0
        self.ring = self.producer = self.consumer = None
        self.reservation = self.lease = None
        self.held = 0
        self.then = None

    # Rings.

    def hello(self):
        return ["python"]

    def set_timeout(self, ms):
        self.timeout = int(ms) / 1000 or None

    def use(self, ring):
        if self.ring is not None:
            self.ring.close()
        self.ring, self.producer, self.consumer, self.lease, self.reservation = ring, None, None, None, None

    def options(self, name, kind, slots, slot_size, policy, *keys):
        o = {"kind": kind, "slots": int(slots), "slot_size": int(slot_size), "on_consumer_death": policy}
        for key in keys:
            k, _, v = key.partition("=")
            o[{"maxdeliveries": "max_deliveries"}.get(k, k)] = v if k == "backing" else int(v, 8 if k == "perm" else 10)
        return o

    def create(self, name, *words):
        self.use(millrace.create(name, **self.options(name, *words)))

    def openorcreate(self, name, *words):
        try:
            self.use(millrace.create(name, **self.options(name, *words)))
            return ["created"]
        except millrace.Exists:
            self.use(millrace.open_or_create(name, **self.options(name, *words)))
            return ["opened"]

    def open(self, name):
        self.use(millrace.open(name))

    def observe(self, name):
        self.use(millrace.open(name, read_only=True))

    def remove(self, name, *flags):
        millrace.remove(name, if_drained="drained" in flags, force="force" in flags)

    def opened(self):
        if self.ring is None:
            raise ProtocolError("no ring")
        return self.ring

    def new_producer(self, *flags):
        self.producer = self.opened().producer(wait_for_consumers="wait" in flags)

    def new_consumer(self, *flags):
        grace = next((int(f[6:]) for f in flags if f.startswith("grace=")), 0)
        self.consumer = self.opened().consumer(follow="follow" in flags, grace=grace / 1000)
        self.lease = None

    def recover(self):
        return [str(self.opened().recover())]

    def info(self):
        o = self.opened().options()
        o["slotsize"], o["policy"], o["maxdeliveries"] = o["slot_size"], o["on_consumer_death"], o["max_deliveries"]
        o["maxmessage"] = self.ring.max_message
        return [f"{k}={o[k]}" for k in "kind slots slotsize policy maxdeliveries participants backing maxmessage".split()]

    def stats(self):
        s = self.opened().stats()
        keys = (
            "used producer_position consumer_position sent received redelivered lost skipped padding discarded recoveries producers_ever producers_live "
            "producers_died consumers_ever consumers_live consumers_died"
        )
        return [f"{k}={s[k]}" for k in keys.split()]

    def who(self):
        return [f"{p['id']}:{p['role']}:{p['state']}" for p in self.opened().participants()]

    def close(self, what):
        thing = {"producer": self.producer, "consumer": self.consumer, "ring": self.ring}.get(what)
        if thing is None:
            raise ProtocolError("close " + what)
        thing.close()

    def fork(self):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            codes = []
            for handle, attempt in [(self.producer, lambda: self.producer.try_send(b"x")), (self.consumer, lambda: self.consumer.try_receive())]:
                try:
                    codes.append("none" if handle is None else (attempt(), "ok")[1])
                except Exception as e:  # whatever it is, the test wants to know
                    codes.append(code(e))
            os.write(write, " ".join(codes).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as f:
            words = f.read().split()
        os.waitpid(pid, 0)
        return words

    # Producers.

    def sending(self):
        if self.producer is None:
            raise ProtocolError("no producer")
        return self.producer

    def each(self, n, stream, send):
        self.sending()
        for i in range(n):
            try:
                send(stream.message(i))
            except millrace.Error as e:
                raise Partial(i, [], e) from e
        return [str(n)]

    def send(self, n, sizes, seed, first):
        return self.each(int(n), Stream(sizes, seed, first), lambda m: self.producer.send(m, self.timeout))

    def trysend(self, n, sizes, seed, first):
        return self.each(int(n), Stream(sizes, seed, first), lambda m: self.producer.try_send(m))

    def sendbatch(self, n, sizes, seed, first):
        stream = Stream(sizes, seed, first)
        return [str(self.sending().send_batch([stream.message(i) for i in range(int(n))], self.timeout))]

    def trysendbatch(self, n, sizes, seed, first):
        stream = Stream(sizes, seed, first)
        done = self.sending().try_send_batch([stream.message(i) for i in range(int(n))])
        if done < int(n):
            raise Partial(done, [], millrace.Full())
        return [str(done)]

    def fill(self, reservation, sizes, seed, seq):
        reservation.data[:] = content(int(seed), int(seq), Sizes(sizes).of(int(seq)))
        self.reservation = reservation

    def reserve(self, sizes, seed, seq):
        self.fill(self.sending().reserve(Sizes(sizes).of(int(seq)), self.timeout), sizes, seed, seq)

    def tryreserve(self, sizes, seed, seq):
        self.fill(self.sending().try_reserve(Sizes(sizes).of(int(seq))), sizes, seed, seq)

    def commit(self, *size):
        if self.reservation is None:
            raise millrace.Misuse()
        self.reservation.commit(*map(int, size))

    def discard(self):
        if self.reservation is None:
            raise millrace.Misuse()
        self.reservation.discard()

    # Consumers.

    def receiving(self):
        if self.consumer is None:
            raise ProtocolError("no consumer")
        return self.consumer

    def item(self, data, position, deliveries):
        seed, seq = identify(data)
        return f"{position}:{deliveries}:{len(data)}:{seed}:{seq}"

    def take(self, n, receive):
        items = []
        consumer = self.receiving()
        for _ in range(n):
            try:
                data = receive()
                items.append(self.item(data, *consumer.last))
            except (millrace.Error, Torn) as e:
                raise Partial(len(items), items, e) from e
        return [str(n), *items]

    def receive(self, n):
        return self.take(int(n), lambda: self.consumer.receive(self.timeout))

    def tryreceive(self, n):
        return self.take(int(n), lambda: self.consumer.try_receive())

    def leased(self, lease):
        self.lease, self.held = lease, 0
        items = self.items()
        return [str(len(items)), *items]

    def items(self):
        items = []
        for i in range(self.held, len(self.lease)):
            try:
                items.append(self.item(self.lease[i], *self.lease.place(i)))
            except Torn as e:
                raise Partial(len(items), items, e) from e
        return items

    def next(self):
        return self.leased(self.receiving().next(self.timeout))

    def trynext(self):
        return self.leased(self.receiving().try_next())

    def nextbatch(self, limit):
        return self.leased(self.receiving().next_batch(int(limit), self.timeout))

    def trynextbatch(self, limit):
        return self.leased(self.receiving().try_next_batch(int(limit)))

    def release(self, *i):
        if self.lease is None:
            raise millrace.Misuse()
        self.items()  # they must not have changed while they were held
        upto = int(i[0]) if i else len(self.lease) - 1
        self.lease.release(upto)
        self.held = upto + 1

    def give_back(self, *i):
        if self.lease is None:
            raise millrace.Misuse()
        self.lease.give_back(*map(int, i))
        self.held = len(self.lease)

    def last(self):
        return [str(x) for x in self.receiving().last]

    def drain(self):
        streams, newest, count, again = {}, {}, 0, 0
        consumer = self.receiving()
        while True:
            try:
                data = consumer.receive(self.timeout)
                seed, seq = identify(data)
                if consumer.last[1] == 1:
                    if seq < newest.get(seed, 0):
                        raise OutOfOrder(f"{seq} after {newest[seed] - 1}")
                    newest[seed] = seq + 1
            except millrace.EndOfStream:
                break
            except (millrace.Error, Torn, OutOfOrder) as e:
                raise Partial(count, [], e) from e
            count += 1
            again += consumer.last[1] > 1
            n, low, high, total = streams.get(seed, (0, seq, seq, 0))
            streams[seed] = n + 1, min(low, seq), max(high, seq), total + seq & MASK
        return [str(count), str(again), *(":".join(map(str, (seed, *streams[seed]))) for seed in sorted(streams))]

    # Storms.

    def pour(self, mode, sizes, seed, first, count, path):
        producer, stream, total = self.sending(), Stream(sizes, seed, first), int(count)
        with open(path, "r+b") as f:
            done = mmap.mmap(f.fileno(), 8)

        def send(i):
            producer.send(stream.message(i), self.timeout)
            return 1

        def spin(i):
            message = stream.message(i)
            while True:
                try:
                    producer.try_send(message)
                    return 1
                except millrace.Full:
                    pass

        def batch(i):
            end = i + BATCH if total == 0 else min(i + BATCH, total)
            return producer.send_batch([stream.message(k) for k in range(i, end)], self.timeout)

        def reserve(i):
            message = stream.message(i)
            with producer.reserve(len(message), self.timeout) as r:
                r.data[:] = message
            return 1

        how = {"send": send, "try": spin, "batch": batch, "reserve": reserve}.get(mode)
        if how is None:
            raise ProtocolError("pour " + mode)
        words = memoryview(done).cast("Q")

        def run():
            sent, error = 0, None
            while error is None and (total == 0 or sent < total):
                try:
                    sent += how(sent)
                    words[0] = sent
                except millrace.Error as e:
                    error = e
            return [code(error), str(sent)]

        self.then = run

    def swallow(self, mode, path):
        consumer = self.receiving()
        if mode not in ("receive", "try", "next", "batch"):
            raise ProtocolError("swallow " + mode)
        log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

        def record(data, deliveries):
            seed, seq = identify(data)
            os.write(log, struct.pack("<QQQ", seq, seed, deliveries))

        def copy():
            data = consumer.receive(self.timeout)
            record(data, consumer.last[1])
            return 1

        def spin():
            while True:
                try:
                    data = consumer.try_receive()
                    break
                except millrace.Empty:
                    pass
            record(data, consumer.last[1])
            return 1

        def lease(limit):
            batch = consumer.next_batch(limit, self.timeout)
            for i in range(len(batch)):
                record(batch[i], batch.place(i)[1])
            batch.release()
            return len(batch)

        how = {"receive": copy, "try": spin, "next": lambda: lease(1), "batch": lambda: lease(BATCH)}[mode]

        def run():
            received = 0
            while True:
                try:
                    received += how()
                except (millrace.Error, Torn) as e:
                    os.close(log)
                    return [code(e), str(received)]

        self.then = run

    def hold(self):
        def run():
            while True:
                signal.pause()

        self.then = run


NAMES = {"timeout": "set_timeout", "producer": "new_producer", "consumer": "new_consumer", "return": "give_back"}
COMMANDS = set(
    "hello timeout create openorcreate open observe remove producer consumer send trysend sendbatch trysendbatch reserve tryreserve commit discard receive "
    "tryreceive next trynext nextbatch trynextbatch release return drain pour swallow hold last recover info stats who fork close".split()
)


def say(*words) -> None:
    sys.stdout.write(" ".join(words) + "\n")
    sys.stdout.flush()


def main() -> None:
    peer = Peer()
    for line in sys.stdin:
        command, *words = line.split() or [""]
        if command == "":
            continue
        if command == "exit":
            break
        try:
            if command not in COMMANDS:
                raise ProtocolError(command)
            try:
                answer = getattr(peer, NAMES.get(command, command))(*words)
            except (TypeError, ValueError) as e:
                if isinstance(e, millrace.Error):
                    raise
                raise ProtocolError(f"{line.strip()}: {e}") from e
            say("ok", *(answer or []))
        except (millrace.Error, ProtocolError, Torn, Partial, OutOfOrder, OSError) as e:
            print("peer:", repr(e), file=sys.stderr)
            count, items = (e.count, e.items) if isinstance(e, Partial) else (0, [])
            say("err", code(e), str(count), *items)
        then, peer.then = peer.then, None
        if then is not None:
            say("end", *then())
    os._exit(0)  # without closing anything, as if it had crashed


if __name__ == "__main__":
    main()
