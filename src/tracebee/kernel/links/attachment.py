"""Attachments by BPF_PROG_ATTACH, which hang on no descriptor: what they are put to has to be told when they go."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tracebee.errors import SyscallError, TargetError
from tracebee.kernel.links import Link
from tracebee.syscalls import bpflinks

if TYPE_CHECKING:
    from tracebee.kernel.programs import Program


def open_target(path: str, flags: int = 0) -> int:
    """A descriptor of what a program is to be attached to.  Raises TargetError."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    except OSError as error:
        raise TargetError(path, os.strerror(error.errno or 0)) from error


def put(program: Program, target: int, attach_type: str, flags: int = 0) -> Link:
    """Attach to `target`, a descriptor that is not taken over.  Raises SyscallError.

    If this process is killed the program stays until its target goes.
    """
    bpflinks.prog_attach(target, program.fd, attach_type, flags)
    # Programs may be closed before links are; the kernel wants both descriptors.
    fds = [os.dup(target), os.dup(program.fd)]

    def undo() -> None:
        try:
            bpflinks.prog_detach(fds[0], fds[1], attach_type)
        except SyscallError:
            pass  # somebody else has taken it away or put another one there

    return Link(fds, undo=undo)
