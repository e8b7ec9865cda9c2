"""The reference: one instruction after the other, as RFC 9669 tells them.

What another path computes must be what this one computes.  It is made to be read, and ten times slower than the
translation to Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.engine.check import CALLX, EXIT
from tracebee.engine.faults import BudgetSpent, Stop, TailCall
from tracebee.engine.memory import MASK32, Memory
from tracebee.engine.runtime import MASK64, MAY_GOTO_ROUNDS, STACK_BYTES
from tracebee.insn import opcodes as op
from tracebee.insn.codec import CALL, GOTO, GOTOL, LDDW, PSEUDO_JUMP, Insn

if TYPE_CHECKING:
    from collections.abc import Callable

    from tracebee.engine.runtime import Function, Linked, Runtime

SIZES = {op.BPF_B: 1, op.BPF_H: 2, op.BPF_W: 4, op.BPF_DW: 8}
"""Bytes, by the size field of an opcode."""


class Frame:
    """A running function: its registers, and the index of the instruction that comes next."""

    __slots__ = ("depth", "functions", "index", "linked", "memory", "next", "registers", "rounds", "runtime")

    def __init__(
        self, linked: Linked, runtime: Runtime, functions: dict[int, Function], entry: int, depth: int
    ) -> None:
        self.linked = linked
        self.functions = functions
        self.runtime = runtime
        self.memory: Memory = runtime.memory
        self.registers = [0] * 11
        self.registers[op.R10] = runtime.frames[depth]
        self.index = entry
        self.next = entry
        self.depth = depth
        self.rounds = MAY_GOTO_ROUNDS


def interpreted(linked: Linked, runtime: Runtime) -> dict[int, Function]:
    """The functions of a program by the index of their first instruction."""
    table = [(HANDLERS[insn.code], insn) for insn in linked.code.insns]
    functions: dict[int, Function] = {}
    for entry in linked.code.functions:
        functions[entry] = _function(linked, runtime, functions, table, entry)
    return functions


def _function(
    linked: Linked,
    runtime: Runtime,
    functions: dict[int, Function],
    table: list[tuple[Callable[[Frame, Insn], None], Insn]],
    entry: int,
) -> Function:
    def function(r1: int, r2: int, r3: int, r4: int, r5: int, depth: int) -> int:
        frame = Frame(linked, runtime, functions, entry, depth)
        frame.registers[1:6] = r1, r2, r3, r4, r5
        runtime.stacks[depth][:] = bytes(STACK_BYTES)
        try:
            while True:
                if runtime.remaining <= 0:
                    raise BudgetSpent(runtime.budget)
                runtime.remaining -= 1
                frame.index = index = frame.next
                frame.next = index + 1
                handler, insn = table[index]
                if insn.code == EXIT:
                    return frame.registers[0]
                handler(frame, insn)
        except TailCall as tail:
            left = tail
        except Stop as stop:
            if stop.place is None:
                stop.place = linked, frame.index
            raise
        return runtime.enter(left, depth)

    return function


def signed(value: int, bits: int) -> int:
    """The signed number that the lowest `bits` of `value` are."""
    sign = 1 << bits - 1
    return (value & (sign << 1) - 1 ^ sign) - sign


# --- arithmetic: operand, operand, bits → result, of which those bits count


def _divide(a: int, b: int, bits: int) -> int:
    return a // b if b else 0


def _modulo(a: int, b: int, bits: int) -> int:
    return a % b if b else a


def _divide_signed(a: int, b: int, bits: int) -> int:
    """Rounds towards zero; the most negative number by -1 is itself."""
    a, b = signed(a, bits), signed(b, bits)
    if b == 0:
        return 0
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


def _modulo_signed(a: int, b: int, bits: int) -> int:
    """What is left over by the division, with the sign of `a`."""
    a, b = signed(a, bits), signed(b, bits)
    if b == 0:
        return a
    rest = abs(a) % abs(b)
    return -rest if a < 0 else rest


ARITHMETIC: dict[int, Callable[[int, int, int], int]] = {
    op.BPF_ADD: lambda a, b, bits: a + b,
    op.BPF_SUB: lambda a, b, bits: a - b,
    op.BPF_MUL: lambda a, b, bits: a * b,
    op.BPF_DIV: _divide,
    op.BPF_OR: lambda a, b, bits: a | b,
    op.BPF_AND: lambda a, b, bits: a & b,
    op.BPF_LSH: lambda a, b, bits: a << (b & bits - 1),
    op.BPF_RSH: lambda a, b, bits: a >> (b & bits - 1),
    op.BPF_MOD: _modulo,
    op.BPF_XOR: lambda a, b, bits: a ^ b,
    op.BPF_MOV: lambda a, b, bits: b,
    op.BPF_ARSH: lambda a, b, bits: signed(a, bits) >> (b & bits - 1),
}
SIGNED_ARITHMETIC = {op.BPF_DIV: _divide_signed, op.BPF_MOD: _modulo_signed}


def _arithmetic(frame: Frame, insn: Insn) -> None:
    code, dst, src, off, imm, _ = insn
    registers = frame.registers
    bits = 64 if code & 7 == op.BPF_ALU64 else 32
    mask = MASK64 if bits == 64 else MASK32
    operation = code & 0xF0
    a = registers[dst] & mask
    if operation == op.BPF_NEG:
        registers[dst] = -a & mask
        return
    if operation == op.BPF_END:
        registers[dst] = swapped(registers[dst], imm, code)
        return
    b = (registers[src] if code & op.BPF_X else imm) & mask
    if operation == op.BPF_MOV and off:
        b = signed(b, off)
    elif off:
        registers[dst] = SIGNED_ARITHMETIC[operation](a, b, bits) & mask
        return
    registers[dst] = ARITHMETIC[operation](a, b, bits) & mask


def swapped(value: int, bits: int, code: int) -> int:
    """The lowest `bits` in the byte order that the opcode of a BPF_END asks for."""
    value &= (1 << bits) - 1
    if code == op.BPF_ALU | op.BPF_END | op.BPF_TO_LE:
        return value
    return int.from_bytes(value.to_bytes(bits // 8, "little"), "big")


# --- jumps

COMPARISONS: dict[int, Callable[[int, int, int], bool]] = {
    op.BPF_JEQ: lambda a, b, bits: a == b,
    op.BPF_JNE: lambda a, b, bits: a != b,
    op.BPF_JSET: lambda a, b, bits: bool(a & b),
    op.BPF_JGT: lambda a, b, bits: a > b,
    op.BPF_JGE: lambda a, b, bits: a >= b,
    op.BPF_JLT: lambda a, b, bits: a < b,
    op.BPF_JLE: lambda a, b, bits: a <= b,
    op.BPF_JSGT: lambda a, b, bits: signed(a, bits) > signed(b, bits),
    op.BPF_JSGE: lambda a, b, bits: signed(a, bits) >= signed(b, bits),
    op.BPF_JSLT: lambda a, b, bits: signed(a, bits) < signed(b, bits),
    op.BPF_JSLE: lambda a, b, bits: signed(a, bits) <= signed(b, bits),
}


def _compare_and_jump(frame: Frame, insn: Insn) -> None:
    code = insn.code
    bits = 64 if code & 7 == op.BPF_JMP else 32
    mask = MASK64 if bits == 64 else MASK32
    a = frame.registers[insn.dst] & mask
    b = (frame.registers[insn.src] if code & op.BPF_X else insn.imm) & mask
    if COMPARISONS[code & 0xF0](a, b, bits):
        frame.next = frame.linked.code.targets[frame.index]


def _jump(frame: Frame, insn: Insn) -> None:
    frame.next = frame.linked.code.targets[frame.index]


def _may_goto(frame: Frame, insn: Insn) -> None:
    """Linux: the jump is taken once the function has come by here for so many times."""
    if frame.rounds == 0:
        frame.next = frame.linked.code.targets[frame.index]
    else:
        frame.rounds -= 1


def _call(frame: Frame, insn: Insn) -> None:
    runtime, registers = frame.runtime, frame.registers
    r1, r2, r3, r4, r5 = registers[1:6]
    if insn.src == op.BPF_PSEUDO_CALL:
        function = frame.functions[frame.linked.code.targets[frame.index]]
        registers[0] = function(r1, r2, r3, r4, r5, runtime.deeper(frame.depth))
        return
    runtime.depth = frame.depth
    registers[0] = frame.linked.helpers[insn.imm](r1, r2, r3, r4, r5) & MASK64


def _call_register(frame: Frame, insn: Insn) -> None:
    r1, r2, r3, r4, r5 = frame.registers[1:6]
    value = frame.registers[insn.dst]
    frame.registers[0] = frame.runtime.call_register(value, (r1, r2, r3, r4, r5), frame.depth)


def _exit(frame: Frame, insn: Insn) -> None:
    """The loop sees it before."""


# --- memory


def _load(frame: Frame, insn: Insn) -> None:
    size = SIZES[insn.code & 0x18]
    value = int.from_bytes(frame.memory.read(frame.registers[insn.src] + insn.off & MASK64, size), "little")
    if insn.code & 0xE0 == op.BPF_MEMSX:
        value = signed(value, size * 8) & MASK64
    frame.registers[insn.dst] = value


def _store(frame: Frame, insn: Insn) -> None:
    size = SIZES[insn.code & 0x18]
    value = insn.imm if insn.code & 7 == op.BPF_ST else frame.registers[insn.src]
    _put(frame, frame.registers[insn.dst] + insn.off & MASK64, size, value)


def _put(frame: Frame, address: int, size: int, value: int) -> None:
    frame.memory.write(address, (value & (1 << size * 8) - 1).to_bytes(size, "little"))


def _atomic(frame: Frame, insn: Insn) -> None:
    """RFC 9669, 5.3: what is done here, nothing else comes in between of."""
    size = SIZES[insn.code & 0x18]
    bits, mask = size * 8, (1 << size * 8) - 1
    registers, operation = frame.registers, insn.imm
    if operation == op.BPF_LOAD_ACQ:
        address = registers[insn.src] + insn.off & MASK64
        registers[insn.dst] = int.from_bytes(frame.memory.read(address, size), "little")
        return
    address = registers[insn.dst] + insn.off & MASK64
    given = registers[insn.src] & mask
    if operation == op.BPF_STORE_REL:
        _put(frame, address, size, given)
        return
    old = int.from_bytes(frame.memory.view(address, size, writable=True), "little")
    if operation == op.BPF_CMPXCHG:
        if old == registers[0] & mask:
            _put(frame, address, size, given)
        registers[0] = old
        return
    if operation == op.BPF_XCHG:
        _put(frame, address, size, given)
    else:
        _put(frame, address, size, ARITHMETIC[operation & 0xF0](old, given, bits))
    if operation & op.BPF_FETCH:
        registers[insn.src] = old


def _wide_immediate(frame: Frame, insn: Insn) -> None:
    frame.registers[insn.dst] = frame.linked.values[frame.index]


def _handlers() -> dict[int, Callable[[Frame, Insn], None]]:
    """A handler for every opcode that the check lets through."""
    table: dict[int, Callable[[Frame, Insn], None]] = {}
    for width in (op.BPF_ALU, op.BPF_ALU64):
        for operation in (*ARITHMETIC, op.BPF_END, op.BPF_NEG):
            table[width | operation | op.BPF_K] = _arithmetic
            table[width | operation | op.BPF_X] = _arithmetic
    for width in (op.BPF_JMP, op.BPF_JMP32):
        for operation in COMPARISONS:
            table[width | operation | op.BPF_K] = _compare_and_jump
            table[width | operation | op.BPF_X] = _compare_and_jump
    for size in SIZES:
        table[op.BPF_LDX | op.BPF_MEM | size] = _load
        table[op.BPF_LDX | op.BPF_MEMSX | size] = _load
        table[op.BPF_ST | op.BPF_MEM | size] = _store
        table[op.BPF_STX | op.BPF_MEM | size] = _store
        table[op.BPF_STX | op.BPF_ATOMIC | size] = _atomic
    table |= {GOTO: _jump, GOTOL: _jump, PSEUDO_JUMP: _may_goto, EXIT: _exit}
    table |= {CALL: _call, CALLX: _call_register, LDDW: _wide_immediate}
    return table


HANDLERS = _handlers()
