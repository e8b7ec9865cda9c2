"""``--backend vm:KERNEL``: the same command line, in a guest with another kernel."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from tracebee.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX = "vm:"
OUTPUT_OPTIONS = ("-o", "--output")

# What a script may name of this machine: a path, or the program or library of a uprobe.
PATHS = re.compile(r"/[\w.+@/-]+")
TARGETS = re.compile(r"\b(?:u|ur|U|uprobe|uretprobe|usdt):([\w.+-]+):")


def guest_kernel(words: Sequence[str]) -> tuple[str, list[str]]:
    """The kernel that --backend names, and the words without it; "" if the words do not ask for a guest.

    Raises UsageError.
    """
    rest = list(words)
    for at, word in enumerate(rest):
        if word == "--":
            break
        name, equals, value = word.partition("=")
        if name != "--backend":
            continue
        width = 1
        if not equals:
            value = rest[at + 1] if at + 1 < len(rest) else ""
            width = 2
        if not value.startswith(PREFIX):
            continue
        if value == PREFIX:
            raise UsageError(
                "--backend vm: names no kernel", "say --backend vm:6.1; tracebee vm list shows what there is"
            )
        del rest[at : at + width]
        return value.removeprefix(PREFIX), rest
    return "", rest


def run_there(kernel: str, words: list[str]) -> int:
    """Run a command line of tracebee on another kernel; the exit status.

    What comes out goes where -o says, on this machine.  Mistakes in the script's grammar are told without a boot.
    """
    from tracebee.cli.vmrun import current_folder, guest_environment, run_in_guest, write_through
    from tracebee.microvm.image import Job
    from tracebee.microvm.machine import Limits

    words, output = take_output(words)
    if "-" in words and "-e" not in words:
        at = words.index("-")
        words[at : at + 1] = ["-e", sys.stdin.read()]
    check_grammar(words)
    job = Job(["tracebee", *words], current_folder(), guest_environment(), named_files(words))
    if not output:
        return run_in_guest(kernel, job, Limits(), write_through)
    try:
        file = open(output, "wb", buffering=0)  # noqa: SIM115 - closed below
    except OSError as error:
        raise UsageError(f"Failed to open output file: {output}: {error.strerror}") from None
    with file:

        def write(stream: int, data: bytes) -> None:
            if stream == 1:
                file.write(data)
            else:
                write_through(stream, data)

        return run_in_guest(kernel, job, Limits(), write)


def take_output(words: list[str]) -> tuple[list[str], str]:
    """The words without -o, and the file that it names."""
    rest = list(words)
    end = rest.index("--") if "--" in rest else len(rest)
    for at, word in enumerate(rest[:end]):
        if word in OUTPUT_OPTIONS and at + 1 < end:
            path = rest[at + 1]
            del rest[at : at + 2]
            return rest, path
        if word.startswith("--output=") or (word.startswith("-o") and len(word) > 2):
            del rest[at]
            return rest, word.removeprefix("--output=").removeprefix("-o")
    return rest, ""


def named_files(words: Sequence[str]) -> list[str]:
    """Files of this machine that a command line names: scripts, what they trace, commands and their arguments."""
    found: dict[str, None] = {}
    for at, word in enumerate(words):
        before = words[at - 1] if at else ""
        if before in ("-c", "--cmd"):
            command_files(word, found)
        elif before == "-e":
            script_files(word, found)
        elif before in ("-I", "--include") or os.path.isfile(word):
            found.setdefault(os.path.abspath(word))
            if before not in ("-I", "--include"):
                script_files(read_script(word), found)
    return [path for path in found if os.path.exists(path)]


def check_grammar(words: Sequence[str]) -> None:
    """Raise SourceError for what no kernel would take."""
    from tracebee.language.compile import deep_recursion
    from tracebee.language.diagnostics import Diagnostics
    from tracebee.language.parser import parse
    from tracebee.language.source import Source

    for at, word in enumerate(words):
        if at and words[at - 1] == "-e":
            source = Source("stdin", word)
        elif word.endswith(".bt") and os.path.isfile(word):
            with open(word, "rb") as file:
                source = Source.decode(word, file.read())
        else:
            continue
        diagnostics = Diagnostics()
        with deep_recursion():
            parse(source, diagnostics)
        diagnostics.stop_if_errors()


def read_script(path: str) -> str:
    """A file's text; empty for what is none."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return ""
    if b"\0" in data:
        return ""
    return data.decode(errors="replace")


def script_files(text: str, found: dict[str, None]) -> None:
    from tracebee.host.libraries import find_target

    for match in PATHS.finditer(text):
        if os.path.isfile(match[0]):
            found.setdefault(match[0])
    for match in TARGETS.finditer(text):
        path = find_target(match[1])
        if path:
            found.setdefault(path)


def command_files(command: str, found: dict[str, None]) -> None:
    """The program of a command, and the files among its arguments."""
    import shlex

    from tracebee.host.libraries import find_program

    try:
        words = shlex.split(command)
    except ValueError:
        return
    for position, word in enumerate(words):
        path = find_program(word) if position == 0 and "/" not in word else word
        if path and os.path.isfile(path):
            found.setdefault(os.path.abspath(path))
