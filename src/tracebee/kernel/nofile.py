"""The limit on open files: a probe can take two descriptors, and a script have thousands of probes."""

from __future__ import annotations

import resource

_before: list[tuple[int, int]] = []
"""The limits before they were lifted, once they have been."""


def raise_nofile() -> bool:
    """Lift this process's soft limit to the hard one; whether that gave more room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return False
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):
        return False
    _before[:] = [(soft, hard)]
    return True


def restore_nofile() -> None:
    """Set the limit back to what it was: in a process that is about to become another program."""
    for limits in _before:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
