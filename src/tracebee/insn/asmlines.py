"""Lines of assembler text cut into tokens, and the means to read them one after the other."""

from __future__ import annotations

import re
from typing import NamedTuple

from tracebee.errors import FormatError

_TOKEN = re.compile(
    r"""
    (?P<blank>[ \t\r]+)
  | (?P<comment>(?:;|//).*)
  | (?P<string>"(?:[^"\\]|\\.)*")
  | (?P<sign>s?>>=|<<=|s[/%]=|s[<>]=?|[-+*/%&|^=!<>]=|[-+*&|^=<>()\[\],:#])
  | (?P<number>0[xX][0-9a-fA-F]+|[0-9]+)(?![A-Za-z0-9_])
  | (?P<word>[A-Za-z_.$@][A-Za-z0-9_.$@]*)
    """,
    re.VERBOSE,
)
_REGISTER = re.compile(r"([rw])(10|[0-9])")
REGISTER_LIKE = re.compile(r"[rw][0-9]+")
# An integer of this length fits no field, and Python is slow to convert very long ones.
_LONGEST_NUMBER = 32


class AsmError(FormatError):
    """Assembler text is wrong; `line` and `column` count from 1, `text` is the line."""

    def __init__(self, message: str, line: int, column: int, text: str, hint: str = "") -> None:
        self.message = message
        self.line = line
        self.column = column
        self.text = text
        self.hint = hint
        super().__init__(f"{line}:{column}: {message}")


class Token(NamedTuple):
    """`kind` is string, sign, number, word or end; `value` is a string's contents or a number."""

    kind: str
    text: str
    column: int
    value: str | int = ""


class Line:
    """A line cut into tokens, and the means to read them one after the other."""

    def __init__(self, text: str, number: int, start: int) -> None:
        self.text = text
        self.number = number
        self.named: Token | None = None
        self.maybe_helper = False
        self._tokens = self._cut(start)
        self._next = 0

    def _cut(self, position: int) -> list[Token]:
        tokens: list[Token] = []
        text = self.text
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self._bad_character(position)
            kind, piece = match.lastgroup or "", match[0]
            if kind == "comment":
                break
            if kind != "blank":
                tokens.append(Token(kind, piece, position + 1, self._value(kind, piece, position)))
            position = match.end()
        tokens.append(Token("end", "the end of the line", len(text.rstrip()) + 1))
        return tokens

    def _value(self, kind: str, piece: str, position: int) -> str | int:
        if kind == "number":
            if len(piece) > _LONGEST_NUMBER:
                raise AsmError("the number is too large", self.number, position + 1, self.text)
            return int(piece, 16) if piece[:2] in ("0x", "0X") else int(piece)
        if kind == "string":
            import json

            try:
                return str(json.loads(piece))
            except ValueError:
                raise AsmError("not a JSON string", self.number, position + 1, self.text) from None
        return piece

    def _bad_character(self, position: int) -> AsmError:
        character = self.text[position]
        if character == '"':
            message = "the string has no end"
        elif character in "0123456789":
            message = "not a number"
        else:
            message = f"unexpected character {character!r}"
        return AsmError(message, self.number, position + 1, self.text)

    def error(self, message: str, token: Token | None = None, hint: str = "") -> AsmError:
        """An error at a token, by default the next one."""
        column = (token or self.peek()).column
        return AsmError(message, self.number, column, self.text, hint)

    def peek(self, ahead: int = 0) -> Token:
        """The next token, or one `ahead` of it; stays at the end."""
        return self._tokens[min(self._next + ahead, len(self._tokens) - 1)]

    def next(self) -> Token:
        """Take the next token."""
        token = self.peek()
        self._next += 1
        return token

    def at_end(self) -> bool:
        """Whether nothing is left."""
        return self.peek().kind == "end"

    def accept(self, text: str) -> bool:
        """Take the next token if it reads so."""
        if self.peek().kind in ("word", "sign") and self.peek().text == text:
            self._next += 1
            return True
        return False

    def expect(self, *texts: str) -> None:
        """Take tokens that must read so."""
        for text in texts:
            if not self.accept(text):
                raise self.error(f"expected {text!r}, not {self.peek().text!r}")

    def register(self, letter: str = "r") -> int:
        """Take a register, 64 bits wide ("r") or 32 ("w")."""
        token = self.next()
        match = _REGISTER.fullmatch(token.text)
        if match is not None and match[1] == letter and token.kind == "word":
            return int(match[2])
        if match is not None:
            other = "a 64-bit register, r0 to r10" if letter == "r" else "a 32-bit register, w0 to w10"
            raise self.error(f"expected {other}, not {token.text}", token)
        hint = "registers are r0 to r10, and w0 to w10 for their lower halves"
        if token.kind == "word" and REGISTER_LIKE.fullmatch(token.text):
            raise self.error(f"there is no register {token.text}", token, hint)
        raise self.error(f"expected a register, not {token.text!r}", token, hint)

    def same_register(self, number: int, letter: str = "r") -> None:
        """Take a register that must be this one."""
        token = self.peek()
        if self.register(letter) != number:
            raise self.error(f"the register here must be {letter}{number}", token)

    def is_number(self) -> bool:
        """Whether a number comes next, with a sign or without."""
        return self.peek(self.peek().text in ("-", "+")).kind == "number"

    def number_in(self, low: int, high: int, what: str, hint: str = "") -> int:
        """Take a number, with a sign or without, that must be in low..high."""
        first = self.peek()
        negative = self.accept("-")
        if not negative:
            self.accept("+")
        token = self.next()
        if token.kind != "number":
            raise self.error(f"expected {what}, not {token.text!r}", token)
        value = -int(token.value) if negative else int(token.value)
        if not low <= value <= high:
            raise self.error(f"{what} must be from {low} to {high}, not {value}", first, hint)
        return value

    def name(self, what: str) -> Token:
        """Take a word or a string that names something."""
        token = self.next()
        if token.kind not in ("word", "string"):
            raise self.error(f"expected {what}, not {token.text!r}", token)
        return token
