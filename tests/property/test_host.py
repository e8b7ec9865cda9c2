"""Laws of the readers in `host`: whatever the bytes, the answer is a value or a FormatError."""

from __future__ import annotations

import lzma
import os
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from tracebee.errors import FormatError, NotSupportedError
from tracebee.host.elf import ElfFile, parse_notes, parse_verdef
from tracebee.host.identity import find_signal, parse_cgroup_mounts, parse_cpu_list
from tracebee.host.kallsyms import KernelSymbols
from tracebee.host.libraries import parse_ld_cache
from tracebee.host.perfmap import parse_perf_map
from tracebee.host.procmaps import parse_maps
from tracebee.host.rights import parse_capabilities, parse_lockdown
from tracebee.host.tracefs import parse_declaration, parse_format
from tracebee.host.usdt import arm64_register, parse_arguments, read_probes, x86_register

from ..unit.host import elfwriter as w

if TYPE_CHECKING:
    from collections.abc import Callable


def value_or_format_error(read: Callable[[], object]) -> None:
    try:
        read()
    except FormatError:
        pass


def look_at_everything(data: bytes) -> None:
    """Each question by itself, so that one that fails hides no other."""
    try:
        elf = ElfFile.parse(data)
    except FormatError:
        return
    with elf:
        questions: list[Callable[[], object]] = [
            elf.functions,
            lambda: elf.symbol_at(0x1008),
            lambda: elf.symbol_at(0x41008),
            lambda: elf.find_function("f"),
            lambda: elf.find_function("f@V1"),
            lambda: elf.find_data("variable"),
            lambda: elf.file_offset(0x41008),
            lambda: elf.vaddr(0x108),
            lambda: elf.build_id,
            lambda: elf.debug_link,
            lambda: elf.soname,
            lambda: elf.needed,
            lambda: elf.is_pie,
            lambda: read_probes(elf),
        ]
        for question in questions:
            value_or_format_error(question)


def rich_elf(is_64: bool, is_little: bool) -> bytes:
    """A file with a bit of everything that is read."""
    order = "<" if is_little else ">"
    symbols = [
        ("f", 0x1000, 16, w.GLOBAL_FUNC),
        ("g", 0x1008, 0, w.WEAK_FUNC),
        ("variable", 5, 4, w.GLOBAL_OBJECT),
    ]
    writer = w.ElfWriter(is_64=is_64, is_little=is_little)
    writer.symbols(symbols)
    writer.symbols(symbols, kind=w.SHT_DYNSYM)
    writer.section(".gnu.version", w.SHT_GNU_VERSYM, bytes(range(8)), link=".dynsym")
    writer.section(".gnu.version_d", w.SHT_GNU_VERDEF, bytes([1, 0] * 20), link=".dynstr")
    writer.section(".note.id", w.SHT_NOTE, w.note(b"GNU", 3, b"build id", order=order), alignment=4)
    shape = order + ("QQQ" if is_64 else "III")
    usdt = w.usdt_note("p", "n", "4@%eax", pc=0x41000, base=0x10, semaphore=0x41008, shape=shape)
    writer.section(".note.stapsdt", w.SHT_NOTE, usdt, alignment=4)
    writer.section(".stapsdt.base", w.SHT_PROGBITS, b"", address=0x10)
    writer.section(".gnu_debuglink", w.SHT_PROGBITS, b"a.debug\0abcd")
    inner = w.ElfWriter().symbols([("h", 0x1020, 16, w.LOCAL_FUNC)]).build()
    writer.section(".gnu_debugdata", w.SHT_PROGBITS, lzma.compress(inner))
    writer.section(".dynamic", 6, bytes(range(64)), alignment=8)
    writer.segment(w.PT_DYNAMIC, at=".dynamic").segment(w.PT_LOAD, at=0, address=0x41000)
    return writer.build()


RICH = [rich_elf(is_64, is_little) for is_64 in (True, False) for is_little in (True, False)]

edits = st.lists(
    st.tuples(
        st.integers(0, 1 << 20), st.sampled_from([b"\0", b"\xff", b"\x01", b"\x7f\xff\xff\xff", b"\xff" * 8])
    ),
    max_size=6,
)


def edited(data: bytes, changes: list[tuple[int, bytes]], length: int) -> bytes:
    mutable = bytearray(data)
    for position, new in changes:
        at = position % len(mutable)
        mutable[at : at + len(new)] = new
    return bytes(mutable[: max(0, len(mutable) - length)])


@given(st.sampled_from(RICH), edits, st.sampled_from([0, 0, 0, 1, 60, 700]))
@settings(max_examples=300, deadline=None)
def test_damaged_elf_files(data: bytes, changes: list[tuple[int, bytes]], cut: int) -> None:
    look_at_everything(edited(data, changes, cut))


@given(st.binary(max_size=300), st.binary(max_size=12))
@settings(deadline=None)
def test_any_bytes_as_elf(data: bytes, ident: bytes) -> None:
    look_at_everything(data)
    look_at_everything(b"\x7fELF" + ident + data)


functions = st.lists(
    st.tuples(
        st.integers(1, 400), st.integers(0, 200), st.sampled_from([w.LOCAL_FUNC, w.GLOBAL_FUNC, w.WEAK_FUNC])
    ),
    max_size=20,
)


@given(functions, st.integers(0, 700))
def test_addresses_as_a_plain_search_finds_them(rows: list[tuple[int, int, int]], address: int) -> None:
    symbols = [(f"f{index}", value, size, info) for index, (value, size, info) in enumerate(rows)]
    writer = (
        w.ElfWriter().symbols(symbols).segment(w.PT_LOAD, at=0, address=0, file_size=600, memory_size=600)
    )
    with ElfFile.parse(writer.build()) as elf:
        found = elf.symbol_at(address)
        expected = None
        for start in sorted({value for _, value, _, _ in symbols if value <= address}, reverse=True):
            is_nearest = start == max(value for _, value, _, _ in symbols if value <= address)
            names = {
                name
                for name, value, size, _ in symbols
                if value == start and (address < start + size or (not size and is_nearest and address < 600))
            }
            if names:
                expected = (names, address - start)
                break
        if expected is None:
            assert found is None
        else:
            assert found is not None
            assert found[0] in expected[0]
            assert found[1] == expected[1]


@given(st.binary(max_size=200), st.booleans(), st.sampled_from([0, 1, 4, 8, 3]))
def test_any_bytes_as_notes(data: bytes, is_little: bool, alignment: int) -> None:
    value_or_format_error(lambda: list(parse_notes(data, is_little, alignment)))
    value_or_format_error(lambda: parse_verdef(data, data, is_little))


@given(st.lists(st.tuples(st.binary(max_size=9), st.integers(0, 1 << 31), st.binary(max_size=20))))
def test_notes_are_read_as_they_were_written(notes: list[tuple[bytes, int, bytes]]) -> None:
    notes = [(name.replace(b"\0", b"-"), kind, description) for name, kind, description in notes]
    data = b"".join(w.note(name, kind, description) for name, kind, description in notes)
    assert [(note.name, note.type, note.description) for note in parse_notes(data)] == notes


operand_text = st.text(alphabet="%$()[],+-@#0123456789xabcdefhilprsuvw: .", max_size=30)


@given(operand_text | st.text(max_size=30), st.sampled_from(["x86_64", "aarch64", "vax"]))
@settings(max_examples=500)
def test_any_text_as_arguments(text: str, machine: str) -> None:
    try:
        for argument in parse_arguments(text, machine):
            assert argument.kind in ("reg", "deref", "const")
            assert argument.scale in (1, 2, 4, 8, 16)
    except (FormatError, NotSupportedError):
        pass
    x86_register(text)
    arm64_register(text)


symbol_lines = st.lists(
    st.tuples(
        st.integers(0, (1 << 64) - 1), st.sampled_from("tTdDA"), st.sampled_from(["a", "b", "_end", "_stext"])
    )
)


@given(symbol_lines, symbol_lines, st.integers(0, (1 << 64) - 1))
def test_kernel_symbols(
    core: list[tuple[int, str, str]], module: list[tuple[int, str, str]], address: int
) -> None:
    lines = [f"{value:016x} {kind} {name}\n" for value, kind, name in sorted(core, key=lambda row: row[0])]
    lines += [f"{value:016x} {kind} {name}\t[m]\n" for value, kind, name in module]
    symbols = KernelSymbols.parse("".join(lines).encode())
    for candidate in (address, *(value for value, _, _ in core + module)):
        found = symbols.resolve(candidate)
        if found is not None:
            start = candidate - found.offset
            rows = module if found.module else core
            assert found.name in {name for value, _, name in rows if value == start}
            assert not any(start < value <= candidate for value, _, _ in rows)
    assert sorted(symbols.names("tTdDA")) == sorted(
        [(name, "") for _, _, name in core] + [(name, "m") for _, _, name in module]
    )


@given(st.binary(max_size=300), st.integers(0, (1 << 64) - 1))
def test_any_bytes_as_kernel_symbols(data: bytes, address: int) -> None:
    def read() -> None:
        symbols = KernelSymbols.parse(b"ffffffff81000000 T _stext\n" + data)
        value_or_format_error(lambda: symbols.resolve(address))
        value_or_format_error(lambda: symbols.resolve(0xFFFFFFFF81000001))
        value_or_format_error(lambda: symbols.find("a"))
        list(symbols.names())
        symbols.modules()

    value_or_format_error(read)
    value_or_format_error(lambda: KernelSymbols.parse(data))


@given(st.binary(max_size=300))
def test_any_bytes_elsewhere(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    value_or_format_error(lambda: parse_maps(data))
    value_or_format_error(lambda: parse_ld_cache(data))
    value_or_format_error(lambda: parse_ld_cache(b"glibc-ld.so.cache1.1" + data))
    value_or_format_error(lambda: parse_ld_cache(b"ld.so-1.7.0\0" + data))
    value_or_format_error(lambda: parse_cpu_list(text))
    value_or_format_error(lambda: parse_capabilities(text))
    value_or_format_error(lambda: parse_format(text))
    value_or_format_error(lambda: parse_declaration(text))
    parse_perf_map(data).at(5)
    parse_cgroup_mounts(text)
    parse_lockdown(text)
    find_signal(text)


@given(st.text(alphabet="nameIDfield:;ofstzgr_-0123456789[]() *\t\n,", max_size=200))
def test_texts_like_formats(text: str) -> None:
    value_or_format_error(lambda: parse_format(text))
    value_or_format_error(lambda: parse_format(f"name: x\nID: 1\nformat:\n{text}"))
    value_or_format_error(
        lambda: parse_format(f"name: x\nID: 1\nformat:\nfield:{text};offset:0;size:8;signed:0;")
    )


@given(st.sets(st.integers(0, 300)))
def test_cpu_lists(cpus: set[int]) -> None:
    assert parse_cpu_list(",".join(map(str, cpus))) == sorted(cpus)


mappings = st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 50), st.binary(max_size=10)), max_size=20)


@given(mappings, st.integers(0, 100000))
def test_mappings(rows: list[tuple[int, int, bytes]], address: int) -> None:
    lines = []
    used: set[int] = set()
    for start, pages, path in rows:
        if used.isdisjoint(range(start, start + pages)):
            used.update(range(start, start + pages))
            name = b"/" + path.replace(b"\n", b"\\012").replace(b"\\", b"-")
            lines.append(b"%x-%x r-xp 00000000 fe:00 7 %s\n" % (start << 6, (start + pages) << 6, name))
    found = parse_maps(b"".join(lines)).find(address)
    assert (found is not None) == (address >> 6 in used)
    if found is not None:
        assert found.start <= address < found.end
        assert b"/" in os.fsencode(found.path)
