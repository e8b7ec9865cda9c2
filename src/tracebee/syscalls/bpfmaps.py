"""The commands of bpf(2) on maps that few sessions need; see `tracebee.syscalls.bpf` for the others.

Each raises SyscallError with the kernel's errno.  Keys, values and other memory are bytes; sizes are bytes.  The
key of a map without keys (queue, stack, Bloom filter) is empty, for which the kernel wants no address.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from tracebee.syscalls import _uapi as uapi
from tracebee.syscalls.bpf import Attr, Batch, element
from tracebee.syscalls.raw import checked, empty_buffer

if TYPE_CHECKING:
    from collections.abc import Sequence

BPF_EXIST = 2
BPF_F_LOCK = 4

BPF_F_NO_PREALLOC = uapi.MAP_FLAGS["NO_PREALLOC"]
BPF_F_NUMA_NODE = uapi.MAP_FLAGS["NUMA_NODE"]
BPF_F_RDONLY = uapi.MAP_FLAGS["RDONLY"]
BPF_F_WRONLY = uapi.MAP_FLAGS["WRONLY"]
BPF_F_INNER_MAP = uapi.MAP_FLAGS["INNER_MAP"]
"""Flags of BPF_MAP_CREATE (linux/bpf.h)."""

ENOTSUPP = 524
"""The kernel's own errno for what a kind of map does not do."""


def lookup_and_delete(fd: int, key: bytes, value_size: int, flags: int = 0) -> bytes | None:
    """BPF_MAP_LOOKUP_AND_DELETE_ELEM (queues: Linux 4.20, hash maps: 5.14): the value, or None.

    Raises SyscallError with ENOTSUPP, or EINVAL, where the kind of map cannot.
    """
    attr = element(fd, key, flags)
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
