"""The parser: tokens to tree, by recursive descent with one table of operator strengths.

It reports what is wrong and goes on after the next semicolon or brace, so that one run shows several
mistakes.  Nesting is bounded, because every later pass walks the tree by recursion.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from tracebee.language import tree
from tracebee.language.scanner import (
    KEYWORDS,
    BadLiteral,
    Scanner,
    Token,
    number_value,
    string_value,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracebee.language.diagnostics import Diagnostics
    from tracebee.language.source import Source, Span

MAX_DEPTH = 400
"""How deep expressions and blocks may nest.  A person's script stays below 20."""

MAX_TERMS = 2000
"""How many operators and members one statement may have: each is a level of the tree."""

DEEPEST_RECURSION = 20_000
"""Python frames that parser and passes may use: MAX_DEPTH levels of nesting at a few tens of frames each,
and MAX_TERMS at a few."""

BINARY_STRENGTH = {
    "||": 1,
    "&&": 2,
    "|": 3,
    "^": 4,
    "&": 5,
    "==": 6,
    "!=": 6,
    "<": 7,
    "<=": 7,
    ">": 7,
    ">=": 7,
    "<<": 8,
    ">>": 8,
    "+": 9,
    "-": 9,
    "*": 10,
    "/": 10,
    "%": 10,
}
PREFIX_OPERATORS = frozenset(("-", "!", "~", "*", "&", "++", "--"))
ASSIGNMENTS = frozenset(("=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>="))
C_WORDS = frozenset(("unsigned", "signed", "long", "short", "int", "char"))
C_STARTERS = frozenset(("struct", "union", "enum", "typedef"))
BUILTIN_TYPES = frozenset(
    [
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "string",
        "buffer",
        "inet",
        "void",
        "min_t",
        "max_t",
        "sum_t",
        "count_t",
        "avg_t",
        "stats_t",
        "usum_t",
        "umin_t",
        "umax_t",
        "uavg_t",
        "ustats_t",
        "hist_t",
        "lhist_t",
        "tseries_t",
        "ksym_t",
        "usym_t",
        "kstack_t",
        "ustack_t",
        "timestamp",
        "username",
        "macaddr",
        "cgroup_path",
    ]
)


@contextmanager
def deep_recursion() -> Iterator[None]:
    """Parser and passes walk the tree by recursion; its depth is bounded by the parser."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, DEEPEST_RECURSION))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


class _Recover(Exception):
    """A syntax error was reported; skip to where parsing can go on."""


class Parser:
    """Parses one source into a Program."""

    def __init__(self, source: Source, diagnostics: Diagnostics) -> None:
        self.source = source
        self.diagnostics = diagnostics
        self.scanner = Scanner(source, diagnostics)
        self.ahead: Token | None = None
        self.last_end = 0
        self.depth = 0
        self.terms = 0
        self.in_predicate = False

    # --- tokens

    def peek(self) -> Token:
        if self.ahead is None:
            self.ahead = self.scanner.next()
        return self.ahead

    def take(self) -> Token:
        token = self.peek()
        self.ahead = None
        self.last_end = token.end
        return token

    def rewind(self, token: Token) -> None:
        """Go back so that `token` is the next one."""
        self.scanner.at = token.start
        self.ahead = None

    def accept(self, text: str) -> Token | None:
        """Take the next token if it is the symbol or word `text`."""
        token = self.peek()
        if token.text == text and token.kind in ("symbol", "word"):
            return self.take()
        return None

    def expect(self, text: str) -> Token:
        token = self.accept(text)
        if token is None:
            self.syntax(f"expected '{text}'")
        return token

    def span_from(self, start: int) -> Span:
        return self.scanner.span(start, max(start, self.last_end))

    def syntax(self, message: str, span: Span | None = None, hint: str = "") -> NoReturn:
        """Report a syntax error at the next token and leave the construct."""
        if span is None:
            token = self.peek()
            span = self.scanner.span(token.start, token.end)
        self.diagnostics.error(f"syntax: {message}", span, hint)
        raise _Recover

    def enter(self, start: int) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.diagnostics.fail(
                f"syntax: nested too deeply (more than {MAX_DEPTH} levels)",
                self.scanner.span(start, start + 1),
                "keep intermediate results in variables",
            )

    def count_term(self, start: int) -> None:
        self.terms += 1
        if self.terms > MAX_TERMS:
            self.diagnostics.fail(
                f"syntax: too many operators in one statement (more than {MAX_TERMS})",
                self.scanner.span(start, self.last_end),
                "keep intermediate results in variables",
            )

    # --- top level

    def parse(self) -> tree.Program:
        """The whole script.  Mistakes go to the diagnostics; what could be understood is returned."""
        program = tree.Program(self.scanner.span(0, len(self.source.text)), [], [], [], [], [], [])
        if self.source.text.startswith("#!"):
            self.scanner.line_rest()
        while True:
            token = self.peek()
            if token.kind == "end":
                return program
            self.depth = self.terms = 0
            self.in_predicate = False
            try:
                self.top_level(program, token)
            except _Recover:
                self.skip_declaration()

    def top_level(self, program: tree.Program, token: Token) -> None:
        if token.text == "#":
            self.rewind(token)
            program.c_parts.append(tree.CText(self.scanner.line_rest()))
        elif token.text in C_STARTERS:
            program.c_parts.append(self.c_declaration())
        elif token.text == "config" and self.followed_by("="):
            self.config_block(program)
        elif token.text == "import":
            start = self.take().start
            target = self.string("expected a file name after 'import'")
            self.expect(";")
            program.imports.append(tree.Import(self.span_from(start), target.text))
        elif token.text == "macro":
            program.macros.append(self.macro())
        elif token.text == "let":
            program.maps.append(self.map_declaration())
        elif token.text == "fn":
            span = self.scanner.span(token.start, token.end)
            self.syntax("functions are not supported yet", span, "use a macro")
        elif token.text == ";":
            self.take()
        else:
            program.probes.append(self.probe())

    def followed_by(self, text: str) -> bool:
        """Whether the token after the next one is `text`."""
        first = self.take()
        found = self.peek().text == text
        self.rewind(first)
        return found

    def skip_declaration(self) -> None:
        """After a mistake: move behind the block that holds it, or to the next one."""
        depth = 0
        while True:
            try:
                token = self.take()
            except _Recover:  # pragma: no cover - take() itself never recovers
                continue
            if token.kind == "end":
                return
            if token.text == "{":
                depth += 1
            elif token.text == "}":
                depth -= 1
                if depth <= 0:
                    return

    def c_declaration(self) -> tree.CText:
        """``struct x { … } attributes;`` taken as text; its braces are balanced."""
        start = self.take().start
        depth = 0
        while True:
            token = self.take()
            if token.kind == "end":
                self.syntax("C declaration is never closed", self.scanner.span(start, start + 6))
            if token.text == "{":
                depth += 1
            elif token.text == "}":
                depth -= 1
                if depth < 0:
                    self.syntax("unexpected '}'", self.scanner.span(token.start, token.end))
                if depth == 0:
                    return self.c_declaration_end(start)
            elif token.text == ";" and depth == 0:
                return tree.CText(self.span_from(start))

    def c_declaration_end(self, start: int) -> tree.CText:
        """What may follow the closing brace: attributes, and a semicolon that scripts may leave out."""
        while self.peek().text == "__attribute__":
            self.take()
            depth = 0
            while True:
                token = self.take()
                if token.kind == "end":
                    self.syntax("attribute is never closed", self.scanner.span(start, start + 6))
                depth += {"(": 1, ")": -1}.get(token.text, 0)
                if depth == 0:
                    break
        if self.source.text.startswith("typedef", start):
            while self.peek().kind != "end" and self.take().text != ";":
                pass
        else:
            self.accept(";")
        return tree.CText(self.span_from(start))

    def config_block(self, program: tree.Program) -> None:
        self.take()
        self.expect("=")
        self.expect("{")
        while not self.accept("}"):
            key = self.take()
            if key.kind != "word":
                self.syntax("expected a configuration name", self.scanner.span(key.start, key.end))
            self.expect("=")
            value = self.take()
            if value.kind not in ("word", "number", "string"):
                self.syntax("expected a value", self.scanner.span(value.start, value.end))
            text = value.text
            if value.kind == "string":
                text = self.literal_bytes(value).decode("utf-8", "replace")
            elif value.kind == "word" and self.peek().text == "-":
                # Values such as a path's or a mode's are words; nothing known holds a minus.
                self.syntax("expected ';'")
            program.config.append(tree.ConfigEntry(self.span_from(key.start), key.text, text))
            if not (self.accept(";") or self.accept(",") or self.peek().text == "}"):
                self.syntax("expected ';'")
        self.accept(";")

    def macro(self) -> tree.Macro:
        start = self.take().start
        name = self.word("expected a name after 'macro'")
        self.expect("(")
        parameters: list[tree.Parameter] = []
        while not self.accept(")"):
            token = self.take()
            if token.kind not in ("word", "variable", "map") or token.text in KEYWORDS:
                self.syntax("expected a parameter", self.scanner.span(token.start, token.end))
            parameters.append(tree.Parameter(self.scanner.span(token.start, token.end), token.text))
            if not self.accept(",") and self.peek().text != ")":
                self.syntax("expected ',' or ')'")
        heading = self.span_from(start)
        return tree.Macro(heading, name.text, parameters, self.block())

    def map_declaration(self) -> tree.MapDeclaration:
        start = self.take().start
        name = self.take()
        if name.kind != "map":
            self.syntax("expected a map after 'let'", self.scanner.span(name.start, name.end))
        keys: list[tree.TypeName] = []
        value = None
        if self.accept("["):
            keys.append(self.type_name())
            while self.accept(","):
                keys.append(self.type_name())
            self.expect("]")
        if keys or self.peek().text == ":":
            self.expect(":")
            value = self.type_name()
        kind = ""
        entries = None
        if value is None or self.peek().text == "=":
            self.expect("=")
            kind = self.word("expected a kind of map").text
            self.expect("(")
            entries = self.expression()
            self.expect(")")
        declaration = tree.MapDeclaration(self.span_from(start), name.text, keys, value, kind, entries)
        self.expect(";")
        return declaration

    def probe(self) -> tree.Probe:
        start = self.peek().start
        points: list[tree.AttachPoint] = []
        name = ""
        while True:
            self.rewind(self.peek())
            token = self.scanner.attach_point()
            if token is None:
                self.syntax("expected an attach point")
            self.last_end = token.end
            text = token.text
            if not points and "=" in text.partition(":")[0] and not text.startswith('"'):
                name, _, text = text.partition("=")
                token = Token(token.kind, text, token.start + len(name) + 1, token.end)
            if not text:
                self.syntax("expected an attach point", self.scanner.span(token.start, token.end))
            points.append(tree.AttachPoint(self.scanner.span(token.start, token.end), text))
            if not self.accept(","):
                break
            if self.peek().text in ("{", "/"):
                break
        predicate = self.predicate() if self.peek().text == "/" else None
        if self.peek().text != "{":
            self.syntax("expected '{'")
        heading = self.span_from(start)
        return tree.Probe(heading, name, points, predicate, self.block())

    def predicate(self) -> tree.Expression:
        self.take()
        self.in_predicate = True
        try:
            value = self.expression()
        finally:
            self.in_predicate = False
        if self.peek().text != "/":
            self.syntax("expected '/' at the end of the predicate")
        self.take()
        return value

    # --- statements

    def block(self) -> tree.Block:
        """``{ … }``; the value of a last expression without semicolon is the block's."""
        start = self.peek().start
        self.enter(start)
        self.expect("{")
        outer_predicate, depth, terms = self.in_predicate, self.depth, self.terms
        most_terms = terms
        statements: list[tree.Statement] = []
        value: tree.Expression | None = None
        while True:
            self.in_predicate, self.depth, self.terms = False, depth, terms
            if self.accept("}"):
                break
            if self.peek().kind == "end":
                self.syntax("expected '}'")
            try:
                value = self.statement(statements)
                most_terms = max(most_terms, self.terms)
                if value is not None:
                    self.expect("}")
                    break
            except _Recover:
                if not self.skip_statement():
                    break
        self.in_predicate, self.depth, self.terms = outer_predicate, depth - 1, most_terms
        return tree.Block(self.span_from(start), statements, value)

    def skip_statement(self) -> bool:
        """After a mistake inside a block: move behind the next ';'.  False if the block ends first."""
        depth = 0
        while True:
            token = self.peek()
            if token.kind == "end":
                return False
            if token.text == "}" and depth == 0:
                self.take()
                return False
            self.take()
            if token.text == "{":
                depth += 1
            elif token.text == "}":
                depth -= 1
                if depth == 0:
                    return True
            elif token.text == ";" and depth == 0:
                return True

    def statement(self, into: list[tree.Statement]) -> tree.Expression | None:
        """Parse one statement into the list; a last expression without semicolon is returned instead."""
        token = self.peek()
        start = token.start
        keyword = token.text if token.kind == "word" else ""
        if keyword == "let":
            into.append(self.let())
        elif keyword == "while":
            self.take()
            condition = self.expression()
            into.append(tree.While(self.scanner.span(start, start), condition, self.block()))
            into[-1].span = self.span_from(start)
        elif keyword == "unroll":
            self.take()
            self.expect("(")
            count = self.expression()
            self.expect(")")
            into.append(tree.Unroll(self.scanner.span(start, start), count, self.block()))
            into[-1].span = self.span_from(start)
        elif keyword == "for":
            into.append(self.for_loop())
        elif keyword in ("break", "continue", "return"):
            self.take()
            value = None
            if keyword == "return" and self.peek().text not in (";", "}"):
                value = self.expression()
            into.append(tree.Jump(self.span_from(start), keyword, value))
            self.end_statement()
        elif keyword == "_" and self.followed_by("="):
            self.take()
            self.take()
            value = self.expression()
            into.append(tree.Discard(self.span_from(start), value))
            self.end_statement()
        else:
            return self.expression_statement(into)
        return None

    def expression_statement(self, into: list[tree.Statement]) -> tree.Expression | None:
        start = self.peek().start
        value = self.expression()
        operator = self.peek().text
        if operator in ASSIGNMENTS and self.peek().kind == "symbol":
            self.check_target(value)
            self.take()
            right = self.expression()
            into.append(tree.Assign(self.span_from(start), value, operator, right))
            self.end_statement()
            return None
        if self.peek().text == "}" and self.peek().kind == "symbol":
            return value
        if isinstance(value, tree.If | tree.Block) and not self.accept(";"):
            into.append(tree.ExpressionStatement(value.span, value))
            return None
        self.end_statement(already=self.source.text[self.last_end - 1 : self.last_end] == ";")
        into.append(tree.ExpressionStatement(value.span, value))
        return None

    def check_target(self, target: tree.Expression) -> None:
        if isinstance(target, tree.Variable | tree.MapAccess):
            return
        if isinstance(target, tree.Index):
            self.take()
            self.expression()
            self.syntax(
                "invalid assignment target",
                self.span_from(target.span.start),
                "strings and arrays cannot be changed in parts; only variables ($x) and maps (@x) can be assigned to",
            )
        if isinstance(target, tree.Member | tree.Element):
            self.take()
            self.expression()
            self.syntax(
                "Tuples and records are immutable once created. "
                "Consider creating a new value and assigning it instead.",
                self.span_from(target.span.start),
            )
        self.syntax("expected ';'", hint="only variables ($x) and maps (@x) can be assigned to")

    def end_statement(self, already: bool = False) -> None:
        if already or self.accept(";"):
            return
        if self.peek().text != "}":
            self.syntax("expected ';'")

    def let(self) -> tree.Let:
        start = self.take().start
        token = self.take()
        if token.kind != "variable":
            self.syntax("expected variable after 'let'", self.scanner.span(token.start, token.end))
        variable = tree.Variable(self.scanner.span(token.start, token.end), token.text)
        declared = None
        if self.accept(":"):
            declared = self.type_name()
        value = self.expression() if self.accept("=") else None
        statement = tree.Let(self.span_from(start), variable, declared, value)
        self.end_statement()
        return statement

    def for_loop(self) -> tree.Statement:
        start = self.take().start
        parenthesis = self.accept("(")
        token = self.take()
        if token.kind != "variable":
            self.syntax("expected a variable after 'for'", self.scanner.span(token.start, token.end))
        variable = tree.Variable(self.scanner.span(token.start, token.end), token.text)
        self.expect(":")
        first = self.expression()
        last = self.expression() if self.accept("..") else None
        if parenthesis:
            self.expect(")")
        heading = self.span_from(start)
        body = self.block()
        if last is not None:
            return tree.ForRange(heading, variable, first, last, body)
        if isinstance(first, tree.MapAccess) and first.key is None:
            return tree.ForMap(heading, variable, first, body)
        self.diagnostics.error(
            "syntax: expected a map or a range after ':'",
            first.span,
            "write 'for ($i : 0..10)' or 'for ($kv : @map)'",
        )
        raise _Recover

    # --- expressions

    def expression(self) -> tree.Expression:
        start = self.peek().start
        self.enter(start)
        condition = self.binary(0)
        if self.accept("?"):
            then = None if self.peek().text == ":" else self.expression()
            self.expect(":")
            otherwise = self.expression()
            condition = tree.Ternary(self.span_from(start), condition, then, otherwise)
        self.depth -= 1
        return condition

    def binary(self, weakest: int) -> tree.Expression:
        """Operators at least as strong as `weakest`; all are left-associative."""
        start = self.peek().start
        left = self.unary()
        while True:
            token = self.peek()
            strength = BINARY_STRENGTH.get(token.text, 0) if token.kind == "symbol" else 0
            if strength == 0 or strength < weakest or self.ends_predicate(token):
                return left
            self.take()
            right = self.binary(strength + 1)
            left = tree.Binary(self.span_from(start), token.text, left, right)
            self.count_term(start)

    def ends_predicate(self, token: Token) -> bool:
        """Whether a '/' is the end of the predicate: then a block follows it."""
        if not self.in_predicate or token.text != "/":
            return False
        self.take()
        found = self.peek().text == "{"
        self.rewind(token)
        return found

    def unary(self) -> tree.Expression:
        token = self.peek()
        if token.kind == "symbol" and token.text in PREFIX_OPERATORS:
            self.take()
            self.enter(token.start)
            operand = self.unary()
            self.depth -= 1
            if token.text in ("++", "--") and not isinstance(operand, tree.Variable | tree.MapAccess):
                self.syntax(f"'{token.text}' needs a variable or a map", operand.span)
            return tree.Unary(self.span_from(token.start), token.text, operand)
        if token.text == "(" and (target := self.cast_type()) is not None:
            self.enter(token.start)
            operand = self.unary()
            self.depth -= 1
            return tree.Cast(self.span_from(token.start), target, operand)
        return self.postfix()

    def cast_type(self) -> tree.TypeName | None:
        """The type in ``(type)`` if a cast starts here; else nothing is taken."""
        opening = self.take()
        token = self.peek()
        is_type = token.text in BUILTIN_TYPES or token.text in ("struct", "union", "enum", "typeof")
        if token.kind != "word" or (token.text in KEYWORDS and token.text != "typeof"):
            self.rewind(opening)
            return None
        mistakes = self.diagnostics
        if not is_type:
            # A plain word may be a C type name or an expression: look whether an operand follows.
            word = self.take()
            stars = 0
            while self.accept("*"):
                stars += 1
            closed = self.accept(")")
            following = self.peek()
            is_type = closed is not None and (
                following.kind in ("number", "word", "variable", "positional", "map", "string")
                or following.text == "("
                or (stars > 0 and following.text in ("&", "-", "*", "~", "!"))
            )
            if not is_type or following.text in ("else",):
                self.rewind(opening)
                return None
            self.rewind(word)
        assert mistakes is self.diagnostics
        target = self.type_name()
        if not self.accept(")"):
            if token.text in BUILTIN_TYPES:
                self.rewind(opening)
                return None
            self.syntax("expected ')'")
        return target

    def postfix(self) -> tree.Expression:
        start = self.peek().start
        value = self.primary()
        while True:
            token = self.peek()
            if token.kind != "symbol":
                return value
            if token.text in (".", "->"):
                self.take()
                value = self.member(value, start)
                self.count_term(start)
            elif token.text == "[":
                self.count_term(start)
                self.take()
                index = self.expression()
                self.expect("]")
                value = tree.Index(self.span_from(start), value, index)
            elif token.text in ("++", "--"):
                if not isinstance(value, tree.Variable | tree.MapAccess):
                    return value
                self.take()
                value = tree.Unary(self.span_from(start), token.text, value, True)
            else:
                return value

    def member(self, operand: tree.Expression, start: int) -> tree.Expression:
        token = self.take()
        if token.kind == "word":
            return tree.Member(self.span_from(start), operand, token.text)
        if token.kind == "number" and token.text.isdigit() and len(token.text) < 10:
            return tree.Element(self.span_from(start), operand, int(token.text))
        return self.syntax("expected the name of a member", self.scanner.span(token.start, token.end))

    def primary(self) -> tree.Expression:
        token = self.peek()
        span = self.scanner.span(token.start, token.end)
        if token.kind == "number":
            self.take()
            try:
                return tree.Number(span, number_value(token.text))
            except BadLiteral as bad:
                self.diagnostics.error(f"syntax: {bad.message}", span)
                return tree.Number(span, 0)
        if token.kind == "string":
            self.take()
            return tree.Text(span, self.literal_bytes(token))
        if token.kind == "variable":
            self.take()
            return tree.Variable(span, token.text)
        if token.kind == "positional":
            self.take()
            if len(token.text) > 10:
                self.syntax(f"there is no positional parameter {token.text[:10]}…", span)
            return tree.Positional(span, int(token.text[1:]))
        if token.kind == "count":
            self.take()
            return tree.PositionalCount(span)
        if token.kind == "map":
            return self.map_access()
        if token.kind == "word":
            return self.word_expression(token)
        if token.text == "(":
            return self.parenthesis()
        if token.text == "{":
            return self.block()
        return self.syntax("expected expression")

    def map_access(self) -> tree.MapAccess:
        token = self.take()
        key: tree.Expression | None = None
        if self.accept("["):
            start = self.peek().start
            keys = [self.expression()]
            while self.accept(","):
                keys.append(self.expression())
            key = keys[0] if len(keys) == 1 else tree.TupleLiteral(self.span_from(start), keys)
            self.expect("]")
        return tree.MapAccess(self.span_from(token.start), token.text, key)

    def word_expression(self, token: Token) -> tree.Expression:
        word = token.text
        if word == "if":
            return self.if_expression()
        if word in ("true", "false"):
            self.take()
            return tree.Truth(self.scanner.span(token.start, token.end), word == "true")
        if word in ("sizeof", "typeinfo"):
            self.take()
            self.expect("(")
            target = self.type_or_expression()
            self.expect(")")
            kind = tree.SizeOf if word == "sizeof" else tree.TypeInfo
            return kind(self.span_from(token.start), target)
        if word == "typeof":
            return tree.TypeOf(self.scanner.span(token.start, token.end), self.type_name())
        if word == "offsetof":
            return self.offsetof()
        if word in KEYWORDS:
            self.syntax("expected expression")
        self.take()
        if self.peek().text != "(":
            return tree.Name(self.scanner.span(token.start, token.end), word)
        self.take()
        arguments: list[tree.Expression] = []
        outer_predicate, self.in_predicate = self.in_predicate, False
        while not self.accept(")"):
            arguments.append(self.expression())
            if not self.accept(",") and self.peek().text != ")":
                self.syntax("expected ',' or ')'")
        self.in_predicate = outer_predicate
        return tree.Call(self.span_from(token.start), word, arguments)

    def if_expression(self) -> tree.If:
        start = self.take().start
        compile_time = self.accept("comptime") is not None
        condition = self.expression()
        then = self.block()
        otherwise: tree.Block | None = None
        if self.accept("else"):
            if self.peek().text == "if":
                self.enter(start)
                nested = self.if_expression()
                self.depth -= 1
                otherwise = tree.Block(nested.span, [], nested)
            else:
                otherwise = self.block()
        return tree.If(self.span_from(start), condition, then, otherwise, compile_time)

    def offsetof(self) -> tree.Expression:
        start = self.take().start
        self.expect("(")
        target = self.type_or_expression()
        self.expect(",")
        members = [self.word("expected the name of a member").text]
        while self.accept("."):
            members.append(self.word("expected the name of a member").text)
        self.expect(")")
        return tree.OffsetOf(self.span_from(start), target, members)

    def parenthesis(self) -> tree.Expression:
        """``(e)``, a tuple, or a record."""
        start = self.take().start
        outer_predicate, self.in_predicate = self.in_predicate, False
        try:
            if self.accept(")"):
                return tree.TupleLiteral(self.span_from(start), [])
            if self.peek().kind == "word" and self.followed_by("="):
                return self.record(start)
            first = self.expression()
            if self.accept(")"):
                return first
            elements = [first]
            while self.accept(","):
                if self.peek().text == ")":
                    break
                elements.append(self.expression())
            self.expect(")")
            return tree.TupleLiteral(self.span_from(start), elements)
        finally:
            self.in_predicate = outer_predicate

    def record(self, start: int) -> tree.RecordLiteral:
        names: list[str] = []
        elements: list[tree.Expression] = []
        while not self.accept(")"):
            names.append(self.word("expected a name").text)
            self.expect("=")
            elements.append(self.expression())
            if not self.accept(",") and self.peek().text != ")":
                self.syntax("expected ',' or ')'")
        return tree.RecordLiteral(self.span_from(start), names, elements)

    # --- types and leaves

    def type_or_expression(self) -> tree.TypeName | tree.Expression:
        token = self.peek()
        if token.kind == "word" and (
            # Some names are those of functions as well.
            (token.text in BUILTIN_TYPES and not self.followed_by("("))
            or token.text in ("struct", "union", "enum", "typeof")
            or token.text in C_WORDS
            or self.is_pointer_type(token)
        ):
            return self.type_name()
        return self.expression()

    def is_pointer_type(self, token: Token) -> bool:
        """Whether ``name *)`` follows: then the name is one of a type."""
        if token.text in KEYWORDS:
            return False
        self.take()
        stars = 0
        while self.accept("*"):
            stars += 1
        found = stars > 0 and self.peek().text in (")", ",")
        self.rewind(token)
        return found

    def type_name(self) -> tree.TypeName:
        """A type as written: a base, then any of ``*``, ``[n]``, ``[]``."""
        token = self.take()
        of: tree.TypeName | tree.Expression | None = None
        base = token.text
        if token.kind != "word":
            self.syntax("expected a type", self.scanner.span(token.start, token.end))
        if base == "typeof":
            base = ""
            self.expect("(")
            self.enter(token.start)
            of = self.type_or_expression()
            self.depth -= 1
            self.expect(")")
        elif base in ("struct", "union", "enum"):
            base = f"{base} {self.word('expected a name').text}"
        elif base in C_WORDS:
            while self.peek().text in C_WORDS:
                base += f" {self.take().text}"
        suffixes: list[str | int | None] = []
        while True:
            if self.accept("*"):
                suffixes.append("*")
            elif self.accept("["):
                if self.accept("]"):
                    suffixes.append(None)
                    continue
                size = self.take()
                if size.kind != "number":
                    self.syntax("expected a number of elements", self.scanner.span(size.start, size.end))
                try:
                    suffixes.append(number_value(size.text))
                except BadLiteral as bad:
                    self.syntax(bad.message, self.scanner.span(size.start, size.end))
                self.expect("]")
            else:
                return tree.TypeName(self.span_from(token.start), base, of, suffixes)

    def word(self, message: str) -> Token:
        token = self.take()
        if token.kind != "word":
            self.syntax(message, self.scanner.span(token.start, token.end))
        return token

    def string(self, message: str) -> tree.Text:
        token = self.take()
        span = self.scanner.span(token.start, token.end)
        if token.kind != "string":
            self.syntax(message, span)
        return tree.Text(span, self.literal_bytes(token))

    def literal_bytes(self, token: Token) -> bytes:
        try:
            return string_value(token.text)
        except BadLiteral as bad:
            span = self.scanner.span(token.start + bad.start, token.start + bad.end)
            self.diagnostics.error(f"syntax: {bad.message}", span)
            return b""


def parse(source: Source, diagnostics: Diagnostics) -> tree.Program:
    """Parse a script.  Raises SourceError after the last declaration if anything was wrong."""
    with deep_recursion():
        program = Parser(source, diagnostics).parse()
    diagnostics.stop_if_errors()
    return program
