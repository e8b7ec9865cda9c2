"""Instructions as text."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracebee.insn import LDDW, Insn, KernelSymbol, Kfunc, Label, MapFd, MapValue, decode
from tracebee.insn.codec import CALL, GOTO
from tracebee.insn.disasm import disassemble, format_insn, label_targets

ROWS = [
    (row[:47].strip(), row[53:])
    for row in (Path(__file__).parent / "encodings.txt").read_text().splitlines()
    if not row.startswith("#")
]


@pytest.mark.parametrize(("data", "text"), ROWS)
def test_known_encodings(data: str, text: str) -> None:
    (insn,) = decode(bytes.fromhex(data), byteorder="little")
    assert format_insn(insn, opcodes=False) == text


def test_opcodes_are_shown_as_the_verifier_shows_them() -> None:
    assert format_insn(Insn(0xB7, imm=0)) == "(b7) r0 = 0"
    # Beside its opcode a 64-bit immediate needs no mark.
    assert format_insn(Insn(LDDW, 1, imm=5)) == "(18) r1 = 0x5"


@pytest.mark.parametrize(
    ("insn", "text"),
    [
        (Insn(LDDW, 1, 1, ref=MapFd("events")), "r1 = map[events]"),
        (Insn(LDDW, 1, 1, ref=MapFd("a b]")), 'r1 = map["a b]"]'),
        (Insn(LDDW, 1, 2, ref=MapValue("globals", 8)), "r1 = map[globals][0]+8"),
        (Insn(LDDW, 1, 3, ref=KernelSymbol("jiffies")), "r1 = ksym[jiffies]"),
        (Insn(LDDW, 1, 4, ref=Label("visit")), "r1 = subprog[visit]"),
        (Insn(CALL, src=2, ref=Kfunc("bpf_rcu_read_lock")), "call kfunc bpf_rcu_read_lock"),
        (Insn(CALL, src=1, ref=Label("sum")), "call local sum"),
        (Insn(GOTO, ref=Label("again")), "goto again"),
        (Insn(GOTO, ref=Label("pc+1")), 'goto "pc+1"'),
        (Insn(GOTO, ref=Label("")), 'goto ""'),
        (Insn(GOTO, ref=MapFd("m")), ".insn code=0x05 dst=0 src=0 off=0 imm=0 ; MapFd(name='m')"),
        (Insn(0xB7, 10, imm=1), "r10 = 1"),
        (Insn(CALL, imm=9999), "call unknown#9999"),
    ],
)
def test_names_and_oddities(insn: Insn, text: str) -> None:
    assert format_insn(insn, opcodes=False) == text


LOOP = [
    Insn(0xB7, 1, imm=3),
    Insn(LDDW, 2, 4, 0, 4),
    Insn(0x17, 1, imm=1),
    Insn(0x55, 1, off=-2),
    Insn(CALL, src=1, imm=1),
    Insn(0x95),
    Insn(0xB7, 0),
    Insn(0x95),
]


def test_lines_count_slots() -> None:
    assert disassemble(LOOP) == [
        "   0: (b7) r1 = 3",
        "   1: (18) r2 = subprog[+5]",
        "   3: (17) r1 -= 1",
        "   4: (55) if r1 != 0x0 goto pc-2",
        "   5: (85) call pc+1",
        "   6: (95) exit",
        "   7: (b7) r0 = 0",
        "   8: (95) exit",
    ]


def test_labels_and_comments() -> None:
    lines = disassemble(
        LOOP,
        slots=False,
        opcodes=False,
        labels=label_targets(LOOP) | {2: "inside", 9: "end"},
        comments={0: "a = 3", 5: "one\ntwo"},
    )
    assert lines == [
        "; a = 3",
        "r1 = 3",
        "r2 = subprog[func_6]",
        "L3:",
        "r1 -= 1",
        "if r1 != 0x0 goto L3",
        "; one",
        "; two",
        "call local func_7",
        "func_6:",
        "exit",
        "func_7:",
        "r0 = 0",
        "exit",
        "end:",
    ]


def test_map_ids() -> None:
    insns = [Insn(LDDW, 1, 1, imm=42), Insn(LDDW, 2, 2, imm=42 | 8 << 32)]
    assert disassemble(insns, opcodes=False, map_ids=True) == [
        "   0: r1 = map[id:42]",
        "   2: r2 = map[id:42][0]+8",
    ]


def test_names_of_kernel_functions() -> None:
    insn = Insn(CALL, src=2, imm=68530)
    assert format_insn(insn, kfuncs={68530: "bpf_task_from_pid"}) == "(85) call kfunc bpf_task_from_pid#68530"
    assert format_insn(insn) == "(85) call kfunc#68530"
