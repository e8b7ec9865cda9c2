"""The commands of bpf(2) on maps that few sessions need; see `tracebee.syscalls.bpf` for the others.

Each raises SyscallError with the kernel's errno.  Keys, values and other memory are bytes; sizes are bytes.  The
key of a map without keys (queue, stack, Bloom filter) is empty, for which the kernel wants no address.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from tracebee.syscalls import _uapi as uapi
from tracebee.syscalls.bpf import Attr, Batch, object_name
from tracebee.syscalls.raw import checked, empty_buffer

if TYPE_CHECKING:
    from collections.abc import Sequence

BPF_ANY = 0
BPF_NOEXIST = 1
BPF_EXIST = 2
BPF_F_LOCK = 4

BPF_F_NO_PREALLOC = 1 << 0
BPF_F_NO_COMMON_LRU = 1 << 1
BPF_F_NUMA_NODE = 1 << 2
BPF_F_RDONLY = 1 << 3
BPF_F_WRONLY = 1 << 4
BPF_F_STACK_BUILD_ID = 1 << 5
BPF_F_ZERO_SEED = 1 << 6
BPF_F_RDONLY_PROG = 1 << 7
BPF_F_WRONLY_PROG = 1 << 8
BPF_F_CLONE = 1 << 9
BPF_F_MMAPABLE = 1 << 10
BPF_F_PRESERVE_ELEMS = 1 << 11
BPF_F_INNER_MAP = 1 << 12
BPF_F_LINK = 1 << 13
"""Flags of BPF_MAP_CREATE (linux/bpf.h)."""

ENOTSUPP = 524
"""The kernel's own errno for what a kind of map does not do."""


def create(
    kind: int,
    key_size: int,
    value_size: int,
    max_entries: int,
    *,
    flags: int = 0,
    name: str = "",
    inner_map_fd: int | None = None,
    numa_node: int | None = None,
    extra: int = 0,
    ifindex: int = 0,
    btf_fd: int = 0,
    key_type: int = 0,
    value_type: int = 0,
    vmlinux_value_type: int = 0,
) -> int:
    """BPF_MAP_CREATE with all there is to say; `kind` is a number of enum bpf_map_type.  Returns a descriptor."""
    attr = Attr(uapi.ATTR_MAP_CREATE).set(
        map_type=kind,
        key_size=key_size,
        value_size=value_size,
        max_entries=max_entries,
        map_flags=flags | (BPF_F_NUMA_NODE if numa_node is not None else 0),
        map_name=object_name(name),
        map_ifindex=ifindex,
        map_extra=extra,
    )
    if inner_map_fd is not None:
        attr.set(inner_map_fd=inner_map_fd)
    if numa_node is not None:
        attr.set(numa_node=numa_node)
    if btf_fd:
        attr.set(
            btf_fd=btf_fd,
            btf_key_type_id=key_type,
            btf_value_type_id=value_type,
            btf_vmlinux_value_type_id=vmlinux_value_type,
        )
    return checked("bpf(BPF_MAP_CREATE)", attr.call("MAP_CREATE"), f"map {name!r}")


def _element(fd: int, key: bytes, flags: int) -> Attr:
    attr = Attr(uapi.ATTR_MAP_ELEM).set(map_fd=fd, flags=flags)
    if key:
        attr.memory("key", key)
    return attr


def lookup(fd: int, key: bytes, value_size: int, flags: int = 0, ask: bytes = b"") -> bytes | None:
    """BPF_MAP_LOOKUP_ELEM: the value of a key, or None; without a key, the first element (peek).

    `ask` is what the kernel finds where it will write: the value that a Bloom filter is asked about.
    """
    attr = _element(fd, key, flags)
    value = attr.memory("value", ask.ljust(value_size, b"\0") if ask else empty_buffer(value_size))
    result = attr.call("MAP_LOOKUP_ELEM")
    if result == -errno.ENOENT:
        return None
    checked("bpf(BPF_MAP_LOOKUP_ELEM)", result)
    return value.raw[:value_size]


def update(fd: int, key: bytes, value: bytes, flags: int = BPF_ANY) -> None:
    """BPF_MAP_UPDATE_ELEM; without a key, push."""
    attr = _element(fd, key, flags)
    attr.memory("value", value)
    checked("bpf(BPF_MAP_UPDATE_ELEM)", attr.call("MAP_UPDATE_ELEM"))


def lookup_and_delete(fd: int, key: bytes, value_size: int, flags: int = 0) -> bytes | None:
    """BPF_MAP_LOOKUP_AND_DELETE_ELEM (queues: Linux 4.20, hash maps: 5.14): the value, or None.

    Raises SyscallError with ENOTSUPP, or EINVAL, where the kind of map cannot.
    """
    attr = _element(fd, key, flags)
    value = attr.memory("value", empty_buffer(value_size))
    result = attr.call("MAP_LOOKUP_AND_DELETE_ELEM")
    if result == -errno.ENOENT:
        return None
    checked("bpf(BPF_MAP_LOOKUP_AND_DELETE_ELEM)", result)
    return value.raw[:value_size]


class Progress(NamedTuple):
    """What became of a batch: how many elements were done, and the errno that ended it, or 0."""

    done: int
    errno: int


def _batch(command: str, fd: int, count: int, keys: bytes, values: bytes) -> Progress:
    attr = Attr(uapi.ATTR_MAP_BATCH).set(map_fd=fd, count=count)
    attr.memory("keys", keys)
    if values:
        attr.memory("values", values)
    attr.size = 56
    result = attr.call(command)
    done = attr.get("count")
    # A batch that is refused as a whole leaves the count as it was.
    return Progress(done if result >= 0 or done < count else 0, max(0, -result))


def update_batch(fd: int, keys: Sequence[bytes], values: Sequence[bytes]) -> Progress:
    """BPF_MAP_UPDATE_BATCH (Linux 5.6): set elements, until one fails."""
    return _batch("MAP_UPDATE_BATCH", fd, len(keys), b"".join(keys), b"".join(values))


def delete_batch(fd: int, keys: Sequence[bytes]) -> Progress:
    """BPF_MAP_DELETE_BATCH (Linux 5.6): remove elements, until one is not there or fails."""
    return _batch("MAP_DELETE_BATCH", fd, len(keys), b"".join(keys), b"")


def lookup_and_delete_batch(
    fd: int, position: bytes | None, count: int, key_size: int, value_size: int
) -> Batch:
    """BPF_MAP_LOOKUP_AND_DELETE_BATCH (Linux 5.6, hash maps): as `map_lookup_batch`, and the elements go."""
    attr = Attr(uapi.ATTR_MAP_BATCH).set(map_fd=fd, count=count)
    if position is not None:
        attr.memory("in_batch", position.ljust(max(4, key_size), b"\0"))
    out = attr.memory("out_batch", empty_buffer(max(4, key_size)))
    keys = attr.memory("keys", empty_buffer(count * key_size))
    values = attr.memory("values", empty_buffer(count * value_size))
    result = attr.call("MAP_LOOKUP_AND_DELETE_BATCH")
    found = attr.get("count")
    if result < 0 and result != -errno.ENOENT:
        checked("bpf(BPF_MAP_LOOKUP_AND_DELETE_BATCH)", result)
    following = None if result == -errno.ENOENT else out.raw
    return Batch(keys.raw[: found * key_size], values.raw[: found * value_size], found, following)
