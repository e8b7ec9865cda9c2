"""Kprobes by perf events: nothing is left in kprobe_events."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from tracebee.errors import AttachError, SyscallError
from tracebee.kernel.links.perf import attach_events, event_type, open_event, return_bit
from tracebee.spec.objects import Kprobe

if TYPE_CHECKING:
    from tracebee.kernel.links import Context, Link
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """A perf event on one CPU stands for all.  Functions that share a name get one each, by address."""
    place = probe.attach
    assert isinstance(place, Kprobe)
    return attach_events(program, probe, context, _open(probe, place, context))


def _open(probe: ProbeSpec, place: Kprobe, context: Context) -> list[int]:
    if place.copies == 1 and not place.module:
        try:
            return [_event(probe, place, context, place.function.encode(), place.offset)]
        except AttachError as error:
            if getattr(error.__cause__, "errno", 0) != errno.EADDRNOTAVAIL:
                raise explained(probe, place, error) from error.__cause__
    # The name is not unique (since Linux 6.6, b022f0c7e404, that is an error; before it meant the first).
    addresses = context.addresses(place.function, place.module)
    if not addresses:
        name = place.function if place.module in ("", "vmlinux") else f"{place.module}:{place.function}"
        try:
            return [_event(probe, place, context, name.encode(), place.offset)]
        except AttachError as error:
            raise explained(probe, place, error) from error.__cause__
    events: list[int] = []
    failure: AttachError | None = None
    for address in addresses:
        try:
            events.append(_event(probe, place, context, 0, address + place.offset))
        except AttachError as error:
            # One of them may have no place for a hook; what counts is that some have.
            failure = error
            if getattr(error.__cause__, "errno", 0) == errno.EMFILE:
                for event in events:
                    os.close(event)
                raise
    if failure is not None and not events:
        raise explained(probe, place, failure) from failure.__cause__
    return events


def _event(probe: ProbeSpec, place: Kprobe, context: Context, name: bytes | int, offset: int) -> int:
    """An event at `offset` from a function, or at an address if `name` is 0."""
    return open_event(
        probe,
        type_=event_type("kprobe", probe),
        config=1 << return_bit("kprobe") if place.returns else 0,
        config1=name,
        config2=offset,
        pid=-1,
        cpu=context.online_cpus[0],
    )


def explained(probe: ProbeSpec, place: Kprobe, error: AttachError) -> AttachError:
    """The error with what the kernel means by its errno for a kprobe (trace_kprobe.c, kprobes.c)."""
    cause = error.__cause__
    if not isinstance(cause, SyscallError):
        return error
    function = place.function
    reasons = {
        errno.ENOENT: (f"there is no function {function} in this kernel and its loaded modules", ""),
        errno.EILSEQ: (
            f"{function}+{place.offset} is not where an instruction starts",
            "objdump -d of the kernel shows where they do",
        ),
        errno.EINVAL: (
            f"{function} cannot be probed {'on return' if place.returns else 'here'}: it is marked notrace, "
            "unsafe for kprobes, or gone after the kernel's start",
            "",
        ),
        errno.EPERM: (f"kprobes are refused ({cause})", lockdown_hint()),
        errno.EACCES: (f"kprobes are refused ({cause})", lockdown_hint()),
    }
    reason, hint = reasons.get(cause.errno or 0, ("", ""))
    return AttachError(probe.name, reason, hint or error.hint) if reason else error


def lockdown_hint() -> str:
    """What forbids kprobes to root, if that is it."""
    from tracebee.host.rights import read_lockdown

    if read_lockdown() == "confidentiality":
        return (
            "the kernel is locked down (confidentiality), which forbids kprobes; raw tracepoints, uprobes and maps "
            "still work"
        )
    return "perf events need CAP_PERFMON, or CAP_SYS_ADMIN before Linux 5.8"
