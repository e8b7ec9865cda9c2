"""The user backend against strace: system calls that are watched, and those that are not.

Both are tracers by ptrace, with a seccomp filter in the child (``strace --seccomp-bpf``), and write the same facts
of each read to a file: process, descriptor, size and result.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure, Report, Target
from benchmarks.harness import Bench, BenchmarkError, Tool, run

READS = 300_000
COPY = f"dd if=/dev/zero of=/dev/null bs=1 count={READS}"
WATCHED = (
    "tracepoint:syscalls:sys_enter_read { @fd[tid] = args.fd; @size[tid] = args.count; } "
    'tracepoint:syscalls:sys_exit_read { printf("%d read(%d, %d) = %d\\n", tid, @fd[tid], @size[tid], args.ret); }'
)
ENTERED = 'tracepoint:syscalls:sys_enter_read { printf("%d read(%d, %d)\\n", tid, args.fd, args.count); }'
UNWATCHED = "tracepoint:syscalls:sys_enter_connect { @ = count(); }"
CALLS = 6_000_000
"""System calls of the program that does nothing else, for the cost of what is not watched."""

WORKER = f"""
import os
for _ in range({CALLS // 10}):
    os.getppid(); os.getppid(); os.getppid(); os.getppid(); os.getppid()
    os.getppid(); os.getppid(); os.getppid(); os.getppid(); os.getppid()
"""


def measure(bench: Bench) -> Report:
    """Events per second of watched calls, and how much longer a program runs whose calls nobody watches."""
    strace = shutil.which("strace")
    if strace is None:
        raise BenchmarkError("strace is not installed")
    peer = Tool("strace", (strace,))
    ours = bench.ours._replace(command=(*bench.ours.command, "--backend", "user", "-B", "full"))
    rates: dict[str, list[float]] = {"ours": [], "entered": [], "theirs": []}
    peaks: dict[str, list[float]] = {"ours": [], "theirs": []}
    plain, unwatched = [], []
    with tempfile.TemporaryDirectory(prefix="tracebee-bench-") as folder:
        script = Path(folder, "calls.py")
        script.write_text(WORKER)
        python = bench.ours.command[0]
        for _ in range(bench.rounds):
            for name, program in (("ours", WATCHED), ("entered", ENTERED)):
                before = time.perf_counter()
                ended = run(ours, "-e", program, "-c", COPY)
                rates[name].append(_rate(ended.output.count(b" read(0, 1)"), time.perf_counter() - before))
            peaks["ours"].append(ended.peak)
            target = os.path.join(folder, "strace.txt")
            before = time.perf_counter()
            ended = run(peer, "-f", "--seccomp-bpf", "-e", "trace=read", "-o", target, *COPY.split())
            took = time.perf_counter() - before
            rates["theirs"].append(_rate(Path(target).read_bytes().count(b" read(0,"), took))
            peaks["theirs"].append(ended.peak)
            plain.append(run(Tool("python", (python,)), str(script)).wall)
            alone = run(ours, "-e", "BEGIN { @ = 1; }", "-c", f"{python} -c pass").wall
            bare = run(Tool("python", (python,)), "-c", "pass").wall
            with_tracer = run(ours, "-e", UNWATCHED, "-c", f"{python} {script}").wall
            unwatched.append(with_tracer - (alone - bare))
    figures = [
        Figure(
            "watched reads, entry and exit", "1/s", rates["ours"], rates["theirs"], Target(1.0, at_least=True)
        ),
        Figure("watched reads, entry alone", "1/s", rates["entered"], rates["theirs"]),
        Figure("run with unwatched calls, against the run alone", "s", unwatched, plain, Target(1.05)),
        Figure("peak memory", "bytes", peaks["ours"], peaks["theirs"]),
    ]
    notes = [
        f"The peer is `strace -f --seccomp-bpf -e trace=read -o FILE` over `{COPY}`; rates are of whole runs, with "
        "start and end.",
        f"The unwatched calls are {CALLS:,} of getppid(2); the tracer's own start and end, measured with a program "
        "that does nothing, are taken off.",
        "Peak memory is that of the session's process: its tracer process is nobody's child, and not counted.",
    ]
    return Report(figures, notes)


def _rate(events: int, seconds: float) -> float:
    if events < READS:
        raise BenchmarkError(f"{READS - events} of {READS} reads are missing")
    return events / seconds
