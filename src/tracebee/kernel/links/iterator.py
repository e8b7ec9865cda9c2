"""BPF iterators: reading a descriptor runs the program for every object."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tracebee.errors import AttachError, SyscallError
from tracebee.kernel.links import Link
from tracebee.spec.objects import Iterator
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from tracebee.kernel.links import Context
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec


class IteratorLink(Link):
    """A link whose iterator can be run."""

    def read_all(self) -> None:
        """Run the program for every object, once."""
        fd = bpf.iter_create(self.fds[0])
        try:
            while os.read(fd, 1 << 16):
                pass
        finally:
            os.close(fd)


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """BPF_LINK_CREATE (Linux 5.8); pinned if the script says where."""
    place = probe.attach
    assert isinstance(place, Iterator)
    try:
        link = IteratorLink([bpf.link_create(program.fd, 0, "TRACE_ITER")])
    except SyscallError as error:
        raise AttachError(probe.name, str(error)) from error
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
