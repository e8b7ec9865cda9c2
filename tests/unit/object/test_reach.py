"""Which instructions can be reached."""

from __future__ import annotations

import pytest

from tracebee.insn.asm import assemble
from tracebee.object.reach import reachable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("r0 = 0\nexit\nr0 = 1\nexit", {0, 1}),
        ("r1 = 1\nif r1 == 0x0 goto pc+1\nr0 = 1\nexit", {0, 1, 2, 3}),
        ("r1 = 0\nif r1 == 0x0 goto pc+1\nr0 = 1\nexit", {0, 1, 3}),
        ("r1 = 0\nif r1 != 0x0 goto pc+1\nr0 = 1\nexit", {0, 1, 2, 3}),
        ("r1 = 5\nr1 += -5\nif r1 != 0x0 goto pc+1\nexit\nexit", {0, 1, 2, 3}),
        ("r1 = -1\nif r1 s> 0x0 goto pc+1\nexit\nexit", {0, 1, 2}),
        ("r1 = -1\nif r1 > 0x0 goto pc+1\nexit\nexit", {0, 1, 3}),
        ("w1 = -1\nif r1 s> 0x0 goto pc+1\nexit\nexit", {0, 1, 3}),
        ("w1 = -1\nif w1 s> 0x0 goto pc+1\nexit\nexit", {0, 1, 2}),
        ("r1 = 0x100000000 ll\nif w1 == 0x0 goto pc+1\nexit\nexit", {0, 2, 4}),
        ("r1 = 0x100000000 ll\nif r1 == 0x0 goto pc+1\nexit\nexit", {0, 2, 3}),
        # Nothing is known of memory, of arguments, and behind calls; of the saved registers it is.
        ("r1 = *(u32 *)(r1 +0)\nif r1 == 0x0 goto pc+1\nexit\nexit", {0, 1, 2, 3}),
        ("r6 = 0\nr1 = 0\ncall bpf_ktime_get_ns#5\nif r6 == 0x0 goto pc+1\nexit\nexit", {0, 1, 2, 3, 5}),
        ("r1 = 0\ncall bpf_ktime_get_ns#5\nif r1 == 0x0 goto pc+1\nexit\nexit", {0, 1, 2, 3, 4}),
        # Two ways that do not agree, and a loop.
        ("r2 = 0\nif r1 == 0x0 goto pc+1\nr2 = 1\nif r2 == 0x0 goto pc+1\nexit\nexit", {0, 1, 2, 3, 4, 5}),
        ("r2 = 0\nr2 += 1\nif r2 != 0xa goto pc-2\nexit", {0, 1, 2, 3}),
        ("goto pc+1\nexit\nexit", {0, 2}),
        ("goto pc+7\nexit", {0}),
        # A function is reached by its call.
        ("call pc+1\nexit\nr0 = 0\nexit", {0, 1, 2, 3}),
        ("r1 = subprog[+3]\nexit\nexit", {0, 2, 3}),
        ("r1 = 0\nr1 s/= 3\nif r1 == 0x0 goto pc+1\nexit\nexit", {0, 1, 2, 3, 4}),
    ],
)
def test_reachable(text: str, expected: set[int]) -> None:
    assert reachable(assemble(text)) == expected


def test_what_is_gone_sets_its_register() -> None:
    code = assemble(
        "r2 = 0\nr1 = 0\ncall 7777777\nif r1 == 0x0 goto pc+1\nexit\nif r2 == 0x0 goto pc+1\nexit\nexit"
    )
    assert reachable(code, {2: 1}) == {0, 1, 2, 3, 4, 5, 7}
