"""Timers and counters: a program on a perf event of one or of every CPU."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tracebee.errors import AttachError
from tracebee.kernel.links.perf import attach_events, open_event
from tracebee.spec.objects import PerfEvent

if TYPE_CHECKING:
    from tracebee.kernel.links import Context, Link
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """Open the events and attach to each."""
    place = probe.attach
    assert isinstance(place, PerfEvent)
    cpus = context.online_cpus if place.every_cpu else context.online_cpus[:1]
    events: list[int] = []
    try:
        for cpu in cpus:
            events.append(
                open_event(
                    probe,
                    type_=place.type,
                    config=place.config,
                    pid=-1,
                    cpu=cpu,
                    period=place.period,
                    frequency=place.frequency,
                )
            )
    except AttachError:
        for event in events:
            os.close(event)
        raise
    return attach_events(program, probe, context, events)
