"""One value of an aggregation out of those that the CPUs have kept."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from tracebee.spec.types import (
    Average,
    Count,
    Extreme,
    Hist,
    LHist,
    Sum,
    TSeries,
    Type,
)
from tracebee.spec.values import AverageValue, SeriesPoint

if TYPE_CHECKING:
    from collections.abc import Callable

_MASK = (1 << 64) - 1


def merger(type_: Type) -> Callable[[list[bytes]], Any] | None:
    """A function from the CPUs' values to the one that is shown; None for types that are not aggregations."""
    match type_:
        case Count():
            return lambda parts: sum([int.from_bytes(part[:8], "little") for part in parts])
        case Sum(signed):
            return lambda parts: _wrap(sum([_u64(part, 0) for part in parts]), signed)
        case Extreme():
            return lambda parts: _extreme(type_, parts)
        case Average(signed):
            return lambda parts: AverageValue(
                sum([_u64(part, 8) for part in parts]), _wrap(sum([_u64(part, 0) for part in parts]), signed)
            )
        case Hist() | LHist():
            return lambda parts: _buckets(type_.buckets, parts)
        case TSeries():
            return lambda parts: _series(type_, parts)
    return None


def _u64(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 8], "little")


def _wrap(value: int, signed: bool) -> int:
    """A total of 64 bits, as the kernel would have it."""
    value &= _MASK
    return value - (1 << 64) if signed and value >> 63 else value


def _extreme(type_: Extreme, parts: list[bytes]) -> int | None:
    values = [_wrap(_u64(part, 0), type_.signed) for part in parts if _u64(part, 8)]
    if not values:
        return None
    return max(values) if type_.largest else min(values)


def _buckets(count: int, parts: list[bytes]) -> list[int]:
    shape = struct.Struct(f"={count}Q")
    if len(parts) == 1:
        return list(shape.unpack_from(parts[0]))
    return [sum(column) for column in zip(*[shape.unpack_from(part) for part in parts], strict=True)]


def _series(type_: TSeries, parts: list[bytes]) -> list[SeriesPoint]:
    """The newest intervals, oldest first; an interval nobody wrote to has no value."""
    found: dict[int, tuple[int, int]] = {}
    for part in parts:
        for slot in range(type_.count):
            number = _u64(part, slot * type_.SLOT)
            if number == 0:
                continue
            value = _wrap(_u64(part, slot * type_.SLOT + 8), type_.signed)
            extra = _u64(part, slot * type_.SLOT + 16)
            known = found.get(number)
            found[number] = (value, extra) if known is None else _combined(type_, known, (value, extra))
    if not found:
        return []
    last = max(found)
    first = max(min(found), last - type_.count + 1)
    points = []
    for number in range(first, last + 1):
        start = (number - 1) * type_.interval
        entry = found.get(number)
        points.append(SeriesPoint(start, None if entry is None else _shown(type_, entry)))
    return points


def _combined(type_: TSeries, a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """The entry of one interval out of those of two CPUs."""
    match type_.function:
        case "max":
            return (max(a[0], b[0]), 0)
        case "min":
            return (min(a[0], b[0]), 0)
        case "sum" | "avg":
            return (a[0] + b[0], a[1] + b[1])
    return a if a[1] >= b[1] else b


def _shown(type_: TSeries, entry: tuple[int, int]) -> int:
    if type_.function == "avg":
        return AverageValue(entry[1], entry[0]).average
    return entry[0]
