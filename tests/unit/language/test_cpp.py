"""C tokens, directives, macros, and constant expressions."""

from __future__ import annotations

import pytest

from tracebee.language.cpp import CError, Evaluator, Preprocessor, tokens_of
from tracebee.language.source import Source


def preprocess(text: str, headers: dict[str, str] | None = None, **defined: str) -> str:
    """The tokens that are left of a text, joined by blanks."""

    def include(name: str, is_system: bool) -> Source | None:
        if name == "known/nothing.h":
            return None
        if headers is None or name not in headers:
            raise CError(f"'{name}' file not found")
        return Source(name, headers[name])

    return " ".join(token.text for token in Preprocessor(include, defined).run(Source("a.bt", text)))


def evaluate(text: str) -> int:
    names = {"ONE": 1, "BIG": 1 << 40}
    return Evaluator(list(tokens_of(Source("a.bt", text))), names.get, lambda tokens: 4 * len(tokens)).value()


def test_tokens_know_their_place() -> None:
    source = Source("a.bt", 'int /* c */ x = 0x1fUL; // c\n"s" L"t" \'a\' <<= ...')
    found = list(tokens_of(source))
    assert [token.text for token in found] == [
        *("int", "x", "=", "0x1fUL", ";", '"s"', 'L"t"', "'a'", "<<=", "...")
    ]
    assert all(source.text[token.start : token.end] == token.text for token in found)
    assert [token.kind for token in found[:4]] == ["word", "word", "symbol", "number"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#define A 1\nA B", "1 B"),
        ("#define A B\n#define B A\nA", "A"),
        ("#define A A + 1\nA", "A + 1"),
        ("#define A 1\n#undef A\nA", "A"),
        ("#define F(x) x + x\nF(1) F", "1 + 1 F"),
        ("#define F(x, y) y x\nF((1, 2), 3)", "3 ( 1 , 2 )"),
        ("#define F() 7\nF()", "7"),
        ("#define F (x)\nF", "( x )"),
        ("#define J(a, b) a##b\nint J(x, 1);", "int x1 ;"),
        ("#define A 1 + \\\n 2\nA", "1 + 2"),
        ("#define G(x) F(x)\n#define F(x) <x>\nG(2)", "< 2 >"),
        ("#define A // nothing\nA x", "x"),
        ("#define A 1 /* c */\nA", "1"),
        ("#ifdef A\n1\n#else\n2\n#endif", "2"),
        ("#define A\n#ifdef A\n1\n#else\n2\n#endif", "1"),
        ("#ifndef A\n1\n#endif\n3", "1 3"),
        ("#if 1 + 1 == 2\nyes\n#endif", "yes"),
        ("#if defined(A) || !defined B\nyes\n#endif", "yes"),
        ("#if UNKNOWN\nno\n#elif 1\nyes\n#elif 1\nno\n#else\nno\n#endif", "yes"),
        ("#if 0\n#if 1\nno\n#else\nno\n#endif\n#else\nyes\n#endif", "yes"),
        ("#if 0\n#error no\n#define A 1\n#include <missing>\n#endif\nA", "A"),
        ("#pragma once\nx", "x"),
        ("#\nx", "x"),
        ("  #  define A 1\nA", "1"),
        ("/*\n#define A 1\n*/ A", "A"),
        ("x /* \n#if 0 */ y", "x y"),
        ("#define A 1 /* c\n d */ + 2\nA", "1 + 2"),
        ("x // /*\n#define A 1\nA", "x 1"),
        ('"/*"\n#define A 1\nA', '"/*" 1'),
        ("\n#define A 1\n\nA\\\n", "1"),
    ],
)
def test_directives_and_macros(text: str, expected: str) -> None:
    assert preprocess(text) == expected


def test_what_is_defined_from_outside() -> None:
    assert preprocess("#if FOO > 2\nFOO\n#endif", FOO="3") == "3"


def test_headers_are_read_in_place() -> None:
    headers = {"a.h": "#ifndef A_H\n#define A_H 5\nint a;\n#endif", "b.h": '#include "a.h"\nint b;'}
    assert preprocess("#include <a.h>\n#include <b.h>\nA_H", headers) == "int a ; int b ; 5"
    assert preprocess("#define X <a.h>\n#include X\n", headers) == "int a ;"
    assert preprocess("#include <known/nothing.h>\nx") == "x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#include <missing.h>", "'missing.h' file not found"),
        ("#include missing", '#include expects "FILE" or <FILE>'),
        ("#error stop here", "#error stop here"),
        ("#define", "#define needs a name"),
        ("#define 5", "#define needs a name"),
        ("#define F(x", "#define: expected ')'"),
        ("#define F(x) x\nF(1", "macro call is never closed"),
        ("#endif", "directive without #if"),
        ("#else", "directive without #if"),
    ],
)
def test_what_is_wrong_with_a_directive(text: str, message: str) -> None:
    with pytest.raises(CError) as caught:
        preprocess(text)
    assert caught.value.message == message


def test_a_header_that_includes_itself_comes_to_an_end() -> None:
    with pytest.raises(CError) as caught:
        preprocess('#include "a.h"', {"a.h": '#include "a.h"\n'})
    assert caught.value.message == "too many #include files"


@pytest.mark.parametrize(
    "body",
    [
        "".join(f"#define a{i} a{i + 1} a{i + 1}\n" for i in range(60)) + "#define a60 x\na0",
        "".join(f"#define a{i} a{i + 1} a{i + 1}\n" for i in range(60)) + "#define a60\na0",
        "".join(f"#define a{i} a{i + 1}\n" for i in range(5000)) + "a0",
    ],
    ids=["powers", "powers of nothing", "chain"],
)
def test_macros_that_grow_beyond_reason_are_refused(body: str) -> None:
    with pytest.raises(CError) as caught:
        preprocess(body)
    assert caught.value.message == "macro expands to too much"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("10 - 4 - 3", 3),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("1 << 4 | 1", 17),
        ("0x10 >> 2", 4),
        ("5 & 6 ^ 1", 5),
        ("~0 & 0xff", 255),
        ("!5 + !0", 1),
        ("+3", 3),
        ("1 < 2 && 2 <= 2 && 3 > 2 && 3 >= 3 && 1 != 2 || 0", 1),
        ("1 ? 2 : 3", 2),
        ("0 ? 2 : 0 ? 3 : 4", 4),
        ("017", 15),
        ("0b101", 5),
        ("10UL + 1ll", 11),
        ("'a'", 97),
        ("'\\n' + '\\0' + '\\''", 49),
        ("'\"'", 34),
        ("ONE + 1", 2),
        ("sizeof(int int)", 8),
        ("0xffffffffffffffff + 1", 0),
    ],
)
def test_constant_expressions(text: str, value: int) -> None:
    assert evaluate(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 +", "expected an expression"),
        ("1 2", "expected an operator"),
        ("(1", "expected an expression"),
        ("1 / 0", "division by zero"),
        ("1 % 0", "division by zero"),
        ("1 << 64", "shift is out of range"),
        ("1 << -1", "shift is out of range"),
        ("WHAT", "'WHAT' is no constant"),
        ("1 ? 2", "expected an expression"),
        ("08", "invalid integer: 08"),
        ("0b2", "invalid integer: 0b2"),
        ("1.5", "invalid integer: 1.5"),
        ("(" * 10_000, "expression is nested too deeply"),
        ("- " * 10_000 + "1", "expression is nested too deeply"),
        ("1 ? " * 10_000, "expression is nested too deeply"),
    ],
)
def test_what_is_no_constant(text: str, message: str) -> None:
    with pytest.raises(CError) as caught:
        evaluate(text)
    assert caught.value.message == message
