"""Maps that hold maps or programs (kernel/bpf/map_in_map.c, prog_array in kernel/bpf/arraymap.c).

User space names what is in them by a u32: a map by its `id`, a program by its number on the machine.  (The
kernel takes descriptors and gives ids; here nothing has a descriptor.)
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, ClassVar

from tracebee.engine.maps.array import INDEX_BYTES
from tracebee.engine.maps.base import (
    BPF_ANY,
    BPF_EXIST,
    BPF_F_INNER_MAP,
    BPF_NOEXIST,
    EngineMap,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.engine.maps.base import Shared
    from tracebee.spec.objects import MapSpec

ID_BYTES = 4


def unlike(template: MapSpec, inner: MapSpec) -> str:
    """Why a map cannot be put where maps like `template` are (bpf_map_meta_equal); empty if it can."""
    for name, wanted, given in (
        ("type", template.type, inner.type),
        ("key size", template.key_size, inner.key_size),
        ("value size", template.value_size, inner.value_size),
        ("flags", template.flags, inner.flags),
    ):
        if wanted != given:
            return f"its {name} is {given}, and that of the template {wanted}"
    sized = template.type == "ARRAY" and not template.flags & BPF_F_INNER_MAP
    if sized and template.max_entries != inner.max_entries:
        return f"it has {inner.max_entries} entries, and the template {template.max_entries}"
    return ""


class _Outer(EngineMap):
    """What both kinds of outer map do: `inner` maps by key."""

    def __init__(self, spec: MapSpec, shared: Shared) -> None:
        super().__init__(spec, shared)
        self.inner: dict[bytes, EngineMap] = {}

    def check(self) -> None:
        super().check()
        self.require(self.value_size == ID_BYTES, "a value must have 4 bytes")

    def lookup(self, key: bytes) -> int:
        """The handle of the inner map, or 0."""
        found = self.inner.get(key)
        return 0 if found is None else found.handle

    def set_inner(self, key: bytes, inner: EngineMap, flags: int = BPF_ANY) -> None:
        """Put a map under a key.  Raises SyscallError."""
        self.check_write("update", key)
        self.done("update", self.check_key(key, flags))
        template = self.spec.inner
        if template is not None:
            reason = unlike(template, inner.spec)
            if reason:
                error = self.refused("update", errno.EINVAL)
                error.add_note(f"map {inner.spec.name} does not fit: {reason}")
                raise error
        self.inner[key] = inner

    def check_key(self, key: bytes, flags: int) -> int:
        raise NotImplementedError

    def get(self, key: bytes) -> bytes | None:
        found = self.inner.get(key)
        return None if found is None else found.id.to_bytes(ID_BYTES, "little")

    def put(self, key: bytes, value: bytes) -> None:
        """Put the map with the id `value` under a key."""
        self.check_write("update", key, value)
        wanted = int.from_bytes(value, "little")
        for table in self.shared.by_handle.values():
            if table.id == wanted:
                self.set_inner(key, table)
                return
        raise self.refused("update", errno.EBADF)

    def remove(self, key: bytes) -> bool:
        self.check_write("delete", key)
        return self.inner.pop(key, None) is not None

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        for key, inner in list(self.inner.items()):
            yield key, inner.id.to_bytes(ID_BYTES, "little")


class ArrayOfMaps(_Outer):
    """BPF_MAP_TYPE_ARRAY_OF_MAPS."""

    kinds: ClassVar[tuple[str, ...]] = ("ARRAY_OF_MAPS",)

    def check(self) -> None:
        super().check()
        self.require(self.key_size == INDEX_BYTES, "a key must have 4 bytes")

    def check_key(self, key: bytes, flags: int) -> int:
        if flags != BPF_ANY:
            return -errno.EINVAL
        return -errno.E2BIG if int.from_bytes(key, "little") >= self.max_entries else 0

    def remove(self, key: bytes) -> bool:
        self.check_write("delete", key)
        self.done("delete", self.check_key(key, BPF_ANY))
        return super().remove(key)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        yield from sorted(super().items(), key=lambda item: int.from_bytes(item[0], "little"))


class HashOfMaps(_Outer):
    """BPF_MAP_TYPE_HASH_OF_MAPS."""

    kinds: ClassVar[tuple[str, ...]] = ("HASH_OF_MAPS",)

    def check_key(self, key: bytes, flags: int) -> int:
        there = key in self.inner
        if flags > BPF_EXIST:
            return -errno.EINVAL
        if flags == BPF_NOEXIST and there:
            return -errno.EEXIST
        if flags == BPF_EXIST and not there:
            return -errno.ENOENT
        return -errno.E2BIG if not there and len(self.inner) >= self.max_entries else 0


class ProgramArray(EngineMap):
    """BPF_MAP_TYPE_PROG_ARRAY: `programs` are numbers of the machine, by index."""

    kinds: ClassVar[tuple[str, ...]] = ("PROG_ARRAY",)

    def __init__(self, spec: MapSpec, shared: Shared) -> None:
        super().__init__(spec, shared)
        self.programs: dict[int, int] = {}

    def check(self) -> None:
        super().check()
        self.require(self.key_size == INDEX_BYTES, "a key must have 4 bytes")
        self.require(self.value_size == ID_BYTES, "a value must have 4 bytes")

    def _index(self, what: str, key: bytes) -> int:
        self.check_write(what, key)
        index = int.from_bytes(key, "little")
        if index >= self.max_entries:
            raise self.refused(what, errno.E2BIG)
        return index

    def get(self, key: bytes) -> bytes | None:
        found = self.programs.get(int.from_bytes(key, "little"))
        return None if found is None else found.to_bytes(ID_BYTES, "little")

    def put(self, key: bytes, value: bytes) -> None:
        self.check_write("update", key, value)
        self.programs[self._index("update", key)] = int.from_bytes(value, "little")

    def remove(self, key: bytes) -> bool:
        return self.programs.pop(self._index("delete", key), None) is not None

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        for index, number in sorted(self.programs.items()):
            yield index.to_bytes(INDEX_BYTES, "little"), number.to_bytes(ID_BYTES, "little")
