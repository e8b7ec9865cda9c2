"""Arrays: every index below `max_entries` is always there (kernel/bpf/arraymap.c).

Values are made when they are first asked for, so that a large array costs what is used of it.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, ClassVar

from tracebee.engine.maps.base import BPF_ANY, BPF_EXIST, BPF_F_LOCK, BPF_NOEXIST, EngineMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tracebee.engine.maps.base import Shared
    from tracebee.spec.objects import MapSpec

INDEX_BYTES = 4


class ArrayMap(EngineMap):
    """BPF_MAP_TYPE_ARRAY."""

    kinds: ClassVar[tuple[str, ...]] = ("ARRAY",)

    def __init__(self, spec: MapSpec, shared: Shared) -> None:
        super().__init__(spec, shared)
        self.values: list[dict[bytes, bytearray]] = [{} for _ in range(self.cpus)]
        self.addresses: list[dict[bytes, int]] = [{} for _ in range(self.cpus)]
        self.padding = bytes(self.slot - self.value_size)
        # Of the only processor.
        self._first = self.addresses[0]
        if spec.contents:
            self.require(len(spec.contents) <= self.value_size, "the contents are larger than a value")
            for values in self.values:
                values[bytes(4)] = bytearray(spec.contents.ljust(self.value_size, b"\0"))
        self.is_frozen = spec.frozen

    def check(self) -> None:
        super().check()
        self.require(self.key_size == INDEX_BYTES, "a key must have 4 bytes")

    def lookup(self, key: bytes) -> int:
        return self._first.get(key) or self._place(key, 0)

    def lookup_on(self, key: bytes, cpu: int) -> int:
        # The verifier allows it for per-CPU maps alone.
        return 0

    def _place(self, key: bytes, cpu: int) -> int:
        if int.from_bytes(key, "little") >= self.max_entries:
            return 0
        value = self._value(key, cpu)
        address = self.addresses[cpu][key] = self.memory.add(value, self.writable, self.spec.name)
        return address

    def _value(self, key: bytes, cpu: int) -> bytearray:
        value = self.values[cpu].get(key)
        if value is None:
            value = self.values[cpu][key] = bytearray(self.value_size)
        return value

    def check_update(self, key: bytes, flags: int) -> int:
        if flags & ~BPF_F_LOCK > BPF_EXIST:
            return -errno.EINVAL
        if int.from_bytes(key, "little") >= self.max_entries:
            return -errno.E2BIG
        if flags & BPF_NOEXIST:
            return -errno.EEXIST
        return 0

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        """Set the value, in place: who holds its address sees it change."""
        cpu = self._cpu()
        old = self.values[cpu].get(key)
        if old is None or flags:
            failed = self.check_update(key, flags)
            if failed:
                return failed
            old = self._value(key, cpu)
        old[:] = value
        return 0

    def _cpu(self) -> int:
        return 0

    def delete(self, key: bytes) -> int:
        return -errno.EINVAL

    def for_each(self, visit: Callable[[int, int], int]) -> int:
        memory = self.memory
        key_data = bytearray(INDEX_BYTES)
        key_address = memory.add(key_data, False, f"a key of {self.spec.name}")
        cpu = self._cpu()
        count = 0
        try:
            for index in range(self.max_entries):
                key_data[:] = key = index.to_bytes(INDEX_BYTES, "little")
                count += 1
                if visit(key_address, self.addresses[cpu].get(key) or self._place(key, cpu)):
                    break
        finally:
            memory.drop(key_address)
        return count

    # --- user space

    def get(self, key: bytes) -> bytes | None:
        if len(key) != INDEX_BYTES:
            raise self.refused("lookup", errno.EINVAL)
        if int.from_bytes(key, "little") >= self.max_entries:
            return None
        return self._joined(key)

    def _joined(self, key: bytes) -> bytes:
        nothing = bytes(self.value_size)
        return b"".join([bytes(values.get(key, nothing)) + self.padding for values in self.values])

    def put(self, key: bytes, value: bytes) -> None:
        self.check_write("update", key, value)
        self.done("update", self.check_update(key, BPF_ANY))
        for cpu in range(self.cpus):
            self._value(key, cpu)[:] = value[cpu * self.slot : cpu * self.slot + self.value_size]

    def remove(self, key: bytes) -> bool:
        raise self.refused("delete", errno.EINVAL)

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        for index in range(self.max_entries):
            key = index.to_bytes(INDEX_BYTES, "little")
            yield key, self._joined(key)

    def clear(self) -> None:
        self.check_write("update", bytes(INDEX_BYTES))
        for values in self.values:
            for value in values.values():
                value[:] = bytes(len(value))


class PerCpuArrayMap(ArrayMap):
    """BPF_MAP_TYPE_PERCPU_ARRAY."""

    kinds = ("PERCPU_ARRAY",)
    per_cpu = True

    def lookup(self, key: bytes) -> int:
        cpu = self.shared.cpu
        return self.addresses[cpu].get(key) or self._place(key, cpu)

    def lookup_on(self, key: bytes, cpu: int) -> int:
        if cpu >= self.cpus:
            return 0
        return self.addresses[cpu].get(key) or self._place(key, cpu)

    def check_update(self, key: bytes, flags: int) -> int:
        return -errno.EINVAL if flags > BPF_EXIST else super().check_update(key, flags)

    def _cpu(self) -> int:
        return self.shared.cpu
