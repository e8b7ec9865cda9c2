"""Scripts that once came out wrong, each by the behaviour that it showed."""

from __future__ import annotations

import pytest

from .fixtures import hint, messages, program_of, typed


@pytest.mark.parametrize(
    ("argument", "type_", "member", "printed"),
    [
        ("curtask", "struct task_struct", "pid", "struct task_struct *"),
        ("curtask", "typeof(*curtask)", "comm", "struct task_struct *"),
        ("(uint8 *)8", "struct task_struct", "tasks.prev", "struct task_struct *"),
    ],
)
def test_container_of_takes_builtins_and_members_named_like_them(
    argument: str, type_: str, member: str, printed: str
) -> None:
    script = f"begin {{ $x = container_of({argument}, typeof({type_}), {member}); print($x) }}"
    assert program_of(script).insns
    probe = typed(script).units[0].probe
    assert str(probe.body.statements[0].target.type) == printed  # type: ignore[attr-defined]


def test_container_of_subtracts_the_way_to_the_member() -> None:
    script = "begin {{ print(container_of((uint8 *)1000, typeof(struct task_struct), {})); }}"
    inner = {str(insn) for insn in program_of(script.format("tasks.prev")).insns}
    outer = {str(insn) for insn in program_of(script.format("pid")).insns}
    assert any("920" in text for text in inner)
    assert any("1000" in text for text in outer)


def test_container_of_names_what_is_wrong() -> None:
    bad = "begin { print(container_of(curtask, typeof(struct task_struct), pidd)); }"
    assert messages(bad) == ["'struct task_struct' has no field named 'pidd'"]
    assert "pid" in hint(bad)
    not_a_type = "begin { print(container_of(curtask, 3, pid)); }"
    assert messages(not_a_type) == [
        "container_of() expects a pointer, a structure type and the name of a member"
    ]
    assert "typeof(struct type)" in hint(not_a_type)
