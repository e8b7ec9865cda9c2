"""Instructions as values, and their bytes (RFC 9669, section 3).

    byte   0         1           2..3       4..7
           opcode    dst, src    offset     immediate       numbers in the machine's byte order

The two registers share a byte: dst is its low half on a little-endian machine and its high half on a
big-endian one.  A 64-bit immediate load ("lddw") takes two such slots: the second has only an immediate, the
upper half of the value.  Here it is one Insn, so that nobody has to step around half instructions; whoever
counts jump distances counts `Insn.slots`.
"""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING, NamedTuple

from tracebee.errors import FormatError
from tracebee.insn import opcodes as op
from tracebee.records import Frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Literal

    ByteOrder = Literal["little", "big"]

SLOT_BYTES = 8

# Whole opcodes of instructions that differ from others of their class in what their fields mean.
LDDW = op.BPF_LD | op.BPF_IMM | op.BPF_DW
CALL = op.BPF_JMP | op.BPF_CALL
GOTO = op.BPF_JMP | op.BPF_JA
GOTOL = op.BPF_JMP32 | op.BPF_JA
PSEUDO_JUMP = op.BPF_JMP | op.BPF_JCOND

MASK32 = (1 << 32) - 1
MASK64 = (1 << 64) - 1

_SLOT = {"little": struct.Struct("<BBhi"), "big": struct.Struct(">BBhi")}
# opcode, registers, offset, lower half; the empty start of the second slot; upper half
_WIDE = {"little": struct.Struct("<BBhIII"), "big": struct.Struct(">BBhIII")}


class Ref(Frozen):
    """Base of what an instruction can name instead of a number.

    While an instruction has a ref, the field that the ref is going to fill is 0.
    """

    __slots__ = ()


class Label(Ref):
    """A place in the program: the target of a jump, of a local call or of a function's address.

    It is bound to the slot of the place, counted from the start of the program.
    """

    name: str


class MapFd(Ref):
    """A map, by name.  It is bound to the map's descriptor."""

    name: str


class MapValue(Ref):
    """The byte at `offset` in the first value of a map.  It is bound to the map's descriptor."""

    name: str
    offset: int = 0


class Kfunc(Ref):
    """A kernel function to be called.

    It is bound to the function's BTF id; one in a module to the id plus the index of the module's BTF
    descriptor in the load's fd_array << 32.  The kernel may lack a `weak` one.
    """

    name: str
    weak: bool = False


class KernelSymbol(Ref):
    """A kernel variable whose address is wanted.

    It is bound to the variable's BTF id; one in a module to the id plus the module's BTF descriptor << 32.  An
    instruction that is no BPF_PSEUDO_BTF_ID gets the address itself.  The kernel may lack a `weak` one.
    """

    name: str
    weak: bool = False


class Insn(NamedTuple):
    """One logical instruction.

    `off` is a signed 16-bit number and `imm` a signed 32-bit one, except that the imm of LDDW is all 64 bits,
    unsigned; if it stands for a map's value (BPF_PSEUDO_MAP_VALUE) its lower half is the descriptor and its
    upper half the offset.
    """

    code: int
    dst: int = 0
    src: int = 0
    off: int = 0
    imm: int = 0
    ref: Ref | None = None

    @property
    def slots(self) -> int:
        """How many slots of 8 bytes it takes: 2 for LDDW, else 1."""
        return 2 if self.code == LDDW else 1


class EncodeError(FormatError):
    """An instruction has no bytes: a field is out of range, or a name is not bound.

    `insn` is the instruction, `index` its place among the instructions, `offset` where its bytes would be.
    """

    def __init__(self, reason: str, insn: Insn, index: int, slot: int) -> None:
        self.reason = reason
        self.insn = insn
        self.index = index
        super().__init__(f"instruction {index}: {reason}", slot * SLOT_BYTES)


class _Misfit(Exception):
    """Why a reference cannot be filled in."""


def encode(
    insns: Iterable[Insn],
    bind: Callable[[Ref], int] | None = None,
    *,
    byteorder: ByteOrder = sys.byteorder,
) -> bytes:
    """The bytes of a program; `bind` gives the number of each reference that is left.

    Raises EncodeError.  What `bind` raises passes through.
    """
    pack, pack_wide = _SLOT[byteorder].pack, _WIDE[byteorder].pack
    little = byteorder == "little"
    parts: list[bytes] = []
    slot = 0
    for index, insn in enumerate(insns):
        code, dst, src, off, imm, ref = insn
        if ref is not None:
            off, imm = _bound(insn, index, slot, ref, bind)
        if (dst | src) & ~15:
            raise EncodeError(f"registers {dst} and {src} do not fit 4 bits each", insn, index, slot)
        registers = src << 4 | dst if little else dst << 4 | src
        try:
            if code == LDDW:
                parts.append(pack_wide(code, registers, off, imm & MASK32, 0, imm >> 32))
                slot += 2
            else:
                parts.append(pack(code, registers, off, imm))
                slot += 1
        except struct.error as exc:
            raise EncodeError(_out_of_range(code, off, imm), insn, index, slot) from exc
    return b"".join(parts)


def resolve(insns: Iterable[Insn], bind: Callable[[Ref], int]) -> list[Insn]:
    """The same program with every reference replaced by its number.  Raises EncodeError."""
    resolved: list[Insn] = []
    slot = 0
    for index, insn in enumerate(insns):
        if insn.ref is not None:
            off, imm = _bound(insn, index, slot, insn.ref, bind)
            insn = insn._replace(off=off, imm=imm, ref=None)
        resolved.append(insn)
        slot += insn.slots
    return resolved


def decode(data: bytes | bytearray | memoryview, *, byteorder: ByteOrder = sys.byteorder) -> list[Insn]:
    """The instructions in `data`, all without references.

    Opcodes are not judged, so that whatever comes back from here encodes to the same bytes.  Raises
    FormatError if the bytes are not whole instructions or a second slot has more than an immediate.
    """
    size = memoryview(data).nbytes
    if size % SLOT_BYTES:
        raise FormatError(
            f"eBPF program of {size} bytes ends inside an instruction", size - size % SLOT_BYTES
        )
    little = byteorder == "little"
    # Insn(...) would first sort out its defaults; this takes two thirds of the time.
    make = tuple.__new__
    insns: list[Insn] = []
    slots = _SLOT[byteorder].iter_unpack(data)
    for code, registers, off, imm in slots:
        if code == LDDW:
            imm = imm & MASK32 | _second_half(next(slots, None), insns) << 32
        low, high = registers & 15, registers >> 4
        dst, src = (low, high) if little else (high, low)
        insns.append(make(Insn, (code, dst, src, off, imm, None)))
    return insns


def slot_count(insns: Iterable[Insn]) -> int:
    """How many slots the instructions take together."""
    return sum([insn.slots for insn in insns])


def reach(insn: Insn) -> int | None:
    """How many slots behind the next slot the place is that `insn` refers to by distance.

    That is where a jump or a local call goes, and where a function starts whose address is loaded.  None if
    the instruction refers to no place, or refers to it by a Label.
    """
    code, _, src, off, imm, ref = insn
    if ref is not None:
        return None
    if code == LDDW:
        return signed32(imm) if src == op.BPF_PSEUDO_FUNC else None
    if code == CALL:
        return imm if src == op.BPF_PSEUDO_CALL else None
    if code == GOTOL:
        return imm
    if code & 7 not in (op.BPF_JMP, op.BPF_JMP32):
        return None
    operation = code & 0xF0
    is_comparison = operation < op.BPF_JCOND and operation not in (op.BPF_JA, op.BPF_CALL, op.BPF_EXIT)
    return off if is_comparison or code in (GOTO, PSEUDO_JUMP) else None


def aim(insn: Insn, distance: int) -> Insn:
    """`insn`, which refers to a place, made to refer to the one `distance` slots behind the next slot."""
    code, dst, src, off, imm, _ = insn
    if code == LDDW:
        return Insn(code, dst, src, off, distance & MASK32)
    if code in (CALL, GOTOL):
        return Insn(code, dst, src, off, distance)
    return Insn(code, dst, src, distance, imm)


def signed32(value: int) -> int:
    """The signed number in the lower 32 bits."""
    return ((value & MASK32) ^ 1 << 31) - (1 << 31)


def _second_half(slot: tuple[int, int, int, int] | None, before: list[Insn]) -> int:
    """The upper half of a 64-bit immediate.  `before` are the instructions decoded so far."""
    if slot is not None and not (slot[0] or slot[1] or slot[2]):
        return slot[3] & MASK32
    offset = (slot_count(before) + 1) * SLOT_BYTES
    if slot is None:
        raise FormatError("64-bit immediate load without its second half", offset)
    raise FormatError("second half of a 64-bit immediate load is not zero but for its immediate", offset)


def _bound(insn: Insn, index: int, slot: int, ref: Ref, bind: Callable[[Ref], int] | None) -> tuple[int, int]:
    """`off` and `imm` once `ref` is bound."""
    if bind is None:
        raise EncodeError(f"{ref!r} is not bound to a number", insn, index, slot)
    try:
        return _filled(insn, slot, ref, bind(ref))
    except _Misfit as exc:
        raise EncodeError(str(exc), insn, index, slot) from None


def _filled(insn: Insn, slot: int, ref: Ref, value: int) -> tuple[int, int]:
    """`off` and `imm` of the instruction at `slot` when its reference has `value`."""
    code = insn.code
    if isinstance(ref, Label):
        if code in (LDDW, CALL) or code & 7 in (op.BPF_JMP, op.BPF_JMP32):
            aimed = aim(insn, value - slot - 1)
            return aimed.off, aimed.imm
    elif isinstance(ref, Kfunc):
        if code == CALL:
            return value >> 32, value & MASK32
    elif code == LDDW:
        if isinstance(ref, KernelSymbol):
            return insn.off, value
        if value >> 32:
            raise _Misfit(f"{ref!r} is bound to {value}, which is no descriptor")
        return insn.off, ref.offset << 32 | value if isinstance(ref, MapValue) else value
    raise _Misfit(f"opcode {code:#04x} has no place for {ref!r}")


def _out_of_range(code: int, off: int, imm: int) -> str:
    """Which field it was that struct refused."""
    if not 0 <= code <= 255:
        return f"opcode {code} does not fit 8 bits"
    if not -0x8000 <= off <= 0x7FFF:
        return f"offset {off} does not fit 16 bits"
    return f"immediate {imm} does not fit {'64 bits, unsigned' if code == LDDW else '32 bits, signed'}"
