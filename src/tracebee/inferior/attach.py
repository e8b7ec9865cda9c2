"""Why a process cannot be traced, in words (ptrace(2), "Ptrace access mode checking")."""

from __future__ import annotations

import os

from tracebee.errors import PermissionRefused, TargetError, TracebeeError

_SCOPE = "/proc/sys/kernel/yama/ptrace_scope"


def explain_refusal(pid: int, error: int) -> TracebeeError:
    """The exception for an errno that PTRACE_SEIZE has given."""
    from errno import ESRCH

    target = f"process {pid}"
    status = _read_status(pid)
    if error == ESRCH or not status:
        return TargetError(target, "there is no such process")
    tracer = int(status.get("TracerPid", "0"))
    if tracer:
        return TargetError(
            target,
            f"is already traced by process {tracer} ({_name(tracer)}); a process has one tracer at most",
        )
    if status.get("State", "").startswith(("Z", "X")):
        return TargetError(target, "has ended, only its parent has not taken note yet")
    if int(status.get("Tgid", pid)) == os.getpid():
        return TargetError(target, "is the tracer itself")
    if "VmSize" not in status:
        return TargetError(target, "is a thread of the kernel")
    scope = _scope()
    if scope == 3:
        return PermissionRefused(
            f"ptrace of {target}",
            "kernel.yama.ptrace_scope below 3",
            "this system allows it to nobody until it is booted again; --backend kernel needs no ptrace",
        )
    uids = status.get("Uid", "").split()[:3]
    gids = status.get("Gid", "").split()[:3]
    if any(uid != str(os.getuid()) for uid in uids) or any(gid != str(os.getgid()) for gid in gids):
        owner = uids[0] if uids else "?"
        return PermissionRefused(
            f"ptrace of {target}, which runs as user {owner},",
            "CAP_SYS_PTRACE",
            f"run tracebee as user {owner}, or as root",
        )
    if scope == 2:
        return PermissionRefused(
            f"ptrace of {target}",
            "CAP_SYS_PTRACE",
            f"{_SCOPE} is 2: only root may trace; let root set it to 1 and start the command with -c",
        )
    if scope == 1:
        return PermissionRefused(
            f"ptrace of {target}, which tracebee did not start,",
            "CAP_SYS_PTRACE",
            f"{_SCOPE} is 1: start the command with -c, or let root set it to 0",
        )
    if _is_open(pid, status):
        return PermissionRefused(
            f"ptrace of {target}",
            "a system that lets its processes use ptrace(2)",
            "the process is this user's and nothing is hidden: a container's seccomp filter or a security module "
            "forbids ptrace, such as docker run without --cap-add SYS_PTRACE on an old kernel",
        )
    return PermissionRefused(
        f"ptrace of {target}, which is set-user-id, has capabilities or hides its memory,",
        "CAP_SYS_PTRACE",
        "only root can trace it; a program started with -c runs without the rights of its file",
    )


def _is_open(pid: int, status: dict[str, str]) -> bool:
    """Whether a process is dumpable, and has no rights that this one lacks: then ptrace has to be allowed.

    What is not dumpable belongs to root below /proc (proc(5)), which tells root nothing.
    """
    own = _read_status(os.getpid())
    extra = int(status.get("CapPrm", "0"), 16) & ~int(own.get("CapEff", "0"), 16)
    try:
        return not extra and os.getuid() == os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return False


def _read_status(pid: int) -> dict[str, str]:
    """The lines of /proc/PID/status; empty if there is no such process."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            lines = [line.partition(":") for line in file]
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in lines}


def _name(pid: int) -> str:
    return _read_status(pid).get("Name", "?")


def _scope() -> int:
    try:
        with open(_SCOPE, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0
