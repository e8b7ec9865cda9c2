"""Why this kernel refused a program: the log, explained with the facts of this machine."""

from __future__ import annotations

import errno as errno_names
import os
from collections import Counter
from typing import TYPE_CHECKING

from tracebee.explain.chooser import explain_text
from tracebee.explain.facts import Facts, Source, squeeze
from tracebee.explain.programs import section_of, source_lines
from tracebee.spec.objects import ProgramSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tracebee.errors import VerifierError
    from tracebee.explain.explanation import Explanation, SourceLine

LARGEST_SOURCE = 1 << 20
"""Characters of a source file that are read."""

LOCKDOWN = "/sys/kernel/security/lockdown"


def explain_refusal(error: VerifierError) -> Explanation:
    """The explanation of a refusal on this machine."""
    return explain_text(error.log, facts_here(error))


def facts_here(error: VerifierError) -> Facts:
    """What is known besides the log: the error's own facts, the program, this machine and process."""
    spec = error.spec if isinstance(error.spec, ProgramSpec) else None
    machine = os.uname()
    lines = source_lines(spec, error.btf) if spec is not None and error.btf else {}
    return Facts(
        errno=_name(error.errno),
        quiet_errno=_name(error.quiet_errno),
        release=machine.release,
        arch=machine.machine,
        section=section_of(spec) if spec is not None else "",
        license=spec.license if spec is not None else "",
        privileges=_privileges(),
        instructions=sum(insn.slots for insn in spec.insns) if spec is not None else 0,
        files=_files(),
        lines=lines,
        source=source_of(lines),
    )


def source_of(lines: Mapping[int, SourceLine]) -> Source | None:
    """The file that most lines of a program are from, if it is here and still says what they say."""
    numbered = [line for line in lines.values() if line.line and line.file]
    if not numbered:
        return None
    file = Counter(line.file for line in numbered).most_common(1)[0][0]
    try:
        if not os.path.isfile(file):
            return None
        with open(file, encoding="utf-8", errors="replace") as stream:
            source = Source.of(os.path.basename(file), stream.read(LARGEST_SOURCE))
    except OSError:
        return None
    same = all(
        squeeze(line.text) == squeeze(source.whole(line.line)) for line in numbered if line.file == file
    )
    return source if same else None


def _name(number: int) -> str:
    return errno_names.errorcode.get(number, str(number)) if number else ""


def _privileges() -> str:
    """``root``, ``none``, or the names of the capabilities that count."""
    from tracebee.host.rights import read_rights

    rights = read_rights()
    if rights.has("CAP_SYS_ADMIN"):
        return "root"
    held = [name for name in ("CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN") if rights.has(name)]
    return ", ".join(held) or "none"


def _files() -> dict[str, str]:
    try:
        with open(LOCKDOWN, encoding="utf-8", errors="replace") as file:
            return {LOCKDOWN: file.read(200)}
    except OSError:
        return {}
