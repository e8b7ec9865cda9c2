"""``tracebee explain``: why the kernel refused a program, from the verifier's log."""

from __future__ import annotations

import errno as errno_names
import glob
import json
import os
import sys
from getopt import GetoptError, gnu_getopt
from typing import TYPE_CHECKING

from tracebee.errors import UsageError

if TYPE_CHECKING:
    from tracebee.explain.explanation import SourceLine
    from tracebee.explain.facts import Facts
    from tracebee.explain.log import VerifierLog

USAGE = """\
  tracebee explain verifier.log
  tracebee explain --source prog.bpf.c --kernel 5.10 verifier.log
  tracebee -v script.bt 2>&1 | tracebee explain -

tracebee explain: why the kernel refused a program: what is wrong, where, how it came to be, what to change.

USAGE:
    tracebee explain [options] FILE       FILE holds the log; - is standard input
    tracebee explain --corpus DIRECTORY   answer each DIRECTORY/cases/*.json, one line of JSON for each

OPTIONS:
    --object FILE    the object file that was loaded: gives lines, licence and program type
    --program NAME   which of its programs, where there are several
    --source FILE    the program's source
    --errno N        the errno of the load, by number or name
    --kernel R       the release of the kernel that refused it
    --section NAME   the section (type) of the program, such as kprobe/vfs_read
    --unprivileged   it was loaded without any capability
    -j, --json       JSON, with a stable id of the cause
    -h, --help       print this help

EXIT STATUS:
    0 if there is an explanation, 1 if the cause is not known
"""


def run(words: list[str]) -> int:
    """Run ``tracebee explain``; the exit status."""
    names = ["object=", "program=", "source=", "errno=", "kernel=", "section=", "corpus=", "unprivileged"]
    try:
        options, rest = gnu_getopt(words, "jh", [*names, "json", "help"])
    except GetoptError as error:
        raise UsageError(f"explain: {error.msg}", "tracebee explain --help lists the options") from None
    given = dict(options)
    if "-h" in given or "--help" in given:
        print(USAGE, end="")
        return 0
    if "--corpus" in given:
        return answer_corpus(given["--corpus"])
    if len(rest) != 1:
        raise UsageError("explain: one file with a log is expected", "tracebee explain FILE, or - to read it")
    from tracebee.explain.chooser import explain_log

    log = read_log(rest[0])
    told = explain_log(log, facts_of(given, log))
    if "-j" in given or "--json" in given:
        print(json.dumps(told.to_json(), indent=2))
    else:
        print(told.text())
    return 0 if told.cause else 1


def read_log(path: str) -> VerifierLog:
    """The log in a file, read as a stream.  Raises UsageError."""
    from tracebee.explain.log import read_stream

    try:
        with open(
            0 if path == "-" else path, encoding="utf-8", errors="replace", closefd=path != "-"
        ) as file:
            return read_stream(file)
    except OSError as error:
        raise UsageError(f"failed to open file '{path}': {error.strerror}") from None


def facts_of(given: dict[str, str], log: VerifierLog) -> Facts:
    """What the options say besides the log.  Raises UsageError, FormatError."""
    from tracebee.explain.facts import Facts, Source

    source = None
    if "--source" in given:
        path = given["--source"]
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                source = Source.of(os.path.basename(path), file.read())
        except OSError as error:
            raise UsageError(f"failed to open file '{path}': {error.strerror}") from None
    section, license_ = "", ""
    lines: dict[int, SourceLine] = {}
    if "--object" in given:
        section, license_, lines = facts_of_object(given["--object"], given.get("--program", ""), log)
    return Facts(
        errno=errno_name(given.get("--errno", "")),
        release=given.get("--kernel", ""),
        section=given.get("--section", section),
        license=license_,
        privileges="none" if "--unprivileged" in given else "",
        source=source,
        lines=lines,
    )


def facts_of_object(path: str, program: str, log: VerifierLog) -> tuple[str, str, dict[int, SourceLine]]:
    """Section, licence and line table of a program in an object file.  Raises UsageError, FormatError."""
    from tracebee.explain.programs import fitting_program, section_of, source_lines
    from tracebee.object.reader import read_object

    try:
        with open(path, "rb") as file:
            spec = read_object(file.read(), path)
    except OSError as error:
        raise UsageError(f"failed to open file '{path}': {error.strerror}") from None
    named = [one for one in spec.programs if one.name == program] if program else list(spec.programs)
    if not named:
        known = ", ".join(one.name for one in spec.programs[:20])
        raise UsageError(f"explain: {path} has no program {program!r}", f"programs: {known}")
    one = fitting_program(named, spec.btf, log)
    return section_of(one), one.license, source_lines(one, spec.btf)


def errno_name(text: str) -> str:
    """``EACCES`` for 13, -13 and EACCES.  Raises UsageError."""
    if not text:
        return ""
    name = text.upper()
    if name in errno_names.errorcode.values():
        return name
    number = text.lstrip("-")
    if not number.isdigit():
        raise UsageError(f"explain: --errno {text}: a number or a name such as EACCES is expected")
    return errno_names.errorcode.get(int(number), number)


def answer_corpus(folder: str) -> int:
    """Answer every case of a corpus of refusals, each in a line of JSON."""
    from tracebee.explain.corpus import answer_file

    paths = sorted(glob.glob(os.path.join(folder, "cases", "*.json")))
    if not paths:
        raise UsageError(f"explain: there are no cases in {folder}", "DIRECTORY/cases/*.json is expected")
    for path in paths:
        sys.stdout.write(answer_file(path) + "\n")
    return 0
