"""Many objects linked to one, as ``ld -r`` and ``bpftool gen object`` do.

Sections of the same name are put one behind the other.  What a file only declares is taken from the file that
defines it: functions, variables and maps.  A strong definition takes the place of weak ones, of which the first
counts; two strong ones are refused.  What is static stays with its file.  The licence has to be the same in all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tracebee.btf.ext import BtfExt, CoreRelo, FuncInfo, LineInfo, parse_ext
from tracebee.btf.extwriter import encode_ext
from tracebee.btf.merge import Merged, alike
from tracebee.btf.reader import Btf
from tracebee.btf.types import VAR_STATIC, Datasec, Func, Var
from tracebee.errors import FormatError
from tracebee.object.elf import (
    R_BPF_64_32,
    R_BPF_64_64,
    R_BPF_64_ABS64,
    R_BPF_NONE,
    SHF_ALLOC,
    SHN_UNDEF,
    SHT_NOBITS,
    SHT_PROGBITS,
    STB_GLOBAL,
    STB_LOCAL,
    STB_WEAK,
    STT_FILE,
    STT_SECTION,
    Elf,
    shown,
)
from tracebee.object.elfwriter import NewRelocation, NewSection, NewSymbol, write_elf
from tracebee.object.reader import read_object

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tracebee.btf.core import Targets
    from tracebee.object.elf import Relocation, Section, Symbol
    from tracebee.spec.objects import ObjectSpec

ONCE = ("license", "version")
"""Sections of which one is enough."""

MAX_BYTES = 1 << 28


class _File(NamedTuple):
    name: str
    elf: Elf
    btf: Btf | None
    ext: BtfExt | None


class _Global(NamedTuple):
    """What a name means: the symbol of the file with this number."""

    file: int
    symbol: Symbol


class _Out:
    """A section in the making."""

    def __init__(self, number: int, section: Section, file: str) -> None:
        self.number = number
        self.name = section.name
        self.type = section.type
        self.flags = section.flags
        self.alignment = 1
        self.data = bytearray()
        self.size = 0
        self.file = file

    def append(self, section: Section) -> int:
        """Put a section behind those that are there; where it begins."""
        alignment = section.alignment if 0 < section.alignment <= 4096 else 1
        self.alignment = max(self.alignment, alignment)
        start = self.size + -self.size % alignment
        self.size = start + section.size
        if self.size > MAX_BYTES:
            raise FormatError(f"section {shown(self.name)} has more than {MAX_BYTES} bytes")
        if self.type != SHT_NOBITS:
            self.data += bytes(start - len(self.data)) + section.data
        return start


def link_objects(objects: Sequence[tuple[str, bytes]]) -> bytes:
    """The bytes of one object out of many, each a name and its bytes.  Raises FormatError."""
    return _Link([_read(name, data) for name, data in objects]).write()


def read_objects(
    objects: Sequence[tuple[str, bytes]],
    target: Btf | Targets | None = None,
    *,
    kconfig: Mapping[str, str] | None = None,
    version: int = 0,
) -> ObjectSpec:
    """The programs and maps of many objects, linked to one; the rest as for `read_object`."""
    data = objects[0][1] if len(objects) == 1 else link_objects(objects)
    return read_object(data, objects[0][0] if objects else "", target, kconfig=kconfig, version=version)


def _read(name: str, data: bytes) -> _File:
    try:
        elf = Elf(data)
        section = elf.by_name.get(".BTF")
        btf = Btf.from_bytes(section.data) if section is not None and section.size else None
        section = elf.by_name.get(".BTF.ext")
        ext = parse_ext(section.data, btf) if section is not None and section.size and btf else None
    except FormatError as error:
        error.add_note(f"in {name}")
        raise
    return _File(name, elf, btf, ext)


class _Link:
    def __init__(self, files: Sequence[_File]) -> None:
        if not files:
            raise FormatError("there is no object to be linked")
        self.files = files
        first = files[0]
        for file in files:
            if file.elf.byteorder != first.elf.byteorder:
                raise FormatError(
                    f"{first.name} is {first.elf.byteorder}-endian, and {file.name} is {file.elf.byteorder}-endian"
                )
        self.byteorder = first.elf.byteorder
        self.out: dict[str, _Out] = {}
        # Where the sections of the files are in the new ones, by file and number of the section.
        self.places: dict[tuple[int, int], tuple[_Out, int]] = {}
        for index, file in enumerate(files):
            for section in file.elf.sections:
                if section.flags & SHF_ALLOC and section.type in (SHT_PROGBITS, SHT_NOBITS):
                    self.place(index, section)
        self.globals = self.meanings()
        self.taken: set[tuple[str, int]] = set()  # what is in sections of the kernel's, by section and type
        self.symbols: list[NewSymbol] = []
        self.numbers: dict[tuple[int, int], int] = {}
        self.list_symbols()

    def place(self, index: int, section: Section) -> None:
        """Give a section of a file its place."""
        name = self.files[index].name
        out = self.out.get(section.name)
        if out is None:
            if section.size == 0 and section.name == ".text":
                return
            out = self.out[section.name] = _Out(len(self.out) + 1, section, name)
        elif (out.type, out.flags) != (section.type, section.flags):
            raise FormatError(
                f"section {shown(section.name)} is of another kind in {name} than in {out.file}"
            )
        elif section.name in ONCE:
            if bytes(out.data) != section.data:
                raise FormatError(
                    f"{section.name} is {out.data!r} in {out.file}, and {section.data!r} in {name}"
                )
            self.places[index, section.number] = out, 0
            return
        self.places[index, section.number] = out, out.append(section)

    # --- symbols

    def meanings(self) -> dict[str, _Global]:
        """What each name means that files share."""
        found: dict[str, _Global] = {}
        for index, file in enumerate(self.files):
            for symbol in file.elf.symbols[1:]:
                if symbol.binding not in (STB_GLOBAL, STB_WEAK) or not symbol.name:
                    continue
                known = found.get(symbol.name)
                if known is None or self.wins(symbol, index, known):
                    found[symbol.name] = _Global(index, symbol)
        return found

    def wins(self, symbol: Symbol, index: int, known: _Global) -> bool:
        """Whether a symbol takes the place of the one that has its name.  Raises FormatError."""
        new_is_there, old_is_there = symbol.section != SHN_UNDEF, known.symbol.section != SHN_UNDEF
        new_is_weak, old_is_weak = symbol.binding == STB_WEAK, known.symbol.binding == STB_WEAK
        if new_is_there != old_is_there:
            return new_is_there
        if new_is_there and not new_is_weak and not old_is_weak:
            sections = self.files[index].elf.sections
            if symbol.section < len(sections) and sections[symbol.section].name in ONCE:
                return False
            raise FormatError(
                f"{shown(symbol.name)} is defined in {self.files[known.file].name} and in {self.files[index].name}"
            )
        return old_is_weak and not new_is_weak

    def list_symbols(self) -> None:
        """The new symbols, local ones first, and their numbers by file and old number."""
        sections: dict[int, int] = {}
        for out in self.out.values():
            self.symbols.append(NewSymbol("", STT_SECTION, STB_LOCAL, 0, out.number, 0, 0))
            sections[out.number] = len(self.symbols)
        for index, file in enumerate(self.files):
            for symbol in file.elf.symbols[1:]:
                place = self.places.get((index, symbol.section))
                if symbol.binding != STB_LOCAL or symbol.type == STT_FILE or place is None:
                    continue
                if symbol.type == STT_SECTION:
                    self.numbers[index, symbol.number] = sections[place[0].number]
                else:
                    self.add(index, symbol)
        for one in self.globals.values():
            self.add(one.file, one.symbol)
        for index, file in enumerate(self.files):
            for symbol in file.elf.symbols[1:]:
                meant = self.globals.get(symbol.name) if symbol.binding != STB_LOCAL else None
                if meant is not None:
                    number = self.numbers.get((meant.file, meant.symbol.number))
                    if number is not None:
                        self.numbers[index, symbol.number] = number

    def add(self, index: int, symbol: Symbol) -> None:
        section, value = symbol.section, symbol.value
        if 0 < section < len(self.files[index].elf.sections):
            place = self.places.get((index, section))
            if place is None:
                return  # in a section that is left out
            section, value = place[0].number, place[1] + value
        self.symbols.append(
            NewSymbol(
                *(symbol.name, symbol.type, symbol.binding, symbol.visibility, section, value, symbol.size)
            )
        )
        self.numbers[index, symbol.number] = len(self.symbols)

    # --- relocations

    def relocations(self) -> dict[int, list[NewRelocation]]:
        """The relocations by new section; those of sections' own symbols have their data adapted."""
        found: dict[int, list[NewRelocation]] = {}
        for index, file in enumerate(self.files):
            for number, rows in file.elf.relocations.items():
                place = self.places.get((index, number))
                if place is None or place[0].name in ONCE:
                    continue
                out, start = place
                for row in rows:
                    symbol = self.numbers.get((index, row.symbol.number))
                    if row.type == R_BPF_NONE:
                        continue
                    if symbol is None:
                        raise FormatError(
                            f"{file.name}: a relocation of {shown(out.name)} is about {shown(row.symbol.name)}, "
                            "which is left out"
                        )
                    self.adapt(index, file, out, start + row.offset, row)
                    found.setdefault(out.number, []).append(
                        NewRelocation(start + row.offset, row.type, symbol)
                    )
        return found

    def adapt(self, index: int, file: _File, out: _Out, offset: int, row: Relocation) -> None:
        """Have an address that counts from the start of a section count from the new one's."""
        shift = row.addend
        if row.symbol.type == STT_SECTION:
            shift += self.places[index, row.symbol.section][1]
        if not shift:
            return
        if row.type == R_BPF_64_64:
            at, size = offset + 4, 4
        elif row.type == R_BPF_64_32:
            at, size, shift = offset + 4, 4, shift // 8
        else:
            at, size = offset, 8 if row.type == R_BPF_64_ABS64 else 4
        if at + size > len(out.data):
            raise FormatError(f"{file.name}: a relocation lies outside of {shown(out.name)}")
        before = int.from_bytes(out.data[at : at + size], self.byteorder)
        new = (before + shift) & (1 << 8 * size) - 1
        out.data[at : at + size] = new.to_bytes(size, self.byteorder)

    # --- types

    def types(self) -> tuple[bytes, bytes]:
        """.BTF and .BTF.ext; empty without types."""
        with_types = [index for index, file in enumerate(self.files) if file.btf is not None]
        if not with_types:
            return b"", b""
        tables = [btf for file in self.files if (btf := file.btf) is not None]
        merged = Merged(tables, self.same(with_types, tables))
        sections: dict[str, list[tuple[int, int, int]]] = {}
        for position, index in enumerate(with_types):
            self.lay_variables(index, tables[position], merged.ids[position], sections)
        for name, variables in sections.items():
            size = self.out[name].size if name in self.out else 0
            merged.add_section(name, size, variables)
        ext = encode_ext(self.records(with_types, merged), merged.builder, self.byteorder)
        return merged.to_bytes(self.byteorder), ext

    def same(
        self, with_types: Sequence[int], tables: Sequence[Btf]
    ) -> dict[tuple[int, int], tuple[int, int]]:
        """Which functions and variables of a file are those of another, by position and type."""
        found: dict[str, list[tuple[int, int]]] = {}
        for position, btf in enumerate(tables):
            for type_id, name in btf.names_of_kind((Func, Var)):
                one = btf.type(type_id)
                if name in self.globals and getattr(one, "linkage", VAR_STATIC) != VAR_STATIC:
                    found.setdefault(name, []).append((position, type_id))
        same: dict[tuple[int, int], tuple[int, int]] = {}
        for name, places in found.items():
            home = self.globals[name].file
            meant = next((place for place in places if with_types[place[0]] == home), places[0])
            for place in places:
                if place != meant:
                    self.compare(name, with_types, tables, place, meant)
                    same[place] = meant
        return same

    def compare(
        self,
        name: str,
        with_types: Sequence[int],
        tables: Sequence[Btf],
        one: tuple[int, int],
        other: tuple[int, int],
    ) -> None:
        """Refuse a declaration that has another type than what it declares."""
        if one[0] == other[0]:
            return
        if not alike(tables[one[0]], one[1], tables[other[0]], other[1]):
            names = [self.files[with_types[position]].name for position, _ in (one, other)]
            raise FormatError(f"{shown(name)} has another type in {names[0]} than in {names[1]}")

    def lay_variables(
        self, index: int, btf: Btf, ids: Sequence[int], sections: dict[str, list[tuple[int, int, int]]]
    ) -> None:
        """Add the variables of a file to the sections that they are in."""
        file = self.files[index]
        for type_id in btf.ids_of_kind(Datasec):
            section = btf.type(type_id)
            assert isinstance(section, Datasec)
            rows = sections.setdefault(section.name, [])
            own = file.elf.by_name.get(section.name)
            place = self.places.get((index, own.number)) if own is not None else None
            only = _only_symbols(file.elf, own) if own is not None else {}
            for one in section.variables:
                found = btf.type(one.type_id)
                meant = self.globals.get(found.name)
                is_static = isinstance(found, Var) and found.linkage == VAR_STATIC
                if is_static and own is not None and place is not None:
                    # The compiler has written it, and a symbol says so if it is the only one.
                    offset = only.get(found.name, one.offset)
                    rows.append((ids[one.type_id], place[1] + offset, one.size))
                elif meant is not None and meant.symbol.section == SHN_UNDEF:
                    if (section.name, ids[one.type_id]) not in self.taken:
                        self.taken.add((section.name, ids[one.type_id]))
                        rows.append((ids[one.type_id], 0, one.size))
                elif meant is not None and meant.file == index and place is not None:
                    rows.append((ids[one.type_id], place[1] + meant.symbol.value, one.size))

    def records(self, with_types: Sequence[int], merged: Merged) -> BtfExt:
        """The records of all files, by new sections and with new types and strings."""
        made = BtfExt({}, {}, {})
        for position, index in enumerate(with_types):
            file = self.files[index]
            if file.ext is None or file.btf is None:
                continue
            ids = merged.ids[position]
            texts: dict[int, int] = {}

            def moved(offset: int, btf: Btf = file.btf, texts: dict[int, int] = texts) -> int:
                if offset not in texts:
                    texts[offset] = merged.builder.add_string(btf.string(offset))
                return texts[offset]

            def kind(type_id: int, ids: Sequence[int] = ids) -> int:
                if type_id >= len(ids):
                    raise FormatError(f".BTF.ext: there is no type {type_id}")
                return ids[type_id]

            for name in dict.fromkeys((*file.ext.func_info, *file.ext.line_info, *file.ext.core_relos)):
                own = file.elf.by_name.get(name)
                place = self.places.get((index, own.number)) if own is not None else None
                if place is None:
                    continue
                shift = place[1] // 8
                made.func_info.setdefault(name, []).extend(
                    FuncInfo(one.insn_offset + shift, kind(one.type_id))
                    for one in file.ext.func_info.get(name, ())
                )
                made.line_info.setdefault(name, []).extend(
                    LineInfo(one.insn_offset + shift, moved(one.file), moved(one.text), one.line, one.column)
                    for one in file.ext.line_info.get(name, ())
                )
                made.core_relos.setdefault(name, []).extend(
                    CoreRelo(one.insn_offset + shift, kind(one.type_id), one.access, one.kind)
                    for one in file.ext.core_relos.get(name, ())
                )
        return made

    def write(self) -> bytes:
        relocations = self.relocations()
        btf, ext = self.types()
        sections = [
            NewSection(out.name, out.type, out.flags, bytes(out.data), out.size, out.alignment)
            for out in self.out.values()
        ]
        for name, data in ((".BTF", btf), (".BTF.ext", ext)):
            if data:
                sections.append(NewSection(name, SHT_PROGBITS, 0, data, len(data), 4))
        return write_elf(sections, self.symbols, relocations, self.byteorder)


def _only_symbols(elf: Elf, section: Section) -> dict[str, int]:
    """The places of what is called so alone in its section."""
    found: dict[str, list[int]] = {}
    for symbol in elf.symbols_in(section.number):
        found.setdefault(symbol.name, []).append(symbol.value)
    return {name: places[0] for name, places in found.items() if len(places) == 1}
