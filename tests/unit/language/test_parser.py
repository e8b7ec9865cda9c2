"""The parser: every form, the strength of operators, and what it says about mistakes."""

from __future__ import annotations

import pytest

from tracebee.errors import SourceError
from tracebee.language import tree
from tracebee.language.diagnostics import Diagnostics
from tracebee.language.parser import MAX_DEPTH, MAX_TERMS, Parser, parse
from tracebee.language.source import Source

from .fixtures import body, expression, parsed, shape


def brackets(node: object) -> str:
    """An expression with all its parentheses."""
    match node:
        case tree.Number(_, value):
            return str(value)
        case tree.Variable(_, name) | tree.Name(_, name) | tree.MapAccess(_, name, None):
            return name
        case tree.MapAccess(_, name, key):
            return f"{name}[{brackets(key)}]"
        case tree.Unary(_, operator, operand, postfix):
            inner = brackets(operand)
            return f"({inner}{operator})" if postfix else f"({operator}{inner})"
        case tree.Binary(_, operator, left, right):
            return f"({brackets(left)} {operator} {brackets(right)})"
        case tree.Ternary(_, condition, then, otherwise):
            return f"({brackets(condition)} ? {brackets(then)} : {brackets(otherwise)})"
        case tree.Cast(_, target, operand):
            return f"(<{target.base}{''.join(map(str, target.suffixes))}>{brackets(operand)})"
        case tree.Member(_, operand, name):
            return f"({brackets(operand)}.{name})"
        case tree.Element(_, operand, index):
            return f"({brackets(operand)}.{index})"
        case tree.Index(_, operand, index):
            return f"({brackets(operand)}[{brackets(index)}])"
        case tree.TupleLiteral(_, elements):
            return f"tuple({', '.join(map(brackets, elements))})"
        case tree.Call(_, name, arguments):
            return f"{name}({', '.join(map(brackets, arguments))})"
        case None:
            return ""
    raise AssertionError(node)


def errors(text: str) -> list[tuple[str, str]]:
    """Message and marked text of each syntax error."""
    with pytest.raises(SourceError) as caught:
        parse(Source("a.bt", text), Diagnostics())
    return [(one.message, one.span.text if one.span else "") for one in caught.value.diagnostics]


# --- expressions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3", "(1 + (2 * 3))"),
        ("1 - 2 - 3", "((1 - 2) - 3)"),
        ("8 / 4 % 3 * 2", "(((8 / 4) % 3) * 2)"),
        ("(1 + 2) * 3", "((1 + 2) * 3)"),
        ("1 << 2 + 3", "(1 << (2 + 3))"),
        ("1 < 2 << 3", "(1 < (2 << 3))"),
        ("1 == 2 < 3", "(1 == (2 < 3))"),
        ("1 & 2 == 3", "(1 & (2 == 3))"),
        ("1 ^ 2 & 3", "(1 ^ (2 & 3))"),
        ("1 | 2 ^ 3", "(1 | (2 ^ 3))"),
        ("1 && 2 | 3", "(1 && (2 | 3))"),
        ("1 || 2 && 3", "(1 || (2 && 3))"),
        ("1 && 2 || 3 && 4", "((1 && 2) || (3 && 4))"),
        ("1 || 2 ? 3 : 4", "((1 || 2) ? 3 : 4)"),
        ("1 ? 2 : 3 ? 4 : 5", "(1 ? 2 : (3 ? 4 : 5))"),
        ("1 ? 2 ? 3 : 4 : 5", "(1 ? (2 ? 3 : 4) : 5)"),
        ("$x ?: 10", "($x ?  : 10)"),
        ("-1 * 2", "((-1) * 2)"),
        ("!1 == 2", "((!1) == 2)"),
        ("~1 & 2", "((~1) & 2)"),
        ("- - 1", "(-(-1))"),
        ("*$p + 1", "((*$p) + 1)"),
        ("*$p.x", "(*($p.x))"),
        ("&$x", "(&$x)"),
        ("1 & &$x", "(1 & (&$x))"),
        ("$x++ + ++$x", "(($x++) + (++$x))"),
        ("--@a[1] - @a[1]--", "((--@a[1]) - (@a[1]--))"),
        ("-$x++", "(-($x++))"),
        ("a.b.c", "((a.b).c)"),
        ("a->b->c", "((a.b).c)"),
        ("$t.0.1", "(($t.0).1)"),
        ("a.b[1][2]", "(((a.b)[1])[2])"),
        ("@a[1][2]", "(@a[1][2])"),
        ("@a[1, 2]", "@a[tuple(1, 2)]"),
        ("@a[(1, 2)]", "@a[tuple(1, 2)]"),
        ("@[1]", "@[1]"),
        ("(uint8)1 + 2", "((<uint8>1) + 2)"),
        ("(uint8)-1", "(<uint8>(-1))"),
        ("-(uint8)1", "(-(<uint8>1))"),
        ("(struct foo *)$x->y", "(<struct foo*>($x.y))"),
        ("((struct foo *)$x)->y", "((<struct foo*>$x).y)"),
        ("(int32*[4])$x", "(<int32*4>$x)"),
        ("(int8[])$x", "(<int8None>$x)"),
        ("(size_t)1", "(<size_t>1)"),
        ("(size_t)$x", "(<size_t>$x)"),
        ("(foo *)&$x", "(<foo*>(&$x))"),
        ("(foo) - 1", "(foo - 1)"),
        ("(foo) * 1", "(foo * 1)"),
        ("(foo)", "foo"),
        ("(1)", "1"),
        ("()", "tuple()"),
        ("(1,)", "tuple(1)"),
        ("(1, 2,)", "tuple(1, 2)"),
        ("(1, (2, 3))", "tuple(1, tuple(2, 3))"),
        ("f()", "f()"),
        ("f(1, g(2),)", "f(1, g(2))"),
        ("f(1).a", "(f(1).a)"),
        ("pid", "pid"),
    ],
)
def test_how_strongly_operators_hold(text: str, expected: str) -> None:
    assert brackets(expression(text)) == expected


@pytest.mark.parametrize("operator", ["||", "&&", "|", "^", "&", "==", "<", "<<", "+", "*"])
def test_binary_operators_go_from_left_to_right(operator: str) -> None:
    text = f"1 {operator} 2 {operator} 3"
    assert brackets(expression(text)) == f"((1 {operator} 2) {operator} 3)"


def test_literals() -> None:
    assert shape(expression("0x10")) == ("Number", 16)
    assert shape(expression("5ms")) == ("Number", 5_000_000)
    assert shape(expression("true")) == ("Truth", True)
    assert shape(expression("false")) == ("Truth", False)
    assert shape(expression(r'"a\n"')) == ("Text", b"a\n")
    assert shape(expression("$2")) == ("Positional", 2)
    assert shape(expression("$#")) == ("PositionalCount",)


def test_records() -> None:
    found = expression("(a=1, b=(2,), c=(d=3))")
    assert isinstance(found, tree.RecordLiteral)
    assert found.names == ["a", "b", "c"]
    assert isinstance(found.elements[1], tree.TupleLiteral)
    assert isinstance(found.elements[2], tree.RecordLiteral)
    # A comparison is no record.
    assert isinstance(expression("(a == 1)"), tree.Binary)


@pytest.mark.parametrize(
    ("text", "kind", "base", "suffixes"),
    [
        ("sizeof(uint8)", tree.SizeOf, "uint8", []),
        ("sizeof(struct a *)", tree.SizeOf, "struct a", ["*"]),
        ("sizeof(foo **)", tree.SizeOf, "foo", ["*", "*"]),
        ("sizeof(uint8[4])", tree.SizeOf, "uint8", [4]),
        ("sizeof(unsigned long long)", tree.SizeOf, "unsigned long long", []),
        ("typeinfo(string[5])", tree.TypeInfo, "string", [5]),
        ("offsetof(struct a, b.c)", tree.OffsetOf, "struct a", []),
        ("typeof(uint8*)", tree.TypeOf, "", []),
    ],
)
def test_types_where_types_stand(text: str, kind: type, base: str, suffixes: list[object]) -> None:
    found = expression(text)
    assert type(found) is kind
    target = found.target  # type: ignore[attr-defined]
    assert isinstance(target, tree.TypeName)
    assert (target.base, target.suffixes) == (base, suffixes)


def test_expressions_where_types_may_stand() -> None:
    found = expression("sizeof($x + 1)")
    assert isinstance(found, tree.SizeOf)
    assert isinstance(found.target, tree.Binary)
    found = expression("sizeof(a * b)")
    assert isinstance(found, tree.SizeOf)
    assert isinstance(found.target, tree.Binary)
    members = expression("offsetof($x, a.b)")
    assert isinstance(members, tree.OffsetOf)
    assert members.members == ["a", "b"]


def test_blocks_and_branches_have_values() -> None:
    found = expression("{ $x = 1; $x + 1 }")
    assert isinstance(found, tree.Block)
    assert len(found.statements) == 1
    assert brackets(found.value) == "($x + 1)"
    branch = expression("if $x { 1 } else if (2) { 3 } else { 4 }")
    assert isinstance(branch, tree.If)
    assert branch.otherwise is not None
    assert isinstance(branch.otherwise.value, tree.If)
    assert isinstance(expression("if comptime (1) { 2 }"), tree.If)
    assert expression("if comptime 1 { 2 }").compile_time is True  # type: ignore[attr-defined]


# --- statements


@pytest.mark.parametrize("operator", ["=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>="])
def test_assignments(operator: str) -> None:
    (statement,) = body(f"@a[1] {operator} 2;").statements
    assert isinstance(statement, tree.Assign)
    assert statement.operator == operator
    assert isinstance(statement.target, tree.MapAccess)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$x = 1;", ("Assign", ("Variable", "$x"), "=", ("Number", 1))),
        ("_ = 1;", ("Discard", ("Number", 1))),
        ("let $x;", ("Let", ("Variable", "$x"), None, None)),
        ("let $x = 1;", ("Let", ("Variable", "$x"), None, ("Number", 1))),
        (
            "let $x : uint8 = 1;",
            ("Let", ("Variable", "$x"), ("TypeName", "uint8", None, []), ("Number", 1)),
        ),
        (
            "let $x : typeof($y)*;",
            ("Let", ("Variable", "$x"), ("TypeName", "", ("Variable", "$y"), ["*"]), None),
        ),
        ("break;", ("Jump", "break", None)),
        ("continue;", ("Jump", "continue", None)),
        ("return;", ("Jump", "return", None)),
        ("return 1;", ("Jump", "return", ("Number", 1))),
        ("1;", ("ExpressionStatement", ("Number", 1))),
        ("while (1) { }", ("While", ("Number", 1), ("Block", [], None))),
        ("while 1 { }", ("While", ("Number", 1), ("Block", [], None))),
        ("unroll (3) { }", ("Unroll", ("Number", 3), ("Block", [], None))),
        (
            "for ($kv : @m) { }",
            ("ForMap", ("Variable", "$kv"), ("MapAccess", "@m", None), ("Block", [], None)),
        ),
        (
            "for $i : 1..$n { }",
            ("ForRange", ("Variable", "$i"), ("Number", 1), ("Variable", "$n"), ("Block", [], None)),
        ),
        ("{ }", ("ExpressionStatement", ("Block", [], None))),
    ],
)
def test_statements(text: str, expected: object) -> None:
    (statement,) = body(text + " 1").statements
    assert shape(statement) == expected


def test_a_last_expression_without_semicolon_is_the_blocks_value() -> None:
    assert brackets(body("$x = 1; $x").value) == "$x"
    assert body("$x = 1; $x;").value is None
    assert body("$x = 1").value is None
    assert len(body("$x = 1").statements) == 1


def test_a_block_needs_no_semicolon() -> None:
    found = body("if (1) { } if (2) { } { } while (3) { } $x = 1")
    assert [type(statement).__name__ for statement in found.statements] == [
        "ExpressionStatement",
        "ExpressionStatement",
        "ExpressionStatement",
        "While",
        "Assign",
    ]


# --- top level


def test_a_probe_with_everything() -> None:
    (probe,) = parsed("here=kprobe:a,\n  kprobe:b* /pid == 1/ { print(1); }").probes
    assert probe.name == "here"
    assert [point.text for point in probe.points] == ["kprobe:a", "kprobe:b*"]
    assert probe.predicate is not None
    assert brackets(probe.predicate) == "(pid == 1)"
    assert probe.span.text == "here=kprobe:a,\n  kprobe:b* /pid == 1/"


def test_an_equals_sign_behind_the_colon_is_no_name() -> None:
    (probe,) = parsed("uprobe:/a=b:f { }").probes
    assert (probe.name, probe.points[0].text) == ("", "uprobe:/a=b:f")


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        ("1 / 2", "(1 / 2)"),
        ("(1 / 2) / 3 == 4", "(((1 / 2) / 3) == 4)"),
        ("@a[1 / 2]", "@a[(1 / 2)]"),
        ("f(1 / 2)", "f((1 / 2))"),
    ],
)
def test_a_division_in_a_predicate(predicate: str, expected: str) -> None:
    (probe,) = parsed(f"BEGIN /{predicate}/ {{ }}").probes
    assert brackets(probe.predicate) == expected


def test_a_script_with_all_parts() -> None:
    program = parsed(
        "#!/usr/bin/env bpftrace\n#include <a.h>\nstruct s { int x; } __attribute__((packed));\n"
        "union u { int x; }\nenum e { A, B };\ntypedef struct { int y; } t;\n#define X 1 \\\n + 2\n"
        'config = { max_strlen = 64; stack_mode = "perf"; unstable_import = true, }\n'
        'import "x.bt";\nlet @m = lruhash(10);\nmacro f($a, @b, c) { c }\nBEGIN { }\n;END { }'
    )
    assert [part.span.text for part in program.c_parts] == [
        "#include <a.h>",
        "struct s { int x; } __attribute__((packed));",
        "union u { int x; }",
        "enum e { A, B };",
        "typedef struct { int y; } t;",
        "#define X 1 \\\n + 2",
    ]
    assert [(entry.key, entry.value) for entry in program.config] == [
        ("max_strlen", "64"),
        ("stack_mode", "perf"),
        ("unstable_import", "true"),
    ]
    assert [one.target for one in program.imports] == ["x.bt"]
    assert [(one.name, one.kind) for one in program.maps] == [("@m", "lruhash")]
    assert [p.name for p in program.macros[0].parameters] == ["$a", "@b", "c"]
    assert [probe.points[0].text for probe in program.probes] == ["BEGIN", "END"]


@pytest.mark.parametrize("text", ["", " \n\t", "// nothing\n", "#!/bin/x"])
def test_an_empty_script_has_no_parts(text: str) -> None:
    assert parsed(text).probes == []


def test_config_import_and_macro_are_names_elsewhere() -> None:
    assert brackets(expression("config + import + macro + fn")) == "(((config + import) + macro) + fn)"


# --- mistakes


@pytest.mark.parametrize(
    ("text", "message", "marked"),
    [
        ("BEGIN { $x = }", "syntax: expected expression", "}"),
        ("BEGIN { $x = 1 $y = 2 }", "syntax: expected ';'", "$y"),
        ("BEGIN { 1 + }", "syntax: expected expression", "}"),
        ("BEGIN { (1 }", "syntax: expected ')'", "}"),
        ("BEGIN { @a[1 }", "syntax: expected ']'", "}"),
        ("BEGIN { f(1 2) }", "syntax: expected ',' or ')'", "2"),
        ("BEGIN { 1 ? 2 }", "syntax: expected ':'", "}"),
        ("BEGIN { let x = 1; }", "syntax: expected variable after 'let'", "x"),
        ("BEGIN { for (x : @a) { } }", "syntax: expected a variable after 'for'", "x"),
        ("BEGIN { for ($x : 5) { } }", "syntax: expected a map or a range after ':'", "5"),
        ("BEGIN { $x.+ }", "syntax: expected the name of a member", "+"),
        ("BEGIN { 5++ }", "syntax: expected ';'", "++"),
        ("BEGIN { ++5 }", "syntax: '++' needs a variable or a map", "5"),
        ("BEGIN { 5 = 1 }", "syntax: expected ';'", "="),
        (
            "BEGIN { $x.a = 1; }",
            "syntax: Tuples and records are immutable once created. "
            "Consider creating a new value and assigning it instead.",
            "$x.a = 1",
        ),
        ("BEGIN { while }", "syntax: expected expression", "}"),
        ("BEGIN { else }", "syntax: expected expression", "else"),
        ("BEGIN { ; }", "syntax: expected expression", ";"),
        ("BEGIN { (uint8[x])1 }", "syntax: expected a number of elements", "x"),
        ("BEGIN { 12e3 }", "syntax: coefficient part of scientific literal must be 1-9: 12e3", "12e3"),
        ('BEGIN { "a\\q" }', "syntax: invalid escape character '\\q'", "\\q"),
        ("BEGIN { sizeof() }", "syntax: expected expression", ")"),
        ("BEGIN { offsetof(struct a) }", "syntax: expected ','", ")"),
        ("BEGIN { 'a' }", "syntax: expected expression", "'a'"),
        ("BEGIN { $99999999999 }", "syntax: there is no positional parameter $999999999…", "$99999999999"),
        ("BEGIN {", "syntax: expected '}'", ""),
        ("BEGIN", "syntax: expected '{'", ""),
        ("BEGIN /1 { }", "syntax: expected '/' at the end of the predicate", "{"),
        ("{ }", "syntax: expected an attach point", "{"),
        (", { }", "syntax: expected an attach point", ","),
        ("x= { }", "syntax: expected an attach point", ""),
        ("fn f() { }", "syntax: functions are not supported yet", "fn"),
        ("macro () { }", "syntax: expected a name after 'macro'", "("),
        ("macro f(1) { }", "syntax: expected a parameter", "1"),
        ("let $a = hash(1);", "syntax: expected a map after 'let'", "$a"),
        ("let @a = 5;", "syntax: expected a kind of map", "5"),
        ("import x;", "syntax: expected a file name after 'import'", "x"),
        ("config = { 5 = 1 }", "syntax: expected a configuration name", "5"),
        ("config = { a = ; }", "syntax: expected a value", ";"),
        ("config = { a = 1 b = 2 }", "syntax: expected ';'", "b"),
        ("struct a {", "syntax: C declaration is never closed", "struct"),
        ("struct a } ", "syntax: unexpected '}'", "}"),
    ],
)
def test_what_is_wrong_and_where(text: str, message: str, marked: str) -> None:
    found = errors(text)
    assert found[0][0] == message
    if marked:
        assert found[0][1] == marked


def test_it_goes_on_behind_a_mistake() -> None:
    found = errors(
        "BEGIN { $x = ; $y = 1; @a = * ; if (1) { $z = ; } }\nEND { + }\nmacro 5\n{ }\ni:s:1 { let x; }"
    )
    assert len(found) == 6


def test_a_mistake_deep_down_does_not_count_for_the_rest() -> None:
    deep = "(" * (MAX_DEPTH - 20)
    text = f"BEGIN {{ $x = {deep}; $y = {deep}; $z = ((1)); }} END {{ {'(' * 300}1{')' * 300} }}"
    assert errors(text) == [("syntax: expected expression", ";")] * 2


@pytest.mark.parametrize(
    "text",
    [
        "$x = " + "(" * 10_000 + "1" + ")" * 10_000,
        "{" * 10_000,
        "@a[" * 10_000,
        "$x = " + "- " * 10_000 + "1",
        "$x = " + "(uint8)" * 10_000 + "1",
        "$x = " + "1 ? " * 10_000,
        "$x = " + "1 ? 1 : " * 10_000 + "1",
        "if (1) { } else " * 10_000 + "{ }",
        "f(" * 10_000,
        "$x = " + "sizeof(typeof(" * 10_000,
        "$x = " + "typeof(" * 10_000,
        "for ($i : 0..1) { " * 10_000,
        "if " * 10_000,
    ],
)
def test_nesting_beyond_reason_is_one_message(text: str) -> None:
    (found,) = errors(f"BEGIN {{ {text}")
    assert found[0] == f"syntax: nested too deeply (more than {MAX_DEPTH} levels)"


@pytest.mark.parametrize(
    "text",
    [
        "$x = 1" + " + 1" * 10_000,
        "$x = $y" + ".a" * 10_000,
        "$x = $y" + "[0]" * 10_000,
        "$x = " + "(" * 100 + "1" + ("+1" * 30 + ")") * 100,
    ],
)
def test_a_chain_beyond_reason_is_one_message(text: str) -> None:
    (found,) = errors(f"BEGIN {{ {text}; }}")
    assert found[0] == f"syntax: too many operators in one statement (more than {MAX_TERMS})"


def test_many_statements_with_many_operators_are_fine() -> None:
    line = "$x = 1" + " + 1" * (MAX_TERMS - 10) + "; "
    assert len(body(line * 5 + "{ " + line * 3 + "}").statements) == 5


@pytest.mark.parametrize(
    "text",
    [
        "/*" + "x" * 1_000_000 + "*/ BEGIN { }",
        "// x\n" * 200_000 + "BEGIN { }",
        "BEGIN { print(1); }\n" * 20_000,
        'BEGIN { print("' + "x" * 1_000_000 + '"); }',
        "BEGIN { " + "@a[pid] = count(); " * 20_000 + "}",
        "struct a { int x; };\n" * 20_000,
        "\n" * 1_000_000,
    ],
    ids=["comment", "comments", "probes", "string", "statements", "declarations", "lines"],
)
def test_a_large_script_is_read_in_linear_time(text: str) -> None:
    # Anything that looks at the rest of the text for every token takes minutes here.
    assert parsed(text).span.text == text


@pytest.mark.parametrize(
    "text",
    [
        'BEGIN { print("' + "x" * 1_000_000,
        "BEGIN { } /*" + "x" * 1_000_000,
        '"' * 1_000_001,
        "\x00" * 100_000,
    ],
)
def test_a_large_script_that_is_wrong_has_one_short_message(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse(Source("a.bt", text), Diagnostics())
    assert len(caught.value.diagnostics) == 1
    assert len(str(caught.value)) < 2000


def test_broken_utf8_is_text_in_strings_and_an_error_elsewhere() -> None:
    broken = b'BEGIN { print("\xff\xfe"); }'.decode("utf-8", "surrogateescape")
    (probe,) = parsed(broken).probes
    (call,) = [node for node in tree.walk(probe) if isinstance(node, tree.Text)]
    assert call.value == b"\xff\xfe"
    assert errors("BEGIN { \udcff }")[0][0] == "syntax: unexpected character '\\udcff'"


def test_spans_are_the_text_that_a_node_was_read_from() -> None:
    text = "BEGIN { $x = f(1, @a[2]).b + (uint8)3; while (1) { @c++; } if (1) { 2 } else { 3 } }"
    program = parsed(text)
    for node in tree.walk(program.probes[0].body):
        assert 0 <= node.span.start <= node.span.end <= len(text)
    found = {type(node).__name__: node.span.text for node in tree.walk(program.probes[0].body)}
    assert found["Member"] == "f(1, @a[2]).b"
    assert found["Cast"] == "(uint8)3"
    assert found["While"] == "while (1) { @c++; }"
    assert found["If"] == "if (1) { 2 } else { 3 }"
    assert found["Assign"] == "$x = f(1, @a[2]).b + (uint8)3"


def test_rewind_gives_the_same_token_again() -> None:
    parser = Parser(Source("a.bt", "a b c"), Diagnostics())
    first = parser.take()
    parser.take()
    parser.rewind(first)
    assert parser.take() == first
