"""``tracebee check``: mistakes to be seen without a kernel; which kernels take a script, and why not where not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from getopt import GetoptError, gnu_getopt
from typing import TYPE_CHECKING

from tracebee.errors import UsageError
from tracebee.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.microvm.kernels import Kernel

USAGE = """\
  tracebee check script.bt
  tracebee check probe.bpf.o
  tracebee check --kernel 5.10,6.1,6.12,7.2 script.bt
  tracebee check --kernel 6.1,here -e 'kprobe:vfs_read { @[comm] = count(); }'

tracebee check: find mistakes that load well and then show wrong values, or fail at the attach; nothing is loaded.
With --kernel, say which kernels take a script: it is compiled, loaded and attached on each, and runs on none.

USAGE:
    tracebee check [-f FORMAT] FILE [parameters]
    tracebee check [-f FORMAT] -e PROGRAM [parameters]
    tracebee check --kernel KERNEL[,KERNEL ...] [options] FILE [parameters]
    tracebee check --kernel KERNEL[,KERNEL ...] [options] -e PROGRAM [parameters]
    tracebee check [--btf FILE|none] OBJECT.o ...

Objects of clang's are looked at and not loaded: sections, relocations, instructions, what they read of an
event's record, and what they ask of this kernel or of the types in a file.

A kernel is a version (tracebee vm list shows them), the path of a vmlinuz, or "here" for the running one.

OPTIONS:
    --kernel LIST    the kernels to ask
    -e PROGRAM       the program itself
    -f FORMAT        text, or json: one object a line for each complaint, or each kernel
    -v               all that was said about a refusal, not its first line alone
    --jobs N         guests at the same time (as many as this machine has processors)
    -h, --help       print this help

COMPLAINTS, by id:
    value-cut          a 64-bit value printed with %d or %x
    pointer-printed    an address printed, or used as a key, in the place of what is there
    read-at-entry      memory read at the entry of the call that fills it
    user-as-kernel     an address of user space read as one of the kernel
    wrapper-arguments  a system call's arguments taken from the registers of its wrapper
    past-the-record    a read behind the end of a field or of the event's record
    and for objects the causes of tracebee why

EXIT STATUS:
    0 if there is nothing to complain about, or every kernel takes the script; 1 if not; 125 if a guest failed
"""

HERE = "here"
SECONDS = 300
"""For one guest: boot, compilation and attachment, on a busy host."""

ERROR = re.compile(r"^(?:(?P<place>\S+:\d+:\d+(?:-\d+)?): )?ERROR: (?P<text>.*)$", re.MULTILINE)


class Answer(Frozen):
    """What one kernel said: `status` of the run there, and all of its messages."""

    kernel: str
    release: str
    status: int
    messages: str

    @property
    def verdict(self) -> str:
        return {0: "yes", 124: "no answer", 125: "no answer"}.get(self.status, "no")

    @property
    def reason(self) -> str:
        """The first error with its place, or what was said last."""
        if self.status == 0:
            return ""
        found = ERROR.search(self.messages)
        if found:
            place = found["place"]
            return f"{place}: {found['text']}" if place else found["text"]
        lines = [line for line in self.messages.splitlines() if line.strip()]
        return lines[-1] if lines else f"exit status {self.status}"


def run(words: list[str]) -> int:
    """Run ``tracebee check``; the exit status."""
    kernels: list[str] = []
    script: list[str] = []
    format_ = "text"
    verbose = False
    jobs = os.cpu_count() or 1
    btf: list[str] = []
    try:
        options, rest = gnu_getopt(words, "e:f:vh", ["kernel=", "jobs=", "btf=", "help"])
    except GetoptError as error:
        raise UsageError(f"check: {error.msg}", "tracebee check --help lists the options") from None
    for name, value in options:
        match name:
            case "--kernel":
                kernels += [part for part in value.split(",") if part]
            case "-e":
                script = ["-e", value]
            case "-f":
                format_ = value
            case "-v":
                verbose = True
            case "--btf":
                btf = ["--btf", value]
            case "--jobs":
                if not value.isdigit() or int(value) < 1:
                    raise UsageError(f"--jobs {value}: a positive number is expected")
                jobs = int(value)
            case _:
                print(USAGE, end="")
                return 0
    if format_ not in ("text", "json"):
        raise UsageError(f"check: unknown format: {format_}", "formats: text, json")
    if not script and rest and is_object(rest[0]):
        from tracebee.cli.object.checking import check_objects

        return check_objects([*rest, *btf], kernels, format_ == "json")
    if btf:
        raise UsageError("check: --btf is for objects", "say --kernel for scripts")
    script += rest
    if not kernels:
        from tracebee.cli.staticcheck import check_statically

        return check_statically(script, format_)
    check_script(script)
    answers = ask(find_all(kernels), script, jobs)
    show(answers, format_, verbose)
    statuses = {answer.status for answer in answers}
    if statuses <= {0}:
        return 0
    return 125 if any(answer.verdict == "no answer" for answer in answers) else 1


def is_object(path: str) -> bool:
    """Whether a file is an object rather than a script."""
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def check_script(words: Sequence[str]) -> None:
    """Refuse what no kernel could take.  Raises UsageError, SourceError."""
    from tracebee.cli.guest import check_grammar

    if not words:
        raise UsageError("check: no script given", "tracebee check --kernel 6.1 FILE")
    if words[0] != "-e":
        try:
            open(words[0], "rb").close()
        except OSError as error:
            raise UsageError(f"failed to open file '{words[0]}': {error.strerror}") from None
    check_grammar(words)


def find_all(names: Sequence[str]) -> list[tuple[str, Kernel | None]]:
    """The kernels by name, fetched if need be; None for the running one.  Raises what find_kernel does."""
    from tracebee.cli.progress import Progress
    from tracebee.microvm.kernels import find_kernel
    from tracebee.microvm.qemu import find_qemu

    if any(name != HERE for name in names):
        find_qemu()
    found: list[tuple[str, Kernel | None]] = []
    with Progress() as progress:
        for name in dict.fromkeys(names):
            found.append((name, None if name == HERE else find_kernel(name, progress)))
    return found


def ask(kernels: Sequence[tuple[str, Kernel | None]], script: Sequence[str], jobs: int) -> list[Answer]:
    """Try a script on each kernel, `jobs` at a time; the answers in the kernels' order.

    Each runs in a process of its own, which ends its guest when it is ended.
    """
    waiting = list(enumerate(kernels))
    running: dict[int, tuple[subprocess.Popen[bytes], str]] = {}
    answers: dict[int, Answer] = {}
    with tempfile.TemporaryDirectory(prefix="tracebee-check-") as folder:
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    index, (name, kernel) = waiting.pop(0)
                    path = os.path.join(folder, str(index))
                    command = [sys.executable, "-m", "tracebee", "--dry-run", "-q", *script]
                    if kernel is not None:
                        where = kernel.image if "/" in name else kernel.release
                        command[3:3] = ["--backend", f"vm:{where}"]
                    with open(path, "wb") as file:
                        running[index] = (
                            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file),
                            path,
                        )
                for index, (process, path) in list(running.items()):
                    if process.poll() is None:
                        continue
                    del running[index]
                    name, kernel = kernels[index]
                    release = kernel.release if kernel is not None else os.uname().release
                    with open(path, errors="replace") as text:
                        answers[index] = Answer(name, release, process.returncode, text.read())
                time.sleep(0.05)
        finally:
            for process, _ in running.values():
                process.terminate()
            for process, _ in running.values():
                process.wait()
    return [answers[index] for index in sorted(answers)]


def show(answers: Sequence[Answer], format_: str, verbose: bool) -> None:
    """Print a table, or JSON."""
    if format_ == "json":
        import json

        for answer in answers:
            answer_row = {
                "kernel": answer.kernel,
                "release": answer.release,
                "takes": answer.verdict,
                "reason": answer.reason,
                "messages": answer.messages,
            }
            print(json.dumps(answer_row))
        return
    table = [("KERNEL", "RELEASE", "TAKES IT", "WHY NOT")]
    table += [(answer.kernel, answer.release, answer.verdict, answer.reason) for answer in answers]
    widths = [max(len(row[column]) for row in table) for column in range(3)]
    for row in table:
        print(
            "  ".join(
                [*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]]
            ).rstrip()
        )
    if verbose:
        for answer in answers:
            if answer.status:
                print(f"\n{answer.kernel}:\n{answer.messages.strip()}")
