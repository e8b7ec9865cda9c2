"""What is known besides the log: the errno, the kernel, the program, the machine's files, the source."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.explain.explanation import SourceLine
from tracebee.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.explain.log import Insn

CALL = 0x85

_NO_FILES: dict[str, str] = {}
_NO_LINES: dict[int, SourceLine] = {}


class Source(Frozen):
    """A source file: its name as messages have it, and its lines without their ends."""

    file: str
    lines: tuple[str, ...]

    @classmethod
    def of(cls, file: str, text: str) -> Source:
        return cls(file, tuple(text.splitlines()))

    def at(self, number: int) -> SourceLine | None:
        """Line `number`, from 1."""
        if not 0 < number <= len(self.lines):
            return None
        return SourceLine(self.file, number, self.lines[number - 1].strip())

    def whole(self, number: int) -> str:
        """Line `number` with its indent; empty where the source is too short, so another one."""
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""

    def find(self, text: str, near: int = 0) -> SourceLine | None:
        """The line with this text.  Of several, the next one from line `near` on, or else the last before it."""
        wanted = squeeze(text)
        if not wanted:
            return None
        found = [number for number, line in enumerate(self.lines, 1) if squeeze(line) == wanted]
        if not found and len(wanted) > 3:
            found = [number for number, line in enumerate(self.lines, 1) if wanted in squeeze(line)]
        if not found:
            return None
        later = [number for number in found if number >= near]
        return self.at(later[0] if later else found[-1])

    def search(self, pattern: str, start: int = 1) -> SourceLine | None:
        """The first line from `start` on in which the pattern is found."""
        compiled = re.compile(pattern)
        for number in range(max(start, 1), len(self.lines) + 1):
            if compiled.search(self.lines[number - 1]):
                return self.at(number)
        return None


class Facts(Frozen):
    """All that may be known; what is empty is not known.

    `errno` is a name such as EACCES, `quiet_errno` that of the same load without a log.  `release`, `arch` are the
    kernel's.  `privileges` is ``root``, ``none`` or the names of capabilities.  `cpu` is the -mcpu of the compiler,
    `loader` what the loader printed, `files` contents of files of that machine by path.  `lines` is the program's
    own line table.
    """

    errno: str = ""
    quiet_errno: str = ""
    release: str = ""
    arch: str = ""
    section: str = ""
    license: str = ""
    privileges: str = ""
    instructions: int = 0
    cpu: str = ""
    log_size: int = 0
    loader: str = ""
    files: dict[str, str] = _NO_FILES
    source: Source | None = None
    lines: dict[int, SourceLine] = _NO_LINES
    map_types: dict[str, str] = _NO_FILES

    def is_root(self) -> bool:
        return self.privileges.startswith("root")

    def is_unprivileged(self) -> bool:
        """No capability at all."""
        return self.privileges.startswith("none")

    def lacks_perfmon(self) -> bool:
        """Some capabilities, but CAP_PERFMON is not among them; False where nothing is known."""
        if not self.privileges or self.is_root():
            return False
        return "PERFMON" not in self.privileges and "SYS_ADMIN" not in self.privileges

    def lockdown(self) -> str:
        """``none``, ``integrity``, ``confidentiality``, or empty."""
        for path, content in self.files.items():
            if path.endswith("lockdown"):
                found = re.search(r"\[(\w{1,20})\]", content)
                return found[1] if found else ""
        return ""


def squeeze(text: str) -> str:
    """The text with blanks made alike."""
    return " ".join(text.split())


def resolve_lines(insns: Sequence[Insn], source: Source) -> dict[int, SourceLine]:
    """Give quoted lines their numbers: by `id()` of each quoted value, the line of the source.

    Kernels before 6.9 quote the text alone.  Text that is there once is certain; for the others the nearest line
    in the order of the log is taken.  A line that made its call and is quoted again is the next one like it.
    """
    resolved: dict[int, SourceLine] = {}
    near = 0
    before: SourceLine | None = None
    called = ""
    for insn in insns:
        line = insn.source
        if line is None:
            continue
        if line is not before:
            known = resolved.get(id(line))
            if known is None:
                again = before is not None and called and line.text == before.text and called in line.text
                known = (
                    source.at(line.line) if line.line else source.find(line.text, near + 1 if again else near)
                )
                if known is not None:
                    if line.file:
                        known = SourceLine(line.file, known.line, known.text)
                    resolved[id(line)] = known
            if known is not None:
                near = known.line
            before, called = line, ""
        if insn.opcode == CALL:
            called = insn.text[5:].partition("#")[0]
    return resolved
