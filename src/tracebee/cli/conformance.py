"""``tracebee conformance``: the engine before the suite bpf_conformance."""

from __future__ import annotations

from getopt import GetoptError, gnu_getopt
from pathlib import Path
from typing import TYPE_CHECKING

from tracebee.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.engine.native import NativeDoor

USAGE = """\
  tracebee conformance bpf_conformance/tests

tracebee conformance: run the tests of bpf_conformance on the engine that runs programs in user space.

USAGE:
    tracebee conformance [--path PATH] [-v] DIRECTORY|FILE ...
    bpf_conformance --test_file_directory DIRECTORY --plugin_path tracebee-plugin

A directory is searched for .data files.  What lies in one called "negative" must not pass.  The second form is
the suite's own runner, which starts "tracebee conformance-plugin" for each test by a script of one line.

OPTIONS:
    --path PATH      fast (translated to Python; the default), reference (interpreted), native (machine code)
    -v               a line for each test, not only for those that fail
    -h, --help       print this help

EXIT STATUS:
    0 if every test is as it should be, else 1
"""


def run(arguments: Sequence[str]) -> int:
    """Run the tests that the command line names; 1 if one is not as it should be."""
    try:
        options, names = gnu_getopt(list(arguments), "hv", ["help", "path="])
    except GetoptError as error:
        raise UsageError(str(error), "see tracebee conformance --help") from error
    path, verbose = "fast", False
    for name, value in options:
        if name in ("-h", "--help"):
            print(USAGE, end="")
            return 0
        if name == "--path":
            path = value
        else:
            verbose = True
    if not names:
        raise UsageError("no directory is named", "see tracebee conformance --help")
    return run_files(_files(names), path, verbose)


def run_files(files: Sequence[Path], path: str, verbose: bool) -> int:
    """Run test files and say how they end."""
    from tracebee.engine.conformance import expects_refusal, judge

    native = door(path)
    counts = {"passed": 0, "failed": 0, "refused": 0}
    wrong = 0
    for file in files:
        text = file.read_text(encoding="utf-8", errors="replace")
        verdict = judge(text, path=path, native=native)
        counts[verdict.kind] += 1
        if file.parent.name == "negative":
            is_right = verdict.kind == "refused" or (verdict.kind == "failed" and not expects_refusal(text))
        else:
            is_right = verdict.kind == "passed" or (verdict.kind == "refused" and expects_refusal(text))
        wrong += not is_right
        if verbose or not is_right:
            mark = "" if is_right else "WRONG: "
            print(f"{mark}{file}: {verdict.kind}{f': {verdict.text}' if verdict.text else ''}")
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    print(f"{len(files)} tests on the {path} path: {told}; {wrong} not as they should be")
    return int(bool(wrong))


def door(path: str) -> NativeDoor | None:
    """What the native path needs."""
    if path != "native":
        return None
    from tracebee.syscalls import nativecode

    return nativecode.Door()


def _files(names: Sequence[str]) -> list[Path]:
    files: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            files += sorted(path.rglob("*.data"))
        elif path.exists():
            files.append(path)
        else:
            raise UsageError(f"there is no {name}")
    if not files:
        raise UsageError("there are no .data files there")
    return files
