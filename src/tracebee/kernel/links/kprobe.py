"""Kprobes by perf events: nothing is left in kprobe_events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.kernel.links.perf import attach_events, event_type, open_event, return_bit
from tracebee.spec.objects import Kprobe

if TYPE_CHECKING:
    from tracebee.kernel.links import Context, Link
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """One perf event on one CPU stands for all."""
    place = probe.attach
    assert isinstance(place, Kprobe)
    event = open_event(
        probe,
        type_=event_type("kprobe", probe),
        config=1 << return_bit("kprobe") if place.returns else 0,
        config1=place.function.encode(),
        config2=place.offset,
        pid=-1,
        cpu=context.online_cpus[0],
    )
    return attach_events(program, probe, context, [event])
