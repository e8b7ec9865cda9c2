"""The builder: what each emitter emits, and where labels end up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tracebee.errors import InternalError
from tracebee.insn import LDDW, Builder, Insn, Kfunc, MapFd, MapValue
from tracebee.insn import opcodes as op
from tracebee.insn.codec import GOTO, GOTOL
from tracebee.insn.disasm import format_insn
from tracebee.insn.rules import validate

Emit = Callable[[Builder], Any]


class Recorder(Builder):
    """A builder that keeps what it was given, labels unsettled."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Insn] = []

    def emit(self, insn: Insn) -> None:
        self.seen.append(insn)
        super().emit(insn)


@pytest.mark.parametrize(
    ("emit", "text"),
    [
        (lambda b: b.mov(1, 2), "r1 = r2"),
        (lambda b: b.alu(op.BPF_ADD, 1, 2), "r1 += r2"),
        (lambda b: b.alu(op.BPF_DIV, 1, 2), "r1 /= r2"),
        (lambda b: b.alu(op.BPF_DIV, 1, 2, signed=True), "r1 s/= r2"),
        (lambda b: b.alu_imm(op.BPF_AND, 1, -16), "r1 &= -16"),
        (lambda b: b.alu_imm(op.BPF_MOD, 1, 10, signed=True), "r1 s%= 10"),
        (lambda b: b.alu32(op.BPF_MOV, 1, 2), "w1 = w2"),
        (lambda b: b.alu32(op.BPF_MOD, 1, 2, signed=True), "w1 s%= w2"),
        (lambda b: b.alu32_imm(op.BPF_AND, 1, 0xFFFFFFF0), "w1 &= -16"),
        (lambda b: b.neg(3), "r3 = -r3"),
        (lambda b: b.neg(3, is32=True), "w3 = -w3"),
        (lambda b: b.endian(1, 16, "le"), "r1 = le16 r1"),
        (lambda b: b.endian(1, 32, "be"), "r1 = be32 r1"),
        (lambda b: b.endian(1, 64, "bswap"), "r1 = bswap64 r1"),
        (lambda b: b.movsx(1, 2, 32), "r1 = (s32)r2"),
        (lambda b: b.movsx(1, 2, 8, is32=True), "w1 = (s8)w2"),
        (lambda b: b.load(4, 1, 6, 8), "r1 = *(u32 *)(r6 +8)"),
        (lambda b: b.load_signed(2, 1, 6, -8), "r1 = *(s16 *)(r6 -8)"),
        (lambda b: b.store(8, 10, -8, 1), "*(u64 *)(r10 -8) = r1"),
        (lambda b: b.store_imm(1, 10, -1, 0xFF), "*(u8 *)(r10 -1) = 255"),
        (lambda b: b.store_imm(4, 10, -4, 0xFFFFFFFF), "*(u32 *)(r10 -4) = -1"),
        (lambda b: b.atomic(op.BPF_ADD, 8, 1, 0, 2), "lock *(u64 *)(r1 +0) += r2"),
        (lambda b: b.atomic(op.BPF_OR, 4, 1, 0, 2, fetch=True), "r2 = atomic_fetch_or((u32 *)(r1 +0), r2)"),
        (lambda b: b.atomic(op.BPF_XCHG, 8, 1, 0, 2), "r2 = atomic64_xchg((u64 *)(r1 +0), r2)"),
        (lambda b: b.atomic(op.BPF_CMPXCHG, 8, 1, 0, 2), "r0 = atomic64_cmpxchg((u64 *)(r1 +0), r0, r2)"),
        (lambda b: b.load_acquire(8, 1, 2, 0), "r1 = load_acquire((u64 *)(r2 +0))"),
        (lambda b: b.store_release(2, 1, 0, 2), "store_release((u16 *)(r1 +0), r2)"),
        (lambda b: b.jump("x"), "goto x"),
        (lambda b: b.jump_if(op.BPF_JSGE, 1, 2, "x"), "if r1 s>= r2 goto x"),
        (lambda b: b.jump_if(op.BPF_JEQ, 1, 2, "x", is32=True), "if w1 == w2 goto x"),
        (lambda b: b.jump_if_imm(op.BPF_JSET, 1, 8, "x"), "if r1 & 0x8 goto x"),
        (lambda b: b.jump_if_imm(op.BPF_JGT, 1, 0xFFFFFFFE, "x", is32=True), "if w1 > 0xfffffffe goto x"),
        (lambda b: b.may_goto("x"), "may_goto x"),
        (lambda b: b.call(14), "call bpf_get_current_pid_tgid#14"),
        (lambda b: b.call_local("x"), "call local x"),
        (lambda b: b.call_kfunc("bpf_iter_num_new"), "call kfunc bpf_iter_num_new"),
        (lambda b: b.exit(), "exit"),
        (lambda b: b.load_map(1, "events"), "r1 = map[events]"),
        (lambda b: b.load_map_value(1, "globals", 8), "r1 = map[globals][0]+8"),
        (lambda b: b.load_function(2, "x"), "r2 = subprog[x]"),
    ],
)
def test_emitters(emit: Emit, text: str) -> None:
    builder = Recorder()
    builder.label("x")
    emit(builder)
    assert [format_insn(insn, opcodes=False) for insn in builder.seen] == [text]
    assert builder.here == builder.seen[0].slots
    assert [validate(insn) for insn in builder.finish()] == [None]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "r1 = 0"),
        (-1, "r1 = -1"),
        ((1 << 64) - 1, "r1 = -1"),
        (0x7FFFFFFF, "r1 = 2147483647"),
        (-0x80000000, "r1 = -2147483648"),
        (0x80000000, "w1 = -2147483648"),
        (0xFFFFFFFF, "w1 = -1"),
        (0x100000000, "r1 = 0x100000000 ll"),
        (-0x80000001, "r1 = 0xffffffff7fffffff ll"),
        (0xFFFFFFFF80000000, "r1 = -2147483648"),
        (-(1 << 63), "r1 = 0x8000000000000000 ll"),
    ],
)
def test_mov_imm_takes_the_shortest_form(value: int, text: str) -> None:
    builder = Builder()
    builder.mov_imm(1, value)
    assert [format_insn(insn, opcodes=False) for insn in builder.finish()] == [text]


@pytest.mark.parametrize(
    "emit",
    [
        lambda b: b.mov_imm(1, 1 << 64),
        lambda b: b.mov_imm(1, -(1 << 63) - 1),
        lambda b: b.alu_imm(op.BPF_ADD, 1, 1 << 31),
        lambda b: b.alu32_imm(op.BPF_ADD, 1, 1 << 32),
        lambda b: b.alu(op.BPF_ADD, 1, 2, signed=True),
        lambda b: b.endian(1, 8, "be"),
        lambda b: b.movsx(1, 2, 32, is32=True),
        lambda b: b.load(3, 1, 2, 0),
        lambda b: b.load(8, 1, 2, 32768),
        lambda b: b.load_signed(8, 1, 2, 0),
        lambda b: b.store_imm(8, 1, 0, 0xFFFFFFFF),
        lambda b: b.atomic(op.BPF_ADD, 2, 1, 0, 2),
        lambda b: b.jump_if_imm(op.BPF_JEQ, 1, 0xFFFFFFFF, "x"),
    ],
)
def test_what_has_no_encoding_is_our_bug(emit: Emit) -> None:
    with pytest.raises(InternalError):
        emit(Builder())


def test_labels_count_slots_forwards_and_backwards() -> None:
    builder = Builder()
    builder.label("start")
    builder.mov_imm(1, 1 << 40)
    builder.jump_if_imm(op.BPF_JEQ, 1, 0, "end")
    builder.load_map(1, "m")
    builder.jump("start")
    builder.label("end")
    builder.label("also_end")
    builder.exit()
    insns = builder.finish()
    assert insns[1] == Insn(0x15, 1, off=3)
    assert insns[3] == Insn(GOTO, off=-6)
    assert builder.here == 7
    assert builder.finish() == insns


def test_map_and_kernel_references_stay() -> None:
    builder = Builder()
    builder.load_map(1, "m")
    builder.load_map_value(2, "m", 4)
    builder.call_kfunc("f")
    assert [insn.ref for insn in builder.finish()] == [MapFd("m"), MapValue("m", 4), Kfunc("f")]


def test_undefined_and_duplicate_labels() -> None:
    builder = Builder()
    builder.label("a")
    with pytest.raises(InternalError, match="'a' is defined twice"):
        builder.label("a")
    builder.jump("b")
    with pytest.raises(InternalError, match="'b' is not defined"):
        builder.finish()


def padded(emit: Emit, slots: int) -> tuple[Builder, tuple[Insn, ...]]:
    """A program with `slots` slots between what `emit` emits and the label "far"."""
    builder = Builder()
    emit(builder)
    for _ in range(slots // 2):
        builder.emit(Insn(LDDW))
    if slots % 2:
        builder.exit()
    builder.label("far")
    builder.exit()
    return builder, builder.finish()


def test_the_farthest_short_jump() -> None:
    _, insns = padded(lambda b: b.jump_if_imm(op.BPF_JEQ, 1, 0, "far"), 32767)
    assert insns[0] == Insn(0x15, 1, off=32767)


def test_an_unconditional_jump_becomes_long_in_place() -> None:
    builder, insns = padded(lambda b: b.jump("far"), 32768)
    assert insns[0] == Insn(GOTOL, imm=32768)
    assert builder.final_slot(32769) == 32769


def test_a_conditional_jump_is_inverted_around_a_long_one() -> None:
    builder, insns = padded(lambda b: b.jump_if(op.BPF_JSGT, 1, 2, "far", is32=True), 32768)
    less_or_equal = op.BPF_JMP32 | op.BPF_JSLE | op.BPF_X
    assert insns[:2] == (Insn(less_or_equal, 1, 2, 1), Insn(GOTOL, imm=32768))
    assert builder.final_slot(0) == 0
    assert builder.final_slot(1) == 2
    assert builder.final_slot(32769) == 32770


@pytest.mark.parametrize(
    "emit", [lambda b: b.jump_if_imm(op.BPF_JSET, 1, 4, "far"), lambda b: b.may_goto("far")]
)
def test_jumps_without_an_inverse(emit: Emit) -> None:
    builder, insns = padded(emit, 32768)
    first = insns[0]
    assert first.off == 1
    assert first.ref is None
    assert insns[1:3] == (Insn(GOTO, off=1), Insn(GOTOL, imm=32768))
    assert builder.final_slot(1) == 3


def test_a_jump_made_longer_can_push_another_out_of_reach() -> None:
    builder = Builder()
    builder.jump_if_imm(op.BPF_JEQ, 1, 0, "near")  # 32767 slots, until the next one grows
    builder.jump_if_imm(op.BPF_JEQ, 1, 0, "far")
    for _ in range(32766 // 2):
        builder.emit(Insn(LDDW))
    builder.label("near")
    builder.exit()
    builder.exit()
    builder.exit()
    builder.label("far")
    builder.exit()
    insns = builder.finish()
    assert insns[:4] == (
        Insn(0x55, 1, off=1),
        Insn(GOTOL, imm=32768),
        Insn(0x55, 1, off=1),
        Insn(GOTOL, imm=32769),
    )


def test_jumps_by_distance_follow_what_is_inserted() -> None:
    builder = Builder()
    builder.emit(Insn(GOTO, off=1))
    builder.jump_if_imm(op.BPF_JEQ, 1, 0, "far")
    builder.emit(Insn(GOTO, off=-2))
    for _ in range(20000):
        builder.emit(Insn(LDDW))
    builder.label("far")
    builder.exit()
    insns = builder.finish()
    assert insns[0] == Insn(GOTO, off=2)
    assert insns[3] == Insn(GOTO, off=-3)
