"""Timers and counters: a program on perf events of every CPU, of one CPU, or of a process's threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.kernel.links.perf import attach_events, open_events
from tracebee.spec.objects import PerfEvent

if TYPE_CHECKING:
    from tracebee.kernel.links import Context, Link
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """Open the events and attach to each.  An event of one CPU is a clock, and goes on whoever sleeps."""
    place = probe.attach
    assert isinstance(place, PerfEvent)
    events = open_events(
        probe,
        context.pid if place.every_cpu else 0,
        context.online_cpus if place.every_cpu else context.online_cpus[:1],
        type_=place.type,
        config=place.config,
        period=place.period,
        frequency=place.frequency,
    )
    return attach_events(program, probe, context, events)
