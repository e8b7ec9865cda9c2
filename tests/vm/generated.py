"""Programs made up by chance, of the kind that the kernel's verifier accepts; and their run in a guest's kernel.

As a script, in a guest and nowhere else, with a number to start from, how many, and the version of the instruction
set: it loads each program, runs it and prints what it has left in its map, a line of JSON each.
"""

from __future__ import annotations

import json
import random
import sys

from tracebee.insn import opcodes as op
from tracebee.insn.codec import LDDW, Insn, MapValue
from tracebee.spec.objects import MapSpec, ProgramSpec

VALUES = 12
"""Numbers of 64 bits that a program starts with."""

STACK = 64
"""Bytes of the stack that it uses."""

RESULT = 9 * 8 + STACK
SIZE = VALUES * 8 + RESULT
MAP = MapSpec("memory", "ARRAY", 4, SIZE, 1)
"""What a program starts with, then its registers r0 to r8 and its stack at the end."""

MEMORY = op.R9
"""The register that points to the map's value all the time."""

EDGES = (0, 1, 2, 31, 32, 63, 127, 128, 255, 0x7FFF, 0x8000, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32)
OPERATIONS = (
    *(op.BPF_ADD, op.BPF_SUB, op.BPF_MUL, op.BPF_DIV, op.BPF_MOD, op.BPF_MOV, op.BPF_OR, op.BPF_AND),
    *(op.BPF_XOR, op.BPF_LSH, op.BPF_RSH, op.BPF_ARSH),
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


def start_values(number: int) -> bytes:
    """What the map has before the program with this number runs."""
    chance = random.Random(f"values {number}")
    values = []
    for _ in range(VALUES):
        edge = chance.choice(EDGES) + chance.randint(-1, 1)
        values.append(
            chance.choice([edge, -edge, chance.getrandbits(64), chance.getrandbits(32)]) & (1 << 64) - 1
        )
    return b"".join([value.to_bytes(8, "little") for value in values]) + bytes(RESULT)


def program(number: int, version: int) -> tuple[Insn, ...]:
    """The program with this number, for version 2, 3 or 4 of the instruction set.

    As kernels have had them: atomic operations other than addition are of version 3, and need Linux 5.12.
    """
    return _Maker(random.Random(f"program {number}"), version).make()


class _Maker:
    def __init__(self, chance: random.Random, version: int) -> None:
        self.chance = chance
        self.version = version

    def make(self) -> tuple[Insn, ...]:
        """All registers and the stack get numbers, then comes what chance wants, then everything is kept."""
        insns = [Insn(LDDW, MEMORY, op.BPF_PSEUDO_MAP_VALUE, ref=MapValue("memory"))]
        for register in range(9):
            insns.append(Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, register, MEMORY, 8 * register))
        for at in range(0, STACK, 8):
            insns.append(Insn(op.BPF_STX | op.BPF_MEM | op.BPF_DW, op.R10, at // 8, at - STACK))
        pieces = [self.piece() for _ in range(self.chance.randint(5, 40))]
        function = [self.arithmetic(5) for _ in range(self.chance.randint(1, 8))]
        end: list[Insn] = []
        for register in range(9):
            place = VALUES * 8 + 8 * register
            end.append(Insn(op.BPF_STX | op.BPF_MEM | op.BPF_DW, MEMORY, register, place))
        for at in range(0, STACK, 8):
            end.append(Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, 0, op.R10, at - STACK))
            end.append(Insn(op.BPF_STX | op.BPF_MEM | op.BPF_DW, MEMORY, 0, VALUES * 8 + 72 + at))
        end += [Insn(op.BPF_ALU64 | op.BPF_MOV, 0), Insn(op.BPF_JMP | op.BPF_EXIT)]
        return (*insns, *self.placed(pieces, end, function))

    def placed(self, pieces: list[list[Insn]], end: list[Insn], function: list[list[Insn]]) -> list[Insn]:
        """The pieces with jumps and calls that reach: until here an offset is a number of pieces."""
        starts = [0]
        for piece in pieces:
            starts.append(starts[-1] + sum(insn.slots for insn in piece))
        behind = starts[-1] + sum(insn.slots for insn in end)
        result = []
        for number, piece in enumerate(pieces):
            slot = starts[number]
            for insn in piece:
                slot += insn.slots
                if insn.code == op.BPF_JMP | op.BPF_CALL:
                    insn = insn._replace(imm=behind - slot)
                elif insn.code & 7 in (op.BPF_JMP, op.BPF_JMP32):
                    goal = starts[min(number + 1 + insn.off, len(pieces))]
                    insn = insn._replace(off=goal - slot)
                result.append(insn)
        calls = any(insn.code == op.BPF_JMP | op.BPF_CALL for insn in result)
        result += end
        if calls:
            # r0 is a number of its own, and the arguments are numbers.
            result.append(Insn(op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, 0, 1))
            result += [insn for piece in function for insn in piece]
            result.append(Insn(op.BPF_JMP | op.BPF_EXIT))
        return result

    def piece(self) -> list[Insn]:
        kind = self.chance.random()
        if kind < 0.5:
            return self.arithmetic(8)
        if kind < 0.75:
            return self.memory()
        if kind < 0.95:
            return self.jump()
        return self.call()

    def immediate(self) -> int:
        value = self.chance.choice([*EDGES, *[-edge for edge in EDGES], self.chance.getrandbits(32)])
        return (value + (1 << 31)) % (1 << 32) - (1 << 31)

    def arithmetic(self, last: int) -> list[Insn]:
        """On registers r0 to `last`."""
        chance = self.chance
        width = chance.choice([op.BPF_ALU, op.BPF_ALU64])
        dst, src = chance.randint(0, last), chance.randint(0, last)
        kind = chance.random()
        if kind < 0.05:
            return [Insn(width | op.BPF_NEG, dst)]
        if kind < 0.15:
            orders = [op.BPF_ALU, op.BPF_ALU | op.BPF_TO_BE, op.BPF_ALU64]
            order = chance.choice(orders if self.version >= 4 else orders[:2])
            return [Insn(order | op.BPF_END, dst, imm=chance.choice([16, 32, 64]))]
        if kind < 0.25 and self.version >= 4:
            bits = chance.choice([8, 16] if width == op.BPF_ALU else [8, 16, 32])
            return [Insn(width | op.BPF_MOV | op.BPF_X, dst, src, bits)]
        operation = chance.choice(OPERATIONS)
        divides = operation in (op.BPF_DIV, op.BPF_MOD)
        off = int(divides and self.version >= 4 and chance.random() < 0.5)
        if chance.random() < 0.5:
            return [Insn(width | operation | op.BPF_X, dst, src, off)]
        imm = self.immediate()
        if operation in (op.BPF_LSH, op.BPF_RSH, op.BPF_ARSH):
            imm &= 63 if width == op.BPF_ALU64 else 31
        return [Insn(width | operation, dst, 0, off, imm or int(divides))]

    def memory(self) -> list[Insn]:
        """Inside of the stack or the map, aligned."""
        chance = self.chance
        size = chance.choice(list(SIZES))
        count = SIZES[size]
        base, low, high = chance.choice([(op.R10, -STACK, 0), (MEMORY, 0, VALUES * 8)])
        off = low + chance.randrange((high - low) // count) * count
        register = chance.randint(0, 8)
        kind = chance.random()
        if kind < 0.35:
            return [Insn(op.BPF_LDX | op.BPF_MEM | size, register, base, off)]
        if kind < 0.45 and self.version >= 4 and count < 8:
            return [Insn(op.BPF_LDX | op.BPF_MEMSX | size, register, base, off)]
        if kind < 0.6:
            return [Insn(op.BPF_ST | op.BPF_MEM | size, base, 0, off, self.immediate())]
        if kind < 0.75 and count >= 4:
            atomic = chance.choice(ATOMICS) if self.version >= 3 else op.BPF_ADD
            return [Insn(op.BPF_STX | op.BPF_ATOMIC | size, base, register, off, atomic)]
        return [Insn(op.BPF_STX | op.BPF_MEM | size, base, register, off)]

    def jump(self) -> list[Insn]:
        """Forward, and with a condition: the verifier refuses what cannot be reached."""
        chance = self.chance
        goal = chance.randint(1, 6)
        width = chance.choice([op.BPF_JMP, op.BPF_JMP32])
        operation = chance.choice(COMPARISONS)
        dst = chance.randint(0, 8)
        if chance.random() < 0.5:
            return [Insn(width | operation | op.BPF_X, dst, chance.randint(0, 8), goal)]
        return [Insn(width | operation, dst, 0, goal, self.immediate())]

    def call(self) -> list[Insn]:
        """A call, after which the arguments have to get numbers again."""
        again = [
            Insn(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, register, MEMORY, 8 * register)
            for register in range(1, 6)
        ]
        return [Insn(op.BPF_JMP | op.BPF_CALL, src=op.BPF_PSEUDO_CALL), *again]


def run_in_kernel(number: int, version: int) -> str:
    """What a program has left in its map, in hex; or why it did not run."""
    from tracebee.errors import TracebeeError
    from tracebee.kernel.maps import KernelMap
    from tracebee.kernel.programs import load_program
    from tracebee.kernel.symbols import KernelNames
    from tracebee.syscalls import bpf

    table = KernelMap(MAP, bpf.map_create(MAP.type, MAP.key_size, MAP.value_size, MAP.max_entries), 1)
    try:
        table.put(bytes(4), start_values(number))
        spec = ProgramSpec("generated", "RAW_TRACEPOINT", program(number, version))
        made = load_program(spec, {"memory": table.fd}, 0, KernelNames())
        try:
            bpf.prog_test_run(made.fd)
        finally:
            made.close()
        return (table.get(bytes(4)) or b"").hex()
    except TracebeeError as error:
        return f"refused: {error} {getattr(error, 'log', '')[-600:]}"
    finally:
        table.close()


if __name__ == "__main__":
    first, count, isa = [int(word) for word in sys.argv[1:]]
    for each in range(first, first + count):
        print(json.dumps([each, run_in_kernel(each, isa)]), flush=True)
