"""Writes small ELF files, as odd as a test wants them, and the tables and notes that go into them."""

from __future__ import annotations

import struct

SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_NOTE, SHT_NOBITS, SHT_DYNSYM = 1, 2, 3, 7, 8, 11
SHT_GNU_VERDEF, SHT_GNU_VERSYM = 0x6FFFFFFD, 0x6FFFFFFF
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE = 1, 2, 3, 4
ET_REL, ET_EXEC, ET_DYN = 1, 2, 3
EM_386, EM_ARM, EM_X86_64, EM_AARCH64 = 3, 40, 62, 183

LOCAL_FUNC, GLOBAL_FUNC, WEAK_FUNC, GLOBAL_IFUNC = 0x02, 0x12, 0x22, 0x1A
GLOBAL_OBJECT, LOCAL_NOTYPE, GLOBAL_TLS = 0x11, 0x00, 0x16


class ElfWriter:
    """Collects sections and segments; `build` lays them out in order of their addition."""

    def __init__(
        self, *, is_64: bool = True, is_little: bool = True, type: int = ET_DYN, machine: int = EM_X86_64
    ) -> None:
        self.is_64 = is_64
        self.order = "<" if is_little else ">"
        self.type = type
        self.machine = machine
        self.sections: list[dict[str, int | str | bytes]] = []
        self.segments: list[tuple[int, int, int | str, int, int | None, int | None, int]] = []
        self.header_patch: dict[str, int] = {}

    def section(
        self,
        name: str,
        kind: int,
        data: bytes = b"",
        *,
        address: int = 0,
        link: str = "",
        alignment: int = 1,
        size: int | None = None,
    ) -> ElfWriter:
        """`size` is what the header claims, where that is not the length of the data."""
        self.sections.append(
            {
                "name": name,
                "kind": kind,
                "data": data,
                "address": address,
                "link": link,
                "alignment": alignment,
                "size": len(data) if size is None else size,
            }
        )
        return self

    def segment(
        self,
        kind: int,
        *,
        flags: int = 5,
        at: int | str = 0,
        address: int = 0,
        file_size: int | None = None,
        memory_size: int | None = None,
        alignment: int = 4096,
    ) -> ElfWriter:
        """`at` is a file offset or the name of the section that it covers."""
        self.segments.append((kind, flags, at, address, file_size, memory_size, alignment))
        return self

    def symbols(
        self, symbols: list[tuple[str, int, int, int]], *, kind: int = SHT_SYMTAB, section_index: int = 1
    ) -> ElfWriter:
        """A symbol table and its strings from (name, value, size, info); section index 0 means undefined."""
        strings = bytearray(b"\0")
        table = bytearray(24 if self.is_64 else 16)
        for name, value, size, info in symbols:
            offset = len(strings)
            strings += name.encode() + b"\0"
            if self.is_64:
                table += struct.pack(self.order + "IBBHQQ", offset, info, 0, section_index, value, size)
            else:
                table += struct.pack(self.order + "IIIBBH", offset, value, size, info, 0, section_index)
        names = (".dynsym", ".dynstr") if kind == SHT_DYNSYM else (".symtab", ".strtab")
        self.section(names[0], kind, bytes(table), link=names[1], alignment=8)
        return self.section(names[1], SHT_STRTAB, bytes(strings))

    def build(self) -> bytes:
        order, is_64 = self.order, self.is_64
        header_size, segment_size, section_size = (64, 56, 64) if is_64 else (52, 32, 40)
        names = bytearray(b"\0")
        sections = [
            *self.sections,
            {"name": ".shstrtab", "kind": SHT_STRTAB, "address": 0, "link": "", "alignment": 1},
        ]
        name_offsets = []
        for section in sections:
            name_offsets.append(len(names))
            names += str(section["name"]).encode() + b"\0"
        sections[-1]["data"] = bytes(names)
        sections[-1]["size"] = len(names)
        body = bytearray(header_size + segment_size * len(self.segments))
        offsets: dict[str, tuple[int, int]] = {}
        for section in sections:
            alignment = int(section["alignment"]) or 1
            body += bytes(-len(body) % alignment)
            data = bytes(section["data"])  # type: ignore[arg-type]
            offsets.setdefault(str(section["name"]), (len(body), len(data)))
            section["offset"] = len(body)
            body += data
        body += bytes(-len(body) % 8)
        sections_at = len(body)
        index_of = {str(section["name"]): index for index, section in enumerate(sections, 1)}
        body += bytes(section_size)
        shape = order + ("IIQQQQIIQQ" if is_64 else "IIIIIIIIII")
        for section, name_offset in zip(sections, name_offsets, strict=True):
            body += struct.pack(
                shape,
                name_offset,
                section["kind"],
                0,
                section["address"],
                section["offset"],
                section["size"],
                index_of.get(str(section["link"]), 0),
                0,
                section["alignment"],
                0,
            )
        for index, (kind, flags, at, address, file_size, memory_size, alignment) in enumerate(self.segments):
            offset, length = offsets[at] if isinstance(at, str) else (at, len(body) - at)
            length = length if file_size is None else file_size
            memory = length if memory_size is None else memory_size
            fields: tuple[int, ...]
            if is_64:
                fields = (kind, flags, offset, address, address, length, memory, alignment)
            else:
                fields = (kind, offset, address, address, length, memory, flags, alignment)
            struct.pack_into(
                order + ("IIQQQQQQ" if is_64 else "IIIIIIII"),
                body,
                header_size + index * segment_size,
                *fields,
            )
        ident = b"\x7fELF" + bytes([2 if is_64 else 1, 1 if order == "<" else 2, 1]) + bytes(9)
        header = {
            "type": self.type,
            "machine": self.machine,
            "version": 1,
            "entry": 0,
            "phoff": header_size if self.segments else 0,
            "shoff": sections_at,
            "flags": 0,
            "ehsize": header_size,
            "phentsize": segment_size,
            "phnum": len(self.segments),
            "shentsize": section_size,
            "shnum": len(sections) + 1,
            "shstrndx": len(sections),
        } | self.header_patch
        body[:header_size] = ident + struct.pack(
            order + ("HHIQQQIHHHHHH" if is_64 else "HHIIIIIHHHHHH"), *header.values()
        )
        return bytes(body)


def note(name: bytes, kind: int, description: bytes, *, order: str = "<", alignment: int = 4) -> bytes:
    """One entry of a note section."""
    text = name + b"\0"
    out = struct.pack(order + "III", len(text), len(description), kind) + text
    out += bytes(-len(out) % alignment) + description
    return out + bytes(-len(out) % alignment)


def usdt_note(
    provider: str,
    name: str,
    arguments: str,
    *,
    pc: int,
    base: int = 0,
    semaphore: int = 0,
    shape: str = "<QQQ",
) -> bytes:
    strings = "\0".join((provider, name, arguments)).encode() + b"\0"
    return note(b"stapsdt", 3, struct.pack(shape, pc, base, semaphore) + strings, order=shape[0])
