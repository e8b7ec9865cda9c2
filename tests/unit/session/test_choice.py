"""Which backend is taken, and what is said about it."""

from __future__ import annotations

import os

import pytest

from tracebee.errors import SyscallError, UsageError
from tracebee.host import rights
from tracebee.host.rights import CAPABILITIES, Rights
from tracebee.session.choice import Choice, choose_backend, make_machine
from tracebee.syscalls import bpf

ALL = (1 << len(CAPABILITIES)) - 1


def have(monkeypatch: pytest.MonkeyPatch, effective: int, *sysctls: tuple[str, int]) -> None:
    facts = Rights(effective, ALL, len(CAPABILITIES) - 1, "none", sysctls, False)
    monkeypatch.setattr(rights, "read_rights", lambda: facts)


def allow_maps(monkeypatch: pytest.MonkeyPatch, errno: int = 0) -> None:
    def map_create(*_: object) -> int:
        if errno:
            raise SyscallError("bpf(BPF_MAP_CREATE)", errno)
        return os.open(os.devnull, os.O_RDONLY)

    monkeypatch.setattr(bpf, "map_create", map_create)


def test_what_is_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, 0)
    assert choose_backend("kernel") == Choice("kernel", "")
    assert choose_backend("user") == Choice("user", "")
    with pytest.raises(UsageError, match="unknown backend: moon"):
        choose_backend("moon")


def test_auto_takes_the_kernel_where_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, ALL)
    allow_maps(monkeypatch)
    assert choose_backend("auto") == Choice("kernel", "")


def test_auto_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, 0, ("kernel.unprivileged_bpf_disabled", 2))
    choice = choose_backend("auto")
    assert choice.backend == "user"
    assert "user backend (ptrace)" in choice.reason
    assert "CAP_BPF and CAP_PERFMON are missing" in choice.reason
    assert "kernel.unprivileged_bpf_disabled is 2" in choice.reason
    assert "\n" not in choice.reason


def test_auto_says_that_the_kernel_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, ALL)
    allow_maps(monkeypatch, errno=1)
    choice = choose_backend("auto")
    assert choice.backend == "user"
    assert "bpf(2)" in choice.reason
    assert "EPERM" in choice.reason


def test_a_machine_for_each() -> None:
    assert make_machine("kernel").backend == "kernel"
    made = make_machine("user", ["may_goto"])
    assert made.backend == "user"
    assert not made.feature("may_goto")
    assert made.feature("for_each_map_elem")
    assert not made.feature("kprobe")
