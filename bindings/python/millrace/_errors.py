"""Exceptions. Each is also the builtin exception that fits, so that code that knows nothing of millrace handles it."""

from __future__ import annotations


class Error(Exception):
    """The base of all exceptions of this package."""


class Full(Error, BlockingIOError):
    """try_send and its kin: the message did not fit at some moment of the call."""


class Empty(Error, BlockingIOError):
    """try_receive and its kin: nothing was ready at some moment of the call."""


class EndOfStream(Error, EOFError):
    """There were producers, none is left, and everything has been received."""


class NoConsumers(Error, BrokenPipeError):
    """The ring is full, there were consumers, and none is left to read."""


class Timeout(Error, TimeoutError):
    """The time-out passed."""


class Stalled(Timeout):
    """The time-out passed behind a participant that is alive and does not move."""


class Closed(Error, ValueError):
    """The handle or the ring is closed, or this is a forked child, which inherits no role."""


class SegmentLost(Error, OSError):
    """The ring was removed by force, or its file was truncated."""


class Misuse(Error, RuntimeError):
    """Two threads on one handle, a second lease or reservation, or none where one is needed."""


class RoleTaken(Error, OSError):
    """An SPSC ring has a live participant in this role."""


class TooManyParticipants(Error, OSError):
    """The participant table is full."""


class Mismatch(Error, ValueError):
    """The ring exists with other options, or carries typed values."""


class FormatError(Error, ValueError):
    """The file is not a ring that this version understands, or it is damaged."""


class NotSegment(FormatError):
    """Something else lies there."""


class ByteOrderError(FormatError):
    """A ring of a machine with the other byte order."""


class VersionError(FormatError):
    """A ring of another version of the format."""


class LayoutError(FormatError):
    """A ring with another layout."""


class Corrupt(FormatError):
    """A value in the ring that the format does not allow."""


class Unsupported(Error, NotImplementedError):
    """Not with this backing, or not on this machine."""


class InUse(Error, OSError):
    """Somebody is attached, or unread messages are left."""


class Exists(Error, FileExistsError):
    """A ring of this name exists."""


class NotFound(Error, FileNotFoundError):
    """There is no ring of this name."""


class PermissionDenied(Error, PermissionError):
    """Not permitted, or opened for observing only."""


class SizeError(Error, ValueError):
    """The message is larger than max_message, or than its reservation."""


class ShortBuffer(Error, ValueError):
    """The buffer is too small for the next message, which stays."""


class InvalidOption(Error, ValueError):
    """A name or an option that is not possible."""


class NoSpace(Error, OSError):
    """There is not enough shared memory."""


class SystemFailure(Error, OSError):
    """Another error of the system."""
