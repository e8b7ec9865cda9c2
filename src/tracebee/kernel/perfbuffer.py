"""Reads a perf event array: records that programs send by bpf_perf_event_output, each CPU's in a buffer of its own.

For each CPU a perf event is opened that counts nothing but these (PERF_COUNT_SW_BPF_OUTPUT), and its descriptor is
put into the map under the CPU's number.  Its buffer is a page that tells how far was written and read, and 2^n
pages of data.  Records are PERF_RECORD_SAMPLE with a u64 of time, a u32 of length and the bytes, and
PERF_RECORD_LOST with how many did not fit (include/uapi/linux/perf_event.h).

A map has one such descriptor for each index: another reader of the same map takes this one's records away.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from typing import TYPE_CHECKING

from tracebee.errors import SyscallError, UsageError
from tracebee.syscalls import bpf
from tracebee.syscalls.perf import PERF_COUNT_SW_BPF_OUTPUT, PERF_TYPE_SOFTWARE, enable, perf_event_open

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_RECORD_LOST = 2
_RECORD_SAMPLE = 9

_HEADER = struct.Struct("=IHH")
_SAMPLE = struct.Struct("=QI")  # time, length
_LOST = struct.Struct("=QQ")  # id, how many
_HEAD = 1024 // 8  # data_head in struct perf_event_mmap_page, as a u64; data_tail is behind it

PAGES = 64
"""Of data for each CPU: 256 KiB."""


class PerfBuffer:
    """The buffers of some CPUs, and their reader.  Close it, or use it as a context manager.

    `fds` become readable when there are records; `lost` counts those that did not fit.  `time` is that of the record
    which `drain` is handing over, in nanoseconds since boot.
    """

    def __init__(
        self, map_fd: int, cpus: Iterable[int], pages: int = PAGES, *, index: int | None = None
    ) -> None:
        """Open the buffers, of `pages` pages each (a power of two), and put them into the map.

        Each is put under the number of its CPU, or under `index`.  Raises SyscallError, UsageError.
        """
        if pages < 1 or pages & (pages - 1):
            raise UsageError(f"a perf buffer has a power of two of pages, not {pages}")
        self.fds: list[int] = []
        self.cpus: list[int] = []
        self.lost = 0
        self.time = 0
        self._map_fd = map_fd
        self._indexes: list[int] = []
        self._areas: list[mmap.mmap] = []
        self._views: list[tuple[memoryview, memoryview]] = []
        page = mmap.PAGESIZE
        try:
            for cpu in cpus:
                fd = perf_event_open(
                    PERF_TYPE_SOFTWARE, PERF_COUNT_SW_BPF_OUTPUT, cpu=cpu, period=1, raw_records=True
                )
                self.fds.append(fd)
                self.cpus.append(cpu)
                area = mmap.mmap(fd, page * (1 + pages), mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
                self._areas.append(area)
                whole = memoryview(area)
                self._views.append((whole[:page].cast("Q"), whole[page:]))
                place = cpu if index is None else index
                bpf.map_update(map_fd, struct.pack("=I", place), struct.pack("=I", fd))
                self._indexes.append(place)
                enable(fd)
        except SyscallError:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise SyscallError("mmap(perf buffer)", error.errno or 0) from error

    def __enter__(self) -> PerfBuffer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take the buffers out of the map, unmap and close them."""
        for place in self._indexes:
            with contextlib.suppress(SyscallError):
                bpf.map_delete(self._map_fd, struct.pack("=I", place))
        self._indexes.clear()
        for control, data in self._views:
            control.release()
            data.release()
        self._views.clear()
        self._areas.clear()  # unmapped with their last view
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()

    def drain(self, take: Callable[[int, bytes], object]) -> int:
        """Hand over what has been written: ``take(cpu, data)`` for each record; how many there were.

        They come by their times, of which `time` is the one at hand.  The kernel pads `data` with up to 7 bytes.
        """
        found: list[tuple[int, int, bytes]] = []
        for cpu, (control, data) in zip(self.cpus, self._views, strict=True):
            head, tail = control[_HEAD], control[_HEAD + 1]
            if head != tail:
                raw = _unroll(data, tail, head)
                # It is copied, so that its space is free before anybody looks at it.
                control[_HEAD + 1] = head
                records, lost = records_of(raw)
                self.lost += lost
                found += [(time, cpu, record) for time, record in records]
        found.sort(key=lambda one: one[0])
        for self.time, cpu, record in found:
            take(cpu, record)
        return len(found)


def records_of(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """The records in a piece of a buffer, each with its time in nanoseconds, and how many were lost."""
    found = []
    at = lost = 0
    while at + _HEADER.size <= len(data):
        kind, _, size = _HEADER.unpack_from(data, at)
        body, end = at + _HEADER.size, min(at + size, len(data))
        if size < _HEADER.size:
            break
        if kind == _RECORD_SAMPLE and body + _SAMPLE.size <= end:
            time, length = _SAMPLE.unpack_from(data, body)
            start = body + _SAMPLE.size
            found.append((time, data[start : min(start + length, end)]))
        elif kind == _RECORD_LOST and body + _LOST.size <= end:
            lost += _LOST.unpack_from(data, body)[1]
        at += size
    return found, lost


def _unroll(data: memoryview, tail: int, head: int) -> bytes:
    """The bytes from position `tail` up to `head` of a ring."""
    start, stop = tail % len(data), head % len(data)
    if start < stop:
        return bytes(data[start:stop])
    return bytes(data[start:]) + bytes(data[:stop])
