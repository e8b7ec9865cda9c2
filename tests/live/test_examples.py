"""The example scripts, run as their headers say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="tracing needs root"),
    pytest.mark.skipif(
        not os.access("/sys/kernel/btf/vmlinux", os.R_OK), reason="the kernel's BTF cannot be read"
    ),
]

RUNS = [
    pytest.param(
        "opens.bt", ["-c", "cat /nothing"], r"^cat +\d+ +/nothing: No such file or directory$", id="opens"
    ),
    pytest.param(
        "slowest_calls.bt", ["-c", "ls /"], r"^@microseconds\[getdents64\]: \d+$", id="slowest_calls"
    ),
    pytest.param("on_cpu.bt", ["--", "--seconds=1"], r"^@\[", id="on_cpu"),
    pytest.param("tasks.bt", [], r"^2 +0 +\d+ +kthreadd$", id="tasks"),
]


@pytest.mark.parametrize(("name", "arguments", "line"), RUNS)
def test_example(name: str, arguments: list[str], line: str) -> None:
    # On an idle machine nothing is on a processor.
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "tracebee", str(EXAMPLES / name), *arguments],
                capture_output=True,
                text=True,
                timeout=60,
                env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
                check=False,
            )
        finally:
            busy.kill()
    assert done.returncode == 0, done.stderr
    assert re.search(line, done.stdout, re.MULTILINE), done.stdout[-2000:]


def test_every_example_is_run() -> None:
    assert {run.values[0] for run in RUNS} == {path.name for path in EXAMPLES.glob("*.bt")}
