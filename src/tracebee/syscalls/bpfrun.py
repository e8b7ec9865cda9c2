"""BPF_PROG_TEST_RUN with a packet or a context, and what the program makes of them."""

from __future__ import annotations

from typing import NamedTuple

from tracebee.syscalls import _uapi as uapi
from tracebee.syscalls.bpf import Attr
from tracebee.syscalls.raw import checked

GROWTH = 256
"""Bytes that a program may add to a packet, by moving its head or tail."""


class Run(NamedTuple):
    """`duration` is the mean of all runs, in nanoseconds."""

    retval: int
    data: bytes
    context: bytes
    duration: int


def test_run(fd: int, data: bytes, context: bytes, repeat: int, *, changes_context: bool) -> Run:
    """Run a program on request.

    With `changes_context` the kernel gives back what the program has made of its context, which it refuses for
    the types whose programs cannot change it.  Raises SyscallError.
    """
    attr = Attr(uapi.ATTR_TEST_RUN).set(prog_fd=fd, repeat=repeat)
    data_out = context_out = None
    if data:
        attr.set(data_size_in=len(data), data_size_out=len(data) + GROWTH)
        attr.memory("data_in", data)
        data_out = attr.memory("data_out", bytes(len(data) + GROWTH))
    context_in = None
    if context:
        attr.set(ctx_size_in=len(context))
        context_in = attr.memory("ctx_in", context)
        if changes_context:
            attr.set(ctx_size_out=len(context))
            context_out = attr.memory("ctx_out", bytes(len(context)))
    checked("bpf(BPF_PROG_TEST_RUN)", attr.call("PROG_TEST_RUN"))
    after = b""
    if context_out is not None:
        after = context_out.raw[: min(attr.get("ctx_size_out"), len(context))]
    elif context_in is not None:
        # Programs of the type SYSCALL write into what they were given.
        after = context_in.raw[: len(context)]
    return Run(
        attr.get("retval"),
        data_out.raw[: min(attr.get("data_size_out"), len(data) + GROWTH)] if data_out is not None else b"",
        after,
        attr.get("duration"),
    )
