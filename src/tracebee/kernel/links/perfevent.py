"""Timers and counters: a program on perf events of every CPU, of one CPU, or of a process's threads."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tracebee.errors import AttachError
from tracebee.kernel.links.perf import attach_events, open_events
from tracebee.spec.objects import PerfEvent
from tracebee.syscalls import perf

if TYPE_CHECKING:
    from tracebee.kernel.links import Context, Link
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec

NO_COUNTER = (errno.ENOENT, errno.EOPNOTSUPP, errno.ENODEV)
"""No event source takes the event, or it cannot raise interrupts, as perf_event_open(2) has it."""


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """Open the events and attach to each.  An event of one CPU is a clock, and goes on whoever sleeps."""
    place = probe.attach
    assert isinstance(place, PerfEvent)
    try:
        events = open_events(
            probe,
            context.pid if place.every_cpu else 0,
            context.online_cpus if place.every_cpu else context.online_cpus[:1],
            type_=place.type,
            config=place.config,
            period=place.period,
            frequency=place.frequency,
        )
    except AttachError as error:
        number = getattr(error.__cause__, "errno", 0)
        if place.type == perf.PERF_TYPE_HARDWARE and number in NO_COUNTER:
            event = probe.name.split(":")[1] if ":" in probe.name else f"hardware event {place.config}"
            raise AttachError(
                probe.name,
                f"this processor has no counter for {event} ({error.reason})",
                "virtual machines often have no counters; software:cpu-clock fires as time passes",
            ) from error.__cause__
        raise
    return attach_events(program, probe, context, events)
