"""Many uprobes of one file by one link (Linux 6.6)."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from tracebee.errors import AttachError, SyscallError
from tracebee.kernel.links import Link
from tracebee.spec.objects import UprobeMulti
from tracebee.syscalls import bpf

if TYPE_CHECKING:
    from tracebee.kernel.links import Context
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec

BPF_F_UPROBE_MULTI_RETURN = 1


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """One descriptor; the cookie of each place is its position."""
    place = probe.attach
    assert isinstance(place, UprobeMulti)
    count = len(place.offsets)
    memory = {
        "uprobe_multi_path": os.fsencode(place.path) + b"\0",
        "uprobe_multi_offsets": struct.pack(f"={count}Q", *place.offsets),
        "uprobe_multi_cookies": struct.pack(f"={count}Q", *range(count)),
    }
    if place.reference_counters:
        memory["uprobe_multi_ref_ctr_offsets"] = struct.pack(f"={count}Q", *place.reference_counters)
    try:
        return Link(
            [
                bpf.link_create(
                    program.fd,
                    0,
                    "TRACE_UPROBE_MULTI",
                    memory,
                    uprobe_multi_cnt=count,
                    uprobe_multi_flags=BPF_F_UPROBE_MULTI_RETURN if place.returns else 0,
                    uprobe_multi_pid=context.pid,
                )
            ]
        )
    except SyscallError as error:
        raise AttachError(probe.name, str(error)) from error
