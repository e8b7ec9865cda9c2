"""The container: sections, symbols and relocations of an ELF object for eBPF.

Only what clang makes with ``-target bpf`` is read: relocatable files of 64 bits, of either byte order.  The
bytes are not trusted.  Every offset and size is checked against the file, and sections may not share bytes, so
that work and memory are bounded by the size of the file.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from tracebee.errors import FormatError

if TYPE_CHECKING:
    from tracebee.insn.codec import ByteOrder

EM_BPF = 247
ET_REL = 1

SHT_PROGBITS, SHT_SYMTAB, SHT_RELA, SHT_NOBITS, SHT_REL = 1, 2, 4, 8, 9
SHF_ALLOC, SHF_EXECINSTR = 2, 4

SHN_UNDEF, SHN_COMMON = 0, 0xFFF2
STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_SECTION = 0, 1, 2, 3
STT_FILE = 4
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STV_INTERNAL, STV_HIDDEN = 1, 2

R_BPF_NONE, R_BPF_64_64, R_BPF_64_ABS64, R_BPF_64_ABS32, R_BPF_64_NODYLD32, R_BPF_64_32 = 0, 1, 2, 3, 4, 10

MAX_NAME = 512

_IDENT = 16
_HEADER_BYTES, _SECTION_BYTES, _SYMBOL_BYTES = 64, 64, 24
_MACHINES = {3: "i386", 8: "MIPS", 20: "PowerPC", 21: "PowerPC", 22: "s390", 40: "ARM", 62: "x86-64"}
_MACHINES |= {183: "AArch64", 243: "RISC-V", EM_BPF: "eBPF", 258: "LoongArch"}
_FILES = {ET_REL: "an object file", 2: "a program", 3: "a shared library or a program", 4: "a core dump"}

_COMPILE = "compile the source with clang -O2 -g -target bpf -c"
_OTHER_FILES = (
    (b"!<arch>\n", "an archive", "take its members out with ar x"),
    (b"!<thin>\n", "a thin archive, which only names files", "give one of its members, which ar t lists"),
    (
        b"BC\xc0\xde",
        "bitcode of LLVM",
        "llc -march=bpf -filetype=obj makes an object of it; or do without -flto",
    ),
    (b"\xde\xc0\x17\x0b", "bitcode of LLVM", "llc -march=bpf -filetype=obj makes an object of it"),
    (b"\x1f\x8b", "compressed by gzip", "unpack it with gunzip"),
    (b"\xfd7zXZ", "compressed by xz", "unpack it with unxz"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it with unzstd"),
    (b"PK\3\4", "a zip archive", "unpack it with unzip"),
    (b"MZ", "a program for Windows", _COMPILE),
    (b"\xcf\xfa\xed\xfe", "a Mach-O file", "give clang -target bpf, or it compiles for this Mac"),
    (b"\x9f\xeb", "BTF and nothing else", "tracebee btf dump file shows it"),
    (b"\xeb\x9f", "BTF and nothing else", "tracebee btf dump file shows it"),
    (b"\0asm", "WebAssembly", _COMPILE),
)
"""What is given in place of an object: how it begins, what it is, and what can be done."""


class Section(NamedTuple):
    """A section; `data` is empty where it takes no bytes of the file, and `size` what it takes in memory.

    `alignment` is in bytes.
    """

    number: int
    name: str
    type: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    data: bytes
    alignment: int = 1

    @property
    def is_code(self) -> bool:
        return self.type == SHT_PROGBITS and bool(self.flags & SHF_EXECINSTR) and self.size > 0


class Symbol(NamedTuple):
    """A symbol; `section` is an index or one of SHN_*, `value` a byte offset in that section.

    `visibility` is one of STV_*.
    """

    number: int
    name: str
    type: int
    binding: int
    section: int
    value: int
    size: int
    visibility: int = 0


class Relocation(NamedTuple):
    """The bytes at `offset` of a section depend on where a symbol is."""

    offset: int
    type: int
    symbol: Symbol
    addend: int


class Elf:
    """A parsed object.  `relocations` are by the index of the section that they are about."""

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        """Raises FormatError."""
        # No views of it: CPython before 3.11.9 crashes on collecting a cycle with one, and an error that
        # somebody keeps is soon part of a cycle.
        self.data = bytes(data)
        ident = self.data[:_IDENT]
        if ident[:4] != b"\x7fELF":
            raise _no_elf(self.data)
        if ident[4:5] == b"\1" and len(ident) == _IDENT:
            raise _not_for_bpf(self.data, "<" if ident[5] == 1 else ">")
        if len(self.data) < _HEADER_BYTES:
            raise FormatError("ELF: the file is too short for a header", 0)
        if ident[4] != 2:
            raise FormatError(f"ELF: unknown class {ident[4]}", 4)
        if ident[5] not in (1, 2):
            raise FormatError(f"ELF: unknown byte order {ident[5]}", 5)
        self.byteorder: ByteOrder = "little" if ident[5] == 1 else "big"
        self._mark = "<" if ident[5] == 1 else ">"
        header = struct.unpack_from(self._mark + "HHIQQQIHHHHHH", self.data, _IDENT)
        kind, machine, _, _, _, start, _, _, _, _, stride, count, names = header
        # Before LLVM 3.9 there was no number for eBPF.
        if machine not in (EM_BPF, 0) or kind != ET_REL:
            raise _not_for_bpf(self.data, self._mark)
        if count and stride != _SECTION_BYTES:
            raise FormatError(f"ELF: impossible size {stride} of a section header", 58)
        self.sections = self._read_sections(start, count, names)
        self.by_name = {section.name: section for section in reversed(self.sections)}
        self.symbols = self._read_symbols()
        self._inside: dict[int, list[Symbol]] = {}
        for symbol in self.symbols:
            self._inside.setdefault(symbol.section, []).append(symbol)
        self.relocations = self._read_relocations()

    def symbols_in(self, section: int) -> list[Symbol]:
        """The symbols of a section, by its number."""
        return self._inside.get(section, [])

    def _part(self, start: int, size: int, what: str) -> bytes:
        if start + size > len(self.data):
            raise FormatError(f"ELF: {what} reaches beyond the end of the file", start)
        return self.data[start : start + size]

    def _read_sections(self, start: int, count: int, names: int) -> list[Section]:
        table = self._part(start, count * _SECTION_BYTES, "the table of sections")
        rows = list(struct.iter_unpack(self._mark + "IIQQQQIIQQ", table))
        bodies = []
        total = 0
        for index, (_, kind, _, _, offset, size, *_) in enumerate(rows):
            holds = kind not in (0, SHT_NOBITS)
            total += size if holds else 0
            if total > len(self.data):
                raise FormatError(
                    "ELF: sections reach beyond the end of the file, or into each other", offset
                )
            bodies.append(self._part(offset, size, f"section {index}") if holds else self.data[:0])
        texts = bodies[names] if names < len(bodies) else b""
        sections = []
        for index, (name, kind, flags, _, offset, size, link, info, alignment, _) in enumerate(rows):
            text = _text(texts, name, f"the name of section {index}")
            sections.append(
                Section(index, text, kind, flags, offset, size, link, info, bodies[index], alignment)
            )
        return sections

    def _read_symbols(self) -> list[Symbol]:
        tables = [section for section in self.sections if section.type == SHT_SYMTAB]
        if len(tables) != 1:
            if not tables:
                return []
            raise FormatError("ELF: there is more than one table of symbols", tables[1].offset)
        table = tables[0]
        if table.size % _SYMBOL_BYTES:
            raise FormatError(f"ELF: impossible size {table.size} of the table of symbols", table.offset)
        if table.link >= len(self.sections):
            raise FormatError(f"ELF: the symbols' names are in section {table.link}, which is not there")
        texts = self.sections[table.link].data
        symbols = []
        rows = struct.iter_unpack(self._mark + "IBBHQQ", table.data)
        for index, (name, info, other, section, value, size) in enumerate(rows):
            text = _text(texts, name, f"the name of symbol {index}")
            if 0 < section < len(self.sections):
                if info & 15 == STT_SECTION:
                    text = self.sections[section].name
                if value > self.sections[section].size or size > self.sections[section].size - value:
                    raise FormatError(f"ELF: symbol {shown(text)} lies outside of its section", table.offset)
            elif section < 0xFF00 and section != SHN_UNDEF:
                raise FormatError(f"ELF: symbol {shown(text)} is in section {section}, which is not there")
            symbols.append(Symbol(index, text, info & 15, info >> 4, section, value, size, other & 3))
        return symbols

    def _read_relocations(self) -> dict[int, list[Relocation]]:
        found: dict[int, list[Relocation]] = {}
        for section in self.sections:
            if section.type not in (SHT_REL, SHT_RELA):
                continue
            code = "QQ" if section.type == SHT_REL else "QQq"
            shape = struct.Struct(self._mark + code)
            if section.size % shape.size:
                raise FormatError(
                    f"ELF: impossible size of the relocations {shown(section.name)}", section.offset
                )
            if not section.info < len(self.sections):
                raise FormatError(f"ELF: {shown(section.name)} is about a section that is not there")
            target = self.sections[section.info]
            if target.name.startswith((".BTF", ".debug", ".eh_frame", ".llvm")):
                continue  # what they ask for is already in place, or of no use here
            rows = found.setdefault(section.info, [])
            for offset, info, *rest in shape.iter_unpack(section.data):
                if info >> 32 >= len(self.symbols):
                    raise FormatError(
                        f"ELF: a relocation of {shown(target.name)} names no symbol", section.offset
                    )
                if offset >= target.size:
                    raise FormatError(
                        f"ELF: a relocation lies outside of {shown(target.name)}", section.offset
                    )
                symbol = self.symbols[info >> 32]
                rows.append(Relocation(offset, info & 0xFFFF_FFFF, symbol, rest[0] if rest else 0))
        for rows in found.values():
            rows.sort(key=lambda row: row.offset)
        return found


def _no_elf(data: bytes) -> FormatError:
    """The refusal of a file that is no ELF file, which says what it is instead."""
    what, hint = "no ELF file", ""
    for start, name, advice in _OTHER_FILES:
        if data.startswith(start):
            what, hint = f"{name}, and no ELF file", advice
            break
    else:
        if not data:
            what, hint = "an empty file, and no ELF file", _COMPILE
        elif all(byte >= 32 or byte in b"\t\n\r\f" for byte in data[:256]):
            what, hint = "text, and no ELF file", _COMPILE
    error = FormatError(f"ELF: this is {what}", 0)
    error.hint = hint
    return error


def _not_for_bpf(data: bytes, mark: str) -> FormatError:
    """The refusal of an ELF file that is no object for eBPF, which says what it is instead."""
    if len(data) < _IDENT + 4:
        return FormatError("ELF: the file is too short for a header", 0)
    kind, machine = struct.unpack_from(mark + "HH", data, _IDENT)
    file = _FILES.get(kind, f"a file of type {kind}")
    name = _MACHINES.get(machine, f"machine {machine}")
    if machine in (EM_BPF, 0):
        what = (
            "an object for eBPF has 64 bits"
            if data[4] != 2
            else f"this is {file}, and no object file (ET_REL)"
        )
        error = FormatError(f"ELF: {what}", 4 if data[4] != 2 else 16)
    else:
        error = FormatError(f"ELF: this is {file} for {name}, and not for eBPF", 18)
    error.hint = _COMPILE
    return error


def _text(texts: bytes, offset: int, what: str) -> str:
    if offset == 0:
        return ""
    end = texts.find(0, offset, offset + MAX_NAME + 1)
    if offset >= len(texts) or end < 0:
        raise FormatError(f"ELF: {what} is not in the table of names, or has no end")
    return texts[offset:end].decode("utf-8", "backslashreplace")


def shown(name: str) -> str:
    """A name in quotation marks, with everything visible that does not belong there."""
    return repr(name) if name.isascii() else ascii(name)
