"""Runs the language cases in a guest, and prints a line of JSON for each.

Starting Python under emulation takes half a second and reading the kernel's types another: so one process loads
everything once, and each case is a fork of it.  Its arguments are a folder with compiled targets, the words of
`needs` that the guest has, with commas between, and the names of the cases to run.  The word ``live`` instead of
names means all cases, and the tests of the live tier after them.  The objects of tests/data/repairs are loaded in
any case.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from caselib import Case, Outcome, failures, load_cases, run_case
from inrepairs import load_all

SLOWER = 6
"""How much longer a case may take than on a real processor."""

LACKS = re.compile(r"ERROR: (.*) \(since Linux (\d+)\.(\d+)\)")
PLUGIN = "inguest"
NOT_THERE = "not available for your kernel version"


class Forked:
    """A run of tracebee in a fork of this process; what is used of subprocess.Popen."""

    def __init__(self, arguments: list[str], env: dict[str, str], folder: Path) -> None:
        pipes = [os.pipe() for _ in range(3)]
        self.pid = os.fork()
        if self.pid == 0:
            become_tool(arguments, env, folder, pipes)
        (stdin, self_in), (self_out, stdout), (self_err, stderr) = pipes
        for fd in (stdin, stdout, stderr):
            os.close(fd)
        self.stdin = open(self_in, "wb", buffering=0)  # noqa: SIM115 - closed by __exit__
        self.stdout = open(self_out, "rb", buffering=0)  # noqa: SIM115
        self.stderr = open(self_err, "rb", buffering=0)  # noqa: SIM115

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            stream.close()

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def become_tool(
    arguments: list[str], env: dict[str, str], folder: Path, pipes: list[tuple[int, int]]
) -> None:
    """The fork: standard streams, environment and directory of its own, then the command line."""
    try:
        for number, fd in enumerate((pipes[0][0], pipes[1][1], pipes[2][1])):
            os.dup2(fd, number)
        for pair in pipes:
            for fd in pair:
                os.close(fd)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(env)
        sys.argv = ["tracebee", *arguments]
        from tracebee.cli.main import run

        run()
    finally:
        os._exit(99)


def preload() -> None:
    """Import what every run imports, and read the kernel's types once for all of them."""
    from tracebee.session.machine import LiveMachine

    sys.argv = ["tracebee"]
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    machine = LiveMachine()
    btf = machine.btf()
    symbols = machine.symbols

    import importlib
    import pkgutil

    import tracebee

    for found in pkgutil.walk_packages(tracebee.__path__, "tracebee."):
        if "__main__" not in found.name:
            importlib.import_module(found.name)
    LiveMachine.btf = lambda self: btf  # type: ignore[method-assign]
    LiveMachine.symbols = symbols  # type: ignore[assignment,method-assign]


def lacking_words() -> set[str]:
    """Words of `needs` that this kernel does not have."""
    from tracebee.kernel.features import Features

    features = Features()
    found = set() if features.has("large_keys") else {"large-keys"}
    if not features.has("loop") and not features.has("may_goto"):
        found.add("long-loops")
    # bpf_d_path_allowed() lets iterators call it since Linux 5.12; before, only some functions' fentry.  The kernel
    # of Debian 11 (5.10) walks user stacks from a frame that is not set up yet, that of Debian 12 does not.
    if tuple(map(int, os.uname().release.split(".")[:2])) < (5, 12):
        found |= {"path-iter", "uprobe-callers"}
    return found


def verdict(case: Case, outcome: Outcome, problems: list[str]) -> tuple[str, str]:
    """A word for an outcome, and what there is to say about it."""
    if not problems:
        return "pass", ""
    if NOT_THERE in outcome.stderr:
        return "unsupported", outcome.stderr.splitlines()[0]
    found = LACKS.search(outcome.stderr)
    if found:
        numbers = re.match(r"(\d+)\.(\d+)", os.uname().release)
        assert numbers is not None
        here, since = (tuple(map(int, text)) for text in (numbers.groups(), found.groups()[1:]))
        if since > here:
            return "unsupported", f"{found[1]} comes with Linux {found[2]}.{found[3]}"
    return "fail", f"{'; '.join(problems)}\n{outcome.stdout[-1500:]}\n{outcome.stderr[-1500:]}"


def tell(name: str, word: str, text: str, begin: float) -> None:
    print(json.dumps([name, word, text, round(time.monotonic() - begin, 2)]), flush=True)


def run_repairs() -> None:
    """Load the programs of tests/data/repairs; the verdict is ``taken``, or the errno with the log as text."""
    from tracebee.session.machine import LiveMachine

    begin = time.monotonic()
    for row in load_all(Path(__file__).parent.parent / "data/repairs", LiveMachine()):
        tell(f"repairs/{row['name']}", row["errno"] or "taken", row["log"], begin)


def run_live_tier() -> None:
    """The live tier's tests but the cases, by pytest; each is told as a case is."""
    live = Path(__file__).parent.parent / "live"
    quiet = "-o addopts=--import-mode=importlib -p no:cacheprovider -p no:terminal"
    words = [sys.executable, "-m", "pytest", *quiet.split(), "-p", PLUGIN]
    os.chdir(live.parent.parent)
    env = dict(os.environ) | {"PYTHONPATH": f"{os.environ['PYTHONPATH']}:{Path(__file__).parent}"}
    subprocess.run([*words, str(live), "--ignore", str(live / "test_cases.py")], env=env, check=False)


def pytest_runtest_logreport(report: Any) -> None:
    """This module is the plugin of that pytest as well."""
    if report.when != "call" and report.passed:
        return
    words = {"passed": "pass", "skipped": "unsupported", "failed": "fail"}
    text = str(report.longrepr)[-3000:] if report.longrepr else ""
    tell(f"live/{report.nodeid}", words[report.outcome], text, time.monotonic() - report.duration)


def main() -> None:
    targets, has, *names = sys.argv[1:]
    preload()
    words = set(has.split(",")) - lacking_words()
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "PYTHONPATH") if name in os.environ}
    for case in load_cases():
        if names != ["live"] and case.id not in names:
            continue
        case = replace(case, timeout=SLOWER * case.timeout)
        lacking = sorted(case.needs - words)
        begin = time.monotonic()
        if lacking:
            word, text = "unsupported", f"needs {', '.join(lacking)}"
        else:
            with tempfile.TemporaryDirectory() as folder:
                target = Path(targets, case.target) if case.target else None
                outcome = run_case(case, Forked, Path(folder), env, target)  # type: ignore[arg-type]
                word, text = verdict(case, outcome, failures(case, outcome))
        tell(case.id, word, text, begin)
    run_repairs()
    if names == ["live"]:
        run_live_tier()


if __name__ == "__main__":
    main()
