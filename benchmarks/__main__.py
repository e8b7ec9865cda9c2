"""The command line: ``python3 -m benchmarks [--quick] [--only NAME,…] [--peer COMMAND] [--peer-root DIR]``."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT / "src"))

from benchmarks import engine, events, guest, incost, objects, startup, user, wildcard  # noqa: E402 - behind the path that they need
from benchmarks.figures import markdown_table, plain_table  # noqa: E402
from benchmarks.harness import Bench, BenchmarkError, Tool  # noqa: E402
from benchmarks.peer import describe, find_peer, kernel, version  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.figures import Report

MEASUREMENTS: dict[str, tuple[str, Callable[[Bench], Report]]] = {
    "startup": ("Start to finish", startup.measure),
    "events": ("Printed events", events.measure),
    "wildcard": ("Many probes", wildcard.measure),
    "incost": ("Cost in the kernel", incost.measure),
    "user": ("The user backend, against strace", user.measure),
    "engine": ("The engine in user space, against uBPF's JIT", engine.measure),
    "objects": ("Loading objects, against bpftool", objects.measure),
    "functions": ("Cost in the kernel, of kernel functions", incost.measure_functions),
    "boot": ("Other kernels", guest.measure_boot),
    "guest": (f"In a guest with Linux {guest.KERNEL}", guest.measure_inside),
}
"""The measurements by name, in their order: a title, and what takes the tools and returns figures.

Memory comes first: what a process is started with counts towards its peak.
"""

ASKED_FOR = {"functions"}
"""Measured only where --only names it: a guest does, as kernels at hand need not have kprobes."""

RESULTS = CHECKOUT / "benchmarks" / "results.md"


def main() -> int:
    """Measure, print, and write the results; 1 if something could not be measured."""
    options = parse_options()
    if os.geteuid() != 0:
        print("benchmarks: tracing needs root", file=sys.stderr)
        return 1

    def say(line: str) -> None:
        print(line, file=sys.stderr if options.json else sys.stdout, flush=True)

    try:
        theirs = find_peer(options.peer, options.peer_root)
        ours = Tool(
            "tracebee", (sys.executable, "-m", "tracebee"), "", (("PYTHONPATH", str(CHECKOUT / "src")),)
        )
        bench = Bench(ours, theirs, options.rounds or (2 if options.quick else 7), options.dump, say)
        text = introduction(bench)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    failed = False
    say(text)
    for name, (title, measure) in MEASUREMENTS.items():
        if name not in (options.only.split(",") if options.only else set(MEASUREMENTS) - ASKED_FOR):
            continue
        say(f"{title} …")
        try:
            report = measure(bench)
        except BenchmarkError as error:
            failed = True
            say(f"  could not be measured: {error}")
            text += f"\n## {title}\n\nCould not be measured: {error}\n"
            continue
        if options.json:
            for figure in report.figures:
                print(json.dumps([name, figure.what, figure.unit, figure.ours, figure.theirs]), flush=True)
            continue
        print(plain_table(report.figures), *report.notes, "", sep="\n", flush=True)
        notes = "\n".join(f"- {note}" for note in report.notes)
        text += f"\n## {title}\n\n{markdown_table(report.figures)}\n\n{notes}\n"
    if not options.json:
        Path(options.output).write_text(text)
        print(f"written to {options.output}")
    return int(failed)


def parse_options() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        "python3 -m benchmarks", description="Measure tracebee against bpftrace."
    )
    parser.add_argument("--peer", default="", help="how to start bpftrace (or TRACEBEE_BENCH_PEER)")
    parser.add_argument("--peer-root", default="", help="its root, if another (or TRACEBEE_BENCH_PEER_ROOT)")
    parser.add_argument(
        "--rounds", type=int, default=0, help="runs of each tool (default 7; startup: 4 times that)"
    )
    parser.add_argument("--quick", action="store_true", help="two rounds, to see that everything works")
    parser.add_argument("--only", default="", help=f"some of {','.join(MEASUREMENTS)}")
    parser.add_argument(
        "--dump", default="", help="a folder for the programs of the suite, as the kernel has them"
    )
    parser.add_argument(
        "--json", action="store_true", help="print figures as JSON, a line each; write no file"
    )
    parser.add_argument("--output", default=str(RESULTS), help="where the results go (default: %(default)s)")
    return parser.parse_args()


def commit() -> str:
    """Which state of the checkout is measured."""
    words = ["git", "-C", str(CHECKOUT), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError:
        return "commit not known"
    return done.stdout.strip() or "commit not known"


def introduction(bench: Bench) -> str:
    """When, where, and what was compared."""
    peer = "none found: tracebee's own figures only, no ratios (see --peer)"
    if bench.theirs is not None:
        peer = f"{version(bench.theirs)}, started as {describe(bench.theirs)}"
    python = sys.version.split()[0]
    return f"""# tracebee against bpftrace

- date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load average {os.getloadavg()[0]:.2f} at the start
- system: {kernel()}
- tracebee: {version(bench.ours)} ({commit()}), Python {python}, started as `python3 -m tracebee`
- peer: {peer}
- rounds: {bench.rounds}, the two tools alternately; a ratio is tracebee's median over the peer's
"""


if __name__ == "__main__":
    sys.exit(main())
