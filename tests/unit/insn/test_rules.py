"""Which instructions exist."""

from __future__ import annotations

import pytest

from tracebee.insn import LDDW, Insn, Kfunc, Label, MapFd, MapValue
from tracebee.insn import opcodes as op
from tracebee.insn.codec import CALL, GOTO
from tracebee.insn.rules import validate

MOV_X = op.BPF_ALU64 | op.BPF_MOV | op.BPF_X
ATOMIC64 = op.BPF_STX | op.BPF_ATOMIC | op.BPF_DW


def opcodes_of_the_rfc() -> set[int]:
    """Appendix A of RFC 9669, as ranges of opcodes."""
    known = {0x18, 0x05, 0x06, 0x85, 0x95, 0xD4, 0xD7, 0xDC, 0x84, 0x87, 0xC3, 0xDB}
    for size in (0x00, 0x08, 0x10, 0x18):
        known |= {0x61 | size, 0x62 | size, 0x63 | size}
        if size != 0x18:
            known |= {0x20 | size, 0x40 | size, 0x81 | size}
    for operation in (0x0, 0x1, 0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x9, 0xA, 0xB, 0xC):
        known |= {operation << 4 | low for low in (0x4, 0x7, 0xC, 0xF)}
    for operation in (0x1, 0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0xA, 0xB, 0xC, 0xD):
        known |= {operation << 4 | low for low in (0x5, 0x6, 0xD, 0xE)}
    return known


def test_every_opcode_of_the_rfc_and_no_other() -> None:
    immediates = (0, 16)
    valid = {
        code
        for code in range(256)
        if any(validate(Insn(code, imm=imm), linux=False) is None for imm in immediates)
    }
    assert valid == opcodes_of_the_rfc()


def test_linux_adds_one_opcode() -> None:
    assert validate(Insn(0xE5, off=3)) is None
    assert validate(Insn(0xE5, off=3), linux=False) == "there is no instruction with opcode 0xe5"


@pytest.mark.parametrize(
    "insn",
    [
        Insn(0x37, 1, 0, 1, 5),
        Insn(0x3C, 1, 2, 1),
        Insn(MOV_X, 1, 2, 8),
        Insn(MOV_X, 1, 2, 32),
        Insn(ATOMIC64, 1, 2, 8, op.BPF_ADD | op.BPF_FETCH),
        Insn(ATOMIC64, 10, 2, -8, op.BPF_CMPXCHG),
        Insn(LDDW, 1, 0, 0, (1 << 64) - 1),
        Insn(LDDW, 1, op.BPF_PSEUDO_MAP_VALUE, 0, 3 | 8 << 32),
        Insn(LDDW, 1, op.BPF_PSEUDO_MAP_FD, ref=MapFd("m")),
        Insn(CALL, 0, op.BPF_PSEUDO_KFUNC_CALL, 0, 99),
        Insn(0x7B, 10, 10, -8),
    ],
)
def test_instructions_of_the_rfc(insn: Insn) -> None:
    assert validate(insn, linux=False) is None


@pytest.mark.parametrize(
    "insn",
    [
        Insn(ATOMIC64, 1, 2, 8, op.BPF_LOAD_ACQ),
        Insn(op.BPF_STX | op.BPF_ATOMIC | op.BPF_B, 1, 2, 8, op.BPF_STORE_REL),
        Insn(MOV_X, 1, 2, op.BPF_ADDR_SPACE_CAST, 1 << 16),
        Insn(CALL, 0, op.BPF_PSEUDO_KFUNC_CALL, 1, 99),
        Insn(LDDW, 1, op.BPF_PSEUDO_BTF_ID, 0, 5 | 7 << 32),
    ],
)
def test_instructions_of_linux(insn: Insn) -> None:
    assert validate(insn) is None
    assert validate(insn, linux=False) is not None


@pytest.mark.parametrize(
    ("insn", "complaint"),
    [
        (Insn(0x00), "no instruction with opcode 0x00"),
        (Insn(0x8F, 1), "no instruction with opcode 0x8f"),
        (Insn(0x8D, 1), "no instruction with opcode 0x8d"),
        (Insn(300), "no instruction with opcode 0x12c"),
        (Insn(0xB7, 1, 2, 0, 5), "the src field is not used and must be 0, not 2"),
        (Insn(0xBF, 1, 2, 0, 5), "the immediate field is not used"),
        (Insn(0x07, 1, 0, 1, 5), "the offset field is not used"),
        (Insn(0xB7, 1, 0, 8, 5), "the offset field is not used"),
        (Insn(0x95, 1), "the dst field is not used"),
        (Insn(0x87, 1, 0, 0, 1), "the immediate field is not used"),
        (Insn(0x61, 1, 2, 3, 4), "the immediate field is not used"),
        (Insn(0x62, 1, 2, 3, 4), "the src field is not used"),
        (Insn(0x05, off=1, imm=1), "the immediate field is not used"),
        (Insn(0x06, off=1, imm=1), "the offset field is not used"),
        (Insn(0x37, 1, 0, 2, 5), "no division with offset 2"),
        (Insn(MOV_X, 1, 2, 9), "no move with offset 9"),
        (Insn(0xBC, 1, 2, 32), "no move with offset 32"),
        (Insn(MOV_X, 1, 2, 1, 7), "no cast between address spaces with immediate 0x7"),
        (Insn(0xD7, 1, 0, 0, 24), "no byte swap of 24 bits"),
        (Insn(0xDF, 1, 0, 0, 16), "no instruction with opcode 0xdf"),
        (Insn(ATOMIC64, 1, 2, 0, 0x20), "no atomic operation 0x20 on 8 bytes"),
        (Insn(0xD3, 1, 2, 0, 0), "no atomic operation 0x0 on 1 bytes"),
        (Insn(LDDW, 1, 7), "no kind 7 of 64-bit immediate"),
        (Insn(LDDW, 1, 1, 0, 1 << 32), "the second immediate is not used and must be 0, not 0x1"),
        (Insn(LDDW, 1, 0, 2), "the offset field is not used"),
        (Insn(LDDW, 1, imm=-1), "does not fit 64 bits"),
        (Insn(CALL, src=3), "no kind 3 of call"),
        (Insn(CALL, off=3), "the offset field is not used"),
        (Insn(0xE5, src=2), "no kind 2 of conditional pseudo jump"),
        (Insn(0xB7, 11), "no register r11"),
        (Insn(0x1D, 1, 12), "no register r12"),
        (Insn(0xB7, 10), "r10 is the frame pointer and cannot be written"),
        (Insn(0x79, 10, 1), "r10 is the frame pointer"),
        (Insn(ATOMIC64, 1, 10, 0, op.BPF_XCHG), "r10 is the frame pointer"),
        (Insn(ATOMIC64, 10, 1, 0, op.BPF_LOAD_ACQ), "r10 is the frame pointer"),
        (Insn(0x61, 1, 2, 40000), "the offset 40000 does not fit 16 bits"),
        (Insn(0xB7, 1, imm=1 << 31), "does not fit 32 bits"),
        (Insn(0xB7, 1, ref=MapFd("m")), "no place for MapFd(name='m')"),
        (Insn(LDDW, 1, op.BPF_PSEUDO_MAP_FD, ref=MapValue("m")), "no place for MapValue"),
        (Insn(CALL, ref=Kfunc("f")), "no place for Kfunc"),
        (Insn(0x95, ref=Label("a")), "no place for Label"),
    ],
)
def test_complaints(insn: Insn, complaint: str) -> None:
    assert complaint in (validate(insn) or "")


def test_labels_fit_jumps() -> None:
    for insn in (Insn(GOTO), Insn(0x06), Insn(0x15), Insn(0xE5), Insn(CALL, src=1), Insn(LDDW, 1, 4)):
        assert validate(insn._replace(ref=Label("a"))) is None
