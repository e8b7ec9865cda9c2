"""``tracebee struct``: the record of a tracepoint as a structure."""

from __future__ import annotations

import sys
from getopt import GetoptError, gnu_getopt
from typing import TYPE_CHECKING

from tracebee.errors import PermissionRefused, UsageError

if TYPE_CHECKING:
    from tracebee.host.tracefs import TracepointFormat

USAGE = """\
  tracebee struct sched:sched_switch
  tracebee struct syscalls:sys_enter_openat --as ctypes

tracebee struct: print the record of a tracepoint as a structure, with its common header and its gaps, and with
widths taken from the sizes that the kernel gives.

USAGE:
    tracebee struct [options] EVENT ...
    tracebee struct [options] --format FILE

An EVENT is CATEGORY:NAME, or a NAME that only one category has.

OPTIONS:
    --as FORM        c (as it is), python, ctypes or numpy
    --format FILE    take the event's format file of another machine; "-" is standard input
    -h, --help       print this help
"""


def run(words: list[str]) -> int:
    """Run ``tracebee struct``; the exit status."""
    from tracebee.render.eventstructs import WRITERS, lay_out

    form = "c"
    files: list[str] = []
    try:
        options, events = gnu_getopt(words, "h", ["as=", "format=", "help"])
    except GetoptError as error:
        raise UsageError(f"struct: {error.msg}", "tracebee struct --help lists the options") from None
    for name, value in options:
        match name:
            case "--as":
                form = value
            case "--format":
                files.append(value)
            case _:
                print(USAGE, end="")
                return 0
    if form not in WRITERS:
        raise UsageError(f"struct: unknown form: {form}", f"forms: {', '.join(WRITERS)}")
    if not events and not files:
        raise UsageError("struct: which event?", "tracebee struct sched:sched_switch")
    found = [read_file(path) for path in files] + [find_event(event) for event in events]
    for index, (name, record) in enumerate(found):
        if index:
            print()
        print(WRITERS[form](lay_out(name, record.fields)))
    return 0


def read_file(path: str) -> tuple[str, TracepointFormat]:
    """The event of a format file.  Raises UsageError, FormatError."""
    from tracebee.host.tracefs import parse_format

    try:
        if path == "-":
            text = sys.stdin.read(1 << 20)
        else:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read(1 << 20)
    except OSError as error:
        raise UsageError(f"struct: {path}: {error.strerror}") from None
    record = parse_format(text)
    return record.name, record


def find_event(event: str) -> tuple[str, TracepointFormat]:
    """The format of an event of this machine.

    Whoever may not read tracefs gets the events of system calls, whose records follow from the calls.  Raises
    UsageError, PermissionRefused.
    """
    from tracebee.session.machine import LiveMachine

    category, colon, name = (
        event.replace("/", ":").removeprefix("tracepoint:").removeprefix("t:").partition(":")
    )
    if not colon:
        category, name = "", category
    live = LiveMachine()
    try:
        try:
            events = list(live.tracepoints())
        except (PermissionRefused, OSError) as error:
            known = recorded(name) if category in ("", "syscalls") else None
            if known is None:
                raise
            del error
            return f"syscalls:{name}", known
        groups = [group for group, one in events if one == name and category in ("", group)]
        if len(groups) == 1:
            found = live.tracepoint_format(groups[0], name)
            if found is not None:
                return f"{groups[0]}:{name}", found
        if groups:
            raise UsageError(f"struct: {name} is in several categories", f"name one: {', '.join(groups)}")
        raise UsageError(f"struct: this kernel has no tracepoint {event}", near(events, name))
    finally:
        live.close()


def recorded(name: str) -> TracepointFormat | None:
    """The record of a system call's event, as every kernel of this machine's kind has it."""
    import os

    from tracebee.errors import TracebeeError
    from tracebee.host.tracepoints import ShippedTracepoints

    try:
        table = ShippedTracepoints(os.uname().machine)
        return table.format("syscalls", name) if table.has_event("syscalls", name) else None
    except (TracebeeError, KeyError, OSError):
        return None


def near(events: list[tuple[str, str]], name: str) -> str:
    """What else may have been meant."""
    from tracebee.explain.attach.names import near_names

    names = near_names(name, (one for _, one in events))
    full = [f"{group}:{one}" for group, one in events if one in names]
    return f"did you mean {', '.join(full)}?" if full else "tracebee -l 'tracepoint:*' lists them"
