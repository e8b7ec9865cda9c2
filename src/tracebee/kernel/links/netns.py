"""Programs of a network namespace: flow dissectors and the choice of sockets."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from tracebee.errors import AttachError, SyscallError
from tracebee.kernel.links import attach_type_of, create_link
from tracebee.kernel.links.attachment import open_target
from tracebee.spec.objects import NetworkNamespace

if TYPE_CHECKING:
    from tracebee.kernel.links import Context, Link
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec

OURS = "/proc/self/ns/net"


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """BPF_LINK_CREATE (Linux 5.8, sk_lookup 5.9)."""
    place = probe.attach
    assert isinstance(place, NetworkNamespace)
    namespace = open_target(place.path or OURS)
    try:
        return create_link(program, probe, namespace, attach_type_of(program))
    except SyscallError as error:
        raise AttachError(probe.name, str(error), _hint(error)) from error
    finally:
        os.close(namespace)


def _hint(error: SyscallError) -> str:
    if error.errno in (errno.EEXIST, errno.EBUSY):
        return (
            "the namespace, or for flow dissectors the first one of the machine, has such a program already"
        )
    return ""
