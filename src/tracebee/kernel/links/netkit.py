"""Packets of netkit devices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.errors import AttachError, SyscallError
from tracebee.kernel.links import attach_type_of, create_link
from tracebee.kernel.links.device import index_of
from tracebee.spec.objects import Netkit

if TYPE_CHECKING:
    from tracebee.kernel.links import Context, Link
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """BPF_LINK_CREATE (Linux 6.7)."""
    place = probe.attach
    assert isinstance(place, Netkit)
    try:
        return create_link(program, probe, index_of(place.interface), attach_type_of(program))
    except SyscallError as error:
        raise AttachError(
            probe.name, str(error), "it must be the primary end of a netkit device (since Linux 6.7)"
        ) from error
