"""Bytes and instructions."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tracebee.errors import FormatError
from tracebee.insn import (
    LDDW,
    EncodeError,
    Insn,
    KernelSymbol,
    Kfunc,
    Label,
    MapFd,
    MapValue,
    Ref,
    decode,
    encode,
    resolve,
)
from tracebee.insn import opcodes as op
from tracebee.insn.codec import CALL, GOTO, GOTOL, aim, reach, slot_count

EXIT = Insn(op.BPF_JMP | op.BPF_EXIT)


def little(insns: list[Insn], **values: int) -> str:
    """The little-endian bytes as hex; names are bound to the keyword arguments."""

    def bind(ref: Ref) -> int:
        return values[getattr(ref, "name", "")]

    return encode(insns, bind, byteorder="little").hex(" ", 8)


def test_the_example_of_the_rfc_in_both_byte_orders() -> None:
    insn = Insn(op.BPF_ALU64 | op.BPF_ADD | op.BPF_K, 1, imm=0x11223344)
    assert encode([insn], byteorder="little").hex(" ") == "07 01 00 00 44 33 22 11"
    assert encode([insn], byteorder="big").hex(" ") == "07 10 00 00 11 22 33 44"
    assert decode(bytes.fromhex("07 10 00 00 11 22 33 44"), byteorder="big") == [insn]


def test_the_machines_byte_order_is_the_default() -> None:
    insn = Insn(op.BPF_STX | op.BPF_MEM | op.BPF_DW, 10, 1, -8)
    assert encode([insn]) == encode([insn], byteorder=sys.byteorder)


def test_signed_fields() -> None:
    insn = Insn(op.BPF_ST | op.BPF_MEM | op.BPF_W, 10, 0, -4, -2)
    data = bytes.fromhex("62 0a fc ff fe ff ff ff")
    assert encode([insn], byteorder="little") == data
    assert decode(data, byteorder="little") == [insn]


def test_a_wide_load_is_one_instruction_of_two_slots() -> None:
    insn = Insn(LDDW, 3, imm=0xFEDCBA9876543210)
    assert insn.slots == 2
    assert EXIT.slots == 1
    assert slot_count([insn, EXIT]) == 3
    assert little([insn]) == "1803000010325476 0000000098badcfe"
    assert decode(encode([insn, EXIT])) == [insn, EXIT]


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        ("95 00 00 00 00 00 00", 0),
        ("95 00 00 00 00 00 00 00 95", 8),
        ("95 00 00 00 00 00 00 00 18 00 00 00 00 00 00 00", 16),
        ("18 00 00 00 00 00 00 00 18 00 00 00 00 00 00 00", 8),
        ("18 00 00 00 00 00 00 00 00 10 00 00 00 00 00 00", 8),
        ("95 00 00 00 00 00 00 00 18 00 00 00 00 00 00 00 00 00 01 00 00 00 00 00", 16),
    ],
)
def test_bad_bytes(data: str, offset: int) -> None:
    with pytest.raises(FormatError) as caught:
        decode(bytes.fromhex(data))
    assert caught.value.offset == offset


def test_decode_does_not_judge_opcodes() -> None:
    data = bytes(range(0x80, 0x80 + 64))
    assert encode(decode(data)) == data


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_decode_takes_any_buffer(kind: Any) -> None:
    assert decode(kind(encode([EXIT]))) == [EXIT]


def test_refs_are_told_apart_by_class() -> None:
    assert Label("x") != MapFd("x")
    assert len({Label("x"), MapFd("x"), Kfunc("x"), KernelSymbol("x"), Label("x")}) == 4


def test_binding_maps_and_kernel_names() -> None:
    assert little([Insn(LDDW, 1, 1, ref=MapFd("m"))], m=7) == "1811000007000000 0000000000000000"
    assert little([Insn(LDDW, 1, 2, ref=MapValue("m", 16))], m=7) == "1821000007000000 0000000010000000"
    assert little([Insn(LDDW, 1, 3, ref=KernelSymbol("s"))], s=5 << 32 | 9) == (
        "1831000009000000 0000000005000000"
    )
    assert little([Insn(CALL, src=2, ref=Kfunc("f"))], f=3 << 32 | 9) == "8520030009000000"


def test_binding_a_label_takes_its_slot() -> None:
    wide = Insn(LDDW, 1)
    assert little([wide, Insn(GOTO, ref=Label("a"))], a=0)[-16:] == "0500fdff00000000"
    assert little([wide, Insn(GOTOL, ref=Label("a"))], a=100000)[-16:] == "060000009d860100"
    assert little([wide, Insn(CALL, src=1, ref=Label("a"))], a=5)[-16:] == "8510000002000000"
    assert little([Insn(LDDW, 2, 4, ref=Label("a"))], a=0) == "18420000ffffffff 0000000000000000"


def test_resolve_gives_the_same_bytes_as_encode() -> None:
    insns = [Insn(LDDW, 1, 2, ref=MapValue("m", 4)), Insn(GOTO, ref=Label("a")), EXIT]
    values = {"m": 3, "a": 1}

    def bind(ref: Ref) -> int:
        return values[getattr(ref, "name", "")]

    resolved = resolve(insns, bind)
    assert all(insn.ref is None for insn in resolved)
    assert encode(resolved) == encode(insns, bind)


@pytest.mark.parametrize(
    ("insn", "value", "reason"),
    [
        (Insn(LDDW, 1, 1, ref=MapFd("m")), None, "MapFd(name='m') is not bound"),
        (Insn(LDDW, 1, 1, ref=MapFd("m")), -1, "no descriptor"),
        (Insn(LDDW, 1, 1, ref=MapFd("m")), 1 << 32, "no descriptor"),
        (Insn(LDDW, 1, 2, ref=MapValue("m", 1 << 32)), 3, "does not fit 64 bits"),
        (Insn(GOTO, ref=MapFd("m")), 3, "opcode 0x05 has no place for MapFd"),
        (Insn(LDDW, ref=Kfunc("f")), 3, "has no place for Kfunc"),
        (Insn(op.BPF_ALU, ref=Label("a")), 3, "has no place for Label"),
        (Insn(GOTO, ref=Label("a")), 40000, "offset 39998 does not fit 16 bits"),
        (Insn(op.BPF_ALU, 16), None, "registers 16 and 0"),
        (Insn(op.BPF_ALU, 0, -1), None, "registers 0 and -1"),
        (Insn(op.BPF_ALU, off=0x8000), None, "offset 32768"),
        (Insn(op.BPF_ALU, imm=1 << 31), None, "immediate 2147483648 does not fit 32 bits"),
        (Insn(LDDW, imm=-1), None, "immediate -1 does not fit 64 bits, unsigned"),
        (Insn(LDDW, imm=1 << 64), None, "does not fit 64 bits"),
        (Insn(256), None, "opcode 256"),
    ],
)
def test_what_cannot_be_encoded(insn: Insn, value: int | None, reason: str) -> None:
    with pytest.raises(EncodeError, match="instruction 1: ") as caught:
        encode([EXIT, insn], None if value is None else lambda _: value)
    assert reason in caught.value.reason
    assert caught.value.insn == insn
    assert caught.value.index == 1
    assert caught.value.offset == 8


def test_errors_of_the_binder_pass_through() -> None:
    def bind(_: Ref) -> int:
        raise LookupError("no such map")

    with pytest.raises(LookupError, match="no such map"):
        encode([Insn(LDDW, 1, 1, ref=MapFd("m"))], bind)


def test_reach_and_aim() -> None:
    for insn in (Insn(GOTO), Insn(GOTOL), Insn(CALL, src=1), Insn(LDDW, 1, 4), Insn(0x15, 1), Insn(0xE5)):
        assert reach(aim(insn, -5)) == -5
    for insn in (EXIT, Insn(CALL, imm=5), Insn(LDDW, imm=5), Insn(0xB7, 1, imm=2), Insn(0x0D, 1)):
        assert reach(insn) is None
    assert reach(Insn(GOTO, ref=Label("a"))) is None
