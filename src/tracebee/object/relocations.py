"""The relocations of an object, each with what it refers to in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracebee.insn.codec import SLOT_BYTES, Insn, KernelSymbol, Kfunc, MapFd, MapValue
from tracebee.object.disassembly import Variables
from tracebee.object.elf import (
    R_BPF_64_32,
    R_BPF_64_64,
    R_BPF_64_ABS32,
    R_BPF_64_ABS64,
    R_BPF_64_NODYLD32,
    R_BPF_NONE,
    SHN_UNDEF,
    STT_FUNC,
)

if TYPE_CHECKING:
    from tracebee.object.describe import Look
    from tracebee.object.elf import Relocation, Section

TYPES = {
    R_BPF_NONE: "R_BPF_NONE",
    R_BPF_64_64: "R_BPF_64_64",
    R_BPF_64_ABS64: "R_BPF_64_ABS64",
    R_BPF_64_ABS32: "R_BPF_64_ABS32",
    R_BPF_64_NODYLD32: "R_BPF_64_NODYLD32",
    R_BPF_64_32: "R_BPF_64_32",
}


class RelocationRow(NamedTuple):
    """A relocation: the byte `offset` of a section, in `function` if it is one of code, and what is there."""

    section: str
    offset: int
    function: str
    type: str
    symbol: str
    words: str


def relocation_rows(look: Look) -> list[RelocationRow]:
    """All relocations but those of debug information."""
    rows = []
    variables = Variables(look)
    for number, relocations in sorted(look.elf.relocations.items()):
        section = look.elf.sections[number]
        for one in relocations:
            function = look.function_at(section.name, one.offset // SLOT_BYTES) if section.is_code else ""
            symbol = one.symbol.name or f"symbol {one.symbol.number}"
            words = (
                _in_code(look, variables, section, one) if section.is_code else _in_data(look, section, one)
            )
            type_name = TYPES.get(one.type, f"type {one.type}")
            rows.append(RelocationRow(section.name, one.offset, function, type_name, symbol, words))
    return rows


def _in_code(look: Look, variables: Variables, section: Section, one: Relocation) -> str:
    code = look.linker.code.get(section.number)
    slot = one.offset // SLOT_BYTES
    index = code.at[slot] if code is not None and slot < len(code.at) else -1
    if code is None or index < 0:
        return "nothing: it is inside of an instruction"
    goal = code.calls.get(slot)
    if goal is not None:
        called = look.linker.functions.get(goal)
        name = called.name if called is not None else f"slot {goal[1]}"
        return f"function {name} in {look.elf.sections[goal[0]].name}"
    return _by_reference(variables, code.insns[index])


def _by_reference(variables: Variables, insn: Insn) -> str:
    ref = insn.ref
    if isinstance(ref, MapFd):
        return f"map {ref.name}"
    if isinstance(ref, MapValue):
        place = f"byte {ref.offset} of {ref.name}"
        name = variables.at(ref)
        return f"variable {name} at {place}" if name else place
    if isinstance(ref, Kfunc):
        return f"function {ref.name} of the kernel"
    if isinstance(ref, KernelSymbol):
        return f"variable {ref.name} of the kernel"
    return "nothing that can be used"


def _in_data(look: Look, section: Section, one: Relocation) -> str:
    """What a pointer in data points to: an inner map, a program, a place that a jump table knows."""
    symbol = one.symbol
    if symbol.section == SHN_UNDEF:
        return f"{symbol.name}, which is not in this object"
    if not symbol.section < len(look.elf.sections):
        return "nothing that can be used"
    target = look.elf.sections[symbol.section]
    if symbol.section in look.linker.map_sections:
        found = look.linker.map_at(symbol.section, symbol.value)
        return f"map {found.spec.name}" if found is not None else f"byte {symbol.value} of {target.name}"
    if target.is_code:
        function = look.function_at(target.name, symbol.value // SLOT_BYTES)
        if symbol.type == STT_FUNC:
            return f"program {symbol.name}"
        return f"slot {symbol.value // SLOT_BYTES} of {function or target.name}"
    return f"byte {symbol.value} of {target.name}"
