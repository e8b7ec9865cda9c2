"""Structures of functions that the kernel calls (struct_ops): what an object has of them.

Each variable of the sections .struct_ops and .struct_ops.link is one.  Its type is named as the kernel's, with a
flavor perhaps; members that point to functions are filled by relocations.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from tracebee.btf.core import essential
from tracebee.btf.format import declaration
from tracebee.btf.types import Composite, Datasec, Var
from tracebee.btf.values import value_codec
from tracebee.errors import FormatError, UsageError
from tracebee.object.elf import SHN_UNDEF, STT_FUNC, STT_NOTYPE, shown
from tracebee.object.purposes import STRUCT_OPS

if TYPE_CHECKING:
    from tracebee.btf.reader import Btf
    from tracebee.object.elf import Elf, Relocation, Section, Symbol
    from tracebee.object.problems import Problems

    Functions = dict[tuple[int, int], str]

LARGEST = 1 << 16


class StructOps(NamedTuple):
    """A structure of functions: `type` is the kernel's name for it.

    `members` are name, declaration and value: the name of a program, or what C would write; those that are zero
    are left out.  `by_link` says that it is attached by a link, and `loads` is false after a "?".
    """

    name: str
    section: str
    type: str
    by_link: bool
    loads: bool
    members: list[tuple[str, str, str]]


MAX_MEMBERS = 20_000


def read_struct_ops(elf: Elf, btf: Btf | None, problems: Problems) -> list[StructOps]:
    """All of an object.  What makes no sense goes to `problems`, as a FormatError."""
    found: list[StructOps] = []
    functions = {
        (symbol.section, symbol.value): symbol.name
        for symbol in elf.symbols
        if symbol.type in (STT_NOTYPE, STT_FUNC) and symbol.name
    }
    members = 0
    for section in elf.sections:
        if section.name not in STRUCT_OPS or not section.size:
            continue
        type_id = btf.find(section.name, Datasec) if btf is not None else None
        if btf is None or type_id is None:
            error = FormatError(f"the section {shown(section.name)} has no types")
            error.hint = "compile with -g"
            problems.take(error)
            continue
        symbols = {symbol.name: symbol for symbol in elf.symbols_in(section.number)}
        datasec = btf.type(type_id)
        assert isinstance(datasec, Datasec)
        for one in datasec.variables:
            try:
                var = btf.type(one.type_id)
                symbol = symbols.get(var.name)
                if not isinstance(var, Var) or symbol is None:
                    raise FormatError(f"structure {shown(var.name)} has no symbol in {shown(section.name)}")
                size = len(getattr(btf.type(btf.resolve(var.type_id)), "members", ()))
                members += size
                if members > MAX_MEMBERS:
                    raise FormatError(f"the structures in {shown(section.name)} have too many members")
                found.append(_read(elf, btf, section, var, symbol, functions))
            except FormatError as error:
                problems.take(error)
    return found


def _read(elf: Elf, btf: Btf, section: Section, var: Var, symbol: Symbol, functions: Functions) -> StructOps:
    composite = btf.type(btf.resolve(var.type_id))
    if not isinstance(composite, Composite) or not composite.name:
        raise FormatError(f"{shown(var.name)} in {shown(section.name)} is no structure with a name")
    if composite.size > LARGEST or symbol.value + composite.size > len(section.data):
        raise FormatError(f"structure {shown(var.name)} lies outside of {shown(section.name)}")
    rows = elf.relocations.get(section.number, [])
    members = []
    for member in composite.members:
        offset = symbol.value + member.bit_offset // 8
        text = _value(elf, btf, section.data, offset, member.type_id, member.bitfield_size, rows, functions)
        if text:
            declared = declaration(btf, member.type_id, member.name)
            members.append((member.name, " ".join(declared.split()), text))
    return StructOps(
        var.name,
        section.name,
        essential(composite.name),
        section.name.endswith(".link"),
        not section.name.startswith("?"),
        members,
    )


def _value(
    elf: Elf,
    btf: Btf,
    data: bytes,
    offset: int,
    type_id: int,
    bits: int,
    rows: list[Relocation],
    functions: Functions,
) -> str:
    """What a member is set to, empty for zeros."""
    at = bisect_left(rows, offset, key=lambda row: row.offset)
    if at < len(rows) and rows[at].offset == offset:
        symbol = rows[at].symbol
        if symbol.section == SHN_UNDEF:
            return f"{symbol.name}, which is not in this object"
        addend = int.from_bytes(data[offset : offset + 8], elf.byteorder)
        return functions.get((symbol.section, symbol.value + addend), symbol.name)
    size = btf.size_of(type_id)
    value = data[offset : offset + size]
    if len(value) < size or not any(value):
        return ""
    if bits:
        return f"hex {value.hex(' ')}"
    try:
        codec = value_codec(btf, type_id, size)
        return codec.text(codec.decode(value))
    except (FormatError, UsageError):
        return f"hex {value.hex(' ')}"
