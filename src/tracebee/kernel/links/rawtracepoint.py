"""Raw tracepoints: BPF_RAW_TRACEPOINT_OPEN (Linux 4.17)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tracebee.errors import AttachError, SyscallError
from tracebee.kernel.links import Link
from tracebee.spec.objects import RawTracepoint
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from tracebee.kernel.links import Context
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """One descriptor.  A program that was loaded for its tracepoint by BTF needs no name."""
    assert isinstance(probe.attach, RawTracepoint)
    name = "" if program.spec.attach_to else probe.attach.event
    try:
        try:
            fd = bpf.raw_tracepoint_open(program.fd, name, probe.cookie)
        except SyscallError as error:
            if error.errno != errno.EINVAL or not probe.cookie:
                raise
            # Before Linux 6.10 there are no cookies here, and no program that reads one is loaded.
            fd = bpf.raw_tracepoint_open(program.fd, name)
    except SyscallError as error:
        raise AttachError(probe.name, str(error)) from error
    return Link([fd], links=(fd,))
