"""What an errno means that the kernel gives for something that was to be done with a map.

The kernel answers with a number alone, and most numbers mean many things.  What they mean follows from the kind of
map, from what was asked and from what is known of the map: all of that is in the tables here, which look at no
machine.  Sources: kernel/bpf/syscall.c, hashtab.c, arraymap.c, map_in_map.c, queue_stack_maps.c, lpm_trie.c,
bloom_filter.c, ringbuf.c, stackmap.c of Linux 6.18; sizes and flags of a new map: the functions ``*_alloc_check``.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from tracebee.errors import MapError
from tracebee.syscalls.bpf import BPF_ANY, BPF_NOEXIST
from tracebee.syscalls.bpfmaps import (
    BPF_EXIST,
    BPF_F_INNER_MAP,
    BPF_F_LOCK,
    BPF_F_NO_PREALLOC,
    BPF_F_RDONLY,
    BPF_F_WRONLY,
    ENOTSUPP,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.spec.objects import MapSpec

OUTER = ("ARRAY_OF_MAPS", "HASH_OF_MAPS")
PER_CPU = ("PERCPU_HASH", "LRU_PERCPU_HASH", "PERCPU_ARRAY", "PERCPU_CGROUP_STORAGE")
HASHES = ("HASH", "PERCPU_HASH", "LRU_HASH", "LRU_PERCPU_HASH", "HASH_OF_MAPS")
VALUE_ARRAYS = ("ARRAY", "PERCPU_ARRAY")
"""Arrays whose elements are always there."""
OBJECT_ARRAYS = ("PROG_ARRAY", "PERF_EVENT_ARRAY", "CGROUP_ARRAY", "ARRAY_OF_MAPS")
"""Arrays of other objects: written as descriptors, and empty at first."""
ARRAYS = VALUE_ARRAYS + OBJECT_ARRAYS
KEYLESS = ("QUEUE", "STACK", "BLOOM_FILTER")
RINGS = ("RINGBUF", "USER_RINGBUF")
STORAGES = ("SK_STORAGE", "INODE_STORAGE", "TASK_STORAGE", "CGRP_STORAGE")

CREATE, LOOKUP, UPDATE, DELETE, NEXT_KEY = "create", "lookup", "update", "delete", "next key"
PUSH, POP, PEEK, FREEZE, PIN = "push", "pop", "peek", "freeze", "pin"

PAGE = 4096


class Call(NamedTuple):
    """What was asked of a map, and the errno that came.

    `flags` are those of an update.  For a map of maps, `inner` is the map that was to be put in, and `template`
    what is known of those that fit.
    """

    spec: MapSpec
    operation: str
    errno: int
    key: bytes = b""
    flags: int = 0
    inner: MapSpec | None = None
    template: MapSpec | None = None

    @property
    def number(self) -> int:
        """The key of an array."""
        return int.from_bytes(self.key, "little")


class Rule(NamedTuple):
    """When it applies, and what it says; texts may name fields of the map's specification, and `index`."""

    errno: int | tuple[int, ...]
    operations: tuple[str, ...]
    kinds: tuple[str, ...] | None
    reason: str | Callable[[Call], str]
    hint: str = ""
    when: Callable[[Call], bool] | None = None

    def fits(self, call: Call) -> bool:
        numbers = self.errno if isinstance(self.errno, tuple) else (self.errno,)
        return (
            call.errno in numbers
            and call.operation in self.operations
            and (self.kinds is None or call.spec.type in self.kinds)
            and (self.when is None or self.when(call))
        )


def explain(call: Call) -> tuple[str, str]:
    """Why it was refused, and what can be tried; the C library's words where nothing is known."""
    for rule in RULES:
        if rule.fits(call):
            reason = rule.reason if isinstance(rule.reason, str) else rule.reason(call)
            if not reason:
                continue
            facts: dict[str, object] = {name: getattr(call.spec, name) for name in call.spec.__match_args__}
            facts |= {"index": call.number, "last": call.spec.max_entries - 1}
            if isinstance(rule.reason, str):
                reason = reason.format(**facts)
            return reason, rule.hint.format(**facts)
    return os.strerror(call.errno) if call.errno != ENOTSUPP else "not supported for this kind of map", ""


def map_error(call: Call, system_call: str = "") -> MapError:
    """The error that says so."""
    reason, hint = explain(call)
    return MapError(call.spec.name, call.operation, call.errno, reason, hint, system_call)


# --- maps of maps


def differences(template: MapSpec, inner: MapSpec) -> list[str]:
    """In what a map differs from those that a map of maps takes (bpf_map_meta_equal, array_map_meta_equal)."""
    found = [
        f"its {what} is {_shown(given)}, and must be {_shown(wanted)}"
        for what, given, wanted in (
            ("type", inner.type, template.type),
            ("key size", inner.key_size, template.key_size),
            ("value size", inner.value_size, template.value_size),
        )
        if given != wanted
    ]
    if inner.flags != template.flags:
        found.append(f"its flags are {inner.flags:#x}, and must be {template.flags:#x}")
    sized = template.type == "ARRAY" and not template.flags & BPF_F_INNER_MAP
    if sized and inner.max_entries != template.max_entries:
        found.append(f"it has {inner.max_entries} entries, and must have {template.max_entries}")
    return found


def _shown(value: int | str) -> str:
    return f"{value} bytes" if isinstance(value, int) else value


def _unlike(call: Call) -> str:
    if call.inner is None or call.template is None:
        return ""
    found = differences(call.template, call.inner)
    return f"map {call.inner.name!r} does not fit in: {'; '.join(found)}" if found else ""


def _impossible_inner(call: Call) -> str:
    """Why no map of maps can have such maps."""
    inner = call.spec.inner
    if inner is None:
        return ""
    if inner.type in OUTER:
        return "the inner maps are maps of maps themselves: one level is all that the kernel has"
    if inner.type in ("PROG_ARRAY", "STRUCT_OPS", "CGROUP_STORAGE", "PERCPU_CGROUP_STORAGE"):
        return f"a map of maps cannot hold maps of type {inner.type}"
    return ""


# --- new maps


def creation_fault(spec: MapSpec) -> str:
    """What is wrong with a new map's sizes or flags; empty if nothing is known to be."""
    kind, key, value, entries = spec.type, spec.key_size, spec.value_size, spec.max_entries
    if kind in RINGS:
        if key or value:
            return "a ring buffer has no keys and no values: both sizes must be 0"
        if entries < PAGE or entries & (entries - 1):
            return f"the bytes of a ring buffer must be a power of two and whole pages, not {entries}"
        return ""
    if kind in KEYLESS and key:
        return f"a map of type {kind} has no keys: the size of a key must be 0"
    if kind in (*ARRAYS, "STACK_TRACE", "DEVMAP", "SOCKMAP", "CPUMAP", "XSKMAP") and key != 4:
        return f"keys of a map of type {kind} are indexes of 4 bytes, not {key}"
    if kind in (*OBJECT_ARRAYS, "HASH_OF_MAPS") and value != 4:
        return f"values of a map of type {kind} are descriptors of 4 bytes, not {value}"
    if kind == "STACK_TRACE" and (value < 8 or value % 8):
        return f"a stack is made of addresses of 8 bytes, not of {value} bytes"
    if kind in STORAGES:
        if key != 4 or entries or not spec.flags & BPF_F_NO_PREALLOC:
            return "it needs keys of 4 bytes (descriptors), no entries, and the flag BPF_F_NO_PREALLOC"
        return "" if spec.value_type else "it needs the BTF types of key and value"
    if not key and kind not in KEYLESS:
        return "the size of a key must not be 0"
    if not value:
        return "the size of a value must not be 0"
    if not entries:
        return "there must be room for an entry (max_entries is 0)"
    if kind == "LPM_TRIE":
        if not spec.flags & BPF_F_NO_PREALLOC:
            return "a trie needs the flag BPF_F_NO_PREALLOC"
        if not 5 <= key <= 260:
            return f"a key of a trie is a prefix length of 4 bytes and 1 to 256 bytes behind it, not {key} in all"
    if kind.startswith("LRU") and spec.flags & BPF_F_NO_PREALLOC:
        return "an LRU map keeps its elements ready: BPF_F_NO_PREALLOC is not for it"
    if kind in ARRAYS and spec.flags & BPF_F_NO_PREALLOC:
        return "the elements of an array are always there: BPF_F_NO_PREALLOC is not for it"
    if spec.flags & BPF_F_RDONLY and spec.flags & BPF_F_WRONLY:
        return "BPF_F_RDONLY and BPF_F_WRONLY exclude each other"
    return ""


# --- the table


def _has(flag: int) -> Callable[[Call], bool]:
    return lambda call: bool(call.flags & flag)


def _flag_of_map(flag: int) -> Callable[[Call], bool]:
    return lambda call: bool(call.spec.flags & flag)


def _beyond(call: Call) -> bool:
    return call.number >= call.spec.max_entries


def _no_key(call: Call) -> bool:
    return not call.key and call.spec.key_size > 0


WRITES = (UPDATE, DELETE, PUSH, POP)
READS = (LOOKUP, PEEK, NEXT_KEY)
REFUSED = (errno.EINVAL, errno.EOPNOTSUPP, ENOTSUPP)
"""What kinds of map say to what they do not do; which of them differs from kind to kind."""
CAPABLE = "as root, or with CAP_BPF"

RULES: tuple[Rule, ...] = (
    # New maps.
    Rule(
        errno.EINVAL,
        (CREATE,),
        OUTER,
        "a map of maps needs an inner map that says what the others are like (inner_map_fd)",
        "say it by inner=…, or inner_map on the command line",
        lambda call: call.spec.inner is None,
    ),
    Rule(errno.EINVAL, (CREATE,), OUTER, _impossible_inner),
    Rule(ENOTSUPP, (CREATE,), OUTER, _impossible_inner),
    Rule(
        errno.EBADF,
        (CREATE,),
        OUTER,
        "the descriptor of the inner map is closed or none",
        "keep the inner map open until the outer one is made; afterwards it may be closed",
    ),
    Rule((errno.EINVAL, ENOTSUPP), (CREATE,), None, lambda call: creation_fault(call.spec)),
    Rule(
        errno.EINVAL,
        (CREATE,),
        None,
        "this kernel does not take type {type} with keys of {key_size} and values of {value_size} bytes, "
        "{max_entries} entries and flags {flags:#x}",
        "the kind of map or one of its flags may be newer than the kernel: tracebee --info",
    ),
    Rule(
        errno.EPERM,
        (CREATE,),
        None,
        "maps may not be made by everybody here, or there is no room under RLIMIT_MEMLOCK",
        f"try {CAPABLE}; before Linux 5.11, ulimit -l unlimited",
    ),
    Rule(
        errno.E2BIG,
        (CREATE,),
        None,
        "it would be too large: {max_entries} entries with keys of {key_size} and values of {value_size} bytes",
    ),
    Rule(errno.ENOMEM, (CREATE,), None, "there is no memory for {max_entries} entries", "use fewer entries"),
    # What may be done at all.
    Rule(
        errno.EPERM,
        WRITES,
        None,
        "the map was made to be read only by user space (BPF_F_RDONLY)",
        "only programs can write it",
        _flag_of_map(BPF_F_RDONLY),
    ),
    Rule(
        errno.EPERM,
        WRITES,
        None,
        "the map is frozen, or was opened to be read only",
        "what is frozen stays so: constants are to be set before the object is loaded",
    ),
    Rule(
        errno.EPERM,
        READS,
        None,
        "the map was made to be written only by user space (BPF_F_WRONLY)",
        "only programs can read it",
        _flag_of_map(BPF_F_WRONLY),
    ),
    Rule(
        errno.EPERM,
        (PIN,),
        None,
        "it can only be pinned in a BPF file system, under a name without a dot",
        "such as /sys/fs/bpf/name",
    ),
    Rule(errno.EPERM, (FREEZE,), None, "it is frozen already, or was opened to be read only"),
    Rule(errno.EPERM, READS, None, "a right is missing", f"try {CAPABLE}"),
    Rule(
        errno.EBADF,
        (UPDATE,),
        OUTER,
        "the descriptor of the inner map is closed, or none of a map",
        "a map of maps is written with descriptors, and read as ids",
    ),
    Rule(
        errno.EBADF,
        (UPDATE,),
        ("PROG_ARRAY",),
        "the value is no open descriptor",
        "write the descriptor of a program; what is read are ids",
    ),
    Rule(errno.EBADF, (UPDATE,), ("PERF_EVENT_ARRAY", "CGROUP_ARRAY"), "the value is no open descriptor"),
    Rule(errno.EBADF, (*WRITES, *READS, FREEZE, PIN), None, "the map is closed"),
    # Kinds that have no elements by key.
    Rule(
        REFUSED,
        (LOOKUP, UPDATE, DELETE, NEXT_KEY),
        RINGS,
        "a ring buffer has no elements",
        "read its records: Ring.open, or tracebee map event_pipe",
    ),
    Rule(
        REFUSED,
        (PUSH, POP, PEEK),
        None,
        "only queues, stacks and Bloom filters have it",
        when=lambda call: call.spec.type not in KEYLESS,
    ),
    Rule(REFUSED, (POP, DELETE), ("BLOOM_FILTER",), "nothing can be taken out of a Bloom filter"),
    Rule(
        REFUSED,
        (LOOKUP, DELETE, NEXT_KEY),
        KEYLESS,
        "a map of type {type} has no keys",
        "use push, pop and peek",
    ),
    Rule(REFUSED, (UPDATE,), KEYLESS, "a map of type {type} has no keys", "use push"),
    Rule(REFUSED, (UPDATE, DELETE), ("STACK_TRACE",), "only programs put stacks in (bpf_get_stackid)"),
    Rule(
        REFUSED,
        (LOOKUP,),
        ("PERF_EVENT_ARRAY", "CGROUP_ARRAY"),
        "its elements can only be used by programs",
        "what is written into it are descriptors; records are read with event_pipe",
    ),
    Rule(REFUSED, (DELETE,), VALUE_ARRAYS, "the elements of an array are always there", "set it to zero"),
    Rule(REFUSED, (NEXT_KEY,), STORAGES, "the kernel has no list of its elements", "ask for a key"),
    Rule(
        errno.ENOSPC,
        (LOOKUP,),
        ("SOCKMAP", "SOCKHASH", "REUSEPORT_SOCKARRAY"),
        "sockets can be read as cookies of 8 bytes only, and its values have {value_size}",
    ),
    # Writing.
    Rule(
        errno.E2BIG,
        (LOOKUP, UPDATE, DELETE),
        ARRAYS,
        "index {index} is beyond the last one, {last}",
        when=_beyond,
    ),
    Rule(
        errno.E2BIG,
        (UPDATE,),
        HASHES,
        "it is full: there are {max_entries} entries",
        "remove some, or make it with more",
    ),
    Rule(errno.ENOSPC, (UPDATE,), ("LPM_TRIE",), "it is full: there are {max_entries} entries"),
    Rule(
        errno.E2BIG,
        (PUSH,),
        ("QUEUE", "STACK"),
        "it is full: there are {max_entries} entries",
        "pop some, or push with EXIST, which drops the oldest",
    ),
    Rule(
        errno.EEXIST,
        (UPDATE,),
        VALUE_ARRAYS,
        "the elements of an array are always there, so NOEXIST never fits",
    ),
    Rule(errno.EEXIST, (UPDATE,), None, "the key is there, and was not to be (NOEXIST)"),
    Rule(errno.ENOENT, (UPDATE,), None, "the key is not there, and was to be (EXIST)", when=_has(BPF_EXIST)),
    Rule(
        errno.ENOENT,
        (LOOKUP, DELETE),
        VALUE_ARRAYS,
        "index {index} is beyond the last one, {last}",
        when=_beyond,
    ),
    Rule(errno.ENOENT, (LOOKUP, DELETE), None, "the key is not there"),
    Rule(errno.ENOENT, (POP, PEEK), ("QUEUE", "STACK"), "it is empty"),
    Rule(
        errno.EINVAL,
        (UPDATE,),
        ("ARRAY_OF_MAPS", "PROG_ARRAY", "PERF_EVENT_ARRAY", "CGROUP_ARRAY"),
        "only the flag ANY can be used with a map of type {type}",
        when=lambda call: call.flags != BPF_ANY,
    ),
    Rule(errno.EINVAL, (UPDATE,), OUTER, _unlike, "make it as the template of the outer map is"),
    Rule(
        errno.EINVAL,
        (UPDATE,),
        OUTER,
        "the map does not fit in: type, sizes, flags and, for arrays, entries must be those of the template",
        "what an outer map's template was cannot be asked; compare with a map that is in it",
    ),
    Rule(
        errno.EINVAL,
        (UPDATE,),
        ("PROG_ARRAY",),
        "it is no program, or of another type than those that the array is used with",
    ),
    Rule(
        errno.EINVAL,
        (LOOKUP, UPDATE),
        None,
        "its values have no lock (struct bpf_spin_lock)",
        when=_has(BPF_F_LOCK),
    ),
    Rule(
        errno.EINVAL,
        (UPDATE,),
        None,
        "NOEXIST and EXIST exclude each other",
        when=lambda call: call.flags & 3 == BPF_NOEXIST | BPF_EXIST,
    ),
    Rule(
        errno.EINVAL,
        (UPDATE, LOOKUP, DELETE),
        ("LPM_TRIE",),
        lambda call: f"a prefix of {int.from_bytes(call.key[:4], 'little')} bits is longer than its keys",
        when=lambda call: int.from_bytes(call.key[:4], "little") > 8 * (len(call.key) - 4),
    ),
    Rule(errno.EINVAL, (LOOKUP, UPDATE, DELETE), None, "a key is missing", when=_no_key),
    Rule(errno.EBUSY, (UPDATE, DELETE), None, "another CPU was changing the same part of it", "try again"),
    Rule(errno.ENOMEM, (UPDATE,), None, "there is no memory for another element"),
    # The map as a whole.
    Rule(errno.EBUSY, (FREEZE,), None, "it is frozen already, or somebody is writing it"),
    Rule(REFUSED, (FREEZE,), None, "it cannot be frozen: its values hold timers, locks or pointers"),
    Rule(errno.EEXIST, (PIN,), None, "there is something at that path"),
    Rule(errno.ENOENT, (PIN,), None, "the directory is not there", "make it first, in a BPF file system"),
)
"""The first rule that fits is used."""
