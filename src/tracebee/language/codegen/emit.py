"""From operations with machine registers to instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.errors import InternalError
from tracebee.insn import LDDW, Builder, Insn, KernelSymbol
from tracebee.insn import opcodes as op_codes
from tracebee.insn.helpers import helper_id
from tracebee.language.codegen.allocate import allocate
from tracebee.language.codegen.optimize import signed
from tracebee.language.ir import (
    Address,
    Alu,
    Atomic,
    Branch,
    Call,
    Convert,
    Frame,
    FunctionHandle,
    Jump,
    KernelVariable,
    Label,
    Load,
    MapHandle,
    MapSpot,
    MayGoto,
    Move,
    Negate,
    Reg,
    Return,
    Store,
)

if TYPE_CHECKING:
    from tracebee.language.ir import Argument, Function, Op, Operand
    from tracebee.language.source import Span

MAX_STACK = 512
"""Bytes of stack that a program and the functions it calls may use together (MAX_BPF_STACK)."""

ALU_CODES = {
    "+": op_codes.BPF_ADD,
    "-": op_codes.BPF_SUB,
    "*": op_codes.BPF_MUL,
    "/": op_codes.BPF_DIV,
    "%": op_codes.BPF_MOD,
    "&": op_codes.BPF_AND,
    "|": op_codes.BPF_OR,
    "^": op_codes.BPF_XOR,
    "<<": op_codes.BPF_LSH,
    ">>": op_codes.BPF_RSH,
    "s>>": op_codes.BPF_ARSH,
}
JUMP_CODES = {
    "==": op_codes.BPF_JEQ,
    "!=": op_codes.BPF_JNE,
    "<": op_codes.BPF_JLT,
    "<=": op_codes.BPF_JLE,
    ">": op_codes.BPF_JGT,
    ">=": op_codes.BPF_JGE,
    "s<": op_codes.BPF_JSLT,
    "s<=": op_codes.BPF_JSLE,
    "s>": op_codes.BPF_JSGT,
    "s>=": op_codes.BPF_JSGE,
    "&": op_codes.BPF_JSET,
}
ATOMIC_CODES = {
    "+": op_codes.BPF_ADD,
    "&": op_codes.BPF_AND,
    "|": op_codes.BPF_OR,
    "^": op_codes.BPF_XOR,
    "xchg": op_codes.BPF_XCHG,
}
_S32 = range(-(1 << 31), 1 << 31)


def legalize(function: Function) -> None:
    """Put constants that do not fit an instruction, and address arithmetic, into registers of their own."""
    ops: list[Op] = []

    def materialize(value: Argument, span: Span | None) -> Reg:
        fresh = function.reg()
        move = Move(fresh, value)
        move.span = span
        ops.append(move)
        return fresh

    for op in function.ops:
        if type(op) is Alu or type(op) is Branch:
            if isinstance(op.left, int):
                op.left = materialize(op.left, op.span)
            if isinstance(op.right, int) and signed(op.right) not in _S32:
                op.right = materialize(op.right, op.span)
        elif type(op) is Store and isinstance(op.value, int):
            op.value = _stored_constant(op.value, op.size)
            if op.value not in _S32:
                op.value = materialize(op.value, op.span)
        ops.append(op)
    function.ops = ops


def _stored_constant(value: int, size: int) -> int:
    """The constant as a store instruction takes it: sign-extended from the bytes that count."""
    bits = size * 8
    low = value & ((1 << bits) - 1)
    return low - (1 << bits) if low >> (bits - 1) else low


class Emitter:
    """Emits the functions of one program into one Builder."""

    def __init__(self, has_movsx: bool = False) -> None:
        self.builder = Builder()
        self.has_movsx = has_movsx
        self.lines: list[tuple[int, object]] = []
        self.functions: list[tuple[int, str]] = []
        self.places: dict[Reg, int] = {}
        self.prefix = ""

    def function(self, function: Function, is_main: bool) -> None:
        """Allocate registers and emit one function; callbacks get a label of their name."""
        legalize(function)
        self.places = allocate(function)
        self.prefix = f"{function.name}."
        if not is_main:
            self.builder.label(function.name)
        self.functions.append((self.builder.here, function.name))
        arrivals = [
            (self.places[parameter], number + 1)
            for number, parameter in enumerate(function.parameters)
            if parameter in self.places
        ]
        self.parallel_move(arrivals)
        previous: object = None
        for op in function.ops:
            if op.span is not previous and op.span is not None and type(op) is not Label:
                previous = op.span
                self.lines.append((self.builder.here, op.span))
            self.op(op)

    def op(self, op: Op) -> None:
        builder = self.builder
        match op:
            case Label(_, name):
                if name:
                    builder.label(self.prefix + name)
            case Move(dst, source):
                self.load_argument(self.places.get(dst, 0), source)
            case Alu(dst, operator, left, right):
                self.alu(self.places[dst], operator, left, right)
            case Negate(dst, source):
                self.copy(self.places[dst], self.places[source])
                builder.neg(self.places[dst])
            case Convert(dst, kind, source, bits):
                self.convert(self.places[dst], kind, self.places[source], bits)
            case Load(dst, address, size):
                base, offset = self.address(address)
                builder.load(size, self.places[dst], base, offset)
            case Store(_, address, value, size):
                base, offset = self.address(address)
                if isinstance(value, int):
                    builder.store_imm(size, base, offset, value)
                else:
                    builder.store(size, base, offset, self.places[value])
            case Atomic(dst, operator, address, value, size):
                base, offset = self.address(address)
                source = self.places[value]
                if dst is not None:
                    self.copy(self.places[dst], source)
                    source = self.places[dst]
                builder.atomic(ATOMIC_CODES[operator], size, base, offset, source, fetch=dst is not None)
            case Call(dst, helper, arguments):
                self.call(helper, arguments)
                if dst is not None:
                    self.copy(self.places[dst], 0)
            case Jump(_, label):
                builder.jump(self.prefix + label)
            case Branch(_, label, operator, left, right):
                code = JUMP_CODES[operator]
                assert isinstance(left, Reg), "legalize() saw to it"
                if isinstance(right, int):
                    builder.jump_if_imm(code, self.places[left], signed(right), self.prefix + label)
                else:
                    builder.jump_if(code, self.places[left], self.places[right], self.prefix + label)
            case MayGoto(_, label):
                builder.may_goto(self.prefix + label)
            case Return(_, value):
                if isinstance(value, int):
                    builder.mov_imm(0, value)
                else:
                    self.copy(0, self.places[value])
                builder.exit()
            case _:
                raise InternalError(f"cannot emit {op!r}")

    def address(self, address: Address) -> tuple[int, int]:
        base = op_codes.R10 if isinstance(address.base, Frame) else self.places[address.base]
        return base, address.offset

    def copy(self, dst: int, src: int) -> None:
        if dst != src:
            self.builder.mov(dst, src)

    def alu(self, dst: int, operator: str, left: Operand, right: Operand) -> None:
        assert isinstance(left, Reg), "legalize() saw to it"
        left_place = self.places[left]
        if isinstance(right, int):
            self.copy(dst, left_place)
            self.builder.alu_imm(ALU_CODES[operator], dst, signed(right))
            return
        right_place = self.places[right]
        if dst == right_place and left_place != right_place:
            # The allocator keeps them apart unless the operation may be turned round.
            raise InternalError(f"right operand of {operator} is overwritten")
        self.copy(dst, left_place)
        self.builder.alu(ALU_CODES[operator], dst, right_place)

    def convert(self, dst: int, kind: str, src: int, bits: int) -> None:
        builder = self.builder
        if kind == "swap":
            self.copy(dst, src)
            builder.endian(dst, bits, "be" if _LITTLE else "le")
        elif kind == "sign" and self.has_movsx:
            builder.movsx(dst, src, bits)
        elif kind == "sign":
            self.copy(dst, src)
            builder.alu_imm(op_codes.BPF_LSH, dst, 64 - bits)
            builder.alu_imm(op_codes.BPF_ARSH, dst, 64 - bits)
        elif bits == 32:
            builder.alu32(op_codes.BPF_MOV, dst, src)
        else:
            self.copy(dst, src)
            builder.alu_imm(op_codes.BPF_AND, dst, (1 << bits) - 1)

    def call(self, helper: str, arguments: list[Argument]) -> None:
        """Put the arguments into r1–r5 and call."""
        moves = [
            (number + 1, self.places[argument])
            for number, argument in enumerate(arguments)
            if type(argument) is Reg
        ]
        # Addresses behind registers read their base before it is overwritten, so they count as moves too.
        offsets: list[tuple[int, int]] = []
        for number, argument in enumerate(arguments):
            if type(argument) is Address and not isinstance(argument.base, Frame):
                moves.append((number + 1, self.places[argument.base]))
                offsets.append((number + 1, argument.offset))
        self.parallel_move(moves)
        for register, offset in offsets:
            if offset:
                self.builder.alu_imm(op_codes.BPF_ADD, register, offset)
        for number, argument in enumerate(arguments):
            if type(argument) is not Reg and not (
                type(argument) is Address and not isinstance(argument.base, Frame)
            ):
                self.load_argument(number + 1, argument)
        self.builder.call(helper_id(helper))

    def load_argument(self, dst: int, source: Argument) -> None:
        builder = self.builder
        if type(source) is Reg:
            self.copy(dst, self.places[source])
        elif isinstance(source, int):
            builder.mov_imm(dst, source)
        elif type(source) is Address:
            base, offset = self.address(source)
            self.copy(dst, base)
            if offset:
                builder.alu_imm(op_codes.BPF_ADD, dst, offset)
        elif type(source) is MapHandle:
            builder.load_map(dst, source.name)
        elif type(source) is MapSpot:
            builder.load_map_value(dst, source.name, source.offset)
        elif type(source) is FunctionHandle:
            builder.load_function(dst, source.name)
        elif type(source) is KernelVariable:
            builder.emit(Insn(LDDW, dst, op_codes.BPF_PSEUDO_BTF_ID, ref=KernelSymbol(source.name)))

    def parallel_move(self, moves: list[tuple[int, int]]) -> None:
        """Copy registers to registers as if all at once; r0 is free for breaking cycles.

        It is: where a source is r0, its target is no one's source for ever, so it is moved before any cycle
        is all that is left.
        """
        pending = {dst: src for dst, src in moves if dst != src}
        while pending:
            ready = [dst for dst in pending if dst not in pending.values()]
            if ready:
                self.builder.mov(ready[0], pending.pop(ready[0]))
                continue
            dst, src = next(iter(pending.items()))
            self.builder.mov(0, src)
            pending[dst] = 0


def _little() -> bool:
    import sys

    return sys.byteorder == "little"


_LITTLE = _little()
