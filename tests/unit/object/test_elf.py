"""The container: what is read, and what is refused."""

from __future__ import annotations

import struct

import pytest

from tracebee.errors import FormatError
from tracebee.object import ObjectFile
from tracebee.object.elf import R_BPF_64_64, Elf

from .objects import read, section, with_bytes, with_header, with_symbol

DATA = read("openers")


def test_parts() -> None:
    elf = Elf(DATA)
    assert elf.byteorder == "little"
    code = elf.by_name["tracepoint/syscalls/sys_enter_openat"]
    assert code.is_code and code.size == len(code.data)
    bss = elf.by_name[".bss"]
    assert (bss.size, len(bss.data)) == (8, 0)
    assert not elf.by_name["license"].is_code
    symbols = {symbol.name: symbol for symbol in elf.symbols}
    assert elf.sections[symbols["largest"].section].name == ".data"
    assert (symbols["enter_openat"].type, symbols["enter_openat"].value) == (2, 0)
    rows = elf.relocations[code.number]
    assert [row.symbol.name for row in rows if row.type == R_BPF_64_64][:1] == ["calls"]
    assert [row.offset for row in rows] == sorted(row.offset for row in rows)


def test_big_endian() -> None:
    little, big = Elf(read("pieces")), Elf(read("pieces-eb"))
    assert big.byteorder == "big"
    assert [one.name for one in big.sections] == [one.name for one in little.sections]
    assert {(one.name, one.value, one.size) for one in big.symbols} == {
        (one.name, one.value, one.size) for one in little.symbols
    }


TABLE = next(one for one in Elf(DATA).sections if one.type == 2)
NAMES = Elf(DATA).sections[TABLE.link]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no ELF file"),
        (b"#!/bin/sh\n" * 20, "no ELF file"),
        (DATA[:60], "too short for a header"),
        (with_bytes(DATA, 4, b"\1"), "64 bits"),
        (with_bytes(DATA, 5, b"\3"), "unknown byte order 3"),
        (with_bytes(DATA, 18, struct.pack("<H", 62)), "an object file for x86-64, and not for eBPF"),
        (with_bytes(DATA, 18, struct.pack("<H", 999)), "for machine 999"),
        (with_bytes(DATA, 16, struct.pack("<H", 2)), "a program, and no object file"),
        (with_bytes(DATA, 58, struct.pack("<H", 40)), "impossible size 40 of a section header"),
        (with_bytes(DATA, 40, struct.pack("<Q", 1 << 40)), "table of sections reaches beyond"),
        (with_bytes(DATA, 60, struct.pack("<H", 0xFFFF)), "table of sections reaches beyond"),
        (DATA[:-500], "reaches? beyond the end"),
        (with_header(DATA, 2, offset=1 << 50), "section 2 reaches beyond"),
        (with_header(DATA, 2, size=1 << 63), "or into each other"),
        (with_header(DATA, 2, offset=0, size=len(DATA)), "or into each other"),
        (with_header(DATA, 2, name=1 << 30), "the name of section 2 is not in the table"),
        (with_header(DATA, TABLE.number, size=TABLE.size - 1), "impossible size .* of the table of symbols"),
        (with_header(DATA, TABLE.number, link=999), "names are in section 999"),
        (with_header(DATA, 2, type=2), "more than one table of symbols"),
        (with_symbol(DATA, "largest", value=1 << 40), "symbol 'largest' lies outside"),
        (with_symbol(DATA, "largest", size=(1 << 64) - 8), "symbol 'largest' lies outside"),
        (with_symbol(DATA, "largest", shndx=500), "symbol 'largest' is in section 500"),
        (with_symbol(DATA, "largest", name=1 << 20), "the name of symbol .* is not in the table"),
    ],
)
def test_files_that_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Elf(data)


def test_names_that_are_no_text_are_shown() -> None:
    place = DATA.index(b"\0largest\0", NAMES.offset)
    found = Elf(with_bytes(DATA, place, b"\0larg\xff\xfe\n\0"))
    assert "larg\\xff\\xfe\n" in {symbol.name for symbol in found.symbols}


def relocations(data: bytes) -> int:
    """The number of the section of relocations of the first program."""
    return section(data, ".reltracepoint/syscalls/sys_enter_openat").number


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 17}, "impossible size of the relocations"),
        ({"info": 500}, "about a section that is not there"),
    ],
)
def test_relocations_that_are_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        Elf(with_header(DATA, relocations(DATA), **fields))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (struct.pack("<QQ", 0, 1000 << 32 | 1), "names no symbol"),
        (struct.pack("<QQ", 1 << 30, 1 << 32 | 1), "lies outside of"),
        (struct.pack("<QQ", 16, 1 << 32 | 77), "unknown relocation 77"),
        (struct.pack("<QQ", 3, 1 << 32 | 1), "unknown relocation"),
        (struct.pack("<QQ", 0, 1 << 32 | 1), "has no place for a relocation"),
    ],
)
def test_a_relocation_that_is_refused(row: bytes, message: str) -> None:
    place = section(DATA, ".reltracepoint/syscalls/sys_enter_openat").offset
    with pytest.raises(FormatError, match=message):
        ObjectFile(with_bytes(DATA, place, row)).spec()


@pytest.mark.parametrize(
    ("data", "what", "hint"),
    [
        (b"!<arch>\ncore.o/         ", "this is an archive", "ar x"),
        (b"!<thin>\n", "a thin archive", "ar t"),
        (b"BC\xc0\xde\x35\x14", "bitcode of LLVM", "llc -march=bpf"),
        (b"\x1f\x8b\x08\x00", "compressed by gzip", "gunzip"),
        (b"\x9f\xeb\x01\x00", "BTF and nothing else", "tracebee btf dump"),
        (b"int main(void)\n{\n}\n", "this is text", "-target bpf"),
        (b"", "an empty file", "-target bpf"),
        (b"\0\1\2", "this is no ELF file", ""),
        (
            with_bytes(DATA, 16, struct.pack("<HH", 2, 62)),
            "a program for x86-64, and not for eBPF",
            "-target bpf",
        ),
        (
            with_bytes(DATA, 16, struct.pack("<HH", 3, 183)),
            "a shared library or a program for AArch64",
            "-target",
        ),
        (with_bytes(DATA, 16, struct.pack("<HH", 4, 62)), "a core dump for x86-64", "-target bpf"),
        (b"\x7fELF\1\1\1" + bytes(9) + struct.pack("<HH", 1, 40), "an object file for ARM", "-target bpf"),
        (b"\x7fELF\1\2\1" + bytes(9) + struct.pack(">HH", 2, 8), "a program for MIPS", "-target bpf"),
    ],
)
def test_other_files_are_named_for_what_they_are(data: bytes, what: str, hint: str) -> None:
    with pytest.raises(FormatError) as caught:
        Elf(data)
    assert what in str(caught.value)
    assert hint in caught.value.hint
    assert bool(caught.value.hint) == bool(hint)
