"""Uprobes, one perf event each."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tracebee.kernel.links.perf import attach_events, event_type, open_event, return_bit
from tracebee.spec.objects import Uprobe

if TYPE_CHECKING:
    from tracebee.kernel.links import Context, Link
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec

REFERENCE_COUNTER_SHIFT = 32
"""Where the offset of a USDT semaphore goes in the config of an event (PERF_UPROBE_REF_CTR_OFFSET_SHIFT)."""


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """Of all processes, or of one: the kernel then changes only that process's memory."""
    place = probe.attach
    assert isinstance(place, Uprobe)
    config = place.reference_counter << REFERENCE_COUNTER_SHIFT
    if place.returns:
        config |= 1 << return_bit("uprobe")
    event = open_event(
        probe,
        type_=event_type("uprobe", probe),
        config=config,
        config1=os.fsencode(place.path),
        config2=place.offset,
        pid=context.pid or -1,
        cpu=-1 if context.pid else context.online_cpus[0],
    )
    return attach_events(program, probe, context, [event])
