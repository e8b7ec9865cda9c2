"""What has to be known before a target is made to do a system call that is not its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tracebee.errors import FormatError
from tracebee.host.procmaps import read_maps

if TYPE_CHECKING:
    from tracebee.inferior.processes import Process, Thread

_CALL = {"x86_64": b"\x0f\x05", "aarch64": b"\x01\x00\x00\xd4"}  # SYSCALL, SVC #0
_LOOKED_AT = 1 << 20
"""Bytes of a mapping that are searched at most."""


def find_call_instruction(process: Process) -> int:
    """The address of a system call instruction in a process; 0 if none is found.

    The vDSO has one on every kernel, for the clocks that cannot be read without the kernel.
    """
    wanted = _CALL.get(os.uname().machine)
    if wanted is None:
        return 0
    try:
        maps = read_maps(process.pid)
    except (OSError, FormatError):
        return 0
    found = [mapping for mapping in maps if mapping.is_executable and mapping.path != "[vsyscall]"]
    for mapping in sorted(found, key=lambda mapping: mapping.path != "[vdso]"):
        code = process.read_some(mapping.start, min(mapping.end - mapping.start, _LOOKED_AT))
        at = code.find(wanted)
        if at >= 0:
            return mapping.start + at
    return 0


def has_other_filters(thread: Thread) -> bool:
    """Whether a thread has a seccomp filter that is neither ours nor this process's own.

    It has shut itself in, and may be killed for a system call that it never meant to make.
    """
    ours, own = filters_of("self"), filters_of(str(thread.tid))
    if ours is None or own is None:
        return True
    return own > ours + thread.process.is_filtered


def filters_of(task: str) -> int | None:
    """How many seccomp filters a task has; None if it is gone, or in the strict mode.

    Before Linux 5.9 the kernel tells only whether there are any; then one is assumed.
    """
    try:
        with open(f"/proc/{task}/status", encoding="utf-8", errors="replace") as file:
            fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if line.startswith("Seccomp"))
        if fields.get("Seccomp") == "1":
            return None
        return int(fields.get("Seccomp_filters", fields.get("Seccomp", "0") == "2"))
    except (OSError, ValueError):
        return None
