"""Static user-space probes: the notes that <sys/sdt.h> leaves in a program, and where their arguments are.

A note in .note.stapsdt (owner "stapsdt", type 3) holds three addresses, of the probe's nop, of .stapsdt.base
at link time and of the semaphore, then provider, name and arguments as C strings (SystemTap wiki,
"UserSpaceProbeImplementation").  An argument is ``N@OP``: N is the size in bytes, negative for a signed
value, with an ``f`` behind it for a floating one; OP is an assembler operand of the machine.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tracebee.errors import FormatError, NotSupportedError
from tracebee.records import Frozen

if TYPE_CHECKING:
    from tracebee.host.elf import ElfFile

_NT_STAPSDT = 3
_SIZES = (1, 2, 4, 8, 16, 32, 64)
_MAX_ARGUMENTS_TEXT = 1 << 14


class UsdtProbe(Frozen):
    """One place where a probe stands; a probe that was inlined has several.

    `address` is the virtual address of the nop and `file_offset` where it is in the file.  `semaphore` is
    the virtual address of the u16 that counts tracers, `semaphore_offset` its file offset; 0 without one.
    `arguments` is the text of the note; `parse_arguments` reads it.
    """

    provider: str
    name: str
    address: int
    file_offset: int
    semaphore: int
    semaphore_offset: int
    arguments: str


class UsdtArgument(Frozen):
    """Where a probe finds an argument of `size` bytes.

    `kind` is one of

    "const"  the value is `offset`, plus the address of `symbol` where that is set
    "reg"    the value is in `register`, from bit `shift` on
    "deref"  the value is in memory at `register` + `offset` + `index` × `scale`, plus the address of `symbol`
             where that is set; each register may be ""

    Registers have their full-width name ("rax" for ``%eax``, "x0" for ``w0``).  An `index` is taken whole
    unless `extend` says which part: "uxtw" or "sxtw" for its lower 32 bits, as arm64 has it.  `segment` is
    "fs" or "gs" where the memory is relative to that one.  `text` is the operand as it stands in the note.
    """

    size: int
    signed: bool
    kind: str
    register: str = ""
    offset: int = 0
    index: str = ""
    scale: int = 1
    extend: str = ""
    symbol: str = ""
    shift: int = 0
    segment: str = ""
    is_float: bool = False
    text: str = ""


def read_probes(elf: ElfFile) -> list[UsdtProbe]:
    """The probes of a file, in the order of their notes; FormatError if a note makes no sense."""
    base_section = elf.find_section(".stapsdt.base")
    shape = ("<" if elf.is_little else ">") + ("QQQ" if elf.is_64 else "III")
    probes = []
    for note in elf.notes(".note.stapsdt"):
        if note.name != b"stapsdt" or note.type != _NT_STAPSDT:
            continue
        pc, base, semaphore, strings = parse_note(note.description, shape)
        if base_section is not None and base:
            # Prelink moves sections and leaves notes alone; the base moved along with the code.
            moved = base_section.address - base
            pc += moved
            semaphore += moved if semaphore else 0
        file_offset = elf.file_offset(pc)
        if file_offset is None:
            raise FormatError(f"USDT: the probe {strings[0]}:{strings[1]} lies outside the file")
        semaphore_offset = elf.file_offset(semaphore) if semaphore else 0
        if semaphore_offset is None:
            raise FormatError(f"USDT: the semaphore of {strings[0]}:{strings[1]} lies outside the file")
        provider, name, arguments = strings
        probes.append(UsdtProbe(provider, name, pc, file_offset, semaphore, semaphore_offset, arguments))
    return probes


def parse_note(description: bytes, shape: str = "<QQQ") -> tuple[int, int, int, tuple[str, str, str]]:
    """A note's description → (probe address, base, semaphore, (provider, name, arguments))."""
    size = struct.calcsize(shape)
    if len(description) < size:
        raise FormatError("USDT: a note is cut short")
    pc, base, semaphore = struct.unpack_from(shape, description)
    strings = description[size:].split(b"\0")
    # The note's own padding may follow the last NUL.
    if len(strings) < 4 or not strings[0] or not strings[1]:
        raise FormatError("USDT: a note lacks provider, name or arguments")
    provider, name, arguments = (part.decode("utf-8", "replace") for part in strings[:3])
    return pc, base, semaphore, (provider, name, arguments)


def parse_arguments(text: str, machine: str) -> tuple[UsdtArgument, ...]:
    """The arguments of a probe, as its note has them, for "x86_64" or "aarch64".

    FormatError for an operand that is none of the machine's, NotSupportedError for another machine.
    """
    parse = _OPERANDS.get(machine)
    if parse is None:
        raise NotSupportedError(f"arguments of USDT probes on {machine}")
    if len(text) > _MAX_ARGUMENTS_TEXT:
        raise FormatError("USDT: the arguments are too long")
    return tuple(_parse_argument(part, machine, parse) for part in split_arguments(text))


def split_arguments(text: str) -> list[str]:
    """The arguments apart: they stand between blanks, which may also be inside of brackets."""
    parts: list[str] = []
    start = depth = 0
    for position, character in enumerate(text):
        if character in "[(":
            depth += 1
        elif character in "])":
            depth -= 1
        elif character.isspace() and depth <= 0:
            if position > start:
                parts.append(text[start:position])
            start = position + 1
    if start < len(text):
        parts.append(text[start:])
    return parts


class _BadOperand(ValueError):
    """An operand is none of the machine's."""


def _parse_argument(text: str, machine: str, parse: type[_Operand]) -> UsdtArgument:
    width, separator, operand = text.partition("@")
    is_float = width.endswith("f")
    digits = width.removesuffix("f").removeprefix("-")
    if not separator:
        # Early versions of <sys/sdt.h> left the size out; it is that of a register then.
        size, signed, operand = 8, False, text
    elif digits.isascii() and digits.isdigit() and len(digits) < 3 and int(digits) in _SIZES:
        size, signed = int(digits), width.startswith("-")
    else:
        raise FormatError(f"USDT: bad size in the argument {text!r}")
    try:
        found = parse(operand.strip())
    except _BadOperand:
        raise FormatError(f"USDT: {operand[:60]!r} is not an operand of {machine}") from None
    return UsdtArgument(
        size,
        signed,
        found.kind,
        found.register,
        found.offset,
        found.index,
        found.scale,
        found.extend,
        found.symbol,
        found.shift,
        found.segment,
        is_float,
        operand.strip(),
    )


class _Operand:
    """What the operand says; a subclass for each machine reads its text."""

    __slots__ = ("extend", "index", "kind", "offset", "register", "scale", "segment", "shift", "symbol")

    def __init__(self, text: str) -> None:
        self.kind = "deref"
        self.register = self.index = self.extend = self.symbol = self.segment = ""
        self.offset = self.shift = 0
        self.scale = 1
        if not text or len(text) > 4096:
            raise _BadOperand
        self.read(text)

    def read(self, text: str) -> None:
        raise NotImplementedError

    def read_sum(self, text: str) -> None:
        """``-8``, ``0x10``, ``counter``, ``counter+4``, ``16+8`` → `offset` and `symbol`."""
        text = "".join(text.split())
        position = 0
        while position < len(text):
            sign = 1
            while text[position : position + 1] in ("+", "-"):
                sign = -sign if text[position] == "-" else sign
                position += 1
            end = position
            while end < len(text) and text[end] not in "+-":
                end += 1
            term = text[position:end]
            number = _integer(term)
            if number is not None:
                self.offset += sign * number
            elif _is_symbol(term) and not self.symbol and sign == 1:
                self.symbol = term
            else:
                raise _BadOperand
            position = end


class _X86Operand(_Operand):
    """AT&T syntax: ``%eax``, ``$5``, ``-16(%rbp)``, ``8(%rax,%rbx,4)``, ``counter+4(%rip)``, ``%fs:8``."""

    __slots__ = ()

    def read(self, text: str) -> None:
        if text.startswith("$"):
            self.kind = "const"
            self.read_sum(text[1:])
            if len(text) == 1:
                raise _BadOperand
            return
        if text.startswith(("%fs:", "%gs:")):
            self.segment = text[1:3]
            text = text[4:]
        elif text.startswith("%"):
            self.kind = "reg"
            self.register, self.shift = self._register(text)
            return
        displacement, parenthesis, inside = text.partition("(")
        self.read_sum(displacement)
        if not parenthesis:
            if not displacement:
                raise _BadOperand
            return
        if not inside.endswith(")"):
            raise _BadOperand
        parts = [part.strip() for part in inside[:-1].split(",")]
        if len(parts) > 3 or not any(parts):
            raise _BadOperand
        if parts[0]:
            self.register = self._register(parts[0])[0]
        if len(parts) > 1 and parts[1]:
            self.index = self._register(parts[1])[0]
        if len(parts) > 2 and parts[2]:
            if parts[2] not in ("1", "2", "4", "8"):
                raise _BadOperand
            self.scale = int(parts[2])
        if self.register == "rip":
            # The assembler turns symbol(%rip) into the address of the symbol: rip is not part of the sum.
            if self.symbol:
                self.register = ""
            if self.index:
                raise _BadOperand

    @staticmethod
    def _register(text: str) -> tuple[str, int]:
        found = x86_register(text[1:]) if text.startswith("%") else None
        if found is None:
            raise _BadOperand
        return found


class _Arm64Operand(_Operand):
    """``x0``, ``w0``, ``5``, ``[sp, 16]``, ``[x0, x1, lsl 3]``, ``[x0, w1, sxtw 2]``."""

    __slots__ = ()

    def read(self, text: str) -> None:
        if not text.startswith("["):
            register = arm64_register(text)
            if register in ("xzr", "wzr"):
                self.kind = "const"
            elif register:
                self.kind = "reg"
                self.register = register
            else:
                self.kind = "const"
                self.read_sum(text.removeprefix("#"))
                if self.symbol or text == "#":
                    raise _BadOperand
            return
        if not text.endswith("]"):
            raise _BadOperand
        parts = [part.strip() for part in text[1:-1].split(",")]
        base = arm64_register(parts[0])
        if base is None or len(parts) > 3 or not _is_address(parts[0]):
            raise _BadOperand
        self.register = base
        if len(parts) == 1:
            return
        index = arm64_register(parts[1])
        if index is None:
            if len(parts) > 2:
                raise _BadOperand
            self.read_sum(parts[1].removeprefix("#"))
            if not parts[1].removeprefix("#"):
                raise _BadOperand
            # ":lo12:counter" needs the page that adrp loaded, which the register holds.
            if self.symbol:
                raise _BadOperand
            return
        if index not in ("xzr", "wzr"):
            self.index = index
        if parts[1].startswith("w"):
            self.extend = "uxtw"
        if len(parts) > 2:
            self._read_extend(parts[2])

    def _read_extend(self, text: str) -> None:
        words = text.replace("#", " ").split()
        if not words or len(words) > 2 or words[0] not in ("lsl", "uxtw", "sxtw", "sxtx", "uxtx"):
            raise _BadOperand
        if words[0] in ("uxtw", "sxtw"):
            self.extend = words[0]
        amount = _integer(words[1]) if len(words) == 2 else 0
        if amount is None or not 0 <= amount <= 4:
            raise _BadOperand
        self.scale = 1 << amount


_OPERANDS: dict[str, type[_Operand]] = {"x86_64": _X86Operand, "aarch64": _Arm64Operand}

_LEGACY = ("ax", "bx", "cx", "dx", "si", "di", "bp", "sp")


def x86_register(name: str) -> tuple[str, int] | None:
    """Any name of a part of a register → (name of the whole, lowest bit of the part): "ah" → ("rax", 8).

    Vector registers go by their "xmm" name.
    """
    if name in ("rip", "eip"):
        return "rip", 0
    for prefix in ("xmm", "ymm", "zmm"):
        if name.startswith(prefix):
            return (f"xmm{name[3:]}", 0) if _is_number_below(name[3:], 32) else None
    stem = name[1:] if name[:1] in ("r", "e") else name
    if stem in _LEGACY:
        return f"r{stem}", 0
    if name.endswith("l") and f"{name[:-1]}x" in _LEGACY:
        return f"r{name[:-1]}x", 0
    if name.endswith("h") and f"{name[:-1]}x" in _LEGACY:
        return f"r{name[:-1]}x", 8
    if name.endswith("l") and name[:-1] in _LEGACY[4:]:
        return f"r{name[:-1]}", 0
    if name.startswith("r"):
        number = name[1:].rstrip("dwbl") if len(name.rstrip("dwbl")) >= len(name) - 1 else ""
        if _is_number_below(number, 32) and int(number) >= 8:
            return f"r{number}", 0
    return None


def arm64_register(name: str) -> str | None:
    """``w0`` → "x0", ``wsp`` → "sp", ``fp`` → "x29"; vector registers go by their "v" name."""
    if name in ("sp", "wsp"):
        return "sp"
    if name in ("xzr", "wzr"):
        return name
    if name in ("fp", "lr"):
        return "x29" if name == "fp" else "x30"
    if name[:1] in ("x", "w") and _is_number_below(name[1:], 31):
        return f"x{name[1:]}"
    if name[:1] and name[0] in "vqdshb" and _is_number_below(name[1:], 32):
        return f"v{name[1:]}"
    return None


def _is_address(name: str) -> bool:
    return name in ("sp", "fp", "lr") or (name[:1] == "x" and name != "xzr")


def _is_number_below(text: str, limit: int) -> bool:
    return 0 < len(text) <= 2 and text.isascii() and text.isdigit() and int(text) < limit


def _integer(text: str) -> int | None:
    """A number in C notation, at most 64 bits."""
    if not text or not text.isascii() or not text[0].isdigit() or len(text) > 24 or "_" in text:
        return None
    try:
        value = int(text, 8) if text[0] == "0" and text.isdigit() else int(text, 0)
    except ValueError:
        return None
    return value if value < 1 << 64 else None


def _is_symbol(text: str) -> bool:
    return (
        bool(text)
        and not text[0].isdigit()
        and all(character.isalnum() or character in "_.$@" for character in text)
        and text.isascii()
    )
