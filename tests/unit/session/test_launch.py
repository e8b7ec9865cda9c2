"""What is tried again when the verifier refuses a script."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from tracebee.errors import VerifierError
from tracebee.language.compile import Options, compile_script
from tracebee.language.source import Source
from tracebee.session import launch

from ..language.fixtures import NEW, FakeMachine


class Machine(FakeMachine):
    """Features that can be taken away, as those of a real machine can."""

    def __init__(self) -> None:
        super().__init__(NEW)
        self.missing: set[str] = set()
        self.features: Any = self

    def disable(self, name: str) -> None:
        self.missing.add(name)

    def feature(self, name: str) -> bool:
        return name not in self.missing and name in NEW


def tried(
    monkeypatch: pytest.MonkeyPatch, script: str, *errors: int
) -> tuple[list[bool], VerifierError | None]:
    """For each try whether its programs have may_goto, and the last error; `errors` are those of the tries."""
    found: list[bool] = []

    def backend(spec: Any, machine: Any, **options: Any) -> str:
        insns = [insn for program in spec.programs for insn in program.insns]
        found.append(any(insn.code == launch.MAY_GOTO for insn in insns))
        if len(found) <= len(errors):
            raise VerifierError("p", errors[len(found) - 1], f"log of try {len(found)}")
        return "loaded"

    monkeypatch.setattr(launch, "KernelBackend", backend)
    machine = Machine()
    compilation = compile_script(Source("test.bt", script), machine, Options())
    try:
        launch._load(compilation, machine)  # type: ignore[arg-type]
    except VerifierError as error:
        return found, error
    return found, None


LOOP = "begin { for ($i : 0..1000) { @++ } }"


@pytest.mark.parametrize("number", [errno.E2BIG, errno.EFAULT])
def test_loops_become_functions_when_they_are_too_complex(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    assert tried(monkeypatch, LOOP, number) == ([True, False], None)


def test_the_first_refusal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    tries, error = tried(monkeypatch, LOOP, errno.E2BIG, errno.EINVAL)
    assert tries == [True, False]
    assert error is not None and (error.errno, error.log) == (errno.E2BIG, "log of try 1")


@pytest.mark.parametrize(
    ("script", "number"), [(LOOP, errno.EINVAL), (LOOP, errno.EACCES), ("begin { @++ }", errno.E2BIG)]
)
def test_nothing_is_tried_again_where_it_would_not_help(
    monkeypatch: pytest.MonkeyPatch, script: str, number: int
) -> None:
    tries, error = tried(monkeypatch, script, number)
    assert len(tries) == 1
    assert error is not None and error.errno == number
