"""Text to instructions."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracebee.errors import FormatError
from tracebee.insn import LDDW, Insn, Kfunc, Label, MapFd, MapValue, encode
from tracebee.insn.asm import AsmError, assemble
from tracebee.insn.codec import CALL, GOTO, GOTOL
from tracebee.insn.disasm import disassemble, label_targets

ROWS = [
    (row[:47].strip(), row[53:])
    for row in (Path(__file__).parent / "encodings.txt").read_text().splitlines()
    if not row.startswith("#")
]


@pytest.mark.parametrize(("data", "text"), ROWS)
def test_known_encodings(data: str, text: str) -> None:
    assert encode(assemble(text), byteorder="little").hex(" ") == data


PROGRAM = """
# a comment of the shell kind
; and one of the verifier's
start:  r1 = map[counts][0]+8   ; trailing
        r2 = 1                  // trailing too
        lock *(u64 *)(r1+0) += r2
        if r2 == 0x1 goto done
        call bpf_ktime_get_ns
        call ktime_get_ns
        call 5
        call #5
        call sum
        call local sum
        goto start

done:
out:    exit
sum:    r3 = subprog[sum]
        exit
"""


def test_a_program_with_labels() -> None:
    assert assemble(PROGRAM) == (
        Insn(LDDW, 1, 2, ref=MapValue("counts", 8)),
        Insn(0xB7, 2, imm=1),
        Insn(0xDB, 1, 2),
        Insn(0x15, 2, off=7, imm=1),
        Insn(CALL, imm=5),
        Insn(CALL, imm=5),
        Insn(CALL, imm=5),
        Insn(CALL, imm=5),
        Insn(CALL, src=1, imm=3),
        Insn(CALL, src=1, imm=2),
        Insn(GOTO, off=-12),
        Insn(0x95),
        Insn(LDDW, 3, 4, imm=0xFFFFFFFF),
        Insn(0x95),
    )


def test_labels_come_back_from_the_disassembler() -> None:
    insns = assemble(PROGRAM)
    for slots in (False, True):
        for opcodes in (False, True):
            lines = disassemble(insns, slots=slots, opcodes=opcodes, labels=label_targets(insns))
            assert assemble("\n".join(lines)) == insns


def test_lines_of_the_verifier() -> None:
    text = """
       0: (18) r1 = 0x5                      ; R1_w=5
       2: (b7) r1 = 5
       3: (a5) if r1 < 0xfffffffe goto pc+1
       4: (85) call bpf_map_lookup_elem#1
       5: (85) call bpf_task_from_pid#68530
       6: (85) call pc+0#bpf_prog_f
    """
    assert assemble(text) == (
        Insn(LDDW, 1, imm=5),
        Insn(0xB7, 1, imm=5),
        Insn(0xA5, 1, 0, 1, -2),
        Insn(CALL, imm=1),
        Insn(CALL, src=2, imm=68530),
        Insn(CALL, src=1),
    )


@pytest.mark.parametrize(
    ("text", "insn"),
    [
        ("r1=5", Insn(0xB7, 1, imm=5)),
        ("r1 = +0x10", Insn(0xB7, 1, imm=16)),
        ("w1 = 0xffffffff", Insn(0xB4, 1, imm=-1)),
        ("r1 = 0xffffffff", Insn(LDDW, 1, imm=0xFFFFFFFF)),
        ("r1 = -1 ll", Insn(LDDW, 1, imm=(1 << 64) - 1)),
        ("r1 = *(u8 *)(r2)", Insn(0x71, 1, 2)),
        ("r1 = *(u8 *)(r2 + 3)", Insn(0x71, 1, 2, 3)),
        ("*(u8 *)(r1 +0) = 0xff", Insn(0x72, 1, imm=255)),
        ("*(u32 *)(r1 +0) = 0xffffffff", Insn(0x62, 1, imm=-1)),
        ("r1 = map[id:3]", Insn(LDDW, 1, 1, imm=3)),
        ("r1 = map[fd]", Insn(LDDW, 1, 1, ref=MapFd("fd"))),
        ('r1 = map["two words"]', Insn(LDDW, 1, 1, ref=MapFd("two words"))),
        ("call kfunc f", Insn(CALL, src=2, ref=Kfunc("f"))),
        ("call kfunc f#7", Insn(CALL, src=2, imm=7)),
        ("\texit\r", Insn(0x95)),
    ],
)
def test_spellings(text: str, insn: Insn) -> None:
    assert assemble(text) == (insn,)


def test_external_labels_stay_symbolic() -> None:
    text = "call local elsewhere\ngotol away\nr1 = subprog[there]"
    insns = assemble(text, external=True)
    assert insns == (
        Insn(CALL, src=1, ref=Label("elsewhere")),
        Insn(GOTOL, ref=Label("away")),
        Insn(LDDW, 1, 4, ref=Label("there")),
    )
    assert disassemble(insns, slots=False, opcodes=False) == text.split("\n")


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "hint"),
    [
        ("exit\nr11 = 0", 2, 1, "there is no register r11", "r0 to r10"),
        ("r1 = r12", 1, 6, "there is no register r12", "r0 to r10"),
        ("r1 = w2", 1, 6, "expected a 64-bit register", ""),
        ("mov r1, r2", 1, 1, "no instruction starts with 'mov'", "gotol"),
        ("r1", 1, 3, "expected an operator such as += or =, not 'the end of the line'", ""),
        ("r1 ?= 3", 1, 4, "unexpected character '?'", ""),
        ("r1 == 3", 1, 4, "there is no operator '=='", ""),
        ("r1 = 12ab", 1, 6, "not a number", ""),
        ("r1 += 0xffffffff", 1, 7, "the immediate must be from", "rN = number ll"),
        ("r1 = 0x10000000000000000", 1, 6, "the immediate must be from", ""),
        ("r1 = " + "9" * 5000, 1, 6, "the number is too large", ""),
        ("r1 = -r2", 1, 7, "the register here must be r1", ""),
        ("r1 = be16 r2", 1, 11, "the register here must be r1", ""),
        ("w1 = (s32)w2", 1, 7, "nothing to extend", ""),
        ("r1 = *(u128 *)(r2 +0)", 1, 8, "expected a type, not 'u128'", "u8, u16, u32, u64, s8"),
        ("*(s8 *)(r2 +0) = r1", 1, 3, "expected a type, not 's8'", "types here are u8"),
        ("r1 = *(u8 *)(r2 +40000)", 1, 17, "the offset must be from -32768 to 32767", ""),
        ("r1 = *(u8 *)skb[3]", 1, 8, "a packet is loaded to r0", ""),
        ("r0 = *(u64 *)skb[3]", 1, 8, "8 bytes of a packet", ""),
        ("lock *(u8 *)(r1 +0) += r2", 1, 8, "atomic operations are on u32 and u64", ""),
        ("lock *(u64 *)(r1 +0) -= r2", 1, 22, "no atomic operation '-='", "+="),
        ("r2 = atomic_xchg((u64 *)(r1 +0), r2)", 1, 6, "atomic_xchg is on u32, not u64", ""),
        ("r3 = atomic_xchg((u32 *)(r1 +0), r2)", 1, 34, "the register here must be r3", ""),
        ("r1 = atomic_cmpxchg((u32 *)(r1 +0), r0, r2)", 1, 6, "has its result in r0", ""),
        ("if r1 ~ 5 goto x", 1, 7, "unexpected character '~'", ""),
        ("if r1 = 5 goto x", 1, 7, "expected a comparison, not '='", "=="),
        ("if r1 == 5 exit", 1, 12, "expected 'goto', not 'exit'", ""),
        ("if r1 == 4294967295 goto pc+1", 1, 10, "the immediate must be from", "sign-extended"),
        ("exit\ngoto nowhere", 2, 6, "label 'nowhere' is not defined", ""),
        ("a:\na:", 2, 1, "label 'a' is defined twice", ""),
        ("call bpf_ktime_get_sn", 1, 6, "neither a label nor a helper", "did you mean bpf_ktime_get_ns?"),
        ("call bpf_rcu_read_lockk", 1, 6, "neither a label nor a helper", ""),
        ("call bpf_ktime_get_ns#6", 1, 6, "bpf_ktime_get_ns is helper 5, not 6", ""),
        ("call bpf_ktime_get_ns#999", 1, 6, "bpf_ktime_get_ns is helper 5, not 999", ""),
        ("r1 = mop[x]", 1, 6, "no address mop[…]", "map[…]"),
        ("r1 = map[x", 1, 11, "expected ']'", ""),
        ('r1 = map["x]', 1, 10, "the string has no end", ""),
        (r'r1 = map["\q"]', 1, 10, "not a JSON string", ""),
        ("exit exit", 1, 6, "expected the end of the line, not 'exit'", ""),
        ("(b7) r1 += 5", 1, 6, "opcode b7 is not of this instruction, which has 07", ""),
        ("3: (b7)", 1, 8, "an opcode, but no instruction", ""),
        ("r1 = addr_space_cast(r2, 1, 1)", 1, 29, "the address space that it is from", ""),
        (".insn code=1 dst=16", 1, 18, "the field dst must be from 0 to 15", ""),
    ],
)
def test_errors_say_where_and_what(text: str, line: int, column: int, message: str, hint: str) -> None:
    with pytest.raises(AsmError) as caught:
        assemble(text)
    error = caught.value
    assert isinstance(error, FormatError)
    assert (error.line, error.column) == (line, column)
    assert message in error.message
    assert hint in error.hint
    assert error.text == text.split("\n")[line - 1]
    assert str(error) == f"{line}:{column}: {error.message}"


def test_a_label_too_far_away() -> None:
    text = "goto end\n" + "exit\n" * 32768 + "end: exit"
    with pytest.raises(AsmError, match="too far") as caught:
        assemble(text)
    assert (caught.value.line, caught.value.column) == (1, 6)
    assert assemble(text.replace("goto", "gotol"))[0] == Insn(GOTOL, imm=32768)
