"""The text of a value, by its type.

`formatter` looks at the type once and returns a function of the value alone, so that printing a thousand
values asks no question about their type.  The forms are bpftrace's: ``5``, ``true``, ``0x10``, ``[1,2]``,
``(1, abc)``, ``{ .a = 1, .b = x }``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracebee.render.stacks import stack_text
from tracebee.spec import types
from tracebee.spec.values import AverageValue, StackTrace

if TYPE_CHECKING:
    from collections.abc import Callable

    Formatter = Callable[[Any], str]

UNPRINTABLE = {byte: f"\\x{byte:02x}" for byte in (*range(0x20), *range(0x7F, 0x100))}
"""For str.translate() of bytes decoded as Latin-1: all but printable ASCII becomes an escape."""


def formatter(type_: types.Type) -> Formatter:
    """The function that makes the text of a value of this type.

    Values are as `spec.values` describes them.  The text of a histogram or series is its rows, each with a
    newline.
    """
    make = _MAKERS.get(type(type_))
    return str if make is None else make(type_)


def buffer_text(value: bytes) -> str:
    """Printable ASCII as it is, every other byte as ``\\xNN``."""
    return value.decode("latin-1").translate(UNPRINTABLE)


number_text: Formatter = int.__repr__
"""Decimal, also of a bool."""


def bool_text(value: object) -> str:
    return "true" if value else "false"


def optional_number_text(value: int | None) -> str:
    """Of min() and max(): an entry that has seen no value since zero() reads as 0."""
    return "0" if value is None else int.__repr__(value)


def null_text(value: object) -> str:
    """Of what cannot be read, such as a float."""
    return "null"


def _number(type_: types.Type) -> Formatter:
    return number_text


def _enum(type_: types.Enum) -> Formatter:
    # The first of several names for one number is the one that a C programmer would call it by.
    names = dict(reversed(type_.names))

    def enum_text(value: int) -> str:
        return names.get(value) or int.__repr__(value)

    return enum_text


def _array(type_: types.Array) -> Formatter:
    element = formatter(type_.element)

    def array_text(value: list[Any]) -> str:
        return f"[{','.join(map(element, value))}]"

    return array_text


def _tuple(type_: types.Tuple) -> Formatter:
    inside = joined(type_.elements, ", ")

    def tuple_text(value: tuple[Any, ...]) -> str:
        return f"({inside(value)})"

    return tuple_text


def joined(elements: tuple[types.Type, ...], separator: str) -> Formatter:
    """The text of a tuple without its parentheses."""
    formatters = [formatter(element) for element in elements]
    if all(text is str or text is number_text for text in formatters):
        # Numbers and texts, as most keys are: Python can do it at one go.
        form = separator.join(["%s" if text is str else "%d" for text in formatters])
        return lambda value: form % value

    def joined_text(value: tuple[Any, ...]) -> str:
        return separator.join([text(part) for text, part in zip(formatters, value, strict=False)])

    return joined_text


def _members(members: list[tuple[str, types.Type]]) -> Formatter:
    formatters = {name: (f".{name} = ", formatter(type_)) for name, type_ in members}

    def members_text(value: dict[str, Any]) -> str:
        if not value:
            return "{}"
        parts = []
        for name, member in value.items():
            label, text = formatters[name]
            parts.append(label + text(member))
        return f"{{ {', '.join(parts)} }}"

    return members_text


def _record(type_: types.Record) -> Formatter:
    return _members(members_of(type_))


def members_of(type_: types.Record | types.Struct) -> list[tuple[str, types.Type]]:
    """Names and types of what the dict of a value holds: members of anonymous members are the outer's own."""
    if isinstance(type_, types.Record):
        return list(zip(type_.names, type_.elements, strict=True))
    found: list[tuple[str, types.Type]] = []
    for field in type_.fields:
        if field.name:
            found.append((field.name, field.type))
        elif isinstance(field.type, types.Struct):
            found += members_of(field.type)
    return found


def _average(type_: types.Average) -> Formatter:
    return stats_text if type_.full else average_text


def average_text(value: AverageValue) -> str:
    return int.__repr__(value.average)


def stats_text(value: AverageValue) -> str:
    return f"{{ .count = {value.count}, .average = {value.average}, .total = {value.total} }}"


def _histogram(type_: types.Hist | types.LHist) -> Formatter:
    from tracebee.render.histogram import histogram_formatter

    return histogram_formatter(type_)


def _series(type_: types.TSeries) -> Formatter:
    from tracebee.render.series import series_formatter

    return series_formatter(type_)


_MAKERS: dict[type[types.Type], Callable[[Any], Formatter]] = {
    types.Void: lambda type_: null_text,
    types.Int: _number,
    types.Bool: lambda type_: bool_text,
    types.Enum: _enum,
    types.Buffer: lambda type_: buffer_text,
    types.Pointer: lambda type_: hex,
    types.Array: _array,
    types.Tuple: _tuple,
    types.Record: _record,
    types.Struct: _record,
    types.Stack: lambda type_: stack_text,
    types.Count: _number,
    types.Sum: _number,
    types.Extreme: lambda type_: optional_number_text,
    types.Average: _average,
    types.Hist: _histogram,
    types.LHist: _histogram,
    types.TSeries: _series,
}
"""Types that are missing here have values that are text already."""


def zero_value(type_: types.Type) -> Any:
    """The value that a scalar map shows before anything was stored in it."""
    match type_:
        case types.Void():
            return None
        case types.Bool():
            return False
        case types.Int() | types.Enum() | types.Pointer() | types.Count() | types.Sum() | types.Extreme():
            return 0
        case types.Buffer():
            return b""
        case types.Array():
            return [zero_value(type_.element) for _ in range(type_.count)]
        case types.Tuple():
            return tuple(zero_value(element) for element in type_.elements)
        case types.Record() | types.Struct():
            return {name: zero_value(member) for name, member in members_of(type_)}
        case types.Stack():
            return StackTrace((), type_.mode, type_.user)
        case types.Average():
            return AverageValue(0, 0)
        case types.Hist() | types.LHist():
            return [0] * type_.buckets
        case types.TSeries():
            return []
    return ""
