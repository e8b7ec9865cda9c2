"""printf format strings: taken apart once, for the compiler that checks them and the printer that fills them.

The grammar is C's (C17 7.21.6.1), without ``*`` and without floating point, and with bpftrace's additions
``%r`` (buffer), ``%rx`` (buffer, every byte escaped), ``%rh`` (buffer as hex bytes) and ``%gr`` (page
allocation flags).
"""

from __future__ import annotations

import re

from tracebee.records import Frozen

_CONVERSION = re.compile(
    r"%(?P<flags>[-+ #0]*)(?P<width>[0-9]+)?(?:\.(?P<precision>[0-9]*))?"
    r"(?P<length>hh|h|ll|l|j|z|t)?(?P<letter>r[xh]|gr|[diuoxXcspr])"
)

INT_MAX = 2**31 - 1
"""C keeps widths and precisions in an int; larger ones count as this."""


class BadFormat(ValueError):
    """A format string is wrong; `offset` is the position of the bad conversion in it."""

    def __init__(self, message: str, offset: int) -> None:
        self.message = message
        self.offset = offset
        super().__init__(message)


class Conversion(Frozen):
    """One ``%…``: `letter` is one of d i u o x X c s p r rx rh gr; `length` is hh h l ll j z t or empty."""

    letter: str
    flags: str = ""
    width: int = 0
    precision: int = -1
    length: str = ""

    @property
    def takes(self) -> str:
        """What kind of argument fits: "integer", "buffer" or "any" (%s prints whatever can be printed)."""
        if self.letter == "s":
            return "any"
        if self.letter in ("r", "rx", "rh"):
            return "buffer"
        return "integer"

    @property
    def bits(self) -> int:
        """To how many bits an integer argument is cut."""
        if self.letter in ("p", "gr"):
            return 64
        if self.letter == "c":
            return 8
        return {"hh": 8, "h": 16, "": 32}.get(self.length, 64)


class Format(Frozen):
    """A parsed format: literal text and conversions in order."""

    pieces: tuple[str | Conversion, ...]

    @property
    def conversions(self) -> tuple[Conversion, ...]:
        return tuple(piece for piece in self.pieces if isinstance(piece, Conversion))


def parse_format(text: str) -> Format:
    """Take a format string apart; ``%%`` becomes a plain percent sign.

    Raises BadFormat where a percent sign starts no known conversion.
    """
    pieces: list[str | Conversion] = []
    literal: list[str] = []
    at = 0
    while True:
        percent = text.find("%", at)
        literal.append(text[at:] if percent < 0 else text[at:percent])
        if percent < 0:
            break
        if text.startswith("%%", percent):
            literal.append("%")
            at = percent + 2
            continue
        match = _CONVERSION.match(text, percent)
        if match is None:
            shown = text[percent : percent + 2]
            raise BadFormat(f"unknown conversion '{shown}' in format string", percent)
        if "".join(literal):
            pieces.append("".join(literal))
        literal.clear()
        precision = match["precision"]
        pieces.append(
            Conversion(
                match["letter"],
                match["flags"],
                _number(match["width"] or ""),
                -1 if precision is None else _number(precision),
                match["length"] or "",
            )
        )
        at = match.end()
    if "".join(literal):
        pieces.append("".join(literal))
    return Format(tuple(pieces))


def _number(digits: str) -> int:
    """Zero without digits.  Python makes no number of thousands of them, and nobody means one."""
    return min(int(digits.lstrip("0")[:11] or 0), INT_MAX)
