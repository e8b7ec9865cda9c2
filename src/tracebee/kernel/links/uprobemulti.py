"""Many uprobes of one file by one link (Linux 6.6)."""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING

from tracebee.errors import AttachError, SyscallError
from tracebee.kernel.links import create_link
from tracebee.spec.objects import UprobeMulti

if TYPE_CHECKING:
    from tracebee.kernel.links import Context, Link
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec

BPF_F_UPROBE_MULTI_RETURN = 1


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """One descriptor; the cookie of each place is its own or its position."""
    place = probe.attach
    assert isinstance(place, UprobeMulti)
    count = len(place.offsets)
    memory = {
        "uprobe_multi_path": os.fsencode(place.path) + b"\0",
        "uprobe_multi_offsets": struct.pack(f"={count}Q", *place.offsets),
        "uprobe_multi_cookies": struct.pack(f"={count}Q", *(place.cookies or range(count))),
    }
    if place.reference_counters:
        memory["uprobe_multi_ref_ctr_offsets"] = struct.pack(f"={count}Q", *place.reference_counters)
    try:
        return create_link(
            program,
            probe,
            0,
            "TRACE_UPROBE_SESSION" if place.session else "TRACE_UPROBE_MULTI",
            memory,
            uprobe_multi_cnt=count,
            uprobe_multi_flags=BPF_F_UPROBE_MULTI_RETURN if place.returns else 0,
            uprobe_multi_pid=context.pid,
        )
    except SyscallError as error:
        raise AttachError(probe.name, str(error), _hint(error, context, place)) from error


def _hint(error: SyscallError, context: Context, place: UprobeMulti) -> str:
    if error.errno != errno.EINVAL:
        return ""
    if context.features.has("uprobe_session" if place.session else "uprobe_multi"):
        return ""
    if place.session:
        return "this kernel has no uprobe.session (since Linux 6.13)"
    return "this kernel has no uprobe.multi (since Linux 6.6); name single functions with uprobe/"
