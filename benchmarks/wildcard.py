"""A probe on every system call, over a command that does next to nothing: what many probes cost to set up."""

from __future__ import annotations

from benchmarks.figures import Figure, Report, Target
from benchmarks.harness import Bench, run

SCRIPT = "tracepoint:syscalls:sys_enter_* { @[probe] = count(); }"


def measure(bench: Bench) -> Report:
    """Wall time.  The peer takes half a minute, so it is run once; tracebee is run around it."""
    wall: dict[str, list[float]] = {tool.name: [] for tool in bench.tools}
    last = {}
    order = [bench.ours] * bench.rounds
    if bench.theirs is not None:
        order.insert(bench.rounds // 2, bench.theirs)
    for tool in [bench.ours, *order]:
        ended = run(tool, "-e", SCRIPT, "-c", tool.path_of("true"))
        wall[tool.name].append(ended.wall)
        last[tool.name] = sum(line.startswith(b"@[") for line in ended.output.splitlines())
    del wall["tracebee"][0]  # the one that filled the caches
    counts = ", ".join(f"{name} {count}" for name, count in last.items())
    return Report(
        [
            Figure(
                "every system call, over true: wall time",
                "s",
                wall["tracebee"],
                wall.get("bpftrace", []),
                Target(0.02),
            )
        ],
        [f"`{SCRIPT}` with `-c true`; keys printed: {counts}.  The peer was run once."],
    )
