"""What every output does with the items of a map before showing them: order, division, key texts.

Maps of numbers and aggregations come in ascending order of value, so that the largest stand where the eye
is when the output has scrolled; all others by key, first component first.  Equal values are in order of
their keys, so that the same items always look the same.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from tracebee.render.values import formatter, joined, members_of
from tracebee.spec import types

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tracebee.render.base import Item
    from tracebee.render.values import Formatter
    from tracebee.spec.objects import MapInfo
    from tracebee.spec.values import AverageValue, StackTrace

    Converter = Callable[[Any], Any]


def shown_items(info: MapInfo, items: Sequence[Item], top: int = 0, div: int = 0) -> list[Item]:
    """The items in the order to show them in: the last `top` of them (0: all), values divided by `div`."""
    kept = ordered(info, items)
    if top:
        kept = kept[-top:]
    if div not in (0, 1):
        divide = division(info.value, div)
        if divide is not None:
            kept = [(key, divide(value)) for key, value in kept]
    return kept


def ordered(info: MapInfo, items: Sequence[Item]) -> list[Item]:
    """The items by value where the type of the values has an order for that, else by key."""
    if info.key is None:
        return list(items)
    rank = _rank(info.key)
    found = sorted(items, key=itemgetter(0) if rank is None else lambda item: rank(item[0]))
    measure = _measure(info.value)
    if measure is not None:
        found.sort(key=measure)  # keeps the order by key among equal values
    return found


def _rank(type_: types.Type) -> Converter | None:
    """Makes a key comparable; None where it is already."""
    match type_:
        case types.Void():
            return lambda value: 0
        case types.Stack():
            return _stack_rank
        case types.Array():
            element = _rank(type_.element)
            return None if element is None else lambda value: [element(part) for part in value]
        case types.Tuple():
            return _each([_rank(element) for element in type_.elements])
        case types.Record() | types.Struct():
            members = [(name, _rank(member)) for name, member in members_of(type_)]
            return lambda value: [_applied(rank, value[name]) for name, rank in members if name in value]
    return None


def _each(converters: list[Converter | None]) -> Converter | None:
    """Puts each part of a tuple through its own converter; None where nothing is to be done."""
    if not any(converters):
        return None
    return lambda value: tuple(
        [_applied(converter, part) for converter, part in zip(converters, value, strict=False)]
    )


def _stack_rank(stack: StackTrace) -> Any:
    return stack.frames, stack.mode


def _measure(type_: types.Type) -> Converter | None:
    """The number that an item is ordered by; None where the type of the values has none."""
    match type_:
        case types.Int() | types.Enum() | types.Count() | types.Sum():
            return itemgetter(1)
        case types.Extreme():
            return lambda item: item[1] or 0
        case types.Average():
            return lambda item: item[1].average
        case types.Hist() | types.LHist():
            return lambda item: sum(item[1])
    return None


class DividedAverage:
    """An AverageValue as print() shows it after division: only the average is divided."""

    __slots__ = ("average", "count", "total")

    def __init__(self, value: AverageValue, div: int) -> None:
        self.count = value.count
        self.total = value.total
        self.average = truncated(value.average, div)


def truncated(value: int, div: int) -> int:
    """The quotient rounded toward zero, as C does it."""
    quotient = abs(value) // abs(div)
    return quotient if (value < 0) == (div < 0) else -quotient


def division(type_: types.Type, div: int) -> Converter | None:
    """What divides the numbers in a value by `div`; None where there are none.

    Linear histograms and series are shown undivided, as bpftrace does.
    """
    match type_:
        case types.Int() | types.Count() | types.Sum():
            return lambda value: truncated(value, div)
        case types.Extreme():
            return lambda value: None if value is None else truncated(value, div)
        case types.Average():
            return lambda value: DividedAverage(value, div)
        case types.Hist():
            return lambda value: [truncated(count, div) for count in value]
        case types.Array():
            element = division(type_.element, div)
            return None if element is None else lambda value: [element(part) for part in value]
        case types.Tuple():
            return _each([division(part, div) for part in type_.elements])
        case types.Record() | types.Struct():
            members = {name: division(member, div) for name, member in members_of(type_)}
            return lambda value: {name: _applied(members[name], part) for name, part in value.items()}
    return None


def _applied(converter: Converter | None, value: Any) -> Any:
    return value if converter is None else converter(value)


def key_formatter(type_: types.Type) -> Formatter:
    """The text between the brackets: parts of a tuple are joined by ``, `` without parentheses."""
    if isinstance(type_, types.Tuple):
        return joined(type_.elements, ", ")
    return formatter(type_)
