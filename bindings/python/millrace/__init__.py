"""millrace: a lock-free ring-buffer queue over shared memory for unrelated processes on one Linux machine.

    import millrace

    with millrace.create("q") as ring, ring.producer() as p:
        p.send(b"hello")

    with millrace.open("q").consumer() as c:
        for msg in c:
            print(msg)

A producer or a consumer is used by one thread at a time. Every wait takes a time-out in seconds (None: for ever), lets other threads run, and ends with
Ctrl-C. A forked child inherits no role: its handles raise Closed.
"""

from ._errors import (
    ByteOrderError,
    Closed,
    Corrupt,
    Empty,
    EndOfStream,
    Error,
    Exists,
    FormatError,
    Full,
    InUse,
    InvalidOption,
    LayoutError,
    Mismatch,
    Misuse,
    NoConsumers,
    NoSpace,
    NotFound,
    NotSegment,
    PermissionDenied,
    RoleTaken,
    SegmentLost,
    ShortBuffer,
    SizeError,
    Stalled,
    SystemFailure,
    Timeout,
    TooManyParticipants,
    Unsupported,
    VersionError,
)
from ._millrace import Consumer, Lease, Producer, Ring, create, open, open_fd, open_or_create, remove

__version__ = "0.1.0"

__all__ = [
    "ByteOrderError", "Closed", "Consumer", "Corrupt", "Empty", "EndOfStream", "Error", "Exists", "FormatError", "Full", "InUse", "InvalidOption",
    "LayoutError", "Lease", "Mismatch", "Misuse", "NoConsumers", "NoSpace", "NotFound", "NotSegment", "PermissionDenied", "Producer", "Ring",
    "RoleTaken", "SegmentLost", "ShortBuffer", "SizeError", "Stalled", "SystemFailure", "Timeout", "TooManyParticipants", "Unsupported",
    "VersionError", "create", "open", "open_fd", "open_or_create", "remove",
]
