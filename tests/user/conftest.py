"""This tier needs ptrace(2), which a container or Yama may forbid: then each test says so."""

from __future__ import annotations

import os
import signal

import pytest

from tracebee.syscalls import ptrace


def refusal() -> str:
    """Why a process may not trace its own child; empty if it may."""
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    try:
        if ptrace.ptrace(ptrace.SEIZE, child, 0, 0) < 0:
            return os.strerror(ptrace.get_errno())
        return ""
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.fixture(scope="session")
def why_no_ptrace() -> str:
    return refusal()


@pytest.fixture(autouse=True)
def needs_ptrace(why_no_ptrace: str) -> None:
    if why_no_ptrace:
        pytest.skip(f"ptrace(2) is refused here: {why_no_ptrace}")
