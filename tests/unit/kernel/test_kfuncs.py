"""Which kfuncs a program type may call: by what the verifier complains about."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from tracebee.errors import SyscallError
from tracebee.insn import decode
from tracebee.kernel.kfuncs import kfunc_allowed
from tracebee.syscalls import bpf

Calls = list[tuple[str, bytes, dict[str, Any]]]


def refusing(monkeypatch: pytest.MonkeyPatch, number: int, log: str) -> Calls:
    """Makes every load end in an error; the loads are kept."""
    calls: Calls = []

    def prog_load(kind: str, code: bytes, **options: Any) -> tuple[int, str]:
        calls.append((kind, code, options))
        raise bpf.LoadRefused(number, log)

    monkeypatch.setattr(bpf, "prog_load", prog_load)
    return calls


def test_the_program_calls_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = refusing(monkeypatch, errno.EACCES, "calling kernel function f is not allowed")
    assert not kfunc_allowed("KPROBE", "f", 4711)
    ((kind, code, options),) = calls
    assert kind == "KPROBE"
    assert "attach_btf_id" not in options
    assert options["log_level"] == 1, "without a log nothing can be told"
    call = decode(code)[0]
    assert (call.src, call.imm) == (2, 4711)


def test_tracing_programs_are_for_something(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = refusing(monkeypatch, errno.EINVAL, "arg#0 pointer type")
    assert kfunc_allowed("TRACING", "f", 4711, 99)
    options = calls[0][2]
    assert options["attach_btf_id"] == 99
    assert options["expected_attach_type"] == "TRACE_RAW_TP"


def test_without_the_right_to_load_there_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(monkeypatch, errno.EPERM, "")
    with pytest.raises(SyscallError):
        kfunc_allowed("KPROBE", "f", 4711)


def test_a_program_that_is_accepted_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr(bpf, "prog_load", lambda *_, **__: (writer, ""))
    assert kfunc_allowed("KPROBE", "f", 4711)
    assert os.read(reader, 1) == b""
    os.close(reader)
