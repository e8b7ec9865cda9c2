"""Every language case of tests/cases/ on the running kernel, each with a process of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tracebee.errors import SyscallError
from tracebee.kernel.features import Features
from tracebee.syscalls import bpf

from ..caselib import Case, build_target, command, failures, load_cases, report, run_case

TOOL = command(sys.executable, "-m", "tracebee")
KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "USER")


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
    target = None
    if case.target:
        try:
            target = build_target(case.target, targets)
        except FileNotFoundError as error:
            pytest.skip(str(error))
    # BPFTRACE_ and TRACEBEE_ variables of whoever runs the tests would change what scripts do.
    env = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    outcome = run_case(case, TOOL, tmp_path, env, target)
    problems = failures(case, outcome)
    assert not problems, report(case, outcome, problems)
