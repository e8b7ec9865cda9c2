"""Emits instructions one after the other and settles their labels.

The compiler's emitter and the tests write programs with this; text goes through tracebee.insn.asm, whose
jumps stay as they are written, where here one that is too far becomes a long one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.errors import InternalError
from tracebee.insn import opcodes as uapi
from tracebee.insn.codec import (
    CALL,
    GOTO,
    GOTOL,
    LDDW,
    MASK32,
    MASK64,
    PSEUDO_JUMP,
    Insn,
    Kfunc,
    Label,
    MapFd,
    MapValue,
    aim,
    reach,
)

if TYPE_CHECKING:
    from typing import Literal

SIZE_BITS = {1: uapi.BPF_B, 2: uapi.BPF_H, 4: uapi.BPF_W, 8: uapi.BPF_DW}
"""The size field of an opcode for a number of bytes."""

INVERSE = {
    uapi.BPF_JEQ: uapi.BPF_JNE,
    uapi.BPF_JNE: uapi.BPF_JEQ,
    uapi.BPF_JGT: uapi.BPF_JLE,
    uapi.BPF_JLE: uapi.BPF_JGT,
    uapi.BPF_JGE: uapi.BPF_JLT,
    uapi.BPF_JLT: uapi.BPF_JGE,
    uapi.BPF_JSGT: uapi.BPF_JSLE,
    uapi.BPF_JSLE: uapi.BPF_JSGT,
    uapi.BPF_JSGE: uapi.BPF_JSLT,
    uapi.BPF_JSLT: uapi.BPF_JSGE,
}
"""The jump that is taken exactly when this one is not; BPF_JSET has none."""

_S32 = range(-(1 << 31), 1 << 31)
_S16 = range(-(1 << 15), 1 << 15)


class Builder:
    """A program in the making.

    `size` and `bits` arguments are numbers of bytes and bits, `op` arguments are the constants of
    tracebee.insn.opcodes, registers are 0 to 10.  What cannot be encoded raises InternalError, since it is
    the caller's code that wrote it.
    """

    __slots__ = ("_insns", "_jumps", "_labels", "_moved", "_slots")

    def __init__(self) -> None:
        self._insns: list[Insn] = []
        self._slots = 0
        # name → index of the instruction that follows it, and its slot
        self._labels: dict[str, tuple[int, int]] = {}
        # index and slot of the instructions that name a label
        self._jumps: list[tuple[int, int]] = []
        # slot as emitted → slot as finished, if finish() had to insert instructions
        self._moved: dict[int, int] = {}

    # Placing

    @property
    def here(self) -> int:
        """The slot that the next instruction gets, unless finish() has to make a jump before it longer."""
        return self._slots

    def emit(self, insn: Insn) -> None:
        """Append an instruction."""
        if insn.ref.__class__ is Label:
            self._jumps.append((len(self._insns), self._slots))
        self._insns.append(insn)
        self._slots += 2 if insn.code == LDDW else 1

    def label(self, name: str) -> None:
        """Let `name` be the place of the next instruction."""
        if name in self._labels:
            raise InternalError(f"label {name!r} is defined twice")
        self._labels[name] = len(self._insns), self._slots

    # Moves and arithmetic

    def mov(self, dst: int, src: int) -> None:
        """dst = src, all 64 bits."""
        self.emit(Insn(uapi.BPF_ALU64 | uapi.BPF_MOV | uapi.BPF_X, dst, src))

    def mov_imm(self, dst: int, imm: int) -> None:
        """dst = imm, any number of 64 bits, signed or unsigned, in as few slots as it needs."""
        value = imm & MASK64
        signed = value - (1 << 64) if value >> 63 else value
        if imm not in (value, signed):
            raise InternalError(f"{imm} does not fit 64 bits")
        if signed in _S32:
            self.emit(Insn(uapi.BPF_ALU64 | uapi.BPF_MOV | uapi.BPF_K, dst, imm=signed))
        elif value <= MASK32:
            # A 32-bit move clears the upper half of its register.
            self.emit(Insn(uapi.BPF_ALU | uapi.BPF_MOV | uapi.BPF_K, dst, imm=value - (1 << 32)))
        else:
            self.emit(Insn(LDDW, dst, imm=value))

    def alu(self, op: int, dst: int, src: int, *, signed: bool = False) -> None:
        """dst = dst op src, 64 bits.  `signed` makes a BPF_DIV or BPF_MOD a signed one."""
        self._alu_reg(uapi.BPF_ALU64, op, dst, src, signed)

    def alu_imm(self, op: int, dst: int, imm: int, *, signed: bool = False) -> None:
        """dst = dst op imm, 64 bits.  `imm` is a signed 32-bit number, which is sign-extended."""
        if imm not in _S32:
            raise InternalError(f"{imm} does not fit a 32-bit immediate")
        self._alu_imm(uapi.BPF_ALU64, op, dst, imm, signed)

    def alu32(self, op: int, dst: int, src: int, *, signed: bool = False) -> None:
        """dst = dst op src, 32 bits; the upper half of dst is cleared."""
        self._alu_reg(uapi.BPF_ALU, op, dst, src, signed)

    def alu32_imm(self, op: int, dst: int, imm: int, *, signed: bool = False) -> None:
        """dst = dst op imm, 32 bits; the upper half of dst is cleared.  `imm` may be signed or unsigned."""
        self._alu_imm(uapi.BPF_ALU, op, dst, _imm32(imm), signed)

    def neg(self, dst: int, *, is32: bool = False) -> None:
        """dst = -dst."""
        self.emit(Insn((uapi.BPF_ALU if is32 else uapi.BPF_ALU64) | uapi.BPF_NEG, dst))

    def endian(self, dst: int, bits: int, kind: Literal["le", "be", "bswap"]) -> None:
        """The low 16, 32 or 64 bits of dst, zero-extended, in the byte order `kind`, or swapped ("bswap")."""
        codes = {
            "le": uapi.BPF_ALU | uapi.BPF_END | uapi.BPF_TO_LE,
            "be": uapi.BPF_ALU | uapi.BPF_END | uapi.BPF_TO_BE,
            "bswap": uapi.BPF_ALU64 | uapi.BPF_END,
        }
        if bits not in (16, 32, 64):
            raise InternalError(f"no instruction swaps {bits} bits")
        self.emit(Insn(codes[kind], dst, imm=bits))

    def movsx(self, dst: int, src: int, bits: int, *, is32: bool = False) -> None:
        """dst = the low 8, 16 or 32 `bits` of src, sign-extended to 64 bits, or to 32."""
        if bits not in ((8, 16) if is32 else (8, 16, 32)):
            raise InternalError(f"no instruction sign-extends {bits} bits to {32 if is32 else 64}")
        width = uapi.BPF_ALU if is32 else uapi.BPF_ALU64
        self.emit(Insn(width | uapi.BPF_MOV | uapi.BPF_X, dst, src, bits))

    # Memory

    def load(self, size: int, dst: int, base: int, off: int) -> None:
        """dst = the `size` bytes at base + off, zero-extended."""
        self.emit(Insn(uapi.BPF_LDX | uapi.BPF_MEM | _size(size), dst, base, _offset(off)))

    def load_signed(self, size: int, dst: int, base: int, off: int) -> None:
        """dst = the 1, 2 or 4 bytes at base + off, sign-extended (Linux 6.6)."""
        if size == 8:
            raise InternalError("a load of 8 bytes has nothing to extend")
        self.emit(Insn(uapi.BPF_LDX | uapi.BPF_MEMSX | _size(size), dst, base, _offset(off)))

    def store(self, size: int, base: int, off: int, src: int) -> None:
        """The `size` bytes at base + off = src."""
        self.emit(Insn(uapi.BPF_STX | uapi.BPF_MEM | _size(size), base, src, _offset(off)))

    def store_imm(self, size: int, base: int, off: int, imm: int) -> None:
        """The `size` bytes at base + off = imm, which is 32 bits, sign-extended where 8 bytes are stored."""
        if size == 8 and imm not in _S32:
            raise InternalError(f"{imm} does not fit a 32-bit immediate")
        self.emit(Insn(uapi.BPF_ST | uapi.BPF_MEM | _size(size), base, 0, _offset(off), _imm32(imm)))

    def atomic(self, op: int, size: int, base: int, off: int, src: int, fetch: bool = False) -> None:
        """The 4 or 8 bytes at base + off are changed by `op` and src, undivided.

        `op` is BPF_ADD, BPF_AND, BPF_OR or BPF_XOR, BPF_XCHG or BPF_CMPXCHG.  With `fetch`, and by BPF_XCHG,
        src gets what was there before; BPF_CMPXCHG compares with r0 and puts it there.
        """
        if size not in (4, 8):
            raise InternalError(f"no atomic operation changes {size} bytes")
        self._atomic(size, base, off, src, op | uapi.BPF_FETCH if fetch else op)

    def load_acquire(self, size: int, dst: int, base: int, off: int) -> None:
        """Like load(); later accesses are not moved before it (Linux 6.15)."""
        self._atomic(size, dst, off, base, uapi.BPF_LOAD_ACQ)

    def store_release(self, size: int, base: int, off: int, src: int) -> None:
        """Like store(); earlier accesses are not moved behind it (Linux 6.15)."""
        self._atomic(size, base, off, src, uapi.BPF_STORE_REL)

    # Jumps and calls

    def jump(self, label: str) -> None:
        """Go to `label`."""
        self.emit(Insn(GOTO, ref=Label(label)))

    def jump_if(self, op: int, dst: int, src: int, label: str, is32: bool = False) -> None:
        """Go to `label` if dst op src holds for the whole registers, or for their lower halves."""
        width = uapi.BPF_JMP32 if is32 else uapi.BPF_JMP
        self.emit(Insn(width | op | uapi.BPF_X, dst, src, ref=Label(label)))

    def jump_if_imm(self, op: int, dst: int, imm: int, label: str, is32: bool = False) -> None:
        """Go to `label` if dst op imm holds.

        `imm` is 32 bits: compared with a whole register it is sign-extended and must be signed, compared with
        the lower half it may be unsigned.
        """
        if is32:
            self.emit(Insn(uapi.BPF_JMP32 | op, dst, imm=_imm32(imm), ref=Label(label)))
            return
        if imm not in _S32:
            raise InternalError(f"{imm} does not fit a 32-bit immediate")
        self.emit(Insn(uapi.BPF_JMP | op, dst, imm=imm, ref=Label(label)))

    def may_goto(self, label: str) -> None:
        """Go to `label` once the program has run for too long (Linux 6.9)."""
        self.emit(Insn(PSEUDO_JUMP, src=uapi.BPF_MAY_GOTO, ref=Label(label)))

    def call(self, helper_id: int) -> None:
        """r0 = a helper function of r1 to r5; see tracebee.insn.helpers."""
        self.emit(Insn(CALL, imm=helper_id))

    def call_local(self, label: str) -> None:
        """r0 = the function of this program at `label`, of r1 to r5."""
        self.emit(Insn(CALL, src=uapi.BPF_PSEUDO_CALL, ref=Label(label)))

    def call_kfunc(self, name: str) -> None:
        """r0 = a kernel function of r1 to r5."""
        self.emit(Insn(CALL, src=uapi.BPF_PSEUDO_KFUNC_CALL, ref=Kfunc(name)))

    def exit(self) -> None:
        """Return r0."""
        self.emit(Insn(uapi.BPF_JMP | uapi.BPF_EXIT))

    # Addresses

    def load_map(self, dst: int, name: str) -> None:
        """dst = the map `name`."""
        self.emit(Insn(LDDW, dst, uapi.BPF_PSEUDO_MAP_FD, ref=MapFd(name)))

    def load_map_value(self, dst: int, name: str, offset: int = 0) -> None:
        """dst = the address of the byte at `offset` in the first value of the array `name`."""
        self.emit(Insn(LDDW, dst, uapi.BPF_PSEUDO_MAP_VALUE, ref=MapValue(name, offset)))

    def load_function(self, dst: int, label: str) -> None:
        """dst = the function of this program at `label`, for helpers that call back."""
        self.emit(Insn(LDDW, dst, uapi.BPF_PSEUDO_FUNC, ref=Label(label)))

    # The end

    def finish(self) -> tuple[Insn, ...]:
        """The program, with distances for labels; other references stay.

        A jump too far for its 16 bits becomes a long one (BPF_JMP32 | BPF_JA, Linux 6.6).  A conditional jump
        has no long form and is led around one, which moves what follows: see final_slot().  Raises
        InternalError for a label that is nowhere defined.
        """
        self._moved = {}
        insns = list(self._insns)
        for index, slot in self._jumps:
            aimed = _aimed(insns[index], self._target(insns[index])[1] - slot - 1)
            if aimed is None:
                return self._stretched()
            insns[index] = aimed
        return tuple(insns)

    def final_slot(self, slot: int) -> int:
        """Where finish() has put the instruction, or the end, that was `here` at `slot`."""
        return self._moved.get(slot, slot)

    def _target(self, insn: Insn) -> tuple[int, int]:
        """Index and slot of the label that `insn` names."""
        name = insn.ref.name if isinstance(insn.ref, Label) else ""
        try:
            return self._labels[name]
        except KeyError:
            raise InternalError(f"label {name!r} is not defined") from None

    def _alu_reg(self, alu_class: int, op: int, dst: int, src: int, signed: bool) -> None:
        self.emit(Insn(alu_class | op | uapi.BPF_X, dst, src, _signed(op, signed)))

    def _alu_imm(self, alu_class: int, op: int, dst: int, imm: int, signed: bool) -> None:
        self.emit(Insn(alu_class | op, dst, 0, _signed(op, signed), imm))

    def _atomic(self, size: int, dst: int, off: int, src: int, imm: int) -> None:
        self.emit(Insn(uapi.BPF_STX | uapi.BPF_ATOMIC | _size(size), dst, src, _offset(off), imm))

    def _stretched(self) -> tuple[Insn, ...]:
        """The program with conditional jumps that cannot reach led around long ones.

        Each round makes longer those that cannot reach where things are now.  That never brings two places
        closer together, so what was too far stays too far and the rounds end.
        """
        insns = self._insns
        starts = _starts(insns, {})
        index_at = {slot: index for index, slot in enumerate(starts)}
        targets: dict[int, int] = {}
        for index, insn in enumerate(insns):
            if isinstance(insn.ref, Label):
                targets[index] = self._target(insn)[0]
            elif (distance := reach(insn)) is not None:
                target = index_at.get(starts[index] + 1 + distance)
                if target is None:
                    raise InternalError(f"instruction {index} jumps to where no instruction starts")
                targets[index] = target

        before = starts
        longer: dict[int, int] = {}
        while True:
            too_far = [
                index
                for index, target in targets.items()
                if index not in longer and _aimed(insns[index], starts[target] - starts[index] - 1) is None
            ]
            if not too_far:
                break
            for index in too_far:
                longer[index] = 1 if insns[index].code & 0xF0 in INVERSE else 2
            starts = _starts(insns, longer)
        self._moved = dict(zip(before, starts, strict=True))

        result: list[Insn] = []
        for index, insn in enumerate(insns):
            if index not in targets:
                result.append(insn)
                continue
            goal = starts[targets[index]]
            if index in longer:
                result += _around(insn)
                result.append(Insn(GOTOL, imm=goal - starts[index] - longer[index] - 1))
            else:
                aimed = _aimed(insn, goal - starts[index] - 1)
                assert aimed is not None
                result.append(aimed)
        return tuple(result)


def _size(size: int) -> int:
    try:
        return SIZE_BITS[size]
    except KeyError:
        raise InternalError(f"no instruction moves {size} bytes") from None


def _offset(off: int) -> int:
    if off not in _S16:
        raise InternalError(f"offset {off} does not fit 16 bits")
    return off


def _imm32(imm: int) -> int:
    """The signed form of 32 bits that may be given unsigned."""
    if imm in _S32:
        return imm
    if 0 <= imm <= MASK32:
        return imm - (1 << 32)
    raise InternalError(f"{imm} does not fit 32 bits")


def _signed(operation: int, signed: bool) -> int:
    """The offset field of an arithmetic instruction."""
    if signed and operation not in (uapi.BPF_DIV, uapi.BPF_MOD):
        raise InternalError(f"operation {operation:#04x} has no signed form")
    return int(signed)


def _aimed(insn: Insn, distance: int) -> Insn | None:
    """`insn` as a jump or reference over `distance` slots; None if it needs the help of a long jump."""
    if distance in _S16 or insn.code in (LDDW, CALL, GOTOL):
        return aim(insn, distance)
    return Insn(GOTOL, imm=distance) if insn.code == GOTO else None


def _starts(insns: list[Insn], longer: dict[int, int]) -> list[int]:
    """The slot of each instruction, and of the end, if some are `longer` by so many slots."""
    starts = [0]
    slot = 0
    for index, insn in enumerate(insns):
        slot += insn.slots + longer.get(index, 0)
        starts.append(slot)
    return starts


def _around(insn: Insn) -> list[Insn]:
    """What comes before the long jump that is taken when the condition of `insn` holds."""
    operation = insn.code & 0xF0
    if operation in INVERSE:
        return [insn._replace(code=insn.code ^ operation | INVERSE[operation], off=1, ref=None)]
    return [insn._replace(off=1, ref=None), Insn(GOTO, off=1)]
