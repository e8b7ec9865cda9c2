"""Which instructions of a program can be reached, as far as constants tell.

A program for many kernels asks first whether a field is there, and reads it behind the answer.  Where CO-RE has
made the answer a constant, the branch is decided, and what is not there is never come to.  The verifier sees that
by following every path; here each instruction is looked at with what all paths to it agree on, which finds no
less to be reachable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.insn import opcodes as op
from tracebee.insn.codec import CALL, GOTO, GOTOL, LDDW, MASK32, MASK64, PSEUDO_JUMP, reach

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tracebee.insn.codec import Insn

    Registers = tuple[int | None, ...]

EXIT = op.BPF_JMP | op.BPF_EXIT
_UNKNOWN: Registers = (None,) * 11
_NOTHING: Mapping[int, int] = {}
_SIGN64, _SIGN32 = 1 << 63, 1 << 31

_ARITHMETIC: dict[int, Callable[[int, int, int], int]] = {
    op.BPF_ADD: lambda a, b, bits: a + b,
    op.BPF_SUB: lambda a, b, bits: a - b,
    op.BPF_MUL: lambda a, b, bits: a * b,
    op.BPF_OR: lambda a, b, bits: a | b,
    op.BPF_AND: lambda a, b, bits: a & b,
    op.BPF_XOR: lambda a, b, bits: a ^ b,
    op.BPF_LSH: lambda a, b, bits: a << (b & bits - 1),
    op.BPF_RSH: lambda a, b, bits: a >> (b & bits - 1),
}
_COMPARISONS: dict[int, Callable[[int, int], bool]] = {
    op.BPF_JEQ: lambda a, b: a == b,
    op.BPF_JNE: lambda a, b: a != b,
    op.BPF_JGT: lambda a, b: a > b,
    op.BPF_JGE: lambda a, b: a >= b,
    op.BPF_JLT: lambda a, b: a < b,
    op.BPF_JLE: lambda a, b: a <= b,
    op.BPF_JSET: lambda a, b: bool(a & b),
}
_SIGNED = {
    op.BPF_JSGT: op.BPF_JGT,
    op.BPF_JSGE: op.BPF_JGE,
    op.BPF_JSLT: op.BPF_JLT,
    op.BPF_JSLE: op.BPF_JLE,
}


def reachable(insns: Sequence[Insn], gone: Mapping[int, int] = _NOTHING) -> set[int]:
    """The slots of the instructions that can be reached from the first; jumps to nowhere lead to nothing.

    `gone` are the slots of those that CO-RE has no answer for, with the register that each was to set: they are
    taken to do so, to tell what else would be reached.
    """
    at: dict[int, Insn] = {}
    slot = 0
    for insn in insns:
        at[slot] = insn
        slot += insn.slots
    known: dict[int, Registers] = {0: _UNKNOWN} if at else {}
    waiting = list(known)
    while waiting:
        slot = waiting.pop()
        insn = at[slot]
        if slot in gone:
            steps = [(slot + insn.slots, _with(known[slot], gone[slot], None))]
        else:
            steps = _steps(insn, slot, known[slot])
        for goal, registers in steps:
            if goal not in at:
                continue
            before = known.get(goal)
            # A register can only lose its value, so that every instruction is looked at a dozen times at most.
            after = (
                registers
                if before is None
                else tuple(a if a == b else None for a, b in zip(before, registers, strict=True))
            )
            if after != before:
                known[goal] = after
                waiting.append(goal)
    return set(known)


def _steps(insn: Insn, slot: int, registers: Registers) -> list[tuple[int, Registers]]:
    """Where it goes on behind an instruction, with what is known there."""
    following = slot + insn.slots
    code = insn.code
    if code == EXIT:
        return []
    distance = reach(insn)
    goal = None if distance is None else slot + 1 + distance
    if code == CALL:
        after = (None,) * 6 + registers[6:]
        return [(following, after)] + ([(goal, _UNKNOWN)] if goal is not None else [])
    if code == LDDW:
        value = None if insn.src or insn.ref is not None else insn.imm & MASK64
        steps = [(following, _with(registers, insn.dst, value))]
        return steps + ([(goal, _UNKNOWN)] if goal is not None else [])
    kind = code & 7
    if kind in (op.BPF_JMP, op.BPF_JMP32):
        if goal is None:
            return [(following, registers)]
        if code in (GOTO, GOTOL):
            return [(goal, registers)]
        taken = None if code == PSEUDO_JUMP else _decided(insn, registers)
        steps = [] if taken is True else [(following, registers)]
        return steps if taken is False else [*steps, (goal, registers)]
    if kind in (op.BPF_ALU, op.BPF_ALU64):
        return [(following, _with(registers, insn.dst, _computed(insn, registers)))]
    if kind == op.BPF_LDX:
        return [(following, _with(registers, insn.dst, None))]
    if kind == op.BPF_LD:
        return [(following, (None,) * 6 + registers[6:])]
    if kind == op.BPF_STX and code & 0xE0 == op.BPF_ATOMIC:
        return [(following, _with(_with(registers, insn.src, None), 0, None))]
    return [(following, registers)]


def _with(registers: Registers, number: int, value: int | None) -> Registers:
    if number > 10:
        return registers
    return (*registers[:number], value, *registers[number + 1 :])


def _operand(insn: Insn, registers: Registers) -> int | None:
    if insn.code & 8:
        return registers[insn.src] if insn.src <= 10 else None
    return insn.imm & MASK64


def _computed(insn: Insn, registers: Registers) -> int | None:
    operation, mask = insn.code & 0xF0, MASK64 if insn.code & 7 == op.BPF_ALU64 else MASK32
    if operation in (op.BPF_END, op.BPF_NEG) or insn.ref is not None:
        return None
    other = _operand(insn, registers)
    if other is None or (operation == op.BPF_MOV and insn.off):
        return None
    if operation == op.BPF_MOV:
        return other & mask
    value = registers[insn.dst] if insn.dst <= 10 else None
    compute = _ARITHMETIC.get(operation)
    if value is None or compute is None:
        return None
    return compute(value & mask, other & mask, mask.bit_length()) & mask


def _decided(insn: Insn, registers: Registers) -> bool | None:
    """Whether a conditional jump is taken, None if that is not known."""
    value, other = registers[insn.dst] if insn.dst <= 10 else None, _operand(insn, registers)
    if value is None or other is None:
        return None
    operation = insn.code & 0xF0
    mask, sign = (MASK64, _SIGN64) if insn.code & 7 == op.BPF_JMP else (MASK32, _SIGN32)
    value, other = value & mask, other & mask
    if operation in _SIGNED:
        operation, value, other = _SIGNED[operation], value ^ sign, other ^ sign
    compare = _COMPARISONS.get(operation)
    return None if compare is None else compare(value, other)
