"""C tokens and preprocessing: as much as scripts and headers need to declare types and constants."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from tracebee.language.scanner import BadLiteral, number_value, string_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tracebee.language.source import Source

_TOKEN = re.compile(
    r"""
    (?P<space>(?:\s|\\\n|//[^\n]*|/\*.*?\*/)+)
  | (?P<number>\.?\d(?:[eEpP][-+]|[\w.])*)
  | (?P<string>L?"(?:[^"\\]|\\.)*")
  | (?P<char>L?'(?:[^'\\]|\\.)+')
  | (?P<word>[A-Za-z_]\w*)
  | (?P<symbol>\.\.\.|<<=|>>=|\#\#|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|[^\w\s])
    """,
    re.VERBOSE | re.DOTALL,
)
_DIRECTIVE = re.compile(r"\s*\#\s*(\w+)?(.*)", re.DOTALL)
_LINE = re.compile(
    r"""//(?:\\.|[^\n\\])*|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|/\*|\\.|\n(?P<directive>[ \t]*\#)?""",
    re.DOTALL,
)
"""Newlines, and what can hide one."""

MAX_INCLUDES = 400
MAX_EXPANSION = 100_000
"""How many tokens a macro may become, and how many macros may be replaced in one script."""

MAX_NESTING = 100
"""How deep macros may lie in the bodies of macros, and operators and parentheses in each other."""


class CToken(NamedTuple):
    """`kind` is number, word, string, char or symbol; `start` and `end` are offsets in `source`."""

    kind: str
    text: str
    source: Source
    start: int
    end: int


class CMacro(NamedTuple):
    """A ``#define``; `parameters` is None for one without parentheses."""

    name: str
    parameters: tuple[str, ...] | None
    body: tuple[CToken, ...]


class CError(Exception):
    """Something in C could not be understood."""

    def __init__(self, message: str, token: CToken | None = None) -> None:
        self.message = message
        self.token = token
        super().__init__(message)


def tokens_of(source: Source, start: int = 0, end: int | None = None) -> Iterator[CToken]:
    """The tokens of a part of a source, without blanks and comments."""
    end = len(source.text) if end is None else end
    at = start
    while at < end:
        match = _TOKEN.match(source.text, at, end)
        if match is None:
            raise CError("unexpected character in C", CToken("symbol", source.text[at], source, at, at + 1))
        if match.lastgroup != "space":
            yield CToken(str(match.lastgroup), match.group(), source, at, match.end())
        at = match.end()


def _line_ends(text: str, at: int, end: int) -> Iterator[re.Match[str]]:
    """The newlines that end a line: those outside of comments and strings and not behind a backslash."""
    while True:
        match = _LINE.search(text, at, end)
        if match is None:
            return
        at = match.end()
        if match.group() == "/*":
            closed = text.find("*/", at, end)
            if closed < 0:
                return
            at = closed + 2
        elif match.group()[0] == "\n":
            at = match.start() + 1
            yield match


class Preprocessor:
    """Handles directives and expands macros; gives the tokens that are left.

    `include(name, is_system)` gives the source of a header, or None where it is not needed; it raises CError
    for one that is missing.
    """

    def __init__(self, include: Callable[[str, bool], Source | None], defined: dict[str, str]) -> None:
        self.include = include
        self.macros: dict[str, CMacro] = {}
        self.conditions: list[list[bool]] = []
        self.included = 0
        self.include_depth = 0
        self.expanded = 0
        for name, text in defined.items():
            from tracebee.language.source import Source

            self.macros[name] = CMacro(name, None, tuple(tokens_of(Source("predefined", text))))

    @property
    def active(self) -> bool:
        """Whether the text here counts."""
        return all(condition[0] for condition in self.conditions)

    def run(self, source: Source, start: int = 0, end: int | None = None) -> Iterator[CToken]:
        """The tokens of a source after preprocessing."""
        end = len(source.text) if end is None else end
        at = start
        depth = len(self.conditions)
        while at < end:
            line_end = self._logical_line(source.text, at, end)
            match = _DIRECTIVE.match(source.text, at, line_end)
            if match is not None:
                yield from self.directive(match.group(1) or "", source, match.start(2), line_end)
                at = line_end + 1
                continue
            block_end = self._next_directive(source.text, at, end)
            if self.active:
                yield from self.expand(list(tokens_of(source, at, block_end)))
            at = block_end
        if len(self.conditions) > depth and start == 0 and end == len(source.text):
            del self.conditions[depth:]

    @staticmethod
    def _logical_line(text: str, at: int, end: int) -> int:
        """The end of a line, backslash continuations and comments over lines included."""
        for match in _line_ends(text, at, end):
            return match.start()
        return end

    @staticmethod
    def _next_directive(text: str, at: int, end: int) -> int:
        """Where the next line that starts with # begins."""
        for match in _line_ends(text, at, end):
            if match["directive"]:
                return match.start() + 1
        return end

    # --- directives

    def directive(self, word: str, source: Source, start: int, end: int) -> Iterator[CToken]:
        """Carry out a directive whose operands lie between two offsets."""
        conditional = self._conditional(word, source, start, end)
        if conditional or not self.active:
            return
        if word == "define":
            self._define(list(tokens_of(source, start, end)), source)
        elif word == "undef":
            for token in tokens_of(source, start, end):
                self.macros.pop(token.text, None)
                break
        elif word == "include":
            yield from self._include(source, start, end)
        elif word == "error":
            text = source.text[start:end].strip()
            raise CError(f"#error {text}", CToken("word", "error", source, start, end))

    def _conditional(self, word: str, source: Source, start: int, end: int) -> bool:
        """Handle #if and its relatives.  A level is [is active, was one taken, was the outside active]."""
        if word in ("if", "ifdef", "ifndef"):
            outside = self.active
            value = False
            if outside:
                tokens = list(tokens_of(source, start, end))
                if word == "if":
                    value = self.evaluate(tokens) != 0
                else:
                    known = bool(tokens) and tokens[0].text in self.macros
                    value = known == (word == "ifdef")
            self.conditions.append([value, value])
        elif word == "elif":
            level = self._level(source, start)
            taken = level[1]
            level[0] = True
            level[0] = not taken and self.active and self.evaluate(list(tokens_of(source, start, end))) != 0
            level[1] = taken or level[0]
        elif word == "else":
            level = self._level(source, start)
            level[0] = not level[1]
            level[1] = True
        elif word == "endif":
            self._level(source, start)
            self.conditions.pop()
        else:
            return False
        return True

    def _level(self, source: Source, start: int) -> list[bool]:
        if not self.conditions:
            raise CError("directive without #if", CToken("symbol", "#", source, max(0, start - 1), start))
        return self.conditions[-1]

    def _define(self, tokens: list[CToken], source: Source) -> None:
        if not tokens or tokens[0].kind != "word":
            raise CError("#define needs a name", tokens[0] if tokens else None)
        name, rest = tokens[0], tokens[1:]
        parameters: tuple[str, ...] | None = None
        if rest and rest[0].text == "(" and rest[0].start == name.end:
            close = next((index for index, token in enumerate(rest) if token.text == ")"), None)
            if close is None:
                raise CError("#define: expected ')'", name)
            parameters = tuple(token.text for token in rest[1:close] if token.text != ",")
            rest = rest[close + 1 :]
        self.macros[name.text] = CMacro(name.text, parameters, tuple(rest))

    def _include(self, source: Source, start: int, end: int) -> Iterator[CToken]:
        text = source.text[start:end].strip()
        match = re.match(r'<([^>]+)>|"([^"]+)"', text)
        token = CToken(
            "string",
            text,
            source,
            start + len(source.text[start:end]) - len(source.text[start:end].lstrip()),
            end,
        )
        if match is None:
            expanded = "".join(item.text for item in self.expand(list(tokens_of(source, start, end))))
            match = re.match(r'<([^>]+)>|"([^"]+)"', expanded)
            if match is None:
                raise CError('#include expects "FILE" or <FILE>', token)
        self.included += 1
        if self.included > MAX_INCLUDES or self.include_depth >= MAX_NESTING:
            raise CError("too many #include files", token)
        name = match.group(1) or match.group(2)
        try:
            found = self.include(name, match.group(1) is not None)
        except CError as error:
            raise CError(error.message, token) from None
        if found is not None:
            self.include_depth += 1
            yield from self.run(found)
            self.include_depth -= 1

    # --- expansion

    def expand(self, tokens: list[CToken], hidden: frozenset[str] = frozenset()) -> list[CToken]:
        """Tokens with all macros replaced; a macro does not see itself in its body."""
        result: list[CToken] = []
        at = 0
        while at < len(tokens):
            token = tokens[at]
            at += 1
            macro = self.macros.get(token.text) if token.kind == "word" and token.text not in hidden else None
            if macro is None:
                result.append(token)
                continue
            self.expanded += 1
            if len(hidden) > MAX_NESTING or self.expanded > MAX_EXPANSION:
                raise CError("macro expands to too much", token)
            body = list(macro.body)
            if macro.parameters is not None:
                if at >= len(tokens) or tokens[at].text != "(":
                    result.append(token)
                    continue
                arguments, at = _arguments(tokens, at)
                body = _substituted(macro, [self.expand(one, hidden) for one in arguments])
            result += self.expand(body, hidden | {macro.name})
            if len(result) > MAX_EXPANSION:
                raise CError("macro expands to too much", token)
        return result

    # --- #if

    def evaluate(self, tokens: list[CToken]) -> int:
        """The value of the expression of an #if: names that are no macros are 0."""
        prepared: list[CToken] = []
        at = 0
        while at < len(tokens):
            token = tokens[at]
            at += 1
            if token.text != "defined":
                prepared.append(token)
                continue
            if at < len(tokens) and tokens[at].text == "(":
                name = tokens[at + 1].text if at + 1 < len(tokens) else ""
                at += 3
            else:
                name = tokens[at].text if at < len(tokens) else ""
                at += 1
            prepared.append(token._replace(kind="number", text=str(int(name in self.macros))))
        try:
            return Evaluator(self.expand(prepared), lambda name: 0).value()
        except CError:
            return 0


def _arguments(tokens: list[CToken], at: int) -> tuple[list[list[CToken]], int]:
    """The arguments of a macro call whose '(' is at a position, and where it ends."""
    arguments: list[list[CToken]] = [[]]
    depth = 0
    while at < len(tokens):
        token = tokens[at]
        at += 1
        if token.text == "(":
            depth += 1
            if depth == 1:
                continue
        elif token.text == ")":
            depth -= 1
            if depth == 0:
                return arguments, at
        elif token.text == "," and depth == 1:
            arguments.append([])
            continue
        arguments[-1].append(token)
    raise CError("macro call is never closed", tokens[-1] if tokens else None)


def _substituted(macro: CMacro, arguments: list[list[CToken]]) -> list[CToken]:
    assert macro.parameters is not None
    given = dict(zip(macro.parameters, arguments, strict=False))
    result: list[CToken] = []
    for token in macro.body:
        if token.text in given:
            result += given[token.text]
        else:
            result.append(token)
    # a ## b becomes one token
    joined: list[CToken] = []
    at = 0
    while at < len(result):
        if at + 2 < len(result) and result[at + 1].text == "##":
            first, second = result[at], result[at + 2]
            joined.append(first._replace(text=first.text + second.text))
            at += 3
        else:
            joined.append(result[at])
            at += 1
    return joined


_STRENGTH = {
    "||": 1, "&&": 2, "|": 3, "^": 4, "&": 5, "==": 6, "!=": 6, "<": 7, "<=": 7, ">": 7, ">=": 7,
    "<<": 8, ">>": 8, "+": 9, "-": 9, "*": 10, "/": 10, "%": 10,
}  # fmt: skip


class Evaluator:
    """A constant expression of C (C17 6.6), on integers.

    `name_value` gives the value of a word, `size_of` that of sizeof with the tokens in its parentheses.
    """

    def __init__(
        self,
        tokens: list[CToken],
        name_value: Callable[[str], int | None],
        size_of: Callable[[list[CToken]], int] | None = None,
    ) -> None:
        self.tokens = tokens
        self.at = 0
        self.name_value = name_value
        self.size_of = size_of
        self.depth = 0

    def value(self) -> int:
        """The value of all the tokens; raises CError."""
        result = self._ternary()
        if self.at < len(self.tokens):
            raise CError("expected an operator", self.tokens[self.at])
        return result

    def _peek(self) -> str:
        return self.tokens[self.at].text if self.at < len(self.tokens) else ""

    def _take(self) -> CToken:
        if self.at >= len(self.tokens):
            raise CError("expected an expression", self.tokens[-1] if self.tokens else None)
        self.at += 1
        return self.tokens[self.at - 1]

    def _ternary(self) -> int:
        self._nest()
        condition = self._binary(1)
        if self._peek() == "?":
            self._take()
            then = self._ternary()
            if self._take().text != ":":
                raise CError("expected ':'")
            otherwise = self._ternary()
            condition = then if condition else otherwise
        self.depth -= 1
        return condition

    def _binary(self, weakest: int) -> int:
        left = self._unary()
        while _STRENGTH.get(self._peek(), 0) >= weakest:
            operator = self._take()
            right = self._binary(_STRENGTH[operator.text] + 1)
            left = self._apply(operator, left, right)
            if not -(1 << 63) <= left < 1 << 64:
                left &= 0xFFFF_FFFF_FFFF_FFFF
        return left

    @staticmethod
    def _apply(operator: CToken, left: int, right: int) -> int:
        match operator.text:
            case "||":
                return int(bool(left or right))
            case "&&":
                return int(bool(left and right))
            case "/" | "%":
                if right == 0:
                    raise CError("division by zero", operator)
                quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
                return quotient if operator.text == "/" else left - quotient * right
            case "<<" | ">>":
                if not 0 <= right < 64:
                    raise CError("shift is out of range", operator)
                return left << right if operator.text == "<<" else left >> right
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
            case "&":
                return left & right
            case "|":
                return left | right
            case "^":
                return left ^ right
            case "==":
                return int(left == right)
            case "!=":
                return int(left != right)
            case "<":
                return int(left < right)
            case "<=":
                return int(left <= right)
            case ">":
                return int(left > right)
        return int(left >= right)

    def _nest(self) -> None:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise CError("expression is nested too deeply", self.tokens[min(self.at, len(self.tokens) - 1)])

    def _unary(self) -> int:
        self._nest()
        value = self._operand()
        self.depth -= 1
        return value

    def _operand(self) -> int:
        token = self._take()
        match token.text:
            case "-":
                return -self._unary()
            case "+":
                return self._unary()
            case "~":
                return ~self._unary()
            case "!":
                return int(not self._unary())
            case "(":
                value = self._ternary()
                if self._take().text != ")":
                    raise CError("expected ')'", token)
                return value
        if token.kind == "number":
            return c_number(token)
        if token.kind == "char":
            return char_value(token)
        if token.text in ("sizeof", "_Alignof") and self.size_of is not None and self._peek() == "(":
            arguments, self.at = _arguments(self.tokens, self.at)
            return self.size_of(arguments[0])
        if token.kind == "word":
            value_of = self.name_value(token.text)
            if value_of is not None:
                return value_of
        raise CError(f"'{token.text}' is no constant", token)


def c_number(token: CToken) -> int:
    """The value of an integer constant; raises CError."""
    text = token.text
    if text[:2] in ("0b", "0B"):
        digits = text.rstrip("uUlL")
        try:
            return int(digits, 2)
        except ValueError:
            raise CError(f"invalid integer: {text}", token) from None
    try:
        return number_value(text)
    except BadLiteral as bad:
        raise CError(bad.message, token) from None


def char_value(token: CToken) -> int:
    """The value of a character constant; raises CError."""
    inside = token.text.lstrip("L")[1:-1].replace('"', '\\"').replace('\\\\"', '\\"')
    if inside == "\\'":
        return ord("'")
    try:
        data = string_value(f'"{inside}"')
    except BadLiteral as bad:
        raise CError(bad.message, token) from None
    return data[0] if data else 0
