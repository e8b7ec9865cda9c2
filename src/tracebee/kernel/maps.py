"""A kernel map: bytes in, bytes out.

The key of a map without keys (queue, stack, Bloom filter) is empty.  What the kernel refuses is a
MapError, which says what the errno means for this kind of map.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from tracebee.errors import NotSupportedError, SyscallError
from tracebee.spec.objects import MapSpec
from tracebee.syscalls import _uapi as uapi
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    _AskBatch = Callable[[int, bytes | None, int, int, int], bpf.Batch]

_BATCH = 512
_BATCH_BYTES = 4 << 20
"""Of the values of one batch; a bucket may still need more."""

_ENOTSUPP = 524

_BATCHED = ("HASH", "PERCPU_HASH", "LRU_HASH", "LRU_PERCPU_HASH", "ARRAY", "PERCPU_ARRAY")
"""Kinds whose batches go by buckets or indexes.  Those of the others go from key to key, and begin again at the first
one when a key has gone."""

_NO_BATCHES = (errno.EINVAL, errno.ENOSPC, errno.EOPNOTSUPP, _ENOTSUPP)

_EMPTIED = ("ARRAY", "PERCPU_ARRAY")
"""Kinds whose elements are always there."""

_UNTYPED = (
    *("PERF_EVENT_ARRAY", "CGROUP_ARRAY", "STACK_TRACE", "ARRAY_OF_MAPS", "HASH_OF_MAPS", "DEVMAP"),
    *("DEVMAP_HASH", "CPUMAP", "XSKMAP", "SOCKMAP", "SOCKHASH", "QUEUE", "STACK", "ARENA", "PROG_ARRAY"),
    *("RINGBUF", "USER_RINGBUF"),
)
"""Kinds that the kernel gives no BTF types (``map_check_no_btf``)."""


class KernelMap:
    """A map on a descriptor.  `value_bytes` is the size of a value as user space sees it: for per-CPU maps
    the values of all possible CPUs, each rounded up to 8 bytes."""

    def __init__(self, spec: MapSpec, fd: int, cpus: int) -> None:
        self.spec = spec
        self.fd = fd
        self.cpus = cpus if "PERCPU" in spec.type else 1
        self.slot = (spec.value_size + 7) // 8 * 8 if "PERCPU" in spec.type else spec.value_size
        self.value_bytes = self.slot * self.cpus

    @classmethod
    def from_fd(cls, fd: int, cpus: int = 0) -> KernelMap:
        """The map of a descriptor, which is closed with it; `cpus` are the possible ones, asked for if not given.

        Raises SyscallError, and closes nothing then.
        """
        spec = spec_of(bpf.object_info(fd, uapi.BPF_MAP_INFO_SIZE))
        if "PERCPU" in spec.type and not cpus:
            from tracebee.host.identity import read_cpus

            cpus = len(read_cpus("possible"))
        return cls(spec, fd, cpus or 1)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    @property
    def is_array(self) -> bool:
        return "ARRAY" in self.spec.type

    def get(self, key: bytes, flags: int = 0) -> bytes | None:
        """The value of a key, or None."""
        try:
            return bpf.map_lookup(self.fd, key, self.value_bytes, flags)
        except SyscallError as error:
            raise self.refused("lookup", error, key, flags) from None

    def put(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """Set the value of a key."""
        try:
            bpf.map_update(self.fd, key, value, flags)
        except SyscallError as error:
            raise self.refused("update", error, key, flags) from None

    def remove(self, key: bytes) -> bool:
        """Remove a key; whether it was there."""
        try:
            return bpf.map_delete(self.fd, key)
        except SyscallError as error:
            raise self.refused("delete", error, key) from None

    def take(self, key: bytes) -> bytes | None:
        """Remove a key; its value, or None.

        Both at once where the kernel can (hash maps since Linux 5.14); else a change in between may be lost.
        """
        from tracebee.syscalls import bpfmaps

        try:
            return bpfmaps.lookup_and_delete(self.fd, key, self.value_bytes)
        except SyscallError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, _ENOTSUPP):
                raise self.refused("delete", error, key) from None
        found = self.get(key)
        return found if found is not None and self.remove(key) else None

    # --- without keys

    def push(self, value: bytes, flags: int = 0) -> None:
        """Put a value into a queue, a stack or a Bloom filter; into a full one with BPF_EXIST, for the oldest."""
        self._check_keyless("push")
        try:
            bpf.map_update(self.fd, b"", value, flags)
        except SyscallError as error:
            raise self.refused("push", error, flags=flags) from None

    def pop(self) -> bytes | None:
        """Take the next value out of a queue or a stack; None if it is empty."""
        from tracebee.syscalls import bpfmaps

        self._check_keyless("pop")
        try:
            return bpfmaps.lookup_and_delete(self.fd, b"", self.value_bytes)
        except SyscallError as error:
            raise self.refused("pop", error) from None

    def peek(self, value: bytes = b"") -> bytes | None:
        """The next value of a queue or a stack, which stays; of a Bloom filter `value` itself if it may be in."""
        self._check_keyless("peek")
        try:
            return bpf.map_lookup(self.fd, b"", self.value_bytes, ask=value)
        except SyscallError as error:
            raise self.refused("peek", error) from None

    def _check_keyless(self, operation: str) -> None:
        if self.spec.type not in ("QUEUE", "STACK", "BLOOM_FILTER"):
            raise self.refused(operation, SyscallError(operation, errno.EOPNOTSUPP))

    # --- many at once

    def put_many(self, elements: Mapping[bytes, bytes]) -> None:
        """Set many elements: in batches where the kernel has them, else one by one.

        Raises MapError for the first that is refused; those before it are set.
        """
        from tracebee.syscalls import bpfmaps

        keys, values = list(elements), list(elements.values())
        step = self._batch_length()
        at = 0
        batched = self.spec.type in _BATCHED
        while at < len(keys):
            if batched:
                progress = bpfmaps.update_batch(self.fd, keys[at : at + step], values[at : at + step])
                at += progress.done
                if not progress.errno:
                    continue
                # What ended the batch is told when it is done alone; a kernel without batches gets all so.
                batched = progress.done > 0
            self.put(keys[at], values[at])
            at += 1

    def remove_many(self, keys: Sequence[bytes]) -> int:
        """Remove many keys, in batches where the kernel has them; how many of them were there."""
        from tracebee.syscalls import bpfmaps

        step = self._batch_length()
        at = removed = 0
        batched = self.spec.type in _BATCHED
        while at < len(keys):
            if batched:
                progress = bpfmaps.delete_batch(self.fd, keys[at : at + step])
                at += progress.done
                removed += progress.done
                if not progress.errno:
                    continue
                batched = progress.errno == errno.ENOENT
            removed += self.remove(keys[at])
            at += 1
        return removed

    def take_all(self) -> Iterator[tuple[bytes, bytes]]:
        """All elements, which are removed: no change in between is lost where the kernel has that (Linux 5.6)."""
        from tracebee.syscalls import bpfmaps

        if self.spec.type in _BATCHED and self.spec.type not in _EMPTIED:
            taken = self._in_batches(bpfmaps.lookup_and_delete_batch)
            try:
                yield from taken
                return
            except SyscallError as error:
                if error.errno not in _NO_BATCHES:
                    raise self.refused("lookup", error) from None
        for key, value in list(self.items()):
            found = self.take(key) if self.spec.type not in _EMPTIED else value
            if found is not None:
                yield key, found
                if self.spec.type in _EMPTIED:
                    self.put(key, bytes(self.value_bytes))

    def _batch_length(self) -> int:
        return max(1, min(_BATCH, _BATCH_BYTES // max(1, self.value_bytes)))

    # --- all of it

    def keys(self) -> Iterator[bytes]:
        """All keys, in the kernel's order."""
        if self.spec.type in (*_BATCHED, "PROG_ARRAY", "ARRAY_OF_MAPS"):
            # Of the latter two, the kernel tells the empty places, too.
            for key, _ in self.items():
                yield key
        else:
            yield from self._walk()

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys and values, each key once.  Elements that come or go meanwhile may be missed or seen."""
        if self.spec.type in _BATCHED:
            try:
                yield from self._in_batches(bpf.map_lookup_batch)
                return
            except SyscallError as error:
                # No batches on this kernel, or a bucket larger than a batch can be.
                if error.errno not in _NO_BATCHES:
                    raise self.refused("lookup", error) from None
        yield from self._one_by_one()

    def _one_by_one(self) -> Iterator[tuple[bytes, bytes]]:
        for key in self._walk():
            value = self.get(key)
            if value is not None:
                yield key, value

    def _in_batches(self, ask: _AskBatch) -> Iterator[tuple[bytes, bytes]]:
        """Raises SyscallError for _NO_BATCHES before the first element only."""
        size, value_size = self.spec.key_size, self.value_bytes
        position = None
        count = max(16, min(_BATCH, self.spec.max_entries, _BATCH_BYTES // max(1, value_size)))
        seen_any = False
        while True:
            try:
                batch = ask(self.fd, position, count, size, value_size)
            except SyscallError as error:
                if error.errno == errno.ENOSPC and count < 1 << 20:
                    count *= 4
                    continue
                if seen_any and error.errno in _NO_BATCHES:
                    raise SyscallError(error.call, errno.EIO, "the map changed while it was read") from None
                raise
            seen_any = seen_any or batch.length > 0
            for index in range(batch.length):
                yield (
                    batch.keys[index * size : (index + 1) * size],
                    batch.values[index * value_size : (index + 1) * value_size],
                )
            if batch.position is None:
                return
            position = batch.position

    def _walk(self) -> Iterator[bytes]:
        """The keys one after the other.

        Behind a key that has gone, the kernel begins again at the first one: keys that were seen are passed over.
        While others add and remove there may be no end; so there is one when all that the map has room for was
        seen twice over, or when a whole round has brought nothing new.
        """
        most = 2 * max(1, self.spec.max_entries)
        seen: set[bytes] = set()
        stale = 0
        key = self.next_key(None)
        while key is not None and len(seen) < most and stale <= 2 * len(seen):
            # The one behind is asked for first: the reader may remove this one.
            following = self.next_key(key)
            if key in seen:
                stale += 1
            else:
                seen.add(key)
                stale = 0
                yield key
            if following is None:
                # The end; or the key that was asked for had gone, and the map was empty for a moment.
                return
            key = following

    def next_key(self, key: bytes | None) -> bytes | None:
        """The key behind `key` in the kernel's order, the first for None or one that has gone; None at the end."""
        try:
            return bpf.map_next_key(self.fd, key, self.spec.key_size)
        except SyscallError as error:
            raise self.refused("next key", error, key or b"") from None

    def clear(self) -> None:
        """Remove all elements; those of an array become zero."""
        if self.spec.type in _EMPTIED:
            for index in range(self.spec.max_entries):
                self.put(index.to_bytes(4, "little"), bytes(self.value_bytes))
            return
        for key in list(self.keys()):
            self.remove(key)

    def freeze(self) -> None:
        """From now on, user space cannot write it (Linux 5.2)."""
        try:
            bpf.map_freeze(self.fd)
        except SyscallError as error:
            raise self.refused("freeze", error) from None

    def pin(self, path: str) -> None:
        """Have a file of a BPF file system that keeps it."""
        try:
            bpf.object_pin(self.fd, path)
        except SyscallError as error:
            raise self.refused("pin", error) from None

    def refused(
        self,
        operation: str,
        error: SyscallError,
        key: bytes = b"",
        flags: int = 0,
        inner: MapSpec | None = None,
    ) -> SyscallError:
        """The error with what it means here."""
        from tracebee.kernel.maprules import Call, map_error

        call = Call(self.spec, operation, error.errno or 0, key, flags, inner, self.spec.inner)
        return map_error(call, error.call)


def spec_of(info: bytes) -> MapSpec:
    """What the kernel tells of a map (struct bpf_map_info)."""

    def field(name: str) -> int:
        return bpf.info_field(info, uapi.BPF_MAP_INFO, name)

    kinds = {number: name for name, number in uapi.BPF_MAP_TYPE.items()}
    offset, size = uapi.BPF_MAP_INFO["name"]
    return MapSpec(
        info[offset : offset + size].partition(b"\0")[0].decode("utf-8", "replace"),
        kinds.get(field("type"), f"type {field('type')}"),
        field("key_size"),
        field("value_size"),
        field("max_entries"),
        field("map_flags"),
        key_type=field("btf_key_type_id"),
        value_type=field("btf_value_type_id"),
        extra=field("map_extra"),
    )


def create_map(
    spec: MapSpec,
    *,
    cpus: int,
    btf_fd: int = 0,
    numa_node: int | None = None,
    inner_fd: int | None = None,
    vmlinux_value_type: int = 0,
) -> KernelMap:
    """Make a map.  What it is to hold from the start, and freezing, is the caller's.

    `btf_fd` is the BTF that its types are in; they are left out where the kernel does not take them.  The template
    of a map of maps is the map `inner_fd`, or is made from `spec.inner` and gone when this returns.  A
    PERF_EVENT_ARRAY that says no number of entries has one for each of the `cpus`, the possible ones.

    Raises MapError, and NotSupportedError for a type that has no number.
    """
    if spec.type not in uapi.BPF_MAP_TYPE:
        raise NotSupportedError(
            f"map {spec.name!r} of type {spec.type}", hint="no kernel is known that has it"
        )
    if spec.type == "PERF_EVENT_ARRAY" and not spec.max_entries:
        fields = {name: getattr(spec, name) for name in MapSpec.__match_args__}
        spec = MapSpec(**{**fields, "max_entries": cpus})
    template = None
    if spec.inner is not None and inner_fd is None:
        template = create_map(spec.inner, btf_fd=btf_fd, cpus=cpus)
        inner_fd = template.fd

    def create(btf: int) -> int:
        return bpf.map_create(
            spec.type,
            spec.key_size,
            spec.value_size,
            spec.max_entries,
            flags=spec.flags,
            name=spec.name,
            inner_map_fd=inner_fd,
            numa_node=numa_node,
            extra=spec.extra,
            btf_fd=btf,
            key_type=spec.key_type,
            value_type=spec.value_type,
            vmlinux_value_type=vmlinux_value_type,
        )

    try:
        typed = btf_fd if spec.type not in _UNTYPED and (spec.value_type or vmlinux_value_type) else 0
        try:
            fd = create(typed)
        except SyscallError as error:
            # Kinds differ in the types that they take, and kernels, too.  EPERM is the same without types.
            if not typed or error.errno == errno.EPERM:
                raise
            fd = create(0)
    except SyscallError as error:
        raise KernelMap(spec, -1, cpus).refused("create", error) from None
    finally:
        if template is not None:
            template.close()
    return KernelMap(spec, fd, cpus)
