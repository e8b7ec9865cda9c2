"""Messages between the session and the tracer process: frames on two pipes.

A frame is its length and kind, and a body: bytes as they are, or a plain value by `marshal`.  Both ends are the
same program, one forked from the other, so nothing here guards against a hostile peer.
"""

from __future__ import annotations

import marshal
import os
import select
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD = struct.Struct("=IB")

RECORDS = 1  # from the tracer: a run of records, as they lie in a ring buffer
REQUEST = 2  # to the tracer: (name, arguments …)
ANSWER = 3  # from the tracer: what a request gives
FAILURE = 4  # from the tracer instead of an answer: (class, arguments …) of an error
TASKS = 5  # from the tracer: (class, fields …) of what tasks have done; see tracebee.kernel.taskevents
NOTICE = 6  # from the tracer: a text for the person
FAULT = 7  # from the tracer: like FAILURE, of a program that was run for an event
STREAM = 8  # from the tracer: u32 number of a map, and records that were written to it; of objects
LOST = 9  # from the tracer: (number of a map, how many records did not fit); of objects

MOST = 1 << 16
"""Bytes that are read at once."""


class Outbox:
    """Frames on their way into a pipe, which takes as much as there is room."""

    def __init__(self, fd: int) -> None:
        """`fd` is made not to block."""
        os.set_blocking(fd, False)
        self.fd = fd
        self.is_broken = False
        self._data = bytearray()

    def __len__(self) -> int:
        """Bytes that still wait."""
        return len(self._data)

    def add(self, frame: bytes) -> None:
        self._data += frame

    def flush(self, wait: bool = False) -> None:
        """Write what the pipe takes now; with `wait` everything.  Sets `is_broken` if nobody reads it."""
        while self._data and not self.is_broken:
            try:
                written = os.write(self.fd, self._data)
            except BlockingIOError:
                if not wait:
                    return
                poll = select.poll()
                poll.register(self.fd, select.POLLOUT)
                poll.poll()
                continue
            except OSError:
                self.is_broken = True
                return
            del self._data[:written]


def pack(kind: int, value: Any) -> bytes:
    """A frame with a value of plain types."""
    body = marshal.dumps(value)
    return _HEAD.pack(len(body), kind) + body


def pack_bytes(kind: int, body: bytes | memoryview) -> bytes:
    """A frame with bytes."""
    return b"".join((_HEAD.pack(len(body), kind), body))


def value_of(body: bytes) -> Any:
    """The value of a frame that `pack` has made."""
    return marshal.loads(body)


class Inbox:
    """Takes frames out of what a pipe has brought."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._data = bytearray()
        self._ready = select.poll()
        self._ready.register(fd, select.POLLIN)

    def fill(self, wait: bool) -> bool:
        """Read what is there, or wait for something; False if there is nothing and the other end is gone."""
        before = len(self._data)
        while wait or self._ready.poll(0):
            data = os.read(self.fd, MOST)
            if not data:
                return len(self._data) > before
            self._data += data
            wait = False
        return True

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Kind and body of the frames that are complete."""
        data = self._data
        at = 0
        try:
            while len(data) - at >= _HEAD.size:
                length, kind = _HEAD.unpack_from(data, at)
                start = at + _HEAD.size
                if len(data) < start + length:
                    return
                at = start + length
                yield kind, bytes(data[start:at])
        finally:
            del data[:at]
