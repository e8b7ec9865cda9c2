"""Machine code of programs, disassembled by the library capstone where it is installed."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from tracebee.cli.prog.dump import SourceLines, source_fields, with_note

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tracebee.insn.xlated import Source
    from tracebee.kernel.xlated import CodeNames, ProgramCode

HINT = "pip install 'tracebee[disasm]' (the library capstone) shows instructions instead of bytes"

MACHINES = {
    "x86_64": ("CS_ARCH_X86", ("CS_MODE_64",)),
    "i686": ("CS_ARCH_X86", ("CS_MODE_32",)),
    "aarch64": ("CS_ARCH_ARM64", ("CS_MODE_ARM",)),
    "armv7l": ("CS_ARCH_ARM", ("CS_MODE_ARM",)),
    "riscv64": ("CS_ARCH_RISCV", ("CS_MODE_RISCV64", "CS_MODE_RISCVC")),
    "s390x": ("CS_ARCH_SYSZ", ("CS_MODE_BIG_ENDIAN",)),
    "ppc64le": ("CS_ARCH_PPC", ("CS_MODE_64", "CS_MODE_LITTLE_ENDIAN")),
    "ppc64": ("CS_ARCH_PPC", ("CS_MODE_64", "CS_MODE_BIG_ENDIAN")),
    "mips64": ("CS_ARCH_MIPS", ("CS_MODE_MIPS64", "CS_MODE_BIG_ENDIAN")),
    "sparc64": ("CS_ARCH_SPARC", ("CS_MODE_V9", "CS_MODE_BIG_ENDIAN")),
    "loongarch64": ("CS_ARCH_LOONGARCH", ("CS_MODE_LOONGARCH64",)),
}
"""What capstone calls the machines, by the kernel's name (uname -m)."""

_ROW = 16
_LARGE = re.compile(r"(?<=[$#])[0-9]{10,20}\b")
_ADDRESS = re.compile(r"\b0x[0-9a-f]{16}\b")


class Function(NamedTuple):
    """The code of one function of a program: its prototype in C, its symbol, where it is (0: kept secret)."""

    head: str
    name: str
    address: int
    code: bytes


class Instruction(NamedTuple):
    """A machine instruction: how many bytes behind the function's start, its words, and what an address in it is."""

    offset: int
    code: bytes
    operation: str
    operands: str
    note: str


def as_text(code: ProgramCode, names: CodeNames, flags: Collection[str]) -> list[str]:
    """The lines of a program; `flags` are "linum", "opcodes" and "intel"."""
    disassembler = make_disassembler(os.uname().machine, "intel" in flags)
    if disassembler is None:
        sys.stdout.flush()
        print(f"HINT: {HINT}", file=sys.stderr)
    sources = SourceLines("linum" in flags)
    out: list[str] = []
    for function in functions(code, names):
        sources.start_function()
        if function.head:
            out.append(f"{function.head}:")
        place = f" at {function.address:#x}" if function.address else ""
        out.append(f"{function.name}{place}, {len(function.code)} bytes:")
        if disassembler is None:
            out += _hex_rows(function.code)
            continue
        lines = _source_lines(code, names, function)
        for insn in disassemble(disassembler, function, names):
            out += sources.show(_source_of(lines, insn))
            text = f"{insn.operation:<7} {insn.operands}".rstrip()
            out.append(with_note(f"{insn.offset:4x}: {text}", insn.note))
            if "opcodes" in flags:
                out.append(f"      {insn.code.hex(' ')}")
    return out


def as_json(code: ProgramCode, names: CodeNames, flags: Collection[str]) -> list[dict[str, Any]]:
    """An object for each function, with bpftool's fields, `address` and `len`.

    Without capstone it has no instructions but its `bytes`, in hexadecimal.
    """
    disassembler = make_disassembler(os.uname().machine, "intel" in flags)
    rows = []
    for function in functions(code, names):
        row: dict[str, Any] = {"proto": function.head} if function.head else {}
        row |= {"name": function.name, "address": function.address, "len": len(function.code)}
        if disassembler is None:
            row["bytes"] = function.code.hex()
        else:
            lines = _source_lines(code, names, function)
            row["insns"] = [
                {
                    **source_fields(_source_of(lines, insn)),
                    "pc": f"{insn.offset:#x}",
                    "operation": insn.operation,
                    "operands": _split_operands(insn.operands),
                    **({"note": insn.note} if insn.note else {}),
                    **({"opcodes": [f"{byte:#04x}" for byte in insn.code]} if "opcodes" in flags else {}),
                }
                for insn in disassemble(disassembler, function, names)
            ]
        rows.append(row)
    return rows


def functions(code: ProgramCode, names: CodeNames) -> list[Function]:
    """The functions in the machine code of a program."""
    data = code.jited or b""
    heads = list(names.prototypes().values())
    found = []
    at = 0
    for number, length in enumerate(code.func_lens or (len(data),)):
        address = code.ksyms[number] if number < len(code.ksyms) else 0
        name = (names.symbol(address) if address else "") or f"function {number}"
        head = heads[number] if number < len(heads) else ""
        found.append(Function(head, name, address, data[at : at + length]))
        at += length
    return found


def make_disassembler(machine: str, intel: bool = False) -> Any:
    """A capstone.Cs for a machine, or None if there is none."""
    try:
        import capstone
    except ImportError:
        return None
    known = MACHINES.get(machine)
    if known is None:
        return None
    arch, modes = known
    try:
        mode = 0
        for name in modes:
            mode |= getattr(capstone, name)
        made = capstone.Cs(getattr(capstone, arch), mode)
    except (AttributeError, capstone.CsError):
        return None  # this capstone does not know it
    if arch == "CS_ARCH_X86" and not intel:
        made.syntax = capstone.CS_OPT_SYNTAX_ATT
    made.skipdata = True  # what is no instruction is shown as bytes, and does not end the listing
    return made


def disassemble(disassembler: Any, function: Function, names: CodeNames) -> Iterator[Instruction]:
    """The instructions of a function."""
    for address, size, operation, operands in disassembler.disasm_lite(function.code, function.address):
        offset = address - function.address
        operands = _LARGE.sub(lambda match: f"{int(match[0]):#x}", operands)
        yield Instruction(
            offset,
            function.code[offset : offset + size],
            operation,
            operands,
            _note(operands, function, names) if function.address else "",
        )


def _note(operands: str, function: Function, names: CodeNames) -> str:
    """What is at an address among the operands: a symbol of the kernel, or a place in the function."""
    for match in _ADDRESS.finditer(operands):
        address = int(match[0], 16)
        name = names.symbol(address)
        if name:
            return name
        offset = address - function.address
        if 0 <= offset < len(function.code):
            return f"to {offset:x}"
    return ""


def _source_lines(code: ProgramCode, names: CodeNames, function: Function) -> dict[int, Source]:
    """The lines of source of a function, by the bytes behind its start."""
    if names.btf is None:
        return {}
    found = {}
    for address, record in zip(code.jited_lines, code.line_info, strict=False):
        offset = address - function.address
        if 0 <= offset < len(function.code):
            found[offset] = names.source(record)
    return found


def _source_of(lines: dict[int, Source], insn: Instruction) -> Source | None:
    for offset in range(insn.offset, insn.offset + len(insn.code)):
        if offset in lines:
            return lines[offset]
    return None


def _split_operands(operands: str) -> list[str]:
    """Operands, at the commas that are not within brackets."""
    found: list[str] = [""]
    depth = 0
    for char in operands:
        depth += (char in "([{") - (char in ")]}")
        if char == "," and not depth:
            found.append("")
        else:
            found[-1] += char
    return [one.strip() for one in found if one.strip()]


def _hex_rows(data: bytes) -> list[str]:
    return [f"{at:4x}: {data[at : at + _ROW].hex(' ')}" for at in range(0, len(data), _ROW)]
