"""tseries(): values over time, as a picture and as points."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tracebee.spec import types

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tracebee.spec.values import SeriesPoint

WIDTH = 53
"""Columns of the picture, with its frame."""

_SECOND = 1_000_000_000
_UNITS = (("", _SECOND, 0), (".ms", 1_000_000, 3), (".μs", 1000, 6), (".ns", 1, 9))
"""What the heading says, from how many nanoseconds between points on, and how many decimals that takes."""


def series_text(type_: types.TSeries, points: Sequence[SeriesPoint]) -> str:
    """The picture, each of its lines with a newline; a bare ``<no data>`` where there is no value at all.

    A line has the time at which its interval starts, a star at the place of the value, and the value or a
    dash.  Zero is marked by a dot where it lies between the smallest and the largest value.
    """
    values = [point.value for point in points if point.value is not None]
    if not values:
        return "<no data>"
    low, high = min(values), max(values)
    if low == high:
        # Room on both sides, so that the one value stands in the middle; not beyond what the type can hold.
        low = max(low - 1, -(1 << 63) if type_.signed else 0)
        high = min(high + 1, ((1 << 63) if type_.signed else (1 << 64)) - 1)
    suffix, decimals = _precision(points)
    heading = f"hh:mm:ss{suffix}"
    column = 9 + (decimals + 1 if decimals else 0)
    blank = " " * WIDTH
    if low < 0 < high:
        zero = _place(0, low, high)
        blank = f"{blank[:zero]}.{blank[zero + 1 :]}"
    blank = f"|{blank[1:-1]}|"
    scale = f"{'':{column}}{low:<21}{high:>{WIDTH - 21}}\n"
    lines = [scale, f"{heading:<{column}}|{'_' * (WIDTH - 2)}|\n"]
    for start, value in points:
        clock = local_time(start, "%H:%M:%S", decimals)
        if value is None:
            lines.append(f"{clock} {blank} -\n")
        else:
            place = _place(value, low, high)
            lines.append(f"{clock} {blank[:place]}*{blank[place + 1 :]} {value}\n")
    lines += [f"{'':{column}}v{'_' * (WIDTH - 2)}v\n", scale]
    return "".join(lines)


def series_formatter(type_: types.TSeries) -> Callable[[Sequence[SeriesPoint]], str]:
    return lambda points: series_text(type_, points)


def _place(value: int, low: int, high: int) -> int:
    """The column of a value."""
    return (WIDTH - 1) * (value - low) // (high - low)


def _precision(points: Sequence[SeriesPoint]) -> tuple[str, int]:
    """What the times need, judged by the distance of the points as bpftrace does; a single one gets all."""
    distance = (points[-1].start - points[0].start) // max(len(points) - 1, 1)
    for suffix, least, decimals in _UNITS:
        if distance >= least:
            return suffix, decimals
    return ".ns", 9


def local_time(nanoseconds: int, form: str, decimals: int) -> str:
    """A point of Unix time in local time by strftime, with decimals of the second."""
    seconds, rest = divmod(nanoseconds, _SECOND)
    text = time.strftime(form, time.localtime(seconds))
    return f"{text}.{rest:09}"[: len(text) + 1 + decimals] if decimals else text


def interval_start(nanoseconds: int) -> str:
    """As the JSON output tells a time."""
    return local_time(nanoseconds, "%Y-%m-%d %H:%M:%S", 9)
