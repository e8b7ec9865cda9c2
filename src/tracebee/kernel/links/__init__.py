"""Attachments, a file a kind; each knows one class of tracebee.spec.objects.Attach.

An attachment hangs on file descriptors and goes with them, also when the process is killed.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

from tracebee.records import Mutable

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.kernel.features import Features
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec


class Context(Mutable):
    """What an attachment may need beside its program.

    `tracefs` is called for a directory descriptor of tracefs; `pid` limits the attachment to a process if
    not 0, and `child_pid` the kinds that mean addresses of one process.
    """

    features: Features
    online_cpus: tuple[int, ...]
    tracefs: Callable[[], int]
    pid: int = 0
    child_pid: int = 0


class Link:
    """An attachment: closing its descriptors detaches."""

    def __init__(self, fds: list[int]) -> None:
        self.fds = fds

    def read_all(self) -> None:
        """Run the program for everything that it goes over; only iterators do."""

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())


# class of tracebee.spec.objects: module here, whose attach(program, probe, context) makes the Link
MODULES = {
    "RawTracepoint": "rawtracepoint",
    "Tracepoint": "tracepoint",
    "PerfEvent": "perfevent",
    "Breakpoint": "breakpoint",
    "Uprobe": "uprobe",
    "UprobeMulti": "uprobemulti",
    "Kprobe": "kprobe",
    "Iterator": "iterator",
    "Trampoline": "trampoline",
}


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """Attach a program to the place that a probe names.  Raises AttachError."""
    module = import_module(f"tracebee.kernel.links.{MODULES[type(probe.attach).__name__]}")
    link: Link = module.attach(program, probe, context)
    return link
