"""printf: a format is turned into one of Python's own, once, so that a line costs one ``%``.

What a conversion prints is C's (C17 7.21.6.1).  Where Python's formatting agrees, the value goes in as it
is; else a converter makes of it what does, or the finished text.  bpftrace's additions are those of
`spec.printf`; like there, ``%s`` takes any value and ignores a precision, and ``%p`` of 0 is ``0``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracebee.render.values import buffer_text, formatter
from tracebee.spec import types
from tracebee.spec.printf import Conversion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tracebee.render.values import Formatter
    from tracebee.spec.printf import Format

    Converter = Callable[[Any], str | int]

WIDEST = 65535
"""C promises 4095 characters of a conversion; a width far beyond that is a slip that must not eat memory."""

BYTES = tuple(bytes((byte,)).decode("utf-8", "surrogateescape") for byte in range(256))
"""The character of each byte: what is not ASCII is a lone surrogate, as everywhere in decoded text."""


class Template:
    """A format ready to be filled.

    ``template.format % values`` is a line, once each value has gone through its entry of `converters`
    (None where it goes in as it is).  Where `converters` holds nothing but None, `plain` is true.
    """

    __slots__ = ("converters", "format", "plain")

    def __init__(self, format: str, converters: tuple[Converter | None, ...]) -> None:
        self.format = format
        self.converters = converters
        self.plain = not any(converters)

    def fill(self, values: tuple[Any, ...]) -> str:
        """The text with these values in it."""
        if self.plain:
            return self.format % values
        return self.format % tuple(
            [
                value if convert is None else convert(value)
                for convert, value in zip(self.converters, values, strict=True)
            ]
        )

    def each(self, rows: Iterable[tuple[Any, ...]]) -> list[str]:
        """The text of every row of values."""
        if not self.plain:
            # By columns, so that the loops run in C.
            columns = list(zip(*rows, strict=True))
            if not columns:
                return []
            for index, convert in enumerate(self.converters):
                if convert is not None:
                    columns[index] = tuple(map(convert, columns[index]))
            rows = zip(*columns, strict=True)
        form = self.format
        return [form % row for row in rows]

    def lines(self, rows: Iterable[tuple[Any, ...]]) -> str:
        """The text of all rows, one after the other."""
        return "".join(self.each(rows))


def compile_format(
    format: Format,
    arguments: tuple[types.Type, ...],
    text_of: Callable[[types.Type], Formatter] = formatter,
) -> Template:
    """The template for a format whose values have these types, one for each conversion.

    `text_of` gives the function that ``%s`` shows a type by.
    """
    pieces: list[str] = []
    converters: list[Converter | None] = []
    remaining = iter(arguments)
    for piece in format.pieces:
        if isinstance(piece, str):
            pieces.append(piece.replace("%", "%%"))
            continue
        python, convert = _conversion(piece, next(remaining), text_of)
        pieces.append(python)
        converters.append(convert)
    return Template("".join(pieces), tuple(converters))


def line_template(type_: types.Type) -> Template:
    """The template of print(value): its text and a newline."""
    if isinstance(type_, types.Int):
        return Template("%d\n", (None,))
    return Template("%s\n", (None if is_text(type_) else formatter(type_),))


def is_text(type_: types.Type) -> bool:
    """Whether values of the type are their own text."""
    return formatter(type_) is str


def _conversion(
    conversion: Conversion, type_: types.Type, text_of: Callable[[types.Type], Formatter]
) -> tuple[str, Converter | None]:
    """Python's form of a conversion, and what turns the value into what that form takes."""
    match conversion.letter:
        case "s":
            if isinstance(type_, types.Int) and "0" not in conversion.flags:
                return f"%{_field(conversion)}d", None
            return _text(conversion, text_of(type_))
        case "c":
            return _text(conversion, _byte)
        case "p":
            if "0" in conversion.flags:
                as_hex = Conversion("x", f"{conversion.flags}#", conversion.width, -1, "ll")
                return "%s", lambda value: integer_text(as_hex, value)
            return _text(conversion, _address)
        case "r":
            return _text(conversion, buffer_text)
        case "rx":
            return _text(conversion, _escaped)
        case "rh":
            return _text(conversion, _hex_bytes)
        case "gr":
            from tracebee.render.gfp import gfp_text

            return _text(conversion, gfp_text)
    return _number(conversion, type_)


def _field(conversion: Conversion) -> str:
    """Alignment and width."""
    width = min(conversion.width, WIDEST)
    return ("-" if "-" in conversion.flags else "") + (str(width) if width else "")


def _text(conversion: Conversion, text: Formatter) -> tuple[str, Converter | None]:
    """Any text in a field; the flag 0 fills it with zeros, which C leaves open and bpftrace does."""
    if "0" in conversion.flags and "-" not in conversion.flags and conversion.width:
        width = min(conversion.width, WIDEST)
        return "%s", lambda value: text(value).rjust(width, "0")
    return f"%{_field(conversion)}s", None if text is str else text


def _byte(value: int) -> str:
    return BYTES[value & 0xFF]


def _address(value: int) -> str:
    return hex(value & 0xFFFF_FFFF_FFFF_FFFF) if value else "0"


def _escaped(value: bytes) -> str:
    return "".join([f"\\x{byte:02x}" for byte in value])


def _hex_bytes(value: bytes) -> str:
    return value.hex(" ")


def _number(conversion: Conversion, type_: types.Type) -> tuple[str, Converter | None]:
    """One of d i u o x X.

    Python differs from C in this: it has no unsigned types, prints ``0o`` for ``%#o`` and ``0x`` for ``%#x``
    of 0, heeds the flag 0 although there is a precision, and prints a digit for ``%.0d`` of 0.
    """
    signed = conversion.letter in "di"
    cut = _cut(conversion.bits, signed, type_)
    if conversion.precision == 0 or ("#" in conversion.flags and not signed and conversion.letter != "u"):
        return "%s", lambda value: integer_text(conversion, value if cut is None else cut(value))
    flags = "-" if "-" in conversion.flags else ""
    if signed:
        flags += "+" if "+" in conversion.flags else " " if " " in conversion.flags else ""
    if "0" in conversion.flags and not flags.startswith("-") and conversion.precision < 0:
        flags += "0"
    width = str(min(conversion.width, WIDEST)) if conversion.width else ""
    precision = f".{min(conversion.precision, WIDEST)}" if conversion.precision >= 0 else ""
    letter = conversion.letter if conversion.letter in "oxX" else "d"
    return f"%{flags}{width}{precision}{letter}", cut


def _cut(bits: int, signed: bool, type_: types.Type) -> Callable[[int], int] | None:
    """What brings a value into the range of the conversion; None where all values of the type lie in it."""
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    match type_:
        case types.Bool():
            return None
        case types.Int() | types.Enum():
            ends = (
                (-(1 << (type_.size * 8 - 1)), 1 << (type_.size * 8 - 1))
                if type_.signed
                else (0, 1 << type_.size * 8)
            )
            if low <= ends[0] and ends[1] - 1 <= high:
                return None
        case types.Pointer():
            if not signed and bits == 64:
                return None
    mask = (1 << bits) - 1
    if not signed:
        return lambda value: value & mask
    half = 1 << (bits - 1)
    return lambda value: ((value + half) & mask) - half


def integer_text(conversion: Conversion, value: int) -> str:
    """The text of an integer that is in the range of its conversion, by the letter of the standard."""
    letter, flags = conversion.letter, conversion.flags
    digits = format(abs(value), letter if letter in "oxX" else "d")
    if conversion.precision >= 0:
        digits = (
            "" if not value and not conversion.precision else digits.zfill(min(conversion.precision, WIDEST))
        )
    sign = ""
    if letter in "di":
        sign = "-" if value < 0 else "+" if "+" in flags else " " if " " in flags else ""
    elif "#" in flags:
        if letter == "o" and not digits.startswith("0"):
            digits = f"0{digits}"
        elif letter in "xX" and value:
            sign = f"0{letter}"
    width = min(conversion.width, WIDEST)
    if "-" in flags:
        return (sign + digits).ljust(width)
    if "0" in flags and conversion.precision < 0:
        return sign + digits.zfill(width - len(sign))
    return (sign + digits).rjust(width)
