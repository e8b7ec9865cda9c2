"""The language cases of tests/cases/ once more, by the user backend: the engine has to give what the kernel gives."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ..caselib import NEEDS, Case, NoTarget, check_here, command, load_cases

TOOL = command(sys.executable, "-m", "tracebee", "--backend", "user")

LACKS = frozenset(
    (
        "btf",
        "everywhere",
        "fentry",
        "iter",
        "kernel",
        "kprobe",
        "path-iter",
        "perf",
        "rawtracepoint",
        "stack",
        "watchpoint",
    )
)
"""Of caselib.NEEDS what ptrace cannot see."""

CASES = [case for case in load_cases() if not case.needs & LACKS]


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("targets")


def test_the_words_are_known() -> None:
    assert NEEDS.keys() >= LACKS


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_case(case: Case, targets: Path, tmp_path: Path) -> None:
    try:
        check_here(case, TOOL, targets, tmp_path)
    except NoTarget as error:
        pytest.skip(str(error))
