"""Why an attachment failed: the error, the probe and this machine, put to the diagnosis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.errors import SyscallError, TracebeeError
from tracebee.spec.objects import Kprobe, KprobeMulti, RawTracepoint, Tracepoint, Trampoline, Uprobe

if TYPE_CHECKING:
    from tracebee.errors import AttachError
    from tracebee.explain.explanation import Explanation
    from tracebee.session.machine import LiveMachine
    from tracebee.spec.objects import ObjectSpec, ProbeSpec

LOADED = "bpf(BPF_PROG_LOAD)"


def explain_attach(
    error: AttachError, probe: ProbeSpec, spec: ObjectSpec, live: LiveMachine
) -> Explanation | None:
    """What the facts of this machine say of a failed attachment; None where the kernel gave no errno."""
    from tracebee.explain.attach.attempt import Attempt, Call, errno_name
    from tracebee.explain.attach.diagnose import diagnose
    from tracebee.session.described import describe

    cause = error.__cause__
    if not isinstance(cause, OSError) or not cause.errno:
        return None
    call = cause.call if isinstance(cause, SyscallError) else "open(tracefs events/.../id)"
    place = probe.attach
    kind, is_return, offset = "", False, 0
    highest: int | None = None
    targets: tuple[str, ...] = (probe.name,)
    names: tuple[str, ...] = ()
    event = ("", "")
    paths: tuple[str, ...] = ()
    match place:
        case Kprobe():
            kind, targets, is_return, offset = "kprobe", (place.function,), place.returns, place.offset
            names = targets
        case KprobeMulti():
            kind, targets = "kprobe.multi", tuple(one.function for one in place.functions)
            is_return, names = place.returns, targets[:64]
        case Tracepoint():
            kind, targets = "tracepoint", (place.category, place.event)
            event = (place.category, place.event)
            highest = _highest_read(probe, spec)
        case RawTracepoint():
            kind, targets = "raw tracepoint", (place.event,)
            highest = _highest_read(probe, spec)
        case Uprobe():
            kind, targets = "uprobe", (place.path, hex(place.offset))
            is_return, paths = place.returns, (place.path,)
        case Trampoline():
            kind = "fexit" if probe.name.startswith(("fexit", "kretfunc")) else "fentry"
            targets = names = (probe.name.rpartition(":")[2],)
        case _:
            return None
    try:
        machine = describe(live, names, event=event, paths=paths)
    except (OSError, TracebeeError):
        return None
    calls = (Call(LOADED), Call(call, errno_name(cause.errno)))
    return diagnose(
        Attempt(
            kind,
            targets,
            calls,
            machine,
            is_return=is_return,
            offset=offset,
            context_offset=highest,
            attach_type="BPF_TRACE_KPROBE_MULTI" if kind == "kprobe.multi" else "",
        )
    )


def _highest_read(probe: ProbeSpec, spec: ObjectSpec) -> int | None:
    """The highest offset at which the probe's program reads its context."""
    from tracebee.object.contextreads import context_reads

    program = next((one for one in spec.programs if one.name == probe.program), None)
    reads = context_reads(program.insns) if program is not None else []
    last = max(reads, key=lambda read: read.end, default=None)
    return None if last is None else last.offset
