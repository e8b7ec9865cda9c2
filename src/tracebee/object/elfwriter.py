"""Makes ELF objects for eBPF: what `tracebee.object.elf` reads."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from tracebee.object.elf import EM_BPF, ET_REL, SHT_NOBITS, SHT_REL, SHT_SYMTAB, STB_LOCAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tracebee.insn.codec import ByteOrder

SHT_STRTAB = 3
SHF_INFO_LINK = 0x40


class NewSection(NamedTuple):
    """A section; `size` is that in memory, which one of type NOBITS has without any data."""

    name: str
    type: int
    flags: int
    data: bytes
    size: int
    alignment: int = 1
    link: int = 0
    info: int = 0
    entry_size: int = 0


class NewSymbol(NamedTuple):
    """A symbol; `section` is the number of its section, from 1 on, or one of SHN_*."""

    name: str
    type: int
    binding: int
    visibility: int
    section: int
    value: int
    size: int


class NewRelocation(NamedTuple):
    """At `offset` of a section, of the symbol with that number."""

    offset: int
    type: int
    symbol: int


def write_elf(
    sections: Sequence[NewSection],
    symbols: Sequence[NewSymbol],
    relocations: dict[int, list[NewRelocation]],
    byteorder: ByteOrder,
) -> bytes:
    """An object: its sections are numbered from 1 on, its symbols, of which the local ones come first, from 1.

    `relocations` are by the number of the section that they are about.
    """
    mark = "<" if byteorder == "little" else ">"
    names = _Strings()
    rows = list(sections)
    table = bytearray(24)
    for one in symbols:
        info = one.binding << 4 | one.type
        table += struct.pack(
            mark + "IBBHQQ", names.add(one.name), info, one.visibility, one.section, one.value, one.size
        )
    first_global = 1 + sum(one.binding == STB_LOCAL for one in symbols)
    symbol_table = len(rows) + 1 + sum(1 for found in relocations.values() if found)
    string_table = symbol_table + 1
    for number, found in sorted(relocations.items()):
        if found:
            data = b"".join(
                struct.pack(mark + "QQ", one.offset, one.symbol << 32 | one.type)
                for one in sorted(found, key=lambda one: one.offset)
            )
            name = f".rel{sections[number - 1].name}"
            rows.append(
                NewSection(name, SHT_REL, SHF_INFO_LINK, data, len(data), 8, symbol_table, number, 16)
            )
    rows.append(
        NewSection(".symtab", SHT_SYMTAB, 0, bytes(table), len(table), 8, string_table, first_global, 24)
    )
    offsets = [names.add(row.name) for row in rows]
    offsets.append(names.add(".strtab"))
    texts = bytes(names.data)
    rows.append(NewSection(".strtab", SHT_STRTAB, 0, texts, len(texts)))
    body = bytearray(64)
    headers = bytearray(64)
    for text, row in zip(offsets, rows, strict=True):
        body += bytes(-len(body) % max(row.alignment, 1))
        headers += struct.pack(
            mark + "IIQQQQIIQQ",
            *(text, row.type, row.flags, 0, len(body), row.size, row.link, row.info),
            *(max(row.alignment, 1), row.entry_size),
        )
        if row.type != SHT_NOBITS:
            body += row.data
    body += bytes(-len(body) % 8)
    start = len(body)
    ident = b"\x7fELF" + bytes((2, 1 if byteorder == "little" else 2, 1)) + bytes(9)
    body[:64] = ident + struct.pack(
        mark + "HHIQQQIHHHHHH", ET_REL, EM_BPF, 1, 0, 0, start, 0, 64, 0, 0, 64, len(rows) + 1, len(rows)
    )
    return bytes(body + headers)


class _Strings:
    """A table of strings, each once."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0")
        self._known: dict[str, int] = {"": 0}

    def add(self, text: str) -> int:
        at = self._known.get(text)
        if at is None:
            at = self._known[text] = len(self.data)
            self.data += text.encode("utf-8", "surrogateescape") + b"\0"
        return at
