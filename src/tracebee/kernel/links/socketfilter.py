"""Programs of a socket: what of its packets it gets, or which of those that share its port gets a packet."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from tracebee.errors import AttachError
from tracebee.kernel.links import Link
from tracebee.spec.objects import SocketFilter

if TYPE_CHECKING:
    from tracebee.kernel.links import Context
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec

# asm-generic/socket.h
SO_DETACH_FILTER = 27
SO_ATTACH_BPF = 50
SO_ATTACH_REUSEPORT_EBPF = 52
SO_DETACH_REUSEPORT_BPF = 68


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """setsockopt(2) on a descriptor of the socket, which stays the caller's."""
    place = probe.attach
    assert isinstance(place, SocketFilter)
    chooses = program.spec.type == "SK_REUSEPORT"
    try:
        found = socket.socket(fileno=os.dup(place.fd))
    except OSError as error:
        raise AttachError(probe.name, f"descriptor {place.fd} is no socket: {error.strerror}") from error
    try:
        option = SO_ATTACH_REUSEPORT_EBPF if chooses else SO_ATTACH_BPF
        found.setsockopt(socket.SOL_SOCKET, option, program.fd)
    except OSError as error:
        found.close()
        hint = "it must be bound to its port with SO_REUSEPORT" if chooses else ""
        raise AttachError(probe.name, f"setsockopt: {error.strerror}", hint) from error

    def undo() -> None:
        with found:
            try:
                option = SO_DETACH_REUSEPORT_BPF if chooses else SO_DETACH_FILTER
                found.setsockopt(socket.SOL_SOCKET, option, 0)
            except OSError:
                pass  # somebody else has taken it away

    return Link([], undo=undo)
