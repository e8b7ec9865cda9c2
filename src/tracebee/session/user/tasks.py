"""What can be told of the kernel's task_struct without the kernel: as much of it as /proc shows.

`curtask` is the address of memory that is nowhere: a read of a member that is known here is answered from
/proc, all others fail.  The layout is the kernel's own, by its BTF, which everybody may read; so scripts and
CO-RE relocated objects find the members where they expect them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tracebee.spec.types import Struct

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.spec.types import Type

    # A thread's id → the bytes of a member, or None
    Answer = Callable[[int], bytes | None]

SHADOW = 0xFFFF_C900_0000_0000
"""Where the kernel's addresses would be: shadows of thread N are at N << 20 behind it."""

REGISTERS = SHADOW - (1 << 16)
"""Where struct pt_regs of the thread is that the event is about."""

_THREAD = 20
_KIND = 16
_KINDS = ("task_struct", "mm_struct", "cred")

# Fields of /proc/PID/stat (proc_pid_stat(5)), counted from 3, which is the first behind the name
_PPID, _START_TIME, _START_CODE, _END_CODE, _START_STACK = 1, 19, 23, 24, 25
_START_DATA, _END_DATA, _START_BRK, _ARG_START, _ARG_END, _ENV_START, _ENV_END = range(42, 49)


class ShadowTasks:
    """Reads of the members of tasks, and of what they point to."""

    def __init__(self, find_type: Callable[[str], Type | None]) -> None:
        """`find_type` gives the kernel's type of a name such as "struct cred", or None."""
        self._find_type = find_type
        self._members: dict[str, list[tuple[int, int, Answer]]] = {}

    @staticmethod
    def address(tid: int, kind: str = "task_struct") -> int:
        """Where the shadow of a thread's structure is; 0 for thread 0, which /proc does not have."""
        return SHADOW + (tid << _THREAD) + (_KINDS.index(kind) << _KIND) if tid else 0

    @staticmethod
    def covers(address: int) -> bool:
        """Whether an address is that of some thread's shadow."""
        return SHADOW <= address < SHADOW + (1 << 22 + _THREAD)

    def read(self, address: int, size: int) -> bytes | None:
        """The bytes there, if they are of one member that is known."""
        found = self._find(address)
        if found is None:
            return None
        tid, at, (offset, length, answer) = found
        data = answer(tid) if at + size <= offset + length else None
        return None if data is None else data[:length].ljust(length, b"\0")[at - offset : at - offset + size]

    def knows(self, address: int) -> bool:
        """Whether an address is that of a member that is told of."""
        return self._find(address) is not None

    def _find(self, address: int) -> tuple[int, int, tuple[int, int, Answer]] | None:
        """The thread, the offset in its structure, and the member that is there."""
        tid, rest = divmod(address - SHADOW, 1 << _THREAD)
        number, at = divmod(rest, 1 << _KIND)
        if not self.covers(address) or number >= len(_KINDS):
            return None
        for member in self._known(_KINDS[number]):
            if member[0] <= at < member[0] + member[1]:
                return tid, at, member
        return None

    def _known(self, kind: str) -> list[tuple[int, int, Answer]]:
        """Offset, size and answer of the members that are told of, as far as this kernel has them."""
        found = self._members.get(kind)
        if found is None:
            found = self._members[kind] = []
            type_ = self._find_type(f"struct {kind}")
            for name, answer in _ANSWERS[kind].items():
                field = type_.find(name) if isinstance(type_, Struct) else None
                if field is not None and not field.bits:
                    found.append((field.offset, field.type.size, answer))
        return found


def _word(number: int | None) -> bytes | None:
    return None if number is None else number.to_bytes(8, "little")


def _read(tid: int, name: str) -> str:
    try:
        with open(f"/proc/{tid}/{name}", encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _stat(tid: int, field: int) -> int | None:
    parts = _read(tid, "stat").rpartition(")")[2].split()
    return int(parts[field]) if len(parts) > field else None


def _status(tid: int, name: str, column: int = 0) -> int | None:
    for line in _read(tid, "status").split("\n"):
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[column])
    return None


def _leader(tid: int) -> int:
    return _status(tid, "Tgid") or 0


def _start_time(tid: int) -> bytes | None:
    ticks = _stat(tid, _START_TIME)
    return _word(None if ticks is None else ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK"))


def _id(name: str, column: int) -> Answer:
    return lambda tid: _word(_status(tid, name, column))


def _limit(field: int) -> Answer:
    return lambda tid: _word(_stat(tid, field))


def _to_task(find: Callable[[int], int | None]) -> Answer:
    return lambda tid: _word(ShadowTasks.address(find(tid) or 0))


_ANSWERS: dict[str, dict[str, Answer]] = {
    "task_struct": {
        "pid": _word,
        "tgid": lambda tid: _word(_leader(tid)),
        "comm": lambda tid: _read(tid, "comm").removesuffix("\n").encode("utf-8", "surrogateescape"),
        "real_parent": _to_task(lambda tid: _stat(tid, _PPID)),
        "group_leader": _to_task(_leader),
        "mm": lambda tid: _word(ShadowTasks.address(tid, "mm_struct")),
        "cred": lambda tid: _word(ShadowTasks.address(tid, "cred")),
        "real_cred": lambda tid: _word(ShadowTasks.address(tid, "cred")),
        "start_boottime": _start_time,
    },
    "mm_struct": {
        "start_code": _limit(_START_CODE),
        "end_code": _limit(_END_CODE),
        "start_stack": _limit(_START_STACK),
        "start_data": _limit(_START_DATA),
        "end_data": _limit(_END_DATA),
        "start_brk": _limit(_START_BRK),
        "arg_start": _limit(_ARG_START),
        "arg_end": _limit(_ARG_END),
        "env_start": _limit(_ENV_START),
        "env_end": _limit(_ENV_END),
    },
    "cred": {
        "uid": _id("Uid", 0),
        "euid": _id("Uid", 1),
        "suid": _id("Uid", 2),
        "fsuid": _id("Uid", 3),
        "gid": _id("Gid", 0),
        "egid": _id("Gid", 1),
        "sgid": _id("Gid", 2),
        "fsgid": _id("Gid", 3),
    },
}
"""The members that are told of.  Numbers are given in eight bytes, of which a smaller member takes the first."""

TOLD = ", ".join(_ANSWERS["task_struct"])
"""The members of a task that are told of, for messages."""
