"""Maps without keys: queue, stack (kernel/bpf/queue_stack_maps.c) and Bloom filter (kernel/bpf/bloom_filter.c)."""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, ClassVar
from zlib import crc32

from tracebee.engine.maps.base import BPF_ANY, BPF_EXIST, BPF_NOEXIST, EngineMap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.engine.maps.base import Shared
    from tracebee.spec.objects import MapSpec


class QueueMap(EngineMap):
    """BPF_MAP_TYPE_QUEUE: values come out in the order in which they went in.

    For user space a lookup looks at the next value and an update adds one, both with an empty key.
    """

    kinds: ClassVar[tuple[str, ...]] = ("QUEUE",)
    newest_first: ClassVar[bool] = False

    def __init__(self, spec: MapSpec, shared: Shared) -> None:
        super().__init__(spec, shared)
        self.values: deque[bytes] = deque()

    def check(self) -> None:
        self.require(self.key_size == 0, "it has no keys")
        self.require(self.value_size > 0, "the size of a value must not be 0")
        self.require(self.max_entries > 0, "there must be room for an entry")

    def push(self, value: bytes, flags: int) -> int:
        """Add a value.  With BPF_EXIST the oldest one makes room where that is needed."""
        if flags & BPF_NOEXIST or flags > BPF_EXIST:
            return -errno.EINVAL
        if len(self.values) >= self.max_entries:
            if flags != BPF_EXIST:
                return -errno.E2BIG
            self.values.popleft()
        self.values.append(value)
        return 0

    def pop(self) -> bytes | None:
        values = self.values
        if not values:
            return None
        return values.pop() if self.newest_first else values.popleft()

    def peek(self) -> bytes | None:
        values = self.values
        if not values:
            return None
        return values[-1] if self.newest_first else values[0]

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        return -errno.EINVAL

    def delete(self, key: bytes) -> int:
        return -errno.EINVAL

    # --- user space

    def get(self, key: bytes) -> bytes | None:
        return self.peek()

    def put(self, key: bytes, value: bytes) -> None:
        self.check_write("update", key, value)
        self.done("update", self.push(value, BPF_ANY))

    def remove(self, key: bytes) -> bool:
        """Take out the next value; whether there was one."""
        self.check_write("delete", key)
        return self.pop() is not None

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """The values in the order in which they would come out, under empty keys."""
        values = reversed(list(self.values)) if self.newest_first else iter(list(self.values))
        for value in values:
            yield b"", value

    def clear(self) -> None:
        self.check_write("delete", b"")
        self.values.clear()


class StackMap(QueueMap):
    """BPF_MAP_TYPE_STACK: the newest value comes out first."""

    kinds = ("STACK",)
    newest_first = True


DEFAULT_HASHES = 5


class BloomFilterMap(EngineMap):
    """BPF_MAP_TYPE_BLOOM_FILTER: says of a value that it is not there, or that it may be."""

    kinds: ClassVar[tuple[str, ...]] = ("BLOOM_FILTER",)
    is_filter = True

    def __init__(self, spec: MapSpec, shared: Shared) -> None:
        super().__init__(spec, shared)
        self.hashes = spec.extra & 15 or DEFAULT_HASHES
        wanted = spec.max_entries * self.hashes * 7 // 5
        self.mask = (1 << min(max(wanted - 1, 1).bit_length(), 32)) - 1
        self.bits: set[int] = set()

    def check(self) -> None:
        self.require(self.key_size == 0, "it has no keys")
        self.require(self.value_size > 0, "the size of a value must not be 0")
        self.require(self.max_entries > 0, "there must be room for an entry")

    def _places(self, value: bytes) -> list[int]:
        return [crc32(value, seed * 0x9E37_79B9 & 0xFFFF_FFFF) & self.mask for seed in range(self.hashes)]

    def push(self, value: bytes, flags: int) -> int:
        if flags != BPF_ANY:
            return -errno.EINVAL
        self.bits.update(self._places(value))
        return 0

    def contains(self, value: bytes) -> bool:
        """Whether the value may have been added."""
        return self.bits.issuperset(self._places(value))

    def put(self, key: bytes, value: bytes) -> None:
        self.check_write("update", key, value)
        self.push(value, BPF_ANY)

    def clear(self) -> None:
        self.check_write("delete", b"")
        self.bits.clear()
