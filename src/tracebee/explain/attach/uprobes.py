"""Probes in programs and libraries: the file, the symbol, the offset."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.explain.attach.attempt import ENOTSUPP, UPROBES, parse_number
from tracebee.explain.attach.finding import GUESS, LIKELY, PROVEN, TOLD, Finding, Rule
from tracebee.explain.attach.machine import PathFacts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.explain.attach.attempt import Attempt

DIRECTORIES = re.compile(
    r".*/|/?|\.{1,2}|/(?:usr/(?:local/)?)?(?:s?bin|lib(?:32|64|x32|exec)?|share|include)|/usr/local|/usr|/etc|/tmp|/var"
    r"|/var/\w+|/opt|/home(?:/\w+)?|/root|/mnt|/srv|/run|/boot|/lib/modules|/usr/lib/[a-z0-9_]+-linux-gnu"
)
"""Paths that are directories on every system (hier(7))."""

SPECIAL = re.compile(r"/(?:dev|proc|sys)(?:/.*)?")
"""Paths whose files have no pages that a breakpoint could be written to."""

HUGE = 1 << 30
"""No program has code at file offsets as large as this."""

SYMBOL_WORDS = (
    r"(?:find|resolve|no|unknown|locate|determine|lookup|invalid|missing)[\w -]* symbols?\b|stripped"
    r"|symbols?\b[^\n]{0,80}(?:not found|does ?n[o']t exist|not exist|missing)|no such symbol"
)
"""How loaders say that a name is not in a symbol table."""

FILE_WORDS = r"(?:failed to|could ?n[o']t|cannot|can't|unable to) open"


def _examine(attempt: Attempt) -> Iterator[Finding]:
    if attempt.kind not in UPROBES or attempt.is_silent or attempt.failed_at_load:
        return
    path, place = (*attempt.targets, "", "")[:2]
    facts = attempt.machine.paths.get(path)
    offset = parse_number(place) if place else None
    errno = attempt.errno
    if errno in ("EPERM", "EACCES", "EMFILE") or (attempt.event is not None and attempt.error_log):
        return
    named = bool(place) and offset is None
    # Who calls perf_event_open(2) has found the symbol.
    resolving = attempt.failed is None or not re.search(r"perf_event|write\(|bpf\(", attempt.failed.what)
    absent = named and resolving and errno in ("ENOENT", "ESRCH", "EINVAL", "unknown") and _exists(facts)
    if attempt.says(SYMBOL_WORDS) or (absent and not attempt.says(FILE_WORDS)):
        yield _symbol(path, place, LIKELY if facts is None and not attempt.loader_text else PROVEN)
        return
    if errno in ("ENOENT", "ENOTDIR") or (facts is not None and facts.kind == "missing"):
        yield Finding(
            "uprobe-file",
            PROVEN if facts is not None and facts.kind == "missing" else LIKELY,
            f"the file {path} does not exist, as paths are seen from here (the mount namespace of this process)",
            "give the right path of the program or library; one of a container is /proc/PID/root/PATH",
            (f"{path} is not there",) if facts is not None else (f"the answer is {errno}",),
        )
        return
    refused = errno in ("EINVAL", "") and (bool(errno) or facts is not None)
    if errno in ("EISDIR", "EIO") or (refused and _is_no_file(path, facts)):
        yield Finding(
            "uprobe-file",
            PROVEN if facts is not None else LIKELY,
            f"{path} is not a regular file with code in it ({_what(path, facts)}), and uprobes go into "
            "such files only",
            "give the path of the program or library itself",
            (f"the answer is {errno}",) if errno else (),
        )
        return
    yield from _offset(attempt, path, offset, facts)


def _offset(attempt: Attempt, path: str, offset: int | None, facts: PathFacts | None) -> Iterator[Finding]:
    errno = attempt.errno
    advice = (
        "give the file offset of the function, not its address: symbol value minus the segment's virtual address "
        "plus the segment's offset in the file (readelf -lW shows both)"
    )
    beyond = offset is not None and ((facts is not None and 0 < facts.size <= offset) or offset >= HUGE)
    if beyond and errno in ("EINVAL", ""):
        size = f", which has {facts.size} bytes" if facts is not None and facts.size else ""
        yield Finding(
            "uprobe-offset",
            PROVEN if facts is not None else TOLD,
            f"the offset {offset:#x} is past the end of the file {path}{size}",
            advice,
            (f"the answer is {errno}",) if errno else (),
        )
        return
    shown = f"the offset {offset:#x}" if offset is not None else "the offset"
    if errno in (ENOTSUPP, "EOPNOTSUPP", "ENOEXEC", "EILSEQ"):
        yield Finding(
            "uprobe-offset",
            LIKELY,
            f"{shown} of {path} does not point at an instruction that can be probed: in the middle of one, in data, "
            "or an address was given where a file offset is needed",
            advice,
            (f"the answer is {errno}",),
        )
    elif errno in ("EINVAL", "ERANGE"):
        yield Finding(
            "uprobe-offset",
            LIKELY if offset is not None else GUESS,
            f"{shown} is no place for a probe in the file {path}: past its end, or outside of its code",
            advice,
            (f"the answer is {errno}",),
        )


def _symbol(path: str, place: str, weight: int) -> Finding:
    name = place if place and parse_number(place) is None else "the function"
    return Finding(
        "uprobe-symbol",
        weight,
        f"the symbol {name} cannot be found in {path or 'the file'}: the binary is stripped, the "
        "function is static or "
        "inlined, or the name is mangled (C++, Rust)",
        "look at its symbols (nm -D, readelf -sW); install the debug symbols, or give the function's offset in the "
        "file in place of the symbol",
        ("the symbol table was looked at",),
    )


def _exists(facts: PathFacts | None) -> bool:
    return facts is None or facts.kind == "file"


def _is_no_file(path: str, facts: PathFacts | None) -> bool:
    if facts is not None:
        return facts.kind in ("directory", "other")
    return bool(DIRECTORIES.fullmatch(path) or SPECIAL.fullmatch(path))


def _what(path: str, facts: PathFacts | None) -> str:
    if facts is not None and facts.kind == "directory":
        return "it is a directory"
    if facts is None and DIRECTORIES.fullmatch(path):
        return "it is a directory"
    return "a directory, a device, or on a file system without pages"


RULES = (Rule("the file of a uprobe", _examine),)
