"""Records to values: one by one, or many at once where equal records follow each other."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from tracebee.errors import FormatError
from tracebee.kernel.ring import BUSY, DISCARDED, HEADER
from tracebee.session.decode import empty_value
from tracebee.spec.types import Buffer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tracebee.session.decode import Decoder
    from tracebee.spec.events import Event
    from tracebee.spec.types import Type

SHORTEST_RUN = 8
"""Fewer equal records than this are not worth the set-up of a run."""


class Reader:
    """Decodes the records of one event, and hands the values to `handle`.

    `lines`, if set, takes the values of many records at once: an iterable of tuples.
    """

    def __init__(self, event: Event, decoder: Decoder) -> None:
        self.event = event
        self.handle: Callable[[tuple[Any, ...]], object] = lambda values: None
        self.lines: Callable[[Iterable[tuple[Any, ...]]], object] | None = None
        code = "=4x"
        at = 4
        self.converts: list[Callable[[Any], Any] | None] = []
        self.dynamic: list[int] = []
        for slot in event.layout.slots:
            code += f"{slot.offset - at}x" if slot.offset > at else ""
            if slot.dynamic:
                item, convert = "I", None
                self.dynamic.append(len(self.converts))
                size = 4
            else:
                item, convert = decoder.item(slot.type)
                size = slot.type.size
            code += item if size else ""
            if size == 0:
                convert = None
            self.converts.append(convert)
            at = slot.offset + size
        self.slots = list(event.layout.slots)
        self.code = code
        self.shape = struct.Struct(code)
        self.decoder = decoder
        self.size = event.layout.size
        self.stride = (self.size + HEADER + 7) & ~7
        self.plain = not any(self.converts) and not self.dynamic
        self.empty = [
            index for index, slot in enumerate(self.slots) if not slot.dynamic and slot.type.size == 0
        ]

    def read(self, data: memoryview, at: int, length: int) -> tuple[Any, ...]:
        """The values of the record of `length` bytes at `at` (behind its header).

        Raises FormatError if the record is shorter than its event's, or its strings do not fit it.
        """
        if length < self.size:
            raise FormatError(f"record of event {self.event.id} is too short", at)
        items = self.shape.unpack_from(data, at)
        if self.plain and not self.empty:
            return items
        return self._converted(data, at, length, list(items))

    def _converted(self, data: memoryview, at: int, length: int, items: list[Any]) -> tuple[Any, ...]:
        for index in self.empty:
            items.insert(index, empty_value(self.slots[index].type))
        tail = at + self.size
        end = at + length
        for index in self.dynamic:
            size = items[index]
            if tail + size > end:
                raise FormatError(f"string in a record of event {self.event.id} is too long", tail)
            items[index] = self._dynamic(self.slots[index].type, bytes(data[tail : tail + size]))
            tail += size
        for index, convert in enumerate(self.converts):
            if convert is not None:
                items[index] = convert(items[index])
        return tuple(items)

    def _dynamic(self, type_: Type, data: bytes) -> Any:
        if isinstance(type_, Buffer):
            return data
        text = data.decode("utf-8", "surrogateescape")
        return text + self.decoder.trailer if len(data) >= type_.size else text

    def run(self, data: memoryview, start: int, count: int) -> Any:
        """The values of `count` equal records, whose headers start `stride` bytes apart at `start`."""
        code = "=8x" + self.code[1:]
        padding = self.stride - struct.calcsize(code)
        shape = struct.Struct(code + (f"{padding}x" if padding else ""))
        rows = shape.iter_unpack(data[start : start + count * self.stride])
        if self.plain:
            return rows
        columns: list[Any] = list(zip(*rows, strict=True))
        for index, convert in enumerate(self.converts):
            if convert is not None:
                columns[index] = map(convert, columns[index])
        return zip(*columns, strict=True)

    @property
    def can_run(self) -> bool:
        return self.lines is not None and not self.dynamic and not self.empty


class Drain:
    """Takes records out of a ring buffer and dispatches them by their event."""

    def __init__(self, readers: Sequence[Reader]) -> None:
        self.readers = readers
        self.stopped = False
        self.goes_on = False

    def take(
        self, data: memoryview, words: memoryview, start: int, end: int, limit: int | None = None
    ) -> int:
        """Handle the records that start between two byte positions; where it stopped.

        The last one may end behind `end` if it is given a `limit` for that.  After `stopped` was set, what
        follows is thrown away.  Raises FormatError if the bytes are no records.
        """
        readers = self.readers
        if limit is None:
            limit = end
        at = start
        if self.stopped and not self.goes_on:
            return self._skip(words, at, end, limit)
        while at < end:
            length = words[at >> 2]
            if length & BUSY:
                return at
            if length & DISCARDED:
                at += ((length & ~DISCARDED) + HEADER + 7) & ~7
                if at > limit:
                    raise FormatError("discarded record does not fit", at)
                continue
            if length < 4 or at + HEADER + length > limit:
                raise FormatError(f"record of {length} bytes does not fit", at)
            number = words[(at >> 2) + 2]
            if number >= len(readers):
                raise FormatError(f"record of unknown event {number}", at)
            reader = readers[number]
            if (
                reader.lines is not None
                and end - at >= SHORTEST_RUN * reader.stride
                and length == reader.size
                and reader.can_run
            ):
                count = equal_records(words, at, (end - at) // reader.stride, reader.stride, length, number)
                if count >= SHORTEST_RUN:
                    reader.lines(reader.run(data, at, count))
                    at += count * reader.stride
                    continue
            reader.handle(reader.read(data, at + HEADER, length))
            if self.stopped and not self.goes_on:
                return self._skip(words, at, end, limit)
            at += (length + HEADER + 7) & ~7
        return at

    def _skip(self, words: memoryview, at: int, end: int, limit: int) -> int:
        while at < end:
            length = words[at >> 2]
            if length & BUSY:
                return at
            at += ((length & ~DISCARDED) + HEADER + 7) & ~7
        return min(at, limit)


def equal_records(words: memoryview, start: int, most: int, stride: int, length: int, number: int) -> int:
    """How many records from `start` on have this length and event, at most `most`.

    A busy or discarded record has a flag in its length, so it ends the run.
    """
    step = stride >> 2
    first = start >> 2
    wanted_length = length.to_bytes(4, "little")
    wanted_number = number.to_bytes(4, "little")
    count = 0
    chunk = 64
    while count < most:
        chunk = min(chunk, most - count)
        at = first + count * step
        end = at + chunk * step
        lengths = words[at:end:step].tobytes()
        numbers = words[at + 2 : end : step].tobytes()
        if lengths == wanted_length * chunk and numbers == wanted_number * chunk:
            count += chunk
            chunk *= 4
            continue
        for index in range(chunk):
            place = slice(4 * index, 4 * index + 4)
            if lengths[place] != wanted_length or numbers[place] != wanted_number:
                return count + index
        return count + chunk
    return count
