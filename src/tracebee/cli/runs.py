"""--test and --bench: run a script's test: and bench: probes, and report."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from tracebee.spec.objects import Globals, RunOnce

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.session.session import Session
    from tracebee.spec.objects import ProbeSpec

BENCH_NS = 200_000_000
"""How long a benchmark runs, roughly."""


class Outcome(NamedTuple):
    """How a test went: its name, whether it passed, and how long it took in nanoseconds."""

    name: str
    passed: bool
    duration: int


def run_probes(session: Session, mode: str, kind: str) -> int:
    """Run the begin probes, then the tests or benchmarks, then the end probes; the exit status."""
    session.prepare()
    session.fire("begin")
    session.pump()
    probes = [
        probe
        for probe in session.spec.probes
        if isinstance(probe.attach, RunOnce) and probe.attach.moment.startswith(f"{mode}:")
    ]
    run = run_tests if mode == "test" else run_benchmarks
    status = run(session, probes, kind == "json")
    session.stop()
    session.output.flush()
    return status


def run_tests(session: Session, probes: list[ProbeSpec], as_json: bool) -> int:
    """Run tests; a test passes if it returns 0 and does not exit with another status."""
    color = _colors()
    outcomes = []
    if not as_json:
        _print(f"{color('32', '[==========]')} Running {_tests(len(probes))}.")
    for probe in probes:
        name = probe.name.partition(":")[2]
        if not as_json:
            _print(f"{color('32', '[ RUN      ]')} {name}")
        outcome = run_test(session, probe, name)
        outcomes.append(outcome)
        if as_json:
            data = {name: {"duration": outcome.duration, "passed": outcome.passed, "output": ""}}
            _print(json.dumps({"type": "test_result", "data": data}))
        else:
            word = color("32", "[       OK ]") if outcome.passed else color("31", "[  FAILED  ]")
            _print(f"{word} {name} ({outcome.duration} ns)")
    failed = [outcome for outcome in outcomes if not outcome.passed]
    if not as_json:
        _print(f"{color('32', '[==========]')} {_tests(len(outcomes))} ran.")
        _print(f"{color('32', '[  PASSED  ]')} {_tests(len(outcomes) - len(failed))}.")
        if failed:
            _print(f"{color('31', '[  FAILED  ]')} {_tests(len(failed))}, listed below:")
            for outcome in failed:
                _print(f"{color('31', '[  FAILED  ]')} {outcome.name}")
    return 1 if failed else 0


def run_test(session: Session, probe: ProbeSpec, name: str) -> Outcome:
    start = time.perf_counter_ns()
    result = session.backend.run(probe)
    duration = time.perf_counter_ns() - start
    session.pump()
    exited = session.backend.global_value(Globals.EXITING, 4)
    code = session.backend.global_value(Globals.EXIT_CODE, 4) if exited else 0
    session.backend.set_global(Globals.EXITING, 8, 0)
    session.finished = session.drain.stopped = False
    return Outcome(name, result == 0 and code == 0, duration)


def run_benchmarks(session: Session, probes: list[ProbeSpec], as_json: bool) -> int:
    """Run each benchmark often enough, and print the mean time of a run as the kernel measured it."""
    if not as_json:
        _print(f"{'Benchmark':<41}{'Time(ns)':<15}Iterations")
        _print("-" * 66)
    for probe in probes:
        name = probe.name.partition(":")[2]
        mean, count = session.backend.measure(probe, BENCH_NS)
        session.pump()
        if as_json:
            _print(
                json.dumps({"type": "benchmark_result", "data": {name: {"average": mean, "iters": count}}})
            )
        else:
            _print(f"{name:<41}{mean:<15}{count}")
    return 0


def _tests(count: int) -> str:
    return f"{count} test" if count == 1 else f"{count} tests"


def _print(line: str) -> None:
    print(line, flush=True)


def _colors() -> Callable[[str, str], str]:
    """Text in a colour where standard output is a terminal that wants it."""
    wish = os.environ.get("BPFTRACE_COLOR", "auto")
    wanted = wish == "always" or (wish != "never" and sys.stdout.isatty())
    return lambda number, text: f"\x1b[{number}m{text}\x1b[0m" if wanted else text
