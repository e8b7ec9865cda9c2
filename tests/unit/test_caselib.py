"""The format of the language cases: what the loader refuses, and what the judge calls a failure."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ..caselib import NEEDS, Case, CaseError, Outcome, command, failures, load_cases, parse_cases, run_case

GOOD = 'about = "x"\n[[case]]\nname = "a"\nscript = "BEGIN { }"\nstdout = ""\n'


def test_the_cases_of_the_project_load() -> None:
    cases = load_cases()
    assert len(cases) >= 250
    assert len({case.id for case in cases}) == len(cases)
    # A word that no case uses would be a promise that nothing keeps.
    assert set().union(*(case.needs for case in cases)) == NEEDS.keys()


def test_needs_of_the_file_and_of_the_case_add_up() -> None:
    (case,) = parse_cases("x", GOOD.replace("[[case]]", 'needs = ["perf"]\n[[case]]') + 'needs = ["iter"]\n')
    assert case.needs == {"perf", "iter"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "colour = 3\n", "unknown key 'colour'"),
        (GOOD.replace("about", "abuot"), "unknown key 'abuot'"),
        ("about = 'x'\n", "has cases"),
        (GOOD + "exit = 'one'\n", "exit must be a int"),
        (GOOD + "exit = true\n", "exit must be a int"),
        (GOOD + "args = [1]\n", "args is a list of strings"),
        (GOOD + "env = { A = 1 }\n", "values of env are strings"),
        (GOOD + "needs = ['magic']\n", "unknown need 'magic'"),
        (GOOD + GOOD.partition("\n")[2], "two cases of this name"),
        (GOOD.replace('stdout = ""', ""), "expects nothing"),
        (GOOD.replace('"a"', '"A b"'), "lower-case words"),
        (GOOD.replace("script", "note"), "neither a script nor arguments"),
        (GOOD.replace("BEGIN", "{{nowhere}}"), "unknown placeholder 'nowhere'"),
        (GOOD.replace("BEGIN", "{{target}}"), "go together"),
        (GOOD.replace("BEGIN", "{{pid}}"), "go together"),
        (GOOD + "target = 'nothing'\n", "there is no tests/cases/targets/nothing.c"),
        (GOOD + "stdout_has = ['(']\n", "no regular expression"),
        (GOOD + "send = { after = 'x' }\n", "send has the keys"),
        (GOOD + "send = { after = 'x', signal = 'SIGNOTHING' }\n", "unknown signal"),
        ("about = ", "Invalid value"),
    ],
)
def test_what_the_loader_refuses(text: str, message: str) -> None:
    with pytest.raises(CaseError, match=r"^x") as caught:
        parse_cases("x", text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("case", "outcome", "problem"),
    [
        (Case("a", "n", stdout="x"), Outcome("\n\nx\n", "Attached 2 probes\n", 0), ""),
        (Case("a", "n", stdout="x"), Outcome("x\ny\n", "", 0), "stdout is not"),
        (Case("a", "n", stdout_exact="x\n"), Outcome("x\n\n", "", 0), "not exactly"),
        (Case("a", "n", stdout_any_order="x\ny"), Outcome("\ny\nx\n", "", 0), ""),
        (Case("a", "n", stdout_any_order="x\ny"), Outcome("x\nx\ny\n", "", 0), "does not have the lines"),
        (Case("a", "n", stdout_has=("a+", "b")), Outcome("aa\n-\nb\n", "", 0), ""),
        (Case("a", "n", stdout_has=("b", "a")), Outcome("a\nb\n", "", 0), "matches 'a'"),
        (Case("a", "n", stdout_has=("a",)), Outcome("ab\n", "", 0), "matches 'a'"),
        (Case("a", "n", stdout="", stdout_lacks=("E.*",)), Outcome("Error\n", "", 0), "matches 'E.*'"),
        (Case("a", "n", stdout=""), Outcome("", "WARNING: odd\n", 0), "stderr says 'WARNING: odd'"),
        (Case("a", "n", stderr=("odd", "even")), Outcome("", "WARNING: odd\n", 0), "lacks 'even'"),
        (Case("a", "n", exit=3), Outcome("", "", 0), "exit status 0, not 3"),
        (Case("a", "n", stdout=""), Outcome("", "", None), "did not end within 20 s"),
    ],
)
def test_what_the_judge_finds(case: Case, outcome: Outcome, problem: str) -> None:
    found = failures(case, outcome)
    if not problem:
        assert not found
    else:
        assert len([text for text in found if problem in text]) == 1


TOOL = """
import os, signal, sys
print(sys.argv[1:], open("f").read(), sys.stdin.read(), os.environ["WORD"], flush=True)
signal.sigwait([signal.SIGUSR1])
print("signalled")
sys.exit(4)
"""


def test_a_case_is_run_as_it_says(tmp_path: Path) -> None:
    case = Case(
        "a",
        "n",
        script="S {{dir}}",
        args=("-o",),
        params=("p",),
        command="c",
        files={"f": "in {{dir}}"},
        stdin="typed",
        env={"WORD": "w"},
        send={"after": "typed", "signal": "SIGUSR1"},
    )
    blocking = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
    tool = [sys.executable, "-c", blocking + TOOL]
    outcome = run_case(case, command(*tool), tmp_path, dict(os.environ))
    words = ["-o", "-c", "c", "-e", f"S {tmp_path}", "p"]
    assert outcome == Outcome(f"{words} in {tmp_path} typed w\nsignalled\n", "", 4)


def test_a_run_that_does_not_end_is_ended(tmp_path: Path) -> None:
    case = Case("a", "n", script="S", stdout="", timeout=1)
    start = command(sys.executable, "-c", "import signal; signal.pause()")
    outcome = run_case(case, start, tmp_path, dict(os.environ))
    assert outcome.status is None
