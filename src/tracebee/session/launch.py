"""From a compiled script to a session that is ready to start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.session.child import Child
from tracebee.session.kernel import KernelBackend
from tracebee.session.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.language.compile import Compilation
    from tracebee.session.actions import Output
    from tracebee.session.machine import LiveMachine

SMALLEST_LOG = 1 << 16


def launch(
    compilation: Compilation,
    machine: LiveMachine,
    output: Output,
    *,
    pid: int = 0,
    command: str | Sequence[str] | None = None,
    warnings: bool = True,
    log_level: int = 0,
) -> Session:
    """Make maps, load programs, and have the command wait to be released.  Nothing stays if that fails.

    Raises VerifierError, PermissionRefused, TargetError, SyscallError.
    """
    spec = compilation.spec
    assert spec is not None
    config = compilation.config
    backend = KernelBackend(
        spec,
        machine,
        pid=pid,
        ring_pages=config.number("perf_rb_pages"),
        log_bytes=max(SMALLEST_LOG, config.number("log_size")),
        log_level=log_level,
    )
    child = None
    try:
        if command is not None:
            child = Child(command)
            backend.context.child_pid = child.pid
        return Session(spec, backend, config, output, child=child, pid=pid, warnings=warnings)
    except BaseException:
        backend.close()
        if child is not None:
            child.close()
        raise
