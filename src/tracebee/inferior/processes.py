"""The followed threads and processes, and what can be asked of a stopped one."""

from __future__ import annotations

import os
from errno import ESRCH
from typing import TYPE_CHECKING

from tracebee.inferior.registers import put
from tracebee.syscalls import processvm, ptrace

_PAGE = 4096
_MAX_KEPT = 256
"""Descriptors of files in /proc that stay open, over all threads."""

if TYPE_CHECKING:
    from tracebee.inferior.breakpoints import Frame, Space


class Process:
    """`threads` by their ids.  `is_filtered` says that the process has the system call filter, or will have it
    before it executes its program; in others every call stops (`stops_every_call`) if any is to be seen.

    `space` is its memory, which another process may share.
    """

    def __init__(self, pid: int, is_filtered: bool, space: Space) -> None:
        self.pid = pid
        self.threads: dict[int, Thread] = {}
        self.is_filtered = is_filtered
        self.stops_every_call = False
        self.takes_breakpoints = True
        self.space = space

    def read(self, address: int, size: int) -> bytes | None:
        """`size` bytes of memory; None if not all of them can be read."""
        data = self._read(address, size)
        return data if data is not None and len(data) == size else None

    def read_some(self, address: int, size: int) -> bytes:
        """The bytes up to the first that cannot be read, at most `size`."""
        return self._read(address, size) or b""

    def read_string(self, address: int, size: int) -> bytes | None:
        """The bytes in front of the first NUL, at most `size`; None if memory ends before that."""
        found = b""
        while len(found) < size:
            wanted = min(size - len(found), 256, _PAGE - address % _PAGE)
            part = self._read(address, wanted)
            if part is None or len(part) < wanted:
                return None
            text, end, _ = part.partition(b"\0")
            found += text
            if end:
                break
            address += wanted
        return found

    def write(self, address: int, data: bytes) -> bool:
        """Whether all of it could be written: to memory that the process itself may write."""
        if processvm.write(self.pid, address, data):
            return True
        return any(processvm.write(tid, address, data) for tid in self._other_threads())

    def _read(self, address: int, size: int) -> bytes | None:
        data = processvm.read(self.pid, address, size)
        if data is None and processvm.get_errno() == ESRCH:
            for tid in self._other_threads():
                data = processvm.read(tid, address, size)
                if data is not None:
                    break
        return data

    def _other_threads(self) -> list[int]:
        """Those that can be asked for memory when the leader is a zombie, or the process is."""
        return [tid for tid in self.threads if tid != self.pid]


class Thread:
    """A followed thread.  Everything but `tid` and `process` has a meaning only while it is stopped.

    number, arguments, is_compat  of the current system call, or the last one; `is_compat` for another ABI's
    result                        of the call that has just ended, minus an errno if it failed

    The thread is to be let go when it `is_leaving`, and to be left to another tracer, the process `given_to`, where
    that is above 0; -1 says that this has failed.  `is_interrupted` and `is_sampled` say what a stop was asked for.
    For breakpoints (tracebee.inferior.breakpoints): the calls in `frames` are to return; those in `again`, address
    and stack pointer, are hit a second time after a signal; at `enters_from` is a system call that was moved there.
    """

    __slots__ = (
        "_files",
        "again",
        "arguments",
        "enters_from",
        "frames",
        "given_to",
        "has_exited",
        "in_group_stop",
        "is_compat",
        "is_interrupted",
        "is_leaving",
        "is_sampled",
        "is_stopped",
        "known_registers",
        "number",
        "process",
        "result",
        "tid",
        "wants_exit",
    )

    kept_files = 0

    def __init__(self, tid: int, process: Process) -> None:
        self.tid = tid
        self.process = process
        self.number = -1
        self.arguments: tuple[int, ...] = (0, 0, 0, 0, 0, 0)
        self.is_compat = False
        self.result = 0
        self.wants_exit = False
        self.is_stopped = False
        self.is_sampled = False
        self.is_leaving = False
        self.is_interrupted = False
        self.given_to = 0
        self.in_group_stop = False
        self.has_exited = False
        self.known_registers: bytes | None = None
        self.frames: list[Frame] = []
        self.again: set[tuple[int, int]] = set()
        self.enters_from = 0
        self._files: dict[str, int] | None = None

    def __repr__(self) -> str:
        return f"Thread({self.tid}, process {self.process.pid})"

    def registers(self) -> bytes:
        """struct user_regs_struct (x86-64), struct user_pt_regs (arm64); zeros if the thread has been killed."""
        data = self.known_registers
        if data is None:
            data = self.known_registers = ptrace.registers(self.tid) or bytes(ptrace.REGISTERS_SIZE)
        return data

    def set_registers(self, *values: tuple[int, int]) -> None:
        """Change registers, by offset."""
        self.known_registers = changed = put(self.registers(), *values)
        ptrace.set_registers(self.tid, changed)

    def comm(self) -> bytes:
        """Its name, at most 15 bytes; empty if it is gone."""
        return self._read_file("comm", 64)[:-1]

    def uid_gid(self) -> int:
        """Real group id << 32 | real user id."""
        text = self._read_file("status", 4096)
        try:
            uid = text[text.index(b"\nUid:") :].split(None, 2)[1]
            gid = text[text.index(b"\nGid:") :].split(None, 2)[1]
            return int(gid) << 32 | int(uid)
        except (ValueError, IndexError):
            return 0

    def cpu(self) -> int:
        """The processor that it ran on last (proc_pid_stat(5), field 39)."""
        fields = self._read_file("stat", 1024).rpartition(b")")[2].split()
        return int(fields[36]) if len(fields) > 36 else 0

    def state_and_cpu(self) -> tuple[str, int]:
        """The kernel's letter for what it does, R for on a CPU or waiting for one; and the CPU.  "" if it is gone."""
        fields = self._read_file("stat", 1024).rpartition(b")")[2].split()
        return (fields[0].decode(), int(fields[36])) if len(fields) > 36 else ("", 0)

    def has_pending(self, number: int = 0) -> bool:
        """Whether a signal waits for this thread alone; without a number, whether any waits that is not blocked."""
        text = self._read_file("status", 4096)
        masks = {}
        for line in text.split(b"\n"):
            name, _, value = line.partition(b":\t")
            if name in (b"SigPnd", b"ShdPnd", b"SigBlk"):
                masks[name] = int(value, 16)
        if len(masks) < 3:
            return False
        if number:
            return bool(masks[b"SigPnd"] >> number - 1 & 1)
        return bool((masks[b"SigPnd"] | masks[b"ShdPnd"]) & ~masks[b"SigBlk"])

    def _read_file(self, name: str, size: int) -> bytes:
        """The beginning of a file in the thread's folder of /proc; empty if it is gone.

        The descriptors stay open: a fresh read of an open file costs a fourth of opening it.
        """
        files = self._files
        if files is None:
            files = self._files = {}
        fd = files.get(name, -1)
        try:
            if fd >= 0:
                return os.pread(fd, size, 0)
            fd = os.open(f"/proc/{self.process.pid}/task/{self.tid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            if Thread.kept_files < _MAX_KEPT:
                Thread.kept_files += 1
                files[name] = fd
                return os.pread(fd, size, 0)
            try:
                return os.pread(fd, size, 0)
            finally:
                os.close(fd)
        except OSError:
            return b""

    def close_files(self) -> None:
        """Let go of /proc, for the end of the thread, or when it has another id."""
        if self._files:
            for fd in self._files.values():
                os.close(fd)
            Thread.kept_files -= len(self._files)
        self._files = None
