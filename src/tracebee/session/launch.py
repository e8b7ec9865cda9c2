"""From a compiled script to a session that is ready to start."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from tracebee.errors import SourceError, VerifierError
from tracebee.insn import opcodes as op
from tracebee.session.child import Child
from tracebee.session.kernel import KernelBackend
from tracebee.session.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.language.compile import Compilation
    from tracebee.session.actions import Output
    from tracebee.session.machine import LiveMachine
    from tracebee.session.user.backend import UserBackend
    from tracebee.spec.objects import ObjectSpec

SMALLEST_LOG = 1 << 16
MAY_GOTO = op.BPF_JMP | op.BPF_JCOND


def launch(
    compilation: Compilation,
    machine: LiveMachine,
    output: Output,
    *,
    pid: int = 0,
    command: str | Sequence[str] | None = None,
    otherwise: int = 0,
    warnings: bool = True,
    log_level: int = 0,
) -> Session:
    """Make maps, load programs, and have the command wait to be released.  Nothing stays if that fails.

    `otherwise` is the process to trace where a backend needs one, and neither `pid` nor `command` is given.
    Raises VerifierError, PermissionRefused, TargetError, SyscallError, EngineFault.
    """
    assert compilation.spec is not None
    ring_pages = compilation.config.number("perf_rb_pages")
    backend: KernelBackend | UserBackend
    tracer = 0
    if machine.backend == "user":
        from tracebee.session.user.launch import check_command, load

        if command is not None:
            check_command(command)
        backend = load(compilation.spec, machine, pid or otherwise, ring_pages)
        tracer = backend.tracer_pid
    else:
        backend = _load(
            compilation,
            machine,
            pid=pid,
            ring_pages=ring_pages,
            log_bytes=max(SMALLEST_LOG, compilation.config.number("log_size")),
            log_level=log_level,
        )
    child = None
    try:
        if command is not None:
            child = Child(command, tracer)
            backend.set_command(child.pid)
        return Session(
            backend.spec, backend, compilation.config, output, child=child, pid=pid, warnings=warnings
        )
    except BaseException:
        backend.close()
        if child is not None:
            child.close()
        raise


def _load(compilation: Compilation, machine: LiveMachine, **options: Any) -> KernelBackend:
    """Load a script's programs; where the verifier gets lost in its loops, with other loops.

    What the verifier refuses then is told as of the first try.
    """
    assert compilation.spec is not None
    try:
        return KernelBackend(compilation.spec, machine, **options)
    except VerifierError as refused:
        try:
            spec = _with_plain_loops(compilation, machine, refused)
            if spec is not None:
                return KernelBackend(spec, machine, **options)
        except (VerifierError, SourceError):
            pass
        raise


def _with_plain_loops(
    compilation: Compilation, machine: LiveMachine, refused: VerifierError
) -> ObjectSpec | None:
    """The script with functions for its long loops, if it was refused for being too complex with may_goto.

    The verifier of Linux 6.12 does not always see that one round of such a loop is like another, and follows one
    round after the other until it has no memory for states (E2BIG, or EFAULT from push_stack()).
    """
    assert compilation.spec is not None
    if refused.errno not in (errno.E2BIG, errno.EFAULT) or not machine.feature("loop"):
        return None
    insns = (insn for program in compilation.spec.programs for insn in program.insns)
    if not any(insn.code == MAY_GOTO for insn in insns):
        return None
    from tracebee.language.compile import compile_script

    machine.features.disable("may_goto")
    return compile_script(compilation.source, machine, compilation.options).spec
