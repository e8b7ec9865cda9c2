"""XDP: packets of a network interface before the kernel makes anything of them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tracebee.errors import AttachError, SyscallError, UsageError
from tracebee.kernel.links import create_link
from tracebee.kernel.links.device import index_of
from tracebee.spec.objects import Xdp

if TYPE_CHECKING:
    from tracebee.kernel.links import Context, Link
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec

# XDP_FLAGS_* of linux/if_link.h
MODES = {"": 0, "generic": 1 << 1, "native": 1 << 2, "offload": 1 << 3}


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """BPF_LINK_CREATE (Linux 5.9)."""
    place = probe.attach
    assert isinstance(place, Xdp)
    if program.spec.expected_attach_type in ("XDP_DEVMAP", "XDP_CPUMAP"):
        raise AttachError(
            probe.name,
            f"it is for entries of a map ({program.spec.expected_attach_type})",
            "put its descriptor into the map: struct bpf_devmap_val or bpf_cpumap_val",
        )
    if place.mode not in MODES:
        raise UsageError(f"{place.mode} is no mode of XDP", "one of native, generic, offload")
    try:
        return create_link(program, probe, index_of(place.interface), "XDP", flags=MODES[place.mode])
    except SyscallError as error:
        raise AttachError(probe.name, str(error), _hint(error, place)) from error


def _hint(error: SyscallError, place: Xdp) -> str:
    if error.errno in (errno.EBUSY, errno.EEXIST):
        return f"{place.interface} has a program already: ip link set dev {place.interface} xdp off"
    if error.errno == errno.EOPNOTSUPP:
        return "its driver has no XDP: try mode generic"
    if error.errno in (errno.ERANGE, errno.EINVAL, errno.E2BIG):
        return "packets may be too large for it (MTU), unless the section is xdp.frags"
    return ""
