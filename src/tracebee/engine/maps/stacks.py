"""Stack traces by id (kernel/bpf/stackmap.c)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, ClassVar
from zlib import crc32

from tracebee.engine.maps.base import EngineMap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.engine.maps.base import Shared
    from tracebee.spec.objects import MapSpec

BPF_F_SKIP_FIELD_MASK = 0xFF
BPF_F_USER_STACK = 1 << 8
BPF_F_FAST_STACK_CMP = 1 << 9
BPF_F_REUSE_STACKID = 1 << 10
FRAME_BYTES = 8


class StackTraceMap(EngineMap):
    """BPF_MAP_TYPE_STACK_TRACE: `stacks` are frames of 8 bytes each, by an id that is a hash of them."""

    kinds: ClassVar[tuple[str, ...]] = ("STACK_TRACE",)

    def __init__(self, spec: MapSpec, shared: Shared) -> None:
        super().__init__(spec, shared)
        self.stacks: dict[int, bytes] = {}
        self.mask = (1 << (spec.max_entries - 1).bit_length()) - 1
        self.most = spec.value_size // FRAME_BYTES

    def check(self) -> None:
        super().check()
        self.require(self.key_size == 4, "a key must have 4 bytes")
        self.require(self.value_size % FRAME_BYTES == 0, "frames take 8 bytes each")

    def file(self, frames: bytes, flags: int) -> int:
        """The id of a stack, or minus an errno (bpf_get_stackid)."""
        place = crc32(frames) & self.mask
        known = self.stacks.get(place)
        if known is not None and (known == frames or flags & BPF_F_FAST_STACK_CMP):
            return place
        if known is not None and not flags & BPF_F_REUSE_STACKID:
            return -errno.EEXIST
        self.stacks[place] = frames
        return place

    def get(self, key: bytes) -> bytes | None:
        found = self.stacks.get(int.from_bytes(key, "little"))
        return None if found is None else found.ljust(self.value_size, b"\0")

    def put(self, key: bytes, value: bytes) -> None:
        raise self.refused("update", errno.EINVAL)

    def remove(self, key: bytes) -> bool:
        self.check_write("delete", key)
        return self.stacks.pop(int.from_bytes(key, "little"), None) is not None

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        for place, frames in sorted(self.stacks.items()):
            yield place.to_bytes(4, "little"), frames.ljust(self.value_size, b"\0")
