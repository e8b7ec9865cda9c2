"""Where objects are pinned: the files of the bpf file systems that are mounted here."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from tracebee.errors import SyscallError
from tracebee.host.bpffs import bpf_files, read_bpf_mounts
from tracebee.kernel.info import id_of
from tracebee.syscalls import bpfids

if TYPE_CHECKING:
    from collections.abc import Iterable

Pins = dict[tuple[str, int], tuple[str, ...]]

BPF_F_RDONLY = 1 << 3


def read_pins(mounts: Iterable[str] | None = None) -> Pins:
    """The paths by kind and id of the object, of all bpf file systems or of the mounts given.

    What may not be opened is left out, and so are files that are no objects, such as iterators.
    """
    found: dict[tuple[str, int], list[str]] = {}
    for mount in read_bpf_mounts() if mounts is None else mounts:
        for path in bpf_files(mount):
            key = pinned_object(path)
            if key is not None and path not in found.setdefault(key, []):
                found[key].append(path)
    return {key: tuple(paths) for key, paths in found.items()}


def pinned_object(path: str) -> tuple[str, int] | None:
    """Kind and id of what is pinned at a path, or None if it cannot be known."""
    try:
        fd = _get(path)
        try:
            kind = bpfids.kind_of_fd(fd)
            return None if kind is None else (kind, id_of(kind, fd))
        finally:
            os.close(fd)
    except SyscallError:
        return None


def _get(path: str) -> int:
    try:
        return bpfids.object_get(path)
    except SyscallError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            # Of a map guarded against writing.
            return bpfids.object_get(path, BPF_F_RDONLY)
        raise
