"""Kernel symbols, from excerpts in the shapes that kernels of several kinds print."""

from __future__ import annotations

import pytest

from tracebee.errors import FormatError
from tracebee.host.kallsyms import KernelSymbol, KernelSymbols

# With CONFIG_KALLSYMS_ALL: data too, and _end.  Per-CPU symbols of old kernels come first, near zero.
FULL = b"""\
0000000000000000 A fixed_percpu_data
000000000001a040 A cpu_info
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000040 t do_one
ffffffff81000100 T vfs_read
ffffffff81000100 T alias_of_vfs_read
ffffffff81000200 W weak_one
ffffffff81001000 T _etext
ffffffff82000000 D init_task
ffffffff82000200 b counter
ffffffff82001000 B _end
ffffffffc0404000 t second_start\t[second]
ffffffffc0404100 T second_last\t[second]
ffffffffc0400000 t first_start\t[first]
ffffffffc0400080 t vfs_read\t[first]
ffffffffc0600000 t bpf_prog_6deef7357e7b4530\t[bpf]
ffffffffc0600040 t bpf_prog_0123456789abcdef_name\t[bpf]
"""

# Without it: text only, and marks of sections.
TEXT_ONLY = b"""\
ffffffff81000000 T _stext
ffffffff81000100 T vfs_read
ffffffff81001000 T _etext
ffffffff82400000 D __start_rodata
ffffffff83783000 T _sinittext
ffffffff83783100 t start_kernel
ffffffff83784000 T _einittext
ffffffff83b26734 R __stop_runtime_ptr
ffffffffc0201000 t ftrace_trampoline\t[__builtin__ftrace]
"""


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (0xFFFFFFFF81000000, KernelSymbol("_stext", 0)),
        (0xFFFFFFFF8100003F, KernelSymbol("_stext", 0x3F)),
        (0xFFFFFFFF81000040, KernelSymbol("do_one", 0)),
        # Of two names the first one is what the kernel itself prints.
        (0xFFFFFFFF81000123, KernelSymbol("vfs_read", 0x23)),
        (0xFFFFFFFF81000250, KernelSymbol("weak_one", 0x50)),
        (0xFFFFFFFF82000010, KernelSymbol("init_task", 0x10)),
        (0xFFFFFFFFC0400010, KernelSymbol("first_start", 0x10, "first")),
        (0xFFFFFFFFC0400090, KernelSymbol("vfs_read", 0x10, "first")),
        (0xFFFFFFFFC0404100, KernelSymbol("second_last", 0, "second")),
        (0xFFFFFFFFC0404FFF, KernelSymbol("second_last", 0xEFF, "second")),
        (0xFFFFFFFFC0600041, KernelSymbol("bpf_prog_0123456789abcdef_name", 1, "bpf")),
    ],
)
def test_addresses(address: int, expected: KernelSymbol) -> None:
    assert KernelSymbols.parse(FULL).resolve(address) == expected


@pytest.mark.parametrize(
    "address",
    [
        0,
        0x1000,
        0x1A041,
        0xFFFFFFFF80FFFFFF,  # below the first text symbol
        0xFFFFFFFF82001000,  # _end and behind
        0xFFFFFFFFC03FFFFF,  # before the first module
        0xFFFFFFFFC0402000,  # between two modules, too far behind the first
        0xFFFFFFFFC0406000,  # behind the last of a module
        0xFFFFFFFFC0700000,  # behind the last of all
        0xFFFFFFFFFFFFFFFF,
        1 << 64,
        -1,
    ],
)
def test_addresses_without_symbol(address: int) -> None:
    assert KernelSymbols.parse(FULL).resolve(address) is None


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (0xFFFFFFFF81000101, "vfs_read"),
        (0xFFFFFFFF81001000, None),
        (0xFFFFFFFF82400010, None),
        (0xFFFFFFFF83783110, "start_kernel"),
        (0xFFFFFFFF83784000, None),
        (0xFFFFFFFFC0201010, "ftrace_trampoline"),
    ],
)
def test_a_kernel_without_data_symbols(address: int, name: str | None) -> None:
    found = KernelSymbols.parse(TEXT_ONLY).resolve(address)
    assert (found.name if found else None) == name


def test_an_excerpt_without_marks() -> None:
    symbols = KernelSymbols.parse(b"ffffffff81000100 T a\nffffffff81000200 T b\nffffffff81000300 D data")
    assert symbols.resolve(0xFFFFFFFF810001FF) == KernelSymbol("a", 0xFF)
    assert symbols.resolve(0xFFFFFFFF810000FF) is None
    assert symbols.resolve(0xFFFFFFFF81009000) is None


def test_find() -> None:
    symbols = KernelSymbols.parse(FULL)
    assert symbols.find("vfs_read") == 0xFFFFFFFF81000100
    assert symbols.find("vfs_read", "first") == 0xFFFFFFFFC0400080
    assert symbols.find("vfs_read", "second") is None
    assert symbols.find("first_start", "") is None
    assert symbols.find("second_last") == 0xFFFFFFFFC0404100
    assert symbols.find("init_task") == 0xFFFFFFFF82000000
    assert symbols.find("fixed_percpu_data") == 0
    for name in ("", "vfs", "fs_read", "T", "T vfs_read", "vfs_read\t[first]", "x\ny"):
        assert symbols.find(name) is None


def test_text_is_preferred() -> None:
    symbols = KernelSymbols.parse(b"ffffffff81000000 D x\nffffffff81000010 t x\nffffffff81000020 d x\n")
    assert symbols.find("x") == 0xFFFFFFFF81000010


def test_names() -> None:
    symbols = KernelSymbols.parse(FULL)
    functions = list(symbols.names())
    assert functions[:3] == [("_stext", ""), ("_text", ""), ("do_one", "")]
    assert ("vfs_read", "first") in functions
    assert ("weak_one", "") not in functions
    assert ("init_task", "") not in functions
    assert ("weak_one", "") in list(symbols.names("W"))
    assert [name for name, _ in symbols.names(module="first")] == ["first_start", "vfs_read"]
    assert ("vfs_read", "first") not in list(symbols.names(module=""))
    assert symbols.modules() == ["bpf", "first", "second"]


def test_hidden_addresses() -> None:
    lines = [b"0" * 16 + line[16:] for line in FULL.rstrip(b"\n").split(b"\n")]
    symbols = KernelSymbols.parse(b"\n".join(lines) + b"\n")
    assert symbols.hidden
    assert symbols.resolve(0) is None
    assert symbols.resolve(0xFFFFFFFF81000100) is None
    assert symbols.find("vfs_read") is None
    assert symbols.has("vfs_read")
    assert symbols.has("vfs_read", "first")
    assert not symbols.has("nothing")
    assert ("vfs_read", "") in list(symbols.names())


def test_shown_addresses_are_not_hidden() -> None:
    assert not KernelSymbols.parse(FULL).hidden
    assert not KernelSymbols.parse(TEXT_ONLY).hidden
    assert KernelSymbols.parse(b"0000000000000000 T a\n").hidden
    assert not KernelSymbols.parse(b"0000000000000000 T a\nffffffffc0000000 t b\t[m]\n").hidden


def test_32_bit_addresses() -> None:
    symbols = KernelSymbols.parse(b"c0008000 T _text\nc0008040 T run\nc0009000 B _end\nbf000000 t f\t[m]\n")
    assert symbols.resolve(0xC0008044) == KernelSymbol("run", 4)
    assert symbols.resolve(0xBF000004) == KernelSymbol("f", 4, "m")
    assert symbols.resolve(0xFFFFFFFFC0008044) is None


def test_nothing() -> None:
    symbols = KernelSymbols.parse(b"")
    assert symbols.resolve(0xFFFFFFFF81000000) is None
    assert symbols.find("x") is None
    assert list(symbols.names()) == []
    assert not symbols.hidden


@pytest.mark.parametrize(
    "data", [b"\n", b"no symbols\n", b"ffffffff81000000T_text\n", b"\x7fELF", b"12 T a\n"]
)
def test_other_files(data: bytes) -> None:
    with pytest.raises(FormatError):
        KernelSymbols.parse(data)


def test_every_entry_of_a_name_with_its_letter() -> None:
    text = b"ffffffff81000000 T one\nffffffff81000100 d one\nffffffff82000000 t two\nffffffffc0000000 t one\t[mod]\n"
    symbols = KernelSymbols(text)
    assert symbols.entries("one") == [
        (0xFFFFFFFF81000000, "T", ""),
        (0xFFFFFFFF81000100, "d", ""),
        (0xFFFFFFFFC0000000, "t", "mod"),
    ]
    assert symbols.entries("on") == []
