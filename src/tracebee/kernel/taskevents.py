"""What the kernel tells of tasks while we trace: forks, executions and executable mappings.

Each CPU has a perf event of its own that counts nothing (PERF_COUNT_SW_DUMMY) and whose buffer takes these
side-band records, as `perf record` does.  So the addresses of a process can be named after it has ended, or
has become another program.  Layouts: include/uapi/linux/perf_event.h, PERF_RECORD_*.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import TYPE_CHECKING

from tracebee.errors import SyscallError
from tracebee.records import Frozen
from tracebee.syscalls.perf import PERF_COUNT_SW_DUMMY, PERF_TYPE_SOFTWARE, perf_event_open

if TYPE_CHECKING:
    from collections.abc import Iterable

_DATA_BYTES = 1 << 17
"""Of each CPU's buffer, a power of two; an execution takes about 1 KiB."""

_RECORD_LOST = 2
_RECORD_COMM = 3
_RECORD_FORK = 7
_RECORD_MMAP2 = 10
_MISC_COMM_EXEC = 1 << 13

_TIME_BYTES = 8
"""Of the trailer that each record has for sample_id_all with PERF_SAMPLE_TIME."""

_HEADER = struct.Struct("=IHH")
_MMAP2 = struct.Struct("=IIQQQIIQQII")
_HEAD = 1024 // 8  # data_head in struct perf_event_mmap_page, as a u64; data_tail is behind it


class Forked(Frozen):
    """A process made another."""

    pid: int
    parent: int


class Executed(Frozen):
    """A process became another program: its mappings from before are gone."""

    pid: int


class Mapped(Frozen):
    """A process made executable memory from `start` up to `end`; the file's bytes from `offset` on."""

    pid: int
    start: int
    end: int
    offset: int
    device: tuple[int, int]
    inode: int
    path: str


class TaskEvents:
    """The buffers of all CPUs, and their reader.  Close it to stop the recording."""

    def __init__(self, cpus: Iterable[int]) -> None:
        """Start to record.  Raises SyscallError."""
        self.fds: list[int] = []
        self.lost = 0
        self._areas: list[mmap.mmap] = []
        self._views: list[tuple[memoryview, memoryview]] = []
        page = mmap.PAGESIZE
        try:
            for cpu in cpus:
                fd = perf_event_open(
                    PERF_TYPE_SOFTWARE, PERF_COUNT_SW_DUMMY, cpu=cpu, task_records=_DATA_BYTES // 4
                )
                self.fds.append(fd)
                area = mmap.mmap(fd, page + _DATA_BYTES, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
                self._areas.append(area)
                whole = memoryview(area)
                self._views.append((whole[:page].cast("Q"), whole[page:]))
        except OSError as error:
            self.close()
            raise SyscallError("mmap(perf buffer)", error.errno or 0) from error
        except SyscallError:
            self.close()
            raise

    def close(self) -> None:
        """Unmap and close."""
        for control, data in self._views:
            control.release()
            data.release()
        self._views.clear()
        self._areas.clear()  # unmapped with their last view
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()

    def drain(self) -> list[Forked | Executed | Mapped]:
        """What happened since the last call, in the order of time."""
        found: list[tuple[int, Forked | Executed | Mapped]] = []
        for control, data in self._views:
            head, tail = control[_HEAD], control[_HEAD + 1]
            if head != tail:
                self._parse(_unroll(data, tail, head), found)
                control[_HEAD + 1] = head
        found.sort(key=lambda pair: pair[0])
        return [event for _, event in found]

    def _parse(self, data: bytes, found: list[tuple[int, Forked | Executed | Mapped]]) -> None:
        at = 0
        while at + _HEADER.size <= len(data):
            kind, misc, size = _HEADER.unpack_from(data, at)
            if size < _HEADER.size:
                return
            body, end = at + _HEADER.size, at + size - _TIME_BYTES
            at += size
            event: Forked | Executed | Mapped
            if kind == _RECORD_MMAP2:
                pid, _, start, length, offset, major, minor, inode = _MMAP2.unpack_from(data, body)[:8]
                name = data[body + _MMAP2.size : end].partition(b"\0")[0]
                event = Mapped(pid, start, start + length, offset, (major, minor), inode, os.fsdecode(name))
            elif kind == _RECORD_COMM and misc & _MISC_COMM_EXEC:
                event = Executed(struct.unpack_from("=I", data, body)[0])
            elif kind == _RECORD_FORK:
                pid, parent = struct.unpack_from("=II", data, body)
                if pid == parent:
                    continue  # a thread
                event = Forked(pid, parent)
            else:
                if kind == _RECORD_LOST:
                    self.lost += int(struct.unpack_from("=Q", data, body + 8)[0])
                continue
            found.append((struct.unpack_from("=Q", data, end)[0], event))


def _unroll(data: memoryview, tail: int, head: int) -> bytes:
    """The bytes from position `tail` up to `head` of a ring."""
    start, stop = tail % len(data), head % len(data)
    if start < stop:
        return bytes(data[start:stop])
    return bytes(data[start:]) + bytes(data[:stop])
