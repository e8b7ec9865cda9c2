"""USDT notes and argument operands, the latter as compilers write them and as they might."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tracebee.errors import FormatError, NotSupportedError
from tracebee.host.elf import ElfFile
from tracebee.host.usdt import (
    UsdtArgument,
    UsdtProbe,
    arm64_register,
    parse_arguments,
    parse_note,
    read_probes,
    split_arguments,
    x86_register,
)

from . import elfwriter as w

if TYPE_CHECKING:
    from pathlib import Path


def argument(text: str, machine: str = "x86_64") -> UsdtArgument:
    (found,) = parse_arguments(text, machine)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-4@%eax", UsdtArgument(4, True, "reg", "rax")),
        ("8@%r10", UsdtArgument(8, False, "reg", "r10")),
        ("1@%ah", UsdtArgument(1, False, "reg", "rax", shift=8)),
        ("1@%sil", UsdtArgument(1, False, "reg", "rsi")),
        ("2@%r11w", UsdtArgument(2, False, "reg", "r11")),
        ("8f@%xmm3", UsdtArgument(8, False, "reg", "xmm3", is_float=True)),
        ("-4f@%xmm0", UsdtArgument(4, True, "reg", "xmm0", is_float=True)),
        ("4@$5", UsdtArgument(4, False, "const", offset=5)),
        ("-4@$-1", UsdtArgument(4, True, "const", offset=-1)),
        ("8@$0x10", UsdtArgument(8, False, "const", offset=16)),
        ("8@$010", UsdtArgument(8, False, "const", offset=8)),
        ("8@$counter", UsdtArgument(8, False, "const", symbol="counter")),
        ("8@$counter+8", UsdtArgument(8, False, "const", symbol="counter", offset=8)),
        ("8@(%rdi)", UsdtArgument(8, False, "deref", "rdi")),
        ("8@-16(%rbp)", UsdtArgument(8, False, "deref", "rbp", -16)),
        ("-4@0x18(%rsp)", UsdtArgument(4, True, "deref", "rsp", 24)),
        ("8@16+8(%rsp)", UsdtArgument(8, False, "deref", "rsp", 24)),
        ("8@8(%rax,%rbx,4)", UsdtArgument(8, False, "deref", "rax", 8, "rbx", 4)),
        ("8@(%rax,%rbx)", UsdtArgument(8, False, "deref", "rax", 0, "rbx", 1)),
        ("8@8(,%rbx,8)", UsdtArgument(8, False, "deref", "", 8, "rbx", 8)),
        ("-1@flag(%rip)", UsdtArgument(1, True, "deref", symbol="flag")),
        ("-1@flag+4(%rip)", UsdtArgument(1, True, "deref", symbol="flag", offset=4)),
        ("-1@4+flag(%rip)", UsdtArgument(1, True, "deref", symbol="flag", offset=4)),
        ("4@counter.0", UsdtArgument(4, False, "deref", symbol="counter.0")),
        ("4@table(,%rax,4)", UsdtArgument(4, False, "deref", index="rax", scale=4, symbol="table")),
        ("8@%fs:16", UsdtArgument(8, False, "deref", offset=16, segment="fs")),
        ("8@%fs:(%rax)", UsdtArgument(8, False, "deref", "rax", segment="fs")),
        ("8@%fs:errno@tpoff", UsdtArgument(8, False, "deref", symbol="errno@tpoff", segment="fs")),
        ("%rax", UsdtArgument(8, False, "reg", "rax")),
    ],
)
def test_x86_operands(text: str, expected: UsdtArgument) -> None:
    found = argument(text)
    assert found.text == text.partition("@")[2] or "@" not in text
    assert tuple(found._key()[:12]) == tuple(expected._key()[:12])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4@w0", UsdtArgument(4, False, "reg", "x0")),
        ("8@x29", UsdtArgument(8, False, "reg", "x29")),
        ("8@sp", UsdtArgument(8, False, "reg", "sp")),
        ("8f@d0", UsdtArgument(8, False, "reg", "v0", is_float=True)),
        ("-4@5", UsdtArgument(4, True, "const", offset=5)),
        ("-4@-5", UsdtArgument(4, True, "const", offset=-5)),
        ("8@#0x20", UsdtArgument(8, False, "const", offset=32)),
        ("8@xzr", UsdtArgument(8, False, "const")),
        ("-4@[x1]", UsdtArgument(4, True, "deref", "x1")),
        ("8@[sp, 16]", UsdtArgument(8, False, "deref", "sp", 16)),
        ("8@[sp,#-16]", UsdtArgument(8, False, "deref", "sp", -16)),
        ("8@[x0, x1]", UsdtArgument(8, False, "deref", "x0", 0, "x1")),
        ("8@[x0, x1, lsl 3]", UsdtArgument(8, False, "deref", "x0", 0, "x1", 8)),
        ("8@[x0, x1, lsl #3]", UsdtArgument(8, False, "deref", "x0", 0, "x1", 8)),
        ("8@[x0, w1, sxtw 2]", UsdtArgument(8, False, "deref", "x0", 0, "x1", 4, "sxtw")),
        ("8@[x0, w1, uxtw]", UsdtArgument(8, False, "deref", "x0", 0, "x1", 1, "uxtw")),
        ("8@[x0, w1, sxtw]", UsdtArgument(8, False, "deref", "x0", 0, "x1", 1, "sxtw")),
    ],
)
def test_arm64_operands(text: str, expected: UsdtArgument) -> None:
    assert tuple(argument(text, "aarch64")._key()[:12]) == tuple(expected._key()[:12])


@pytest.mark.parametrize(
    ("machine", "text"),
    [
        ("x86_64", text)
        for text in (
            "4@", "@%eax", "3@%eax", "four@%eax", "-@%eax", "4@%exx", "4@$", "4@(%rax", "4@%rax)", "4@()",
            "4@8(%rax,%rbx,3)", "4@8(%rax,%rbx,4,5)", "4@8(rax)", "4@[sp]", "4@a+b(%rip)", "4@-sym(%rip)",
            "4@(%rip,%rax)", "4@1x(%rax)", "4@$99999999999999999999999999", "100@%eax", "4@%xmm99", "4@%r99",
            "4@++", "4@%", "4@%fs:", "4@8+(%rax)",
        )
    ]
    + [
        ("aarch64", text)
        for text in (
            "4@", "4@x31", "4@%eax", "4@[w0]", "4@[sp, 16", "4@[]", "4@[x0, x1, lsl 9]", "4@[x0, x1, ror 1]",
            "4@[x0, 1, lsl 2]", "4@[x0, x1, lsl 1, 2]", "4@symbol", "4@[x0, ]", "4@#", "4@[x0, :lo12:sym]",
        )
    ],
)  # fmt: skip
def test_bad_operands(machine: str, text: str) -> None:
    with pytest.raises(FormatError):
        parse_arguments(text, machine)


def test_several_arguments() -> None:
    assert split_arguments(" 8@[sp, 16]  4@w0 8@[x0, x1, lsl 3]\n") == [
        "8@[sp, 16]",
        "4@w0",
        "8@[x0, x1, lsl 3]",
    ]
    assert [a.kind for a in parse_arguments("-4@%edi 8@-16(%rbp) 4@$5", "x86_64")] == [
        "reg",
        "deref",
        "const",
    ]
    assert parse_arguments("", "x86_64") == ()


def test_limits() -> None:
    with pytest.raises(FormatError):
        parse_arguments("4@%eax " * 10000, "x86_64")
    with pytest.raises(NotSupportedError):
        parse_arguments("4@r3", "ppc64")


def test_names_of_registers() -> None:
    whole = {
        "rax": ["rax", "eax", "ax", "al", "ah"],
        "rbp": ["rbp", "ebp", "bp", "bpl"],
        "r15": ["r15", "r15d", "r15w", "r15b", "r15l"],
        "rip": ["rip", "eip"],
        "xmm7": ["xmm7", "ymm7", "zmm7"],
    }
    for name, parts in whole.items():
        for part in parts:
            assert x86_register(part) == (name, 8 if part == "ah" else 0)
    for name in ("", "r", "r7", "eal", "rrax", "rh", "ip", "r15db", "axl", "xmm", "xmm-1"):
        assert x86_register(name) is None
    assert [arm64_register(name) for name in ("x30", "lr", "fp", "wsp", "s1", "", "x", "w31", "y0")] == [
        "x30", "x30", "x29", "sp", "v1", None, None, None, None,
    ]  # fmt: skip


# ---------------------------------------------------------------------- notes


def with_notes(*notes: bytes, base: int | None = None, is_64: bool = True, is_little: bool = True) -> ElfFile:
    writer = w.ElfWriter(is_64=is_64, is_little=is_little)
    writer.section(".note.stapsdt", w.SHT_NOTE, b"".join(notes), alignment=4)
    if base is not None:
        writer.section(".stapsdt.base", w.SHT_PROGBITS, b"\0", address=base)
    writer.section(".text", w.SHT_PROGBITS, bytes(0x3000))
    writer.segment(w.PT_LOAD, at=0, address=0x40000, file_size=0x2000)
    return ElfFile.parse(writer.build())


@pytest.mark.parametrize(("is_64", "is_little"), [(True, True), (True, False), (False, True), (False, False)])
def test_notes(is_64: bool, is_little: bool) -> None:
    shape = ("<" if is_little else ">") + ("QQQ" if is_64 else "III")
    first = w.usdt_note("prov", "one", "-4@%edi", pc=0x40100, semaphore=0x41000, shape=shape)
    other = w.note(b"other", 3, b"", order=shape[0])
    second = w.usdt_note("prov", "two", "", pc=0x40200, shape=shape)
    with with_notes(first, other, second, is_64=is_64, is_little=is_little) as elf:
        assert read_probes(elf) == [
            UsdtProbe("prov", "one", 0x40100, 0x100, 0x41000, 0x1000, "-4@%edi"),
            UsdtProbe("prov", "two", 0x40200, 0x200, 0, 0, ""),
        ]


def test_prelinked_notes() -> None:
    first = w.usdt_note("p", "n", "", pc=0x100, base=0x800, semaphore=0x1000)
    second = w.usdt_note("p", "m", "", pc=0x108, base=0x800)
    with with_notes(first, second, base=0x40800) as elf:
        probes = read_probes(elf)
        assert [(probe.address, probe.semaphore) for probe in probes] == [(0x40100, 0x41000), (0x40108, 0)]


def test_no_probes() -> None:
    with ElfFile.parse(w.ElfWriter().build()) as elf:
        assert read_probes(elf) == []


@pytest.mark.parametrize(
    "note",
    [
        w.usdt_note("p", "n", "", pc=0x10),  # outside of every segment
        w.usdt_note("p", "n", "", pc=0x40100, semaphore=0x10),
        w.usdt_note("", "n", "", pc=0x40100),
        w.usdt_note("p", "", "", pc=0x40100),
        w.note(b"stapsdt", 3, b"short"),
        w.note(b"stapsdt", 3, bytes(24) + b"provider\0name\0arguments without end"),
    ],
)
def test_bad_notes(note: bytes) -> None:
    with with_notes(note) as elf, pytest.raises(FormatError):
        read_probes(elf)


def test_a_note_by_itself() -> None:
    description = (1).to_bytes(8, "little") + (2).to_bytes(8, "little") + bytes(8) + b"p\0n\0a b\0\0\0"
    assert parse_note(description) == (1, 2, 0, ("p", "n", "a b"))


# What <sys/sdt.h> makes, written out so that no header is needed.
PROGRAM = r"""
#include <stdint.h>
__attribute__((section(".probes"))) uint16_t sema = 0;
#define PROBE(name, semaphore, text, ...) \
  __asm__ volatile("990: nop\n" \
    ".pushsection .note.stapsdt,\"\",\"note\"\n" \
    ".balign 4\n.4byte 992f-991f,994f-993f,3\n991: .asciz \"stapsdt\"\n992: .balign 4\n" \
    "993: .8byte 990b\n.8byte _.stapsdt.base\n.8byte " semaphore "\n" \
    ".asciz \"mine\"\n.asciz \"" name "\"\n.asciz \"" text "\"\n994: .balign 4\n.popsection\n" \
    ".ifndef _.stapsdt.base\n" \
    ".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n" \
    ".weak _.stapsdt.base\n.hidden _.stapsdt.base\n_.stapsdt.base: .space 1\n" \
    ".size _.stapsdt.base,1\n.popsection\n.endif\n" :: __VA_ARGS__)
int __attribute__((noinline)) work(int a, long *b) {
  PROBE("first", "sema", "-4@%[a] 8@%[b] -4@%[c]", [a] "nor"(a), [b] "nor"(*b), [c] "n"(17));
  PROBE("second", "0", "", "i"(0));
  return a + (int)*b;
}
int main(int argc, char **argv) { long x = argc; (void)argv; return work(argc, &x) == 99; }
"""


def test_a_compiled_program(tmp_path: Path) -> None:
    for command in ("gcc", "readelf"):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed")
    if platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("no operands of this machine")
    (tmp_path / "a.c").write_text(PROGRAM)
    binary = str(tmp_path / "a")
    subprocess.run(["gcc", "-O2", "-o", binary, str(tmp_path / "a.c")], check=True)
    text = subprocess.run(
        ["readelf", "--notes", "--wide", binary], check=True, capture_output=True, text=True
    ).stdout
    pattern = (
        r"Provider: (\S+)\s+Name: (\S+)\s+Location: (\w+), Base: \w+, Semaphore: (\w+)\s+Arguments:([^\n]*)"
    )
    expected = [
        (provider, name, int(location, 16), int(semaphore, 16), arguments.strip())
        for provider, name, location, semaphore, arguments in re.findall(pattern, text)
    ]
    assert len(expected) == 2
    with ElfFile.open(binary) as elf:
        probes = read_probes(elf)
        found = [(p.provider, p.name, p.address, p.semaphore, p.arguments) for p in probes]
        assert found == expected
        work = elf.find_function("work")
        assert work is not None
        assert work.address <= probes[0].address < work.address + work.size
        nop = b"\x90" if elf.machine == "x86_64" else b"\x1f\x20\x03\xd5"
        assert elf.read_at(probes[0].file_offset, len(nop)) == nop
        assert elf.read_at(probes[0].semaphore_offset, 2) == b"\0\0"
        first, second, third = parse_arguments(probes[0].arguments, elf.machine)
        assert (first.kind, first.size, first.signed) == ("reg", 4, True)
        assert (second.size, second.signed) == (8, False)
        assert (third.kind, third.offset) == ("const", 17)
