"""Guests with other kernels: how long a boot takes, and both tools side by side in one.

A guest is emulated, so its times say little by themselves; ratios of two tools in the same guest do.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.figures import Figure, Report, Target
from benchmarks.harness import Bench, BenchmarkError

CHECKOUT = Path(__file__).resolve().parent.parent
KERNELS = ("5.10", "6.1", "6.12", "7.2")
KERNEL = "6.12"
LONGEST_BOOT = 6.0
"""Seconds from the command's start to its end."""
ROUNDS_INSIDE = 3
SECONDS = 1500


def vm_run(kernel: str, *words: str) -> list[str]:
    """The command line that runs a command in a guest."""
    return [sys.executable, "-m", "tracebee", "vm", "run", "--kernel", kernel, *words]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return kept | {"PYTHONPATH": str(CHECKOUT / "src")}


def measure_boot(bench: Bench) -> Report:
    """From start to finish of a Python that does nothing, in a guest of each kernel.

    The first run of each is not counted: it may fetch the kernel, and makes the cached archives.
    """
    figures = []
    notes = [f"`python3 -c pass` in a guest of one emulated CPU; at most {LONGEST_BOOT:g} s is asked for."]
    for kernel in KERNELS:
        walls = []
        for number in range(1 + max(2, bench.rounds // 2)):
            begin = time.perf_counter()
            done = subprocess.run(
                vm_run(kernel, "--no-folder", "--", "python3", "-c", "pass"),
                env=environment(),
                capture_output=True,
                timeout=600,
                check=False,
            )
            if done.returncode:
                raise BenchmarkError(f"the guest with Linux {kernel}: {done.stderr.decode()[-500:]}")
            if number:
                walls.append(time.perf_counter() - begin)
        figures.append(Figure(f"{kernel}: boot to exit", "s", walls, []))
        if min(walls) > LONGEST_BOOT:
            notes.append(f"{kernel} takes longer than that.")
    return Report(figures, notes)


def measure_inside(bench: Bench) -> Report:
    """Start to finish of hello, world, and what probes of kernel functions cost, in one guest."""
    words = ["--no-folder", "--memory", "3000", "--timeout", str(SECONDS)]
    for path in (CHECKOUT / "benchmarks", "/usr/bin/unshare", "/usr/sbin/bpftool", *peer_files(bench)):
        words += ["--share", str(path)]
    inner = [
        "python3",
        "-m",
        "benchmarks",
        "--json",
        "--only",
        "startup,functions",
        "--rounds",
        str(ROUNDS_INSIDE),
    ]
    if bench.theirs is not None:
        # The peer's root as it is here has the system's /proc and more mounted; the guest mounts its own.
        inner += ["--peer-root", bench.theirs.root]
        folders = " ".join(f'"$0/{name}"' for name in ("proc", "sys", "dev", "tmp"))
        inner = ["sh", "-c", f'mkdir -p {folders} && exec "$@"', bench.theirs.root, *inner]
    variables = environment()
    variables["PYTHONPATH"] += f":{CHECKOUT}"
    variables.pop("TRACEBEE_BENCH_INSIDE", None)
    done = subprocess.run(
        vm_run(KERNEL, *words, "--", *inner),
        env=variables,
        capture_output=True,
        timeout=SECONDS + 300,
        check=False,
    )
    if done.returncode:
        raise BenchmarkError(f"the guest with Linux {KERNEL}: {done.stderr.decode()[-1500:]}")
    figures = []
    for line in done.stdout.decode().splitlines():
        name, what, unit, ours, theirs = json.loads(line)
        target = Target(1.0) if name == "functions" and unit == "ns" else None
        figures.append(Figure(what, unit, ours, theirs, target))
    return Report(
        figures, ["Both tools in one guest, alternately; emulated, so that only ratios mean something."]
    )


def peer_files(bench: Bench) -> list[str]:
    """The peer's program and libraries inside its root."""
    if bench.theirs is None:
        return []
    root = bench.theirs.root
    if not root:
        raise BenchmarkError("the peer can be taken into a guest only from a root of its own (--peer-root)")
    program = bench.theirs.path_of(bench.theirs.command[0])
    done = subprocess.run(["chroot", root, "ldd", program], capture_output=True, text=True, check=False)
    found = [
        root + word for line in done.stdout.splitlines() for word in line.split() if word.startswith("/")
    ]
    return [root + program, *found]
