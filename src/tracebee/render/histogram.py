"""Histograms of hist() and lhist(): from bucket counts to rows of text and to ranges.

How values fall into buckets is told by `spec.types.Hist` and `LHist`; this module goes the other way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tracebee.spec import types

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Bound = int | None
    Bucket = tuple[Bound, Bound, int]
    """The smallest value in the bucket, the first one above it, and the count; None for an open end."""

BAR = 52
"""Characters of the longest bar."""

_UNITS = ("", "K", "M", "G", "T", "P", "E")


def buckets(type_: types.Hist | types.LHist, counts: Sequence[int]) -> list[Bucket]:
    """The buckets from the first to the last that counted something; none if nothing was counted."""
    filled = [index for index, count in enumerate(counts) if count]
    if not filled:
        return []
    bounds = _log_bounds(type_) if isinstance(type_, types.Hist) else _linear_bounds(type_)
    return [(*bounds(index), counts[index]) for index in range(filled[0], filled[-1] + 1)]


def _log_bounds(type_: types.Hist) -> Callable[[int], tuple[Bound, Bound]]:
    bits = type_.bits

    def low(index: int) -> int:
        step = index - 1
        if step < 1 << bits:
            return step
        shift = (step >> bits) - 1
        return ((1 << bits) + (step & ((1 << bits) - 1))) << shift

    return lambda index: (low(index) if index else None, low(index + 1) if index else 0)


def _linear_bounds(type_: types.LHist) -> Callable[[int], tuple[Bound, Bound]]:
    minimum, maximum, step = type_.minimum, type_.maximum, type_.step
    last = type_.buckets - 1

    def bounds(index: int) -> tuple[Bound, Bound]:
        if index == 0:
            return None, minimum
        if index == last:
            return maximum, None
        low = minimum + (index - 1) * step
        return low, min(low + step, maximum)

    return bounds


def histogram_text(type_: types.Hist | types.LHist, counts: Sequence[int]) -> str:
    """A row for each bucket, each ending in a newline."""
    rows = buckets(type_, counts)
    if not rows:
        return ""
    largest = max(count for _, _, count in rows)
    number = _log_label(type_.bits) if isinstance(type_, types.Hist) else _linear_label(type_.step)
    return "".join(
        [
            f"{_range(low, high, number):<16}{count:>8} |{'@' * (BAR * count // largest):<{BAR}}|\n"
            for low, high, count in rows
        ]
    )


def histogram_formatter(
    type_: types.Hist | types.LHist,
) -> Callable[[Sequence[int]], str]:
    return lambda counts: histogram_text(type_, counts)


def _range(low: Bound, high: Bound, number: Callable[[int], str]) -> str:
    if low is None:
        assert high is not None
        return f"(..., {number(high)})"
    if high is None:
        return f"[{number(low)}, ...)"
    if high == low + 1:
        return f"[{low}]"
    return f"[{number(low)}, {number(high)})"


def _log_label(bits: int) -> Callable[[int], str]:
    """Bounds in the largest unit that is not larger than the bucket which starts there.

    So ``1K`` starts the buckets of hist(n), but with finer ones it is ``[1024, 1536)``.
    """

    def label(bound: int) -> str:
        decade = max(bound.bit_length() - 1 - bits, 0) // 10
        return f"{bound >> 10 * decade}{_UNITS[decade]}"

    return label


def _linear_label(step: int) -> Callable[[int], str]:
    """Bounds in K or M, if they are a multiple of it and the step is one of K."""
    if step % 1024:
        return str

    def label(bound: int) -> str:
        if not bound or bound % 1024:
            return str(bound)
        return f"{bound >> 10}K" if bound % (1 << 20) else f"{bound >> 20}M"

    return label
