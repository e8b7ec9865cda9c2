"""Side-band records of perf, over memory that only looks like the kernel's."""

from __future__ import annotations

import mmap
import os
import struct

import pytest

from tracebee.errors import SyscallError
from tracebee.kernel import taskevents
from tracebee.kernel.taskevents import Executed, Forked, Mapped, TaskEvents

PAGE = mmap.PAGESIZE
DATA = taskevents._DATA_BYTES
REAL_MMAP = mmap.mmap


def record(kind: int, body: bytes, time: int, misc: int = 0) -> bytes:
    body += bytes(-len(body) % 8) + struct.pack("=Q", time)
    return struct.pack("=IHH", kind, misc, 8 + len(body)) + body


def mapped(pid: int, start: int, time: int, path: bytes = b"/lib/a.so") -> bytes:
    head = struct.pack("=IIQQQIIQQII", pid, pid, start, 0x1000, 0x2000, 8, 1, 77, 0, 5, 2)
    return record(10, head + path + b"\0", time)


def executed(pid: int, time: int, misc: int = 1 << 13) -> bytes:
    return record(3, struct.pack("=II", pid, pid) + b"sh\0", time, misc)


def forked(pid: int, parent: int, time: int) -> bytes:
    return record(7, struct.pack("=IIIIQ", pid, parent, pid, parent, time), time)


class Buffers:
    """The kernel's side of each CPU's buffer."""

    def __init__(self) -> None:
        self.areas: list[mmap.mmap] = []
        self.options: list[dict[str, int]] = []

    def open(self, type_: int, config: int, **options: int) -> int:
        self.options.append(options)
        return os.open(os.devnull, os.O_RDONLY)

    def mmap(self, fd: int, length: int, flags: int, protection: int) -> mmap.mmap:
        self.areas.append(REAL_MMAP(-1, length))
        return self.areas[-1]

    def write(self, cpu: int, data: bytes) -> None:
        area = self.areas[cpu]
        (head,) = struct.unpack_from("=Q", area, 1024)
        for index, byte in enumerate(data):
            area[PAGE + (head + index) % DATA] = byte
        struct.pack_into("=Q", area, 1024, head + len(data))

    def read_to(self, cpu: int) -> int:
        return int(struct.unpack_from("=Q", self.areas[cpu], 1032)[0])


@pytest.fixture
def buffers(monkeypatch: pytest.MonkeyPatch) -> Buffers:
    found = Buffers()
    monkeypatch.setattr(taskevents, "perf_event_open", found.open)
    monkeypatch.setattr(taskevents.mmap, "mmap", found.mmap)
    return found


def test_what_happened_comes_in_the_order_of_time(buffers: Buffers) -> None:
    log = TaskEvents([0, 3])
    assert [options["cpu"] for options in buffers.options] == [0, 3]
    assert all(options["task_records"] for options in buffers.options)
    buffers.write(0, forked(20, 10, 5) + mapped(20, 0x7000, 30))
    buffers.write(1, executed(20, 10))
    assert log.drain() == [
        Forked(20, 10),
        Executed(20),
        Mapped(20, 0x7000, 0x8000, 0x2000, (8, 1), 77, "/lib/a.so"),
    ]
    assert log.drain() == []
    log.close()


def test_threads_and_names_are_nothing_new(buffers: Buffers) -> None:
    log = TaskEvents([0])
    buffers.write(0, forked(20, 20, 1) + executed(20, 2, misc=0) + record(4, bytes(24), 3))
    assert log.drain() == []
    assert log.lost == 0
    log.close()


def test_lost_records_are_counted(buffers: Buffers) -> None:
    log = TaskEvents([0])
    buffers.write(0, record(2, struct.pack("=QQ", 1, 7), 1) + executed(5, 2))
    assert log.drain() == [Executed(5)]
    assert log.lost == 7
    log.close()


def test_a_record_goes_on_at_the_start_of_the_buffer(buffers: Buffers) -> None:
    log = TaskEvents([0])
    one = mapped(1, 0x1000, 1)
    for round_ in range(DATA // len(one) + 5):
        buffers.write(0, mapped(1, 0x1000 * round_, round_))
        (event,) = log.drain()
        assert isinstance(event, Mapped)
        assert event.start == 0x1000 * round_
    assert buffers.read_to(0) > DATA
    log.close()


def test_nothing_stays_open_when_a_cpu_refuses(buffers: Buffers, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    def refuse(type_: int, config: int, **options: int) -> int:
        if opened:
            raise SyscallError("perf_event_open", 13)
        opened.append(buffers.open(type_, config, **options))
        return opened[0]

    monkeypatch.setattr(taskevents, "perf_event_open", refuse)
    with pytest.raises(SyscallError):
        TaskEvents([0, 1])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened[0])
