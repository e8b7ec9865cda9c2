"""bpf(2): walking what is loaded by id, asking objects about themselves, and asking places what hangs on them.

Each function raises SyscallError with the kernel's errno.  A kind of object is "prog", "map", "link" or "btf".
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from tracebee.errors import SyscallError
from tracebee.syscalls import _uapi as uapi
from tracebee.syscalls.bpf import Attr, Layout
from tracebee.syscalls.raw import address, checked, empty_buffer, write

if TYPE_CHECKING:
    from collections.abc import Mapping

    Area = ctypes.Array[ctypes.c_char]

KINDS = ("prog", "map", "link", "btf")

_NEXT = {kind: f"{kind.upper()}_GET_NEXT_ID" for kind in KINDS}
_BY_ID = {kind: f"{kind.upper()}_GET_FD_BY_ID" for kind in KINDS}

MAX_PROGRAMS = 1 << 16
"""How many programs a place may have before the answer is no longer believed; the kernel's limit is 64."""


def next_id(kind: str, after: int) -> int | None:
    """The smallest id above `after`, or None.  EPERM without CAP_SYS_ADMIN (links: Linux 5.8)."""
    attr = Attr(uapi.ATTR_GET_ID).set(start_id=after)
    attr.size = 12
    result = attr.call(_NEXT[kind])
    if result == -errno.ENOENT:
        return None
    checked(f"bpf(BPF_{_NEXT[kind]})", result)
    return attr.get("next_id")


def fd_by_id(kind: str, object_id: int, flags: int = 0) -> int:
    """A descriptor of an object.  ENOENT if there is none; `flags` is BPF_F_RDONLY or the like, for maps."""
    attr = Attr(uapi.ATTR_GET_ID).set(start_id=object_id, open_flags=flags)
    attr.size = 12
    return checked(f"bpf(BPF_{_BY_ID[kind]})", attr.call(_BY_ID[kind]), f"{kind} id {object_id}")


def object_get(path: str, flags: int = 0) -> int:
    """BPF_OBJ_GET: a descriptor of what is pinned at a path, whatever its kind.

    ENOENT and EACCES as open(2) has them; also EACCES for a file that is not in a bpf file system.
    """
    attr = Attr(uapi.ATTR_OBJ_PIN).set(file_flags=flags)
    attr.memory("pathname", os.fsencode(path) + b"\0")
    return checked("bpf(BPF_OBJ_GET)", attr.call("OBJ_GET"), path)


def read_info(
    fd: int, layout: Layout, size: int, areas: Mapping[str, Area] | None = None, **fields: int
) -> bytes:
    """BPF_OBJ_GET_INFO_BY_FD with memory for what the structure only points at.

    `layout` is the structure's in `_uapi` and `size` its size; `areas` is memory by the name of the field that
    is to point at it, `fields` are numbers, such as the count that says how much room there is.  Returns the
    structure as the kernel has filled it; what an older kernel does not know is 0.
    """
    info = empty_buffer(size)
    values = {**fields, **{name: address(area) for name, area in (areas or {}).items()}}
    for name, value in values.items():
        offset, width = layout[name]
        write(info, offset, value.to_bytes(width, sys.byteorder))
    attr = Attr(uapi.ATTR_INFO).set(bpf_fd=fd, info_len=size)
    attr.memory("info", info)
    checked("bpf(BPF_OBJ_GET_INFO_BY_FD)", attr.call("OBJ_GET_INFO_BY_FD"))
    return info.raw[:size]


class TaskFd(NamedTuple):
    """What a perf event or raw tracepoint of a process runs: `kind` is a name of enum bpf_task_fd_type.

    `name` is the tracepoint, the function or the file; `offset` and `address` belong to probes.
    """

    prog_id: int
    kind: str
    name: str
    offset: int
    address: int


def task_fd_query(pid: int, fd: int) -> TaskFd:
    """BPF_TASK_FD_QUERY (Linux 4.18).  ENOENT and EOPNOTSUPP for descriptors without a program."""
    attr = Attr(uapi.ATTR_TASK_FD_QUERY).set(pid=pid, fd=fd, buf_len=4096)
    name = attr.memory("buf", empty_buffer(4096))
    attr.size = max(attr.size, 48)
    checked("bpf(BPF_TASK_FD_QUERY)", attr.call("TASK_FD_QUERY"), f"pid {pid}, descriptor {fd}")
    number = attr.get("fd_type")
    kind = next((name for name, value in uapi.BPF_TASK_FD_TYPE.items() if value == number), str(number))
    return TaskFd(
        attr.get("prog_id"),
        kind,
        os.fsdecode(name.value),
        attr.get("probe_offset"),
        attr.get("probe_addr"),
    )


def prog_query(target: int, attach_type: str, flags: int = 0) -> tuple[int, ...]:
    """BPF_PROG_QUERY: the ids of the programs at a place, in the order in which they run.

    `target` is a descriptor (a cgroup, a network namespace, a map) or an interface, as the attach type has it.
    """
    room = 64
    while True:
        attr = Attr(uapi.ATTR_QUERY).set(
            target_fd=target,
            attach_type=uapi.BPF_ATTACH_TYPE[attach_type],
            query_flags=flags,
            prog_cnt=room,
        )
        ids = attr.memory("prog_ids", empty_buffer(4 * room))
        attr.size = max(attr.size, 32)
        result = attr.call("PROG_QUERY")
        found = attr.get("prog_cnt")
        if result == -errno.ENOSPC and room < found <= MAX_PROGRAMS:
            room = found
            continue
        checked("bpf(BPF_PROG_QUERY)", result, attach_type)
        return tuple(memoryview(ids).cast("B")[: 4 * min(found, room)].cast("I"))


def kind_of_fd(fd: int) -> str | None:
    """The kind of object behind a descriptor of ours, or None if it is another file."""
    try:
        return kind_of_file(os.readlink(f"/proc/self/fd/{fd}"))
    except OSError as error:
        raise SyscallError("readlink", error.errno or 0, f"/proc/self/fd/{fd}") from error


def kind_of_file(name: str) -> str | None:
    """The kind of object by what /proc/PID/fd shows, or None for other files."""
    return _FILES.get(name)


# anon_inode_getfd() and anon_inode_getfile() in kernel/bpf/: syscall.c, btf.c
_FILES = {
    "anon_inode:bpf-prog": "prog",
    "anon_inode:bpf-map": "map",
    "anon_inode:bpf_link": "link",
    "anon_inode:bpf-link": "link",
    "anon_inode:btf": "btf",
}
