"""Laws of the renderers: C's printf, valid JSON, distinct keys, deterministic order."""

from __future__ import annotations

import ctypes
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tracebee.render.formats import compile_format
from tracebee.render.json import JsonRenderer, key_formatter, quoted
from tracebee.render.text import TextRenderer
from tracebee.spec.objects import MapInfo
from tracebee.spec.printf import Conversion, Format, parse_format
from tracebee.spec.types import (
    INT32,
    Array,
    Average,
    Bool,
    Buffer,
    Count,
    Enum,
    Extreme,
    Hist,
    Int,
    KSym,
    LHist,
    Pointer,
    Record,
    Stack,
    Str,
    Sum,
    TSeries,
    Tuple,
    Type,
    Void,
)
from tracebee.spec.values import AverageValue, Frame, SeriesPoint, StackTrace

LIBC = ctypes.CDLL(None)

INTEGERS = st.builds(Int, st.sampled_from([1, 2, 4, 8]), st.booleans())

# Text as it is decoded: from bytes, what is not UTF-8 as lone surrogates.
DECODED = st.one_of(
    st.binary(max_size=8).map(lambda data: data.decode("utf-8", "surrogateescape")),
    st.text(st.sampled_from('a,\\ ()x8"0\udc80\udcff\n\0é'), max_size=6),
)


@st.composite
def conversions(draw: st.DrawFn) -> str:
    """A conversion for integers."""
    flags = "".join(draw(st.lists(st.sampled_from("-+ #0"), max_size=4)))
    width = draw(st.one_of(st.just(""), st.integers(1, 30).map(str)))
    precision = draw(st.one_of(st.just(""), st.just("."), st.integers(0, 30).map(lambda n: f".{n}")))
    length = draw(st.sampled_from(["", "hh", "h", "l", "ll", "j", "z", "t"]))
    return f"%{flags}{width}{precision}{length}{draw(st.sampled_from('diuoxX'))}"


def c_text(text: str, value: int) -> str:
    """What the C library prints; arguments of less than 64 bits are promoted to int as C does it."""
    (conversion,) = parse_format(text).conversions
    argument = ctypes.c_longlong(value) if conversion.bits == 64 else ctypes.c_int(value)
    room = ctypes.create_string_buffer(256)
    LIBC.snprintf(room, ctypes.c_size_t(256), text.encode(), argument)
    return room.value.decode()


@given(conversions(), INTEGERS, st.data())
def test_integers_print_as_in_c(text: str, type_: Int, data: st.DataObject) -> None:
    edges = st.sampled_from([0, 1, -1, type_.minimum, type_.maximum, 8, 255])
    value = data.draw(st.one_of(edges, st.integers(type_.minimum, type_.maximum)))
    value = min(max(value, type_.minimum), type_.maximum)
    template = compile_format(parse_format(text), (type_,))
    expected = c_text(text, value)
    assert template.fill((value,)) == expected
    assert template.lines([(value,)] * 3) == expected * 3


@given(st.text(), st.integers(0, 20), st.booleans())
def test_strings_are_padded_to_their_width(text: str, width: int, left: bool) -> None:
    conversion = Conversion("s", "-" if left else "", width)
    template = compile_format(Format((conversion,)), (Str(64),))
    assert template.fill((text,)) == (text.ljust(width) if left else text.rjust(width))


@given(st.text())
def test_literal_text_comes_out_as_it_is(text: str) -> None:
    assert compile_format(Format((text,)), ()).fill(()) == text


STACKS = st.builds(
    StackTrace,
    st.lists(
        st.builds(Frame, st.integers(0, (1 << 64) - 1), DECODED, st.integers(0, 99), DECODED, DECODED),
        max_size=3,
    ).map(tuple),
    st.sampled_from(["bpftrace", "perf", "raw", "build_id"]),
    st.booleans(),
)

COLOUR = Enum("colour", 4, False, ((1, "RED"), (2, "BLUE")))

LEAVES: st.SearchStrategy[Type] = st.one_of(
    INTEGERS,
    st.sampled_from(
        [Bool(), COLOUR, Str(16), KSym(), Buffer(16), Pointer(Void()), Void(), Stack(False, "bpftrace", 3)]
    ),
)

NAMES = ("a", "b", "c")

TYPES: st.SearchStrategy[Type] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: Tuple(tuple(parts))),
        st.builds(Array, inner, st.integers(0, 3)),
        st.lists(inner, max_size=3).map(lambda parts: Record(NAMES[: len(parts)], tuple(parts))),
    ),
    max_leaves=6,
)

AGGREGATIONS: st.SearchStrategy[Type] = st.one_of(
    st.sampled_from([Count(), Sum(True), LHist(-5, 30, 4), TSeries(10**8, 3, "last", True)]),
    st.builds(Extreme, st.booleans(), st.booleans()),
    st.builds(Average, st.booleans(), st.booleans()),
    st.builds(Hist, st.integers(0, 5)),
)

NUMBERS = st.integers(-(1 << 63), (1 << 64) - 1)


def values(type_: Type) -> st.SearchStrategy[Any]:
    """Values of a type."""
    match type_:
        case Int():
            return st.integers(type_.minimum, type_.maximum)
        case Bool():
            return st.booleans()
        case Enum():
            return st.integers(0, 3)
        case Buffer():
            return st.binary(max_size=8)
        case Pointer():
            return st.integers(0, (1 << 64) - 1)
        case Void():
            return st.none()
        case Stack():
            return STACKS
        case Tuple():
            return st.tuples(*map(values, type_.elements))
        case Array():
            return st.lists(values(type_.element), min_size=type_.count, max_size=type_.count)
        case Record():
            parts = st.tuples(*map(values, type_.elements))
            return parts.map(lambda found: dict(zip(type_.names, found, strict=True)))
        case Count() | Sum():
            return NUMBERS
        case Extreme():
            return st.one_of(st.none(), NUMBERS)
        case Average():
            return st.builds(AverageValue, st.integers(0, 9), NUMBERS)
        case Hist() | LHist():
            counts = st.lists(st.integers(0, (1 << 64) - 1), max_size=9)
            return counts.map(lambda found: found + [0] * (type_.buckets - len(found)))
        case TSeries():
            starts = st.integers(0, (1 << 64) - 1)
            found = st.one_of(st.none(), st.integers(-(1 << 63), (1 << 63) - 1))
            return st.lists(st.builds(SeriesPoint, starts, found), max_size=3)
    return DECODED


def parsed(lines: list[str]) -> Any:
    (line,) = lines
    assert line.endswith("\n") and line.count("\n") == 1
    line.encode()  # no lone surrogates
    return json.loads(line)


@given(st.text(st.characters(exclude_categories=())))
def test_any_string_is_valid_json(text: str) -> None:
    line = quoted(text)
    line.encode()
    assert isinstance(json.loads(line), str)
    if not any("\ud800" <= char <= "\udfff" for char in text):
        assert json.loads(line) == text


@given(TYPES.flatmap(lambda type_: st.tuples(st.just(type_), values(type_))))
def test_any_value_is_valid_json(pair: tuple[Type, Any]) -> None:
    lines: list[str] = []
    renderer = JsonRenderer(lines.append)
    renderer.value(*pair)
    assert parsed(lines).keys() == {"type", "data"}


MAPS = st.tuples(TYPES, st.one_of(TYPES, AGGREGATIONS)).flatmap(
    lambda types: st.tuples(
        st.just(MapInfo("@m", "m", types[0], types[1], False)),
        st.lists(st.tuples(values(types[0]), values(types[1])), max_size=5),
        st.integers(0, 6),
        st.integers(0, 5),
    )
)


@given(MAPS)
def test_any_map_is_valid_json_with_an_entry_for_each_item(case: tuple[MapInfo, Any, int, int]) -> None:
    info, items, top, div = case
    lines: list[str] = []
    JsonRenderer(lines.append).map(info, items, top, div)
    if not items:
        assert lines == []
        return
    data = parsed(lines)["data"]["@m"]
    assert len(data) == (min(top, len(items)) if top else len(items))


@given(MAPS, st.randoms(use_true_random=False))
def test_text_of_a_map_does_not_depend_on_the_order_of_its_items(
    case: tuple[MapInfo, Any, int, int], random: Any
) -> None:
    info, items, top, div = case
    items = [item for index, item in enumerate(items) if item[0] not in [key for key, _ in items[:index]]]
    first: list[str] = []
    second: list[str] = []
    TextRenderer(first.append, first.append).map(info, items, top, div)
    random.shuffle(items)
    TextRenderer(second.append, second.append).map(info, items, top, div)
    assert first == second


PLAIN_KEYS = st.recursive(
    st.one_of(INTEGERS, st.sampled_from([Bool(), COLOUR, Str(16), KSym(), Buffer(16), Pointer(Void())])),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: Tuple(tuple(parts))),
        st.builds(Array, inner, st.integers(1, 3)),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: Record(NAMES[: len(parts)], tuple(parts))),
    ),
    max_leaves=5,
)


@given(PLAIN_KEYS.flatmap(lambda type_: st.tuples(st.just(type_), values(type_), values(type_))))
def test_different_keys_have_different_names(case: tuple[Type, Any, Any]) -> None:
    type_, one, other = case
    text = key_formatter(type_)
    same = json.loads(quoted(text(one))) == json.loads(quoted(text(other)))
    assert same == (one == other)


TEXTS = st.text(st.sampled_from("a,\\ x8\udc80"), max_size=6)


@given(st.tuples(TEXTS, TEXTS), st.tuples(TEXTS, TEXTS))
def test_pairs_of_texts_stay_apart(one: tuple[str, str], other: tuple[str, str]) -> None:
    text = key_formatter(Tuple((Str(16), Str(16))))
    assert (quoted(text(one)) == quoted(text(other))) == (one == other)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), unique_by=lambda item: item[0]))
def test_narrow_integers_come_by_value(items: list[tuple[int, int]]) -> None:
    lines: list[str] = []
    TextRenderer(lines.append, lines.append).map(MapInfo("@", "m", INT32, Int(1, True), False), items)
    shown = [int(line.rpartition(" ")[2]) for line in "".join(lines).splitlines()]
    assert shown == sorted(value for _, value in items)
