"""The engine in user space: nanoseconds of an instruction on each path, over six small programs.

The peer is uBPF's JIT by its command ``ubpf_test``, named by TRACEBEE_BENCH_UBPF or found in PATH.  It runs a
program once and tells no times; so a program's loop is run with few and with many rounds, and the difference
counts, on both sides.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from benchmarks.figures import Figure, Report, Target
from benchmarks.harness import Bench, BenchmarkError

if TYPE_CHECKING:
    from tracebee.engine.machine import EngineProgram
    from tracebee.engine.world import World

VARIABLE = "TRACEBEE_BENCH_UBPF"

ROUNDS = {"reference": 10, "fast": 20, "native": 2000}
"""By path: rounds of a program that make some hundredths of a second."""

BUDGET = 1 << 40


class Small(NamedTuple):
    """A program: what a round does, the memory that r1 points to, and the maps that it needs.

    In a round r6 is the memory, and r7 the round, counting down.
    """

    name: str
    body: str
    memory: bytes = bytes(8)
    has_map: bool = False


PROGRAMS = (
    Small(
        "sum",
        """
        r1 = 0
    again:
        r2 = r1
        r2 ^= r7
        r0 += r2
        r1 += 1
        if r1 < 1000 goto again
        """,
    ),
    Small(
        "prime sieve",
        """
        r1 = 2
    next:
        if r1 >= 2048 goto end
        r2 = r6
        r2 += r1
        r3 = *(u8 *)(r2 +0)
        if r3 != 0 goto composite
        r0 += 1
        r4 = r1
    strike:
        r4 += r1
        if r4 >= 2048 goto composite
        r2 = r6
        r2 += r4
        *(u8 *)(r2 +0) = 1
        goto strike
    composite:
        r1 += 1
        goto next
    end:
        """,
        bytes(2048),
    ),
    Small(
        "memcpy",
        """
        r2 = 0
    again:
        r3 = r6
        r3 += r2
        r4 = *(u64 *)(r3 +0)
        *(u64 *)(r3 +4096) = r4
        r2 += 8
        if r2 < 4096 goto again
        r0 += r4
        """,
        bytes(8192),
    ),
    Small(
        "string compare",
        """
        r1 = r6
        r2 = r6
        r2 += 1024
    again:
        r3 = *(u8 *)(r1 +0)
        r4 = *(u8 *)(r2 +0)
        if r3 != r4 goto end
        if r3 == 0 goto end
        r0 += 1
        r1 += 1
        r2 += 1
        goto again
    end:
        """,
        (b"a" * 1023 + b"\0") * 2,
    ),
    Small(
        "map update",
        """
        r8 = 0
    again:
        r1 = r8
        r1 &= 63
        *(u32 *)(r10 -4) = r1
        r1 = map[counts]
        r2 = r10
        r2 += -4
        call bpf_map_lookup_elem
        if r0 == 0 goto end
        r1 = *(u64 *)(r0 +0)
        r1 += 1
        *(u64 *)(r0 +0) = r1
        r8 += 1
        if r8 < 256 goto again
    end:
        """,
        has_map=True,
    ),
    Small(
        "switch",
        """
        r8 = 12345
        r9 = 200
    again:
        r8 *= 1103515245
        r8 += 12345
        w8 &= 0x7fffffff
        r1 = r8
        r1 >>= 16
        r1 &= 7
        if r1 == 0 goto c0
        if r1 == 1 goto c1
        if r1 == 2 goto c2
        if r1 == 3 goto c3
        if r1 == 4 goto c4
        if r1 == 5 goto c5
        if r1 == 6 goto c6
        r0 += 7
        goto next
    c0: r0 += 1
        goto next
    c1: r0 ^= 3
        goto next
    c2: r0 += r8
        goto next
    c3: r0 -= r9
        goto next
    c4: r0 <<= 1
        goto next
    c5: r0 >>= 1
        goto next
    c6: r0 |= 1
    next:
        r9 -= 1
        if r9 != 0 goto again
        """,
    ),
)


def text_of(program: Small, rounds: int) -> str:
    """The whole program."""
    return f"r6 = r1\nr0 = 0\nr7 = {rounds}\nround:\n{program.body}\nr7 -= 1\nif r7 != 0 goto round\nexit"


def measure(bench: Bench) -> Report:
    """Nanoseconds of an instruction."""
    peer = os.environ.get(VARIABLE) or shutil.which("ubpf_test")
    paths = ["fast", "reference"]
    notes = [
        "Instructions are counted by the reference path; what LLVM leaves out of a loop is counted all the same."
    ]
    try:
        import llvmlite
    except ImportError:
        notes.append("llvmlite is not installed: no native path.")
    else:
        paths.append("native")
        notes.append(f"The native path is llvmlite {llvmlite.__version__}.")
    figures = []
    for program in PROGRAMS:
        length = _length(program)
        theirs: list[float] = []
        if peer is not None and not program.has_map:
            theirs = [_peer(peer, program) / length * 1e9 for _ in range(bench.rounds)]
        for path in paths:
            ours = [_ours(program, path) / length * 1e9 for _ in range(bench.rounds)]
            target = Target(1.0) if path == "native" else None
            figures.append(Figure(f"{program.name}, {path}", "ns/insn", ours, theirs, target))
    if peer is None:
        notes.append(f"No ubpf_test in PATH, and none named by {VARIABLE}: no ratios.")
    else:
        notes.append("The peer is uBPF's JIT, without bounds checks; it has no maps.")
    notes += _startup()
    return Report(figures, notes)


def _program(program: Small, path: str, rounds: int) -> EngineProgram:
    from tracebee.engine.machine import Machine
    from tracebee.insn.asm import assemble
    from tracebee.spec.objects import MapSpec, ObjectSpec, ProgramSpec, Schema
    from tracebee.syscalls.nativecode import Door

    maps = (MapSpec("counts", "ARRAY", 4, 8, 64),) if program.has_map else ()
    insns = assemble(text_of(program, rounds))
    spec = ObjectSpec((ProgramSpec("small", "RAW_TRACEPOINT", insns),), maps, (), Schema())
    nobody = cast("World", None)  # no program asks about the world
    machine = Machine(spec, nobody, path=path, budget=BUDGET, native=Door())
    return machine.programs["small"]


def _length(program: Small) -> int:
    """Instructions of a round."""

    def taken(rounds: int) -> int:
        made = _program(program, "reference", rounds)
        made.run(bytearray(program.memory))
        return BUDGET - made.machine.runtime.remaining

    # From the second round on, as the first of the sieve may differ.
    return taken(3) - taken(2)


def _ours(program: Small, path: str) -> float:
    """Seconds of a round."""
    few, many = ROUNDS[path], 3 * ROUNDS[path]
    took = []
    for rounds in (few, many):
        made = _program(program, path, rounds)
        memory = bytearray(program.memory)
        made.run(memory)
        before = time.perf_counter()
        made.run(memory)
        took.append(time.perf_counter() - before)
    return (took[1] - took[0]) / (many - few)


def _peer(command: str, program: Small) -> float:
    """Seconds of a round in uBPF's JIT, by whole processes."""
    from tracebee.insn.asm import assemble
    from tracebee.insn.codec import encode

    few, many = 2000, 42_000
    took = []
    with tempfile.TemporaryDirectory(prefix="tracebee-bench-") as folder:
        memory, code = Path(folder, "memory"), Path(folder, "code")
        memory.write_bytes(program.memory)
        for rounds in (few, many):
            code.write_bytes(encode(assemble(text_of(program, rounds)), byteorder="little"))
            words = [command, "--jit", "--mem", str(memory), str(code)]
            before = time.perf_counter()
            done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
            took.append(time.perf_counter() - before)
            if done.returncode:
                raise BenchmarkError(f"ubpf_test on {program.name}: {done.stderr.strip()[:200]}")
    return (took[1] - took[0]) / (many - few)


def _startup() -> list[str]:
    """How long it takes to make a program of some hundred instructions ready."""
    from statistics import median

    told = []
    steps = [f"r1 += {n}\nr1 ^= r0\n*(u64 *)(r10 -{8 + n % 60 * 8}) = r1" for n in range(100)]
    program = Small("long", "\n".join(steps))
    for path in ("fast", "reference"):
        took = []
        for _ in range(9):
            before = time.perf_counter()
            _program(program, path, 1)
            took.append(time.perf_counter() - before)
        told.append(f"{path} {median(took) * 1e3:.1f} ms")
    return [f"To check and translate 306 instructions: {', '.join(told)}, with the assembler."]
