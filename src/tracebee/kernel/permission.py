"""What a bare EPERM of bpf(2) means: which right is missing, and how to come by it."""

from __future__ import annotations

from tracebee.errors import PermissionRefused

HINT = (
    "run as root, or give the capabilities: sudo, setpriv --ambient-caps, or systemd's AmbientCapabilities; "
    "--backend user traces by ptrace without"
)


def missing_right(action: str) -> PermissionRefused | None:
    """The error for a process without the right to trace; None for one that has it."""
    from tracebee.host.rights import read_rights

    missing = read_rights().missing_for_tracing()
    return PermissionRefused(action, missing, HINT) if missing else None
