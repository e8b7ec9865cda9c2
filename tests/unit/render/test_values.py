"""The text of values, by type."""

from __future__ import annotations

from typing import Any

import pytest

from tracebee.render.values import formatter, zero_value
from tracebee.spec.types import (
    INT8,
    INT32,
    INT64,
    UINT8,
    UINT64,
    Array,
    Average,
    Bool,
    Buffer,
    Count,
    Enum,
    Extreme,
    Field,
    Hist,
    Inet,
    KSym,
    LHist,
    Named,
    Pointer,
    Record,
    Stack,
    Str,
    Struct,
    Sum,
    Timestamp,
    TSeries,
    Tuple,
    Type,
    Username,
    Void,
)
from tracebee.spec.values import AverageValue, Frame, StackTrace

COLOUR = Enum("colour", 4, False, ((1, "RED"), (1, "ROUGE"), (2, "BLUE")))


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        (INT64, -5, "-5"),
        (UINT64, (1 << 64) - 1, "18446744073709551615"),
        (UINT8, True, "1"),
        (Bool(), True, "true"),
        (Bool(), 0, "false"),
        (COLOUR, 1, "RED"),
        (COLOUR, 2, "BLUE"),
        (COLOUR, 7, "7"),
        (Str(8), "abc", "abc"),
        (Str(8), "\udc80", "\udc80"),
        (Named("signal"), "SIGKILL", "SIGKILL"),
        (KSym(), "vfs_read", "vfs_read"),
        (Username(), "root", "root"),
        (Inet(), "::1", "::1"),
        (Timestamp(), "12:00", "12:00"),
        (Buffer(8), b"ok\x00\\ \x7f~\xff", r"ok\x00\ \x7f~\xff"),
        (Pointer(Void()), 0x10, "0x10"),
        (Pointer(Void()), 0, "0x0"),
        (Array(INT32, 3), [1, 2, 3], "[1,2,3]"),
        (Array(Str(4), 2), ["a", "b"], "[a,b]"),
        (Array(INT32, 0), [], "[]"),
        (Tuple((INT32, Str(4), Tuple((INT8, INT8)))), (1, "abc", (2, 3)), "(1, abc, (2, 3))"),
        (Tuple((INT32,)), (1,), "(1)"),
        (Tuple(()), (), "()"),
        (Tuple((INT32, Bool())), (1, False), "(1, false)"),
        (Record(("a", "b"), (INT32, Str(4))), {"a": 1, "b": "x"}, "{ .a = 1, .b = x }"),
        (Record((), ()), {}, "{}"),
        (Void(), None, "null"),
        (Count(), 3, "3"),
        (Sum(True), -3, "-3"),
        (Extreme(True, True), -3, "-3"),
        (Extreme(True, True), None, "0"),
        (Average(True, False), AverageValue(2, -7), "-3"),
        (Average(True, True), AverageValue(1, 5), "{ .count = 1, .average = 5, .total = 5 }"),
        (LHist(0, 10, 5), [0, 0, 0, 0], ""),
        (TSeries(1, 1, "last", True), [], "<no data>"),
    ],
)
def test_text(type_: Type, value: Any, expected: str) -> None:
    assert formatter(type_)(value) == expected


def test_percent_signs_in_tuples_are_plain_text() -> None:
    assert formatter(Tuple((Str(4), INT32)))(("%d", 1)) == "(%d, 1)"


def test_stack_in_tuple() -> None:
    stack = StackTrace((Frame(16, "f", 2),), "bpftrace", False)
    assert formatter(Tuple((INT32, Stack(False, "bpftrace", 3))))((1, stack)) == "(1, \n        f+2\n)"


def shape() -> Struct:
    inner = Struct("union", "", 4, 4, "test", lambda: (Field("c", INT32, 0), Field("d", INT8, 0)))
    named = Struct("struct", "n", 2, 2, "test", lambda: (Field("x", INT8, 0),))
    return Struct(
        "struct",
        "foo",
        16,
        4,
        "test",
        lambda: (
            Field("a", INT32, 0),
            Field("b", INT32, 4, 3, 0),
            Field("", inner, 8),
            Field("n", named, 12),
            Field("f", Void(4), 14),
        ),
    )


def test_struct_shows_members_of_anonymous_members_as_its_own() -> None:
    value = {"a": 1, "b": 2, "c": 3, "d": 3, "n": {"x": 4}, "f": None}
    assert formatter(shape())(value) == "{ .a = 1, .b = 2, .c = 3, .d = 3, .n = { .x = 4 }, .f = null }"


def test_struct_value_may_lack_members() -> None:
    assert formatter(shape())({"c": 3}) == "{ .c = 3 }"
    assert formatter(shape())({}) == "{}"


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        (INT32, 0),
        (Bool(), False),
        (COLOUR, 0),
        (Pointer(Void()), 0),
        (Str(8), ""),
        (KSym(), ""),
        (Buffer(8), b""),
        (Array(INT32, 2), [0, 0]),
        (Tuple((INT32, Str(3))), (0, "")),
        (Record(("a",), (Bool(),)), {"a": False}),
        (Void(), None),
        (Count(), 0),
        (Extreme(False, True), 0),
        (Average(True, True), AverageValue(0, 0)),
        (LHist(0, 10, 5), [0, 0, 0, 0]),
        (TSeries(1, 1, "last", True), []),
        (Stack(True, "perf", 3), StackTrace((), "perf", True)),
    ],
)
def test_zero_value_has_the_shape_of_the_type(type_: Type, expected: Any) -> None:
    assert zero_value(type_) == expected
    formatter(type_)(zero_value(type_))


def test_zero_value_of_larger_types() -> None:
    assert zero_value(Hist(3)) == [0] * Hist(3).buckets
    assert zero_value(shape()) == {"a": 0, "b": 0, "c": 0, "d": 0, "n": {"x": 0}, "f": None}
