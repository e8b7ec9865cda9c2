"""Laws of the language's front: no text crashes it, and printing and parsing are inverse to each other."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tracebee.errors import SourceError
from tracebee.language import tree
from tracebee.language.cdecl import lay_out
from tracebee.language.cpp import CError, Evaluator, Preprocessor, tokens_of
from tracebee.language.diagnostics import Diagnostics
from tracebee.language.parser import BINARY_STRENGTH, deep_recursion, parse
from tracebee.language.passes.fold import fold
from tracebee.language.printer import format_program, quoted
from tracebee.language.scanner import BadLiteral, Scanner, number_value, string_value
from tracebee.language.source import Source, Span
from tracebee.spec.types import INT8, INT16, INT32, INT64, UINT8, UINT32, align_up

QUICK = settings(max_examples=150, deadline=None)

PIECES = st.sampled_from(
    [
        *(
            "BEGIN",
            "END",
            "kprobe:f",
            "i:s:1",
            "t:a:b",
            "{",
            "}",
            "(",
            ")",
            "[",
            "]",
            ";",
            ",",
            ".",
            "->",
            ":",
        ),
        *(
            "/",
            "//",
            "/*",
            "*/",
            '"',
            "'",
            "\\",
            "\n",
            " ",
            "#",
            "#define",
            "#if",
            "#endif",
            "struct",
            "enum",
        ),
        *(
            "typedef",
            "__attribute__",
            "if",
            "else",
            "while",
            "for",
            "unroll",
            "return",
            "break",
            "let",
            "macro",
        ),
        *(
            "config",
            "import",
            "=",
            "+=",
            "+",
            "-",
            "*",
            "&",
            "&&",
            "||",
            "!",
            "~",
            "++",
            "--",
            "<<",
            ">>",
            "?",
        ),
        *(
            "$x",
            "$1",
            "$#",
            "@",
            "@a",
            "1",
            "0x",
            "08",
            "1e3",
            "5ms",
            "99999999999999999999",
            "uint8",
            "(uint8)",
        ),
        *("sizeof", "offsetof", "typeof", "comptime", "pid", "f(", "..", "=", "\udcff", "é", "\x00", "a b"),
    ]
)
SOUP = st.lists(PIECES, max_size=40).map(" ".join) | st.lists(PIECES, max_size=40).map("".join)
ANYTHING = st.text(st.characters(), max_size=200) | SOUP


def check_complaints(error: SourceError, text: str) -> None:
    """Every complaint has words and a place in the text, and can be shown."""
    assert error.diagnostics
    for found in error.diagnostics:
        assert found.message
        assert found.render()
        if found.span is not None:
            assert 0 <= found.span.start <= len(text)


@QUICK
@given(ANYTHING)
def test_the_lexer_takes_any_text(text: str) -> None:
    scanner = Scanner(Source("a.bt", text), Diagnostics())
    at = 0
    try:
        while (token := scanner.next()).kind != "end":
            assert at <= token.start < token.end
            at = token.end
    except SourceError as error:
        check_complaints(error, text)


@QUICK
@given(ANYTHING)
def test_the_parser_takes_any_text(text: str) -> None:
    try:
        program = parse(Source("a.bt", text), Diagnostics())
    except SourceError as error:
        check_complaints(error, text)
        return
    for node in tree.walk(program):
        assert 0 <= node.span.start <= node.span.end <= len(text)


@QUICK
@given(SOUP)
def test_the_parser_takes_any_body_and_what_it_takes_prints(text: str) -> None:
    script = f"BEGIN {{ {text} }}"
    try:
        program = parse(Source("a.bt", script), Diagnostics())
    except SourceError as error:
        check_complaints(error, script)
        return
    check_round_trip(program)


@QUICK
@given(
    st.text(st.characters(), max_size=40) | st.from_regex(r"[0-9][0-9a-fA-FxXeE_]*[a-z]{0,3}", fullmatch=True)
)
def test_a_number_is_a_number_or_bad(text: str) -> None:
    try:
        assert 0 <= number_value(text) < 1 << 64
    except BadLiteral as bad:
        assert bad.message


@QUICK
@given(st.binary(max_size=50))
def test_any_bytes_can_be_quoted_and_read_back(data: bytes) -> None:
    assert string_value(quoted(data)) == data


# --- trees

SPAN = Span(Source("made", ""), 0, 0)
NAMES = st.sampled_from(["pid", "comm", "foo", "args", "x1"])
VARIABLES = st.sampled_from(["$x", "$y", "$long_name"])
MAPS = st.sampled_from(["@", "@a", "@b1"])
BASES = st.sampled_from(["uint8", "int64", "bool", "struct task_struct", "union u", "foo", "string"])


BLOCK_DEPTH = 3


class Grower:
    """Draws trees.  Strategies nested as deep as trees would have texts that Hypothesis warns of."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw

    def chance(self) -> bool:
        return self.draw(st.booleans())

    def some(self, most: int) -> range:
        return range(self.draw(st.integers(0, most)))

    def variable(self) -> tree.Variable:
        return tree.Variable(SPAN, self.draw(VARIABLES))

    def type_name(self, cast: bool = False) -> tree.TypeName:
        base = self.draw(BASES)
        # A plain word is a type only in front of stars, or of an operand.
        suffix = st.just("*") if base == "foo" else st.sampled_from(["*", 4, None])
        least = 1 if base == "foo" and not cast else 0
        return tree.TypeName(SPAN, base, None, self.draw(st.lists(suffix, min_size=least, max_size=2)))

    def place(self, depth: int) -> tree.Expression:
        if self.chance():
            return self.variable()
        key = self.expression(depth - 1) if self.chance() else None
        return tree.MapAccess(SPAN, self.draw(MAPS), key)

    def leaf(self) -> tree.Expression:
        match self.draw(st.integers(0, 8)):
            case 0:
                return tree.Number(SPAN, self.draw(st.integers(0, (1 << 64) - 1)))
            case 1:
                return tree.Truth(SPAN, self.chance())
            case 2:
                return tree.Text(SPAN, self.draw(st.binary(max_size=6)))
            case 3:
                return tree.Name(SPAN, self.draw(NAMES))
            case 4:
                return tree.Positional(SPAN, self.draw(st.integers(0, 99)))
            case 5:
                return tree.PositionalCount(SPAN)
            case 6:
                return tree.MapAccess(SPAN, self.draw(MAPS), None)
            case 7:
                return tree.SizeOf(SPAN, self.type_name())
        return self.variable()

    def expression(self, depth: int) -> tree.Expression:
        if depth <= 0:
            return self.leaf()

        def inner() -> tree.Expression:
            return self.expression(depth - 1)

        match self.draw(st.integers(0, 16)):
            case 0:
                return tree.Unary(SPAN, self.draw(st.sampled_from(["-", "!", "~", "*", "&"])), inner())
            case 1:
                operator = self.draw(st.sampled_from(["++", "--"]))
                return tree.Unary(SPAN, operator, self.place(depth), self.chance())
            case 2 | 3:
                operator = self.draw(st.sampled_from(sorted(BINARY_STRENGTH)))
                return tree.Binary(SPAN, operator, inner(), inner())
            case 4:
                return tree.Ternary(SPAN, inner(), inner() if self.chance() else None, inner())
            case 5:
                return tree.Cast(SPAN, self.type_name(cast=True), inner())
            case 6:
                return tree.Member(SPAN, inner(), self.draw(NAMES))
            case 7:
                return tree.Element(SPAN, inner(), self.draw(st.integers(0, 9)))
            case 8:
                return tree.Index(SPAN, inner(), inner())
            case 9:
                return tree.MapAccess(SPAN, self.draw(MAPS), inner())
            case 10:
                return tree.Call(SPAN, self.draw(NAMES), [inner() for _ in self.some(3)])
            case 11:
                return tree.TupleLiteral(SPAN, [inner() for _ in self.some(3)])
            case 12:
                names = self.draw(st.lists(NAMES, min_size=1, max_size=3))
                return tree.RecordLiteral(SPAN, names, [inner() for _ in names])
            case 13:
                return tree.OffsetOf(
                    SPAN, self.type_name(), self.draw(st.lists(NAMES, min_size=1, max_size=3))
                )
            case 14:
                return self.block(depth - 1)
            case 15:
                return self.branch(depth)
        return self.leaf()

    def branch(self, depth: int) -> tree.If:
        otherwise = None
        if self.chance():
            otherwise = self.block(depth - 1)
        elif depth > 1 and self.chance():
            otherwise = tree.Block(SPAN, [], self.branch(depth - 1))
        condition = self.expression(depth - 1)
        return tree.If(SPAN, condition, self.block(depth - 1), otherwise, self.chance())

    def block(self, depth: int) -> tree.Block:
        statements = [self.statement(depth) for _ in self.some(BLOCK_DEPTH)] if depth >= 0 else []
        return tree.Block(SPAN, statements, self.expression(depth) if self.chance() else None)

    def statement(self, depth: int) -> tree.Statement:
        match self.draw(st.integers(0, 9)):
            case 0:
                operator = self.draw(st.sampled_from(["=", "+=", "<<="]))
                return tree.Assign(SPAN, self.place(depth), operator, self.expression(depth))
            case 1:
                return tree.Discard(SPAN, self.expression(depth))
            case 2:
                declared = self.type_name(cast=True) if self.chance() else None
                value = self.expression(depth) if self.chance() else None
                return tree.Let(SPAN, self.variable(), declared, value)
            case 3:
                return tree.While(SPAN, self.expression(depth - 1), self.block(depth - 1))
            case 4:
                return tree.Unroll(SPAN, self.expression(depth - 1), self.block(depth - 1))
            case 5:
                looped = tree.MapAccess(SPAN, self.draw(MAPS), None)
                return tree.ForMap(SPAN, self.variable(), looped, self.block(depth - 1))
            case 6:
                first, last = self.expression(depth - 1), self.expression(depth - 1)
                return tree.ForRange(SPAN, self.variable(), first, last, self.block(depth - 1))
            case 7:
                return tree.Jump(SPAN, self.draw(st.sampled_from(["break", "continue", "return"])), None)
            case 8:
                return tree.Jump(SPAN, "return", self.expression(depth))
        return tree.ExpressionStatement(SPAN, self.expression(depth))


@st.composite
def expressions(draw: st.DrawFn) -> tree.Expression:
    return Grower(draw).expression(4)


@st.composite
def probes(draw: st.DrawFn) -> tree.Probe:
    grower = Grower(draw)
    words = draw(st.lists(st.sampled_from(["BEGIN", "kprobe:f*", 'u:"/a b":c']), min_size=1, max_size=2))
    predicate = grower.expression(2) if grower.chance() else None
    name = draw(st.sampled_from(["", "here"]))
    return tree.Probe(
        SPAN, name, [tree.AttachPoint(SPAN, word) for word in words], predicate, grower.block(2)
    )


def shape(node: object) -> object:
    if isinstance(node, tree.Node):
        return (type(node), *[shape(getattr(node, field)) for field in node._fields if field != "span"])
    return [shape(item) for item in node] if isinstance(node, list) else node


def check_round_trip(program: tree.Program) -> None:
    printed = format_program(program)
    again = parse(Source("again", printed), Diagnostics())
    assert shape(again) == shape(program), printed
    assert format_program(again) == printed


@settings(max_examples=300, deadline=None)
@given(probes())
def test_a_tree_prints_to_a_script_of_the_same_tree(probe: tree.Probe) -> None:
    check_round_trip(tree.Program(SPAN, [], [], [], [], [], [probe]))


@QUICK
@given(expressions())
def test_a_copy_is_equal_and_shares_nothing(node: tree.Expression) -> None:
    copy = tree.clone(node)
    assert shape(copy) == shape(node)
    assert not {id(one) for one in tree.walk(copy)} & {id(one) for one in tree.walk(node)}


# --- constants


@st.composite
def sums(draw: st.DrawFn, depth: int = 3) -> tuple[str, int]:
    """A constant expression that both the script and C know, and its value."""
    if depth == 0 or draw(st.booleans()):
        value = draw(st.integers(0, 100))
        return str(value), value
    operator = draw(st.sampled_from("+-*&|^"))
    (left, a), (right, b) = draw(sums(depth - 1)), draw(sums(depth - 1))
    value = {"+": a + b, "-": a - b, "*": a * b, "&": a & b, "|": a | b, "^": a ^ b}[operator]
    return f"({left} {operator} {right})", value


@QUICK
@given(sums())
def test_constants_have_their_value_in_the_script_and_in_c(pair: tuple[str, int]) -> None:
    text, value = pair
    program = parse(Source("a.bt", f"BEGIN {{ {text} }}"), Diagnostics())
    diagnostics = Diagnostics()
    fold(program, diagnostics)
    assert not diagnostics.has_errors
    found = program.probes[0].body.value
    assert isinstance(found, tree.Number)
    assert found.value == value
    assert Evaluator(list(tokens_of(Source("c", text))), lambda name: None).value() == value


# --- C

C_PIECES = st.sampled_from(
    [
        *(
            "struct",
            "union",
            "enum",
            "typedef",
            "int",
            "unsigned",
            "long",
            "char",
            "void",
            "*",
            "(",
            ")",
            "[",
            "]",
        ),
        *(
            "{",
            "}",
            ";",
            ",",
            ":",
            "=",
            "5",
            "-1",
            "x",
            "y",
            "s",
            "__attribute__((packed))",
            "aligned",
            "#define",
        ),
        *(
            "#if",
            "#else",
            "#endif",
            "#undef",
            "#include",
            "\n",
            "\\\n",
            "/*",
            "*/",
            "//",
            "A",
            "sizeof",
            "<a>",
        ),
        *(
            "'a'",
            '"',
            "'",
            "const",
            "static",
            "1 << 2",
            "##",
            "defined",
            "__extension__",
            "float",
            "struct s {",
        ),
    ]
)
C_TEXT = st.lists(C_PIECES, max_size=40).map(" ".join) | st.text(st.characters(), max_size=80)


@QUICK
@given(C_TEXT)
def test_the_preprocessor_takes_any_text(text: str) -> None:
    preprocessor = Preprocessor(lambda name, is_system: None, {"A": "1"})
    try:
        tokens = list(preprocessor.run(Source("a.h", text)))
    except CError as error:
        assert error.message
        return
    assert all(token.text for token in tokens)


class Nowhere:
    """As much of a compilation as declarations need: no types of a kernel, and any text for a header."""

    class Options:
        includes = ()
        include_paths = ()

    class Machine:
        class arch:
            name = "x86_64"

        @staticmethod
        def btf() -> None:
            return None

        @staticmethod
        def read_header(name: str, folders: object) -> tuple[str, str]:
            return "/a.h", "struct header { int a; };"

    def __init__(self, text: str) -> None:
        source = Source("a.h", text)
        self.diagnostics = Diagnostics()
        self.options = self.Options
        self.machine = self.Machine
        self.program = tree.Program(SPAN, [tree.CText(Span(source, 0, len(text)))], [], [], [], [], [])


@QUICK
@given(C_TEXT)
def test_declarations_of_any_text(text: str) -> None:
    from tracebee.language.cdecl import read_declarations

    compilation = Nowhere(text)
    try:
        with deep_recursion():
            found = read_declarations(compilation)  # type: ignore[arg-type]
    except SourceError as error:
        check_complaints(error, text)
        return
    for type_ in found.types.values():
        assert type_.size >= 0
        assert str(type_)


@QUICK
@given(
    st.lists(
        st.tuples(st.sampled_from([INT8, UINT8, INT16, INT32, UINT32, INT64]), st.integers(-1, 8)), max_size=8
    ),
    st.booleans(),
    st.sampled_from(["struct", "union"]),
)
def test_a_layout_holds_its_members(members: list[tuple[object, int]], packed: bool, kind: str) -> None:
    named = [(f"m{i}", type_, bits if bits != 0 else -1, 0) for i, (type_, bits) in enumerate(members)]
    fields, size, alignment = lay_out(kind, named, packed, 0)  # type: ignore[arg-type]
    assert size == align_up(size, alignment)
    taken: set[int] = set()
    for field in fields:
        width = field.bits or field.type.size * 8
        first = field.offset * 8 + field.bit_offset
        assert first + width <= size * 8
        if not packed and not field.bits:
            assert field.offset % field.type.align == 0
        mine = set(range(first, first + width))
        assert kind == "union" or not mine & taken
        taken |= mine
