"""Probes taken apart, and what an answer amounts to."""

from __future__ import annotations

import pytest

from tracebee.cli.why import to_json, to_text
from tracebee.errors import UsageError
from tracebee.explain.explanation import Explanation
from tracebee.session.why import Answer, Place, parse_probe


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("vfs_read", Place("kprobe", ("vfs_read",))),
        ("kprobe:vfs_read+8", Place("kprobe", ("vfs_read",), False, 8)),
        ("kr:vfs_read", Place("kprobe", ("vfs_read",), True)),
        ("kprobe:ext4:ext4_sync", Place("kprobe", ("ext4_sync",))),
        ("fexit:vfs_read", Place("fexit", ("vfs_read",), True)),
        ("tracepoint:sched:sched_switch", Place("tracepoint", ("sched", "sched_switch"))),
        ("sched:sched_switch", Place("tracepoint", ("sched", "sched_switch"))),
        ("rt:sched_switch", Place("raw tracepoint", ("sched_switch",))),
        ("uprobe:/bin/tool:main", Place("uprobe", ("/bin/tool", "main"))),
        ("/bin/tool:main", Place("uprobe", ("/bin/tool", "main"))),
        ("ur:libc:malloc", Place("uprobe", ("libc", "malloc"), False)),
        ("iter:task:/sys/fs/bpf/pin", Place("iter", ("task",))),
    ],
)
def test_probes_are_taken_apart(text: str, place: Place) -> None:
    assert parse_probe(text) == place


@pytest.mark.parametrize(
    "text", ["", ":x", "kprobe:", "watchpoint:0x10:8:w", "hardware:cycles", "BEGIN:x", "no kind:x"]
)
def test_what_is_no_probe(text: str) -> None:
    with pytest.raises(UsageError):
        parse_probe(text)


SURE = Explanation("config-missing", True, "built without it", "build it in")
UNSURE = Explanation("notrace", False, "perhaps it may not be traced")


@pytest.mark.parametrize(
    ("obstacles", "unreadable", "verdict"),
    [
        ((), (), "yes"),
        ((SURE,), (), "no"),
        ((UNSURE,), (), "unknown"),
        ((UNSURE, SURE), (), "no"),
        ((), ("kallsyms (Permission denied)",), "unknown"),
    ],
)
def test_verdicts(obstacles: tuple[Explanation, ...], unreadable: tuple[str, ...], verdict: str) -> None:
    assert Answer("kprobe:f", obstacles, (), unreadable).verdict == verdict


def test_an_answer_as_text_and_as_json() -> None:
    answer = Answer("kprobe:f", (SURE, UNSURE), ("fentry:f",), ("kallsyms (Permission denied)",))
    text = to_text(answer)
    assert text.startswith("kprobe:f: cannot be hooked here\n  built without it\n")
    assert "perhaps also: perhaps it may not be traced [notrace]" in text
    assert "what works in its place:\n  fentry:f" in text
    assert "could not be read, which is not to say that it is empty:\n  kallsyms (Permission denied)" in text
    row = to_json(answer)
    assert (row["verdict"], [one["cause"] for one in row["obstacles"]]) == (
        "no",
        ["config-missing", "notrace"],
    )


def test_missing_lists_are_told_where_nothing_else_is_known() -> None:
    text = to_text(Answer("kprobe:f", (), (), ("kallsyms (Permission denied)",)))
    assert "not everything could be read" in text
