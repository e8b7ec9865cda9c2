"""What a script asks of the kernel while it is compiled: has_probe(), has_member()."""

from __future__ import annotations

import pytest

from ..fixtures import MACHINES, build, messages, spec_of


def printed(expression: str, machine: str = "new") -> list[str]:
    """Which of two branches an ``if comptime`` keeps, by what it attaches nowhere else: a map."""
    text = f"BEGIN {{ if comptime ({expression}) {{ @yes = 1; }} else {{ @no = 1; }} }}"
    return [
        one.name for one in spec_of(text, MACHINES[machine]).maps if one.name in ("yes", "no", "@yes", "@no")
    ]


@pytest.mark.parametrize(
    ("expression", "machine", "answer"),
    [
        ('has_probe("tracepoint:sched:sched_switch")', "new", True),
        ('has_probe("tracepoint:sched:nothing")', "new", False),
        ('has_probe("kprobe:vfs_read")', "new", True),
        ('has_probe("kprobe:vfs_*")', "new", True),
        ('has_probe("kprobe:nothing")', "new", False),
        ('has_probe("kprobe:vfs_read")', "bare", False),
        ('has_probe("nonsense:vfs_read")', "new", False),
        ('has_probe("uprobe:/bin/tool:main")', "new", True),
        ('has_probe("uprobe:/bin/none:main")', "new", False),
        ('!has_probe("kprobe:nothing") && has_probe("kprobe:vfs_read")', "new", True),
        ('has_member(curtask, "pid")', "new", True),
        ('has_member(curtask, "low")', "new", True),
        ('has_member(curtask, "nothing")', "new", False),
        ('has_member((struct task_struct *)0, "comm")', "new", True),
        ('has_member(curtask.numbers, "count")', "new", False),
        ('has_member(1, "pid")', "new", False),
        ('has_member((a=1, b=2), "b")', "new", True),
    ],
)
def test_answers(expression: str, machine: str, answer: bool) -> None:
    kept = printed(expression, machine)
    assert [name.lstrip("@") for name in kept] == ["yes" if answer else "no"]


def test_the_branch_that_is_not_taken_may_name_what_is_not_there() -> None:
    text = 'BEGIN { if comptime (has_member(curtask, "gone")) { print(curtask.gone); } }'
    assert len(spec_of(text).programs) == 1


def test_a_probe_that_the_answer_rules_out_is_attached_nowhere() -> None:
    text = (
        'kprobe:vfs_read /has_probe("tracepoint:sched:sched_switch")/ { @a = 1; } '
        'kprobe:vfs_write /!has_probe("tracepoint:sched:sched_switch") && pid == 1/ { @b = 1; }'
    )
    assert [probe.name for probe in spec_of(text).probes] == ["kprobe:vfs_read"]


def test_what_is_ruled_out_may_not_exist() -> None:
    """Neither an error for the missing place nor a warning for a kind that the kernel does not have."""
    text = (
        "config = { missing_probes = ignore } BEGIN { print(1); } "
        'kprobe:vfs_read /has_probe("kprobe:vfs_read")/ { @a = 1; }'
    )
    compilation = build(text, MACHINES["bare"])
    assert compilation.warnings == ()
    assert [unit.points[0].name for unit in compilation.units] == ["begin"]


def test_other_false_predicates_keep_their_probe() -> None:
    assert [probe.name for probe in spec_of("kprobe:vfs_read /0/ { @a = 1; }").probes] == ["kprobe:vfs_read"]


@pytest.mark.parametrize("call", ["has_probe(1)", "has_probe()", 'has_probe("a", "b")', "has_probe(comm)"])
def test_it_wants_a_literal(call: str) -> None:
    assert "has_probe() takes an attach point as a literal" in messages(f"BEGIN {{ print({call}); }}")[0]


def test_units_can_be_checked_before_types_are() -> None:
    """A caller learns what is left to attach even where the rest of the script then makes no sense."""
    seen: list[list[str]] = []

    class Refused(Exception):
        pass

    def check(compilation: object) -> None:
        seen.append([point.name for unit in compilation.units for point in unit.points])  # type: ignore[attr-defined]
        raise Refused

    with pytest.raises(Refused):
        build("BEGIN { print(nsecs.gone); }", check_units=check)
    assert seen == [["begin"]]
