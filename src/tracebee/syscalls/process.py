"""What concerns this process: its name, its limits, the fate of its children."""

from __future__ import annotations

import os
from errno import EBADF

from tracebee.syscalls.raw import buffer, checked, number_of, prctl, syscall

PR_SET_NAME = 15
PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
PR_SET_PTRACER = 0x59616D61  # "Yama"


def set_name(name: str) -> None:
    """The name that the kernel shows for this thread; 15 bytes count (prctl(2))."""
    prctl(PR_SET_NAME, buffer(name.encode()[:15] + b"\0"))


def die_with_parent(signal: int) -> None:
    """Have a signal sent to this process when its parent ends."""
    prctl(PR_SET_PDEATHSIG, signal)


def let_trace(pid: int) -> None:
    """Allow a process to ptrace this one, where Yama wants that said (PR_SET_PTRACER, Yama's kernel doc)."""
    prctl(PR_SET_PTRACER, pid)


def no_new_privileges() -> None:
    """Have no program that this process executes gain rights: what an unprivileged filter needs (prctl(2))."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def send_signal(pid: int, tid: int, number: int) -> int:
    """Send a signal to a thread of a process, or where `tid` is 0 to the process; 0 or minus an errno."""
    if tid:
        return syscall(number_of("tgkill"), pid, tid, number)
    try:
        os.kill(pid, number)
    except OSError as error:
        return -(error.errno or 0)
    return 0


def may_take_descriptors(pid: int) -> bool:
    """Whether take_descriptor() works for a process: asked for one that no process has."""
    try:
        take_descriptor(pid, 0x7FFFFFFF)
    except OSError as error:
        return error.errno == EBADF
    return True


def take_descriptor(pid: int, fd: int) -> int:
    """A copy of another process's descriptor (pidfd_getfd(2), Linux 5.6).

    Raises SyscallError, OSError; needs the right to trace the process.
    """
    process = os.pidfd_open(pid)
    try:
        return checked("pidfd_getfd", syscall(number_of("pidfd_getfd"), process, fd, 0))
    finally:
        os.close(process)
