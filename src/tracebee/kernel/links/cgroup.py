"""Programs of a control group (version 2)."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from tracebee.errors import AttachError, SyscallError
from tracebee.kernel.links import attach_type_of, create_link
from tracebee.kernel.links.attachment import open_target, put
from tracebee.spec.objects import Cgroup

if TYPE_CHECKING:
    from tracebee.kernel.links import Context, Link
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """BPF_LINK_CREATE (Linux 5.7), or BPF_PROG_ATTACH where that is refused."""
    place = probe.attach
    assert isinstance(place, Cgroup)
    kind = attach_type_of(program, place.attach_type)
    group = open_target(place.path, os.O_DIRECTORY)
    try:
        try:
            return create_link(program, probe, group, kind)
        except SyscallError as error:
            if error.errno != errno.EINVAL or kind == "LSM_CGROUP":
                raise
        return put(program, group, kind, place.flags)
    except SyscallError as error:
        raise AttachError(probe.name, str(error), _hint(error, place)) from error
    finally:
        os.close(group)


def _hint(error: SyscallError, place: Cgroup) -> str:
    if error.errno == errno.EBADF:
        return f"{place.path} is no directory of a cgroup2 file system"
    if error.errno == errno.EPERM:
        return "a program further up was attached so that none below may be (without BPF_F_ALLOW_MULTI)"
    if error.errno == errno.EINVAL:
        return "this kernel may not know the kind of program"
    return ""
