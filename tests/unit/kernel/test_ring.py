"""The reader's side of a ring buffer, on a file that stands for the kernel's memory."""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from tracebee.kernel import ring as ring_module
from tracebee.kernel.ring import BUSY, HEADER, Ring, beyond_the_end, valid_bytes
from tracebee.session.decode import Decoder
from tracebee.session.drain import Drain, Reader
from tracebee.session.names import Names
from tracebee.spec.events import Event, Layout, PrintValue, Slot
from tracebee.spec.objects import Schema
from tracebee.spec.types import INT64, Str

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = mmap.PAGESIZE
SIZE = 2 * PAGE
NUMBER = Layout((Slot(INT64, 8),), 16)
TEXT = Layout((Slot(Str(3000), 4, dynamic=True),), 8)


class FakeRing(Ring):
    """A ring that is written here.  What lies behind the mapped bytes must not be needed."""

    def __init__(self, largest: int) -> None:
        super().__init__(SIZE, largest=largest)
        self._file = mmap.mmap(self.fd, 2 * PAGE + 2 * SIZE)
        self.head = 0

    def close(self) -> None:
        if self.fd >= 0:
            self._file.close()
        super().close()

    def write(self, payload: bytes, flags: int = 0) -> int:
        """Write a record as the kernel does, in both copies of the data; its position."""
        framed = struct.pack("=II", len(payload) | flags, 0) + payload
        framed = framed.ljust((len(framed) + 7) // 8 * 8, b"\xee")
        assert self.head + len(framed) - self._consumer[0] <= SIZE, "full"
        place = self.head
        for offset, byte in enumerate(framed):
            at = (place + offset) % SIZE
            self._file[2 * PAGE + at] = self._file[2 * PAGE + SIZE + at] = byte
        self.head += len(framed)
        self._file[PAGE : PAGE + 8] = self.head.to_bytes(8, "little")
        return place

    def finish(self, place: int) -> None:
        """Take the BUSY flag of a record away."""
        for copy in (0, SIZE):
            at = 2 * PAGE + copy + place % SIZE + 3
            self._file[at] &= ~(BUSY >> 24) & 0xFF

    def start_at(self, position: int) -> None:
        """As if so many bytes had been written and read."""
        self.head = self._consumer[0] = position
        self._file[PAGE : PAGE + 8] = position.to_bytes(8, "little")


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that makes rings."""

    def create(*args: Any, **kwargs: Any) -> int:
        fd, name = tempfile.mkstemp()
        os.unlink(name)
        os.truncate(fd, 2 * PAGE + 2 * SIZE)
        return fd

    monkeypatch.setattr(ring_module.bpf, "map_create", create)
    made: list[FakeRing] = []

    def build(largest: int) -> FakeRing:
        made.append(FakeRing(largest))
        return made[-1]

    yield build
    for ring in made:
        ring.close()


def drain_of(layout: Layout, runs: bool = False) -> tuple[Drain, list[Any]]:
    """A drain over one event, and the list where its first values go."""
    reader = Reader(Event(0, PrintValue(), layout), Decoder(Names(Schema(), lambda stack_id: None), ".."))
    seen: list[Any] = []
    reader.handle = lambda values: seen.append(values[0])
    if runs:
        reader.lines = lambda rows: seen.extend(row[0] for row in rows)
    return Drain([reader]), seen


def number(value: int) -> bytes:
    return struct.pack("=I4xq", 0, value)


def text(value: str) -> bytes:
    return struct.pack("=II", 0, len(value)) + value.encode()


@pytest.mark.parametrize(("wanted", "size"), [(1, PAGE), (PAGE, PAGE), (PAGE + 1, 2 * PAGE)])
def test_sizes_are_powers_of_two(wanted: int, size: int) -> None:
    assert valid_bytes(wanted) == size


@pytest.mark.parametrize(
    ("largest", "pages"), [(0, 0), (1, 1), (PAGE, 1), (PAGE + 1, 2), (SIZE, 2), (SIZE + 1, 2), (1 << 40, 2)]
)
def test_what_is_mapped_behind_the_end(largest: int, pages: int) -> None:
    assert beyond_the_end(SIZE, largest) == pages * PAGE


def test_only_what_a_record_can_need_is_mapped_twice(make: Any) -> None:
    assert len(make(NUMBER.largest).data) == SIZE + PAGE
    assert len(make(1 << 30).data) == 2 * SIZE


@pytest.mark.parametrize("runs", [False, True])
@pytest.mark.parametrize("first", range(0, 64, 8))
def test_nothing_is_lost_where_the_ring_ends(make: Any, first: int, runs: bool) -> None:
    ring = make(NUMBER.largest)
    ring.start_at(first)
    drain, seen = drain_of(NUMBER, runs)
    count = 0
    for batch in (1, 9, 200, SIZE // 24, 3, SIZE // 24, 7, 250, SIZE // 24):
        for _ in range(batch):
            ring.write(number(count))
            count += 1
        assert ring.drain(drain.take) == 24 * batch
        assert ring.is_empty
    assert seen == list(range(count))


@pytest.mark.parametrize("inside", [HEADER, HEADER + 8, HEADER + 16, 1008, 3000])
def test_a_record_over_the_end_is_whole(make: Any, inside: int) -> None:
    """`inside` bytes of the record lie in front of the end."""
    ring = make(TEXT.largest)
    drain, seen = drain_of(TEXT)
    texts = ["x" * 5, "abcdefgh" * 375, "y" * 30]
    ring.start_at(3 * SIZE - inside - 24)
    for value in texts:
        ring.write(text(value))
    assert ring.drain(drain.take) == ring.head - (3 * SIZE - inside - 24)
    assert seen == ["x" * 5, "abcdefgh" * 375 + "..", "y" * 30]


def test_a_busy_record_over_the_end_is_waited_for(make: Any) -> None:
    ring = make(NUMBER.largest)
    drain, seen = drain_of(NUMBER)
    ring.start_at(SIZE - 32)
    ring.write(number(1))
    place = ring.write(number(2), BUSY)
    ring.write(number(3))
    assert ring.drain(drain.take) == 24
    assert ring.drain(drain.take) == 0
    assert seen == [1]
    ring.finish(place)
    assert ring.drain(drain.take) == 48
    assert seen == [1, 2, 3]


def test_what_comes_behind_exit_is_skipped_over_the_end(make: Any) -> None:
    ring = make(NUMBER.largest)
    drain, seen = drain_of(NUMBER)
    ring.start_at(SIZE - 40)
    for value in range(5):
        ring.write(number(value))

    def stop(values: tuple[Any, ...]) -> None:
        seen.append(values[0])
        drain.stopped = True

    drain.readers[0].handle = stop
    assert ring.drain(drain.take) == 5 * 24
    assert ring.is_empty
    assert seen == [0]
