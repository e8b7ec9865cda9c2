"""Tracepoints: their names, and whether a program stays inside their record."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.explain.attach import names, versions
from tracebee.explain.attach.finding import GUESS, LIKELY, PROVEN, TOLD, Finding, Rule
from tracebee.explain.attach.machine import MOUNTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.explain.attach.attempt import Attempt
    from tracebee.explain.attach.machine import Machine

TRACEFS_PATHS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")


def record_size(text: str) -> int:
    """The bytes of a record by its format file; 0 where there is none.

    What a program may read is this much: perf_event_set_bpf_prog() compares the highest byte of the program with
    trace_event_get_offsets(), the end of the last field.
    """
    ends = [
        int(offset) + int(size) for offset, size in re.findall(r"offset:(\d{1,7});\s*size:(\d{1,7});", text)
    ]
    return max(ends, default=0)


def is_tracefs_mounted(machine: Machine) -> bool | None:
    points = machine.mount_points("tracefs")
    return None if points is None else bool(points)


def not_mounted(weight: int, path: str = "", evidence: tuple[str, ...] = ()) -> Finding:
    return Finding(
        "tracefs-not-mounted",
        weight,
        "tracefs is not mounted here, so that no event can be looked up in it"
        + (f" ({path} does not exist)" if path else "")
        + ": usual in containers, where debugfs is not there either",
        "mount -t tracefs tracefs /sys/kernel/tracing (or give the container /sys/kernel/tracing or "
        "/sys/kernel/debug of the host)",
        evidence or (f"{MOUNTS} has no tracefs",),
        reference="Documentation/trace/ftrace.rst of the kernel, the file system",
    )


def _examine(attempt: Attempt) -> Iterator[Finding]:
    if attempt.kind != "tracepoint" or attempt.is_silent:
        return
    call = attempt.failed
    if call is None or (attempt.errno == "ENOENT" and "PROG_LOAD" not in call.what):
        yield from _name(attempt)
    if (
        call is not None
        and attempt.errno == "EACCES"
        and any(word in call.what for word in ("SET_BPF", "LINK_CREATE", "attach"))
    ):
        yield past_the_record(attempt)
    if call is not None and attempt.errno == "EEXIST":
        yield Finding(
            "event-exists",
            GUESS,
            "a program is attached to this event already, and cannot be twice",
            "open a perf event of its own for each program, or use a link",
            ("the answer is EEXIST",),
        )


def _name(attempt: Attempt) -> Iterator[Finding]:
    machine = attempt.machine
    category, name = (*attempt.targets, "", "")[:2]
    event = f"{category}:{name}" if name else category
    path = attempt.failed.what if attempt.failed is not None else ""
    mounted = is_tracefs_mounted(machine)
    if mounted is False:
        yield not_mounted(PROVEN, evidence=(f"{MOUNTS} has no tracefs",))
        return
    if machine.lockdown == "confidentiality":
        return  # tracefs is empty then, which the rule of lockdown says
    if not attempt.was_tried and (machine.similar_events is None or event in machine.similar_events):
        return
    points = machine.mount_points("tracefs")
    by_debugfs = "/sys/kernel/debug/" in path and not machine.mount_points("debugfs")
    if by_debugfs and points and not any("debug" in point for point in points):
        yield not_mounted(LIKELY, "/sys/kernel/debug/tracing", (f"tracefs is at {points[0]} only",))
        return
    if category == "syscalls" and machine.lacks("CONFIG_FTRACE_SYSCALLS"):
        yield Finding(
            "config-missing",
            PROVEN,
            "the kernel was built without tracepoints of system calls (CONFIG_FTRACE_SYSCALLS)",
            "use rawtracepoint:sys_enter and look at its number, or a kprobe on the function of the call",
            ("CONFIG_FTRACE_SYSCALLS is not set",),
        )
        return
    near = _near(machine, category, name)
    module = names.MODULE_PREFIXES.get(f"{category}_", "")
    advice = "list the events (tracebee -l 'tracepoint:*', or available_events in tracefs) and choose one"
    if near:
        advice = f"use {near[0]}" + (f", {near[1]}" if len(near) > 1 else "")
    elif module:
        advice = f"load the module {module} if it is not (modprobe {module}): its events come and go with it"
    yield Finding(
        "tracepoint-missing",
        PROVEN if mounted else LIKELY,
        f"this kernel has no tracepoint (event) {event}: it does not exist in this version and configuration, was "
        "removed or renamed, or its module is not loaded",
        advice,
        ("tracefs is mounted, and has no such event",) if mounted else ("its id file was not found",),
        tuple(f"tracepoint:{one}" for one in near[:3]),
    )


def _near(machine: Machine, category: str, name: str) -> list[str]:
    """Events with nearly that name, or that name in another category."""
    events = [one.replace("/", ":") for one in machine.similar_events or ()]
    same = [one for one in events if one.partition(":")[2] == name]
    slips = names.near_names(name, (one.partition(":")[2] for one in events))
    near = [one for one in events if one.partition(":")[2] in slips]
    return [one for one in dict.fromkeys((*same, *near, *events)) if one != f"{category}:{name}"]


def past_the_record(attempt: Attempt) -> Finding:
    """EACCES when a loaded program is attached: it reads behind the record's end."""
    event = ":".join(attempt.targets[:2])
    size = record_size(attempt.machine.event_format)
    read = attempt.context_offset
    where = f"at offset {read}" if read is not None else "at an offset that is too large"
    long = (
        f"which is {size} bytes long"
        if size
        else "whose layout on this kernel is another than it was built for"
    )
    proven = read is not None and size and read >= size
    return Finding(
        "tracepoint-arg-offset",
        PROVEN if proven else TOLD if read is not None else LIKELY,
        f"the program reads its context {where}, past the end of the record of tracepoint {event}, {long}. Loading "
        "knows nothing of the event, so only attaching fails, with EACCES (no right is missing)",
        "take the offsets of the fields from the event's format file on this kernel (tracebee struct shows them), "
        "or use a struct with CO-RE relocations",
        ("the program was loaded, and attaching it answered EACCES",),
    )


def _raw(attempt: Attempt) -> Iterator[Finding]:
    if attempt.kind not in ("raw tracepoint", "tp_btf") or attempt.is_silent:
        return
    name = attempt.target if len(attempt.targets) < 2 else ":".join(attempt.targets)
    errno = attempt.errno
    if attempt.was_tried and errno not in ("ENOENT", "EINVAL", "ESRCH", "EACCES"):
        return
    if attempt.failed_at_load and attempt.kind == "raw tracepoint":
        return
    plain = re.split(r"[:/]", name)[-1]
    if plain != name:
        call = re.fullmatch(r"sys_(enter|exit)_\w+", plain)
        yield Finding(
            "raw-tracepoint-name",
            PROVEN,
            f"raw tracepoints are named without their category: {name} is called {plain}",
            f"write sys_{call[1]}, and look at the number of the call" if call else f"write {plain}",
            ("the name has a category in front",),
        )
        return
    call = re.fullmatch(r"sys_(enter|exit)_(\w+)", name)
    if call:
        yield Finding(
            "raw-tracepoint-name",
            PROVEN,
            f"there is no raw tracepoint {name}: for system calls there are only two, sys_enter and sys_exit, for "
            "all of them (the single events are made by tracefs)",
            f"use rawtracepoint:sys_{call[1]} and compare the number of the call, or "
            f"tracepoint:syscalls:sys_{call[1]}_{call[2]}",
            ("only sys_enter and sys_exit exist",),
        )
        return
    if errno == "ENOENT":
        near = _near(attempt.machine, "", name)
        yield Finding(
            "tracepoint-missing",
            LIKELY,
            f"this kernel has no raw tracepoint {name}: no such event exists in this version and configuration, or "
            "its module is not loaded. Raw tracepoints are named as in TRACE_EVENT(), which may differ from the "
            "event in tracefs",
            f"use {near[0].partition(':')[2]}" if near else "list them with tracebee -l 'rawtracepoint:*'",
            ("the answer is ENOENT",),
        )
    elif errno in ("EINVAL", "EACCES") and not attempt.failed_at_load:
        read = attempt.context_offset
        given = versions.program_type_name(attempt.program_type)
        if given and not given.startswith("raw_tracepoint"):
            yield Finding(
                "program-type-mismatch",
                PROVEN,
                f"the program was loaded as {given}, and a raw tracepoint takes programs of type "
                "raw_tracepoint: their contexts are not the same",
                'load it as BPF_PROG_TYPE_RAW_TRACEPOINT (libbpf: SEC("raw_tp/...")), or attach it where its '
                "type fits",
                (f"the program's type is {given}",),
            )
            return
        yield Finding(
            "tracepoint-arg-offset" if read is not None else "program-type-mismatch",
            TOLD if read is not None else LIKELY,
            f"the program reads its context at offset {read}, past the last argument of the raw tracepoint {name}: "
            "each argument is 8 bytes"
            if read is not None
            else f"the program does not fit the raw tracepoint {name}: its type is another, or it reads (or writes) "
            "more arguments than the tracepoint has",
            "read only the arguments that TRACE_EVENT() declares, as ctx[0], ctx[1] and so on; load the program as "
            "BPF_PROG_TYPE_RAW_TRACEPOINT",
            (f"the program was loaded, and attaching it answered {errno}",),
        )


RULES = (Rule("the name or record of a tracepoint", _examine), Rule("raw tracepoints", _raw))
