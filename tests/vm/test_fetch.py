"""A kernel from the real archive, through the real apt; what the fake of the unit tests stands for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tracebee
from tracebee.errors import TracebeeError
from tracebee.microvm.archive import find_source
from tracebee.microvm.kernels import cached_kernels, clean, find_kernel

LIMIT_S = 300
"""For the package list of one suite and one kernel."""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; skips where no archive can be had."""
    for program in ("apt-get", "dpkg-deb"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}")
    try:
        find_source()
    except TracebeeError as error:
        pytest.skip(str(error))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "tracebee"


def fetched(name: str) -> str:
    """Fetch a kernel as a user does; skips where the archive is not in reach."""
    done = subprocess.run(
        [sys.executable, "-m", "tracebee", "vm", "fetch", name],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(tracebee.__file__).parents[1])},
    )
    if done.returncode and ("cannot be read" in done.stderr or "Could not" in done.stderr):
        pytest.skip(f"the archive is not in reach: {done.stderr.splitlines()[-2]}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_fetch(cache: Path) -> None:
    status = Path("/var/lib/dpkg/status")
    before = status.stat().st_mtime_ns if status.exists() else None
    out = fetched("6.1")
    (kernel,) = cached_kernels()
    assert out == f"6.1: {kernel.release}, {kernel.image}\n"
    assert kernel.version.startswith("6.1.")
    # The image is a kernel: what its own header says is what the package said.
    assert find_kernel(kernel.image).release == kernel.release
    assert find_kernel("6.1").image == kernel.image
    assert "CONFIG_BPF_SYSCALL=y" in Path(kernel.config).read_text().splitlines()
    assert any(Path(kernel.modules).rglob("*.ko*"))
    # Installed it is not.
    assert (status.stat().st_mtime_ns if status.exists() else None) == before
    assert clean() > 10_000_000
    assert cached_kernels() == []
