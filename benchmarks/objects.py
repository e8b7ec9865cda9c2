"""Loading an object of twenty programs, against bpftool, which is libbpf.

Both do the same: read the file, make the maps, load the programs, pin them, take the pins away and let go of all.
Python's own start is not in it: a worker process with tracebee has loaded the object once, and then does it again
whenever it is told to, between two runs of bpftool.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import uuid
from pathlib import Path

from benchmarks.figures import Figure, Report, Target
from benchmarks.harness import Bench, BenchmarkError, Tool, run

FOLDER = Path(__file__).parent / "data"
OBJECTS = (("20 programs", "twenty.bpf.o"), ("20 programs with CO-RE", "twenty-core.bpf.o"))
BPFFS = "/sys/fs/bpf"
PROGRAMS = 20
ROUNDS = 3
"""Pairs for each round of the other measurements: one takes but a tenth of a second."""

WORKER = """
import os, resource, sys, time
import tracebee

path, pins = sys.argv[1:]
for line in sys.stdin:
    before = time.perf_counter()
    with tracebee.Object.from_elf(path) as found:
        found.load("kernel")
        made = found.pin(pins)
        for one in made:
            os.unlink(one)
        os.rmdir(pins)
    took = time.perf_counter() - before
    print(took, len(found.programs), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, flush=True)
"""


class Worker:
    """A process with tracebee that loads an object whenever it is asked to."""

    def __init__(self, tool: Tool, path: Path, pins: str) -> None:
        self._process = subprocess.Popen(
            [tool.command[0], "-c", WORKER, str(path), pins],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | dict(tool.environment),
        )

    def load(self) -> tuple[float, float]:
        """Seconds that it took, and the process's peak in bytes.  Raises BenchmarkError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("again\n")
        self._process.stdin.flush()
        words = self._process.stdout.readline().split()
        if len(words) != 3 or int(words[1]) != PROGRAMS:
            raise BenchmarkError("tracebee has not loaded the object")
        return float(words[0]), float(words[2])

    def end(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


def measure(bench: Bench) -> Report:
    """Milliseconds of a load with all that belongs to it, in pairs, and peak memory."""
    bpftool = shutil.which("bpftool")
    if bpftool is None:
        raise BenchmarkError("bpftool is not installed")
    if not os.path.ismount(BPFFS):
        raise BenchmarkError("there is no BPF file system to pin to")
    peer = Tool("bpftool", (bpftool,))
    figures: list[Figure] = []
    for what, name in OBJECTS:
        path = FOLDER / name
        pins = f"{BPFFS}/tracebee_bench_{uuid.uuid4().hex}"
        ours, theirs, first, peaks, their_peaks = [], [], [], [], []
        for _ in range(bench.rounds):
            worker = Worker(bench.ours, path, pins)
            try:
                first.append(worker.load()[0] * 1e3)
                for _ in range(ROUNDS):
                    took, peak = worker.load()
                    ours.append(took * 1e3)
                    peaks.append(peak)
                    took, peak = _by_bpftool(peer, path, pins)
                    theirs.append(took * 1e3)
                    their_peaks.append(peak)
            finally:
                worker.end()
        figures += [
            Figure(f"{what}: load and let go", "ms", ours, theirs, Target(3.0)),
            Figure(f"{what}: the first of a process", "ms", first, theirs),
            Figure(f"{what}: peak memory", "bytes", peaks, their_peaks),
        ]
    command = bench.ours._replace(
        command=(*bench.ours.command, "load", "-q", "--dry-run", "--backend", "kernel")
    )
    whole = [run(command, str(FOLDER / OBJECTS[0][1])).wall * 1e3 for _ in range(bench.rounds)]
    figures.append(
        Figure("tracebee load --dry-run of 20 programs, which attaches them, too", "ms", whole, [])
    )
    notes = [
        "The peer is `bpftool prog loadall OBJ DIR` and the removal of DIR, from fork to its end; the start of a "
        "program in C, some milliseconds, is in its figures.",
        "tracebee's figures are from inside one process, by time.perf_counter(), with the interpreter started and "
        "the modules imported by a load before: the file is read, the maps are made, the programs are loaded, "
        "pinned, and let go. The first load of a process has the import of what only a load needs.",
        "Each load of tracebee is followed by one of bpftool. Peak memory of tracebee is the whole process's, "
        "with Python.",
    ]
    return Report(figures, notes)


def _by_bpftool(peer: Tool, path: Path, pins: str) -> tuple[float, float]:
    before = time.perf_counter()
    ended = run(peer, "prog", "loadall", str(path), pins)
    if ended.status or len(os.listdir(pins)) != PROGRAMS:
        raise BenchmarkError(f"bpftool: {ended.errors.decode(errors='replace')[-300:]}")
    shutil.rmtree(pins)
    return time.perf_counter() - before, ended.peak
