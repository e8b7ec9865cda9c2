"""bpf(2): running a program by hand, on data and a context that the caller gives (BPF_PROG_TEST_RUN)."""

from __future__ import annotations

from typing import NamedTuple

from tracebee.syscalls import _uapi as uapi
from tracebee.syscalls.bpf import Attr
from tracebee.syscalls.raw import checked, empty_buffer

ENOTSUPP = 524
"""What the kernel says of types of programs that it does not run by hand (include/linux/errno.h)."""


class RunResult(NamedTuple):
    """What came of it: the program's result, the mean nanoseconds of a run, and what it left behind.

    `data` and `context` have as many bytes as there was room for.
    """

    retval: int
    duration: int
    data: bytes
    context: bytes


def run_program(
    fd: int,
    *,
    data: bytes | None = None,
    context: bytes | None = None,
    repeat: int = 0,
    data_room: int = 0,
    context_room: int = 0,
    flags: int = 0,
    cpu: int = 0,
    batch_size: int = 0,
) -> RunResult:
    """Run the program behind a descriptor; `data_room` and `context_room` are bytes for what it leaves behind.

    Raises SyscallError: with ENOTSUPP for a type of program that the kernel does not run by hand, and with ENOSPC
    where there is too little room.
    """
    attr = Attr(uapi.ATTR_TEST_RUN).set(prog_fd=fd, repeat=repeat)
    if data is not None:
        attr.set(data_size_in=len(data))
        attr.memory("data_in", data)
    if context is not None:
        attr.set(ctx_size_in=len(context))
        attr.memory("ctx_in", context)
    left = attr.memory("data_out", empty_buffer(data_room)) if data_room else None
    after = attr.memory("ctx_out", empty_buffer(context_room)) if context_room else None
    attr.set(data_size_out=data_room, ctx_size_out=context_room)
    if flags or batch_size:
        attr.set(flags=flags, cpu=cpu, batch_size=batch_size)
    attr.size = max(attr.size, 40)
    checked("bpf(BPF_PROG_TEST_RUN)", attr.call("PROG_TEST_RUN"))
    return RunResult(
        attr.get("retval"),
        attr.get("duration"),
        left.raw[: min(attr.get("data_size_out"), data_room)] if left is not None else b"",
        after.raw[: min(attr.get("ctx_size_out"), context_room)] if after is not None else b"",
    )
