"""Ring buffer (kernel/bpf/ringbuf.c) and perf event array (bpf_event_output in kernel/trace/bpf_trace.c)."""

from __future__ import annotations

import errno
import mmap
from collections import deque
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from tracebee.engine.maps.base import EngineMap

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.engine.maps.base import Shared
    from tracebee.spec.objects import MapSpec

    Take = Callable[[memoryview, memoryview, int, int, int], int]

HEADER = 8
BUSY = 1 << 31
DISCARDED = 1 << 30
LARGEST_RECORD = 0xFFFF_FFFF // 4

BPF_RB_NO_WAKEUP, BPF_RB_FORCE_WAKEUP = 1, 2
BPF_RB_AVAIL_DATA, BPF_RB_RING_SIZE, BPF_RB_CONS_POS, BPF_RB_PROD_POS = range(4)

DEFAULT_BYTES = 1 << 20
"""Size of a ring buffer whose specification leaves it open."""

SMALLEST_BYTES, LARGEST_BYTES = 4096, 1 << 28


class RingMap(EngineMap):
    """BPF_MAP_TYPE_RINGBUF.

    Each record is a u32 with its length and two flags, a u32 that is not for readers, and the data, padded to
    a multiple of 8 bytes.  The records lie in one piece, from `start` to `end`, so that none is ever torn; how
    much fits is counted as the kernel counts it.
    """

    kinds: ClassVar[tuple[str, ...]] = ("RINGBUF",)

    def __init__(self, spec: MapSpec, shared: Shared) -> None:
        super().__init__(spec, shared)
        self.size = spec.max_entries or DEFAULT_BYTES
        # Pages that are never written cost nothing, which a bytearray's do.
        self._buffer = mmap.mmap(-1, self.size)
        self.data = memoryview(self._buffer)
        self._words = self.data.cast("I")
        self.start = 0
        self.end = 0
        self.consumed = 0  # bytes taken since the ring was made; the kernel's consumer position
        self._open: dict[int, int] = {}  # where the data of reserved records lies, by address

    def check(self) -> None:
        self.require(self.key_size == 0 and self.value_size == 0, "it has no keys and no values")
        size = self.max_entries or DEFAULT_BYTES
        self.require(
            size >= SMALLEST_BYTES and not size & size - 1, f"{size} bytes are not a power of two of pages"
        )
        self.require(size <= LARGEST_BYTES, f"{size} bytes are more than {LARGEST_BYTES}")

    # --- programs

    def _room(self, size: int) -> int:
        """Where a record of `size` bytes of data can go, or -1; its header is written there."""
        length = (size + HEADER + 7) & ~7
        if size > LARGEST_RECORD or self.end - self.start + length > self.size - 1:
            return -1
        at = self.end
        if at + length > self.size:
            if self._open:
                return -1  # these cannot move
            self._compact()
            at = self.end
        self.end = at + length
        self._words[(at >> 2) + 1] = 0
        return at

    def _compact(self) -> None:
        left = self.end - self.start
        self._buffer[:left] = self._buffer[self.start : self.end]
        self.start, self.end = 0, left

    def reserve(self, size: int, flags: int) -> int:
        """The address of a new record's data, zeroed, or 0."""
        if flags:
            return 0
        at = self._room(size)
        if at < 0:
            return 0
        self._words[at >> 2] = size | BUSY
        data = self.data[at + HEADER : at + HEADER + size]
        data[:] = bytes(size)
        address = self.memory.add(data, True, "a ring record")
        self._open[address] = at
        self.shared.records[address] = self
        return address

    def submit(self, address: int) -> None:
        """Finish a reserved record.  KeyError if there is none at this address."""
        at = self._open.pop(address)
        self._words[at >> 2] &= ~BUSY
        del self.shared.records[address]
        self.memory.drop(address)

    def discard(self, address: int) -> None:
        """Give up a reserved record.  KeyError if there is none at this address."""
        at = self._open.pop(address)
        self._words[at >> 2] = self._words[at >> 2] & ~BUSY | DISCARDED
        del self.shared.records[address]
        self.memory.drop(address)

    def hold(self, address: int, at: int) -> None:
        """Somebody else writes the record at `at`, which must not move until let_go()."""
        self._open[address] = at

    def let_go(self, address: int) -> None:
        self._open.pop(address, None)

    def output(self, data: bytes, flags: int) -> int:
        """Add a whole record; 0 or minus an errno."""
        if flags & ~(BPF_RB_NO_WAKEUP | BPF_RB_FORCE_WAKEUP):
            return -errno.EINVAL
        size = len(data)
        at = self._room(size)
        if at < 0:
            return -errno.EAGAIN
        self._words[at >> 2] = size
        self._buffer[at + HEADER : at + HEADER + size] = data
        return 0

    def query(self, what: int) -> int:
        """A number about the ring (bpf_ringbuf_query)."""
        available = self.end - self.start
        if what == BPF_RB_AVAIL_DATA:
            return available
        if what == BPF_RB_RING_SIZE:
            return self.size
        if what == BPF_RB_CONS_POS:
            return self.consumed
        return self.consumed + available if what == BPF_RB_PROD_POS else 0

    # --- user space

    @property
    def is_empty(self) -> bool:
        return self.start == self.end

    def drain(self, take: Take) -> int:
        """Hand over what has been written; how many bytes were taken.

        ``take(data, words, start, end, limit)`` gets the data, the same as u32 words, and the byte range of
        the records, and returns where it stopped; see `tracebee.kernel.ring`.
        """
        start = self.start
        if start == self.end:
            return 0
        stopped = take(self.data, self._words, start, self.end, self.end)
        self.consumed += stopped - start
        self.start = stopped
        if stopped == self.end:
            self.start = self.end = 0
        return stopped - start


BPF_F_INDEX_MASK = 0xFFFF_FFFF
BPF_F_CURRENT_CPU = BPF_F_INDEX_MASK


class Sample(NamedTuple):
    """What a program has sent through a perf event array, and from which processor."""

    cpu: int
    data: bytes


class PerfEventArrayMap(EngineMap):
    """BPF_MAP_TYPE_PERF_EVENT_ARRAY with a buffer for each processor; `lost` counts what did not fit."""

    kinds: ClassVar[tuple[str, ...]] = ("PERF_EVENT_ARRAY",)
    capacity: ClassVar[int] = 1 << 20
    """Bytes of samples that wait for being read, together."""

    def __init__(self, spec: MapSpec, shared: Shared) -> None:
        super().__init__(spec, shared)
        self.max_entries = spec.max_entries or shared.cpus
        self.samples: deque[Sample] = deque()
        self.waiting = 0
        self.lost = 0

    def check(self) -> None:
        self.require(self.key_size == 4, "a key must have 4 bytes")
        self.require(self.value_size == 4, "a value must have 4 bytes")

    def output(self, data: bytes, flags: int) -> int:
        """Add a sample; 0 or minus an errno."""
        if flags & ~BPF_F_INDEX_MASK:
            return -errno.EINVAL
        cpu = self.shared.cpu
        index = cpu if flags == BPF_F_CURRENT_CPU else flags
        if index >= self.max_entries:
            return -errno.E2BIG
        if index >= self.shared.cpus:
            return -errno.ENOENT
        if index != cpu:
            return -errno.EOPNOTSUPP
        if self.waiting + len(data) + HEADER > self.capacity:
            self.lost += 1
            return -errno.ENOSPC
        self.waiting += len(data) + HEADER
        self.samples.append(Sample(cpu, data))
        return 0

    def take(self) -> list[Sample]:
        """The samples since the last call, in order."""
        found = list(self.samples)
        self.samples.clear()
        self.waiting = 0
        return found
