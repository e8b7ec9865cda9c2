"""The reader of a ring buffer, over memory that only looks like the kernel's."""

from __future__ import annotations

import errno
import mmap
import os
import struct
from typing import Any

import pytest

from tracebee.errors import FormatError, SyscallError
from tracebee.kernel.ring import BUSY, DISCARDED, HEADER, Ring, beyond_the_end, default_bytes, valid_bytes
from tracebee.session.decode import Decoder
from tracebee.session.drain import Drain, Reader
from tracebee.session.names import Names
from tracebee.spec.events import Event, Layout, PrintValue, Slot
from tracebee.spec.objects import Schema
from tracebee.spec.types import UINT32, Str
from tracebee.syscalls import bpf

PAGE = mmap.PAGESIZE
REAL_MMAP = mmap.mmap


class Kernel:
    """The writers' side: positions that only grow, and the data twice in a row."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.consumer = REAL_MMAP(-1, PAGE)
        self.producer: mmap.mmap | None = None
        self.asked: list[tuple[int, int, int]] = []

    def mmap(self, fd: int, length: int, flags: int, protection: int, offset: int = 0) -> mmap.mmap:
        self.asked.append((length, protection, offset))
        if offset == 0:
            return self.consumer
        self.producer = REAL_MMAP(-1, length)
        return self.producer

    @property
    def read_to(self) -> int:
        (position,) = struct.unpack_from("=Q", self.consumer)
        return int(position)

    @property
    def written_to(self) -> int:
        assert self.producer is not None
        (position,) = struct.unpack_from("=Q", self.producer)
        return int(position)

    def start_at(self, position: int) -> None:
        """As after long use."""
        assert self.producer is not None
        struct.pack_into("=Q", self.consumer, 0, position)
        struct.pack_into("=Q", self.producer, 0, position)

    def put(self, at: int, data: bytes) -> None:
        """Bytes at a position; those of the first part of the ring are seen behind its end too."""
        assert self.producer is not None
        for index, byte in enumerate(data):
            place = (at + index) % self.size
            self.producer[PAGE + place] = byte
            if place + self.size < len(self.producer) - PAGE:
                self.producer[PAGE + self.size + place] = byte

    def write(self, payload: bytes, flags: int = 0) -> int:
        """A record; its position.  There must be room for it."""
        assert self.producer is not None
        at = self.written_to
        record = struct.pack("=II", len(payload) | flags, 0xBEEF) + payload
        record = record.ljust((len(record) + 7) // 8 * 8, b"\xdd")
        assert at + len(record) - self.read_to <= self.size
        self.put(at, record)
        struct.pack_into("=Q", self.producer, 0, at + len(record))
        return at

    def set_flags(self, at: int, length: int, flags: int) -> None:
        self.put(at, struct.pack("=I", length | flags))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes a ring, and the kernel behind it."""
    rings = []

    def make(size: int, largest: int | None = None) -> tuple[Ring, Kernel]:
        kernel = Kernel(size)
        monkeypatch.setattr(bpf, "map_create", lambda *args, **kwargs: os.open(os.devnull, os.O_RDONLY))
        monkeypatch.setattr(mmap, "mmap", kernel.mmap)
        ring = Ring(size, "events", largest)
        rings.append(ring)
        return ring, kernel

    yield make
    for ring in rings:
        ring.close()


TEXT = Layout((Slot(UINT32, 4), Slot(Str(4096), 8, dynamic=True)), 12)
FIXED = Layout((Slot(UINT32, 4),), 8)


def reading() -> tuple[Drain, list[Any]]:
    seen: list[Any] = []
    decoder = Decoder(Names(Schema(), lambda stack_id: None))
    readers = [
        Reader(Event(number, PrintValue(), layout), decoder) for number, layout in enumerate((FIXED, TEXT))
    ]
    for reader in readers:
        reader.handle = seen.append
    readers[0].lines = seen.extend
    return Drain(readers), seen


def fixed(value: int) -> bytes:
    return struct.pack("=II", 0, value)


def text(value: int, data: bytes) -> bytes:
    return struct.pack("=III", 1, value, len(data)) + data


def test_nothing_written(made: Any) -> None:
    ring, kernel = made(PAGE)
    drain, seen = reading()
    assert ring.is_empty
    assert ring.drain(drain.take) == 0
    assert (seen, kernel.read_to) == ([], 0)


def test_the_reader_tells_how_far_it_is(made: Any) -> None:
    ring, kernel = made(PAGE)
    drain, seen = reading()
    kernel.write(fixed(1))
    kernel.write(text(2, b"abc"))
    assert not ring.is_empty
    assert ring.drain(drain.take) == kernel.written_to == kernel.read_to == 16 + 24
    assert seen == [(1,), (2, "abc")]
    assert ring.is_empty


@pytest.mark.parametrize("largest", [None, 600])
@pytest.mark.parametrize("start", [0, 2**40, 2**63])
def test_many_times_around(made: Any, start: int, largest: int | None) -> None:
    """Records of odd lengths cross the end at every place; each is read once and whole."""
    ring, kernel = made(PAGE, largest)
    kernel.start_at(start)
    drain, seen = reading()
    wanted = []
    for number in range(400):
        data = bytes([97 + number % 26]) * (number * 37 % 530)
        kernel.write(text(number, data))
        wanted.append((number, data.decode()))
        if number % 3 == 0:
            kernel.write(b"given up", DISCARDED)
        if number % 4 == 3:
            ring.drain(drain.take)
            assert kernel.read_to == kernel.written_to
    assert kernel.written_to - start > 20 * PAGE
    assert seen == wanted


def test_a_run_through_the_end(made: Any) -> None:
    ring, kernel = made(PAGE)
    drain, seen = reading()
    number = 0
    for count in (200, 200, 256, 3, 250):
        for _ in range(count):
            kernel.write(fixed(number))
            number += 1
        assert ring.drain(drain.take) == 16 * count
    assert seen == [(value,) for value in range(number)]


@pytest.mark.parametrize("place", [0, 1, 7, 20])
def test_a_busy_record_is_waited_for(made: Any, place: int) -> None:
    ring, kernel = made(PAGE)
    kernel.start_at(PAGE - 16 * 10)
    drain, seen = reading()
    positions = [kernel.write(fixed(number), BUSY if number == place else 0) for number in range(21)]
    assert ring.drain(drain.take) == 16 * place
    assert seen == [(number,) for number in range(place)]
    assert kernel.read_to == positions[place]
    # It is still busy: nothing is taken, and nothing twice.
    assert ring.drain(drain.take) == 0
    kernel.set_flags(positions[place], 8, 0)
    assert ring.drain(drain.take) == 16 * (21 - place)
    assert seen == [(number,) for number in range(21)]


def test_a_busy_record_may_be_given_up(made: Any) -> None:
    ring, kernel = made(PAGE)
    drain, seen = reading()
    at = kernel.write(fixed(1), BUSY)
    kernel.write(fixed(2))
    assert ring.drain(drain.take) == 0
    kernel.set_flags(at, 8, DISCARDED)
    assert ring.drain(drain.take) == 32
    assert seen == [(2,)]


def test_what_comes_while_it_reads_is_read_too(made: Any) -> None:
    ring, kernel = made(PAGE)
    drain, seen = reading()
    kernel.write(fixed(0))

    def handle(values: tuple[int, ...]) -> None:
        seen.append(values)
        if values[0] < 5:
            kernel.write(fixed(values[0] + 1))

    drain.readers[0].handle = handle
    ring.drain(drain.take)
    assert seen == [(number,) for number in range(6)]
    assert ring.is_empty


def test_a_record_that_is_longer_than_what_was_written(made: Any) -> None:
    ring, kernel = made(PAGE)
    drain, _ = reading()
    at = kernel.write(fixed(1))
    kernel.set_flags(at, 4000, 0)
    with pytest.raises(FormatError, match="does not fit"):
        ring.drain(drain.take)


# ---------------------------------------------------------------------- making one


def test_what_is_mapped(made: Any) -> None:
    """Only the reader's page can be written."""
    _, kernel = made(4 * PAGE, 100)
    assert kernel.asked == [
        (PAGE, mmap.PROT_READ | mmap.PROT_WRITE, 0),
        (PAGE + 4 * PAGE + PAGE, mmap.PROT_READ, PAGE),
    ]


@pytest.mark.parametrize(
    ("size", "largest", "beyond"),
    [
        (4 * PAGE, 0, 0),
        (4 * PAGE, 1, PAGE),
        (4 * PAGE, PAGE, PAGE),
        (4 * PAGE, PAGE + 1, 2 * PAGE),
        (4 * PAGE, 1 << 40, 4 * PAGE),
    ],
)
def test_beyond_the_end(size: int, largest: int, beyond: int) -> None:
    assert beyond_the_end(size, largest) == beyond


@pytest.mark.parametrize(("wanted", "size"), [(0, PAGE), (1, PAGE), (PAGE, PAGE), (PAGE + 1, 2 * PAGE)])
def test_valid_sizes(wanted: int, size: int) -> None:
    assert valid_bytes(wanted) == size


@pytest.mark.parametrize(
    ("gigabytes", "size"), [(0.1, 256 << 10), (1, 1 << 20), (3, 2 << 20), (16, 16 << 20), (1000, 16 << 20)]
)
def test_size_by_memory(monkeypatch: pytest.MonkeyPatch, gigabytes: float, size: int) -> None:
    pages = int(gigabytes * 2**30) // 4096
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": pages}.__getitem__)
    assert default_bytes() == size


def test_a_ring_that_cannot_be_mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def create(*args: object, **kwargs: object) -> int:
        opened.append(os.open(os.devnull, os.O_RDONLY))
        return opened[-1]

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOMEM, "no")

    monkeypatch.setattr(bpf, "map_create", create)
    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(SyscallError) as caught:
        Ring(PAGE)
    assert caught.value.errno == errno.ENOMEM
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(opened[0])


def test_closing_twice(made: Any) -> None:
    ring, _ = made(PAGE)
    with ring:
        assert ring.fd >= 0
    assert ring.fd == -1
    ring.close()


def test_the_header_is_that_of_the_kernel() -> None:
    """include/uapi/linux/bpf.h: BPF_RINGBUF_BUSY_BIT, _DISCARD_BIT, _HDR_SZ."""
    assert (BUSY, DISCARDED, HEADER) == (1 << 31, 1 << 30, 8)
