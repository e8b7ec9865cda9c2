"""Programs on control groups without a link, as BPF_PROG_ATTACH leaves them: each group has to be asked."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from tracebee.errors import SyscallError
from tracebee.host.identity import read_cgroup_mounts
from tracebee.syscalls import _uapi as uapi
from tracebee.syscalls import bpfids

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PROGRAM_TYPES = frozenset(
    (
        *(
            "CGROUP_SKB",
            "CGROUP_SOCK",
            "CGROUP_DEVICE",
            "CGROUP_SOCK_ADDR",
            "CGROUP_SYSCTL",
            "CGROUP_SOCKOPT",
        ),
        "SOCK_OPS",
    )
)
"""Types of programs that can hang on a control group."""

MAX_GROUPS = 1 << 14


class CgroupAttachment(NamedTuple):
    """A program on a control group: its path below the mount of cgroup2, and the attach type."""

    path: str
    attach_type: str
    prog_id: int


def read_cgroup_attachments(mounts: Iterable[str] | None = None) -> list[CgroupAttachment]:
    """The programs on the groups below the mounts of cgroup2, links' too; what cannot be asked is left out.

    Kernels that do not know a type of attachment are asked for it once.
    """
    if mounts is None:
        try:
            mounts = [mount.path for mount in read_cgroup_mounts() if mount.version == 2]
        except OSError:
            mounts = []
    types = [name for name in uapi.BPF_ATTACH_TYPE if name.startswith("CGROUP_")]
    found: list[CgroupAttachment] = []
    for mount in mounts:
        for group in _groups(mount):
            try:
                fd = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError:
                continue  # removed meanwhile
            try:
                path = group.removeprefix(mount) or "/"
                found += [CgroupAttachment(path, *one) for one in _on_group(fd, types)]
            finally:
                os.close(fd)
    return list(dict.fromkeys(found))


def _on_group(fd: int, types: list[str]) -> list[tuple[str, int]]:
    """Attach types and programs of one group; types that the kernel does not know go from the list."""
    found: list[tuple[str, int]] = []
    for name in list(types):
        try:
            found += [(name, prog_id) for prog_id in bpfids.prog_query(fd, name)]
        except SyscallError as error:
            if error.errno == errno.EINVAL:
                types.remove(name)
            elif error.errno == errno.EPERM:
                types.clear()
                break
    return found


def _groups(mount: str) -> Iterator[str]:
    """The directories of a hierarchy, parents first."""
    pending = [mount]
    for _ in range(MAX_GROUPS):
        if not pending:
            return
        folder = pending.pop()
        yield folder
        try:
            with os.scandir(folder) as entries:
                deeper = sorted(entry.path for entry in entries if entry.is_dir(follow_symlinks=False))
        except OSError:
            continue
        pending += reversed(deeper)
