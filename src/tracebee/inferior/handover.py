"""Targets that are tracers themselves: what they trace is let go, and yet its system calls must not fail.

A process keeps our seccomp filter for ever, and a call that the filter stops fails with ENOSYS under a tracer that
does not know of it.  So before such a process is let go, it is made to install a second filter for the same calls,
one that asks this process (SECCOMP_RET_USER_NOTIF goes before SECCOMP_RET_TRACE), which answers each time that the
call may go on, for as long as anybody has that filter.
"""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

from tracebee.inferior.filter import filter_program
from tracebee.syscalls import seccomp
from tracebee.syscalls.process import may_take_descriptors, take_descriptor

if TYPE_CHECKING:
    from threading import Thread as PythonThread

    from tracebee.inferior.inject import Injector
    from tracebee.inferior.processes import Thread
    from tracebee.inferior.watch import Watch

_PAGE = 4096
_HEADER = 16  # struct sock_fprog
# include/uapi/asm-generic/mman-common.h
_PROT_READ_WRITE = 3
_MAP_PRIVATE_ANONYMOUS = 0x22


class Passages:
    """The filters that ask, each with a thread of this process that answers; true while there is any."""

    def __init__(self) -> None:
        self._answering: list[PythonThread] = []

    def __bool__(self) -> bool:
        self._answering = [one for one in self._answering if one.is_alive()]
        return bool(self._answering)

    def open(self, thread: Thread, watch: Watch, injector: Injector) -> bool:
        """Have a stopped thread install the second filter.  Whether that worked."""
        process = thread.process
        if not may_take_descriptors(process.pid):
            return False
        program = filter_program(watch, os.uname().machine, stops=False)
        size = (_HEADER + len(program) + _PAGE - 1) // _PAGE * _PAGE
        place = injector.call(thread, "mmap", (0, size, _PROT_READ_WRITE, _MAP_PRIVATE_ANONYMOUS, -1, 0))
        if place is None or -_PAGE < place < 0:
            return False
        fd: int | None = -1
        if process.write(place, seccomp.filter_header(program, place + _HEADER) + program):
            arguments = (seccomp.SET_MODE_FILTER, seccomp.FLAG_NEW_LISTENER, place)
            fd = injector.call(thread, "seccomp", arguments, is_safe=True)
        is_open = fd is not None and fd >= 0
        if fd is not None and is_open:
            # From here on the thread's calls wait for an answer, those that we make it do as well.
            self._answer(seccomp.Notifications(take_descriptor(process.pid, fd)))
            injector.call(thread, "close", (fd,), is_safe=True)
        injector.call(thread, "munmap", (place, size), is_safe=True)
        return is_open

    def _answer(self, notifications: seccomp.Notifications) -> None:
        from threading import Thread as PythonThread

        thread = PythonThread(target=_let_all_pass, args=(notifications,), daemon=True)
        # Signals are for the main thread: they end its waiting.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            thread.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._answering.append(thread)


def _let_all_pass(notifications: seccomp.Notifications) -> None:
    """Answer until nobody has the filter any more."""
    poll = select.poll()
    poll.register(notifications.fd, select.POLLIN)
    while True:
        for _, events in poll.poll():
            if events & select.POLLIN:
                notifications.let_go_on()
            elif events:
                os.close(notifications.fd)
                return


def find_target(threads: dict[int, Thread], tracer: Thread, number: int) -> Thread | None:
    """The followed thread that another one means by a number, which is that of its own pid namespace."""
    if namespace_of(tracer.tid) == namespace_of(os.getpid()):
        return threads.get(number)
    wanted = str(number)
    for thread in threads.values():
        numbers = _field(thread.tid, "NSpid").split()
        if numbers and numbers[-1] == wanted and namespace_of(thread.tid) == namespace_of(tracer.tid):
            return thread
    return None


def namespace_of(tid: int) -> str:
    """The pid namespace of a thread; empty if it cannot be known."""
    try:
        return os.readlink(f"/proc/{tid}/ns/pid")
    except OSError:
        return ""


def parent_of(tid: int) -> int:
    """The process that has started a thread's process."""
    return int(_field(tid, "PPid") or 0)


def _field(tid: int, name: str) -> str:
    """A line of a thread's status; empty if it is gone."""
    try:
        with open(f"/proc/{tid}/status", encoding="utf-8", errors="replace") as file:
            return next((line[len(name) + 1 :].strip() for line in file if line.startswith(f"{name}:")), "")
    except OSError:
        return ""
