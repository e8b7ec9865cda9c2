"""Which backend runs a script: the one that was asked for, or the best that this process is allowed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from tracebee.errors import SyscallError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.session.machine import LiveMachine

BACKENDS = ("auto", "kernel", "user")


class Choice(NamedTuple):
    """A backend, and in one line why it was taken where that was not what everybody expects."""

    backend: str
    reason: str


def check_backend(wanted: str) -> str:
    """The name of a backend.  Raises UsageError if it is none."""
    if wanted not in BACKENDS:
        raise UsageError(
            f"unknown backend: {wanted}", f"backends: {', '.join(BACKENDS)}, vm:KERNEL such as vm:6.1"
        )
    return wanted


def choose_backend(wanted: str) -> Choice:
    """`wanted` is one of BACKENDS.  Raises UsageError for anything else."""
    if check_backend(wanted) != "auto":
        return Choice(wanted, "")
    refusal = why_no_kernel()
    if not refusal:
        return Choice("kernel", "")
    return Choice("user", f"using the user backend (ptrace), as the kernel cannot be used: {refusal}")


def why_no_kernel() -> str:
    """Why this process may not trace with the kernel's help; empty if it may."""
    from tracebee.host.rights import read_rights
    from tracebee.syscalls import bpf

    try:
        rights = read_rights()
    except OSError as error:
        return f"/proc cannot be read ({error.strerror})"
    missing = rights.missing_for_tracing()
    if missing:
        level = rights.sysctl("kernel.unprivileged_bpf_disabled")
        more = f", and kernel.unprivileged_bpf_disabled is {level}" if level else ""
        return f"{missing} {'are' if ' and ' in missing else 'is'} missing{more}"
    try:
        os.close(bpf.map_create("ARRAY", 4, 8, 1))
    except SyscallError as error:
        return f"it refuses bpf(2): {error.strerror} ({error.errno_name})"
    return ""


def make_machine(backend: str, disabled: Sequence[str] = ()) -> LiveMachine:
    """The machine that scripts for a backend are compiled for; `disabled` are features to do without."""
    if backend == "user":
        from tracebee.session.user.machine import UserMachine

        return UserMachine(disabled=disabled)
    from tracebee.kernel.features import Features
    from tracebee.session.machine import LiveMachine

    return LiveMachine(Features(disabled))
