"""Which programs may call a helper: what the kernel's answers amount to."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from tracebee.cli.why import to_json, to_text
from tracebee.errors import UsageError
from tracebee.explain.helperuse import BOUND, INSTEAD
from tracebee.insn.helpers import helper_id
from tracebee.session import helperuse
from tracebee.session.helperuse import NO, NONE, UNKNOWN, WAYS, YES, HelperAnswer, about_helper, is_helper

LOGS = {
    "KPROBE": (errno.EINVAL, "program of this type cannot use helper bpf_strtol#105"),
    "XDP": (errno.EINVAL, "R1 type=ctx expected=fp"),
    "SCHED_CLS": (errno.EINVAL, "unknown func bpf_strtol#105"),
    "TRACEPOINT": (0, ""),
    "SOCK_OPS": (errno.EINVAL, "helper call might sleep in a non-sleepable prog"),
}


def asked(monkeypatch: pytest.MonkeyPatch, *probes: tuple[str, str]) -> HelperAnswer:
    def log(way: Any, helper: str, live: Any, target: str = "", license: str = "GPL") -> tuple[int, str]:
        if license != "GPL":
            return errno.EINVAL, "cannot call GPL-restricted function from non-GPL compatible program"
        return LOGS.get(way.type, (errno.EINVAL, ""))

    monkeypatch.setattr(helperuse, "_log", log)
    return about_helper("helper:strtol", object(), probes)  # type: ignore[arg-type]


def test_each_kind_of_program_has_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = asked(monkeypatch)
    kinds = ("kprobe", "xdp", "tc", "tracepoint", "sock_ops", "sk_msg")
    assert [answer.ways[kind] for kind in kinds] == [NO, YES, NO, YES, NO, NONE]
    assert (answer.verdict, answer.name, answer.since, answer.needs_gpl) == (YES, "bpf_strtol", "5.2", True)
    assert "may call it: tracepoint, xdp" in to_text(answer)
    assert to_json(answer)["ways"]["kprobe"] == NO


def test_a_probe_on_the_line_is_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = asked(monkeypatch, ("kprobe", "vfs_read"))
    assert (answer.asked, answer.verdict) == (("kprobe",), NO)
    assert to_text(answer).startswith("bpf_strtol: cannot be called here from kprobe\n")


@pytest.mark.parametrize(
    ("ways", "verdict"),
    [((UNKNOWN, UNKNOWN), UNKNOWN), ((NO, UNKNOWN), NO), ((NONE, NONE), NO), ((NO, YES), YES)],
)
def test_verdicts(ways: tuple[str, ...], verdict: str) -> None:
    found = dict(zip(("kprobe", "xdp"), ways, strict=True))
    assert HelperAnswer("bpf_x", "", "", None, False, found, (), "", "").verdict == verdict


def test_words_that_are_helpers() -> None:
    words = ("bpf_loop", "helper:loop", "helper:nosuch", "loop", "bpf_prog_run", "kprobe:bpf_loop")
    assert [is_helper(word) for word in words] == [True, True, True, False, False, False]
    with pytest.raises(UsageError):
        about_helper("helper:nosuch", object())  # type: ignore[arg-type]


def test_the_tables_name_helpers() -> None:
    for name in (*BOUND, *INSTEAD):
        assert helper_id(name)
    assert len(set(WAYS.values())) == len(WAYS)
