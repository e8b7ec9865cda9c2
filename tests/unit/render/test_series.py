"""tseries() as a picture."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tracebee.render.series import interval_start, series_text
from tracebee.spec.types import TSeries
from tracebee.spec.values import SeriesPoint

if TYPE_CHECKING:
    from collections.abc import Iterator

MS = 1_000_000
SIGNED = TSeries(100 * MS, 5, "last", True)
UNSIGNED = TSeries(100 * MS, 5, "last", False)


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def points(interval: int, *values: int | None, start: int = 0) -> list[SeriesPoint]:
    return [SeriesPoint(start + index * interval, value) for index, value in enumerate(values)]


def test_a_single_value_stands_in_the_middle() -> None:
    assert series_text(SIGNED, points(1, 4, start=3661 * 1000 * MS)) == (
        "                   3                                                   5\n"
        "hh:mm:ss.ns        |___________________________________________________|\n"
        "01:01:01.000000000 |                         *                         | 4\n"
        "                   v___________________________________________________v\n"
        "                   3                                                   5\n"
    )


def test_gaps_and_both_ends() -> None:
    text = series_text(UNSIGNED, points(100 * MS, 18, None, 19))
    assert text == (
        "             18                                                 19\n"
        "hh:mm:ss.ms  |___________________________________________________|\n"
        "00:00:00.000 *                                                   | 18\n"
        "00:00:00.100 |                                                   | -\n"
        "00:00:00.200 |                                                   * 19\n"
        "             v___________________________________________________v\n"
        "             18                                                 19\n"
    )


def test_zero_is_marked_where_the_range_spans_it() -> None:
    lines = series_text(SIGNED, points(MS, -7, None, 0, 20)).splitlines()
    assert lines[2] == "00:00:00.000 *            .                                      | -7"
    assert lines[3] == "00:00:00.001 |            .                                      | -"
    assert lines[4] == "00:00:00.002 |            *                                      | 0"
    assert lines[5] == "00:00:00.003 |            .                                      * 20"


@pytest.mark.parametrize(
    ("interval", "heading", "clock"),
    [
        (1, "hh:mm:ss.ns        |", "00:00:00.000000001 "),
        (999, "hh:mm:ss.ns        |", "00:00:00.000000999 "),
        (1000, "hh:mm:ss.μs     |", "00:00:00.000001 "),
        (MS, "hh:mm:ss.ms  |", "00:00:00.001 "),
        (1500 * MS, "hh:mm:ss |", "00:00:01 "),
        (3_600_000 * MS, "hh:mm:ss |", "01:00:00 "),
    ],
)
def test_times_are_as_exact_as_the_interval_asks(interval: int, heading: str, clock: str) -> None:
    lines = series_text(SIGNED, points(interval, 1, 2)).splitlines()
    assert lines[1].startswith(heading)
    assert lines[3].startswith(clock)
    assert len(heading) == len(clock) + 1
    assert len({line.rstrip("0123456789 -").rfind("|") for line in lines[1:3]}) == 1


def test_one_value_at_the_edge_of_its_type() -> None:
    unsigned = series_text(UNSIGNED, points(1, 0)).splitlines()
    assert unsigned[0].split() == ["0", "1"]
    assert unsigned[2].endswith("000 *                                                   | 0")
    assert series_text(SIGNED, points(1, 0)).split()[:2] == ["-1", "1"]
    largest = (1 << 64) - 1
    assert series_text(UNSIGNED, points(1, largest)).split()[:2] == [str(largest - 1), str(largest)]
    smallest = -(1 << 63)
    assert series_text(SIGNED, points(1, smallest)).split()[:2] == [str(smallest), str(smallest + 1)]


def test_no_values() -> None:
    assert series_text(SIGNED, []) == "<no data>"
    assert series_text(SIGNED, points(1, None, None)) == "<no data>"


def test_interval_start() -> None:
    assert interval_start(500 * MS) == "1970-01-01 00:00:00.500000000"
    assert interval_start(1) == "1970-01-01 00:00:00.000000001"


def test_times_are_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ-2")
    time.tzset()
    assert interval_start(0) == "1970-01-01 02:00:00.000000000"
