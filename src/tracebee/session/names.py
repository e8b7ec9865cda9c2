"""Numbers to names: symbols, stacks, users, cgroups, errors, signals, system calls, points in time."""

from __future__ import annotations

import errno
import os
import struct
import time
from typing import TYPE_CHECKING

from tracebee.errors import FormatError
from tracebee.spec.values import Frame, StackTrace

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.host.identity import CgroupHierarchies
    from tracebee.host.kallsyms import KernelSymbols
    from tracebee.host.usersyms import UserSymbolizer
    from tracebee.kernel.taskevents import Executed, Forked, Mapped
    from tracebee.session.backend import TaskLog
    from tracebee.spec.objects import Schema
    from tracebee.spec.types import Stack

TRACING_ITSELF = ("bpf_prog_", "bpf_trampoline_", "bpf_get_stack")
"""How the names of functions start that run because a program does."""

LOST_STACK = Frame(0, "[stack lost]")


class Names:
    """Looks names up when they are first needed, and keeps them.

    `read_stack` gives the frames' addresses behind a stack's id, or None if they are gone.
    """

    def __init__(self, schema: Schema, read_stack: Callable[[int], bytes | None]) -> None:
        self.schema = schema
        self.read_stack = read_stack
        self.stacks_lost = 0
        self.tasks: TaskLog | None = None
        self._kernel: KernelSymbols | None = None
        self._users: UserSymbolizer | None = None
        self._stacks: dict[tuple[int, int, str, bool], StackTrace] = {}
        self._kernel_names: dict[int, str] = {}
        self._boot: int | None = None
        self._paths: dict[tuple[int, int], str] = {}
        self._cgroups: CgroupHierarchies | None = None

    @property
    def kernel(self) -> KernelSymbols:
        if self._kernel is None:
            from tracebee.host.kallsyms import KernelSymbols

            self._kernel = KernelSymbols.read()
        return self._kernel

    @property
    def users(self) -> UserSymbolizer:
        """What names user addresses, up to date with what tasks have mapped."""
        if self._users is None:
            from tracebee.host.demangle import demangle
            from tracebee.host.usersyms import UserSymbolizer

            self._users = UserSymbolizer(demangler=demangle if self.schema.demangles else str)
        if self.tasks is not None:
            for event in self.tasks.drain():
                self._follow(self._users, event)
        return self._users

    def follow_tasks(self) -> None:
        """Take in what tasks have mapped, so that the log does not overflow."""
        if self.tasks is not None:
            _ = self.users

    @staticmethod
    def _follow(users: UserSymbolizer, event: Forked | Executed | Mapped) -> None:
        from tracebee.host.procmaps import Mapping
        from tracebee.kernel.taskevents import Executed, Mapped

        if isinstance(event, Mapped):
            path, _, deleted = event.path.partition(" (deleted)")
            users.add_mapping(
                event.pid,
                Mapping(
                    event.start,
                    event.end,
                    "r-xp",
                    event.offset,
                    event.device,
                    event.inode,
                    "" if path == "//anon" else path,
                    bool(deleted),
                ),
            )
        elif isinstance(event, Executed):
            users.add_execution(event.pid)
        else:
            users.add_fork(event.pid, event.parent)

    def close(self) -> None:
        if self._users is not None:
            self._users.close()

    # --- symbols

    def kernel_symbol(self, address: int) -> str:
        """The name of what lies at a kernel address, or the address."""
        name = self._kernel_names.get(address)
        if name is None:
            found = self.kernel.resolve(address)
            name = self._kernel_names[address] = found.name if found else _hex(address)
        return name

    def user_symbol(self, address: int, pid: int) -> str:
        """The name of what lies at an address of a process, or the address."""
        frame = self.users.resolve(pid, address)
        return frame.name or _hex(address)

    def stack(self, type_: Stack, stack_id: int, pid: int, count: int) -> StackTrace:
        """A stack by its id.  The same object for the same stack."""
        key = (stack_id, pid if type_.user else 0, type_.mode, type_.user)
        trace = self._stacks.get(key)
        if trace is None:
            trace = self._make_stack(type_, stack_id, pid, count)
            if len(self._stacks) > 20_000:
                self._stacks.clear()
            self._stacks[key] = trace
        return trace

    def _make_stack(self, type_: Stack, stack_id: int, pid: int, count: int) -> StackTrace:
        if count == 0:
            return StackTrace((), type_.mode, type_.user)
        data = self.read_stack(stack_id)
        if data is None:
            self.stacks_lost += 1
            return StackTrace((LOST_STACK,), type_.mode, type_.user)
        if 8 * count > len(data):
            raise FormatError(f"a stack of {count} frames in {len(data)} bytes")
        addresses = struct.unpack_from(f"={count}Q", data)
        if type_.user:
            frames = tuple(
                Frame(frame.address, frame.name or "", frame.offset, frame.path)
                for frame in self.users.resolve_stack(pid, addresses)
            )
        else:
            frames = tuple(self._kernel_frame(address) for address in addresses)
            # How many innermost frames are the tracing itself differs between kernels.
            own = 0
            while own < len(frames) - 1 and frames[own].name.startswith(TRACING_ITSELF):
                own += 1
            frames = frames[own:]
        return StackTrace(frames, type_.mode, type_.user)

    def _kernel_frame(self, address: int) -> Frame:
        found = self.kernel.resolve(address)
        if found is None:
            return Frame(address)
        return Frame(address, found.name, found.offset)

    # --- tables

    def table(self, name: str) -> Callable[[int], str]:
        """The function that names numbers of a kind (tracebee.spec.types.Named)."""
        rows = {"probe": self.schema.probes, "func": self.schema.functions}.get(name)
        if rows is None:
            return TABLES[name]
        return lambda number: rows[number] if 0 <= number < len(rows) else ""

    def user(self, uid: int) -> str:
        from tracebee.host.identity import user_name

        return user_name(uid)

    def cgroup(self, cgroup_id: int, pattern: int) -> str:
        """The paths of a cgroup in the hierarchies whose name matches a pattern, with commas between them."""
        key = (cgroup_id, pattern)
        if key not in self._paths:
            if pattern >= len(self.schema.strings):
                raise FormatError(f"a cgroup with the unknown pattern {pattern}")
            if self._cgroups is None:
                from tracebee.host.identity import CgroupHierarchies

                self._cgroups = CgroupHierarchies()
            found = self._cgroups.paths(cgroup_id, self.schema.strings[pattern] or "*")
            self._paths[key] = ",".join(found)
        return self._paths[key]

    # --- time and network

    def time(self, nanoseconds: int, pattern: int, clock: int) -> str:
        """A point in time through a format of the script; clock 0 counts from the start of the machine."""
        if clock == 0:
            if self._boot is None:
                from tracebee.host.identity import boot_time_ns

                self._boot = boot_time_ns()
            nanoseconds += self._boot
        if pattern >= len(self.schema.strings):
            raise FormatError(f"a point in time with the unknown format {pattern}")
        return format_time(self.schema.strings[pattern], nanoseconds)

    def internet(self, data: bytes) -> str:
        """An address out of its family and bytes."""
        import socket

        family = int.from_bytes(data[:4], "little")
        if family == socket.AF_INET6:
            return socket.inet_ntop(socket.AF_INET6, data[4:20])
        return socket.inet_ntop(socket.AF_INET, data[4:8])


def format_time(pattern: str, nanoseconds: int) -> str:
    """strftime in local time, with ``%f`` for microseconds."""
    if "%f" in pattern:
        micro = f"{nanoseconds // 1000 % 1_000_000:06d}"
        pattern = "%%".join(part.replace("%f", micro) for part in pattern.split("%%"))
    return time.strftime(pattern, time.localtime(nanoseconds // 1_000_000_000))


def _hex(address: int) -> str:
    return f"0x{address:x}"


def _strerror(number: int) -> str:
    number = abs(number)
    return os.strerror(number) if number in errno.errorcode or number == 0 else "Unknown error"


def _signal(number: int) -> str:
    import signal

    try:
        return signal.strsignal(number) or "N/A"
    except (ValueError, OverflowError):
        return "N/A"


def _syscall(number: int) -> str:
    from tracebee.host.identity import find_syscall_name

    return find_syscall_name(number) or "Unknown syscall"


TABLES: dict[str, Callable[[int], str]] = {"strerror": _strerror, "signal": _signal, "syscall": _syscall}
"""What names the numbers of a kind that does not depend on the script."""

MOST_NUMBERS = 1024
"""More than there are of any kind: 133 errors, 64 signals, about 470 system calls."""


def names_by_number(table: str) -> list[str]:
    """The names of a kind from 0 on, as far as there are any; the last one is that of unknown numbers."""
    names = [TABLES[table](number) for number in range(MOST_NUMBERS + 1)]
    unknown = names[-1]
    while names and names[-1] == unknown:
        names.pop()
    return [*names, unknown]
