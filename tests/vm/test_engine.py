"""The engine and a kernel on the same programs: what they leave in memory must be the same.

The programs are made up by chance, so they run in a guest: a verifier that crashes takes no one else along.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, cast

import pytest

from tracebee.engine.machine import Machine
from tracebee.errors import TracebeeError
from tracebee.microvm.kernels import find_kernel
from tracebee.microvm.qemu import find_qemu
from tracebee.spec.objects import ObjectSpec, ProgramSpec, Schema
from tracebee.syscalls.nativecode import Door

from . import generated
from .guests import KERNELS, PART, ROOT

if TYPE_CHECKING:
    from tracebee.engine.world import World

COUNT = 1500 if PART == 1 else 300
FIRST = int(os.environ.get("TRACEBEE_TEST_PROGRAMS", "0"))
"""The number of the first program, for runs that look at others."""

SINCE = {4: (6, 6), 3: (5, 12), 2: (0, 0)}
"""Versions of the instruction set, and the first kernel that has all of each."""


def run_in_engine(number: int, version: int, path: str) -> str:
    """What the program has left in its map, in hex."""
    spec = ProgramSpec("generated", "RAW_TRACEPOINT", generated.program(number, version))
    nobody = cast("World", None)
    machine = Machine(ObjectSpec((spec,), (generated.MAP,), (), Schema()), nobody, path=path, native=Door())
    table = machine.maps["memory"]
    table.put(bytes(4), generated.start_values(number))
    machine.programs["generated"].run(bytes(8))
    return (table.get(bytes(4)) or b"").hex()


@pytest.mark.parametrize("name", KERNELS)
def test_programs_leave_the_same(name: str) -> None:
    try:
        find_qemu()
        kernel = find_kernel(name)
    except TracebeeError as error:
        pytest.skip(f"no guest with Linux {name}: {error}")
    release = tuple(int(part) for part in kernel.version.split(".")[:2])
    version = next(version for version, since in SINCE.items() if release >= since)
    script = str(ROOT / "tests/vm/generated.py")
    words = [
        sys.executable,
        "-m",
        "tracebee",
        "vm",
        "run",
        "--kernel",
        name,
        "--timeout",
        "900",
        "--no-folder",
    ]
    words += ["--share", script, "--", "python3", script, str(FIRST), str(COUNT), str(version)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=1000, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(lines) == COUNT, done.stderr[-3000:]
    refused = [text for _, text in lines if text.startswith("refused")]
    # The verifier has limits that chance runs into, but seldom.
    assert len(refused) < COUNT // 20, refused[0]
    for number, left in lines:
        if not left.startswith("refused"):
            for path in ("fast", "reference"):
                assert run_in_engine(number, version, path) == left, (number, path)
