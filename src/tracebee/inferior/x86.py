"""Instructions of x86-64: how long they are, and how to run one at another address.

A breakpoint replaces the first byte of an instruction, which then has to be run somewhere else, since another
thread would miss the breakpoint if it were put back.  `relocate` makes code for another place that does what the
instruction does in its own: it ends in a jump to the following instruction, so that nobody has to watch it.

Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, chapter 2 and appendix A; XOP and
3DNow! from AMD's manual, volume 3, appendix A.
"""

from __future__ import annotations

from tracebee.errors import FormatError
from tracebee.records import Frozen

MAX_LENGTH = 15
SLOT_SIZE = 32
"""Bytes that relocated code takes at most."""

REACH = 0x7FFF0000
"""How far a relocated instruction may be from its place: what 32 bits with a sign reach, less some slack."""

_PREFIXES = frozenset((0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3))


def _set(*ranges: tuple[int, int] | int) -> frozenset[int]:
    found: set[int] = set()
    for one in ranges:
        found |= set(range(one[0], one[1] + 1)) if isinstance(one, tuple) else {one}
    return frozenset(found)


_ARITHMETIC = range(0, 0x40, 8)

_INVALID = _set(0x06, 0x07, 0x0E, 0x16, 0x17, 0x1E, 0x1F, 0x27, 0x2F, 0x37, 0x3F, (0x60, 0x61), 0x82) | _set(
    0x9A, 0xCE, (0xD4, 0xD6), 0xEA
)
_MODRM = _set(
    *((start, start + 3) for start in _ARITHMETIC),
    *(
        0x63,
        0x69,
        0x6B,
        (0x80, 0x8F),
        0xC0,
        0xC1,
        0xC6,
        0xC7,
        (0xD0, 0xD3),
        (0xD8, 0xDF),
        0xF6,
        0xF7,
        0xFE,
        0xFF,
    ),
)
_BYTE = _set(
    *(start + 4 for start in _ARITHMETIC),
    *(0x6A, 0x6B, (0x70, 0x7F), 0x80, 0x83, 0xA8, (0xB0, 0xB7), 0xC0, 0xC1, 0xC6, 0xCD, (0xE0, 0xE7), 0xEB),
)
_WIDE = _set(*(start + 5 for start in _ARITHMETIC), *(0x68, 0x69, 0x81, 0xA9, 0xC7))
"""An immediate of the operand's size, at most 4 bytes."""

_NO_MODRM_0F = _set(
    *(
        (0x05, 0x09),
        0x0B,
        0x0E,
        (0x30, 0x35),
        0x37,
        0x77,
        (0x80, 0x8F),
        (0xA0, 0xA2),
        (0xA8, 0xAA),
        (0xC8, 0xCF),
    )
)
_INVALID_0F = _set(0x04, 0x0A, 0x0C, (0x24, 0x27), 0x36, 0x39, (0x3B, 0x3F))
_BYTE_0F = _set(0x0F, (0x70, 0x73), 0xA4, 0xAC, 0xBA, 0xC2, (0xC4, 0xC6))
_BYTE_VEX = _set((0x70, 0x73), 0xC2, (0xC4, 0xC6))


class Instruction(Frozen):
    """A decoded instruction.

    `opcode` has the map above its byte: 0xE8, 0x0F05, 0x0F38xx, 0x0F3Axx; of an encoding with VEX, EVEX or XOP it is
    -1.  The offsets are -1 where there is no such field.
    """

    code: bytes
    opcode: int
    start: int
    """Offset of the opcode's last byte."""
    modrm: int
    relative: int
    """Offset of the displacement of 4 bytes that counts from the end of the instruction."""
    immediate: int
    rex: int
    operand_size: bool
    address_size: bool

    @property
    def length(self) -> int:
        return len(self.code)

    @property
    def extension(self) -> int:
        """The middle field of ModRM, which extends some opcodes; -1 without ModRM."""
        return self.code[self.modrm] >> 3 & 7 if self.modrm >= 0 else -1


class _Reader:
    def __init__(self, code: bytes) -> None:
        self.code = code[:MAX_LENGTH]
        self.at = 0

    def byte(self) -> int:
        if self.at >= len(self.code):
            raise FormatError("x86: the instruction does not end", self.at)
        self.at += 1
        return self.code[self.at - 1]

    def skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self.code):
            raise FormatError("x86: the instruction does not end", len(self.code))


def decode(code: bytes) -> Instruction:
    """The instruction that begins `code`, in 64-bit mode.  Raises FormatError for what is none, or not known."""
    reader = _Reader(code)
    prefixes: set[int] = set()
    byte = reader.byte()
    while byte in _PREFIXES:
        prefixes.add(byte)
        byte = reader.byte()
    rex = 0
    if byte & 0xF0 == 0x40:
        rex = byte
        byte = reader.byte()
    if byte in (0xC4, 0xC5, 0x62) or (byte == 0x8F and _is_xop(reader)):
        opcode, has_modrm, immediate_size = _decode_vector(reader, byte)
    elif byte == 0x0F:
        opcode, has_modrm, immediate_size = _decode_two(reader, prefixes)
    else:
        if byte in _INVALID:
            raise FormatError(f"x86: no instruction begins with {byte:#04x}", reader.at - 1)
        opcode, has_modrm = byte, byte in _MODRM
        immediate_size = _immediate_size(byte, rex, 0x66 in prefixes, 0x67 in prefixes)
    start = reader.at - 1
    modrm = relative = -1
    if has_modrm:
        modrm = reader.at
        relative = _skip_operand(reader)
        if opcode in (0xF6, 0xF7) and reader.code[modrm] >> 3 & 7 < 2:
            immediate_size = 1 if opcode == 0xF6 else 2 if 0x66 in prefixes and not rex & 8 else 4
    immediate = reader.at if immediate_size else -1
    reader.skip(immediate_size)
    return Instruction(
        bytes(reader.code[: reader.at]),
        opcode,
        start,
        modrm,
        relative,
        immediate,
        rex,
        0x66 in prefixes,
        0x67 in prefixes,
    )


def _is_xop(reader: _Reader) -> bool:
    """Whether 0x8F begins an XOP encoding: POP has a register field of 0 there, and so no map of 8 or more."""
    return reader.at < len(reader.code) and reader.code[reader.at] & 0x1F >= 8


def _decode_vector(reader: _Reader, byte: int) -> tuple[int, bool, int]:
    """The opcode behind VEX, EVEX or XOP: -1, whether ModRM follows, the size of the immediate."""
    if byte == 0xC5:
        reader.skip(1)
        kind = 1
    elif byte == 0x62:
        kind = reader.byte() & 7
        reader.skip(2)
        if kind not in (1, 2, 3, 5, 6):
            raise FormatError(f"x86: EVEX map {kind} is not known", reader.at)
    else:
        kind = reader.byte() & 0x1F
        reader.skip(1)
        if kind not in ((8, 9, 10) if byte == 0x8F else (1, 2, 3)):
            raise FormatError(f"x86: VEX map {kind} is not known", reader.at)
    opcode = reader.byte()
    if kind == 1:
        return -1, byte == 0x62 or opcode != 0x77, int(opcode in _BYTE_VEX)
    return -1, True, {3: 1, 8: 1, 10: 4}.get(kind, 0)


def _decode_two(reader: _Reader, prefixes: set[int]) -> tuple[int, bool, int]:
    byte = reader.byte()
    if byte == 0x38:
        return 0x0F3800 | reader.byte(), True, 0
    if byte == 0x3A:
        return 0x0F3A00 | reader.byte(), True, 1
    if byte in _INVALID_0F or (byte == 0x78 and prefixes & {0x66, 0xF2}):
        raise FormatError(f"x86: no instruction begins with 0x0f {byte:#04x}", reader.at - 1)
    if 0x80 <= byte <= 0x8F:
        return 0x0F00 | byte, False, 4
    return 0x0F00 | byte, byte not in _NO_MODRM_0F, int(byte in _BYTE_0F)


def _immediate_size(opcode: int, rex: int, operand_size: bool, address_size: bool) -> int:
    if opcode in _BYTE:
        return 1
    if opcode in _WIDE:
        return 2 if operand_size and not rex & 8 else 4
    if 0xB8 <= opcode <= 0xBF:
        return 8 if rex & 8 else 2 if operand_size else 4
    if 0xA0 <= opcode <= 0xA3:
        return 4 if address_size else 8
    return {0xC2: 2, 0xCA: 2, 0xC8: 3, 0xE8: 4, 0xE9: 4}.get(opcode, 0)


def _skip_operand(reader: _Reader) -> int:
    """Pass ModRM, SIB and displacement; the offset of one that counts from the instruction pointer, or -1."""
    modrm = reader.byte()
    mode, register = modrm >> 6, modrm & 7
    if mode == 3:
        return -1
    relative = -1
    base = register
    if register == 4:
        base = reader.byte() & 7
    if mode == 0:
        if base == 5:
            relative = reader.at if register == 5 else -1
            reader.skip(4)
    else:
        reader.skip(1 if mode == 1 else 4)
    return relative


class Relocated(Frozen):
    """Code for another address, and what the instruction pointer stands for there.

    `meanings` maps each place in the code, as an offset, where a thread can be seen, to the address that the thread
    would have if it had run the instruction in its own place.  `enters_kernel` tells of a system call: the kernel
    sees the address behind it.  At offset `undone` the stack pointer is 8 less than before the instruction, for which
    it stands there.
    """

    code: bytes
    meanings: dict[int, int]
    enters_kernel: bool = False
    undone: int = -1


def relocate(instruction: Instruction, address: int, place: int) -> Relocated:
    """Code that does at `place` what the instruction does at `address`.

    Raises FormatError where that cannot be done.
    """
    if abs(place - address) > REACH:
        raise FormatError("x86: the other place is too far away")
    opcode, after = instruction.opcode, address + instruction.length
    code = instruction.code
    if instruction.relative >= 0 and instruction.address_size:
        raise FormatError("x86: an address relative to the low half of the instruction pointer")
    if opcode == 0xE8 or (opcode == 0xFF and instruction.extension == 2):
        return _relocate_call(instruction, address, place)
    if opcode in (0xE9, 0xEB):
        return Relocated(_jump(place, _target(instruction, address)), {0: address})
    if 0x70 <= opcode <= 0x7F or 0x0F80 <= opcode <= 0x0F8F or 0xE0 <= opcode <= 0xE3:
        # A short one over the jump that is for "no".
        short = 0x70 | opcode & 15 if not 0xE0 <= opcode <= 0xE3 else opcode
        head = (b"\x67" if instruction.address_size and short >= 0xE0 else b"") + bytes((short, 5))
        at, target = place + len(head), _target(instruction, address)
        meanings = {0: address, len(head): after, len(head) + 5: target}
        return Relocated(head + _jump(at, after) + _jump(at + 5, target), meanings)
    if opcode in (0xCC, 0xF1) or (opcode == 0xFF and instruction.extension == 3):
        raise FormatError(f"x86: {code.hex(' ')} cannot be run elsewhere")
    if opcode == 0xC7 and code[instruction.modrm] == 0xF8:
        raise FormatError("x86: the beginning of a transaction cannot be run elsewhere")
    if instruction.relative >= 0:
        code = _with_displacement(instruction, code, address - place)
    enters_kernel = opcode in (0x0F05, 0x0F34, 0xCD)
    whole = code + _jump(place + len(code), after)
    return Relocated(whole, {0: address, len(code): after}, enters_kernel)


def _relocate_call(instruction: Instruction, address: int, place: int) -> Relocated:
    """A call: the caller's address is pushed as such, and then a jump made."""
    after = address + instruction.length
    if instruction.opcode == 0xE8:
        target = _target(instruction, address)
        code = b"\xff\x35" + (5).to_bytes(4, "little") + _jump(place + 6, target)
        return Relocated(code + after.to_bytes(8, "little"), {0: address, 6: target})
    if instruction.operand_size:
        raise FormatError("x86: a call with 16 bits")
    jump = bytearray(instruction.code)
    jump[instruction.modrm] = jump[instruction.modrm] & 0xC7 | 4 << 3  # JMP r/m
    moved = _below_push(instruction, bytes(jump))
    if instruction.relative >= 0:
        moved = _with_displacement(instruction, moved, address - place - 6)
    code = b"\xff\x35" + len(moved).to_bytes(4, "little") + moved
    return Relocated(code + after.to_bytes(8, "little"), {0: address, 6: address}, undone=6)


def _below_push(instruction: Instruction, code: bytes) -> bytes:
    """The instruction for a stack pointer that is 8 less; only ModRM, SIB and displacement follow the opcode."""
    at = instruction.modrm
    mode, register = code[at] >> 6, code[at] & 7
    if mode == 3:
        if register == 4 and not instruction.rex & 1:
            raise FormatError("x86: a call to the stack pointer")
        return code
    if register != 4 or code[at + 1] & 7 != 4 or instruction.rex & 1:
        return code
    size = (0, 1, 4)[mode]
    displacement = int.from_bytes(code[at + 2 : at + 2 + size], "little", signed=True) + 8
    return (
        code[:at]
        + bytes((code[at] & 0x3F | 0x80, code[at + 1]))
        + displacement.to_bytes(4, "little", signed=True)
    )


def _with_displacement(instruction: Instruction, code: bytes, change: int) -> bytes:
    """The code with another displacement from the instruction pointer."""
    at = instruction.relative
    value = int.from_bytes(code[at : at + 4], "little", signed=True) + change
    try:
        return code[:at] + value.to_bytes(4, "little", signed=True) + code[at + 4 :]
    except OverflowError:
        raise FormatError("x86: the operand is too far away") from None


def _target(instruction: Instruction, address: int) -> int:
    """Where a relative branch leads."""
    distance = int.from_bytes(instruction.code[instruction.immediate :], "little", signed=True)
    return address + instruction.length + distance & 0xFFFFFFFFFFFFFFFF


def _jump(place: int, target: int) -> bytes:
    """JMP rel32."""
    try:
        return b"\xe9" + (target - place - 5).to_bytes(4, "little", signed=True)
    except OverflowError:
        raise FormatError("x86: the target is too far away") from None
