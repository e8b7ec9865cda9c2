"""Programs that were loaded for their function and only have to be opened: fentry, fexit, fmod_ret, lsm, freplace."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tracebee.errors import AttachError, SyscallError
from tracebee.kernel.links import Link, create_link
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from tracebee.kernel.links import Context
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec

ENOTSUPP = 524
"""include/linux/errno.h; none of those that processes should see."""


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """BPF_RAW_TRACEPOINT_OPEN without a name (Linux 5.5); BPF_LINK_CREATE for one with a cookie (Linux 5.19)."""
    try:
        if probe.cookie:
            kind = program.spec.expected_attach_type
            try:
                return create_link(program, probe, 0, kind, tracing_cookie=probe.cookie)
            except SyscallError as error:
                # An older kernel has no cookies here, and loads no program that reads one.
                if error.errno != errno.EINVAL:
                    raise
        fd = bpf.raw_tracepoint_open(program.fd)
    except SyscallError as error:
        raise AttachError(probe.name, str(error), _hint(error)) from error
    return Link([fd], links=(fd,))


def _hint(error: SyscallError) -> str:
    if error.errno == errno.EBUSY:
        return "the function has a live patch, or as many programs as it can have"
    if error.errno == ENOTSUPP:
        return "this processor's kernel has no trampolines (arm64: since Linux 6.0)"
    return ""
