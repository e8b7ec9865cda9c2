"""The language cases in guests: one for each kernel, with every case in one boot."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tracebee.errors import TracebeeError
from tracebee.microvm.kernels import find_kernel
from tracebee.microvm.qemu import find_qemu

from ..caselib import NEEDS, Case, load_cases

ROOT = Path(__file__).parent.parent.parent
KERNELS = os.environ.get("TRACEBEE_TEST_KERNELS", "6.1").split(",")
"""`make test` runs one; `make test-vm` sets all of the matrix."""
SECONDS = 3000
"""For the cases on one kernel: 700 take 8 minutes on an idle machine."""

PART = 1 if "TRACEBEE_TEST_KERNELS" in os.environ else 3
"""Of the cases that need nothing of a kernel but its verifier, `make test` runs one in so many."""

HAS = sorted(set(NEEDS) - {"hardware"})
"""What these kernels have under emulation: all but counters of a processor."""


SHARED = (
    "tests/caselib.py",
    "tests/cases",
    "tests/data/repairs",
    "tests/vm/inguest.py",
    "tests/vm/inrepairs.py",
)
"""What a guest needs for the cases and the repairs."""

LIVE = ("tests", "examples", "docs", "README.md", "CHANGELOG.md", "pyproject.toml")
"""What the tests of the live tier read."""


def distribution_paths(name: str) -> list[str]:
    """The folders and files of an installed package and of those that it needs."""
    from importlib.metadata import PackageNotFoundError, distribution

    found: dict[str, None] = {}
    pending, seen = [name], set()
    while pending:
        one = pending.pop()
        if one in seen:
            continue
        seen.add(one)
        try:
            package = distribution(one)
        except PackageNotFoundError:
            continue  # for another platform, or optional
        for file in package.files or []:
            if ".." not in file.parts:
                found.setdefault(str(package.locate_file(file.parts[0])))
        pending += [
            re.split(r"[^\w.-]", need)[0] for need in package.requires or [] if "extra ==" not in need
        ]
    return [path for path in found if os.path.exists(path)]


def chosen_cases() -> list[Case]:
    """The cases that are run in guests."""
    cases = load_cases()
    plain = [case for case in cases if not case.needs]
    left_out = {case.id for number, case in enumerate(plain) if number % PART}
    return [case for case in cases if case.id not in left_out]


class GuestCases:
    """The language cases in one guest; `result` waits for its end."""

    def __init__(self, kernel: str, targets: Path) -> None:
        self.kernel = kernel
        self.output = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._results: dict[str, tuple[str, str]] | None = None
        words = [sys.executable, "-m", "tracebee", "vm", "run", "--kernel", kernel, "--timeout", str(SECONDS)]
        for shared in SHARED:
            words += ["--share", str(ROOT / shared)]
        for target in sorted(targets.iterdir()):
            words += ["--share", str(target)]
        if PART == 1:
            for path in (*(str(ROOT / name) for name in LIVE), *distribution_paths("pytest")):
                words += ["--share", path]
        words += [
            "--no-folder",
            "--",
            "python3",
            str(ROOT / "tests/vm/inguest.py"),
            str(targets),
            ",".join(HAS),
        ]
        words += ["live"] if PART == 1 else [case.id for case in chosen_cases()]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.errors, env=env
        )

    def results(self) -> dict[str, tuple[str, str]]:
        """The verdict on everything that ran, by name, and what there is to say about it."""
        if self._results is None:
            self.process.wait()
            self.output.seek(0)
            lines = self.output.read().decode(errors="replace").splitlines()
            found = [json.loads(line) for line in lines if line.startswith("[")]
            self._results = {name: (verdict, text) for name, verdict, text, _ in found}
        return self._results

    def result(self, case: str) -> tuple[str, str]:
        """The verdict on a case."""
        if case in self.results():
            return self.results()[case]
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace")
        return "fail", f"the guest ended (status {self.process.returncode}) before this case: {said[-3000:]}"

    def live_results(self) -> dict[str, tuple[str, str]]:
        """The verdicts on the tests of the live tier."""
        return {name: found for name, found in self.results().items() if name.startswith("live/")}

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


started: dict[str, GuestCases | str] = {}
"""By kernel; a text says why there is none."""


def start(kernel: str, targets: Path) -> GuestCases | str:
    try:
        find_qemu()
        find_kernel(kernel)
    except TracebeeError as error:
        return f"no guest with Linux {kernel}: {error}"
    return GuestCases(kernel, targets)
