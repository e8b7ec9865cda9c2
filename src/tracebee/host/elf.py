"""One ELF file: where its segments lie, its symbols, its notes, and which files belong to it.

pyelftools decodes the file header, the section headers and the program headers, whatever their class and byte
order; everything with many entries is decoded here in bulk.  The file is not trusted: each size is checked
against the file and against a limit before anything of that size is read, and bytes that make no sense end
in FormatError.
"""

from __future__ import annotations

import os
import stat
import struct
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

from tracebee.errors import FormatError
from tracebee.host.elfsymbols import RawTable, Symbol, SymbolTable
from tracebee.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_SECTIONS = 1 << 16
_MAX_SEGMENTS = 1 << 12
_MAX_SYMBOLS = 1 << 27  # bytes of a symbol table: five million symbols
_MAX_STRINGS = 1 << 29  # bytes of a string table
_MAX_NOTES = 1 << 24
_MAX_DYNAMIC = 1 << 20
_MAX_DEBUGDATA = 1 << 26
_MAX_UNPACKED = 1 << 27

_PF_X = 1
_NT_GNU_BUILD_ID = 3
_DT_NEEDED, _DT_STRTAB, _DT_STRSZ, _DT_SONAME, _DT_FLAGS_1 = 1, 5, 10, 14, 0x6FFFFFFB
_DT_RPATH, _DT_RUNPATH = 15, 29
_DF_1_PIE = 0x08000000


class Section(Frozen):
    """A section header; `type` is its SHT_* name, or a number in digits where pyelftools knows no name."""

    name: str
    type: str
    flags: int
    address: int
    offset: int
    size: int
    link: int
    entry_size: int
    alignment: int


class Segment(Frozen):
    """A program header; `type` is its PT_* name, or a number in digits."""

    type: str
    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int
    alignment: int


class Note(Frozen):
    """An entry of a note section; `description_offset` is the offset of the description in the section."""

    name: bytes
    type: int
    description: bytes
    description_offset: int = 0


class DebugLink(Frozen):
    """What .gnu_debuglink says: the base name of the debug file, and the CRC-32 of its whole content."""

    name: str
    crc: int


class ElfFile:
    """An open ELF file, and a context manager that closes it.

    `machine` is named as uname(2) does where it can be ("x86_64", "aarch64"), `type` is "ET_EXEC", "ET_DYN",
    "ET_REL" or "ET_CORE".
    """

    def __init__(self, stream: BinaryIO, name: str = "") -> None:
        """Takes `stream` over, also when FormatError is raised.  `name` is for messages."""
        self.name = name
        self._stream = stream
        try:
            self.size = stream.seek(0, os.SEEK_END)
            self._read_headers()
        except BaseException:
            stream.close()
            raise
        self._table: SymbolTable | None = None
        self._dynamic: list[tuple[int, int]] | None = None

    @classmethod
    def open(cls, path: str) -> ElfFile:
        """OSError if the file cannot be read, FormatError if it is no ELF file."""
        # There may be a FIFO or a terminal where a library was: neither wait for it nor be controlled by it.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        return cls.from_descriptor(fd, path)

    @classmethod
    def from_descriptor(cls, fd: int, name: str = "") -> ElfFile:
        """Takes `fd` over, also when FormatError is raised."""
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FormatError("ELF: not a regular file")
        return cls(open(fd, "rb"), name)

    @classmethod
    def parse(cls, data: bytes, name: str = "") -> ElfFile:
        return cls(BytesIO(data), name)

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> ElfFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ the container

    def _read_headers(self) -> None:
        from elftools.elf.elffile import ELFFile

        with _Border("file header"):
            elf: Any = ELFFile(self._stream)
            header: Any = elf.header
            self.is_64 = elf.elfclass == 64
            self.is_little = bool(elf.little_endian)
            self.type = str(header["e_type"])
            machine = str(header["e_machine"])
            self.machine = machine.removeprefix("EM_").lower()
            self.entry = int(header["e_entry"])
        self._order = "<" if self.is_little else ">"
        section_shape, sections_at = elf.structs.Elf_Shdr, int(header["e_shoff"])
        entry_size = int(header["e_shentsize"])
        # Numbers that do not fit their field stand in the first section header (gABI chapter 4).
        first = next(self._headers(section_shape, sections_at, entry_size, 1, 1), None)
        count = int(header["e_shnum"]) or (int(first["sh_size"]) if first else 0)
        names_index = int(header["e_shstrndx"]) if isinstance(header["e_shstrndx"], int) else 0
        if names_index == 0xFFFF and first:
            names_index = int(first["sh_link"])
        segments = int(header["e_phnum"])
        if segments == 0xFFFF and first:
            segments = int(first["sh_info"])
        self.segments = [
            Segment(
                str(raw["p_type"]),
                raw["p_flags"],
                raw["p_offset"],
                raw["p_vaddr"],
                raw["p_filesz"],
                raw["p_memsz"],
                raw["p_align"],
            )
            for raw in self._headers(
                elf.structs.Elf_Phdr, header["e_phoff"], header["e_phentsize"], segments, _MAX_SEGMENTS
            )
        ]
        raws = list(self._headers(section_shape, sections_at, entry_size, count, _MAX_SECTIONS))
        names = b""
        if 0 < names_index < len(raws):
            names = self.read_at(raws[names_index]["sh_offset"], raws[names_index]["sh_size"], _MAX_NOTES)
        self.sections = [
            Section(
                _string(names, raw["sh_name"]),
                str(raw["sh_type"]),
                raw["sh_flags"],
                raw["sh_addr"],
                raw["sh_offset"],
                raw["sh_size"],
                raw["sh_link"],
                raw["sh_entsize"],
                raw["sh_addralign"],
            )
            for raw in raws
        ]

    def _headers(self, shape: Any, offset: int, entry_size: int, count: int, limit: int) -> Iterator[Any]:
        """`count` headers of pyelftools' `shape`, as it decodes them."""
        from elftools.common.utils import struct_parse

        if not offset or not count:
            return
        size = shape.sizeof()
        if count > limit or entry_size < size or offset + (count - 1) * entry_size + size > self.size:
            raise FormatError("ELF: the headers do not fit the file", offset)
        for index in range(count):
            with _Border("header"):
                raw = struct_parse(shape, self._stream, offset + index * entry_size)
            yield raw

    def read_at(self, offset: int, size: int, limit: int = _MAX_STRINGS) -> bytes:
        """`size` bytes at a file offset, all of them or FormatError."""
        if size < 0 or offset < 0 or offset + size > self.size or size > limit:
            raise FormatError(f"ELF: {size} bytes do not fit the file", offset)
        self._stream.seek(offset)
        data = self._stream.read(size)
        if len(data) != size:
            raise FormatError("ELF: the file has become shorter", offset)
        return data

    def find_section(self, name: str) -> Section | None:
        for section in self.sections:
            if section.name == name:
                return section
        return None

    def section_data(self, section: Section, limit: int = _MAX_STRINGS) -> bytes:
        """The content of a section; empty where the file has none of it (.bss, a separate debug file)."""
        if section.type == "SHT_NOBITS":
            return b""
        return self.read_at(section.offset, section.size, limit)

    # ------------------------------------------------------------------ addresses

    @property
    def is_relocatable(self) -> bool:
        """Whether it is loaded at any address (ET_DYN), so that addresses need a bias at run time."""
        return self.type == "ET_DYN"

    @property
    def is_pie(self) -> bool:
        """Whether it is a program, and not a library, that is loaded at any address."""
        if self.type != "ET_DYN":
            return False
        if any(segment.type == "PT_INTERP" for segment in self.segments):
            return True
        return any(tag == _DT_FLAGS_1 and value & _DF_1_PIE for tag, value in self._dynamic_entries())

    def file_offset(self, address: int) -> int | None:
        """Where in the file the byte at virtual `address` is; None if it is not loaded from the file."""
        for segment in self.segments:
            if segment.type == "PT_LOAD" and 0 <= address - segment.address < segment.file_size:
                return address - segment.address + segment.offset
        return None

    def vaddr(self, file_offset: int) -> int | None:
        """The virtual address of the byte at `file_offset`; code first, if it is loaded more than once."""
        found = None
        for segment in self.segments:
            if segment.type == "PT_LOAD" and 0 <= file_offset - segment.offset < segment.file_size:
                address = file_offset - segment.offset + segment.address
                if segment.flags & _PF_X:
                    return address
                if found is None:
                    found = address
        return found

    # ------------------------------------------------------------------ symbols

    def packed_tables(self) -> list[RawTable]:
        """The symbol tables of the small debug file that distributions pack into stripped programs."""
        packed = self.find_section(".gnu_debugdata")
        if packed is None or packed.type == "SHT_NOBITS":
            return []
        data = _unpack(self.section_data(packed, _MAX_DEBUGDATA))
        with ElfFile.parse(data, f"{self.name} (.gnu_debugdata)") as inner:
            return inner.own_tables()

    @property
    def has_symtab(self) -> bool:
        """Whether it has the full table, which `strip` removes, or the packed one that stands in for it."""
        return any(
            (section.type == "SHT_SYMTAB" or section.name == ".gnu_debugdata") and section.size
            for section in self.sections
        )

    @property
    def code_limit(self) -> int:
        """The address after the last executable segment."""
        ends = [s.address + s.memory_size for s in self.segments if s.type == "PT_LOAD" and s.flags & _PF_X]
        return max(ends, default=1 << 64)

    @property
    def table(self) -> SymbolTable:
        """The functions of this file and of what is packed into it, decoded when first asked for."""
        if self._table is None:
            self._table = SymbolTable([*self.own_tables(), *self.packed_tables()], self.code_limit)
        return self._table

    def functions(self) -> list[Symbol]:
        """Every defined function by address; a name that a place has twice comes once."""
        return list(self.table)

    def find_function(self, name: str) -> Symbol | None:
        """The function called `name`, or ``name@version``; the default version, if none is asked for."""
        found = self.table.find(name)
        return found[0] if found else None

    def find_data(self, name: str) -> Symbol | None:
        """The variable called `name`, thread-local ones included (whose address is an offset, see `kind`)."""
        found = self.table.find_data(name)
        return found[0] if found else None

    def symbol_at(self, address: int) -> tuple[str, int] | None:
        """(name, offset) of the function that covers virtual `address`."""
        found = self.table.at(address)
        return (found[0].name, found[1]) if found else None

    def own_tables(self) -> list[RawTable]:
        """The dynamic and the full symbol table, as far as it has them."""
        tables = []
        # There is at most one of each kind (gABI chapter 4); more would only be there to keep us busy.
        kinds = ["SHT_DYNSYM", "SHT_SYMTAB"]
        for index, section in enumerate(self.sections):
            if section.type not in kinds or not section.size:
                continue
            kinds.remove(section.type)
            if not 0 < section.link < len(self.sections):
                raise FormatError("ELF: a symbol table without strings", section.offset)
            versym = b""
            versions: dict[int, str] = {}
            if section.type == "SHT_DYNSYM":
                versym, versions = self._versions(index)
            tables.append(
                RawTable(
                    self.section_data(section, _MAX_SYMBOLS),
                    self.section_data(self.sections[section.link]),
                    is_64=self.is_64,
                    is_little=self.is_little,
                    versym=versym,
                    versions=versions,
                    code_mask=-2 if self.machine == "arm" else -1,
                )
            )
        return tables

    def _versions(self, dynsym: int) -> tuple[bytes, dict[int, str]]:
        """Version indices of the dynamic symbols, and the names of the versions that this file defines."""
        versym = b""
        names: dict[int, str] = {}
        for section in self.sections:
            if section.type == "SHT_GNU_versym" and section.link == dynsym:
                versym = self.section_data(section, _MAX_SYMBOLS)
            elif section.type == "SHT_GNU_verdef" and 0 < section.link < len(self.sections):
                data = self.section_data(section, _MAX_NOTES)
                strings = self.section_data(self.sections[section.link])
                names = parse_verdef(data, strings, self.is_little)
        return versym, names

    # ------------------------------------------------------------------ notes and links

    def notes(self, section_name: str = "") -> Iterator[Note]:
        """The notes of one section, or of all; those of the segments in a file without note sections."""
        places = [
            (section.offset, section.size, section.alignment)
            for section in self.sections
            if section.type == "SHT_NOTE" and section_name in ("", section.name)
        ]
        if not places and not section_name:
            places = [(s.offset, s.file_size, s.alignment) for s in self.segments if s.type == "PT_NOTE"]
        for offset, size, alignment in places:
            yield from parse_notes(self.read_at(offset, size, _MAX_NOTES), self.is_little, alignment)

    @property
    def build_id(self) -> str:
        """The build id in hex, or "" if there is none."""
        for note in self.notes():
            if note.name == b"GNU" and note.type == _NT_GNU_BUILD_ID:
                return note.description.hex()
        return ""

    @property
    def debug_link(self) -> DebugLink | None:
        section = self.find_section(".gnu_debuglink")
        if section is None:
            return None
        data = self.section_data(section, 1 << 16)
        end = data.find(b"\0")
        crc_at = (end + 4) & ~3
        if end <= 0 or crc_at + 4 > len(data):
            raise FormatError("ELF: .gnu_debuglink is cut short", section.offset)
        (crc,) = struct.unpack_from(self._order + "I", data, crc_at)
        return DebugLink(os.fsdecode(data[:end]), crc)

    @property
    def soname(self) -> str:
        """The name that programs linked with this library ask for, or ""."""
        return next(iter(self._dynamic_strings(_DT_SONAME)), "")

    @property
    def needed(self) -> list[str]:
        """The libraries that it asks for."""
        return self._dynamic_strings(_DT_NEEDED)

    @property
    def library_path(self) -> list[str]:
        """Folders where its libraries are looked for first: DT_RUNPATH, or DT_RPATH where there is none."""
        found = self._dynamic_strings(_DT_RUNPATH) or self._dynamic_strings(_DT_RPATH)
        return [
            folder for text in found for folder in text.replace("${ORIGIN}", "$ORIGIN").split(":") if folder
        ]

    @property
    def interpreter(self) -> str:
        """The loader of a program that is linked dynamically, or ""."""
        for segment in self.segments:
            if segment.type == "PT_INTERP":
                return os.fsdecode(self.read_at(segment.offset, segment.file_size).split(b"\0")[0])
        return ""

    def _dynamic_entries(self) -> list[tuple[int, int]]:
        if self._dynamic is None:
            self._dynamic = []
            places = [(s.offset, s.file_size) for s in self.segments if s.type == "PT_DYNAMIC"]
            for offset, size in places[:1]:
                entry = struct.Struct(self._order + ("qQ" if self.is_64 else "iI"))
                data = self.read_at(offset, size - size % entry.size, _MAX_DYNAMIC)
                for tag, value in entry.iter_unpack(data):
                    if not tag:
                        break
                    self._dynamic.append((tag, value))
        return self._dynamic

    def _dynamic_strings(self, wanted: int) -> list[str]:
        entries = self._dynamic_entries()
        offsets = [value for tag, value in entries if tag == wanted]
        address = next((value for tag, value in entries if tag == _DT_STRTAB), None)
        size = next((value for tag, value in entries if tag == _DT_STRSZ), 0)
        if not offsets or address is None:
            return []
        offset = self.file_offset(address)
        if offset is None:
            raise FormatError("ELF: the dynamic string table is not in the file")
        strings = self.read_at(offset, size)
        return [_string(strings, at) for at in offsets[:4096]]


class _Border:
    """Turns whatever pyelftools raises on bad bytes, its own errors or Python's, into FormatError."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, (FormatError, OSError)):
            raise FormatError(f"ELF: bad {self._what}: {error or type(error).__name__}") from error


def parse_notes(data: bytes, is_little: bool = True, alignment: int = 4) -> Iterator[Note]:
    """The notes in a note section or segment, whose descriptions are padded to 4 bytes, or to 8 if it is."""
    order = "<" if is_little else ">"
    alignment = 8 if alignment == 8 else 4
    position = 0
    while position + 12 <= len(data):
        name_size, description_size, kind = struct.unpack_from(order + "III", data, position)
        name_at = position + 12
        description_at = (name_at + name_size + alignment - 1) & -alignment
        end = description_at + description_size
        if end > len(data):
            raise FormatError("ELF: a note is longer than its section", position)
        name = data[name_at : name_at + name_size].rstrip(b"\0")
        yield Note(name, kind, data[description_at:end], description_at)
        position = (end + alignment - 1) & -alignment


def parse_verdef(data: bytes, strings: bytes, is_little: bool = True) -> dict[int, str]:
    """The versions that a .gnu.version_d section defines: index → name (LSB, "Symbol Versioning")."""
    order = "<" if is_little else ">"
    names: dict[int, str] = {}
    position = 0
    # Every entry takes 20 bytes, which bounds the walk also where the links run in a circle.
    for _ in range(len(data) // 20):
        if position + 20 > len(data):
            raise FormatError("ELF: a version definition lies outside its section", position)
        fields = struct.unpack_from(order + "HHHHIII", data, position)
        _version, flags, index, count, _hash, aux, step = fields
        if count and position + aux + 8 <= len(data):
            (name,) = struct.unpack_from(order + "I", data, position + aux)
            # VER_FLG_BASE: the file's own name, which is not a version of any symbol.
            if not flags & 1:
                names[index & 0x7FFF] = _string(strings, name)
        if not step:
            break
        position += step
    return names


def _unpack(data: bytes) -> bytes:
    """The ELF file in .gnu_debugdata, which is LZMA-compressed."""
    import lzma

    decompressor = lzma.LZMADecompressor(lzma.FORMAT_AUTO, memlimit=_MAX_UNPACKED)
    try:
        unpacked = decompressor.decompress(data, max_length=_MAX_UNPACKED)
    except (lzma.LZMAError, EOFError, MemoryError) as error:
        raise FormatError(f"ELF: .gnu_debugdata cannot be unpacked: {error}") from error
    if not decompressor.eof:
        raise FormatError("ELF: .gnu_debugdata is cut short or too big")
    return unpacked


def _string(table: bytes, offset: int) -> str:
    if not 0 <= offset < len(table):
        return ""
    end = table.find(b"\0", offset, offset + 4096)
    return os.fsdecode(table[offset : end if end >= 0 else offset + 4096])
