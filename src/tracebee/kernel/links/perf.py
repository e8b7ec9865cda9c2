"""What attachments by perf events share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tracebee.errors import AttachError, SyscallError
from tracebee.kernel.links import Link
from tracebee.syscalls import bpf, perf

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.kernel.links import Context
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec


def attach_events(program: Program, probe: ProbeSpec, context: Context, events: Sequence[int]) -> Link:
    """Attach a program to open perf events, and enable them; takes over their descriptors."""
    fds = list(events)
    links: list[int] = []
    try:
        for event in events:
            if context.features.has("perf_link"):
                links.append(
                    bpf.link_create(program.fd, event, "PERF_EVENT", perf_event_bpf_cookie=probe.cookie)
                )
                fds.append(links[-1])
                perf.enable(event)
            else:
                perf.attach_bpf(event, program.fd)
    except SyscallError as error:
        for fd in fds:
            os.close(fd)
        raise AttachError(probe.name, str(error), hint_for(error)) from error
    # Links, which are last, are closed before the events that they hold.
    return Link(fds, links=links)


def hint_for(error: SyscallError) -> str:
    """What a refusal by perf may come from."""
    import errno

    if error.errno == errno.EACCES:
        return (
            "the program reads beyond the event's record, or perf_event_paranoid forbids perf events to "
            "processes without CAP_PERFMON"
        )
    if error.errno == errno.EMFILE:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        return (
            f"each probe takes up to two of the {limit} files that this process may open: raise the limit "
            "(ulimit -Hn), or name fewer places"
        )
    return ""


def event_type(source: str, probe: ProbeSpec) -> int:
    """The number of a dynamic perf event source such as "uprobe"."""
    try:
        with open(f"/sys/bus/event_source/devices/{source}/type") as file:
            return int(file.read())
    except OSError as error:
        raise AttachError(probe.name, f"this kernel has no {source}s ({error.strerror})") from error


def return_bit(source: str) -> int:
    """The bit of an event's config that asks for the return of a function: ``config:0``."""
    with open(f"/sys/bus/event_source/devices/{source}/format/retprobe") as file:
        return int(file.read().partition(":")[2])


def open_events(probe: ProbeSpec, pid: int, cpus: Sequence[int], **options: Any) -> list[int]:
    """An event for each thread that a process has and will have, or for each CPU if `pid` is 0.

    Raises AttachError; then none is left open.
    """
    targets = [(-1, cpu) for cpu in cpus] if not pid else [(thread, -1) for thread in threads_of(pid)]
    events: list[int] = []
    try:
        for thread, cpu in targets:
            events.append(open_event(probe, pid=thread, cpu=cpu, inherit=pid != 0, **options))
    except AttachError:
        for event in events:
            os.close(event)
        raise
    return events


def threads_of(pid: int) -> list[int]:
    """The threads of a process as they are now."""
    try:
        return sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return [pid]


def open_event(probe: ProbeSpec, **options: Any) -> int:
    """perf_event_open, with an AttachError if it fails."""
    try:
        return perf.perf_event_open(**options)
    except SyscallError as error:
        raise AttachError(probe.name, str(error), hint_for(error)) from error
