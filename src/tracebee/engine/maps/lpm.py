"""Longest-prefix match (kernel/bpf/lpm_trie.c).

A key is the number of bits of a prefix (u32) and then the bits, the first one in the highest bit of the first
byte.  A lookup finds the entry that has the most leading bits in common with the key, all of its own, and
no more than the key's number.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, ClassVar

from tracebee.engine.maps.base import BPF_ANY, BPF_EXIST, BPF_F_NO_PREALLOC, BPF_NOEXIST, EngineMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tracebee.engine.maps.base import Shared
    from tracebee.spec.objects import MapSpec

LENGTH_BYTES = 4


class _Node:
    """An entry: the key as it was given, the value, and its address if a program has asked for it."""

    __slots__ = ("address", "key", "value")

    def __init__(self, key: bytes, value: bytes) -> None:
        self.key = key
        self.value = bytearray(value)
        self.address = 0


class LpmTrieMap(EngineMap):
    """BPF_MAP_TYPE_LPM_TRIE.  `nodes` are by the length of the prefix, and then by its bits as a number."""

    kinds: ClassVar[tuple[str, ...]] = ("LPM_TRIE",)

    def __init__(self, spec: MapSpec, shared: Shared) -> None:
        super().__init__(spec, shared)
        self.bits = 8 * (spec.key_size - LENGTH_BYTES)
        self.nodes: dict[int, dict[int, _Node]] = {}
        self.lengths: list[int] = []  # those that have nodes, longest first
        self.count = 0

    def check(self) -> None:
        super().check()
        self.require(
            LENGTH_BYTES < self.key_size <= LENGTH_BYTES + 256, "a key takes 4 bytes and 1 to 256 more"
        )
        self.require(bool(self.spec.flags & BPF_F_NO_PREALLOC), "it needs the flag BPF_F_NO_PREALLOC")

    def _split(self, key: bytes) -> tuple[int, int]:
        """The number of bits and all bits of the key."""
        return int.from_bytes(key[:LENGTH_BYTES], "little"), int.from_bytes(key[LENGTH_BYTES:], "big")

    def _find(self, key: bytes) -> _Node | None:
        length, number = self._split(key)
        if length > self.bits:
            return None
        bits = self.bits
        for own in self.lengths:
            if own <= length:
                node = self.nodes[own].get(number >> (bits - own))
                if node is not None:
                    return node
        return None

    def lookup(self, key: bytes) -> int:
        node = self._find(key)
        if node is None:
            return 0
        return node.address or self._place(node)

    def _place(self, node: _Node) -> int:
        node.address = self.memory.add(node.value, self.writable, self.spec.name)
        return node.address

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        if flags > BPF_EXIST:
            return -errno.EINVAL
        length, number = self._split(key)
        if length > self.bits:
            return -errno.EINVAL
        table = self.nodes.get(length)
        prefix = number >> (self.bits - length)
        old = None if table is None else table.get(prefix)
        if old is not None:
            if flags == BPF_NOEXIST:
                return -errno.EEXIST
            if old.address:
                self.shared.retired.append(old.address)
        elif flags == BPF_EXIST:
            return -errno.ENOENT
        elif self.count >= self.max_entries:
            return -errno.ENOSPC
        else:
            self.count += 1
        if table is None:
            table = self.nodes[length] = {}
            self.lengths = sorted(self.nodes, reverse=True)
        table[prefix] = _Node(key, value)
        return 0

    def delete(self, key: bytes) -> int:
        length, number = self._split(key)
        if length > self.bits:
            return -errno.EINVAL
        table = self.nodes.get(length)
        node = None if table is None else table.pop(number >> (self.bits - length), None)
        if table is None or node is None:
            return -errno.ENOENT
        if node.address:
            self.shared.retired.append(node.address)
        if not table:
            del self.nodes[length]
            self.lengths.remove(length)
        self.count -= 1
        return 0

    def for_each(self, visit: Callable[[int, int], int]) -> int:
        return -errno.EINVAL

    # --- user space

    def get(self, key: bytes) -> bytes | None:
        node = self._find(key)
        return None if node is None else bytes(node.value)

    def put(self, key: bytes, value: bytes) -> None:
        self.check_write("update", key, value)
        self.done("update", self.update(key, value, BPF_ANY))

    def remove(self, key: bytes) -> bool:
        self.check_write("delete", key)
        result = self.delete(key)
        if result == -errno.EINVAL:
            raise self.refused("delete", errno.EINVAL)
        return result == 0

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """As the kernel's: a prefix comes behind all that are longer than it and begin with it."""
        found = []
        for length, table in self.nodes.items():
            for prefix, node in table.items():
                # "2" is behind both digits, so a prefix sorts behind what continues it.
                text = f"{prefix:0{length}b}2" if length else "2"
                found.append((text, node))
        found.sort(key=lambda pair: pair[0])
        for _, node in found:
            yield node.key, bytes(node.value)
