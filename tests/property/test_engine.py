"""Laws of the engine: its paths agree on every program, and no program gets out of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracebee.engine.machine import Machine
from tracebee.errors import EngineFault, FormatError
from tracebee.insn import opcodes as op
from tracebee.insn.codec import LDDW, Insn, MapFd, MapValue, decode
from tracebee.spec.objects import MapSpec, ObjectSpec, ProgramSpec, Schema
from tracebee.syscalls.nativecode import Door

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import DrawFn

    from tracebee.engine.world import World

CONTEXT = bytes(range(1, 41))
MAPS = (
    MapSpec("globals", "ARRAY", 4, 32, 1),
    MapSpec("constants", "ARRAY", 4, 16, 1, flags=1 << 7, contents=b"0123456789abcdef"),
)
ROUNDS = 20_000
"""Instructions that the reference may take.  The fast path counts in larger portions and gets more."""

EDGES = (0, 1, 2, 7, 8, 31, 32, 63, 64, 255, 256, 1 << 15, 1 << 16, (1 << 31) - 1)
IMMEDIATES = st.one_of(
    st.sampled_from([*EDGES, *[-edge for edge in EDGES], -(1 << 31)]), st.integers(-(1 << 31), (1 << 31) - 1)
)
WIDE = st.one_of(
    st.sampled_from([*EDGES, 1 << 31, 1 << 32, 1 << 63, (1 << 64) - 1]), st.integers(0, (1 << 64) - 1)
)
REGISTERS = st.integers(0, 9)
OPERATIONS = (
    *(
        op.BPF_ADD,
        op.BPF_SUB,
        op.BPF_MUL,
        op.BPF_DIV,
        op.BPF_MOD,
        op.BPF_MOV,
        op.BPF_OR,
        op.BPF_AND,
        op.BPF_XOR,
    ),
    *(op.BPF_LSH, op.BPF_RSH, op.BPF_ARSH),
)
COMPARISONS = (
    *(op.BPF_JEQ, op.BPF_JNE, op.BPF_JSET, op.BPF_JGT, op.BPF_JGE, op.BPF_JLT, op.BPF_JLE),
    *(op.BPF_JSGT, op.BPF_JSGE, op.BPF_JSLT, op.BPF_JSLE),
)
SIZES = {op.BPF_B: 1, op.BPF_H: 2, op.BPF_W: 4, op.BPF_DW: 8}
ATOMICS = (
    *(op.BPF_ADD, op.BPF_OR, op.BPF_AND, op.BPF_XOR, op.BPF_ADD | 1, op.BPF_OR | 1, op.BPF_AND | 1),
    *(op.BPF_XOR | 1, op.BPF_XCHG, op.BPF_CMPXCHG),
)


@st.composite
def arithmetic(draw: DrawFn) -> list[Insn]:
    width = draw(st.sampled_from([op.BPF_ALU, op.BPF_ALU64]))
    dst, src = draw(REGISTERS), draw(st.integers(0, 10))
    kind = draw(st.integers(0, 20))
    if kind == 0:
        return [Insn(width | op.BPF_NEG, dst)]
    if kind == 1:
        order = draw(st.sampled_from([op.BPF_ALU, op.BPF_ALU | op.BPF_TO_BE, op.BPF_ALU64]))
        return [Insn(order | op.BPF_END, dst, imm=draw(st.sampled_from([16, 32, 64])))]
    if kind == 2:
        sizes = [8, 16] if width == op.BPF_ALU else [8, 16, 32]
        return [Insn(width | op.BPF_MOV | op.BPF_X, dst, src, draw(st.sampled_from(sizes)))]
    if kind == 3:
        return [Insn(LDDW, dst, imm=draw(WIDE))]
    operation = draw(st.sampled_from(OPERATIONS))
    off = int(operation in (op.BPF_DIV, op.BPF_MOD) and draw(st.booleans()))
    if draw(st.booleans()):
        return [Insn(width | operation | op.BPF_X, dst, src, off)]
    return [Insn(width | operation, dst, 0, off, draw(IMMEDIATES))]


@st.composite
def memory(draw: DrawFn) -> list[Insn]:
    """An access to the stack, the context or a map: mostly inside, seldom off its end."""
    before: list[Insn] = []
    size = draw(st.sampled_from(list(SIZES)))
    bytes_ = SIZES[size]
    where = draw(st.integers(0, 9))
    wild = draw(st.integers(0, 15)) == 0
    if where < 5:
        base = op.R10
        low, high = -512, -bytes_
        off = draw(st.integers(-64, 0)) if not wild else draw(st.integers(-600, 8))
        off = off if wild else max(low, min(high, off))
        if draw(st.integers(0, 3)) == 0:
            off -= off % bytes_
        if draw(st.integers(0, 3)) == 0:
            base = draw(REGISTERS)
            shift = draw(st.integers(-40, 0))
            before = [Insn(op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, base, op.R10)]
            before.append(Insn(op.BPF_ALU64 | op.BPF_ADD, base, imm=shift))
            off -= 0 if wild else shift
            off = min(off, -shift - bytes_) if not wild else off
    elif where < 8:
        base = draw(REGISTERS)
        name = draw(st.sampled_from(["globals", "globals", "constants"]))
        limit = 32 if name == "globals" else 16
        start = draw(st.integers(0, limit - 1))
        before = [Insn(LDDW, base, op.BPF_PSEUDO_MAP_VALUE, ref=MapValue(name, start))]
        off = (
            draw(st.integers(-start, limit - start - bytes_))
            if limit - bytes_ >= 0 and not wild
            else draw(st.integers(-40, 40))
        )
    else:
        # What r1 holds may be the context, or anything.
        base = draw(st.sampled_from([1, 1, 6, *range(10)]))
        off = draw(st.integers(0, 40 - bytes_)) if not wild else draw(st.integers(-40, 60))
    other = draw(st.integers(0, 10))
    kind = draw(st.integers(0, 9))
    if kind < 4:
        return [*before, Insn(op.BPF_LDX | op.BPF_MEM | size, draw(REGISTERS), base, off)]
    if kind == 4 and bytes_ < 8:
        return [*before, Insn(op.BPF_LDX | op.BPF_MEMSX | size, draw(REGISTERS), base, off)]
    if kind == 5:
        return [*before, Insn(op.BPF_ST | op.BPF_MEM | size, base, 0, off, draw(IMMEDIATES))]
    if kind == 6 and bytes_ >= 4:
        imm = draw(st.sampled_from(ATOMICS))
        return [*before, Insn(op.BPF_STX | op.BPF_ATOMIC | size, base, draw(REGISTERS), off, imm)]
    if kind == 7:
        imm = draw(st.sampled_from([op.BPF_LOAD_ACQ, op.BPF_STORE_REL]))
        dst, src = (draw(REGISTERS), base) if imm == op.BPF_LOAD_ACQ else (base, other)
        return [*before, Insn(op.BPF_STX | op.BPF_ATOMIC | size, dst, src, off, imm)]
    return [*before, Insn(op.BPF_STX | op.BPF_MEM | size, base, other, off)]


@st.composite
def jump(draw: DrawFn) -> list[Insn]:
    """A jump whose offset says to which of the pieces; `place` makes it right."""
    goal = draw(st.integers(-3, 6)) if draw(st.integers(0, 9)) else draw(st.integers(-40, 40))
    kind = draw(st.integers(0, 11))
    if kind == 0:
        return [Insn(op.BPF_JMP | op.BPF_JA, off=goal)]
    if kind == 1:
        return [Insn(op.BPF_JMP32 | op.BPF_JA, imm=goal)]
    if kind == 2:
        return [Insn(op.BPF_JMP | op.BPF_JCOND, off=goal)]
    width = draw(st.sampled_from([op.BPF_JMP, op.BPF_JMP32]))
    operation = draw(st.sampled_from(COMPARISONS))
    if draw(st.booleans()):
        return [Insn(width | operation | op.BPF_X, draw(REGISTERS), draw(REGISTERS), goal)]
    return [Insn(width | operation, draw(REGISTERS), 0, goal, draw(IMMEDIATES))]


@st.composite
def call(draw: DrawFn) -> list[Insn]:
    kind = draw(st.integers(0, 5))
    if kind < 2:
        return [Insn(op.BPF_JMP | op.BPF_CALL, src=op.BPF_PSEUDO_CALL, imm=draw(st.integers(-20, 20)))]
    if kind == 2:
        register = draw(REGISTERS)
        return [
            Insn(LDDW, register, op.BPF_PSEUDO_FUNC, imm=draw(st.integers(-20, 20)) & 0xFFFF_FFFF),
            Insn(op.BPF_JMP | op.BPF_CALL | op.BPF_X, register),
        ]
    if kind == 3:
        return [Insn(op.BPF_JMP | op.BPF_CALL | op.BPF_X, draw(REGISTERS))]
    if kind == 4:
        return [Insn(LDDW, draw(REGISTERS), op.BPF_PSEUDO_MAP_FD, ref=MapFd("globals"))]
    return [Insn(op.BPF_JMP | op.BPF_CALL, imm=draw(st.sampled_from([MIX, LOOK])))]


PIECES = st.one_of(arithmetic(), arithmetic(), memory(), memory(), jump(), jump(), call())
EXIT = [Insn(op.BPF_JMP | op.BPF_EXIT)]


@st.composite
def programs(draw: DrawFn) -> tuple[Insn, ...]:
    """Whole programs whose jumps lead to pieces."""
    pieces = draw(st.lists(PIECES, min_size=1, max_size=40))
    for at in sorted(draw(st.lists(st.integers(0, len(pieces)), max_size=3)), reverse=True):
        pieces.insert(at, EXIT)
    return place([*pieces, EXIT])


def place(pieces: Sequence[list[Insn]]) -> tuple[Insn, ...]:
    """The instructions of the pieces, with distances counted in slots instead of in pieces."""
    starts = []
    slot = 0
    for piece in pieces:
        starts.append(slot)
        slot += sum(insn.slots for insn in piece)
    result = []
    for number, piece in enumerate(pieces):
        slot = starts[number]
        for insn in piece:
            slot += insn.slots
            result.append(_aimed(insn, number, slot, starts))
    return tuple(result)


def _aimed(insn: Insn, number: int, behind: int, starts: Sequence[int]) -> Insn:
    def distance(goal: int) -> int:
        return starts[max(0, min(len(starts) - 1, number + 1 + goal))] - behind

    if insn.code == LDDW and insn.src == op.BPF_PSEUDO_FUNC:
        goal = insn.imm - (1 << 32) if insn.imm >> 31 else insn.imm
        return insn._replace(imm=distance(goal) & 0xFFFF_FFFF)
    if insn.code == op.BPF_JMP32 | op.BPF_JA or (insn.code == op.BPF_JMP | op.BPF_CALL and insn.src == 1):
        return insn._replace(imm=distance(insn.imm))
    if insn.code & 7 in (op.BPF_JMP, op.BPF_JMP32) and insn.code & 0xF0 not in (op.BPF_CALL, op.BPF_EXIT):
        return insn._replace(off=distance(insn.off), src=insn.src)
    return insn


MIX, LOOK = 1001, 1002
"""Helper functions of this test."""


def mix(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    return r1 * 3 - r2 + (r3 ^ r4) - r5


def look(r1: int, r2: int, r3: int, r4: int, r5: int) -> int:
    """A failure, as helper functions report it."""
    return -(r1 & 15)


def outcome(insns: tuple[Insn, ...], path: str, budget: int, **more: Any) -> tuple[object, ...]:
    """What a run of a program comes to: its result or its fault, and the memory behind it."""
    spec = ObjectSpec((ProgramSpec("program", "RAW_TRACEPOINT", insns),), MAPS, (), Schema())
    machine = Machine(
        spec, cast("World", None), path=path, budget=budget, helpers={MIX: mix, LOOK: look}, **more
    )
    context = bytearray(CONTEXT)
    try:
        result: object = machine.programs["program"].run(context)
    except EngineFault as fault:
        if "does not end" in fault.reason:
            return ("endless",)
        result = fault.reason, fault.insn_index, fault.address, fault.nearest
    return result, bytes(context), machine.maps["globals"].get(bytes(4))


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example],
)
@given(programs())
def test_the_paths_agree(insns: tuple[Insn, ...]) -> None:
    try:
        expected = outcome(insns, "reference", ROUNDS)
    except EngineFault as fault:  # refused: then by both
        with pytest.raises(EngineFault) as caught:
            outcome(insns, "fast", ROUNDS)
        assert str(caught.value) == str(fault)
        return
    found = outcome(insns, "fast", ROUNDS * 200)
    if expected != ("endless",):
        assert found == expected


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(programs())
def test_the_native_path_agrees(insns: tuple[Insn, ...]) -> None:
    pytest.importorskip("llvmlite", reason="the native path needs llvmlite")
    try:
        expected = outcome(insns, "reference", ROUNDS)
    except EngineFault:
        return  # refused, as the test above says
    found = outcome(insns, "native", ROUNDS * 200, native=Door())
    if expected != ("endless",):
        assert found == expected


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=400).map(lambda data: data[: len(data) & ~7]), st.sampled_from(["fast", "reference"])
)
def test_random_bytes_do_no_harm(data: bytes, path: str) -> None:
    """They are refused, or end in a result or a fault."""
    try:
        insns = tuple(decode(data))
        outcome(insns, path, ROUNDS)
    except (EngineFault, FormatError):
        pass


OPCODES = sorted(
    {
        width | operation | source
        for width in (4, 5, 6, 7)
        for operation in range(0, 0xF0, 0x10)
        for source in (0, 8)
    }
    | {kind | mode | size for kind in (1, 2, 3) for mode in (0x60, 0x80, 0xC0) for size in SIZES}
    | {LDDW}
)
LIKELY = st.tuples(
    st.sampled_from(OPCODES),
    st.integers(0, 10),
    st.integers(0, 10),
    st.sampled_from([0, 0, 0, 1, 2, -1, -2, -8, 8, 16, 32, -512]),
    st.one_of(st.just(0), st.integers(-8, 8), st.sampled_from(ATOMICS)),
).map(lambda fields: Insn(*fields))


def _legal(insn: Insn) -> bool:
    from tracebee.insn.rules import validate

    return validate(insn) is None and not (insn.code == LDDW and insn.src)


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)
@given(st.lists(LIKELY.filter(_legal), max_size=40))
def test_the_paths_agree_on_nonsense(insns: list[Insn]) -> None:
    test = test_the_paths_agree.hypothesis.inner_test  # type: ignore[attr-defined]
    test((*insns, Insn(op.BPF_JMP | op.BPF_EXIT)))
