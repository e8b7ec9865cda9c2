"""A kernel map: bytes in, bytes out."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from tracebee.errors import SyscallError
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.spec.objects import MapSpec

_BATCH = 512


class KernelMap:
    """A map on a descriptor.  `value_bytes` is the size of a value as user space sees it: for per-CPU maps
    the values of all possible CPUs, each rounded up to 8 bytes."""

    def __init__(self, spec: MapSpec, fd: int, cpus: int) -> None:
        self.spec = spec
        self.fd = fd
        self.cpus = cpus if "PERCPU" in spec.type else 1
        self.slot = (spec.value_size + 7) // 8 * 8 if "PERCPU" in spec.type else spec.value_size
        self.value_bytes = self.slot * self.cpus

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    @property
    def is_array(self) -> bool:
        return "ARRAY" in self.spec.type

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        return bpf.map_lookup(self.fd, key, self.value_bytes)

    def put(self, key: bytes, value: bytes) -> None:
        """Set the value of a key."""
        bpf.map_update(self.fd, key, value)

    def remove(self, key: bytes) -> bool:
        """Remove a key; whether it was there."""
        return bpf.map_delete(self.fd, key)

    def keys(self) -> Iterator[bytes]:
        """All keys, in the kernel's order."""
        for key, _ in self.items():
            yield key

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys and values.  Elements that come or go meanwhile may be missed or seen."""
        try:
            yield from self._batches()
        except SyscallError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSPC, errno.EOPNOTSUPP, 524):
                raise
            # No batches for this kind of map or on this kernel, or a bucket larger than a batch.
            yield from self._one_by_one()

    def _batches(self) -> Iterator[tuple[bytes, bytes]]:
        size, value_size = self.spec.key_size, self.value_bytes
        position = None
        count = max(64, min(_BATCH, self.spec.max_entries))
        seen_any = False
        while True:
            try:
                batch = bpf.map_lookup_batch(self.fd, position, count, size, value_size)
            except SyscallError as error:
                if error.errno == errno.ENOSPC and count < 1 << 16:
                    count *= 4
                    continue
                if seen_any and error.errno == errno.EINVAL:
                    return
                raise
            seen_any = True
            for index in range(batch.length):
                yield (
                    batch.keys[index * size : (index + 1) * size],
                    batch.values[index * value_size : (index + 1) * value_size],
                )
            if batch.position is None:
                return
            position = batch.position

    def _one_by_one(self) -> Iterator[tuple[bytes, bytes]]:
        key = bpf.map_next_key(self.fd, None, self.spec.key_size)
        seen = 0
        while key is not None and seen < 2 * self.spec.max_entries:
            following = bpf.map_next_key(self.fd, key, self.spec.key_size)
            value = self.get(key)
            if value is not None:
                yield key, value
            key = following
            seen += 1

    def clear(self) -> None:
        """Remove all elements; those of an array become zero."""
        if self.is_array:
            for index in range(self.spec.max_entries):
                self.put(index.to_bytes(4, "little"), bytes(self.value_bytes))
            return
        for key in [key for key, _ in self.items()]:
            self.remove(key)
