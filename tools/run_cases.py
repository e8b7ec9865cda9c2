#!/usr/bin/env python3
"""Run the language cases against a command that is called as tracebee is, such as bpftrace.

    tools/run_cases.py --tool bpftrace --peer --filter '^maps:'
    tools/run_cases.py --tool 'python3 -m tracebee' --without iter,perf

With --peer, cases that say how they differ from bpftrace are left out, and its warnings about style are
no failure.  The exit status is 1 if a case failed.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from caselib import NEEDS, Outcome, build_target, failures, load_cases, report, run_case

# What bpftrace says that depends on its build, its machine or its taste.
STYLE = re.compile(
    r"signed operands for|Unnecessary cast|being cast to type|used before it was assigned|"
    r"was never assigned|Return value discarded|Unreachable statement|While loops|Addrspace|expanded from|"
    r"cpid is zero|available_filter_functions|RLIMIT_MEMLOCK"
)
HEAD = re.compile(r"(\S+:\d+(:\d+)?-\d+: )?(WARNING|ERROR|Attached)")


def without_style(stderr: str) -> str:
    """Drop each warning about style with the lines that belong to it."""
    kept: list[str] = []
    dropping = False
    for line in stderr.splitlines():
        if HEAD.match(line):
            dropping = "WARNING" in line and STYLE.search(line) is not None
        if not dropping:
            kept.append(line + "\n")
    return "".join(kept)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tool", required=True, help="the command, shell-quoted")
    parser.add_argument("--filter", default="", help="a regular expression for area:name")
    parser.add_argument(
        "--without", default="", help="needs that the command does not have: " + ", ".join(NEEDS)
    )
    parser.add_argument("--peer", action="store_true", help="the command is bpftrace")
    options = parser.parse_args()
    lacking = {word for word in options.without.split(",") if word}
    cases = [case for case in load_cases() if re.search(options.filter, case.id) and not case.needs & lacking]
    if options.peer:
        cases = [case for case in cases if not case.differs]
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        targets = Path(name)
        for number, case in enumerate(cases):
            folder = targets / f"case{number}"
            folder.mkdir()
            target = build_target(case.target, targets) if case.target else None
            outcome = run_case(case, shlex.split(options.tool), folder, dict(os.environ), target)
            if options.peer:
                outcome = Outcome(outcome.stdout, without_style(outcome.stderr), outcome.status)
            problems = failures(case, outcome)
            if problems:
                failed += 1
                print(report(case, outcome, problems), end="\n\n")
    print(f"{len(cases)} cases, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
