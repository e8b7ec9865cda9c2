"""``tracebee check FILE.o``: what can be said of an object without loading it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracebee.cli.object.target import kernel_of
from tracebee.cli.selection import print_lines, terminal_width
from tracebee.errors import EngineFault, FormatError, NotSupportedError, UsageError
from tracebee.render.tables import Column, block, table
from tracebee.session.objects.btffile import read_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.cli.staticcheck import Complaint
    from tracebee.insn.codec import Insn
    from tracebee.object.describe import Look, ProgramRow

HERE = "here"


class Verdict(NamedTuple):
    """What was found out about a program; `reason` is empty if nothing speaks against it."""

    program: str
    section: str
    reason: str
    hint: str


def check_objects(words: Sequence[str], kernels: Sequence[str], as_json: bool) -> int:
    """Check objects by their files, the words, of which ``--btf FILE`` may be two; 1 if one cannot be loaded.

    Raises TracebeeError.
    """
    from tracebee.object.describe import Look

    files, btf = _split(words)
    others = [kernel for kernel in kernels if kernel != HERE]
    if others:
        raise NotSupportedError(
            f"checking objects on Linux {others[0]}",
            "",
            f"load it there: tracebee vm run --kernel {others[0]} -- tracebee load {files[0]}",
        )
    kernel = kernel_of(btf)
    status = 0
    rows = []
    lines: list[str] = []
    for file in files:
        look = Look(read_file(file), file, kernel)
        verdicts = judge(look)
        found = look.describe()
        complaints = [] if btf else complain(look, file)
        if found.problems or complaints or any(one.reason for one in verdicts):
            status = 1
        if as_json:
            rows.append(
                {
                    "object": file,
                    "kernel": kernel.name,
                    "programs": [one._asdict() for one in verdicts],
                    "problems": [{"problem": what, "hint": hint} for what, hint in found.problems],
                    "notes": [{"note": what, "hint": hint} for what, hint in found.notes],
                    "complaints": [one.to_json() for one in complaints],
                }
            )
            continue
        width = terminal_width()
        cells = [(one.program, one.section, one.reason or "nothing speaks against it") for one in verdicts]
        columns = (Column("PROGRAM", free=True), Column("SECTION", free=True), Column("VERDICT", free=True))
        lines += [f"{file}, for {kernel.name or 'no kernel'}:"]
        lines += [f"  {line}" for line in table(columns, cells, None if width is None else width - 2)]
        for what, hint in (*found.problems, *found.notes):
            lines += block([("-", what + (f"\n{hint}" if hint else ""))], "  ", width)
        lines += [one.text() for one in complaints]
    if as_json:
        import json

        for row in rows:
            print(json.dumps(row))
    else:
        print_lines(lines)
    return status


def complain(look: Look, name: str) -> list[Complaint]:
    """What would load well, and fail at the attach on this kernel."""
    from tracebee.cli.staticcheck import of_object
    from tracebee.session.checking import CheckedMachine

    kernel = look.kernel
    try:
        spec = look.file.spec(kernel.btf, kconfig=kernel.kconfig, version=kernel.version)
    except (FormatError, NotSupportedError):
        return []  # that has been told
    machine = CheckedMachine()
    try:
        return list(of_object(name, spec, machine))
    finally:
        machine.close()


def _split(words: Sequence[str]) -> tuple[list[str], str]:
    """The files, and what --btf says."""
    files: list[str] = []
    btf = ""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--btf":
            if not rest:
                raise UsageError("--btf: which file?", "a file with BTF, or none")
            btf = rest.pop(0)
        else:
            files.append(word)
    return files, btf


def judge(look: Look) -> list[Verdict]:
    """Each program that is loaded: its section, its instructions, and what it needs of the kernel."""
    from tracebee.object.disassembly import core_note

    found = look.describe()
    verdicts = []
    for entry, row in zip(look.file.entries, found.programs, strict=True):
        reason, hint = row.problem, row.hint
        linked = look.linked(entry.function)
        if not reason and linked is None:
            reason = "it cannot be put together"
        if not reason and linked is not None:
            reason = fault(linked.insns)
        if not reason:
            reason = _missing(row, {one.name for one in found.externs if one.found is False and not one.weak})
        if not reason and look.kernel.btf is not None:
            names = {row.name, *row.calls}
            absent = [one for one in found.core if one.function in names and one.reached]
            if absent:
                reason = core_note(absent[0])
                reason += f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
        verdicts.append(Verdict(row.name, row.section, reason, hint))
    return verdicts


def _missing(row: ProgramRow, absent: set[str]) -> str:
    gone = [name for name in row.kfuncs if name in absent]
    return f"the kernel has no function {gone[0]}" if gone else ""


def fault(insns: Sequence[Insn]) -> str:
    """What is wrong with instructions whatever runs them, in words; empty if nothing is."""
    from tracebee.btf.core import POISON
    from tracebee.engine.check import check
    from tracebee.insn import opcodes as op
    from tracebee.insn.codec import CALL, LDDW, KernelSymbol, Kfunc
    from tracebee.insn.helpers import helper_name

    plain = []
    for insn in insns:
        if insn.code == CALL and (isinstance(insn.ref, Kfunc) or (insn.imm == POISON and not insn.src)):
            # The kernel's own functions, and what is refused only if it is reached.
            insn = insn._replace(src=0, off=0, imm=1, ref=None)
        elif insn.code == LDDW and (isinstance(insn.ref, KernelSymbol) or insn.src == op.BPF_PSEUDO_BTF_ID):
            insn = insn._replace(src=0, ref=None)
        elif insn.code == CALL and not insn.src and helper_name(insn.imm) is not None:
            insn = insn._replace(imm=1)
        plain.append(insn)
    try:
        check(plain, {1})
    except EngineFault as error:
        return str(error)
    return ""
