"""Conformance tests: their format, assembler and judge, on tests of our own; and the suite, if it is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tracebee.engine.conformance import assembled, expects_refusal, judge, parse
from tracebee.errors import FormatError
from tracebee.insn.codec import encode
from tracebee.syscalls.nativecode import Door

SUITE = "TRACEBEE_CONFORMANCE"
"""The variable that names a checkout of bpf_conformance, whose files then are tests here too."""

PATHS = ("fast", "reference", "native")

TESTS = {
    "moves": ("mov %r0, -1\nmov32 %r0, 7\nexit", "", "7"),
    "registers without a sign": ("mov r1, 3\nmov r0, r1\nexit", "", "3"),
    "a wide immediate": ("lddw %r0, 0x1122334455667788\nexit", "", "0x1122334455667788"),
    "unsigned immediates": ("mov %r0, 0xfffffff0\nexit", "", "0xfffffffffffffff0"),
    "narrow unsigned immediates": ("mov32 %r0, 0xfffffff0\nexit", "", "0xfffffff0"),
    "long immediates lose bits": ("mov32 %r0, 0x500000007\nexit", "", "7"),
    "arithmetic": (
        "mov %r0, 10\nadd %r0, 5\nsub %r0, 1\nmul %r0, 6\ndiv %r0, 4\nmod %r0, 16\nor %r0, 8\nand %r0, 12\n"
        "xor %r0, 1\nlsh %r0, 3\nrsh %r0, 1\narsh %r0, 1\nneg %r0\nexit",
        "",
        "0xffffffffffffffe6",
    ),
    "signed division": ("mov %r0, -13\nsdiv %r0, 4\nexit", "", "0xfffffffffffffffd"),
    "signed modulo": ("mov %r0, -13\nmov %r1, 4\nsmod32 %r0, %r1\nexit", "", "0xffffffff"),
    "sign extension": ("mov %r1, 0x80\nmovsx832 %r0, %r1\nexit", "", "0xffffff80"),
    "wide sign extension": ("mov %r1, 0x8001\nmovsx1664 %r0, %r1\nexit", "", "0xffffffffffff8001"),
    "byte orders": ("lddw %r0, 0x1122334455667788\nbe32 %r0\nle16 %r0\nexit", "", "0x6655"),
    "swaps": ("lddw %r0, 0x1122334455667788\nswap64 %r0\nbswap16 %r0\nexit", "", "0x1122"),
    "loads": (
        "ldxb %r0, [%r1]\nldxh %r2, [%r1+1]\nadd %r0, %r2\nldxw %r2, [%r1+0x3]\nadd %r0, %r2\n"
        "ldxdw %r2, [%r1 + 7]\nadd %r0, %r2\nexit",
        "01 02 00 03 00 00\n00 04 00 00 00 00 00 00 00",
        "10",
    ),
    "signed loads": (
        "ldxsb %r0, [%r1]\nldxsh %r2, [%r1+0]\nadd %r0, %r2\nexit",
        "ff ff",
        "0xfffffffffffffffe",
    ),
    "the size of memory": ("mov %r0, %r2\nexit", "00 01 02", "3"),
    "stores": (
        "stb [%r1], 1\nsth [%r1+1], 2\nstw [%r1+3], 3\nmov %r2, 4\nstxb [%r1+7], %r2\nldxdw %r0, [%r1]\nexit",
        "00 00 00 00 00 00 00 00",
        "0x0400000003000201",
    ),
    "the stack": (
        "stdw [%r10-8], -2\nldxw %r0, [%r10-4]\nmov %r1, 5\nstxdw [%r10-16], %r1\nldxdw %r1, [%r10-16]\n"
        "add %r0, %r1\nexit",
        "",
        "0x100000004",
    ),
    "labels and distances": (
        "mov %r0, 0\nja over\nback:\nadd %r0, 1\nja +1\nmov %r0, 9\nja32 exit\nover:\nadd %r0, 4\nja back\nexit",
        "",
        "5",
    ),
    "conditions": (
        "mov %r0, 0\nmov %r1, -1\njsgt %r1, 0, exit\njgt %r1, 0, +1\nexit\njsgt32 %r1, -1, exit\n"
        "jset32 %r1, %r1, good\nexit\ngood:\nmov %r0, 3\nja exit",
        "",
        "3",
    ),
    "an exit with a name": ("jeq %r0, 0, exit\nmov %r0, 1\nexit\nexit:\nmov %r0, 2\nexit", "", "2"),
    "calls": (
        "mov %r6, 1\nmov %r1, 30\ncall local f\nadd %r0, %r6\nexit\nf:\nmov %r6, 5\nmov %r0, %r1\nadd %r0, 11\nexit",
        "",
        "42",
    ),
    "the helper of the suite": ("mov %r1, 77\ncall 5\nexit", "", "77"),
    "a call by register": ("mov %r1, 78\nmov %r3, 5\ncall %r3\nexit", "", "78"),
    "a helper by kind": ("mov %r1, 79\ncall helper 5\nexit", "", "79"),
    "atomics": (
        "stdw [%r10-8], 5\nmov %r1, 3\nlock add [%r10-8], %r1\nlock fetch or [%r10-8], %r1\nmov %r0, 8\n"
        "mov %r2, 100\njne %r1, 8, exit\nldxdw %r0, [%r10-8]\nlock cmpxchg [%r10-8], %r2\nlock xchg32 [%r10-8], %r1\n"
        "mov %r0, %r1\nexit",
        "",
        "100",
    ),
}


def text_of(asm: str, memory: str, result: str) -> str:
    memory = f"-- mem\n{memory}\n" if memory else ""
    return f"# a test of our own\n-- asm\n# first\n{asm} # last\n{memory}-- result\n{result}\n"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", TESTS)
def test_our_tests_pass(name: str, path: str) -> None:
    if path == "native":
        pytest.importorskip("llvmlite", reason="the native path needs llvmlite")
    verdict = judge(text_of(*TESTS[name]), path=path, native=Door())
    assert (verdict.kind, verdict.text) == ("passed", "")


@pytest.mark.parametrize("name", TESTS)
def test_a_wrong_result_does_not(name: str) -> None:
    asm, memory, result = TESTS[name]
    wrong = text_of(asm, memory, str(int(result, 0) ^ 1 << 63))
    assert judge(wrong).kind == "failed"


def test_bytes_and_numbers() -> None:
    by_bytes = parse("-- raw\nb7 00 00 00 fe ff ff ff\n95 00 00 00 00 00 00 00\n-- result\n-2\n")
    by_numbers = parse("-- raw\n0xfffffffe000000b7\n149\n-- result\n0xfffffffffffffffe\n")
    assert by_bytes == by_numbers
    assert by_bytes.is_raw
    assert encode(by_bytes.insns, byteorder="little")[:8] == bytes.fromhex("b7 00 00 00 fe ff ff ff")
    assert by_bytes.result == (1 << 64) - 2


def test_maps() -> None:
    text = (
        "-- map\ncounts 2 4 8 3\n-- asm\nstw [r10-4], 1\nlddw r1, map_by_fd(counts)\nmov r2, r10\nadd r2, -4\n"
        "call bpf_map_lookup_elem\njeq r0, 0, exit\nldxdw r0, [r0]\nadd r0, 6\nexit\n-- result\n6\n"
    )
    assert judge(text).kind == "passed"
    assert judge(text.replace("map_by_fd(counts)", "map_by_fd(other)")).kind == "refused"


@pytest.mark.parametrize(
    "asm",
    [
        "movv %r0, 1",
        "mov %r0",
        "mov %r0, 1, 2",
        "mov %r11, 1",
        "mov %r10, 1",
        "mov 5, %r0",
        "mov %r0, five",
        "ldxb %r0, %r1",
        "ldxb %r0, [5+1]",
        "ja nowhere",
        "call bpf_no_such_helper",
        "call 99999",
        "call sideways 5",
        "call runtime 42",
        "lock add [%r10-8]",
        "lock nand [%r10-8], %r1",
        "lock",
        "lddw %r0, map[other]",
        "jeq %r0, 1",
        "jeq64 %r0, 1, exit",
        "be17 %r0",
        "call local nowhere",
        "twice:\ntwice:",
        "ja +5",
    ],
)
def test_what_cannot_be_assembled_or_run(asm: str) -> None:
    assert judge(text_of(f"{asm}\nexit", "", "0")).kind == "refused"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-- result\n0\n",
        "-- asm\nexit\n",
        "-- asm\nexit\n-- result\nzero\n",
        "-- asm\nexit\n-- surprise\n-- result\n0\n",
        "-- asm\nexit\n-- mem\n0\n-- result\n0\n",
        "-- raw\n95 00 00\n-- result\n0\n",
        "-- raw\n0x1ffffffffffffffff\n-- result\n0\n",
        "-- raw\nninety-five\n-- result\n0\n",
        "-- map\ncounts 2 4\n-- asm\nexit\n-- result\n0\n",
        "-- map\ncounts 99 4 4 4\n-- asm\nexit\n-- result\n0\n",
    ],
)
def test_what_is_no_test(text: str) -> None:
    with pytest.raises(FormatError):
        parse(text)
    assert judge(text).kind == "refused"


@pytest.mark.parametrize(
    "slot",
    [
        "b7 10 00 00 00 00 00 00",
        "95 01 00 00 00 00 00 00",
        "bf 10 00 00 01 00 00 00",
        "05 00 00 00 01 00 00 00",
    ],
)
def test_fields_that_must_be_zero(slot: str) -> None:
    text = f"-- raw\n{slot}\n95 00 00 00 00 00 00 00\n-- error\n"
    assert judge(text).kind == "refused"
    assert expects_refusal(text)
    assert judge("-- raw\nb7 00 00 00 00 00 00 00\n95 00 00 00 00 00 00 00\n-- error\n").kind == "failed"


def test_a_fault_is_a_failure() -> None:
    for asm in ("ldxb %r0, [%r1]\nexit", "again:\nja again"):
        assert judge(text_of(asm, "", "0")).kind == "failed"


def test_lines_of_the_assembler_keep_their_numbers_of_slots() -> None:
    insns = assembled(["lddw %r1, 5", "jeq %r1, 5, over", "mov %r0, 1", "over:", "exit"])
    assert [insn.off for insn in insns] == [0, 1, 0, 0]


# ---------------------------------------------------------------------- the suite itself


@pytest.mark.parametrize("path", PATHS)
def test_the_suite(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    if path == "native":
        pytest.importorskip("llvmlite", reason="the native path needs llvmlite")
    place = os.environ.get(SUITE)
    if not place:
        pytest.skip(f"no checkout of bpf_conformance is named by {SUITE}")
    from tracebee.cli.conformance import run

    folders = [str(folder) for name in ("tests", "negative") if (folder := Path(place, name)).is_dir()]
    assert folders
    assert run(["--path", path, *folders]) == 0, capsys.readouterr().out
