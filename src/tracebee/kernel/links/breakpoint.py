"""Hardware breakpoints by perf events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.kernel.links.perf import attach_events, open_events
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
    events = open_events(
        probe,
        0 if place.address >= KERNEL_HALF else context.pid or context.child_pid,
        context.online_cpus,
        type_=perf.PERF_TYPE_BREAKPOINT,
        config=0,
        period=1,
        config1=place.address,
        config2=place.length,
        breakpoint_type=sum(perf.HW_BREAKPOINT[letter] for letter in place.mode),
    )
    return attach_events(program, probe, context, events)
