"""The reader's side of a BPF ring buffer (kernel/bpf/ringbuf.c, Documentation/bpf/ringbuf.rst).

The buffer is shared memory: a page with the reader's position, a page with the writers', and the data, twice
in a row so that no record is ever torn by the end.  Of the second time only as much is mapped here as the
largest record can need: every mapped page counts as this process's memory.  Each record has eight bytes in
front: a u32 with its length and two flags, and a u32 that is not for us; it takes a multiple of eight bytes.
"""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

from tracebee.errors import SyscallError
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from collections.abc import Callable

    Take = Callable[[memoryview, memoryview, int, int, int], int]

HEADER = 8
BUSY = 1 << 31
DISCARDED = 1 << 30

_MIN_BYTES = 256 << 10
_MAX_BYTES = 16 << 20


def default_bytes() -> int:
    """Size by the machine's memory: a thousandth of it, between 256 KiB and 16 MiB, a power of two."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    size = _MIN_BYTES
    while size * 2 <= min(memory // 1024, _MAX_BYTES):
        size *= 2
    return size


def valid_bytes(wanted: int) -> int:
    """The next size that a ring buffer can have: a power of two of at least a page."""
    size = mmap.PAGESIZE
    while size < wanted:
        size *= 2
    return size


def beyond_the_end(size: int, largest: int) -> int:
    """Bytes that a record of up to `largest` bytes can need behind the end of the ring, in whole pages.

    The record's header is never torn: records start at multiples of its size.
    """
    pages = -(-max(largest, 0) // mmap.PAGESIZE)
    return min(pages * mmap.PAGESIZE, size)


class Ring:
    """A ring buffer map and its reader.  Close it, or use it as a context manager."""

    def __init__(self, size: int, name: str = "events", largest: int | None = None) -> None:
        """Create a ring of `size` bytes, a power of two, for records of up to `largest` bytes.

        Raises SyscallError.
        """
        self._begin(bpf.map_create("RINGBUF", 0, 0, size, name=name), size, largest)

    @classmethod
    def open(cls, fd: int, size: int, largest: int | None = None) -> Ring:
        """The reader of a ring buffer that is there: of `size` bytes, which is its max_entries.

        The descriptor stays the caller's.  A ring buffer has one reader: what this one takes, another misses.
        Raises SyscallError.
        """
        ring = cls.__new__(cls)
        ring._begin(os.dup(fd), size, largest)
        return ring

    def _begin(self, fd: int, size: int, largest: int | None) -> None:
        self.size = size
        self.beyond = beyond_the_end(size, size if largest is None else largest)
        self.fd = fd
        self._maps: list[mmap.mmap] = []
        self._views: list[memoryview] = []
        try:
            self._map()
        except OSError as error:
            self.close()
            raise SyscallError("mmap(ring buffer)", error.errno or 0) from error

    def _map(self) -> None:
        page = mmap.PAGESIZE
        consumer = mmap.mmap(self.fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._maps.append(consumer)
        # The kernel allows only the reader's page to be written.
        length = page + self.size + self.beyond
        producer = mmap.mmap(self.fd, length, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._maps.append(producer)
        self._consumer = memoryview(consumer).cast("Q")
        whole = memoryview(producer)
        self._producer = whole[:8].cast("Q")
        self.data = whole[page:]
        self._lengths = self.data.cast("I")
        self._views = [self._consumer, self._producer, self._lengths, self.data, whole]

    def __enter__(self) -> Ring:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Unmap and close."""
        for view in self._views:
            view.release()
        self._views.clear()
        for area in self._maps:
            area.close()
        self._maps.clear()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def drain(self, take: Take) -> int:
        """Hand over what has been written, without waiting; returns how many bytes were taken.

        `take(data, words, start, end, limit)` gets the data, the same as u32 words, and the byte range in
        which records start; the last of them may end behind `end`, but none behind `limit`.  It stops at the
        first record whose length has the BUSY flag, and returns where it stopped, so that the space up to
        there can be written again.
        """
        mask = self.size - 1
        taken = 0
        while True:
            position = self._consumer[0]
            written = self._producer[0]
            if position >= written:
                return taken
            start = position & mask
            limit = start + written - position
            # What starts behind the ring's end is found at its start, next time round.
            end = min(limit, self.size)
            stopped = take(self.data, self._lengths, start, end, min(limit, self.size + self.beyond))
            self._consumer[0] = position + stopped - start
            taken += stopped - start
            if stopped < end:
                return taken

    @property
    def is_empty(self) -> bool:
        return bool(self._consumer[0] >= self._producer[0])
