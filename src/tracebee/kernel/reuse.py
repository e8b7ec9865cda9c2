"""Maps that are there already: pinned by name, or given by descriptor.  They have to be what the object asks for."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from tracebee.errors import SyscallError, UsageError
from tracebee.kernel.maps import KernelMap
from tracebee.syscalls import _uapi as uapi
from tracebee.syscalls import bpf, bpfids

if TYPE_CHECKING:
    from tracebee.spec.objects import MapSpec

SET_BY_KERNEL = 1 << 7 | 1 << 16
"""Flags that the kernel sets on some maps by itself: BPF_F_RDONLY_PROG on device maps, BPF_F_VTYPE_BTF_OBJ_FD."""

DEVICE_MAPS = ("DEVMAP", "DEVMAP_HASH")


def open_pinned(spec: MapSpec, path: str, cpus: int) -> KernelMap | None:
    """The map that is pinned at a path, or None.

    Raises UsageError, which names each difference, if it is not what `spec` says; SyscallError.
    """
    try:
        fd = bpfids.object_get(path)
    except SyscallError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
    return reused_map(spec, fd, cpus, path)


def reused_map(spec: MapSpec, fd: int, cpus: int, path: str = "") -> KernelMap:
    """The map on a descriptor, which is taken over.  Raises UsageError if it is not what `spec` says."""
    try:
        info = bpf.object_info(fd, uapi.BPF_MAP_INFO_SIZE)
        found = differences(spec, info, cpus)
    except BaseException:
        os.close(fd)
        raise
    if found:
        os.close(fd)
        what = f"the map pinned at {path}" if path else "the map to be used"
        raise UsageError(
            f"{what} is not the object's map {spec.name}: {'; '.join(found)}",
            f"take the pin away (rm {path}), or choose another directory for pins" if path else "",
        )
    return KernelMap(spec, fd, cpus)


def differences(spec: MapSpec, info: bytes, cpus: int) -> list[str]:
    """How a map (struct bpf_map_info) differs from what an object asks for, a phrase each."""

    def number(field: str) -> int:
        return bpf.info_field(info, uapi.BPF_MAP_INFO, field)

    entries = spec.max_entries or (cpus if spec.type == "PERF_EVENT_ARRAY" else 0)
    ignored = SET_BY_KERNEL if spec.type in DEVICE_MAPS else 1 << 16
    kind = {value: name for name, value in reversed(uapi.BPF_MAP_TYPE.items())}.get(number("type"), "unknown")
    found = []
    if uapi.BPF_MAP_TYPE.get(spec.type) != number("type"):
        found.append(f"it is of type {kind}, not {spec.type}")
    for field, name, wanted in (
        ("key_size", "keys of {} bytes", spec.key_size),
        ("value_size", "values of {} bytes", spec.value_size),
        ("max_entries", "{} entries at most", entries),
        ("map_extra", "{} as map_extra", spec.extra),
    ):
        if number(field) != wanted:
            found.append(f"it has {name.format(number(field))}, not {wanted}")
    if number("map_flags") & ~ignored != spec.flags & ~ignored:
        found.append(f"its flags are {number('map_flags'):#x}, not {spec.flags:#x}")
    return found


def pin_map(table: KernelMap, path: str) -> None:
    """Pin a map where others look for it by name.  Raises UsageError where there is no BPF file system."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        bpf.object_pin(table.fd, path)
    except OSError as error:
        raise UsageError(
            f"the map {table.spec.name} cannot be pinned at {path}: {error.strerror}",
            "a pin must lie in a BPF file system: mount -t bpf bpf /sys/fs/bpf",
        ) from error
