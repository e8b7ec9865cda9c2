"""Ring buffers and perf event arrays of an object, as streams of typed values."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from tracebee.btf.types import Composite, Enumeration, Int, Struct, Typedef, Union
from tracebee.btf.values import value_codec
from tracebee.errors import UsageError
from tracebee.records import Frozen
from tracebee.session.waiting import SLICE, Poller

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tracebee.btf.reader import Btf
    from tracebee.btf.values import ValueCodec
    from tracebee.session.objects.sides import Source
    from tracebee.spec.objects import MapSpec

USUAL = ("event", "event_t", "data_t", "data")
"""What the structure of events is called where it is not called like its map."""


class Lost(Frozen):
    """In a stream of events: `count` that did not fit the buffer, before those that follow."""

    count: int


class EventStream:
    """The events of one buffer, as they come.  Iterate over it, ``async for`` too; close it, or use it in ``with``.

    A record of a structure is a tuple whose elements have the names of its members: ``event.pid``.  What the
    program has cut short is filled up with zeros.  Without a type records are bytes.  Where events did not fit the
    buffer there is a `Lost` among them; `lost` counts them all.

    The stream ends when the object's command or process has ended, when it or the object is closed, and after
    `timeout` seconds, counted from where the iteration begins.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        codec: ValueCodec | None,
        type_name: str,
        timeout: float | None,
        end_fd: int,
        has_ended: Callable[[], bool],
    ) -> None:
        self.name = name
        self.codec = codec
        self.type = type_name
        self.timeout = timeout
        self.lost = 0
        self._source = source
        self._queue: deque[Any] = deque()
        self._has_ended = has_ended
        self._is_closed = False
        self._poller = Poller((*source.fds, end_fd))

    def __repr__(self) -> str:
        return f"<events of {self.name}: {self.type or 'bytes'}>"

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the buffer.  Safe to call twice."""
        if not self._is_closed:
            self._is_closed = True
            self._poller.close()
            self._source.close()

    def fileno(self) -> int:
        """A descriptor that becomes readable when there may be something: for select(2) and event loops."""
        return self._poller.fileno()

    # --- reading

    def _fill(self, settle: bool = False) -> None:
        """Take in what is there; with `settle` all that was written before now."""
        if self._is_closed:
            return
        if settle:
            self._source.settle()
        records, lost = self._source.read()
        if lost:
            self.lost += lost
            self._queue.append(Lost(lost))
        codec = self.codec
        if codec is None:
            self._queue.extend(records)
            return
        decode, size = codec.decode, codec.size
        for record in records:
            self._queue.append(decode(record if len(record) >= size else record.ljust(size, b"\0")))

    def settle(self) -> None:
        """Take in all that programs have written before now; `poll` gives it."""
        self._fill(True)

    def poll(self, timeout: float = 0.0) -> list[Any]:
        """What has come since the last call; waits at most `timeout` seconds for the first event."""
        end = time.monotonic() + timeout
        while not self._is_closed:
            ended = self._has_ended()
            self._fill(ended)
            if ended or self._queue or end <= time.monotonic():
                break
            self._poller.wait(max(0.0, min(end - time.monotonic(), SLICE)))
        found = list(self._queue)
        self._queue.clear()
        return found

    def _left(self, end: float | None) -> float:
        return SLICE if end is None else min(SLICE, end - time.monotonic())

    def _ends(self) -> float | None:
        return None if self.timeout is None else time.monotonic() + self.timeout

    def __iter__(self) -> Iterator[Any]:
        end = self._ends()
        while True:
            # Asked before the buffer is read: what was written before the end is in it.
            over = self._is_closed or self._has_ended() or self._left(end) <= 0
            self._fill(over)
            while self._queue:
                yield self._queue.popleft()
            if over or self._is_closed:
                return
            self._poller.wait(max(self._left(end), 0.0))

    async def __aiter__(self) -> AsyncIterator[Any]:
        end = self._ends()
        while True:
            over = self._is_closed or self._has_ended() or self._left(end) <= 0
            self._fill(over)
            while self._queue:
                yield self._queue.popleft()
            if over or self._is_closed:
                return
            await self._poller.wait_async(self._left(end))

    def to_arrow(self) -> Any:
        """All events until the stream ends, as a pyarrow.Table: a column for each member.

        The table's metadata has under ``lost`` how many events were.  Raises NotSupportedError without pyarrow.
        """
        from tracebee.btf.values import RecordCodec
        from tracebee.session.objects.columns import arrow, table_of

        arrow()
        events = [event for event in self if not isinstance(event, Lost)]
        codec = self.codec
        if isinstance(codec, RecordCodec):
            columns = zip(*events, strict=True) if events else [()] * len(codec.places)
            found = table_of(
                [
                    (place.name, place.codec, 0, column)
                    for place, column in zip(codec.places, columns, strict=True)
                ]
            )
        elif codec is not None:
            found = table_of([("value", codec, 0, events)])
        else:
            found = arrow().table({"value": arrow().array(events, arrow().binary())})
        told = {"map": self.name, "type": self.type, "lost": str(self.lost)}
        return found.replace_schema_metadata(told)


def find_type(btf: Btf | None, name: str) -> tuple[int, str]:
    """The id and the C name of a type: ``event``, ``struct event``, ``u64``.

    Raises UsageError with the nearest names.
    """
    if btf is None:
        raise UsageError(f"the object has no types, and so no {name!r}", "compile it with -g")
    word, _, rest = name.partition(" ")
    kinds: tuple[type[Any], ...] = (Struct, Union, Typedef, Enumeration, Int)
    wanted = name
    if rest and word in ("struct", "union", "enum"):
        wanted = rest.strip()
        kinds = {"struct": (Struct,), "union": (Union,), "enum": (Enumeration,)}[word]
    for kind in kinds:
        found = btf.find(wanted, kind)
        if found is not None and btf.size_of(found):
            return found, name
    raise UsageError(f"the object has no type {name!r}", _near_type(btf, wanted))


def _near_type(btf: Btf, name: str) -> str:
    from tracebee.language.diagnostics import nearest

    known = [text for _, text in btf.names_of_kind((Struct, Union, Typedef, Enumeration)) if text]
    found = nearest(name, known)
    if found:
        return found
    candidates = candidate_types(btf)
    if candidates:
        return f"it has {', '.join(candidates)}"
    return "clang keeps only types that functions, maps or global variables name: const struct event *unused;"


def candidate_types(btf: Btf | None) -> list[str]:
    """The structures of an object that may be those of its events: those with names that are its own."""
    if btf is None:
        return []
    found = []
    for type_id, name in btf.names_of_kind(Struct):
        made = btf.type(type_id)
        if name and isinstance(made, Composite) and made.size and "___" not in name:
            found.append(name)
    return found[:12]


def evident_type(btf: Btf | None, spec: MapSpec) -> str:
    """The type of the events in a buffer where its definition or its name tells; else empty."""
    if btf is None:
        return ""
    if spec.value_type and btf.size_of(spec.value_type) > 4:
        from tracebee.btf.format import declaration

        return declaration(btf, spec.value_type)
    name = spec.name
    for one in (name, name.removesuffix("s"), f"{name.removesuffix('s')}_t", *USUAL):
        if btf.find(one, Struct) is not None:
            return f"struct {one}"
        if btf.find(one, Typedef) is not None:
            return one
    return ""


def event_codec(btf: Btf | None, type_name: str) -> ValueCodec:
    """How records of a type are read.  Raises UsageError for a type that is not there."""
    type_id, _ = find_type(btf, type_name)
    assert btf is not None
    return value_codec(btf, type_id, btf.size_of(type_id), hashable=True)
