"""Every language case of tests/cases/ on the running kernel, each with a process of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tracebee.errors import SyscallError
from tracebee.kernel.features import Features
from tracebee.syscalls import bpf

from ..caselib import Case, NoTarget, check_here, command, load_cases

TOOL = command(sys.executable, "-m", "tracebee")


@pytest.fixture(scope="module")
def kernel() -> None:
    """Skips where no program can be loaded at all: asked with a map of one slot, not with tracebee itself."""
    if os.geteuid() != 0:
        pytest.skip("tracing needs root")
    try:
        os.close(bpf.map_create("ARRAY", 4, 8, 1))
    except SyscallError as error:
        pytest.skip(f"bpf(2) is refused here: {error}")


@pytest.fixture(scope="module")
def targets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("targets")


@pytest.fixture(scope="module")
def features() -> Features:
    return Features()


PROBED = {"kprobe": "no kprobes (CONFIG_KPROBES)", "fentry": "no fentry and fexit programs"}
"""Words of `needs` that are features of the kernel, and what it has without them."""


@pytest.mark.parametrize("case", load_cases(), ids=lambda case: case.id)
def test_case(case: Case, kernel: None, features: Features, targets: Path, tmp_path: Path) -> None:
    for word, without in PROBED.items():
        if word in case.needs and not features.has(word):
            pytest.skip(f"this kernel has {without}")
    try:
        check_here(case, TOOL, targets, tmp_path)
    except NoTarget as error:
        pytest.skip(str(error))
