"""The output that programs read: one JSON object a line, in the shapes of bpftrace.

It is always valid JSON (RFC 8259), which bpftrace's is not.  Bytes of strings that are not UTF-8 show as the
text ``\\x80``.  An integer that a double cannot hold is a string.  Members of objects are separated by
``", "``, items of arrays by ``","``; a point of a series has no spaces at all.
"""

from __future__ import annotations

from json.encoder import encode_basestring
from os import strerror
from typing import TYPE_CHECKING, Any

from tracebee.render.stacks import stack_text
from tracebee.render.values import UNPRINTABLE, formatter, members_of
from tracebee.spec import types
from tracebee.spec.events import Printf, PrintValue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tracebee.render.base import Item, Lines, Writer
    from tracebee.render.formats import Template
    from tracebee.render.values import Formatter
    from tracebee.spec.events import Event, Location
    from tracebee.spec.objects import MapInfo
    from tracebee.spec.values import AverageValue, SeriesPoint

EXACT = 1 << 53
"""All integers up to here have a double of their own."""


class JsonRenderer:
    """Writes everything to one place."""

    def __init__(self, write: Writer) -> None:
        self._write = write
        self._encoders: dict[int, tuple[types.Type, Formatter]] = {}

    def _encoder(self, type_: types.Type) -> Formatter:
        found = self._encoders.get(id(type_))
        if found is None:
            found = self._encoders[id(type_)] = (type_, encoder(type_))
        return found[1]

    def _line(self, kind: str, data: str) -> None:
        self._write(f'{{"type": "{kind}", "data": {data}}}\n')

    def printf(self, text: str) -> None:
        self._line("printf", quoted(text))

    def time(self, text: str) -> None:
        self._line("time", quoted(text))

    def cat(self, text: str) -> None:
        self._line("cat", quoted(text))

    def join(self, text: str) -> None:
        self._line("join", quoted(text))

    def system(self, text: str) -> None:
        self._line("syscall", quoted(text))

    def value(self, type_: types.Type, value: Any) -> None:
        self._line("value", self._encoder(type_)(value))

    def map(self, info: MapInfo, items: Sequence[Item], top: int = 0, div: int = 0) -> None:
        """A map with keys is an object; where two keys have the same text, the second is marked ``#2``."""
        from tracebee.render.maps import shown_items

        encode = self._encoder(info.value)
        shown = shown_items(info, items, top, div)
        if not shown:
            return
        if info.key is None:
            data = encode(shown[0][1])
        else:
            texts = _distinct(map(key_formatter(info.key), [key for key, _ in shown]))
            values = [encode(value) for _, value in shown]
            data = _object(zip(texts, values, strict=True))
        self._line(_MAP_TYPES.get(type(info.value), "map"), _object([(info.name, data)]))

    def errorf(self, text: str, location: Location) -> None:
        self._located("errorf", [("msg", quoted(text))], location)

    def warnf(self, text: str, location: Location) -> None:
        self._located("warnf", [("msg", quoted(text))], location)

    def runtime_warning(self, message: str, location: Location) -> None:
        self._located("runtime_error", [("msg", quoted(message))], location)

    def helper_failed(self, helper: str, result: int, location: Location) -> None:
        members = [("msg", quoted(strerror(-result))), ("helper", quoted(helper)), ("retcode", str(result))]
        self._located("helper_error", members, location)

    def _located(self, kind: str, members: list[tuple[str, str]], location: Location) -> None:
        place = [
            ("filename", quoted(location.filename)),
            ("line", str(location.line)),
            ("col", str(location.column)),
        ]
        self._write(_object([("type", quoted(kind)), *members, *place]) + "\n")

    def attached(self, count: int) -> None:
        self._write(f'{{"type": "attached_probes", "count": {count}, "data": {{"probes": {count}}}}}\n')

    def lost(self, count: int) -> None:
        self._write(f'{{"type": "lost_events", "count": {count}, "data": {{"events": {count}}}}}\n')

    def end_of_probes(self) -> None:
        pass

    def lines(self, event: Event) -> Lines | None:
        from tracebee.render.formats import Template, compile_format

        action = event.action
        arguments = tuple(slot.type for slot in event.layout.slots)
        if isinstance(action, Printf) and action.kind == "printf":
            return QuotedLines(compile_format(action.format, arguments))
        if isinstance(action, PrintValue):
            return Template('{"type": "value", "data": %s}\n', (encoder(arguments[0]),))
        return None


class QuotedLines:
    """The lines of a printf, each as an object."""

    __slots__ = ("_template",)

    def __init__(self, template: Template) -> None:
        self._template = template

    def fill(self, values: tuple[Any, ...]) -> str:
        return f'{{"type": "printf", "data": {quoted(self._template.fill(values))}}}\n'

    def lines(self, rows: Iterable[tuple[Any, ...]]) -> str:
        return "".join(
            [f'{{"type": "printf", "data": {quoted(text)}}}\n' for text in self._template.each(rows)]
        )


_MAP_TYPES: dict[type[types.Type], str] = {
    types.Average: "stats",
    types.Hist: "hist",
    types.LHist: "hist",
    types.TSeries: "tseries",
}


def quoted(text: str) -> str:
    """A JSON string."""
    return encode_basestring(text if text.isascii() else _valid(text))


def _valid(text: str) -> str:
    """The text without lone surrogates: the bytes that they stand for become ``\\xNN``."""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:  # surrogates that stand for no byte
            return text.encode("utf-8", "backslashreplace").decode()
    return text


def number(value: int) -> str:
    """A JSON number, or a string where a reader that uses doubles would not get this number."""
    if -EXACT <= value <= EXACT or float(value) == value:
        return int.__repr__(value)
    return f'"{value}"'


def _object(members: Iterable[tuple[str, str]]) -> str:
    return f"{{{', '.join([f'{quoted(name)}: {value}' for name, value in members])}}}"


def _distinct(texts: Iterable[str]) -> list[str]:
    """The texts, with a number put after those that came before."""
    seen: dict[str, int] = {}
    result = []
    for text in texts:
        unique = text
        while unique in seen:
            seen[text] += 1
            unique = f"{text}#{seen[text]}"
        seen[unique] = 1
        result.append(unique)
    return result


# Values


def encoder(type_: types.Type) -> Formatter:
    """The function that makes the JSON of a value of this type."""
    make = _ENCODERS.get(type(type_))
    return quoted if make is None else make(type_)


def _int(type_: types.Int | types.Enum) -> Formatter:
    return int.__repr__ if type_.size < 8 else number


def _bool(value: object) -> str:
    return "true" if value else "false"


def _null(value: object) -> str:
    return "null"


def _buffer(value: bytes) -> str:
    return f"[{','.join(map(str, value))}]"


def _stack(value: Any) -> str:
    return quoted(stack_text(value))


def _optional(value: int | None) -> str:
    return "0" if value is None else number(value)


def _array(type_: types.Array) -> Formatter:
    element = encoder(type_.element)
    return lambda value: f"[{','.join(map(element, value))}]"


def _tuple(type_: types.Tuple) -> Formatter:
    encoders = [encoder(element) for element in type_.elements]

    def tuple_json(value: tuple[Any, ...]) -> str:
        return f"[{','.join([encode(part) for encode, part in zip(encoders, value, strict=False)])}]"

    return tuple_json


def _record(type_: types.Record | types.Struct) -> Formatter:
    encoders = {name: encoder(member) for name, member in members_of(type_)}

    def record_json(value: dict[str, Any]) -> str:
        return _object([(name, encoders[name](member)) for name, member in value.items()])

    return record_json


def _average(type_: types.Average) -> Formatter:
    return _stats if type_.full else _mean


def _mean(value: AverageValue) -> str:
    return number(value.average)


def _stats(value: AverageValue) -> str:
    return _object(
        [
            ("count", number(value.count)),
            ("average", number(value.average)),
            ("total", number(value.total)),
        ]
    )


def _histogram(type_: types.Hist | types.LHist) -> Formatter:
    from tracebee.render.histogram import buckets

    def histogram_json(counts: Sequence[int]) -> str:
        """Bounds are inclusive; an open end has none."""
        objects = []
        for low, high, count in buckets(type_, counts):
            members = [] if low is None else [("min", number(low))]
            if high is not None:
                members.append(("max", number(high - 1)))
            objects.append(_object([*members, ("count", number(count))]))
        return f"[{','.join(objects)}]"

    return histogram_json


def _series(type_: types.TSeries) -> Formatter:
    from tracebee.render.series import interval_start

    def series_json(points: Sequence[SeriesPoint]) -> str:
        """Intervals without a value are left out."""
        objects = [
            f'{{"interval_start":{quoted(interval_start(start))},"value":{number(value)}}}'
            for start, value in points
            if value is not None
        ]
        return f"[{','.join(objects)}]"

    return series_json


_ENCODERS: dict[type[types.Type], Callable[[Any], Formatter]] = {
    types.Void: lambda type_: _null,
    types.Int: _int,
    types.Bool: lambda type_: _bool,
    types.Enum: _int,
    types.Buffer: lambda type_: _buffer,
    types.Pointer: lambda type_: number,
    types.Array: _array,
    types.Tuple: _tuple,
    types.Record: _record,
    types.Struct: _record,
    types.Stack: lambda type_: _stack,
    types.Count: lambda type_: number,
    types.Sum: lambda type_: number,
    types.Extreme: lambda type_: _optional,
    types.Average: _average,
    types.Hist: _histogram,
    types.LHist: _histogram,
    types.TSeries: _series,
}
"""Types that are missing here have values that are text already."""


# Keys


def key_formatter(type_: types.Type) -> Formatter:
    """The name of a map's item, not yet quoted.

    Parts are joined by a comma without blanks.  In text that comes from the traced system a backslash is
    doubled and, where a comma separates parts, a comma gets one, so that different keys have different names.
    """
    if isinstance(type_, types.Tuple):
        return _joined(type_.elements)
    return _key(type_, isinstance(type_, types.Array | types.Record | types.Struct))


def _joined(elements: Sequence[types.Type]) -> Formatter:
    parts = [_key(element, True) for element in elements]
    return lambda value: ",".join([text(part) for text, part in zip(parts, value, strict=False)])


def _key(type_: types.Type, composed: bool) -> Formatter:
    """A part of a key; `composed` where there may be several."""
    match type_:
        case types.Tuple():
            inside = _joined(type_.elements)
            return lambda value: f"({inside(value)})"
        case types.Array():
            element = _key(type_.element, True)
            return lambda value: f"[{','.join(map(element, value))}]"
        case types.Record() | types.Struct():
            members = {name: _key(member, True) for name, member in members_of(type_)}
            return lambda value: (
                f"{{{','.join([f'.{name}={members[name](part)}' for name, part in value.items()])}}}"
            )
        case types.Buffer():
            escapes = UNPRINTABLE | {ord("\\"): "\\\\"} | ({ord(","): "\\,"} if composed else {})
            return lambda value: value.decode("latin-1").translate(escapes)
        case types.Stack():
            return _escaped_stack if composed else _marked_stack
    text = formatter(type_)
    if text is str:
        return _escaped if composed else _marked
    return text


def _marked(text: str) -> str:
    return text.replace("\\", "\\\\")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace(",", "\\,")


def _marked_stack(stack: Any) -> str:
    return _marked(stack_text(stack))


def _escaped_stack(stack: Any) -> str:
    return _escaped(stack_text(stack))
