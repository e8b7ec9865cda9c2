"""Tracepoints by perf events."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tracebee.errors import AttachError
from tracebee.kernel.links.perf import attach_events, open_event
from tracebee.spec.objects import Tracepoint
from tracebee.syscalls import perf

if TYPE_CHECKING:
    from tracebee.kernel.links import Context, Link
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """One perf event on one CPU stands for all: the program hangs on the tracepoint, not on the CPU."""
    assert isinstance(probe.attach, Tracepoint)
    number = read_id(context.tracefs(), probe)
    event = open_event(
        probe, type_=perf.PERF_TYPE_TRACEPOINT, config=number, pid=-1, cpu=context.online_cpus[0], period=1
    )
    return attach_events(program, probe, context, [event])


def read_id(tracefs: int, probe: ProbeSpec) -> int:
    """The number of the tracepoint, from its file in tracefs."""
    place = probe.attach
    assert isinstance(place, Tracepoint)
    try:
        fd = os.open(f"events/{place.category}/{place.event}/id", os.O_RDONLY | os.O_CLOEXEC, dir_fd=tracefs)
    except OSError as error:
        raise AttachError(probe.name, f"its id cannot be read from tracefs: {error.strerror}") from error
    with os.fdopen(fd) as file:
        return int(file.read())
