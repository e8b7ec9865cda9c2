"""Attachments, a file a kind; each knows one class of tracebee.spec.objects.Attach.

An attachment hangs on file descriptors and goes with them, also when the process is killed.
"""

from __future__ import annotations

import errno
import os
from importlib import import_module
from typing import TYPE_CHECKING

from tracebee.errors import AttachError
from tracebee.kernel.nofile import raise_nofile
from tracebee.records import Mutable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tracebee.kernel.features import Features
    from tracebee.kernel.programs import Program
    from tracebee.spec.objects import ProbeSpec


class Context(Mutable):
    """What an attachment may need beside its program.

    `tracefs` is called for a directory descriptor of tracefs; `pid` limits the attachment to a process if
    not 0, and `child_pid` the kinds that mean addresses of one process.  `addresses` gives those of all kernel
    functions of a name, in a module ("vmlinux" for the kernel itself) or, if that is empty, anywhere.
    """

    features: Features
    online_cpus: tuple[int, ...]
    tracefs: Callable[[], int]
    pid: int = 0
    child_pid: int = 0
    addresses: Callable[[str, str], list[int]] = lambda name, module: []


class Link:
    """An attachment: closing its descriptors detaches.

    `skipped` are the places of one that stands for many to which it could not be attached, each with the reason.
    """

    def __init__(self, fds: list[int], skipped: Sequence[tuple[str, str]] = ()) -> None:
        self.fds = fds
        self.skipped = tuple(skipped)

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
    "KprobeMulti": "kprobemulti",
    "Iterator": "iterator",
    "Trampoline": "trampoline",
}


def attach(program: Program, probe: ProbeSpec, context: Context) -> Link:
    """Attach a program to the place that a probe names.  Raises AttachError."""
    module = import_module(f"tracebee.kernel.links.{MODULES[type(probe.attach).__name__]}")
    link: Link
    try:
        link = module.attach(program, probe, context)
    except AttachError as error:
        if getattr(error.__cause__, "errno", 0) != errno.EMFILE or not raise_nofile():
            raise
        link = module.attach(program, probe, context)
    return link
