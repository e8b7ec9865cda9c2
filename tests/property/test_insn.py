"""Laws of the instruction set: what goes out one way comes back the other."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tracebee.errors import FormatError
from tracebee.insn import (
    LDDW,
    Builder,
    Insn,
    KernelSymbol,
    Kfunc,
    Label,
    MapFd,
    MapValue,
    Ref,
    decode,
    encode,
)
from tracebee.insn import opcodes as op
from tracebee.insn.asm import AsmError, assemble
from tracebee.insn.codec import CALL, GOTO, GOTOL, PSEUDO_JUMP, reach
from tracebee.insn.disasm import disassemble, format_insn, label_targets
from tracebee.insn.graph import blocks, graph
from tracebee.insn.rules import used_fields, validate
from tracebee.insn.xlated import Names, describe, function_starts

u32 = st.integers(0, (1 << 32) - 1)
u64 = st.integers(0, (1 << 64) - 1)
s16 = st.integers(-(1 << 15), (1 << 15) - 1)
s32 = st.integers(-(1 << 31), (1 << 31) - 1)
# Values that select an instruction, which a random number would never hit.
selectors = st.sampled_from(
    [0, 1, 2, 8, 16, 32, 64, 0x40, 0x41, 0x50, 0x51, 0xA0, 0xA1, 0xE1, 0xF1, 0x100, 0x110, 0x10000]
)
registers = st.integers(0, 10)
# Words that mean something elsewhere in the notation, and characters that have to be escaped.
names = st.one_of(
    st.sampled_from(["events", "@", "pc", "local", "kfunc", "r1", "fd", "exit"]),
    st.text('ab1_.$@ "\\[]+-:;/#\n\t\0é€😀', max_size=8),
)


@st.composite
def any_insns(draw: st.DrawFn) -> Insn:
    """Anything that has bytes."""
    code = draw(st.integers(0, 255))
    narrow = st.one_of(selectors, s32)
    imm = draw(st.one_of(u32, u64) if code == LDDW else narrow)
    nibble = st.one_of(registers, st.integers(0, 15))
    return Insn(code, draw(nibble), draw(nibble), draw(st.one_of(selectors.map(as_s16), s16)), imm)


def as_s16(value: int) -> int:
    return (value & 0xFFFF ^ 0x8000) - 0x8000


@st.composite
def referring_insns(draw: st.DrawFn) -> Insn:
    """An instruction with a reference that fits it."""
    name, dst = draw(names), draw(registers)
    kind = draw(st.integers(0, 7))
    if kind == 0:
        return Insn(LDDW, dst, op.BPF_PSEUDO_MAP_FD, ref=MapFd(name))
    if kind == 1:
        return Insn(LDDW, dst, op.BPF_PSEUDO_MAP_VALUE, ref=MapValue(name, draw(u32)))
    if kind == 2:
        return Insn(LDDW, dst, op.BPF_PSEUDO_BTF_ID, ref=KernelSymbol(name))
    if kind == 3:
        return Insn(LDDW, dst, op.BPF_PSEUDO_FUNC, ref=Label(name))
    if kind == 4:
        return Insn(CALL, src=op.BPF_PSEUDO_KFUNC_CALL, off=draw(s16), ref=Kfunc(name))
    if kind == 5:
        return Insn(CALL, src=op.BPF_PSEUDO_CALL, ref=Label(name))
    if kind == 6:
        return Insn(draw(st.sampled_from([GOTO, GOTOL, PSEUDO_JUMP])), ref=Label(name))
    return Insn(op.BPF_JMP | op.BPF_JSGT, dst, imm=draw(s32), ref=Label(name))


@given(st.lists(any_insns()), st.sampled_from(["little", "big"]))
def test_decode_undoes_encode(insns: list[Insn], byteorder: Any) -> None:
    assert decode(encode(insns, byteorder=byteorder), byteorder=byteorder) == insns


@given(st.binary(max_size=200), st.sampled_from(["little", "big"]))
@example(b"\x18" + bytes(15), "little")
@example(b"\x18" + bytes(7), "big")
def test_encode_undoes_decode(data: bytes, byteorder: Any) -> None:
    whole = data[: len(data) & ~7]
    if whole != data:
        with pytest.raises(FormatError):
            decode(data, byteorder=byteorder)
    try:
        insns = decode(whole, byteorder=byteorder)
    except FormatError:
        return
    assert encode(insns, byteorder=byteorder) == whole


@given(st.lists(st.one_of(any_insns(), referring_insns())), st.booleans(), st.booleans(), st.booleans())
def test_the_assembler_reads_what_the_disassembler_writes(
    insns: list[Insn], slots: bool, opcodes: bool, map_ids: bool
) -> None:
    lines = disassemble(insns, slots=slots, opcodes=opcodes, map_ids=map_ids, comments={0: "a\nb", 3: "c"})
    assert assemble("\n".join(lines), external=True) == tuple(insns)


@given(st.lists(any_insns()))
def test_labels_do_not_change_a_program(insns: list[Insn]) -> None:
    lines = disassemble(insns, labels=label_targets(insns))
    assert assemble("\n".join(lines)) == tuple(insns)


@given(any_insns())
def test_what_is_valid_has_a_notation(insn: Insn) -> None:
    if validate(insn) is None:
        assert not format_insn(insn).startswith(".insn")
        assert used_fields(insn) >= 0
    if validate(insn, linux=False) is None:
        assert validate(insn) is None


WORDS = """
    r1 w2 r10 r11 = += s>>= == s> & * ( ) [ ] , : # - + 5 0x1f -1 u32 s8 u64 if goto gotol may_goto pc exit
    call local kfunc lock map fd id btf subprog ksym skb ll label bpf_loop atomic64_fetch_add atomic_cmpxchg
    load_acquire store_release be16 bswap32 (s8) (b7) 7: .insn code dst src off imm "x" " ; //
"""
words = st.sampled_from([*WORDS.split(), "\n"])


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text() takes a second
@given(st.one_of(st.text(), st.lists(words).map(" ".join)))
def test_the_assembler_raises_only_its_own_error(text: str) -> None:
    try:
        insns = assemble(text)
    except AsmError as error:
        lines = text.split("\n")
        assert 1 <= error.line <= len(lines)
        assert error.text == lines[error.line - 1]
        assert 1 <= error.column <= len(error.text) + 1
    else:
        bound = [insn._replace(imm=0, ref=None) for insn in insns]
        assert decode(encode(bound)) == bound


# Steps of a program: define a label, jump to one in some way, or fill so many slots.
steps = st.lists(
    st.one_of(
        st.tuples(st.just("label"), st.integers(0, 5)),
        st.tuples(st.sampled_from(["jump", "if", "ifset", "may", "call", "function"]), st.integers(0, 5)),
        st.tuples(st.just("fill"), st.sampled_from([1, 2, 3, 7])),
    ),
    max_size=30,
)


class Recorder(Builder):
    """A builder that remembers where everything was when it was emitted."""

    def __init__(self) -> None:
        super().__init__()
        self.starts: list[int] = []
        self.jumps: list[tuple[str, int, int]] = []
        self.places: dict[int, int] = {}

    def emit(self, insn: Insn) -> None:
        self.starts.append(self.here)
        super().emit(insn)

    def label(self, name: str) -> None:
        self.places[int(name)] = self.here
        super().label(name)


def build(program: list[tuple[str, int]]) -> Recorder:
    """The program; only the first definition of a label counts, and the end defines those that are left."""
    builder = Recorder()
    for step, number in [*program, *[("label", number) for number in range(6)]]:
        name = str(number)
        if step == "label":
            if number not in builder.places:
                builder.label(name)
            continue
        if step == "fill":
            for _ in range(number // 2):
                builder.emit(Insn(LDDW, 1, imm=1))
            if number % 2:
                builder.emit(Insn(0xB7, 1, imm=1))
            continue
        builder.jumps.append((step, builder.here, number))
        if step == "jump":
            builder.jump(name)
        elif step == "if":
            builder.jump_if_imm(op.BPF_JGT, 1, 5, name)
        elif step == "ifset":
            builder.jump_if_imm(op.BPF_JSET, 1, 4, name)
        elif step == "may":
            builder.may_goto(name)
        elif step == "call":
            builder.call_local(name)
        else:
            builder.load_function(1, name)
    return builder


def by_slot(insns: tuple[Insn, ...]) -> dict[int, Insn]:
    """The instructions by where they start."""
    return dict(zip(accumulate([insn.slots for insn in insns], initial=0), insns, strict=False))


@given(steps)
def test_labels_of_near_jumps(program: list[tuple[str, int]]) -> None:
    builder = build(program)
    placed = by_slot(builder.finish())
    for _, slot, label in builder.jumps:
        assert slot + 1 + (reach(placed[slot]) or 0) == builder.places[label]
        assert builder.final_slot(slot) == slot


@settings(max_examples=25, deadline=None)
@given(
    steps,
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from([16383, 32750, 32764, 32766, 32767])), max_size=3),
)
def test_labels_of_far_jumps(program: list[tuple[str, int]], fillings: list[tuple[int, int]]) -> None:
    for place, slots in fillings:
        program = [*program[:place], ("fill", slots), *program[place:]]
    builder = build(program)
    placed = by_slot(builder.finish())
    final = builder.final_slot
    emitted = {final(slot) for slot in (*builder.starts, builder.here)}
    for step, slot, label in builder.jumps:
        target, start = final(builder.places[label]), final(slot)
        if step in ("call", "function"):
            assert start + 1 + (reach(placed[start]) or 0) == target
            continue
        assert follow(placed, emitted, start, True) == target
        if step != "jump":
            assert follow(placed, emitted, start, False) == final(slot + 1)


def follow(placed: dict[int, Insn], emitted: set[int], slot: int, holds: bool) -> int:
    """Run from a jump at `slot`, whose condition holds or not, to the next instruction that was emitted."""
    r1 = 6 if holds else 0
    while True:
        insn = placed[slot]
        taken = {
            GOTO: True,
            GOTOL: True,
            PSEUDO_JUMP: holds,
            op.BPF_JMP | op.BPF_JGT: r1 > 5,
            op.BPF_JMP | op.BPF_JLE: r1 <= 5,
            op.BPF_JMP | op.BPF_JSET: r1 & 4,
        }[insn.code]
        slot += 1 + ((reach(insn) or 0) if taken else 0)
        if slot in emitted:
            return slot


@given(st.lists(referring_insns()))
def test_binding_reaches_every_reference(insns: list[Insn]) -> None:
    asked: list[Ref] = []

    def bind(ref: Ref) -> int:
        asked.append(ref)
        return 3

    encoded = decode(encode(insns, bind))
    assert asked == [insn.ref for insn in insns]
    assert [insn.code for insn in encoded] == [insn.code for insn in insns]


@given(st.binary(max_size=160), st.sampled_from(["little", "big"]))
@settings(deadline=None)
def test_whatever_the_kernel_gives_back_has_lines_and_a_flow(data: bytes, byteorder: Any) -> None:
    try:
        insns = decode(data[: len(data) & ~7], byteorder=byteorder)
    except FormatError:
        return
    lines = describe(insns, Names())
    assert [line.insn for line in lines] == insns
    assert all(line.text for line in lines)
    places = {line.slot for line in lines}
    assert all(0 <= slot < sum(insn.slots for insn in insns) for slot in function_starts(insns))
    found = blocks(lines)
    assert [line for block in found for line in block.lines] == lines
    starts = {block.start for block in found}
    assert starts <= places
    assert all(slot in starts for block in found for slot in block.following)
    assert graph([("any", lines)])[-1] == "}"
