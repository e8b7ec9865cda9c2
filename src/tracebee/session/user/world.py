"""The world of a program that runs for a thread which ptrace has stopped."""

from __future__ import annotations

import os
import struct
import time
from typing import TYPE_CHECKING

from tracebee.session.user.tasks import REGISTERS, TOLD
from tracebee.session.user.unwind import user_stack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tracebee.inferior.control import Thread
    from tracebee.language.machine import Arch
    from tracebee.session.user.tasks import ShadowTasks

_CLOCKS = {
    "monotonic": time.CLOCK_MONOTONIC,
    "boot": time.CLOCK_BOOTTIME,
    "tai": time.CLOCK_TAI,
    "coarse": getattr(time, "CLOCK_MONOTONIC_COARSE", time.CLOCK_MONOTONIC),
}

KSTACK_NOTICE = "kstack is empty: the user backend (ptrace) sees no kernel stacks; --backend kernel does"
TASK_NOTICE = (
    f"of curtask the user backend (ptrace) knows only {TOLD}, and what is in /proc of mm and cred: "
    "reads of others fail; --backend kernel has all"
)
KERNEL_NOTICE = (
    "reads of kernel memory fail, but for some members of curtask: the user backend (ptrace) does not reach it; "
    "--backend kernel does"
)


class TaskWorld:
    """Facts about `thread`, or where that is None about the session's own process (tracebee.engine.world).

    `pid` is the session's.  `warn` gets a text once for each thing that cannot be had here.  `entry` is the code
    under the breakpoint that the thread has hit, if that is the event.
    """

    def __init__(self, pid: int, arch: Arch, tasks: ShadowTasks, warn: Callable[[str], None]) -> None:
        self.pid = pid
        self.arch = arch
        self.tasks = tasks
        self.warn = warn
        self.thread: Thread | None = None
        self.attach_cookie = 0
        self.entry = b""
        self._warned: set[str] = set()

    # --- the task

    def pid_tgid(self) -> int:
        thread = self.thread
        if thread is None:
            return self.pid << 32 | self.pid
        return thread.process.pid << 32 | thread.tid

    def ns_pid_tgid(self, device: int, inode: int) -> tuple[int, int] | None:
        """As this process sees them: scripts for this backend name no other namespace."""
        both = self.pid_tgid()
        return both & 0xFFFFFFFF, both >> 32

    def uid_gid(self) -> int:
        if self.thread is None:
            return os.getgid() << 32 | os.getuid()
        return self.thread.uid_gid()

    def comm(self) -> bytes:
        return b"tracebee" if self.thread is None else self.thread.comm()

    def cpu(self) -> int:
        return 0 if self.thread is None else self.thread.cpu()

    def numa_node(self) -> int:
        return node_of(self.cpu())

    def cgroup_id(self) -> int:
        from tracebee.host.identity import cgroup_of

        return cgroup_of(self.pid if self.thread is None else self.thread.process.pid)

    def current_task(self) -> int:
        return self.tasks.address(self.pid if self.thread is None else self.thread.tid)

    # --- clocks and chance

    def clock(self, name: str) -> int:
        if name == "jiffies":
            return time.clock_gettime_ns(time.CLOCK_MONOTONIC) * os.sysconf("SC_CLK_TCK") // 1_000_000_000
        return time.clock_gettime_ns(_CLOCKS[name])

    def random(self) -> int:
        return int.from_bytes(os.urandom(4), "little")

    # --- memory

    def read_user(self, address: int, size: int) -> bytes | None:
        return None if self.thread is None else self.thread.process.read(address, size)

    def read_user_string(self, address: int, size: int) -> bytes | None:
        return None if self.thread is None else self.thread.process.read_string(address, size)

    def write_user(self, address: int, data: bytes) -> bool:
        return self.thread is not None and self.thread.process.write(address, data)

    def read_kernel(self, address: int, size: int) -> bytes | None:
        tasks = self.tasks
        if tasks.covers(address):
            if not tasks.knows(address):
                self._warn_once(TASK_NOTICE)
            return tasks.read(address, size)
        if 0 <= address - REGISTERS < 512:
            at = address - REGISTERS
            data = self._saved_registers()[at : at + size]
            return data if len(data) == size else None
        # str() and buf() try both kinds of memory for a plain number: that is no wish for the kernel's.
        if address >> 63:
            self._warn_once(KERNEL_NOTICE)
        return None

    def _saved_registers(self) -> bytes:
        """struct pt_regs of the stopped thread, as the kernel keeps it.

        arm64 has two more members behind those of struct user_pt_regs: orig_x0 and syscallno, which a system call
        leaves its first argument and its number in (arch/arm64/include/asm/ptrace.h).
        """
        thread = self.thread
        if thread is None:
            return b""
        if self.arch.name != "aarch64":
            return thread.registers()[:168]
        return thread.registers()[:272] + struct.pack("<Qi4x", thread.arguments[0], thread.number)

    # --- stacks and probes

    def user_stack(self, most: int) -> Sequence[int]:
        thread = self.thread
        if thread is None:
            return ()
        return user_stack(thread.registers(), thread.process.read, most, self.arch, self.entry)

    def kernel_stack(self, most: int) -> Sequence[int]:
        self._warn_once(KSTACK_NOTICE)
        return ()

    def cookie(self) -> int:
        return self.attach_cookie

    def function_address(self) -> int:
        if self.thread is None:
            return 0
        offset = self.arch.registers[self.arch.instruction_pointer]
        return int.from_bytes(self.thread.registers()[offset : offset + 8], "little")

    # --- what changes something

    def trace_print(self, text: bytes) -> None:
        """The trace pipe is root's: the text goes nowhere else."""
        self._warn_once(
            f"debugf() has no trace pipe here; the first text was: {text.decode(errors='replace')}"
        )

    def send_signal(self, number: int, whole_process: bool) -> int:
        """The thread gets it when it goes on."""
        if self.thread is None:
            return -3  # ESRCH
        from tracebee.syscalls.process import send_signal

        return send_signal(self.thread.process.pid, 0 if whole_process else self.thread.tid, number)

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self.warn(text)


def node_of(cpu: int) -> int:
    """The NUMA node of a processor; 0 where that is not told."""
    try:
        names = os.listdir(f"/sys/devices/system/cpu/cpu{cpu}")
    except OSError:
        return 0
    return next((int(name[4:]) for name in names if name.startswith("node") and name[4:].isdigit()), 0)
