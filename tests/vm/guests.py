"""The language cases in guests: one for each kernel, with every case in one boot."""

from __future__ import annotations

import json
import os
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
        for shared in ("tests/caselib.py", "tests/cases", "tests/vm/inguest.py"):
            words += ["--share", str(ROOT / shared)]
        for target in sorted(targets.iterdir()):
            words += ["--share", str(target)]
        words += [
            "--no-folder",
            "--",
            "python3",
            str(ROOT / "tests/vm/inguest.py"),
            str(targets),
            ",".join(HAS),
        ]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.errors, env=env
        )

    def result(self, case: str) -> tuple[str, str]:
        """The verdict on a case and what there is to say about it."""
        if self._results is None:
            self.process.wait()
            self.output.seek(0)
            lines = [json.loads(line) for line in self.output.read().decode().splitlines()]
            self._results = {name: (verdict, text) for name, verdict, text, _ in lines}
        if case in self._results:
            return self._results[case]
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace")
        return "fail", f"the guest ended (status {self.process.returncode}) before this case: {said[-3000:]}"

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
