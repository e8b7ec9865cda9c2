"""Helper functions for maps."""

from __future__ import annotations

import errno
from struct import error as StructError
from typing import TYPE_CHECKING

from tracebee.engine.calls.base import MASK32, find_map, no_map, wrong_map
from tracebee.engine.maps.queue import BloomFilterMap

if TYPE_CHECKING:
    from tracebee.engine.runtime import Helper, Runtime


# The first three are what most events do most; so they look into the regions themselves.


def map_lookup_elem(machine: Runtime) -> Helper:
    maps, memory = machine.maps, machine.memory
    readable = memory.readable

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        table = maps.get(r1)
        if table is None:
            raise no_map(r1)
        try:
            (key,) = table.key_at(readable[r2 >> 32], r2 & MASK32)
        except (KeyError, StructError):
            raise memory.fault("read", r2, table.key_size) from None
        return table.lookup(key)

    return call


def map_update_elem(machine: Runtime) -> Helper:
    maps, memory = machine.maps, machine.memory
    readable = memory.readable

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        table = maps.get(r1)
        if table is None:
            raise no_map(r1)
        try:
            (key,) = table.key_at(readable[r2 >> 32], r2 & MASK32)
        except (KeyError, StructError):
            raise memory.fault("read", r2, table.key_size) from None
        try:
            (value,) = table.value_at(readable[r3 >> 32], r3 & MASK32)
        except (KeyError, StructError):
            raise memory.fault("read", r3, table.value_size) from None
        return table.update(key, value, r4)

    return call


def map_delete_elem(machine: Runtime) -> Helper:
    maps, memory = machine.maps, machine.memory
    readable = memory.readable

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        table = maps.get(r1)
        if table is None:
            raise no_map(r1)
        try:
            (key,) = table.key_at(readable[r2 >> 32], r2 & MASK32)
        except (KeyError, StructError):
            raise memory.fault("read", r2, table.key_size) from None
        return table.delete(key)

    return call


def map_lookup_percpu_elem(machine: Runtime) -> Helper:
    maps, read = machine.maps, machine.memory.read

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        table = find_map(maps, r1)
        return table.lookup_on(read(r2, table.key_size), r3 & MASK32)

    return call


def map_push_elem(machine: Runtime) -> Helper:
    maps, read = machine.maps, machine.memory.read

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        table = find_map(maps, r1)
        return table.push(read(r2, table.value_size), r3)

    return call


def map_pop_elem(machine: Runtime) -> Helper:
    maps, write = machine.maps, machine.memory.write

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        table = find_map(maps, r1)
        value = table.pop()
        write(r2, bytes(table.value_size) if value is None else value)
        return -errno.ENOENT if value is None else 0

    return call


def map_peek_elem(machine: Runtime) -> Helper:
    maps, read, write = machine.maps, machine.memory.read, machine.memory.write

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        table = find_map(maps, r1)
        if isinstance(table, BloomFilterMap):
            return 0 if table.contains(read(r2, table.value_size)) else -errno.ENOENT
        value = table.peek()
        write(r2, bytes(table.value_size) if value is None else value)
        return -errno.ENOENT if value is None else 0

    return call


def for_each_map_elem(machine: Runtime) -> Helper:
    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        if r4:
            return -errno.EINVAL
        table = find_map(machine.maps, r1)
        result = table.for_each(lambda key, value: machine.invoke(r2, r1, key, value, r3))
        if result < 0:
            raise wrong_map(table, "for_each_map_elem")
        return result

    return call


def spin_lock(machine: Runtime) -> Helper:
    """Programs of a machine run one at a time, so that there is nobody to lock out."""
    read = machine.memory.read

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        read(r1, 4)
        return 0

    return call


MAKERS = {
    "map_lookup_elem": map_lookup_elem,
    "map_update_elem": map_update_elem,
    "map_delete_elem": map_delete_elem,
    "map_lookup_percpu_elem": map_lookup_percpu_elem,
    "map_push_elem": map_push_elem,
    "map_pop_elem": map_pop_elem,
    "map_peek_elem": map_peek_elem,
    "for_each_map_elem": for_each_map_elem,
    "spin_lock": spin_lock,
    "spin_unlock": spin_lock,
}
