"""Format strings: what they are taken apart into, and what is refused."""

from __future__ import annotations

import pytest

from tracebee.spec.printf import BadFormat, Conversion, Format, parse_format


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("", ()),
        ("plain", ("plain",)),
        ("100%%", ("100%",)),
        ("%%d", ("%d",)),
        ("a%%%%b", ("a%%b",)),
        ("%d", (Conversion("d"),)),
        ("%d%d", (Conversion("d"), Conversion("d"))),
        ("<%s>\n", ("<", Conversion("s"), ">\n")),
        ("%-10s|", (Conversion("s", "-", 10), "|")),
        ("%05.3d", (Conversion("d", "0", 5, 3),)),
        ("%+ -#0llx", (Conversion("x", "+ -#0", 0, -1, "ll"),)),
        ("%.s", (Conversion("s", "", 0, 0),)),
        ("%.0d", (Conversion("d", "", 0, 0),)),
        ("%hhd%hu", (Conversion("d", length="hh"), Conversion("u", length="h"))),
        ("%lld%ld", (Conversion("d", length="ll"), Conversion("d", length="l"))),
        ("%zu%jx%to", tuple(Conversion(letter, length=at) for at, letter in ("zu", "jx", "to"))),
        ("%r%rx%rh%gr", tuple(Conversion(letter) for letter in ("r", "rx", "rh", "gr"))),
        ("%rxy", (Conversion("rx"), "y")),
        ("%r h", (Conversion("r"), " h")),
        ("%2147483646d", (Conversion("d", "", 2**31 - 2),)),
        ("%2147483648d", (Conversion("d", "", 2**31 - 1),)),
        ("%.12345678901s", (Conversion("s", "", 0, 2**31 - 1),)),
        ("%" + "9" * 5000 + "d", (Conversion("d", "", 2**31 - 1),)),
        ("%-" + "0" * 5000 + "7d", (Conversion("d", "-" + "0" * 5000, 7),)),
        ("%." + "0" * 5000 + "7d", (Conversion("d", "", 0, 7),)),
        ("é%dü", ("é", Conversion("d"), "ü")),
    ],
)
def test_pieces(text: str, pieces: tuple[str | Conversion, ...]) -> None:
    assert parse_format(text) == Format(pieces)


def test_conversions_are_the_pieces_that_take_a_value() -> None:
    assert parse_format("a%db%%%s").conversions == (Conversion("d"), Conversion("s"))
    assert parse_format("100%%").conversions == ()


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("%", 0),
        ("50%", 2),
        ("%d %y", 3),
        ("%*d", 0),
        ("%f", 0),
        ("%n", 0),
        ("%lh", 0),
        ("%\0", 0),
        ("%%%", 2),
        ("% ", 0),
        ("%١d", 0),
    ],
)
def test_refused(text: str, offset: int) -> None:
    with pytest.raises(BadFormat) as caught:
        parse_format(text)
    assert caught.value.offset == offset
    assert caught.value.message == str(caught.value)


@pytest.mark.parametrize(
    ("text", "takes", "bits"),
    [
        ("%d", "integer", 32),
        ("%hhx", "integer", 8),
        ("%hu", "integer", 16),
        ("%ld", "integer", 64),
        ("%llu", "integer", 64),
        ("%jd", "integer", 64),
        ("%zd", "integer", 64),
        ("%td", "integer", 64),
        ("%c", "integer", 8),
        ("%p", "integer", 64),
        ("%hhp", "integer", 64),
        ("%gr", "integer", 64),
        ("%s", "any", 32),
        ("%r", "buffer", 32),
        ("%rx", "buffer", 32),
        ("%rh", "buffer", 32),
    ],
)
def test_what_a_conversion_takes(text: str, takes: str, bits: int) -> None:
    (conversion,) = parse_format(text).conversions
    assert (conversion.takes, conversion.bits) == (takes, bits)
