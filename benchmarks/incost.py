"""What a program costs in the kernel: nanoseconds a run, and how long it is, for each script of suite/.

The kernel counts and times the runs of every program while statistics are enabled (BPF_ENABLE_STATS; nothing
is left switched on).  Reading the clock twice is in each run's time, the same for both tools, so ratios of
short programs are closer to one than the programs are.  Both tools are attached alternately, for one process
that makes a fixed number of system calls; other processes' calls of the same kind end at the predicate, and
are few.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from glob import glob
from pathlib import Path
from typing import NamedTuple

from benchmarks.figures import Figure, Report, Target
from benchmarks.harness import Bench, BenchmarkError, Running, Tool
from benchmarks.peer import bpftool

SUITE = Path(__file__).parent / "suite"
CALLS = 200_000
CALLS_IN_GUEST = 50_000
"""Of the probes of kernel functions, which are measured under emulation."""
TOLERANCE = 0.02
"""How many runs, as a part of all, may be another process's before a note says so."""


class Cost(NamedTuple):
    """Of all programs of a script together: time a run, runs, instructions and bytes after loading."""

    nanoseconds: float
    runs: int
    instructions: int
    machine_bytes: int
    lost: int


class Workload:
    """The process that makes the system calls; a context manager."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("workload.py")
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        # One CPU, so that maps stay in its cache; the tracer has the others.
        os.sched_setaffinity(self.process.pid, {max(os.sched_getaffinity(0))})

    def __enter__(self) -> Workload:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def work(self, kind: str, calls: int) -> None:
        """Have it make `calls` calls, and wait until it has."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{kind} {calls}\n")
        self.process.stdin.flush()
        if self.process.stdout.readline() != "done\n":
            raise BenchmarkError("the workload has ended early")


def measure(bench: Bench) -> Report:
    """Nanoseconds a run, instructions and machine code for each script."""
    return measure_suite(bench, SUITE, CALLS)


def measure_functions(bench: Bench) -> Report:
    """The same for probes of kernel functions.  Raises BenchmarkError where the kernel has no such probes."""
    if not os.path.exists("/sys/bus/event_source/devices/kprobe"):
        raise BenchmarkError("this kernel has no kprobes; the measurement of a guest has them")
    return measure_suite(bench, SUITE / "functions", CALLS_IN_GUEST)


def measure_suite(bench: Bench, folder: Path, calls: int) -> Report:
    from tracebee.syscalls.bpf import enable_stats

    times: list[Figure] = []
    sizes: list[Figure] = []
    notes = [
        f"{calls:,} calls a round, {bench.rounds} rounds; run_time_ns / run_cnt of all programs of a script.",
        "In each time are two readings of the clock by the kernel: 01-empty, which both compile to three "
        "instructions, shows how much that is.",
    ]
    stats = enable_stats()
    try:
        with Workload() as workload:
            for path in sorted(folder.glob("*.bt")):
                measure_script(bench, workload, path, calls, (times, sizes, notes))
    finally:
        os.close(stats)
    return Report(times + sizes, notes)


def measure_script(
    bench: Bench,
    workload: Workload,
    path: Path,
    calls: int,
    into: tuple[list[Figure], list[Figure], list[str]],
) -> None:
    """Run one script by both tools alternately, and add what it showed."""
    times, sizes, notes = into
    costs: dict[str, list[Cost]] = {tool.name: [] for tool in bench.tools}
    bench.say(f"  {path.stem}")
    for tool in bench.alternately(bench.rounds):
        try:
            costs[tool.name].append(
                cost(tool, workload, path, calls, bench.dump if not costs[tool.name] else "")
            )
        except BenchmarkError as error:
            notes.append(f"{path.stem}: {error}")
    ours, theirs = costs["tracebee"], costs.get("bpftrace", [])

    def figure(what: str, unit: str, field: str, target: Target | None) -> Figure:
        values = [[float(getattr(one, field)) for one in them] for them in (ours, theirs)]
        return Figure(f"{path.stem}: {what}", unit, values[0], values[1], target)

    times.append(figure("time a run", "ns", "nanoseconds", Target(1.0)))
    sizes.append(figure("instructions", "insns", "instructions", None))
    sizes.append(figure("machine code", "bytes", "machine_bytes", None))
    for name, them in costs.items():
        if any(one.lost for one in them):
            notes.append(f"{path.stem}: {name} lost {[one.lost for one in them]} events, which cost less.")
        strays = max((one.runs % calls / calls for one in them), default=0)
        if strays > TOLERANCE:
            notes.append(f"{path.stem}: {name}: up to {strays:.0%} of the runs were for other processes.")


def cost(tool: Tool, workload: Workload, path: Path, calls: int, dump: str) -> Cost:
    """One script by one tool once: attach, warm up, work, detach.

    With `dump`, a folder, the programs as the kernel has them are written there.
    """
    script = path.read_text()
    kind = script.split("work:", 1)[1].split()[0]
    tracer = Running(tool, ("-e", script, str(workload.process.pid)))
    try:
        tracer.wait_attached()
        workload.work(kind, calls // 10)
        before = programs_of(tracer.pid)
        workload.work(kind, calls)
        after = programs_of(tracer.pid)
        if dump:
            dump_programs(after, Path(dump) / f"{path.stem}.{tool.name}.txt")
    except BaseException:
        tracer.kill()
        raise
    tracer.interrupt()
    ended = tracer.end()
    ran = [number for number in after if after[number]["run_cnt"] > before[number]["run_cnt"]]
    if not ran:
        raise BenchmarkError(f"no program of {tool.name} has run")

    def total(field: str) -> int:
        return sum(after[number][field] - before[number][field] for number in ran)

    return Cost(
        total("run_time_ns") / total("run_cnt"),
        total("run_cnt"),
        sum(after[number]["bytes_xlated"] // 8 for number in ran),
        sum(after[number]["bytes_jited"] for number in ran),
        ended.lost,
    )


def programs_of(pid: int) -> dict[int, dict[str, int]]:
    """What bpftool says of the programs that a process has descriptors of, by their ids."""
    found: dict[int, dict[str, int]] = {}
    for name in glob(f"/proc/{pid}/fdinfo/*"):
        try:
            lines = Path(name).read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            if line.startswith("prog_id:"):
                number = int(line.split()[1])
                if number and number not in found:
                    fields = json.loads(bpftool("-j", "prog", "show", "id", str(number)))
                    keys = ("run_time_ns", "run_cnt", "bytes_xlated", "bytes_jited")
                    found[number] = {key: int(fields.get(key, 0)) for key in keys}
    return found


def dump_programs(programs: dict[int, dict[str, int]], path: Path) -> None:
    """Write the programs that have run, as the kernel has rewritten them, for reading side by side."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for number, fields in sorted(programs.items()):
            if fields["run_cnt"]:
                file.write(bpftool("prog", "dump", "xlated", "id", str(number)) + b"\n")
