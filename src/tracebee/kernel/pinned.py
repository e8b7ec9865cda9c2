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


def pin_object(fd: int, path: str) -> None:
    """Pin an object at a path, which keeps it alive until the file is removed.

    Raises TargetError where that cannot be: the file is there already, or it is no bpf file system.
    """
    from tracebee.errors import TargetError
    from tracebee.syscalls import bpf

    try:
        bpf.object_pin(fd, path)
    except SyscallError as error:
        folder = os.path.dirname(os.path.abspath(path))
        reasons = {
            errno.EEXIST: ("there is such a file already", "choose another name, or remove the file"),
            errno.ENOENT: ("the directory does not exist", f"`mkdir -p {folder}`"),
            errno.EPERM: _no_bpffs(folder),
            errno.EINVAL: _no_bpffs(folder),
            errno.EACCES: ("not ours to write", "run as root, or as the owner of the directory"),
            errno.ENAMETOOLONG: ("the name is too long", ""),
        }
        found = reasons.get(error.errno or 0)
        if found is None:
            raise
        raise TargetError(path, *found) from error


def _no_bpffs(folder: str) -> tuple[str, str]:
    """What EPERM and EINVAL mean: the directory is of another file system, or the name has a dot in it."""
    mounts = read_bpf_mounts()
    if any(folder == mount or folder.startswith(mount.rstrip("/") + "/") for mount in mounts):
        return "cannot be a name in a bpf file system", "names there have no dot in them"
    where = (
        f"bpf file systems are at {', '.join(mounts)}"
        if mounts
        else "`mount -t bpf bpf /sys/fs/bpf` makes one"
    )
    return "not in a bpf file system", where
