"""What programs get to see of an event: the records of tracepoints, laid out as their formats say.

The layouts are those of tracebee.host.tracepoints.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tracebee.inferior.control import Thread

# u16 common_type, u8 common_flags, u8 common_preempt_count, s32 common_pid
_COMMON = "=4xi"

_SYS_ENTER = struct.Struct(_COMMON + "i4x6Q")
_SYS_EXIT = struct.Struct(_COMMON + "i4xq")
_RAW_SYS_ENTER = struct.Struct(_COMMON + "q6Q")
_RAW_SYS_EXIT = struct.Struct(_COMMON + "qq")
_RAW_ARGUMENTS = struct.Struct("=Qq")
_FORK = struct.Struct(_COMMON + "16si16si")
_EXEC = struct.Struct(_COMMON + "Iii")
_EXIT = struct.Struct(_COMMON + "16sii")
_SIGNAL = struct.Struct(_COMMON + "iii4xQQ")


def sys_enter(thread: Thread) -> bytes:
    """syscalls:sys_enter_*: __syscall_nr, then up to six arguments."""
    return _SYS_ENTER.pack(thread.tid, thread.number, *thread.arguments)


def sys_exit(thread: Thread) -> bytes:
    """syscalls:sys_exit_*: __syscall_nr and ret."""
    return _SYS_EXIT.pack(thread.tid, thread.number, thread.result)


def raw_sys_enter(thread: Thread) -> bytes:
    """raw_syscalls:sys_enter: id and args[6]."""
    return _RAW_SYS_ENTER.pack(thread.tid, thread.number, *thread.arguments)


def raw_sys_exit(thread: Thread) -> bytes:
    """raw_syscalls:sys_exit: id and ret."""
    return _RAW_SYS_EXIT.pack(thread.tid, thread.number, thread.result)


def raw_arguments(registers: int, number: int) -> bytes:
    """struct bpf_raw_tracepoint_args of sys_enter and sys_exit: the address of struct pt_regs; id, or the result."""
    return _RAW_ARGUMENTS.pack(registers, number)


def process_fork(parent: Thread, child: Thread) -> bytes:
    """sched:sched_process_fork: parent_comm, parent_pid, child_comm, child_pid."""
    name = parent.comm()
    return _FORK.pack(parent.tid, name, parent.tid, name, child.tid)


def process_exec(thread: Thread, former_tid: int, filename: str) -> bytes:
    """sched:sched_process_exec: filename as __data_loc, pid, old_pid."""
    text = filename.encode("utf-8", "surrogateescape") + b"\0"
    head = _EXEC.pack(thread.tid, len(text) << 16 | _EXEC.size, thread.tid, former_tid)
    return head + text


def process_exit(thread: Thread, priority: int) -> bytes:
    """sched:sched_process_exit: comm, pid, prio."""
    return _EXIT.pack(thread.tid, thread.comm(), thread.tid, priority)


def signal_deliver(thread: Thread, siginfo: bytes, handler: int, flags: int) -> bytes:
    """signal:signal_deliver: sig, errno, code, sa_handler, sa_flags; `siginfo` is a siginfo_t."""
    number, error, code = struct.unpack_from("=iii", siginfo)
    return _SIGNAL.pack(thread.tid, number, error, code, handler, flags)
