"""Reads values that somebody has written: JSON, C initialisers, bare words.

    3   -1   0x1f   'c'   1.5   true   RED   "text"
    {"pid": 3, "comm": "x"}   {.pid = 3, .comm = "x"}   {pid: 3}   {3, "x"}   [1, 2, 3]

Structures become a dict, or a list where the members have no names; bare words become text, which means an
enumerator where a number is wanted.
"""

from __future__ import annotations

import re
from typing import Any

from tracebee.errors import UsageError

MAX_NESTING = 64

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>"(?:[^"\\]|\\.)*")
      | (?P<char>'(?:[^'\\]|\\.)[^']*')
      | (?P<word>[-+]?[\w.$][\w.$+-]*)
      | (?P<mark>[][{},:=])
      | (?P<end>$)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(
    r"\\(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[0-7]{1,3}|.)",
    re.DOTALL,
)
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def number_of(text: str) -> int | None:
    """The integer that a word is, or None.  Signs, 0x, 0b, 0o and the suffixes of C are known."""
    word = text.strip()
    if len(word) == 3 and word[0] == word[2] == "'":
        return ord(word[1])
    plain = re.fullmatch(r"([-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+|[0-9]+))[uUlL]{0,3}", word)
    if plain is None or len(word) > 64:
        return None
    digits = plain[1]
    return int(digits, 0 if re.match(r"[-+]?0[xXbBoO]", digits) else 10)


def bytes_of(text: str, size: int) -> bytes | None:
    """The bytes, if text is ``hex`` and hexadecimal digits, or as many numbers up to 255 as there are bytes.

    Raises UsageError for hexadecimal digits of another number of bytes.
    """
    words = text.split()
    if words and words[0] == "hex":
        digits = "".join(word.removeprefix("0x").rjust(2, "0") for word in words[1:])
        try:
            data = bytes.fromhex(digits)
        except ValueError:
            raise UsageError(f"{' '.join(words[1:])!r} are no hexadecimal digits of bytes") from None
        if len(data) != size:
            raise UsageError(f"there must be {size} bytes, and there are {len(data)} behind 'hex'")
        return data
    if len(words) != size or len(words) < 2:
        return None
    numbers = [number_of(word) for word in words]
    given = [one for one in numbers if one is not None and 0 <= one <= 255]
    return bytes(given) if len(given) == size else None


def read(text: str, is_text: bool = False) -> Any:
    """The value; with `is_text`, all that does not begin with a quote or a bracket is taken as it is.

    Raises UsageError.
    """
    stripped = text.strip()
    if is_text and stripped[:1] not in ("[", "{", '"'):
        return text
    reader = _Reader(text)
    found = reader.value(0)
    reader.expect_end()
    return found


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.kind = ""
        self.token = ""
        self.next()

    def next(self) -> None:
        found = _TOKEN.match(self.text, self.at)
        if found is None:
            raise self.wrong(f"unexpected {self.text[self.at :].lstrip()[:1]!r}")
        self.kind = found.lastgroup or "end"
        self.token = found[self.kind]
        self.at = found.end()

    def wrong(self, reason: str) -> UsageError:
        return UsageError(
            f"cannot read {self.text[:80]!r}: {reason}",
            'write JSON or a C initialiser, such as {.pid = 3, .comm = "x"}, or the bytes: hex 0a 0b …',
        )

    def take(self, mark: str) -> bool:
        if self.kind == "mark" and self.token == mark:
            self.next()
            return True
        return False

    def expect_end(self) -> None:
        if self.kind != "end":
            raise self.wrong(f"there is {self.token!r} behind its end")

    def value(self, depth: int) -> Any:
        if depth > MAX_NESTING:
            raise self.wrong(f"it is nested deeper than {MAX_NESTING}")
        kind, token = self.kind, self.token
        if kind == "end":
            raise self.wrong("a value is missing")
        self.next()
        if kind == "text":
            return unescaped(token[1:-1])
        if kind == "char":
            char = unescaped(token[1:-1])
            if len(char) != 1:
                raise self.wrong(f"{token} is no character")
            return ord(char)
        if kind == "word":
            return _word(token)
        if token == "[":
            return self.elements("]", depth)
        if token == "{":
            return self.members(depth)
        raise self.wrong(f"unexpected {token!r}")

    def elements(self, closing: str, depth: int) -> list[Any]:
        found = []
        while not self.take(closing):
            found.append(self.value(depth + 1))
            if not self.take(","):
                if not self.take(closing):
                    raise self.wrong(f"there should be ',' or {closing!r}")
                break
        return found

    def members(self, depth: int) -> Any:
        named: dict[str, Any] = {}
        bare: list[Any] = []
        while not self.take("}"):
            name = self.value(depth + 1)
            if self.take(":") or self.take("="):
                if not isinstance(name, str):
                    raise self.wrong(f"{name!r} is no name of a member")
                named[name.removeprefix(".")] = self.value(depth + 1)
            else:
                bare.append(name)
            if not self.take(","):
                if not self.take("}"):
                    raise self.wrong("there should be ',' or '}'")
                break
        if named and bare:
            raise self.wrong("some members have names and some have none")
        return bare or named


def _word(word: str) -> Any:
    number = number_of(word)
    if number is not None:
        return number
    if word in ("true", "false"):
        return word == "true"
    if re.fullmatch(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", word):
        return float(word)
    return word


def unescaped(text: str) -> str:
    """Text without the escapes of C and JSON; ``\\x..`` of 0x80 and more is a byte of its own."""

    def one(found: re.Match[str]) -> str:
        code = found[1]
        if code[0] == "x" and len(code) == 3:
            value = int(code[1:], 16)
            return chr(value) if value < 0x80 else chr(0xDC00 + value)
        if code[0] == "u" and len(code) == 11:  # JSON writes what is beyond 16 bits as two halves
            return chr(0x10000 + ((int(code[1:5], 16) & 0x3FF) << 10 | int(code[7:], 16) & 0x3FF))
        if code[0] == "u" and len(code) == 5:
            return chr(int(code[1:], 16))
        if code[0] in "01234567":
            value = int(code, 8) & 0xFF
            return chr(value) if value < 0x80 else chr(0xDC00 + value)
        return _LETTERS.get(code, code)

    return _ESCAPE.sub(one, text)
