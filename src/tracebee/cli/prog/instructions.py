"""Instructions behind the verifier, as text, JSON and graph."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tracebee.cli.prog.dump import SourceLines, source_fields, with_note
from tracebee.insn.codec import CALL, SLOT_BYTES, Insn, decode
from tracebee.insn.xlated import describe, function_starts
from tracebee.kernel.xlated import why_hidden

if TYPE_CHECKING:
    from collections.abc import Collection

    from tracebee.insn.xlated import Line
    from tracebee.kernel.xlated import CodeNames, ProgramCode

SECRET = Insn(CALL)
"""What stands in the place of a call whose target the kernel hides."""


def as_text(code: ProgramCode, names: CodeNames, flags: Collection[str]) -> list[str]:
    """The lines of a program; `flags` are "linum", "opcodes" and "visual".  Raises FormatError."""
    lines = _lines(code, names)
    if names.symbols.hidden and any(line.insn == SECRET for line in lines):
        sys.stdout.flush()
        print(f"note: the kernel hides which functions are called: {why_hidden()}", file=sys.stderr)
    if "visual" in flags:
        from tracebee.insn.graph import graph

        return graph(_functions(lines, names))
    data = code.xlated or b""
    sources = SourceLines("linum" in flags)
    out: list[str] = []
    for line in lines:
        if line.head:
            sources.start_function()
            out.append(f"{line.head}:")
        out += sources.show(line.source)
        out.append(with_note(f"{line.slot:4d}: {line.text}", line.note))
        if "opcodes" in flags:
            out.append(f"       {_bytes_of(line, data).hex(' ')}")
    return out


def as_json(code: ProgramCode, names: CodeNames, flags: Collection[str]) -> list[dict[str, Any]]:
    """An object for each instruction, with bpftool's fields, and `slot` and `note`.  Raises FormatError."""
    data = code.xlated or b""
    rows = []
    for line in _lines(code, names):
        row: dict[str, Any] = {"proto": line.head} if line.head else {}
        row |= source_fields(line.source)
        row |= {"disasm": line.text, "slot": line.slot}
        if line.note:
            row["note"] = line.note
        if "opcodes" in flags:
            row["opcodes"] = _opcodes(line, _bytes_of(line, data))
        rows.append(row)
    return rows


def _lines(code: ProgramCode, names: CodeNames) -> list[Line]:
    insns = decode(code.xlated or b"")
    heads = names.prototypes()
    starts = function_starts(insns)
    if len(starts) > 1:
        symbols = names.subprograms()
        for slot, number in starts.items():
            name = symbols[number] if number < len(symbols) else f"function {number}"
            heads.setdefault(slot, name)
    return describe(insns, names.names(), heads, names.sources())


def _functions(lines: list[Line], names: CodeNames) -> list[tuple[str, list[Line]]]:
    """The functions of a program, each with its title."""
    found: list[tuple[str, list[Line]]] = []
    for line in lines:
        if line.head or not found:
            found.append((line.head, []))
        found[-1][1].append(line)
    return found


def _bytes_of(line: Line, data: bytes) -> bytes:
    start = SLOT_BYTES * line.slot
    return data[start : start + SLOT_BYTES * line.insn.slots]


def _opcodes(line: Line, raw: bytes) -> dict[str, Any]:
    """The bytes of an instruction field by field."""
    return {
        "code": f"{raw[0]:#04x}",
        "src_reg": f"{line.insn.src:#x}",
        "dst_reg": f"{line.insn.dst:#x}",
        "off": [f"{byte:#04x}" for byte in raw[2:4]],
        "imm": [f"{byte:#04x}" for byte in raw[4:]],
    }
