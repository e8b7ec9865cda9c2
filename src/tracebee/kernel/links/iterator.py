"""BPF iterators: reading a descriptor runs the program for every object."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from tracebee.errors import AttachError, SyscallError, TargetError, UsageError
from tracebee.kernel.links import Link
from tracebee.spec.objects import Iterator
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from tracebee.kernel.links import Context
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec

# enum bpf_cgroup_iter_order
ORDERS = {"": 0, "self_only": 1, "descendants_pre": 2, "descendants_post": 3, "ancestors_up": 4}

OVER_MAPS = ("bpf_map_elem", "bpf_sk_storage_map")


class IteratorLink(Link):
    """A link whose iterator can be run."""

    def read_all(self) -> None:
        """Run the program for every object, once."""
        fd = self.open()
        try:
            while os.read(fd, 1 << 16):
                pass
        finally:
            os.close(fd)

    def open(self) -> int:
        """A descriptor that runs the iterator once while it is read, and gives what the program writes."""
        return bpf.iter_create(self.fds[0])


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """BPF_LINK_CREATE (Linux 5.8; with a cgroup or a task 6.1); pinned if it is said where."""
    place = probe.attach
    assert isinstance(place, Iterator)
    opened: list[int] = []
    try:
        info = parameters(place, context, opened)
        memory = {"iter_info": info} if info else None
        fd = bpf.link_create(program.fd, 0, "TRACE_ITER", memory, iter_info_len=len(info))
    except SyscallError as error:
        raise AttachError(probe.name, str(error), _hint(place)) from error
    finally:
        for one in opened:
            os.close(one)
    link = IteratorLink([fd], links=(fd,))
    if place.pin:
        path = place.pin if place.pin.startswith("/") else f"/sys/fs/bpf/{place.pin}"
        try:
            bpf.object_pin(link.fds[0], path)
        except SyscallError as error:
            link.close()
            raise AttachError(
                probe.name, str(error), "a pin must lie in a mounted bpf file system"
            ) from error
    return link


def parameters(place: Iterator, context: Context, opened: list[int]) -> bytes:
    """A union bpf_iter_link_info, empty for everything there is; descriptors in it go to `opened`."""
    if place.map:
        table = context.maps.get(place.map)
        if table is None:
            raise UsageError(f"the object has no map {place.map} to go over")
        return struct.pack("=I", table.fd)
    if place.cgroup:
        if place.order not in ORDERS:
            raise UsageError(f"{place.order} is no order of control groups", f"one of {', '.join(ORDERS)}")
        try:
            opened.append(os.open(place.cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as error:
            raise TargetError(place.cgroup, os.strerror(error.errno or 0)) from error
        return struct.pack("=IIQ", ORDERS[place.order or "descendants_pre"], opened[-1], 0)
    if place.pid or place.tid:
        return struct.pack("=III", place.tid, place.pid, 0)
    return b""


def _hint(place: Iterator) -> str:
    if place.target in OVER_MAPS and not place.map:
        return "say which map it is to go over"
    if place.cgroup or place.pid or place.tid:
        return "a cgroup, a process or a thread can be given since Linux 6.1"
    return ""
