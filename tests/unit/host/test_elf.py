"""ELF files written by the test, and real ones with the word of binutils on them."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from tracebee.errors import FormatError
from tracebee.host.elf import DebugLink, ElfFile, parse_notes, parse_verdef
from tracebee.host.elfsymbols import Symbol, split_version

from . import elfwriter as w

if TYPE_CHECKING:
    from pathlib import Path

EVERY_KIND = pytest.mark.parametrize(
    ("is_64", "is_little"), [(True, True), (True, False), (False, True), (False, False)]
)


def parse(writer: w.ElfWriter) -> ElfFile:
    return ElfFile.parse(writer.build())


# ---------------------------------------------------------------------- the container


@EVERY_KIND
def test_header(is_64: bool, is_little: bool) -> None:
    with parse(w.ElfWriter(is_64=is_64, is_little=is_little, type=w.ET_EXEC, machine=w.EM_AARCH64)) as elf:
        assert (elf.is_64, elf.is_little, elf.type, elf.machine) == (is_64, is_little, "ET_EXEC", "aarch64")
        assert not elf.is_relocatable
        assert elf.sections[-1].name == ".shstrtab"
        assert elf.functions() == []
        assert (elf.build_id, elf.debug_link, elf.soname, elf.needed) == ("", None, "", [])


@EVERY_KIND
def test_addresses_and_offsets(is_64: bool, is_little: bool) -> None:
    writer = w.ElfWriter(is_64=is_64, is_little=is_little)
    writer.section(".data", w.SHT_PROGBITS, bytes(0x4000))
    writer.segment(w.PT_LOAD, flags=4, at=0, address=0, file_size=0x1000)
    writer.segment(w.PT_LOAD, flags=5, at=0x1000, address=0x41000, file_size=0x800)
    writer.segment(w.PT_LOAD, flags=6, at=0x1000, address=0x61000, file_size=0x1000, memory_size=0x3000)
    with parse(writer) as elf:
        assert elf.file_offset(0x41010) == 0x1010
        assert elf.file_offset(0x417FF) == 0x17FF
        assert elf.file_offset(0x41800) is None
        assert elf.file_offset(0x61FFF) == 0x1FFF
        assert elf.file_offset(0x62000) is None  # .bss
        assert elf.vaddr(0x10) == 0x10
        assert elf.vaddr(0x1010) == 0x41010  # loaded twice: code first
        assert elf.vaddr(0x1900) == 0x61900
        assert elf.vaddr(0x3000) is None
        assert elf.vaddr(-1) is None
        assert elf.code_limit == 0x41800


def test_more_sections_than_the_header_can_count() -> None:
    writer = w.ElfWriter()
    writer.section(".text", w.SHT_PROGBITS, b"x")
    data = bytearray(writer.build())
    (sections_at,) = struct.unpack_from("<Q", data, 40)
    struct.pack_into("<HH", data, 60, 0, 0xFFFF)
    struct.pack_into("<Q", data, sections_at + 32, 3)
    struct.pack_into("<I", data, sections_at + 40, 2)
    with ElfFile.parse(bytes(data)) as elf:
        assert [section.name for section in elf.sections] == ["", ".text", ".shstrtab"]


@pytest.mark.parametrize(
    "patch",
    [
        {"shoff": 1 << 40},
        {"shnum": 5000},
        {"shentsize": 0},
        {"shentsize": 8},
        {"phoff": 1 << 62, "phnum": 1},
        {"phoff": 1, "phnum": 60000},
        {"phoff": 64, "phnum": 1, "phentsize": 1},
    ],
)
def test_headers_that_do_not_fit(patch: dict[str, int]) -> None:
    writer = w.ElfWriter()
    writer.header_patch = patch
    with pytest.raises(FormatError):
        parse(writer)


@pytest.mark.parametrize(
    "data", [b"", b"\x7fELF", b"\x7fELF" + bytes(60), b"#!/bin/sh\n", b"\x7fELF\x02\x01\x01"]
)
def test_other_files(data: bytes) -> None:
    with pytest.raises(FormatError):
        ElfFile.parse(data)


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path):
        with pytest.raises((FormatError, OSError)):
            ElfFile.open(str(path))
    with pytest.raises(FileNotFoundError):
        ElfFile.open(str(tmp_path / "nothing"))


def test_a_file_that_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "elf"
    path.write_bytes(w.ElfWriter().symbols([("f", 0x1000, 16, w.GLOBAL_FUNC)]).build())
    with ElfFile.open(str(path)) as elf:
        os.truncate(path, 70)
        with pytest.raises(FormatError):
            elf.functions()


# ---------------------------------------------------------------------- symbols


@EVERY_KIND
def test_functions(is_64: bool, is_little: bool) -> None:
    writer = w.ElfWriter(is_64=is_64, is_little=is_little)
    writer.symbols(
        [
            ("second", 0x2000, 0x40, w.GLOBAL_FUNC),
            ("first", 0x1000, 0x20, w.LOCAL_FUNC),
            ("resolver", 0x3000, 8, w.GLOBAL_IFUNC),
            ("variable", 0x4000, 4, w.GLOBAL_OBJECT),
            ("label", 0x1010, 0, w.LOCAL_NOTYPE),
            ("absent", 0, 0, w.GLOBAL_FUNC),
        ]
    )
    with parse(writer) as elf:
        assert elf.functions() == [
            Symbol("first", 0x1000, 0x20, "func", "local"),
            Symbol("second", 0x2000, 0x40),
            Symbol("resolver", 0x3000, 8, "ifunc"),
        ]
        assert elf.find_function("second") == Symbol("second", 0x2000, 0x40)
        assert elf.find_function("variable") is None
        assert elf.find_data("variable") == Symbol("variable", 0x4000, 4, "object")
        assert elf.find_data("second") is None
        assert elf.symbol_at(0x1013) == ("first", 0x13)
        assert elf.symbol_at(0x1020) is None
        assert elf.has_symtab


def test_undefined_symbols_are_left_out() -> None:
    writer = w.ElfWriter().symbols([("printf", 0x1030, 0, w.GLOBAL_FUNC)], section_index=0)
    with parse(writer) as elf:
        assert elf.functions() == []


def test_sizes() -> None:
    writer = w.ElfWriter().segment(w.PT_LOAD, at=0, address=0, file_size=0x100, memory_size=0x6000)
    writer.symbols(
        [
            ("outer", 0x1000, 0x100, w.GLOBAL_FUNC),
            ("inner", 0x1040, 0x10, w.GLOBAL_FUNC),
            ("open", 0x2000, 0, w.GLOBAL_FUNC),
            ("next", 0x3000, 0x10, w.GLOBAL_FUNC),
            ("last", 0x5000, 0, w.GLOBAL_FUNC),
            ("huge", 0x5800, (1 << 64) - 1, w.GLOBAL_FUNC),
        ]
    )
    with parse(writer) as elf:
        assert elf.symbol_at(0xFFF) is None
        assert elf.symbol_at(0x103F) == ("outer", 0x3F)
        assert elf.symbol_at(0x1045) == ("inner", 5)
        assert elf.symbol_at(0x1050) == ("outer", 0x50)
        assert elf.symbol_at(0x10FF) == ("outer", 0xFF)
        assert elf.symbol_at(0x1100) is None
        assert elf.symbol_at(0x2FFF) == ("open", 0xFFF)
        assert elf.symbol_at(0x3010) is None
        assert elf.symbol_at(0x5004) == ("last", 4)
        assert elf.symbol_at(0x1_0000_0000) == ("huge", 0x1_0000_0000 - 0x5800)
        assert elf.symbol_at(-1) is None
        assert elf.symbol_at(1 << 64) is None


def test_a_last_function_without_size_ends_with_the_code() -> None:
    writer = w.ElfWriter().segment(w.PT_LOAD, at=0, address=0x1000, file_size=0x80, memory_size=0x80)
    writer.symbols([("last", 0x1000, 0, w.GLOBAL_FUNC)])
    with parse(writer) as elf:
        assert elf.symbol_at(0x107F) == ("last", 0x7F)
        assert elf.symbol_at(0x1080) is None


@pytest.mark.parametrize(
    ("symbols", "chosen"),
    [
        ([("__libc_read", w.GLOBAL_FUNC, 9), ("__read", w.WEAK_FUNC, 9), ("read", w.WEAK_FUNC, 9)], "read"),
        ([("local", w.LOCAL_FUNC, 9), ("_global", w.GLOBAL_FUNC, 9)], "_global"),
        ([("unsized", w.GLOBAL_FUNC, 0), ("_sized", w.LOCAL_FUNC, 9)], "_sized"),
        ([("b", w.GLOBAL_FUNC, 9), ("a", w.GLOBAL_FUNC, 9)], "a"),
        ([("weak", w.WEAK_FUNC, 9), ("strong", w.GLOBAL_FUNC, 9)], "strong"),
    ],
)
def test_choice_among_names(symbols: list[tuple[str, int, int]], chosen: str) -> None:
    writer = w.ElfWriter().symbols([(name, 0x1000, size, info) for name, info, size in symbols])
    with parse(writer) as elf:
        assert elf.symbol_at(0x1004) == (chosen, 4)
        assert len(elf.functions()) == len(symbols)


def test_the_same_symbol_in_both_tables() -> None:
    symbols = [("f", 0x1000, 16, w.GLOBAL_FUNC)]
    writer = (
        w.ElfWriter().symbols(symbols, kind=w.SHT_DYNSYM).symbols([*symbols, ("g", 0x1000, 16, w.LOCAL_FUNC)])
    )
    with parse(writer) as elf:
        assert [symbol.name for symbol in elf.functions()] == ["f", "g"]
        assert elf.table.find("f") == [Symbol("f", 0x1000, 16)]


def test_functions_of_one_name() -> None:
    writer = w.ElfWriter().symbols(
        [("f", 0x2000, 16, w.LOCAL_FUNC), ("f", 0x1000, 16, w.LOCAL_FUNC), ("f", 0x3000, 16, w.GLOBAL_FUNC)]
    )
    with parse(writer) as elf:
        assert [symbol.address for symbol in elf.table.find("f")] == [0x3000, 0x1000, 0x2000]


def test_thumb_functions() -> None:
    writer = w.ElfWriter(is_64=False, machine=w.EM_ARM).symbols([("f", 0x1001, 16, w.GLOBAL_FUNC)])
    with parse(writer) as elf:
        assert elf.functions() == [Symbol("f", 0x1000, 16)]
        assert elf.find_function("f") == Symbol("f", 0x1000, 16)


def test_names_that_share_a_tail() -> None:
    table = bytes(24) + struct.pack("<IBBHQQ", 5, w.GLOBAL_FUNC, 0, 1, 0x1000, 16)
    writer = w.ElfWriter().section(".symtab", w.SHT_SYMTAB, table, link=".strtab")
    writer.section(".strtab", w.SHT_STRTAB, b"\0foo_bar\0")
    with parse(writer) as elf:
        assert elf.functions()[0].name == "bar"
        assert elf.find_function("bar") == Symbol("bar", 0x1000, 16)
        assert elf.find_function("foo_bar") is None
        assert elf.find_function("") is None


def test_names_outside_the_string_table() -> None:
    table = bytes(24) + struct.pack("<IBBHQQ", 0xFFFFFFFF, w.GLOBAL_FUNC, 0, 1, 0x1000, 16)
    writer = w.ElfWriter().section(".symtab", w.SHT_SYMTAB, table, link=".strtab")
    writer.section(".strtab", w.SHT_STRTAB, b"\0unterminated")
    with parse(writer) as elf:
        assert elf.functions() == []
        assert elf.symbol_at(0x1000) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("memcpy@@GLIBC_2.14", ("memcpy", "GLIBC_2.14", True)),
        ("memcpy@GLIBC_2.2.5", ("memcpy", "GLIBC_2.2.5", False)),
        ("memcpy", ("memcpy", "", True)),
        ("@plt", ("@plt", "", True)),
    ],
)
def test_versions_in_names(text: str, expected: tuple[str, str, bool]) -> None:
    assert split_version(text) == expected


@EVERY_KIND
def test_versions_in_tables(is_64: bool, is_little: bool) -> None:
    order = "<" if is_little else ">"
    strings = b"\0lib.so\0V1\0V2\0"
    verdef = b"".join(
        struct.pack(order + "HHHHIIIII", 1, flags, index, 1, 0, 20, step, name, 0)
        for flags, index, name, step in ((1, 1, 1, 28), (0, 2, 8, 28), (0, 3, 11, 0))
    )
    assert parse_verdef(verdef, strings, is_little) == {2: "V1", 3: "V2"}
    writer = w.ElfWriter(is_64=is_64, is_little=is_little)
    writer.symbols(
        [
            ("f", 0x1000, 16, w.GLOBAL_FUNC),
            ("f", 0x2000, 16, w.GLOBAL_FUNC),
            ("g", 0x3000, 16, w.GLOBAL_FUNC),
        ],
        kind=w.SHT_DYNSYM,
    )
    writer.section(
        ".gnu.version", w.SHT_GNU_VERSYM, struct.pack(order + "4H", 0, 0x8002, 3, 1), link=".dynsym"
    )
    writer.section(".names", w.SHT_STRTAB, strings)
    writer.section(".gnu.version_d", w.SHT_GNU_VERDEF, verdef, link=".names")
    with parse(writer) as elf:
        assert elf.find_function("f") == Symbol("f", 0x2000, 16, version="V2")
        old = Symbol("f", 0x1000, 16, version="V1", is_default=False)
        assert elf.find_function("f@V1") == old
        assert elf.find_function("f@@V1") is None
        assert elf.find_function("f@V3") is None
        assert elf.find_function("g") == Symbol("g", 0x3000, 16)
        assert elf.functions()[0] == old


def test_version_definitions_in_a_circle() -> None:
    entry = struct.pack("<HHHHIIIII", 1, 0, 2, 1, 0, 20, 0xFFFFFFE4, 1, 0)
    with pytest.raises(FormatError):
        parse_verdef(entry * 2, b"\0V\0")


@pytest.mark.parametrize("link", ["", ".shstrtab"])
def test_symbols_with_bad_links(link: str) -> None:
    table = bytes(24) + struct.pack("<IBBHQQ", 1, w.GLOBAL_FUNC, 0, 1, 0x1000, 16)
    writer = w.ElfWriter().section(".symtab", w.SHT_SYMTAB, table + b"rest", link=link)
    with parse(writer) as elf:
        if link:
            assert [symbol.address for symbol in elf.functions()] == [0x1000]
        else:
            with pytest.raises(FormatError):
                elf.functions()


def test_a_table_larger_than_the_file() -> None:
    writer = w.ElfWriter().section(".symtab", w.SHT_SYMTAB, bytes(24), link=".strtab", size=1 << 40)
    writer.section(".strtab", w.SHT_STRTAB, b"\0")
    with parse(writer) as elf, pytest.raises(FormatError):
        elf.functions()


# ---------------------------------------------------------------------- packed debug file


def packed(data: bytes) -> w.ElfWriter:
    writer = w.ElfWriter().symbols([("exported", 0x1000, 16, w.GLOBAL_FUNC)], kind=w.SHT_DYNSYM)
    return writer.section(".gnu_debugdata", w.SHT_PROGBITS, data)


def test_packed_debug_file() -> None:
    import lzma

    inner = w.ElfWriter().symbols([("hidden", 0x2000, 16, w.LOCAL_FUNC)]).build()
    with parse(packed(lzma.compress(inner))) as elf:
        assert [symbol.name for symbol in elf.functions()] == ["exported", "hidden"]
        assert elf.has_symtab


def test_bad_packed_debug_files() -> None:
    import lzma

    whole = lzma.compress(w.ElfWriter().build())
    bomb = lzma.compress(bytes(1 << 28))
    for data in (b"", b"no xz", whole[:-20], bomb, lzma.compress(b"no ELF")):
        with parse(packed(data)) as elf, pytest.raises(FormatError):
            elf.functions()


def test_a_packed_file_in_a_packed_file_is_left_alone() -> None:
    import lzma

    inner = packed(b"not even xz").symbols([("hidden", 0x2000, 16, w.LOCAL_FUNC)]).build()
    with parse(packed(lzma.compress(inner))) as elf:
        assert elf.find_function("hidden") is not None


# ---------------------------------------------------------------------- notes and links


@EVERY_KIND
def test_build_id(is_64: bool, is_little: bool) -> None:
    order = "<" if is_little else ">"
    notes = w.note(b"GNU", 1, bytes(16), order=order) + w.note(b"GNU", 3, b"\xab\xcd\xef", order=order)
    writer = w.ElfWriter(is_64=is_64, is_little=is_little).section(".note", w.SHT_NOTE, notes, alignment=4)
    with parse(writer) as elf:
        assert elf.build_id == "abcdef"


def test_build_id_without_sections() -> None:
    writer = w.ElfWriter().section(".blob", w.SHT_PROGBITS, w.note(b"GNU", 3, b"\x01\x02"))
    writer.segment(w.PT_NOTE, at=".blob", alignment=4)
    writer.header_patch = {"shoff": 0, "shnum": 0, "shstrndx": 0}
    with parse(writer) as elf:
        assert elf.sections == []
        assert elf.build_id == "0102"


def test_notes_padded_to_eight() -> None:
    data = w.note(b"GNU", 5, b"12345", alignment=8) + w.note(b"Other", 7, b"", alignment=8)
    found = list(parse_notes(data, alignment=8))
    assert [(note.name, note.type, note.description) for note in found] == [
        (b"GNU", 5, b"12345"),
        (b"Other", 7, b""),
    ]


@pytest.mark.parametrize("sizes", [(4, 1 << 31), (1 << 31, 4), (4, 5)])
def test_notes_that_are_too_long(sizes: tuple[int, int]) -> None:
    with pytest.raises(FormatError):
        list(parse_notes(struct.pack("<III", *sizes, 3) + b"GNU\0abcd"))


@EVERY_KIND
def test_debug_link(is_64: bool, is_little: bool) -> None:
    crc = struct.pack("<I" if is_little else ">I", 0xDEADBEEF)
    writer = w.ElfWriter(is_64=is_64, is_little=is_little)
    writer.section(".gnu_debuglink", w.SHT_PROGBITS, b"a.debug\0" + crc)
    with parse(writer) as elf:
        assert elf.debug_link == DebugLink("a.debug", 0xDEADBEEF)


@pytest.mark.parametrize("data", [b"", b"\0\0\0\0abcd", b"name", b"name\0\0\0\0abc"])
def test_bad_debug_links(data: bytes) -> None:
    with (
        parse(w.ElfWriter().section(".gnu_debuglink", w.SHT_PROGBITS, data)) as elf,
        pytest.raises(FormatError),
    ):
        _ = elf.debug_link


@EVERY_KIND
def test_dynamic_section(is_64: bool, is_little: bool) -> None:
    entry = ("<" if is_little else ">") + ("qQ" if is_64 else "iI")
    writer = w.ElfWriter(is_64=is_64, is_little=is_little)
    strings = b"\0libme.so.1\0libc.so.6\0libm.so.6\0"
    writer.section(".dynstr", w.SHT_STRTAB, strings)
    entries = [
        (1, 12),
        (14, 1),
        (1, 22),
        (1, 1 << 20),
        (5, 0x8000),
        (10, len(strings)),
        (0x6FFFFFFB, 0x08000000),
    ]
    table = b"".join(struct.pack(entry, *pair) for pair in [*entries, (0, 0), (1, 5)])
    writer.section(".dynamic", 6, table, alignment=8)
    writer.segment(w.PT_DYNAMIC, at=".dynamic").segment(w.PT_LOAD, at=".dynstr", address=0x8000)
    with parse(writer) as elf:
        assert elf.soname == "libme.so.1"
        assert elf.needed == ["libc.so.6", "libm.so.6", ""]
        assert elf.is_pie


def test_kinds_of_files() -> None:
    with parse(w.ElfWriter(type=w.ET_DYN)) as library:
        assert library.is_relocatable
        assert not library.is_pie
    with parse(w.ElfWriter(type=w.ET_DYN).segment(w.PT_INTERP)) as program:
        assert program.is_pie


# ---------------------------------------------------------------------- the word of binutils


def tool(*command: str) -> str:
    """The output of a tool; skips where it is missing."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def system_files() -> list[str]:
    candidates = [
        "/lib/x86_64-linux-gnu/libc.so.6",
        "/lib/aarch64-linux-gnu/libc.so.6",
        "/lib64/libc.so.6",
        "/usr/bin/bash",
        "/usr/bin/python3",
        "/lib64/ld-linux-x86-64.so.2",
    ]
    return [path for path in candidates if os.path.exists(path)]


@pytest.mark.parametrize("path", system_files())
def test_symbols_as_readelf_shows_them(path: str) -> None:
    expected = set()
    for line in tool("readelf", "--wide", "--syms", "--dyn-syms", path).splitlines():
        fields = line.split()
        if len(fields) >= 8 and fields[3] in ("FUNC", "IFUNC") and fields[6] != "UND":
            address, size, name = int(fields[1], 16), int(fields[2], 0), fields[7]
            expected.add((address, size, name))
    with ElfFile.open(path) as elf:
        functions = elf.functions()
        assert {(s.address, s.size, s.name) for s in functions} == {
            (address, size, name.partition("@")[0]) for address, size, name in expected
        }
        # Of several versions at one address the default one is kept.
        versioned = {(s.address, f"{s.name}@@{s.version}") for s in functions if s.version and s.is_default}
        assert versioned == {(address, name) for address, _, name in expected if "@@" in name}
        for address, _, name in sorted(expected)[::20]:
            symbols = elf.table.find(name)
            assert address in [symbol.address for symbol in symbols]


@pytest.mark.parametrize("path", system_files())
def test_notes_and_links_as_readelf_shows_them(path: str) -> None:
    text = tool("readelf", "--wide", "--notes", "--dynamic", path)
    with ElfFile.open(path) as elf:
        build_ids = [line.split()[-1] for line in text.splitlines() if "Build ID:" in line]
        assert elf.build_id == build_ids[0]
        needed = [line.split("[")[1].split("]")[0] for line in text.splitlines() if "(NEEDED)" in line]
        assert elf.needed == needed
        sonames = [line.split("[")[1].split("]")[0] for line in text.splitlines() if "(SONAME)" in line]
        assert elf.soname == (sonames[0] if sonames else "")


@pytest.mark.parametrize("flags", [("-no-pie",), ("-pie",), ("-shared", "-fPIC")])
def test_a_compiled_program(tmp_path: Path, flags: tuple[str, ...]) -> None:
    source = tmp_path / "a.c"
    source.write_text(
        "int counter = 7;\nstatic int __attribute__((noinline)) inner(int x) { return x * counter; }\n"
        "int outer(int x) { return inner(x) + 1; }\nint main(void) { return outer(3); }\n"
    )
    binary = tmp_path / "a"
    tool("gcc", "-g", "-O1", *flags, "-o", str(binary), str(source))
    expected = {}
    for line in tool("nm", str(binary)).splitlines():
        fields = line.split()
        if len(fields) == 3:
            expected[fields[2]] = int(fields[0], 16)
    with ElfFile.open(str(binary)) as elf:
        for name in ("inner", "outer", "main"):
            symbol = elf.find_function(name)
            assert symbol is not None
            assert symbol.address == expected[name]
            assert elf.symbol_at(symbol.address + 1) == (name, 1)
            offset = elf.file_offset(symbol.address)
            assert offset is not None
            assert elf.vaddr(offset) == symbol.address
        data = elf.find_data("counter")
        assert data is not None
        assert (data.address, data.size) == (expected["counter"], 4)
        offset = elf.file_offset(data.address)
        assert offset is not None
        assert elf.read_at(offset, 4) == (7).to_bytes(4, "little")
        assert elf.is_relocatable == (flags[0] != "-no-pie")
        assert elf.is_pie == (flags[0] == "-pie")
