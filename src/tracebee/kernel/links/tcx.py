"""Packets on their way in or out of a network interface, in traffic control."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tracebee.errors import AttachError, SyscallError
from tracebee.kernel.links import create_link
from tracebee.kernel.links.device import index_of
from tracebee.spec.objects import Tcx

if TYPE_CHECKING:
    from tracebee.kernel.links import Context, Link
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """BPF_LINK_CREATE (Linux 6.6); before, a filter of the queueing discipline clsact."""
    place = probe.attach
    assert isinstance(place, Tcx)
    index = index_of(place.interface)
    try:
        return create_link(program, probe, index, "TCX_EGRESS" if place.egress else "TCX_INGRESS")
    except SyscallError as error:
        if error.errno != errno.EINVAL:
            raise AttachError(probe.name, str(error)) from error
    from tracebee.kernel.links.clsact import add_filter

    try:
        return add_filter(program, index, place.egress)
    except SyscallError as error:
        raise AttachError(
            probe.name,
            str(error),
            "this kernel has neither tcx (Linux 6.6) nor, it seems, the modules sch_ingress and cls_bpf",
        ) from error
