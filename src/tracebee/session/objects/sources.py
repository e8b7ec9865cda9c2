"""The kernel's ring buffers and perf event arrays, read record by record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.errors import UsageError
from tracebee.kernel.ring import BUSY, DISCARDED, HEADER, Ring

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.kernel.maps import KernelMap
    from tracebee.session.objects.sides import Source


class RingSource:
    """A ring buffer.  Losses are the program's to count: the kernel gives it no room, and tells nobody else."""

    def __init__(self, fd: int, size: int) -> None:
        """Raises SyscallError."""
        self._ring = Ring.open(fd, size)
        self.fds: Sequence[int] = (self._ring.fd,)
        self._found: list[bytes] = []

    def _take(self, data: memoryview, words: memoryview, start: int, end: int, limit: int) -> int:
        found = self._found
        while start < end:
            head = words[start >> 2]
            if head & BUSY:
                break
            length = head & ~DISCARDED
            if not head & DISCARDED:
                found.append(bytes(data[start + HEADER : start + HEADER + length]))
            start += (length + HEADER + 7) & ~7
        return start

    def read(self) -> tuple[list[bytes], int]:
        self._ring.drain(self._take)
        found, self._found = self._found, []
        return found, 0

    def settle(self) -> None:
        """The buffer is shared memory: nothing is under way."""

    def close(self) -> None:
        self._ring.close()


class PerfSource:
    """A perf event array: a buffer for each processor, read in the order of time."""

    def __init__(self, fd: int, cpus: Sequence[int], pages: int) -> None:
        """Raises SyscallError, UsageError."""
        from tracebee.kernel.perfbuffer import PerfBuffer

        self._buffer = PerfBuffer(fd, cpus, pages)
        self.fds: Sequence[int] = tuple(self._buffer.fds)
        self._told = 0

    def read(self) -> tuple[list[bytes], int]:
        found: list[bytes] = []
        self._buffer.drain(lambda cpu, data: found.append(data))
        lost, self._told = self._buffer.lost - self._told, self._buffer.lost
        return found, lost

    def settle(self) -> None:
        """As `RingSource.settle`."""

    def close(self) -> None:
        self._buffer.close()


def open_source(table: KernelMap, cpus: Sequence[int], pages: int) -> Source:
    """The reader of a map.  Raises UsageError for one that is no buffer, SyscallError."""
    if table.spec.type == "RINGBUF":
        return RingSource(table.fd, table.spec.max_entries)
    if table.spec.type == "PERF_EVENT_ARRAY":
        return PerfSource(table.fd, cpus, pages)
    raise UsageError(f"map {table.spec.name} is no ring buffer and no perf event array")
