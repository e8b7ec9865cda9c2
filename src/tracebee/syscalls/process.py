"""What concerns this process: its name, its limits, the fate of its children."""

from __future__ import annotations

from tracebee.syscalls.raw import buffer, prctl

PR_SET_NAME = 15
PR_SET_PDEATHSIG = 1


def set_name(name: str) -> None:
    """The name that the kernel shows for this thread; 15 bytes count (prctl(2))."""
    prctl(PR_SET_NAME, buffer(name.encode()[:15] + b"\0"))


def die_with_parent(signal: int) -> None:
    """Have a signal sent to this process when its parent ends."""
    prctl(PR_SET_PDEATHSIG, signal)
