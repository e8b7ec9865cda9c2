"""The language cases of tests/cases/ once more, by the user backend: the engine has to give what the kernel gives."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ..caselib import NEEDS, Case, build_target, command, failures, load_cases, report, run_case

TOOL = command(sys.executable, "-m", "tracebee", "--backend", "user")
KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "USER")

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
    target = None
    if case.target:
        try:
            target = build_target(case.target, targets)
        except FileNotFoundError as error:
            pytest.skip(str(error))
    env = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    outcome = run_case(case, TOOL, tmp_path, env, target)
    problems = failures(case, outcome)
    assert not problems, report(case, outcome, problems)
