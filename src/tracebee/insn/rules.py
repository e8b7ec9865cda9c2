"""Which instructions exist, and which of its fields each of them uses (RFC 9669, 4, 5 and appendix A).

An opcode alone does not always say which instruction it is: the offset tells a signed division from an
unsigned one, the immediate which atomic operation is meant, the src field what is called.  A field that an
instruction neither uses nor is selected by must be 0.
"""

from __future__ import annotations

from tracebee.insn import opcodes as op
from tracebee.insn.codec import CALL, GOTOL, LDDW, Insn, KernelSymbol, Kfunc, Label, MapFd, MapValue

# Fields that an instruction uses.  A src field that only selects is SELECTED, and not a register.
DST = 1
SRC = 2
OFF = 4
IMM = 8
SELECTED = 16
# Registers that it changes.
WRITES_DST = 32
WRITES_SRC = 64

_JUMP_CLASSES = (op.BPF_JMP, op.BPF_JMP32)
_BYTES = {op.BPF_B: 1, op.BPF_H: 2, op.BPF_W: 4, op.BPF_DW: 8}
_ARITHMETIC = (
    *(op.BPF_ADD, op.BPF_SUB, op.BPF_MUL, op.BPF_DIV, op.BPF_MOD, op.BPF_MOV),
    *(op.BPF_OR, op.BPF_AND, op.BPF_XOR, op.BPF_LSH, op.BPF_RSH, op.BPF_ARSH),
)
_COMPARISONS = (
    *(op.BPF_JEQ, op.BPF_JNE, op.BPF_JSET),
    *(op.BPF_JGT, op.BPF_JGE, op.BPF_JLT, op.BPF_JLE),
    *(op.BPF_JSGT, op.BPF_JSGE, op.BPF_JSLT, op.BPF_JSLE),
)
_ATOMIC_CHANGES = (op.BPF_ADD, op.BPF_OR, op.BPF_AND, op.BPF_XOR)
# What a cast between address spaces may ask for: to space 0 from 1, or the other way.
_CASTS = (1, 1 << 16)


class NotAnInstruction(ValueError):
    """No instruction looks like this; str() says why."""


def used_fields(insn: Insn, *, linux: bool = True) -> int:
    """The fields that `insn` uses and the registers that it writes, as flags.

    With `linux` the instructions that the kernel has on top of RFC 9669 count too.  Raises NotAnInstruction.
    """
    code = insn.code
    if not 0 <= code <= 255:
        raise _unknown(code)
    kind = code & 7
    if kind in (op.BPF_ALU, op.BPF_ALU64):
        return _arithmetic(insn, linux)
    if kind in _JUMP_CLASSES:
        return _jump(insn, linux)
    if kind == op.BPF_LD:
        return _special_load(insn, linux)
    mode, size = code & 0xE0, _BYTES[code & 0x18]
    if mode == op.BPF_MEM:
        if kind == op.BPF_LDX:
            return DST | SRC | OFF | WRITES_DST
        return DST | OFF | (IMM if kind == op.BPF_ST else SRC)
    if mode == op.BPF_MEMSX and kind == op.BPF_LDX and size < 8:
        return DST | SRC | OFF | WRITES_DST
    if mode == op.BPF_ATOMIC and kind == op.BPF_STX:
        return _atomic(insn.imm, size, linux)
    raise _unknown(code)


def validate(insn: Insn, *, linux: bool = True) -> str | None:
    """What is wrong with an instruction, or None.

    `linux` admits what the kernel has on top of RFC 9669: may_goto, load-acquire and store-release, casts
    between address spaces, and functions and variables of modules.  Whether the instruction makes sense where
    it stands (jump targets, types of operands) is not asked.
    """
    try:
        used = used_fields(insn, linux=linux)
    except NotAnInstruction as exc:
        return str(exc)
    fault = field_fault(insn, used)
    if fault is None and (
        (used & WRITES_DST and insn.dst == op.R10) or (used & WRITES_SRC and insn.src == op.R10)
    ):
        return "r10 is the frame pointer and cannot be written"
    return fault


def field_fault(insn: Insn, used: int) -> str | None:
    """What is wrong with the fields of an instruction of which used_fields() says `used`, or None."""
    if insn.ref is not None and not ref_fits(insn):
        return f"the instruction has no place for {insn.ref!r}"
    for value, flags, name in (
        (insn.dst, DST, "dst"),
        (insn.src, SRC | SELECTED, "src"),
        (insn.off, OFF, "offset"),
        (insn.imm, IMM, "immediate"),
    ):
        if value and not used & flags:
            return f"the {name} field is not used and must be 0, not {value}"
    for value, flag in ((insn.dst, DST), (insn.src, SRC)):
        if used & flag and not 0 <= value <= op.R10:
            return f"there is no register r{value}"
    if not 0 <= insn.src <= 15:
        return f"the src field {insn.src} does not fit 4 bits"
    if not -0x8000 <= insn.off <= 0x7FFF:
        return f"the offset {insn.off} does not fit 16 bits"
    if insn.code != LDDW and not -(1 << 31) <= insn.imm < 1 << 31:
        return f"the immediate {insn.imm} does not fit 32 bits"
    if insn.code == LDDW and not 0 <= insn.imm < 1 << 64:
        return f"the immediate {insn.imm} does not fit 64 bits"
    return None


def ref_fits(insn: Insn) -> bool:
    """Whether the instruction has a place for its reference."""
    ref, code, src = insn.ref, insn.code, insn.src
    if isinstance(ref, Label):
        if code == LDDW:
            return src == op.BPF_PSEUDO_FUNC
        if code == CALL:
            return src == op.BPF_PSEUDO_CALL
        return code == GOTOL or (
            code & 7 in _JUMP_CLASSES
            and code & 0xF0 not in (op.BPF_CALL, op.BPF_EXIT)
            and code not in (op.BPF_JMP | op.BPF_JA | op.BPF_X, op.BPF_JMP32 | op.BPF_JA | op.BPF_X)
        )
    if isinstance(ref, Kfunc):
        return code == CALL and src == op.BPF_PSEUDO_KFUNC_CALL
    if code != LDDW:
        return False
    if isinstance(ref, MapFd):
        return src == op.BPF_PSEUDO_MAP_FD
    if isinstance(ref, MapValue):
        return src == op.BPF_PSEUDO_MAP_VALUE
    return isinstance(ref, KernelSymbol) and src == op.BPF_PSEUDO_BTF_ID


def _unknown(code: int) -> NotAnInstruction:
    return NotAnInstruction(f"there is no instruction with opcode {code:#04x}")


def _arithmetic(insn: Insn, linux: bool) -> int:
    """Classes BPF_ALU and BPF_ALU64 (RFC 9669, 4.1 and 4.2)."""
    code, off = insn.code, insn.off
    operation, wide, by_register = code & 0xF0, code & 7 == op.BPF_ALU64, code & 8
    if operation == op.BPF_END and not (wide and by_register):
        if insn.imm not in (16, 32, 64):
            raise NotAnInstruction(f"there is no byte swap of {insn.imm} bits")
        return DST | IMM | WRITES_DST
    if operation == op.BPF_NEG and not by_register:
        return DST | WRITES_DST
    if operation not in _ARITHMETIC:
        raise _unknown(code)
    used = DST | WRITES_DST | (SRC if by_register else IMM)
    if off == 0:
        return used
    if operation in (op.BPF_DIV, op.BPF_MOD):
        if off == 1:
            return used | OFF
        raise NotAnInstruction(f"there is no division with offset {off}")
    if operation == op.BPF_MOV and by_register:
        if off in (8, 16) or (wide and off == 32):
            return used | OFF
        if linux and wide and off == op.BPF_ADDR_SPACE_CAST:
            if insn.imm in _CASTS:
                return used | OFF | IMM
            raise NotAnInstruction(f"there is no cast between address spaces with immediate {insn.imm:#x}")
        raise NotAnInstruction(f"there is no move with offset {off}")
    return used


def _jump(insn: Insn, linux: bool) -> int:
    """Classes BPF_JMP and BPF_JMP32 (RFC 9669, 4.3)."""
    code, src = insn.code, insn.src
    operation = code & 0xF0
    if operation in _COMPARISONS:
        return DST | OFF | (SRC if code & 8 else IMM)
    if code == op.BPF_JMP | op.BPF_JA:
        return OFF
    if code == GOTOL:
        return IMM
    if code == op.BPF_JMP | op.BPF_EXIT:
        return 0
    if code == CALL:
        if src == op.BPF_PSEUDO_KFUNC_CALL:
            # The offset is an index in the load's fd_array, for functions of modules.
            return IMM | SELECTED | (OFF if linux else 0)
        if src in (0, op.BPF_PSEUDO_CALL):
            return IMM | SELECTED
        raise NotAnInstruction(f"there is no kind {src} of call")
    if linux and code == op.BPF_JMP | op.BPF_JCOND:
        if src == op.BPF_MAY_GOTO:
            return OFF | SELECTED
        raise NotAnInstruction(f"there is no kind {src} of conditional pseudo jump")
    raise _unknown(code)


def _special_load(insn: Insn, linux: bool) -> int:
    """Class BPF_LD: 64-bit immediates (RFC 9669, 5.4) and the old packet access (5.5)."""
    code, src, upper = insn.code, insn.src, insn.imm >> 32
    mode = code & 0xE0
    if code == LDDW:
        if src > op.BPF_PSEUDO_MAP_IDX_VALUE:
            raise NotAnInstruction(f"there is no kind {src} of 64-bit immediate")
        takes_upper = src in (0, op.BPF_PSEUDO_MAP_VALUE, op.BPF_PSEUDO_MAP_IDX_VALUE)
        # Linux has the descriptor of a module's BTF there.
        takes_upper |= linux and src == op.BPF_PSEUDO_BTF_ID
        if upper and not takes_upper:
            raise NotAnInstruction(f"the second immediate is not used and must be 0, not {upper:#x}")
        return DST | IMM | SELECTED | WRITES_DST
    if code & 0x18 != op.BPF_DW:
        if mode == op.BPF_ABS:
            return IMM
        if mode == op.BPF_IND:
            return SRC | IMM
    raise _unknown(code)


def _atomic(imm: int, size: int, linux: bool) -> int:
    """Mode BPF_ATOMIC (RFC 9669, 5.3)."""
    used = DST | SRC | OFF | IMM
    if size in (4, 8):
        if imm in _ATOMIC_CHANGES or imm == op.BPF_CMPXCHG:
            return used
        if imm == op.BPF_XCHG or (imm & op.BPF_FETCH and imm ^ op.BPF_FETCH in _ATOMIC_CHANGES):
            return used | WRITES_SRC
    if linux and imm == op.BPF_STORE_REL:
        return used
    if linux and imm == op.BPF_LOAD_ACQ:
        return used | WRITES_DST
    raise NotAnInstruction(f"there is no atomic operation {imm:#x} on {size} bytes")
