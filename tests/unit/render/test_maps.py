"""Order, selection and division of a map's items."""

from __future__ import annotations

from typing import Any

import pytest

from tracebee.render.maps import key_formatter, ordered, shown_items, truncated
from tracebee.spec.objects import MapInfo
from tracebee.spec.types import (
    INT8,
    INT32,
    INT64,
    Array,
    Average,
    Bool,
    Buffer,
    Count,
    Enum,
    Extreme,
    Hist,
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


def info(key: Type | None, value: Type) -> MapInfo:
    return MapInfo("@x", "x", key, value, False)


def keys(key: Type, value: Type, items: list[tuple[Any, Any]]) -> list[Any]:
    return [found for found, _ in ordered(info(key, value), items)]


@pytest.mark.parametrize("value", [Count(), Sum(True), INT64, INT8, Extreme(True, True)])
def test_numbers_of_any_width_come_by_value(value: Type) -> None:
    assert keys(INT32, value, [(1, 5), (2, -3), (3, 4)]) == [2, 3, 1]


def test_equal_values_come_by_key() -> None:
    assert keys(Tuple((Str(4), INT32)), INT8, [(("b", 1), 1), (("a", 2), 1), (("a", -1), 1)]) == [
        ("a", -1),
        ("a", 2),
        ("b", 1),
    ]


def test_missing_extremes_count_as_zero() -> None:
    assert keys(INT32, Extreme(False, True), [(1, 5), (2, None), (3, -1)]) == [3, 2, 1]


def test_averages_come_by_average() -> None:
    items = [(1, AverageValue(1, 9)), (2, AverageValue(10, 20)), (3, AverageValue(0, 0))]
    assert keys(INT32, Average(True, False), items) == [3, 2, 1]
    assert keys(INT32, Average(True, True), items) == [3, 2, 1]


@pytest.mark.parametrize("value", [Hist(0), LHist(0, 10, 5)])
def test_histograms_come_by_total(value: Type) -> None:
    assert keys(INT32, value, [(1, [3, 3]), (2, [0, 5]), (3, [0, 0])]) == [3, 2, 1]


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        (Str(4), "a", "b"),
        (Bool(), False, True),
        (Pointer(Void()), 1, 2),
        (Tuple((INT32,)), (1,), (2,)),
        (Buffer(4), b"a", b"b"),
        (TSeries(1, 2, "last", True), [], [SeriesPoint(0, 1)]),
    ],
)
def test_everything_else_comes_by_key(value: Type, low: Any, high: Any) -> None:
    assert keys(INT32, value, [(3, low), (-1, high), (2, low)]) == [-1, 2, 3]


def test_enumerations_are_numbers() -> None:
    colour = Enum("colour", 4, False, ((1, "Z"), (2, "A")))
    assert keys(INT32, colour, [(1, 2), (2, 1)]) == [2, 1]
    assert keys(colour, Str(4), [(2, "x"), (1, "x")]) == [1, 2]


@pytest.mark.parametrize(
    ("type_", "in_order"),
    [
        (Array(INT32, 2), [[1, 2], [1, 3], [2, 0]]),
        (Record(("a", "b"), (INT32, Str(4))), [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "a"}]),
        (Buffer(4), [b"", b"a", b"b"]),
        (Tuple((Bool(), Str(4))), [(False, "z"), (True, "a")]),
        (
            Stack(True, "bpftrace", 4),
            [
                StackTrace((Frame(1, "z"),), "bpftrace", True),
                StackTrace((Frame(1, "z"), Frame(2)), "bpftrace", True),
                StackTrace((Frame(2, "a"),), "bpftrace", True),
            ],
        ),
        (
            Tuple((Stack(True, "bpftrace", 4), Record(("a",), (INT32,)))),
            [
                (StackTrace((Frame(1),), "bpftrace", True), {"a": 1}),
                (StackTrace((Frame(1),), "bpftrace", True), {"a": 2}),
                (StackTrace((Frame(2),), "bpftrace", True), {"a": 0}),
            ],
        ),
        (
            Array(Stack(True, "raw", 1), 1),
            [[StackTrace((Frame(1),), "raw", True)], [StackTrace((Frame(2),), "raw", True)]],
        ),
        (Record(("s",), (Void(),)), [{"s": None}, {"s": None}]),
    ],
)
def test_keys_of_every_kind_have_an_order(type_: Type, in_order: list[Any]) -> None:
    assert keys(type_, Str(1), [(key, "") for key in reversed(in_order)]) == in_order


def test_scalar_maps_have_one_item_without_a_key() -> None:
    assert shown_items(info(None, Bool()), [(None, True)]) == [(None, True)]


def test_top_keeps_the_last() -> None:
    items = [(1, 10), (2, 30), (3, 20)]
    assert shown_items(info(INT32, INT32), items, top=2) == [(3, 20), (2, 30)]
    assert shown_items(info(INT32, INT32), items, top=9) == [(1, 10), (3, 20), (2, 30)]
    assert shown_items(info(INT32, INT32), items, top=0) == [(1, 10), (3, 20), (2, 30)]


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        (INT32, -10, -3),
        (Count(), 10, 3),
        (Extreme(True, True), 10, 3),
        (Extreme(True, True), None, None),
        (Hist(0), [0, 7, 2], [0, 2, 0]),
        (LHist(0, 10, 5), [0, 7, 2, 0], [0, 7, 2, 0]),
        (TSeries(1, 1, "last", True), [SeriesPoint(0, 9)], [SeriesPoint(0, 9)]),
        (Tuple((INT32, Str(4))), (9, "a"), (3, "a")),
        (Tuple((Str(4),)), ("a",), ("a",)),
        (Array(INT32, 2), [9, 2], [3, 0]),
        (Array(Str(4), 1), ["a"], ["a"]),
        (Record(("a", "b"), (INT32, Bool())), {"a": 9, "b": True}, {"a": 3, "b": True}),
        (Bool(), True, True),
        (Pointer(Void()), 16, 16),
        (Str(4), "abc", "abc"),
    ],
)
def test_division(type_: Type, value: Any, expected: Any) -> None:
    assert shown_items(info(INT32, type_), [(1, value)], div=3) == [(1, expected)]


def test_division_of_averages_leaves_count_and_total() -> None:
    ((_, value),) = shown_items(info(None, Average(True, True)), [(None, AverageValue(2, 21))], div=3)
    assert (value.count, value.average, value.total) == (2, 3, 21)


def test_order_is_that_of_the_undivided_values() -> None:
    assert shown_items(info(INT32, INT32), [(1, 12), (2, 11), (3, 10)], div=10) == [(3, 1), (2, 1), (1, 1)]


@pytest.mark.parametrize(
    ("value", "div", "expected"), [(7, 2, 3), (-7, 2, -3), (7, -2, -3), (-7, -2, 3), (0, -2, 0)]
)
def test_division_truncates_toward_zero(value: int, div: int, expected: int) -> None:
    assert truncated(value, div) == expected


def test_key_texts() -> None:
    assert key_formatter(Tuple((INT32, Str(4))))((1, "abc")) == "1, abc"
    assert key_formatter(Tuple((Tuple((INT8, INT8)), INT8)))(((1, 2), 3)) == "(1, 2), 3"
    assert key_formatter(Tuple((INT32, Bool())))((1, True)) == "1, true"
    assert key_formatter(Str(4))("(a)") == "(a)"
    assert key_formatter(INT32)(5) == "5"
    stack = StackTrace((Frame(16, "f", 1),), "bpftrace", False)
    kernel = Stack(False, "bpftrace", 3)
    assert key_formatter(Tuple((kernel, kernel, Str(4))))((stack, stack, "x")) == (
        "\n        f+1\n, \n        f+1\n, x"
    )
