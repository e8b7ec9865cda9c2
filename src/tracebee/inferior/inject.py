"""System calls in a target's stead: a stopped thread is made to do one, and does not notice."""

from __future__ import annotations

import os
import signal
from errno import EINTR
from typing import TYPE_CHECKING

from tracebee.errors import FormatError
from tracebee.host.procmaps import read_maps
from tracebee.inferior.filter import number_of
from tracebee.inferior.registers import LAYOUT, get
from tracebee.syscalls import ptrace
from tracebee.syscalls.process import send_signal

if TYPE_CHECKING:
    from tracebee.inferior.processes import Process, Thread

_CALL = {"x86_64": b"\x0f\x05", "aarch64": b"\x01\x00\x00\xd4"}  # SYSCALL, SVC #0
_LOOKED_AT = 1 << 20
"""Bytes of a mapping that are searched at most."""

_EXIT_STOP = signal.SIGTRAP | ptrace.EVENT_EXIT << 8
_CALL_STOP = signal.SIGTRAP | 0x80


class Injector:
    """`waiting` takes what wait4(2) has told and is not for us: thread and status."""

    def __init__(self, waiting: list[tuple[int, int]]) -> None:
        self._waiting = waiting
        self._machine = os.uname().machine

    def call(
        self, thread: Thread, name: str, arguments: tuple[int, ...], *, is_safe: bool = False
    ) -> int | None:
        """Do a system call; its result, or None if that cannot be.

        The thread must be stopped by a signal that it will not get, or where it is not inside of a system call, or
        stop_again() must follow.  Its registers and its signal mask are as before when this returns.
        A thread with seccomp filters of its own is left alone unless it `is_safe`.
        """
        tid, space = thread.tid, thread.process.space
        place = space.call_instruction = space.call_instruction or find_call_instruction(thread.process)
        if not place or not (is_safe or not has_other_filters(thread)):
            return None
        saved = thread.registers()
        mask = ptrace.signal_mask(tid)
        # Nothing may come in between but what cannot be blocked.
        if mask < 0 or not ptrace.set_signal_mask(tid, (1 << 64) - 1):
            return None
        values = zip(LAYOUT.arguments, arguments, strict=False)
        number = number_of(name, self._machine)
        thread.set_registers((LAYOUT.pointer, place), (LAYOUT.number, -1), (LAYOUT.call, number), *values)
        result = self._finish_call(thread)
        if result is not None:
            ptrace.set_registers(tid, saved)
            thread.known_registers = saved
            ptrace.set_signal_mask(tid, mask)
        return result

    def undo_call(self, thread: Thread) -> bool:
        """Take a thread that is about to do a system call back to where it will do it again."""
        if self._machine != "x86_64":
            return False
        registers = thread.registers()
        number = get(registers, LAYOUT.number)
        thread.set_registers((LAYOUT.number, -1))
        if self._finish_call(thread) is None:
            return False
        thread.known_registers = registers
        pointer = get(registers, LAYOUT.pointer) - len(_CALL[self._machine])
        thread.set_registers((LAYOUT.pointer, pointer), (LAYOUT.number, -1), (LAYOUT.call, number))
        return True

    def stop_again(self, thread: Thread) -> bool:
        """Bring a thread that was interrupted in a system call, and has done calls for us since, to where it was.

        Only from there does the kernel start the call again.  Whether it is there.
        """
        ptrace.ptrace(ptrace.INTERRUPT, thread.tid, 0, 0)
        if ptrace.ptrace(ptrace.CONT, thread.tid, 0, 0) < 0:
            return False
        word = self._wait(thread.tid)
        if word >> 16 == ptrace.EVENT_STOP:
            return True
        self._waiting.append((thread.tid, word))
        return False

    def _wait(self, tid: int) -> int:
        """What a thread tells next; of one that is gone, that it was killed."""
        while ptrace.wait(tid, ptrace.place, ptrace.WALL, None) < 0:
            if ptrace.get_errno() != EINTR:
                return signal.SIGKILL
        return ptrace.status_word[0]

    def _finish_call(self, thread: Thread) -> int | None:
        """Let a thread go on until the end of a system call; its result, None if the thread ends."""
        tid, info = thread.tid, ptrace.call_info
        result: int | None = None
        was_stopped = False
        while result is None:
            if ptrace.ptrace(ptrace.SYSCALL, tid, 0, 0) < 0:
                return None
            word = self._wait(tid)
            code = word >> 8
            if word & 0xFF != 0x7F or code == _EXIT_STOP:
                self._waiting.append((tid, word))
                return None
            if code == _CALL_STOP:
                ptrace.ptrace(ptrace.GET_SYSCALL_INFO, tid, info.size, info.reference)
                if info.view[0] == ptrace.SYSCALL_INFO_EXIT:
                    result = ptrace.read_result(info.view)[0]
            elif code >> 8 == ptrace.EVENT_STOP:
                was_stopped = True
            elif code == signal.SIGSTOP:
                send_signal(thread.process.pid, tid, code)
        if was_stopped:
            # It has to take note again that its group has stopped.
            ptrace.ptrace(ptrace.INTERRUPT, tid, 0, 0)
        return result


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
