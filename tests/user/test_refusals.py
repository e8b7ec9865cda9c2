"""Where ptrace(2) itself is forbidden: a filter of this test's own stands for that of a container."""

from __future__ import annotations

import os
import struct
import subprocess
import sys

import pytest

from tracebee.host.identity import find_syscall_number

FORBID = """
import os, sys
from tracebee.syscalls.process import no_new_privileges
from tracebee.syscalls.seccomp import install_filter
no_new_privileges()
install_filter(bytes.fromhex(sys.argv[1]))
os.execv(sys.executable, [sys.executable, "-m", "tracebee", "--backend", "user", *sys.argv[2:]])
"""


def without_ptrace(*words: str) -> subprocess.CompletedProcess[str]:
    number = find_syscall_number("ptrace")
    assert number is not None
    # The number; if it is ptrace's: SECCOMP_RET_ERRNO with EPERM, else SECCOMP_RET_ALLOW (linux/seccomp.h)
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
    program = b"".join(struct.pack("=HBBI", *insn) for insn in code)
    return subprocess.run(
        [sys.executable, "-c", FORBID, program.hex(), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


def test_a_container_that_forbids_ptrace() -> None:
    done = without_ptrace("-e", "tracepoint:syscalls:sys_enter_read { }", "-c", "true")
    assert (done.returncode, done.stdout) == (1, "")
    assert "ptrace of process" in done.stderr
    assert "seccomp filter or a security module forbids ptrace" in done.stderr
    assert "set-user-id" not in done.stderr


@pytest.mark.parametrize("script", ["BEGIN { print(42); exit(); }", "interval:ms:10 { print(42); exit(); }"])
def test_what_needs_no_ptrace_works(script: str) -> None:
    done = without_ptrace("-e", script)
    assert done.returncode == 0
    assert done.stdout.split() == ["42"]
