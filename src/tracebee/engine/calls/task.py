"""Helper functions about the task that a program runs for, the probe, and the clocks."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from tracebee.engine.calls.base import MASK32

if TYPE_CHECKING:
    from tracebee.engine.calls.base import Make
    from tracebee.engine.runtime import Helper, Runtime

NS_INFO_BYTES = 8
"""struct bpf_pidns_info: u32 pid, u32 tgid."""


def _fact(name: str) -> Make:
    """A helper without arguments that gives a number of the world."""

    def make(machine: Runtime) -> Helper:
        ask = getattr(machine.world, name)

        def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
            return ask()  # type: ignore[no-any-return]

        return call

    return make


def _clock(name: str) -> Make:
    def make(machine: Runtime) -> Helper:
        clock = machine.world.clock

        def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
            return clock(name)

        return call

    return make


def get_current_comm(machine: Runtime) -> Helper:
    write, comm = machine.memory.write, machine.world.comm

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        size = r2 & MASK32
        if not size:
            return -errno.EINVAL
        machine.memory.view(r1, size, writable=True)
        write(r1, comm()[: size - 1].ljust(size, b"\0"))
        return 0

    return call


def get_ns_current_pid_tgid(machine: Runtime) -> Helper:
    memory, world = machine.memory, machine.world

    def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
        size = r4 & MASK32
        memory.view(r3, size, writable=True)
        found = world.ns_pid_tgid(r1, r2) if size == NS_INFO_BYTES else None
        if found is None:
            memory.write(r3, bytes(size))
            return -errno.EINVAL
        thread, process = found
        memory.write(r3, thread.to_bytes(4, "little") + process.to_bytes(4, "little"))
        return 0

    return call


def _signal(whole_process: bool) -> Make:
    def make(machine: Runtime) -> Helper:
        send = machine.world.send_signal

        def call(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
            return send(r1 & MASK32, whole_process)

        return call

    return make


MAKERS = {
    "get_current_pid_tgid": _fact("pid_tgid"),
    "get_current_uid_gid": _fact("uid_gid"),
    "get_current_task": _fact("current_task"),
    "get_current_task_btf": _fact("current_task"),
    "get_current_cgroup_id": _fact("cgroup_id"),
    "get_smp_processor_id": _fact("cpu"),
    "get_numa_node_id": _fact("numa_node"),
    "get_prandom_u32": _fact("random"),
    "get_attach_cookie": _fact("cookie"),
    "get_func_ip": _fact("function_address"),
    "ktime_get_ns": _clock("monotonic"),
    "ktime_get_boot_ns": _clock("boot"),
    "ktime_get_tai_ns": _clock("tai"),
    "ktime_get_coarse_ns": _clock("coarse"),
    "jiffies64": _clock("jiffies"),
    "get_current_comm": get_current_comm,
    "get_ns_current_pid_tgid": get_ns_current_pid_tgid,
    "send_signal": _signal(True),
    "send_signal_thread": _signal(False),
}
