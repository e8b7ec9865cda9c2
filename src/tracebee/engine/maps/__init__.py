"""Maps for programs in user space, one module a family; they behave as the kernel's, errors included.

`make_maps` makes those of an object, `make_map` one alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.engine.maps.array import ArrayMap, PerCpuArrayMap
from tracebee.engine.maps.base import EngineMap, Shared
from tracebee.engine.maps.hash import HashMap, LruHashMap, LruPerCpuHashMap, PerCpuHashMap
from tracebee.engine.maps.lpm import LpmTrieMap
from tracebee.engine.maps.nested import ArrayOfMaps, HashOfMaps, ProgramArray
from tracebee.engine.maps.queue import BloomFilterMap, QueueMap, StackMap
from tracebee.engine.maps.ring import PerfEventArrayMap, RingMap
from tracebee.engine.maps.stacks import StackTraceMap
from tracebee.errors import NotSupportedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tracebee.engine.memory import Memory
    from tracebee.spec.objects import MapSpec

__all__ = ["KERNEL_ONLY", "EngineMap", "RingMap", "Shared", "make_map", "make_maps"]

_CLASSES: dict[str, type[EngineMap]] = {
    kind: cls
    for cls in (
        *(HashMap, LruHashMap, PerCpuHashMap, LruPerCpuHashMap, ArrayMap, PerCpuArrayMap, LpmTrieMap),
        *(QueueMap, StackMap, BloomFilterMap, RingMap, PerfEventArrayMap),
        *(ArrayOfMaps, HashOfMaps, ProgramArray, StackTraceMap),
    )
    for kind in cls.kinds
}

_STORAGE = "its values hang on objects inside of the kernel"
_NETWORK = "it steers packets and sockets inside of the kernel"

KERNEL_ONLY = {
    "CGROUP_ARRAY": "it holds control groups of the kernel",
    "CGROUP_STORAGE": _STORAGE,
    "PERCPU_CGROUP_STORAGE": _STORAGE,
    "CGRP_STORAGE": _STORAGE,
    "INODE_STORAGE": _STORAGE,
    "SK_STORAGE": _STORAGE,
    "TASK_STORAGE": _STORAGE,
    "CPUMAP": _NETWORK,
    "DEVMAP": _NETWORK,
    "DEVMAP_HASH": _NETWORK,
    "REUSEPORT_SOCKARRAY": _NETWORK,
    "SOCKHASH": _NETWORK,
    "SOCKMAP": _NETWORK,
    "XSKMAP": _NETWORK,
    "STRUCT_OPS": "it puts functions into the kernel",
    "USER_RINGBUF": "only the kernel reads it",
    "ARENA": "it is memory that the kernel shares with a process",
    "INSN_ARRAY": "it holds addresses inside of programs that the kernel has translated",
}
"""Kinds of map that this engine has not, and why."""


def make_map(spec: MapSpec, memory: Memory, cpus: int = 1, *, shared: Shared | None = None) -> EngineMap:
    """A map by its specification; `shared` is what it has together with the other maps of a machine.

    Raises NotSupportedError for a kind that only the kernel has, and UsageError where the kernel would refuse
    to make such a map.
    """
    cls = _CLASSES.get(spec.type)
    if cls is None:
        why = KERNEL_ONLY.get(spec.type)
        if why is None:
            raise UsageError(f"map {spec.name}: there is no type of map called {spec.type!r}")
        raise NotSupportedError(
            f"map {spec.name} of type {spec.type} outside of the kernel",
            hint=f"{why}; the kernel backend has it",
        )
    return cls(spec, shared or Shared(memory, cpus))


def make_maps(
    specs: Iterable[MapSpec], shared: Shared, programs: Mapping[str, int] | None = None
) -> dict[str, EngineMap]:
    """The maps of an object by name, with what they hold from the start.

    `programs` gives the machine's numbers of the programs that may be put into program arrays.  Raises what
    `make_map` raises, and UsageError for an entry that names nothing.
    """
    made = {spec.name: make_map(spec, shared.memory, shared=shared) for spec in specs}
    for outer in made.values():
        for index, name in outer.spec.entries:
            key = index.to_bytes(outer.key_size, "little")
            if isinstance(outer, ProgramArray) and name in (programs or {}):
                outer.put(key, (programs or {})[name].to_bytes(4, "little"))
            elif isinstance(outer, ArrayOfMaps | HashOfMaps) and name in made:
                outer.set_inner(key, made[name])
            else:
                raise UsageError(f"map {outer.spec.name}: there is no {name!r} for its entry {index}")
    return made
