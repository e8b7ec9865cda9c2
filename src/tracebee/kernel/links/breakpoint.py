"""Hardware breakpoints by perf events."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tracebee.errors import AttachError
from tracebee.kernel.links.perf import attach_events, open_event
from tracebee.spec.objects import Breakpoint
from tracebee.syscalls import perf

if TYPE_CHECKING:
    from tracebee.kernel.links import Context, Link
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec

KERNEL_HALF = 1 << 63


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """In the kernel on every CPU; in a process in each thread, which has debug registers of its own."""
    place = probe.attach
    assert isinstance(place, Breakpoint)
    mode = sum(perf.HW_BREAKPOINT[letter] for letter in place.mode)
    if place.address >= KERNEL_HALF:
        targets = [(-1, cpu) for cpu in context.online_cpus]
    elif context.pid:
        targets = [(thread, -1) for thread in threads_of(context.pid)]
    else:
        targets = [(-1, cpu) for cpu in context.online_cpus]
    events: list[int] = []
    try:
        for pid, cpu in targets:
            events.append(
                open_event(
                    probe,
                    type_=perf.PERF_TYPE_BREAKPOINT,
                    config=0,
                    pid=pid,
                    cpu=cpu,
                    period=1,
                    config1=place.address,
                    config2=place.length,
                    breakpoint_type=mode,
                )
            )
    except AttachError:
        for event in events:
            os.close(event)
        raise
    return attach_events(program, probe, context, events)


def threads_of(pid: int) -> list[int]:
    """The threads of a process as they are now."""
    try:
        return sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return [pid]
