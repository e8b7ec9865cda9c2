"""Programs of a map of sockets."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tracebee.errors import AttachError, SyscallError, UsageError
from tracebee.kernel.links import attach_type_of, create_link
from tracebee.kernel.links.attachment import put
from tracebee.spec.objects import SockMap

if TYPE_CHECKING:
    from tracebee.kernel.links import Context, Link
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """BPF_LINK_CREATE (Linux 6.10), or BPF_PROG_ATTACH."""
    place = probe.attach
    assert isinstance(place, SockMap)
    table = context.maps.get(place.map)
    if table is None or table.spec.type not in ("SOCKMAP", "SOCKHASH"):
        raise UsageError(
            f"the object has no map of sockets {place.map}",
            f"it has {', '.join(_candidates(context)) or 'none at all'}",
        )
    kind = attach_type_of(program, place.attach_type)
    try:
        try:
            return create_link(program, probe, table.fd, kind)
        except SyscallError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF):
                raise
        return put(program, table.fd, kind)
    except SyscallError as error:
        raise AttachError(probe.name, str(error)) from error


def _candidates(context: Context) -> list[str]:
    return [name for name, one in context.maps.items() if one.spec.type in ("SOCKMAP", "SOCKHASH")]
