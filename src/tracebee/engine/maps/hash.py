"""Hash maps: plain, per CPU, and those that drop what was least recently used (kernel/bpf/hashtab.c)."""

from __future__ import annotations

import errno
from collections import OrderedDict
from typing import TYPE_CHECKING, ClassVar

from tracebee.engine.maps.base import BPF_ANY, BPF_EXIST, BPF_F_LOCK, BPF_NOEXIST, EngineMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tracebee.engine.maps.base import Shared
    from tracebee.spec.objects import MapSpec


def visit_all(
    table: EngineMap, keys: Iterable[bytes], find: Callable[[bytes], int], visit: Callable[[int, int], int]
) -> int:
    """Call `visit` with the addresses of each key and its value, until it gives something else than 0.

    `find` gives the address of a key's value, or 0 for one that has been removed meanwhile.  How many were visited.
    """
    memory = table.memory
    key_data = bytearray(table.key_size)
    key_address = memory.add(key_data, False, f"a key of {table.spec.name}")
    count = 0
    try:
        for key in list(keys):
            value = find(key)
            if not value:
                continue
            key_data[:] = key
            count += 1
            if visit(key_address, value):
                break
    finally:
        memory.drop(key_address)
    return count


class HashMap(EngineMap):
    """BPF_MAP_TYPE_HASH.

    `values` holds the bytes and `addresses` where those are that a program has asked for.
    """

    kinds: ClassVar[tuple[str, ...]] = ("HASH",)

    def __init__(self, spec: MapSpec, shared: Shared) -> None:
        super().__init__(spec, shared)
        self.values: dict[bytes, bytearray] = {}
        self.addresses: dict[bytes, int] = {}

    def lookup(self, key: bytes) -> int:
        return self.addresses.get(key) or self._place(key)

    def _place(self, key: bytes) -> int:
        value = self.values.get(key)
        if value is None:
            return 0
        address = self.memory.add(value, self.writable, self.spec.name)
        self.addresses[key] = address
        return address

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        if flags:
            if flags & ~BPF_F_LOCK > BPF_EXIST:
                return -errno.EINVAL
            if flags & BPF_NOEXIST and key in self.values:
                return -errno.EEXIST
            if flags & BPF_EXIST and key not in self.values:
                return -errno.ENOENT
        old = self.values.get(key)
        if old is not None:
            if key not in self.addresses or flags & BPF_F_LOCK:
                old[:] = value
                return 0
            # Who holds the old value's address goes on to see the old value.
            self.shared.retired.append(self.addresses.pop(key))
            if self.moved is not None:
                self.moved(key)
        elif len(self.values) >= self.max_entries:
            return -errno.E2BIG
        self.values[key] = bytearray(value)
        return 0

    def delete(self, key: bytes) -> int:
        if self.values.pop(key, None) is None:
            return -errno.ENOENT
        address = self.addresses.pop(key, 0)
        if address:
            self.shared.retired.append(address)
            if self.moved is not None:
                self.moved(key)
        return 0

    def for_each(self, visit: Callable[[int, int], int]) -> int:
        addresses = self.addresses
        return visit_all(self, self.values, lambda key: addresses.get(key) or self._place(key), visit)

    # --- user space

    def get(self, key: bytes) -> bytes | None:
        value = self.values.get(key)
        return None if value is None else bytes(value)

    def put(self, key: bytes, value: bytes) -> None:
        self.check_write("update", key, value)
        self.done("update", self.update(key, value, BPF_ANY))

    def remove(self, key: bytes) -> bool:
        self.check_write("delete", key)
        return self.delete(key) == 0

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        for key, value in list(self.values.items()):
            yield key, bytes(value)


class LruHashMap(HashMap):
    """BPF_MAP_TYPE_LRU_HASH: a new key makes room for itself.

    The kernel keeps the order of use only roughly; here it is exact.  As there, what user space reads does not
    count as use.
    """

    kinds = ("LRU_HASH",)
    values: OrderedDict[bytes, bytearray]

    def __init__(self, spec: MapSpec, shared: Shared) -> None:
        super().__init__(spec, shared)
        self.values = OrderedDict()

    def lookup(self, key: bytes) -> int:
        address = self.addresses.get(key) or self._place(key)
        if address:
            self.values.move_to_end(key)
        return address

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        if key in self.values:
            result = super().update(key, value, flags)
            self.values.move_to_end(key)
            return result
        if flags & BPF_EXIST or flags > BPF_F_LOCK:
            return super().update(key, value, flags)
        if len(self.values) >= self.max_entries:
            self.delete(next(iter(self.values)))
        return super().update(key, value, flags)


class PerCpuHashMap(EngineMap):
    """BPF_MAP_TYPE_PERCPU_HASH: each processor has a value of its own under a key.

    `values` has a list under each key, with the bytes of each processor; `addresses` a table for each processor.
    """

    kinds: ClassVar[tuple[str, ...]] = ("PERCPU_HASH",)
    per_cpu = True

    def __init__(self, spec: MapSpec, shared: Shared) -> None:
        super().__init__(spec, shared)
        self.values: dict[bytes, list[bytearray]] = {}
        self.addresses: list[dict[bytes, int]] = [{} for _ in range(self.cpus)]
        self.padding = bytes(self.slot - self.value_size)

    def lookup(self, key: bytes) -> int:
        cpu = self.shared.cpu
        return self.addresses[cpu].get(key) or self._place(key, cpu)

    def lookup_on(self, key: bytes, cpu: int) -> int:
        if cpu >= self.cpus:
            return 0
        return self.addresses[cpu].get(key) or self._place(key, cpu)

    def _place(self, key: bytes, cpu: int) -> int:
        values = self.values.get(key)
        if values is None:
            return 0
        address = self.memory.add(values[cpu], self.writable, self.spec.name)
        self.addresses[cpu][key] = address
        return address

    def _check_flags(self, key: bytes, flags: int) -> int:
        if flags > BPF_EXIST:
            return -errno.EINVAL
        if flags == BPF_NOEXIST and key in self.values:
            return -errno.EEXIST
        if flags == BPF_EXIST and key not in self.values:
            return -errno.ENOENT
        return 0

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        """Set this processor's value; those of a new key are zero for the others."""
        if flags:
            failed = self._check_flags(key, flags)
            if failed:
                return failed
        values = self.values.get(key)
        if values is None:
            if not self._make_room():
                return -errno.E2BIG
            values = self.values[key] = [bytearray(self.value_size) for _ in range(self.cpus)]
        values[self.shared.cpu][:] = value
        return 0

    def _make_room(self) -> bool:
        """Whether there is room for another key."""
        return len(self.values) < self.max_entries

    def delete(self, key: bytes) -> int:
        if self.values.pop(key, None) is None:
            return -errno.ENOENT
        for addresses in self.addresses:
            address = addresses.pop(key, 0)
            if address:
                self.shared.retired.append(address)
                if self.moved is not None:
                    self.moved(key)
        return 0

    def for_each(self, visit: Callable[[int, int], int]) -> int:
        cpu = self.shared.cpu
        addresses = self.addresses[cpu]
        return visit_all(self, self.values, lambda key: addresses.get(key) or self._place(key, cpu), visit)

    # --- user space

    def _joined(self, values: list[bytearray]) -> bytes:
        if len(values) == 1 and not self.padding:
            return bytes(values[0])
        return b"".join([value + self.padding for value in values])

    def get(self, key: bytes) -> bytes | None:
        values = self.values.get(key)
        return None if values is None else self._joined(values)

    def put(self, key: bytes, value: bytes) -> None:
        """Set the values of all processors."""
        self.check_write("update", key, value)
        values = self.values.get(key)
        if values is None:
            if not self._make_room():
                raise self.refused("update", errno.E2BIG)
            values = self.values[key] = [bytearray(self.value_size) for _ in range(self.cpus)]
        for cpu, own in enumerate(values):
            own[:] = value[cpu * self.slot : cpu * self.slot + self.value_size]

    def remove(self, key: bytes) -> bool:
        self.check_write("delete", key)
        return self.delete(key) == 0

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        for key, values in list(self.values.items()):
            yield key, self._joined(values)


class LruPerCpuHashMap(PerCpuHashMap):
    """BPF_MAP_TYPE_LRU_PERCPU_HASH."""

    kinds = ("LRU_PERCPU_HASH",)
    values: OrderedDict[bytes, list[bytearray]]

    def __init__(self, spec: MapSpec, shared: Shared) -> None:
        super().__init__(spec, shared)
        self.values = OrderedDict()

    def lookup(self, key: bytes) -> int:
        address = super().lookup(key)
        if address:
            self.values.move_to_end(key)
        return address

    def lookup_on(self, key: bytes, cpu: int) -> int:
        address = super().lookup_on(key, cpu)
        if address:
            self.values.move_to_end(key)
        return address

    def update(self, key: bytes, value: bytes, flags: int) -> int:
        result = super().update(key, value, flags)
        if key in self.values:
            self.values.move_to_end(key)
        return result

    def _make_room(self) -> bool:
        if len(self.values) >= self.max_entries:
            self.delete(next(iter(self.values)))
        return True
