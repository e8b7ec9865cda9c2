"""printf formats; the property tests compare integers with the C library."""

from __future__ import annotations

from typing import Any

import pytest

from tracebee.render.formats import BYTES, compile_format, is_text, line_template
from tracebee.spec.printf import parse_format
from tracebee.spec.types import (
    INT8,
    INT32,
    INT64,
    UINT8,
    UINT32,
    UINT64,
    Bool,
    Buffer,
    Enum,
    Int,
    Pointer,
    Stack,
    Str,
    Tuple,
    Type,
    Void,
)
from tracebee.spec.values import StackTrace

COLOUR = Enum("colour", 4, False, ((1, "RED"),))


def printed(text: str, *pairs: tuple[Type, Any]) -> str:
    template = compile_format(parse_format(text), tuple(type_ for type_, _ in pairs))
    values = tuple(value for _, value in pairs)
    filled = template.fill(values)
    assert template.lines([values, values]) == filled * 2
    return filled


def number(text: str, value: int) -> str:
    """With the type that the compiler sends for the conversion."""
    (conversion,) = parse_format(text).conversions
    return printed(text, (Int(conversion.bits // 8, conversion.letter in "di"), value))


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("%d", -5, "-5"),
        ("%+d", 5, "+5"),
        ("% d", 5, " 5"),
        ("%+ d", 5, "+5"),
        ("%05d", 42, "00042"),
        ("%-05d|", 42, "42   |"),
        ("%5.3d", 7, "  007"),
        ("%05.3d", 7, "  007"),
        ("%.0d", 0, ""),
        ("%3.0d", 0, "   "),
        ("%.0d", 1, "1"),
        ("%+u", 5, "5"),
        ("% x", 5, "5"),
        ("%x", 0xFFFFFFFF, "ffffffff"),
        ("%#x", 255, "0xff"),
        ("%#X", 255, "0XFF"),
        ("%#x", 0, "0"),
        ("%#o", 8, "010"),
        ("%#o", 0, "0"),
        ("%#.0o", 0, "0"),
        ("%#5o", 8, "  010"),
        ("%-#6x|", 255, "0xff  |"),
        ("%#010x", 255, "0x000000ff"),
        ("%#8.4x", 255, "  0x00ff"),
        ("%hhd", -1, "-1"),
        ("%hhu", 255, "255"),
        ("%llu", (1 << 64) - 1, "18446744073709551615"),
        ("%p", 4096, "0x1000"),
        ("%p", 0, "0"),
        ("%10p", 16, "      0x10"),
        ("%-10p|", 16, "0x10      |"),
        ("%010p", 16, "0x00000010"),
        ("%c", 65, "A"),
        ("%3c", 65, "  A"),
        ("%-3c|", 65, "A  |"),
        ("%c", 0, "\0"),
        ("%c", 0xC3, "\udcc3"),
        ("%gr", 0x1, "GFP_DMA"),
        ("%10gr", 0xCC0, "GFP_KERNEL"),
        ("%12gr", 0xCC0, "  GFP_KERNEL"),
    ],
)
def test_integers(text: str, value: int, expected: str) -> None:
    assert number(text, value) == expected


def test_values_of_wider_types_are_cut() -> None:
    assert printed("%d", (INT64, 1 << 32)) == "0"
    assert printed("%d", (UINT64, (1 << 64) - 1)) == "-1"
    assert printed("%x", (INT64, -1)) == "ffffffff"
    assert printed("%lx", (INT64, -1)) == "ffffffffffffffff"
    assert printed("%hho", (INT32, -1)) == "377"
    assert printed("%u", (INT8, -1)) == "4294967295"
    assert printed("%c", (INT64, 0x141)) == "A"
    assert printed("%lx", (Pointer(Void()), 16)) == "10"
    assert printed("%x", (Pointer(Void()), 1 << 32 | 5)) == "5"


def test_what_python_prints_alike_needs_no_converter() -> None:
    for text in ("%d", "%08x", "%-5u", "%+.3d", "%lli", "%s"):
        (conversion,) = parse_format(text).conversions
        type_ = Int(conversion.bits // 8, conversion.letter in "di")
        assert compile_format(parse_format(text), (type_,)).plain, text
    template = compile_format(parse_format("%d %s\n"), (INT32, Str(16)))
    assert template.format == "%d %s\n"
    assert template.converters == (None, None)


@pytest.mark.parametrize(
    ("text", "type_", "value", "expected"),
    [
        ("%s", Str(8), "ab", "ab"),
        ("%5s", Str(8), "ab", "   ab"),
        ("%-5s|", Str(8), "ab", "ab   |"),
        ("%+5s", Str(8), "ab", "   ab"),
        ("%.1s", Str(8), "abc", "abc"),
        ("%05s", Str(8), "ab", "000ab"),
        ("%-05s|", Str(8), "ab", "ab   |"),
        ("%5s", Bool(), True, " true"),
        ("%d", Bool(), True, "1"),
        ("%x", Bool(), True, "1"),
        ("%s", COLOUR, 1, "RED"),
        ("%d", COLOUR, 1, "1"),
        ("%4s", INT64, -5, "  -5"),
        ("%04s", INT64, 5, "0005"),
        ("%12s|", Tuple((INT32, Str(4))), (1, "a"), "      (1, a)|"),
        ("%-8s|", Tuple((INT32, INT32)), (1, 2), "(1, 2)  |"),
        ("%s", Pointer(Void()), 0, "0x0"),
        ("%r", Buffer(8), b"a\\b\n\x80%", r"a\b\x0a\x80%"),
        ("%rx", Buffer(8), b"a\n", r"\x61\x0a"),
        ("%rh", Buffer(8), b"a\n\x80", "61 0a 80"),
        ("%8rh", Buffer(8), b"a\n", "   61 0a"),
        ("%-6r|", Buffer(8), b"ab", "ab    |"),
        ("%rh", Buffer(8), b"", ""),
        ("[%s]", Stack(False, "bpftrace", 3), StackTrace((), "bpftrace", False), "[\n]"),
    ],
)
def test_anything(text: str, type_: Type, value: Any, expected: str) -> None:
    assert printed(text, (type_, value)) == expected


def test_percent_signs_and_literals() -> None:
    assert printed("100%% %d %%s\n", (INT32, 1)) == "100% 1 %s\n"
    assert printed("plain % d", (INT32, 1)) == "plain  1"
    assert printed("no conversion 5%%") == "no conversion 5%"
    assert printed("%s", (Str(8), "%d")) == "%d"


def test_several_conversions_keep_their_order() -> None:
    assert (
        printed(
            "%d %c %s %x %r|",
            (INT32, -1),
            (UINT8, 65),
            (Bool(), False),
            (UINT32, 255),
            (Buffer(4), b"\0"),
        )
        == r"-1 A false ff \x00|"
    )


def test_a_width_beyond_reason_is_capped() -> None:
    assert len(number("%999999999999999999999d", 1)) == 65535
    assert len(number("%.999999999999999999999d", 1)) == 65535
    assert len(number("%#.999999999999999999999x", 1)) == 65537


def test_lines_of_no_rows() -> None:
    template = compile_format(parse_format("%c\n"), (UINT8,))
    assert template.lines([]) == ""
    assert template.lines(iter(())) == ""


def test_text_of_can_be_replaced() -> None:
    template = compile_format(parse_format("%s"), (Bool(),), lambda type_: lambda value: "yes")
    assert template.fill((True,)) == "yes"


def test_bytes_put_together_are_the_text_that_they_encode() -> None:
    text = BYTES[0xC3] + BYTES[0xA9]
    assert text.encode("utf-8", "surrogateescape").decode() == "é"


def test_line_template() -> None:
    assert line_template(INT32).fill((-3,)) == "-3\n"
    assert line_template(Str(4)).plain
    assert line_template(Bool()).lines([(True,), (False,)]) == "true\nfalse\n"
    assert is_text(Str(4))
    assert not is_text(Bool())
