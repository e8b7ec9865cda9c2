"""The lexer: cuts script text into tokens, on demand.

The parser asks for one token at a time, because what comes next decides how to cut: an attach point is one
word up to a blank, a comma or a brace, and the C part of a script is taken whole.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tracebee.language.source import Source, Span
from tracebee.records import Frozen

if TYPE_CHECKING:
    from tracebee.language.diagnostics import Diagnostics

KEYWORDS = frozenset(
    [
        "break",
        "continue",
        "else",
        "for",
        "if",
        "let",
        "offsetof",
        "return",
        "sizeof",
        "typeof",
        "typeinfo",
        "unroll",
        "while",
        "true",
        "false",
    ]
)
"""Words that cannot be names.  ``config``, ``import``, ``macro``, ``fn`` and ``comptime`` mean something
only where they can stand."""

_TRIVIA = re.compile(r"(?:\s+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_TOKEN = re.compile(
    r"""
    (?P<number>\d\w*)
  | (?P<word>[A-Za-z_]\w*)
  | (?P<variable>\$[A-Za-z_]\w*)
  | (?P<positional>\$\d+)
  | (?P<count>\$\#)
  | (?P<map>@(?:[A-Za-z_]\w*)?)
  | (?P<string>"(?:[^"\\]|\\.)*")
  | (?P<char>'(?:[^'\\\n]|\\.)+')
  | (?P<symbol><<=|>>=|\.\.|->|\+\+|--|&&|\|\||==|!=|<=|>=|<<|>>|[-+*/%&|^]=|[-+*/%&|^~!<>=?:;,.(){}\[\]\#])
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
# A path may hold a '/', so only behind BEGIN and END does one start the predicate.
_ATTACH_POINT = re.compile(r"""(?:BEGIN|END|begin|end)(?=/)|(?:"(?:[^"\\\n]|\\.)*"|[^\s{,"])+""")
_DURATIONS = {
    "ns": 1,
    "us": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60 * 1_000_000_000,
    "h": 3600 * 1_000_000_000,
    "d": 86400 * 1_000_000_000,
}
_NUMBER = re.compile(
    r"(?P<digits>0[xX][0-9a-fA-F][0-9a-fA-F_]*|\d[\d_]*)(?:[eE](?P<exponent>\d[\d_]*))?(?P<suffix>[A-Za-z]*)"
)
_C_SUFFIXES = frozenset(("u", "l", "ul", "lu", "ll", "ull", "llu"))
_SIMPLE_ESCAPES = {"n": 10, "t": 9, "r": 13, '"': 34, "\\": 92}
_ESCAPE = re.compile(r"\\(?:x(?P<hex>[0-9a-fA-F]{1,2})|(?P<octal>[0-7]{1,3})|(?P<plain>.))", re.DOTALL)


class Token(Frozen):
    """`kind` is number, word, variable, positional, count, map, string, char, symbol or end.

    A keyword is a word.  `text` is as written.  Only the C part has characters ('a').
    """

    kind: str
    text: str
    start: int
    end: int


class Scanner:
    """A cursor over one source."""

    def __init__(self, source: Source, diagnostics: Diagnostics) -> None:
        self.source = source
        self.text = source.text
        self.at = 0
        self.diagnostics = diagnostics

    def span(self, start: int, end: int) -> Span:
        return Span(self.source, start, end)

    def skip_trivia(self) -> None:
        """Move past blanks and comments."""
        match = _TRIVIA.match(self.text, self.at)
        assert match is not None
        self.at = match.end()
        if self.text.startswith("/*", self.at):
            self.diagnostics.fail("syntax: comment is never closed", self.span(self.at, self.at + 2))

    def next(self) -> Token:
        """The next token; at the end of the text one of kind "end"."""
        self.skip_trivia()
        start = self.at
        if start >= len(self.text):
            return Token("end", "", start, start)
        match = _TOKEN.match(self.text, start)
        if match is None:
            if self.text[start] == '"':
                line_end = self.text.find("\n", start)
                line_end = len(self.text) if line_end < 0 else line_end
                self.diagnostics.fail("syntax: string is never closed", self.span(start, line_end))
            shown = self.text[start]
            self.diagnostics.fail(f"syntax: unexpected character {shown!r}", self.span(start, start + 1))
        self.at = match.end()
        return Token(str(match.lastgroup), match.group(), start, match.end())

    def attach_point(self) -> Token | None:
        """An attach point as one word, or None where there is none."""
        self.skip_trivia()
        match = _ATTACH_POINT.match(self.text, self.at)
        if match is None:
            return None
        self.at = match.end()
        return Token("attach point", match.group(), match.start(), match.end())

    def line_rest(self) -> Span:
        """The rest of the line, with backslash continuations, and moves past it."""
        start = self.at
        end = self.text.find("\n", start)
        while end > start and self.text[end - 1] == "\\":
            end = self.text.find("\n", end + 1)
        self.at = len(self.text) if end < 0 else end
        return self.span(start, self.at)


class BadLiteral(ValueError):
    """A literal is wrong; `start` and `end` are offsets in it."""

    def __init__(self, message: str, start: int, end: int) -> None:
        self.message = message
        self.start = start
        self.end = end
        super().__init__(message)


def number_value(text: str) -> int:
    """The value of an integer literal as scripts write it; raises BadLiteral.

    Octal has a leading 0, hexadecimal 0x; ``_`` separates digits; ``NeM`` has one digit N of 1 to 9; C's
    integer suffixes are accepted, and units of time give nanoseconds.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise BadLiteral(f"invalid integer: {text}", 0, len(text))
    digits, exponent, suffix = match["digits"].replace("_", ""), match["exponent"], match["suffix"]
    if digits[:2] in ("0x", "0X"):
        value = int(digits, 16)
    elif len(digits) > 1 and digits[0] == "0":
        try:
            value = int(digits, 8)
        except ValueError:
            raise BadLiteral(f"invalid integer: {text}", 0, len(text)) from None
    else:
        if len(digits) > 24:
            raise BadLiteral(f"integer is too large: {text[:24]}…", 0, len(text))
        value = int(digits)
    if exponent is not None:
        if not (len(digits) == 1 and digits != "0"):
            message = f"coefficient part of scientific literal must be 1-9: {text}"
            raise BadLiteral(message, 0, len(text))
        power = exponent.replace("_", "")
        if len(power) > 2 or int(power) > 19:
            raise BadLiteral(f"integer is too large: {text}", 0, len(text))
        value *= 10 ** int(power)
    if suffix in _DURATIONS:
        value *= _DURATIONS[suffix]
    elif suffix and suffix.lower() not in _C_SUFFIXES:
        raise BadLiteral(f"invalid integer: {text}", 0, len(text))
    if value > 0xFFFF_FFFF_FFFF_FFFF:
        raise BadLiteral(f"integer does not fit 64 bits: {text}", 0, len(text))
    return value


def string_value(text: str) -> bytes:
    """The bytes of a string literal, quotes included in `text`; raises BadLiteral."""
    inside = text[1:-1]
    if "\\" not in inside:
        return inside.encode("utf-8", "surrogateescape")
    result = bytearray()
    at = 0
    while True:
        backslash = inside.find("\\", at)
        if backslash < 0:
            result += inside[at:].encode("utf-8", "surrogateescape")
            return bytes(result)
        result += inside[at:backslash].encode("utf-8", "surrogateescape")
        match = _ESCAPE.match(inside, backslash)
        assert match is not None
        if match["hex"]:
            result.append(int(match["hex"], 16))
        elif match["octal"]:
            value = int(match["octal"], 8)
            if value > 255:
                raise BadLiteral(
                    f"octal escape is too large: '{match.group()}'", match.start() + 1, match.end() + 1
                )
            result.append(value)
        elif match["plain"] in _SIMPLE_ESCAPES:
            result.append(_SIMPLE_ESCAPES[match["plain"]])
        else:
            message = f"invalid escape character '{match.group()}'"
            raise BadLiteral(message, match.start() + 1, match.end() + 1)
        at = match.end()
