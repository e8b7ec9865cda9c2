"""Helper functions that take call stacks (kernel/bpf/stackmap.c)."""

from __future__ import annotations

import errno
from struct import pack
from typing import TYPE_CHECKING

from tracebee.engine.calls.base import MASK32, find_map, wrong_map
from tracebee.engine.maps.stacks import (
    BPF_F_FAST_STACK_CMP,
    BPF_F_REUSE_STACKID,
    BPF_F_SKIP_FIELD_MASK,
    BPF_F_USER_STACK,
    FRAME_BYTES,
    StackTraceMap,
)

if TYPE_CHECKING:
    from tracebee.engine.runtime import Helper, Runtime

MOST_FRAMES = 127
"""The default of kernel.perf_event_max_stack."""


def _frames(machine: Runtime, most: int, flags: int) -> bytes | None:
    """At most `most` frames behind those to be skipped, as bytes; None if the stack is shorter than these."""
    skip = flags & BPF_F_SKIP_FIELD_MASK
    take = machine.world.user_stack if flags & BPF_F_USER_STACK else machine.world.kernel_stack
    found = take(min(most + skip, MOST_FRAMES))
    if len(found) < skip:
        return None
    frames = found[skip : skip + most]
    return pack(f"<{len(frames)}Q", *frames)


def get_stack(machine: Runtime) -> Helper:
    """Build ids instead of addresses (BPF_F_USER_BUILD_ID) are refused as an unknown flag."""
    memory = machine.memory

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        size = r3 & MASK32
        memory.view(r2, size, writable=True)
        result = -errno.EINVAL
        if not r4 & ~(BPF_F_SKIP_FIELD_MASK | BPF_F_USER_STACK) and size % FRAME_BYTES == 0:
            data = _frames(machine, size // FRAME_BYTES, r4)
            if data is not None:
                memory.write(r2, data.ljust(size, b"\0"))
                return len(data)
            result = -errno.EFAULT
        memory.write(r2, bytes(size))
        return result

    return call


def get_stackid(machine: Runtime) -> Helper:
    known = BPF_F_SKIP_FIELD_MASK | BPF_F_USER_STACK | BPF_F_FAST_STACK_CMP | BPF_F_REUSE_STACKID

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        table = find_map(machine.maps, r2, "r2")
        if not isinstance(table, StackTraceMap):
            raise wrong_map(table, "get_stackid")
        if r3 & ~known:
            return -errno.EINVAL
        data = _frames(machine, table.most, r3)
        return table.file(data, r3) if data else -errno.EFAULT

    return call


MAKERS = {"get_stack": get_stack, "get_stackid": get_stackid}
