"""Figures as values: spreads, ratios and targets; and the tables that show them.  Pure."""

from __future__ import annotations

from statistics import median
from typing import NamedTuple


class Target(NamedTuple):
    """What a ratio of medians, tracebee's to the peer's, must not pass."""

    bound: float
    at_least: bool = False

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"

    def is_met(self, ratio: float) -> bool:
        """Whether a ratio is on the right side."""
        return ratio >= self.bound if self.at_least else ratio <= self.bound


class Figure(NamedTuple):
    """One thing measured, a value for each round; `theirs` is empty without a peer.

    `target` is None where the figure is shown for comparison only.
    """

    what: str
    unit: str
    ours: list[float]
    theirs: list[float]
    target: Target | None = None

    @property
    def ratio(self) -> float | None:
        """The median of tracebee's values over that of the peer's; None if there is no such ratio."""
        if not self.ours or not self.theirs or not median(self.theirs):
            return None
        return median(self.ours) / median(self.theirs)

    @property
    def verdict(self) -> str:
        """``yes`` or ``no`` where there is a target and a ratio to hold against it, else nothing."""
        if self.target is None or self.ratio is None:
            return ""
        return "yes" if self.target.is_met(self.ratio) else "no"


class Report(NamedTuple):
    """What a measurement found: figures, and sentences about how they came about."""

    figures: list[Figure]
    notes: list[str]


HEADINGS = (
    "what",
    "unit",
    "tracebee min / median / max",
    "peer min / median / max",
    "ratio",
    "target",
    "met",
)


def rows(figures: list[Figure]) -> list[tuple[str, ...]]:
    """The cells of a table, a row for each figure."""
    return [
        (
            figure.what,
            figure.unit,
            spread(figure.ours),
            spread(figure.theirs),
            "" if figure.ratio is None else f"{figure.ratio:.3f}",
            "" if figure.target is None else str(figure.target),
            figure.verdict,
        )
        for figure in figures
    ]


def spread(values: list[float]) -> str:
    """Minimum, median and maximum; a single value alone; ``-`` if nothing was measured."""
    if not values:
        return "-"
    if len(values) == 1:
        return number(values[0])
    return " / ".join(number(value) for value in (min(values), median(values), max(values)))


def number(value: float) -> str:
    """Three significant digits, all digits of what is a thousand or more, and counts as counts."""
    if value >= 1000 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def plain_table(figures: list[Figure]) -> str:
    """A table for a terminal."""
    lines = [HEADINGS, *rows(figures)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown_table(figures: list[Figure]) -> str:
    """The same in Markdown."""
    lines = [HEADINGS, tuple("---" for _ in HEADINGS), *rows(figures)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
