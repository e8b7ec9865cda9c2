"""fentry and fexit: the program was loaded for its function and only has to be opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.errors import AttachError, SyscallError
from tracebee.kernel.links import Link
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from tracebee.kernel.links import Context
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """BPF_RAW_TRACEPOINT_OPEN without a name (Linux 5.5)."""
    try:
        return Link([bpf.raw_tracepoint_open(program.fd)])
    except SyscallError as error:
        raise AttachError(probe.name, str(error)) from error
