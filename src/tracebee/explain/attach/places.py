"""Pins in bpffs, and files that are read on the way to a probe."""

from __future__ import annotations

import os.path
import re
from typing import TYPE_CHECKING

from tracebee.explain.attach.finding import GUESS, LIKELY, PROVEN, Finding, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.explain.attach.attempt import Attempt

USUAL = "/sys/fs/bpf"


def _pin(attempt: Attempt) -> Iterator[Finding]:
    if attempt.kind != "pin" or attempt.is_silent:
        return
    if attempt.failed is not None and not re.search(r"PIN|OBJ_|mkdir|pin", attempt.failed.what):
        return
    path = attempt.target
    machine = attempt.machine
    points = machine.mount_points("bpf")
    inside = None if points is None else any(_is_below(path, point) for point in points)
    usual = _is_below(path, USUAL)
    name = os.path.basename(path.rstrip("/"))
    errno = attempt.errno
    evidence = (f"the answer is {errno}",) if errno else ()
    if errno == "EEXIST":
        yield _finding(
            PROVEN,
            f"something is pinned at {path} already: a pin in the bpf file system never replaces another",
            "remove it first (rm), or choose another name",
            evidence,
        )
    elif inside is False and usual:
        yield _finding(
            PROVEN,
            f"no bpf file system (bpffs) is mounted at {USUAL}, so nothing can be pinned at {path}",
            f"mount -t bpf bpf {USUAL}",
            (*evidence, "/proc/self/mounts has no bpf file system there"),
        )
    elif inside is False or (inside is None and not usual and errno in ("EPERM", "EINVAL", "")):
        yield _finding(
            PROVEN if inside is False else LIKELY,
            f"objects can be pinned only in a bpf file system (bpffs), and {os.path.dirname(path) or path} is not in "
            "one",
            f"pin it under {USUAL} (mount -t bpf bpf {USUAL} where it is not mounted)",
            evidence,
        )
    elif "." in name and errno in ("EPERM", "EINVAL", ""):
        yield _finding(
            PROVEN,
            f"the name {name} has a dot: names in the bpf file system (bpffs, {USUAL}) may not contain "
            "one, the kernel "
            "keeps such for itself",
            f"choose a name without a dot, such as {name.replace('.', '_')}",
            evidence,
        )
    elif errno == "ENOENT":
        yield _finding(
            LIKELY,
            f"the directory of {path} does not exist: a pin makes no directories"
            + ("" if inside else f", or no bpf file system (bpffs) is mounted at {USUAL}"),
            f"mkdir {os.path.dirname(path)} first" + ("" if inside else f"; mount -t bpf bpf {USUAL}"),
            evidence,
        )
    elif errno in ("EACCES", "EPERM"):
        yield _finding(
            GUESS,
            f"this process may not write to {os.path.dirname(path)}: the directory's permissions (bpffs "
            "is root's with "
            "mode 0700 or 01777)",
            "run as root, or mount the bpf file system with the rights you need (mount -o uid=,gid=,mode=)",
            evidence,
        )
    elif errno:
        yield _finding(
            GUESS,
            f"{path} is no place for a pin: a name of a regular entry in a bpf file system (bpffs) is needed",
            f"pin it under {USUAL} with a plain name of at most 255 characters",
            evidence,
        )


def _finding(weight: int, sentence: str, advice: str, evidence: tuple[str, ...]) -> Finding:
    return Finding("pin", weight, sentence, advice, evidence, reference="Documentation/bpf/maps.rst, pinning")


def _is_below(path: str, mount: str) -> bool:
    return path == mount or path.startswith(mount.rstrip("/") + "/")


def _read(attempt: Attempt) -> Iterator[Finding]:
    """A file that could be opened, and shows zeros for addresses."""
    if attempt.kind != "file" or not re.search(r"kallsyms|/proc/modules|blacklist", attempt.target):
        return
    level = attempt.machine.sysctl("kernel.kptr_restrict")
    symbols = attempt.machine.symbols
    hidden = bool(symbols) and all(not symbol.address for symbol in symbols or ())
    if (attempt.is_silent or not attempt.was_tried) and (hidden or level == 2):
        yield Finding(
            "kptr-restrict",
            PROVEN if hidden else LIKELY,
            "kernel addresses are hidden: the file shows zeros, because "
            + (
                f"kernel.kptr_restrict is {level}"
                if level
                else "of kernel.kptr_restrict or a missing CAP_SYSLOG"
            ),
            "set kernel.kptr_restrict to 1 and read as root, or to 0; probes by name need no address",
            ("all addresses in kallsyms are 0",) if hidden else (f"kernel.kptr_restrict is {level}",),
        )


RULES = (Rule("the place of a pin", _pin), Rule("files with addresses", _read))
