"""The JSON output."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from tracebee.render.json import JsonRenderer, _distinct, encoder, key_formatter, number, quoted
from tracebee.spec.events import Event, Exit, Layout, Location, Printf, PrintValue, Slot
from tracebee.spec.objects import MapInfo
from tracebee.spec.printf import parse_format
from tracebee.spec.types import (
    INT8,
    INT32,
    INT64,
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
    LHist,
    Pointer,
    Record,
    Stack,
    Str,
    Struct,
    Sum,
    TSeries,
    Tuple,
    Type,
    Void,
)
from tracebee.spec.values import AverageValue, Frame, SeriesPoint, StackTrace

if TYPE_CHECKING:
    from collections.abc import Iterator

KERNEL = Stack(False, "bpftrace", 3)
STACK = StackTrace((Frame(16, "f", 2535),), "bpftrace", False)
HERE = Location("stdin", 1, 9, "stdin:1:9-62", "excerpt")
COLOUR = Enum("colour", 4, True, ((1, "RED"), (-2, "BLUE")))


class Output:
    """A renderer and what it wrote."""

    def __init__(self) -> None:
        self.out: list[str] = []
        self.renderer = JsonRenderer(self.out.append)

    @property
    def line(self) -> str:
        (line,) = self.out
        assert line.endswith("\n")
        json.loads(line)
        return line[:-1]


@pytest.fixture
def output() -> Output:
    return Output()


def value(type_: Type, shown: Any) -> str:
    output = Output()
    output.renderer.value(type_, shown)
    return output.line.removeprefix('{"type": "value", "data": ').removesuffix("}")


def mapped(key: Type | None, type_: Type, items: list[tuple[Any, Any]], *arguments: int) -> str:
    output = Output()
    output.renderer.map(MapInfo("@", "m", key, type_, False), items, *arguments)
    return output.line


@pytest.mark.parametrize(
    ("method", "kind"),
    [("printf", "printf"), ("time", "time"), ("cat", "cat"), ("join", "join"), ("system", "syscall")],
)
def test_texts(output: Output, method: str, kind: str) -> None:
    getattr(output.renderer, method)("a\n")
    assert output.line == f'{{"type": "{kind}", "data": "a\\n"}}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('test \r \n \t \\ " bar', r'"test \r \n \t \\ \" bar"'),
        ("\x00\x01\x1f", r'"\u0000\u0001\u001f"'),
        ("é\u2028", '"é\u2028"'),
        ("a\udc80b", r'"a\\x80b"'),
        ("\udcc3\udca9", '"é"'),
        ("\ud800", r'"\\ud800"'),
    ],
)
def test_strings(text: str, expected: str) -> None:
    assert quoted(text) == expected


@pytest.mark.parametrize(
    ("integer", "expected"),
    [
        (5, "5"),
        (1 << 53, "9007199254740992"),
        ((1 << 53) + 1, '"9007199254740993"'),
        (-(1 << 53) - 1, '"-9007199254740993"'),
        (1 << 63, "9223372036854775808"),
        ((1 << 64) - 1, '"18446744073709551615"'),
    ],
)
def test_numbers(integer: int, expected: str) -> None:
    assert number(integer) == expected


@pytest.mark.parametrize(
    ("type_", "shown", "expected"),
    [
        (INT32, 5, "5"),
        (UINT64, (1 << 64) - 1, '"18446744073709551615"'),
        (Bool(), 1, "true"),
        (COLOUR, 1, "1"),
        (COLOUR, -2, "-2"),
        (Pointer(Void()), 16, "16"),
        (Str(8), 'a"b', r'"a\"b"'),
        (Buffer(8), b"a\xff", "[97,255]"),
        (Void(), None, "null"),
        (Array(INT32, 2), [1, 2], "[1,2]"),
        (Tuple((INT32, INT32, Str(8))), (1, 2, "string"), '[1,2,"string"]'),
        (Tuple(()), (), "[]"),
        (Record(("a", "b"), (INT32, Bool())), {"a": 1, "b": False}, '{"a": 1, "b": false}'),
        (Tuple((INT32, KERNEL)), (1, STACK), r'[1,"\n        f+2535\n"]'),
        (Count(), 5, "5"),
        (Sum(True), -(1 << 60) - 1, '"-1152921504606846977"'),
        (Extreme(True, True), None, "0"),
    ],
)
def test_values(type_: Type, shown: Any, expected: str) -> None:
    assert value(type_, shown) == expected


def test_structs() -> None:
    inner = Struct("struct", "", 4, 4, 1, lambda: (Field("m", Array(INT32, 1), 0),))
    other = Struct("struct", "", 4, 4, 2, lambda: (Field("n", INT32, 0),))
    outer = Struct("struct", "Foo", 8, 4, 3, lambda: (Field("y", inner, 0), Field("a", other, 4)))
    assert value(outer, {"y": {"m": [2]}, "a": {"n": 3}}) == '{"y": {"m": [2]}, "a": {"n": 3}}'


def test_maps() -> None:
    assert mapped(None, Bool(), [(None, True)]) == '{"type": "map", "data": {"@": true}}'
    assert mapped(Str(4), INT32, [("b", 2), ("a", 1)]) == '{"type": "map", "data": {"@": {"a": 1, "b": 2}}}'
    triple = Tuple((INT32, INT32, Str(8)))
    assert mapped(None, triple, [(None, (1, 2, "string"))]) == (
        '{"type": "map", "data": {"@": [1,2,"string"]}}'
    )
    assert mapped(Tuple((Str(8), INT32)), INT32, [(("sh", 2), 5)]) == (
        '{"type": "map", "data": {"@": {"sh,2": 5}}}'
    )


def test_averages_are_stats() -> None:
    mean, stats = Average(True, False), Average(True, True)
    items = [(key, AverageValue(1, ten)) for key, ten in (("a", 10), ("d", 40), ("c", 30), ("b", 20))]
    assert mapped(Str(2), mean, items, 2, 10) == '{"type": "stats", "data": {"@": {"c": 3, "d": 4}}}'
    assert mapped(None, mean, items[:1]) == '{"type": "stats", "data": {"@": 10}}'
    assert mapped(Str(2), stats, items[:1]) == (
        '{"type": "stats", "data": {"@": {"a": {"count": 1, "average": 10, "total": 10}}}}'
    )


def test_histograms() -> None:
    counts = [0] * 66
    counts[6] = 1
    assert mapped(INT32, Hist(0), [(2, counts)]) == (
        '{"type": "hist", "data": {"@": {"2": [{"min": 16, "max": 31, "count": 1}]}}}'
    )
    counts[5] = 2
    counts[0] = 1
    data = json.loads(mapped(None, Hist(0), [(None, counts)]))["data"]["@"]
    assert data[0] == {"max": -1, "count": 1}
    assert data[1:3] == [{"min": 0, "max": 0, "count": 0}, {"min": 1, "max": 1, "count": 0}]
    assert data[-2:] == [{"min": 8, "max": 15, "count": 2}, {"min": 16, "max": 31, "count": 1}]
    assert mapped(None, Hist(0), [(None, [0] * 66)]) == '{"type": "hist", "data": {"@": []}}'


def test_linear_histograms_have_open_ends() -> None:
    assert mapped(None, LHist(5, 25, 10), [(None, [1, 0, 2, 3])]) == (
        '{"type": "hist", "data": {"@": [{"max": 4, "count": 1},{"min": 5, "max": 14, "count": 0},'
        '{"min": 15, "max": 24, "count": 2},{"min": 25, "count": 3}]}}'
    )


def test_the_last_bucket_of_a_histogram_is_exact() -> None:
    counts = [0] * 65 + [1]
    assert mapped(None, Hist(0), [(None, counts)]) == (
        '{"type": "hist", "data": {"@": '
        '[{"min": 9223372036854775808, "max": "18446744073709551615", "count": 1}]}}'
    )


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("utc")
def test_series_leave_out_what_is_missing() -> None:
    type_ = TSeries(100, 3, "last", True)
    points = [SeriesPoint(500_000_000, 9), SeriesPoint(600_000_000, None), SeriesPoint(700_000_000, -1)]
    assert mapped(None, type_, [(None, points)]) == (
        '{"type": "tseries", "data": {"@": ['
        '{"interval_start":"1970-01-01 00:00:00.500000000","value":9},'
        '{"interval_start":"1970-01-01 00:00:00.700000000","value":-1}]}}'
    )
    assert mapped(INT32, type_, [(1, [])]) == '{"type": "tseries", "data": {"@": {"1": []}}}'


def test_empty_maps_print_nothing(output: Output) -> None:
    output.renderer.map(MapInfo("@", "m", INT32, Count(), False), [])
    assert output.out == []


@pytest.mark.parametrize(
    ("type_", "key", "expected"),
    [
        (INT32, -5, "-5"),
        (Str(8), "b c", "b c"),
        (Str(8), "a,b", "a,b"),
        (Str(8), "a\\b", r"a\\b"),
        (Tuple((Str(8), INT32)), ("b c", 1), "b c,1"),
        (Tuple((Str(8), Str(8))), ("a,b", "c\\"), r"a\,b,c\\"),
        (Tuple((Tuple((INT8, INT8)), INT8)), ((1, 2), 3), "(1,2),3"),
        (Tuple((COLOUR, Bool())), (1, True), "RED,true"),
        (Array(Str(4), 2), ["a,", "b"], r"[a\,,b]"),
        (Record(("a", "b"), (INT32, Str(8))), {"a": 1, "b": "x y"}, "{.a=1,.b=x y}"),
        (Buffer(8), b"a,\\\0", r"a,\\\x00"),
        (Tuple((Buffer(8), INT8)), (b"a,\\\0", 1), r"a\,\\\x00,1"),
        (Pointer(Void()), 16, "0x10"),
        (KERNEL, STACK, "\n        f+2535\n"),
        (
            Tuple((KERNEL, INT8)),
            (StackTrace((Frame(1, "f<int, int>", 1),), "bpftrace", False), 1),
            "\n        f<int\\, int>+1\n,1",
        ),
    ],
)
def test_keys(type_: Type, key: Any, expected: str) -> None:
    assert key_formatter(type_)(key) == expected


def test_keys_that_hold_other_bytes_stay_apart() -> None:
    data = json.loads(mapped(Str(8), Count(), [("\udc80", 1), (r"\x80", 2)]))["data"]["@"]
    assert data == {r"\x80": 1, r"\\x80": 2}


def test_equal_texts_of_different_stacks_stay_apart() -> None:
    stacks = [StackTrace((Frame(address, "f", 1),), "bpftrace", True) for address in (1, 2, 3)]
    data = json.loads(mapped(Stack(True, "bpftrace", 3), Count(), [(stack, 5) for stack in stacks]))
    text = "\n        f+1\n"
    assert data["data"]["@"] == {text: 5, f"{text}#2": 5, f"{text}#3": 5}


def test_numbered_texts_do_not_meet_real_ones() -> None:
    assert _distinct(["a", "a#2", "a", "a", "a#2"]) == ["a", "a#2", "a#3", "a#4", "a#2#2"]


def test_messages(output: Output) -> None:
    output.renderer.errorf("bad\n", HERE)
    assert output.line == (r'{"type": "errorf", "msg": "bad\n", "filename": "stdin", "line": 1, "col": 9}')
    output.out.clear()
    output.renderer.warnf("hm", HERE)
    assert output.line == '{"type": "warnf", "msg": "hm", "filename": "stdin", "line": 1, "col": 9}'
    output.out.clear()
    output.renderer.runtime_warning("odd", HERE)
    assert output.line == (
        '{"type": "runtime_error", "msg": "odd", "filename": "stdin", "line": 1, "col": 9}'
    )
    output.out.clear()
    output.renderer.helper_failed("probe_read_user", -14, HERE)
    assert output.line == (
        '{"type": "helper_error", "msg": "Bad address", "helper": "probe_read_user", "retcode": -14, '
        '"filename": "stdin", "line": 1, "col": 9}'
    )


def test_notices(output: Output) -> None:
    output.renderer.attached(1)
    assert output.line == '{"type": "attached_probes", "count": 1, "data": {"probes": 1}}'
    output.out.clear()
    output.renderer.lost(4)
    assert output.line == '{"type": "lost_events", "count": 4, "data": {"events": 4}}'
    output.out.clear()
    output.renderer.end_of_probes()
    assert output.out == []


def event(action: Any, *types: Type) -> Event:
    return Event(0, action, Layout(tuple(Slot(type_, 0) for type_ in types), 0))


def test_lines(output: Output) -> None:
    lines = output.renderer.lines(event(Printf("printf", parse_format("%d\n")), INT32))
    assert lines is not None
    assert lines.fill((1,)) == '{"type": "printf", "data": "1\\n"}\n'
    assert lines.lines([(1,), (2,)]) == lines.fill((1,)) + lines.fill((2,))
    lines = output.renderer.lines(event(PrintValue(), Tuple((INT64, Str(8)))))
    assert lines is not None
    assert lines.lines([((5, "a"),)]) == '{"type": "value", "data": [5,"a"]}\n'
    assert output.renderer.lines(event(Exit(), INT32)) is None


def test_encoders_of_text_types() -> None:
    assert encoder(Str(8)) is quoted
