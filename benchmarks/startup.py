"""From start to finish of hello, world: what a user waits for, and the memory that it takes.

Memory is the peak resident set from wait4(2), which counts mapped pages of the ring buffer, for both.  A
process inherits the peak of the one that started it across exec, so figures below this program's own would
be this program's; that is said if it happens.
"""

from __future__ import annotations

import resource

from benchmarks.figures import Figure, Report, Target
from benchmarks.harness import Bench, BenchmarkError, run

SCRIPT = 'BEGIN { printf("hello, World!\\n"); exit(); }'
MIB = 1 << 20


def measure(bench: Bench) -> Report:
    """Wall time and peak memory.  One run of each goes first, unmeasured, to fill the caches."""
    wall: dict[str, list[float]] = {tool.name: [] for tool in bench.tools}
    peak: dict[str, list[float]] = {tool.name: [] for tool in bench.tools}
    for tool in bench.tools:
        if b"hello, World!" not in run(tool, "-e", SCRIPT).output:
            raise BenchmarkError(f"{tool.name} did not greet")
    for tool in bench.alternately(4 * bench.rounds):
        ended = run(tool, "-e", SCRIPT)
        wall[tool.name].append(1000 * ended.wall)
        peak[tool.name].append(ended.peak / MIB)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
    notes = [f"`{SCRIPT}`; {4 * bench.rounds} runs each, alternately, warm caches."]
    if min(peak["tracebee"]) <= own:
        notes.append(
            f"The memory figure is no lower than this program's own {own:.1f} MiB, and so an upper bound."
        )
    return Report(
        [
            Figure("hello, world: wall time", "ms", wall["tracebee"], wall.get("bpftrace", []), Target(0.35)),
            Figure(
                "hello, world: peak memory", "MiB", peak["tracebee"], peak.get("bpftrace", []), Target(0.25)
            ),
        ],
        notes,
    )
