"""Starting the user backend: what it can be asked to trace."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from tracebee.errors import TargetError
from tracebee.session.child import find_executable, split_command
from tracebee.session.user.backend import UserBackend
from tracebee.session.user.machine import UserMachine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.session.machine import LiveMachine
    from tracebee.spec.objects import ObjectSpec


def load(spec: ObjectSpec, machine: LiveMachine, pid: int, ring_pages: int) -> UserBackend:
    """The backend with maps made and programs translated.  Raises EngineFault, NotSupportedError."""
    assert isinstance(machine, UserMachine)
    return UserBackend(spec, machine, pid=pid, ring_pages=ring_pages)


def check_command(command: str | Sequence[str]) -> None:
    """Refuse a program that gains rights when it is executed: it would not, under ptrace.  Raises TargetError."""
    words = split_command(command)
    path = find_executable(words[0])
    status = os.stat(path)
    bits = status.st_mode & (stat.S_ISUID | stat.S_ISGID)
    if not bits or os.geteuid() == 0:
        return
    gains_user = bits & stat.S_ISUID and status.st_uid != os.geteuid()
    gains_group = bits & stat.S_ISGID and status.st_gid not in (os.getegid(), *os.getgroups())
    if gains_user or gains_group:
        raise TargetError(
            words[0],
            "is a setuid or setgid program, which gets no rights of its own while it is traced by ptrace",
            "trace it as root, or with --backend kernel, which does not change how it runs",
        )
