"""Objects in the user backend: their own ring buffers and perf event arrays, and places that are told one by one.

A script has one ring, whose records go to the session as they are.  An object names its buffers itself, as many as
it likes: what is written to them is sent with the number of the map in front.  The records of all have the form of
a ring buffer's: of perf event arrays the word that is not for readers is the processor.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from typing import TYPE_CHECKING, Any

from tracebee.engine.maps.array import ArrayMap
from tracebee.engine.maps.ring import PerfEventArrayMap, RingMap
from tracebee.errors import UsageError
from tracebee.session.user import wire
from tracebee.session.user.backend import UserBackend
from tracebee.session.user.engine import EngineBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tracebee.engine.world import World
    from tracebee.kernel.ring import Take
    from tracebee.session.user.machine import UserMachine
    from tracebee.session.user.world import TaskWorld
    from tracebee.spec.objects import Attach, ObjectSpec

_HEAD = struct.Struct("=II")

BUFFERS = ("RINGBUF", "PERF_EVENT_ARRAY")
"""The kinds of maps that programs write records to."""


class ObjectEngine(EngineBackend):
    """An object's programs and maps in the tracer process."""

    def __init__(self, spec: ObjectSpec, world: World) -> None:
        """Raises EngineFault, NotSupportedError, UsageError."""
        super().__init__(spec, world)
        self._buffers = [
            (number, self.machine.maps[one.name])
            for number, one in enumerate(spec.maps)
            if one.type in BUFFERS
        ]
        self._lost: dict[int, int] = {}

    @property
    def hurries(self) -> bool:
        """Whether machine code knows all the buffers."""
        return all(table is self.machine.ring for _, table in self._buffers)

    def drain(self, take: Take) -> int:
        """There is no script that would have a ring of its own."""
        return 0

    def streams(self) -> Iterator[tuple[int, bytes]]:
        """The number of a map and what its buffer has got since the last call."""
        for number, table in self._buffers:
            if isinstance(table, PerfEventArrayMap):
                data = b"".join([_record(sample.cpu, sample.data) for sample in table.take()])
            else:
                assert isinstance(table, RingMap)
                found: list[bytes] = []

                def take(
                    data: memoryview,
                    words: memoryview,
                    start: int,
                    end: int,
                    limit: int,
                    found: list[bytes] = found,
                ) -> int:
                    found.append(bytes(data[start:end]))
                    return end

                table.drain(take)
                data = b"".join(found)
            if data:
                yield number, data

    def losses(self) -> Iterator[tuple[int, int]]:
        """The number of a map and how many records did not fit since the last call."""
        for number, table in self._buffers:
            if isinstance(table, PerfEventArrayMap):
                count = table.lost - self._lost.get(number, 0)
                self._lost[number] = table.lost
                if count:
                    yield number, count

    def fill(self, name: str, offset: int, data: bytes) -> None:
        """Change a section of variables, also where it is for reading only: before anything runs."""
        table = self.machine.maps[name]
        assert isinstance(table, ArrayMap)
        for values in table.values:
            values[bytes(4)][offset : offset + len(data)] = data


def _record(cpu: int, data: bytes) -> bytes:
    return _HEAD.pack(len(data), cpu) + data + bytes(-len(data) % 8)


class ObjectBackend(UserBackend):
    """The session's side for an object."""

    def __init__(self, spec: ObjectSpec, machine: UserMachine, *, pid: int = 0) -> None:
        """Raises EngineFault, NotSupportedError, UsageError."""
        self._streams: dict[int, deque[bytes]] = {}
        self._losses: dict[int, int] = {}
        self._keys = 0
        for number, one in enumerate(spec.maps):
            if one.type in BUFFERS:
                self._streams[number] = deque()
        super().__init__(spec, machine, pid=pid)
        self._numbers = {one.name: number for number, one in enumerate(spec.maps)}
        for one in spec.maps:
            if one.type in BUFFERS:
                self.maps.pop(one.name, None)

    def _engine(self, ring_pages: int) -> Callable[[TaskWorld], EngineBackend]:
        return lambda world: ObjectEngine(self.spec, world)

    def _file(self, kind: int, body: bytes) -> None:
        if kind == wire.STREAM:
            self._streams[int.from_bytes(body[:4], "little")].append(body[4:])
        elif kind == wire.LOST:
            number, count = wire.value_of(body)
            self._losses[number] = self._losses.get(number, 0) + count
        else:
            super()._file(kind, body)

    # --- what scripts do not need

    def fill(self, name: str, offset: int, data: bytes) -> None:
        """See `ObjectEngine.fill`."""
        self._ask("fill", name, offset, data)

    def place(self, program: str, place: Attach, cookie: int = 0) -> int:
        """Attach a program to a place; a number for `displace`.  Raises AttachError."""
        self._keys += 1
        names: tuple[str, ...] = type(place).__match_args__
        fields = tuple(getattr(place, name) for name in names)
        self._ask("place", self._keys, program, type(place).__name__, fields, cookie)
        return self._keys

    def displace(self, key: int) -> None:
        """Take a program off its place."""
        self._ask("displace", key)

    def settle(self) -> None:
        """Return when everything is here that programs have written before."""
        self._ask("settle")

    def test_run(self, program: str, context: bytes) -> tuple[int, bytes]:
        """Run a program once, as the session's process; what it returns, and the context as it leaves it."""
        result, after = self._ask("test_run", program, context)
        return result, after

    def stream(self, name: str) -> UserStream:
        """What programs write to a buffer.  Raises UsageError for what is none."""
        number = self._numbers.get(name, -1)
        if number not in self._streams:
            raise UsageError(f"map {name} is no ring buffer and no perf event array")
        return UserStream(self, number)

    def take_stream(self, number: int) -> tuple[list[bytes], int]:
        """Runs of records of a buffer, and how many were lost.  Raises what has ended the tracer process."""
        self.drain(lambda data, words, first, last, limit: last)
        queue = self._streams[number]
        found = list(queue)
        queue.clear()
        return found, self._losses.pop(number, 0)


class UserStream:
    """A buffer of the tracer process, to be read from here."""

    def __init__(self, backend: ObjectBackend, number: int) -> None:
        self._backend = backend
        self._number = number
        # An event loop takes each descriptor once, and there may be several streams.
        self.fds: tuple[int, ...] = (os.dup(backend.event_fd()),)

    def read(self) -> tuple[list[bytes], int]:
        """The records that are there, and how many were lost since the last call."""
        runs, lost = self._backend.take_stream(self._number)
        return [record for run in runs for record in split(run)], lost

    def settle(self) -> None:
        """Wait until the tracer process has sent what it has."""
        self._backend.settle()

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.fds = ()


def split(run: bytes) -> list[bytes]:
    """The data of records as they lie in a ring buffer, without those that were discarded."""
    from tracebee.kernel.ring import DISCARDED, HEADER

    found = []
    at = 0
    while at < len(run):
        length, _ = _HEAD.unpack_from(run, at)
        if not length & DISCARDED:
            found.append(run[at + HEADER : at + HEADER + length])
        at += ((length & ~DISCARDED) + HEADER + 7) & ~7
    return found


def place_of(kind: str, fields: tuple[Any, ...]) -> Attach:
    """A place that `ObjectBackend.place` has taken apart."""
    from tracebee.spec import objects

    made: Attach = getattr(objects, kind)(*fields)
    return made
