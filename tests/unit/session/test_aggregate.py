"""One value of an aggregation out of those of the CPUs."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from tracebee.session.aggregate import merger
from tracebee.spec.types import (
    INT64,
    Aggregation,
    Average,
    Count,
    Extreme,
    Hist,
    LHist,
    Str,
    Sum,
    TSeries,
)
from tracebee.spec.values import AverageValue, SeriesPoint

TOP = 2**64 - 1


def merged(type_: Aggregation, *parts: bytes) -> Any:
    merge = merger(type_)
    assert merge is not None
    return merge(list(parts))


def q(*values: int) -> bytes:
    """Words of 64 bits."""
    return b"".join([(value & TOP).to_bytes(8, "little") for value in values])


@pytest.mark.parametrize(
    ("type_", "parts", "value"),
    [
        (Count(), [q(3), q(0), q(4)], 7),
        (Count(), [q(3)], 3),
        (Sum(True), [q(-5), q(3)], -2),
        (Sum(False), [q(2**63), q(1)], 2**63 + 1),
        # Totals wrap as the kernel's would.
        (Sum(True), [q(2**63 - 1), q(1)], -(2**63)),
        (Sum(False), [q(TOP), q(2)], 1),
        # A CPU that saw no value does not count, whatever its value reads.
        (Extreme(False, True), [q(9, 1), q(0, 0), q(-3, 1)], -3),
        (Extreme(True, True), [q(-9, 1), q(0, 0), q(-3, 1)], -3),
        (Extreme(True, False), [q(TOP, 1), q(5, 1)], TOP),
        (Extreme(False, False), [q(TOP, 1), q(5, 1)], 5),
        (Extreme(False, True), [q(0, 1)], 0),
        (Extreme(True, True), [q(7, 0), q(0, 0)], None),
        (Average(True, False), [q(10, 2), q(0, 0), q(-4, 1)], AverageValue(3, 6)),
        (Average(True, True), [q(-10, 2)], AverageValue(2, -10)),
        (Average(False, False), [q(2**63, 1)], AverageValue(1, 2**63)),
        (Average(False, False), [q(0, 0)], AverageValue(0, 0)),
        (LHist(0, 2, 1), [q(1, 2, 3, 4), q(10, 20, 30, 40)], [11, 22, 33, 44]),
        (LHist(0, 2, 1), [q(1, 2, 3, 4)], [1, 2, 3, 4]),
        (LHist(0, 2, 1), [q(TOP, 0, 0, 0), q(1, 0, 0, 0)], [TOP + 1, 0, 0, 0]),
    ],
)
def test_merged(type_: Aggregation, parts: list[bytes], value: Any) -> None:
    assert merged(type_, *parts) == value


def test_hist() -> None:
    type_ = Hist(0)
    one, two = [0] * type_.buckets, [0] * type_.buckets
    one[3], two[3], two[-1] = 1, 5, 2
    found = merged(type_, q(*one), q(*two))
    assert (len(found), found[3], found[-1], sum(found)) == (type_.buckets, 6, 2, 8)


def test_bytes_behind_the_value_do_not_count() -> None:
    """The value of a map without keys has a flag behind it."""
    assert merged(Count(), q(3, 99), q(4, 99)) == 7
    assert merged(LHist(0, 2, 1), q(1, 2, 3, 4, 1), q(1, 2, 3, 4, 1)) == [2, 4, 6, 8]


def test_what_is_no_aggregation() -> None:
    assert merger(INT64) is None
    assert merger(Str(4)) is None


# ---------------------------------------------------------------------- series


def series(function: str, count: int = 4, signed: bool = True) -> TSeries:
    return TSeries(100, count, function, signed)


def points(*values: int | None, first: int) -> list[SeriesPoint]:
    return [SeriesPoint((first + index) * 100, value) for index, value in enumerate(values)]


def test_a_series_is_a_ring() -> None:
    """Slots are numbered from one, so that zero is an unused slot."""
    data = q(5, 50, 0) + q(6, 60, 0) + q(3, 30, 0) + q(4, 40, 0)
    assert merged(series("max"), data) == points(30, 40, 50, 60, first=2)


def test_intervals_without_a_value_are_there() -> None:
    data = q(7, 70, 0) + q(0, 0, 0) + q(5, 50, 0) + q(0, 0, 0)
    assert merged(series("max"), data) == points(50, None, 70, first=4)


def test_what_is_older_than_the_ring_is_left_out() -> None:
    """A CPU that was quiet still has intervals of long ago."""
    busy = q(101, 1, 0) + q(102, 2, 0) + q(99, 9, 0) + q(100, 0, 0)
    quiet = q(5, 50, 0) + q(0, 0, 0) * 3
    assert merged(series("max"), busy, quiet) == points(9, 0, 1, 2, first=98)


def test_no_values() -> None:
    assert merged(series("sum"), bytes(96), bytes(96)) == []


@pytest.mark.parametrize(
    ("function", "a", "b", "value"),
    [
        ("max", (-5, 0), (3, 0), 3),
        ("min", (-5, 0), (3, 0), -5),
        ("sum", (-5, 1), (3, 1), -2),
        ("avg", (10, 1), (20, 2), 10),
        ("avg", (-10, 2), (-1, 2), -2),
        ("last", (1, 500), (2, 400), 1),
        ("last", (1, 400), (2, 500), 2),
    ],
)
def test_one_interval_of_two_cpus(function: str, a: tuple[int, int], b: tuple[int, int], value: int) -> None:
    type_ = series(function, 1)
    assert merged(type_, q(8, *a), q(8, *b)) == points(value, first=7)


def test_unsigned_series() -> None:
    assert merged(series("max", 1, False), q(1, -1, 0), q(1, 3, 0)) == points(TOP, first=0)
    assert merged(series("max", 1, True), q(1, -1, 0), q(1, 3, 0)) == points(3, first=0)


def test_the_words_are_those_of_struct() -> None:
    assert q(1, -1) == struct.pack("=Qq", 1, -1)
