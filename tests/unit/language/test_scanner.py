"""The lexer: tokens, literals, and what is no token."""

from __future__ import annotations

import pytest

from tracebee.errors import SourceError
from tracebee.language.diagnostics import Diagnostics
from tracebee.language.scanner import BadLiteral, Scanner, Token, number_value, string_value
from tracebee.language.source import Source


def scan(text: str) -> list[tuple[str, str]]:
    """Kind and text of every token."""
    scanner = Scanner(Source("a.bt", text), Diagnostics())
    found = []
    while (token := scanner.next()).kind != "end":
        assert text[token.start : token.end] == token.text
        found.append((token.kind, token.text))
    return found


def test_every_kind_of_token() -> None:
    assert scan("12 word $var $1 $# @m @ \"s\" 'c' +") == [
        ("number", "12"),
        ("word", "word"),
        ("variable", "$var"),
        ("positional", "$1"),
        ("count", "$#"),
        ("map", "@m"),
        ("map", "@"),
        ("string", '"s"'),
        ("char", "'c'"),
        ("symbol", "+"),
    ]


@pytest.mark.parametrize(
    "symbols",
    [
        "<<= >>= .. -> ++ -- && || == != <= >= << >>",
        "+= -= *= /= %= &= |= ^=",
        "+ - * / % & | ^ ~ ! < > = ? : ; , . ( ) { } [ ] #",
    ],
)
def test_symbols_are_cut_as_long_as_they_go(symbols: str) -> None:
    assert scan(symbols) == [("symbol", symbol) for symbol in symbols.split()]


def test_symbols_without_blanks() -> None:
    assert [text for _, text in scan("1..2")] == ["1", "..", "2"]
    assert [text for _, text in scan("$a+++$b")] == ["$a", "++", "+", "$b"]
    assert [text for _, text in scan("a->b")] == ["a", "->", "b"]
    assert [text for _, text in scan("$a>>=1")] == ["$a", ">>=", "1"]


@pytest.mark.parametrize(
    "text", ["// only\n", "/* a */", "/* a\n * b */ // c", "  \t\r\n", "/**/", "/***/", "//", "/* // */"]
)
def test_comments_and_blanks_are_nothing(text: str) -> None:
    assert scan(text) == []
    assert scan(f"a{text}\nb") == [("word", "a"), ("word", "b")]


def test_comments_do_not_nest() -> None:
    assert scan("/* /* */ x") == [("word", "x")]


def test_a_comment_inside_a_string_is_text() -> None:
    assert scan('"/* a */ // b"') == [("string", '"/* a */ // b"')]


@pytest.mark.parametrize(
    ("text", "message", "heading"),
    [
        ("a /* b", "syntax: comment is never closed", "a.bt:1:3-5"),
        ('a "b\nc', "syntax: string is never closed", "a.bt:1:3-5"),
        ('"ab\\"', "syntax: string is never closed", "a.bt:1:1-6"),
        ("a ` b", "syntax: unexpected character '`'", "a.bt:1:3-4"),
        ("\\", "syntax: unexpected character '\\\\'", "a.bt:1:1-2"),
        ("\x00", "syntax: unexpected character '\\x00'", "a.bt:1:1-2"),
        ("é", "syntax: unexpected character 'é'", "a.bt:1:1-2"),
        ("\udcff", "syntax: unexpected character '\\udcff'", "a.bt:1:1-2"),
        ("'", 'syntax: unexpected character "\'"', "a.bt:1:1-2"),
    ],
)
def test_what_is_no_token_is_one_message(text: str, message: str, heading: str) -> None:
    with pytest.raises(SourceError) as caught:
        scan(text)
    (found,) = caught.value.diagnostics
    assert found.message == message
    assert found.span is not None
    assert found.span.heading == heading


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("10", 10),
        ("1_000_000", 1000000),
        ("0x1F", 31),
        ("0Xff_ff", 65535),
        ("017", 15),
        ("00", 0),
        ("1e3", 1000),
        ("9E5", 900000),
        ("10u", 10),
        ("10UL", 10),
        ("10ull", 10),
        ("0x10L", 16),
        ("5ns", 5),
        ("5us", 5000),
        ("5ms", 5000000),
        ("2s", 2000000000),
        ("2m", 120 * 10**9),
        ("1h", 3600 * 10**9),
        ("1d", 86400 * 10**9),
        ("18446744073709551615", (1 << 64) - 1),
        ("0xffffffffffffffff", (1 << 64) - 1),
        ("1e19", 10**19),
    ],
)
def test_the_value_of_a_number(text: str, value: int) -> None:
    assert number_value(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "12e3",
        "0e3",
        "1e20",
        "1e99999",
        "08",
        "0b11",
        "0x",
        "1x",
        "5sec",
        "18446744073709551616",
        "0x10000000000000000",
        "9" * 5000,
        "300000d",
        "1.5",
        "",
        "1lll",
    ],
)
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(BadLiteral) as caught:
        number_value(text)
    assert len(caught.value.message) < len(text) + 80
    assert (caught.value.start, caught.value.end) == (0, len(text))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('""', b""),
        ('"abc"', b"abc"),
        (r'"\n\t\r\"\\"', b'\n\t\r"\\'),
        (r'"\0"', b"\0"),
        (r'"\101\60"', b"A0"),
        (r'"\377"', b"\xff"),
        (r'"\x41\x4"', b"A\x04"),
        (r'"\x414"', b"A4"),
        ('"é"', "é".encode()),
        ('"\udcff"', b"\xff"),
        ('"a\nb"', b"a\nb"),
    ],
)
def test_the_bytes_of_a_string(text: str, value: bytes) -> None:
    assert string_value(text) == value


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        (r'"a\qb"', r"invalid escape character '\q'", (2, 4)),
        (r'"\400"', r"octal escape is too large: '\400'", (1, 5)),
        (r'"\xg"', r"invalid escape character '\x'", (1, 3)),
    ],
)
def test_a_bad_escape_is_named_with_its_place(text: str, message: str, place: tuple[int, int]) -> None:
    with pytest.raises(BadLiteral) as caught:
        string_value(text)
    assert (caught.value.message, (caught.value.start, caught.value.end)) == (message, place)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("kprobe:vfs_* {", "kprobe:vfs_*"),
        ("a:b,c:d", "a:b"),
        ('uprobe:"/a b,c{":f {', 'uprobe:"/a b,c{":f'),
        (r'u:"a\"b":c{', r'u:"a\"b":c'),
        ("BEGIN{", "BEGIN"),
        ("BEGIN/1/{", "BEGIN"),
        ("end/1/ {", "end"),
        ("END {", "END"),
        ("uprobe:/a/b:f/1/{", "uprobe:/a/b:f/1/"),
        ("  /* c */ x:y\n", "x:y"),
    ],
)
def test_an_attach_point_is_one_word(text: str, word: str) -> None:
    scanner = Scanner(Source("a.bt", text), Diagnostics())
    token = scanner.attach_point()
    assert token is not None
    assert (token.kind, token.text) == ("attach point", word)


@pytest.mark.parametrize("text", ["", "{", ", a", '"open'])
def test_no_attach_point(text: str) -> None:
    assert Scanner(Source("a.bt", text), Diagnostics()).attach_point() is None


def test_the_rest_of_a_line_goes_on_behind_a_backslash() -> None:
    scanner = Scanner(Source("a.bt", "#define A 1 \\\n + 2\nB"), Diagnostics())
    assert scanner.line_rest().text == "#define A 1 \\\n + 2"
    assert scanner.next() == Token("word", "B", 19, 20)


def test_the_rest_of_the_last_line() -> None:
    scanner = Scanner(Source("a.bt", "#define A \\"), Diagnostics())
    assert scanner.line_rest().text == "#define A \\"
    assert scanner.next().kind == "end"
