"""400,000 printed events: is one lost, and how many a tracer prints per second of its own CPU time.

dd is started here and not by the tracer, so that the CPU time that wait4(2) reports is the tracer's alone: from
its start, with compiling, to its end.  dd waits until the tracer is attached.
"""

from __future__ import annotations

import os
import time

from benchmarks.figures import Figure, Report, Target
from benchmarks.harness import PATIENCE, Bench, BenchmarkError, Running, Tool

EVENTS = 400_000
SCRIPT = 'tracepoint:syscalls:sys_enter_read /pid == $1/ { printf("%d %s %d\\n", pid, comm, args.fd); }'
MODES: tuple[tuple[str, tuple[str, ...]], ...] = (("", ()), (", -B full", ("-B", "full")))
"""Ways to run it: as it comes, and with output buffered, which bpftrace does not do by itself."""


def measure(bench: Bench) -> Report:
    """Losses and rates, for each way of buffering; only the first has a target."""
    figures, notes = (
        [],
        [f"`{SCRIPT}` on `dd if=/dev/zero of=/dev/null bs=1 count={EVENTS}`, output to a file."],
    )
    for mode, arguments in MODES:
        rate: dict[str, list[float]] = {tool.name: [] for tool in bench.tools}
        after: dict[str, list[float]] = {tool.name: [] for tool in bench.tools}
        missing: dict[str, list[float]] = {tool.name: [] for tool in bench.tools}
        for tool in bench.alternately(bench.rounds):
            printed, lost, cpu, attached = trace_dd(tool, arguments)
            rate[tool.name].append(printed / cpu)
            after[tool.name].append(printed / (cpu - attached))
            missing[tool.name].append(EVENTS - printed)
            if lost != EVENTS - printed:
                notes.append(
                    f"{tool.name}{mode}: {EVENTS - printed} events missing, {lost} reported as lost."
                )
        target = None if mode else Target(1.5, at_least=True)
        theirs = "bpftrace"
        figures += [
            Figure(f"events lost{mode}", "events", missing["tracebee"], missing.get(theirs, [])),
            Figure(f"events per CPU second{mode}", "1/s", rate["tracebee"], rate.get(theirs, []), target),
            Figure(f"the same, once attached{mode}", "1/s", after["tracebee"], after.get(theirs, [])),
        ]
    return Report(figures, notes)


def trace_dd(tool: Tool, arguments: tuple[str, ...]) -> tuple[int, int, float, float]:
    """One run: events printed, events reported lost, the tracer's CPU seconds, and those before events."""
    pid, go = start_dd()
    tracer = Running(tool, (*arguments, "-e", SCRIPT, str(pid)))
    try:
        tracer.wait_attached()
        before = tracer.cpu()
        os.write(go, b"\n")
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(go)
    if status:
        tracer.kill()
        raise BenchmarkError(f"dd failed with status {status}")
    wait_idle(tracer)
    tracer.interrupt()
    ended = tracer.end()
    # dd's own reads are from descriptor 0; the loader's, of libraries, are from others.
    return ended.output.count(b"%d dd 0\n" % pid), ended.lost, ended.cpu, before


def start_dd() -> tuple[int, int]:
    """Start what becomes dd once something is written to the descriptor: its id, and that descriptor."""
    wait, go = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            os.close(go)
            if os.read(wait, 1):
                words = ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", f"count={EVENTS}"]
                os.execvp("dd", words)
        finally:
            os._exit(127)
    os.close(wait)
    return pid, go


def wait_idle(tracer: Running) -> None:
    """Wait until the tracer has nothing left to do: it is not to be timed under a signal's special rules."""
    deadline = time.monotonic() + PATIENCE
    used = -1.0
    while tracer.cpu() - used > 0.002 and time.monotonic() < deadline:
        used = tracer.cpu()
        time.sleep(0.2)
