"""The text output."""

from __future__ import annotations

from typing import Any

import pytest

from tracebee.errors import UsageError
from tracebee.render import FORMATS, renderer
from tracebee.render.text import TextRenderer
from tracebee.spec.events import (
    Event,
    Exit,
    Layout,
    Location,
    Printf,
    PrintValue,
    Slot,
)
from tracebee.spec.objects import MapInfo
from tracebee.spec.printf import parse_format
from tracebee.spec.types import (
    INT32,
    INT64,
    Average,
    Count,
    Hist,
    LHist,
    Stack,
    Str,
    TSeries,
    Tuple,
    Type,
)
from tracebee.spec.values import AverageValue, Frame, StackTrace

KERNEL = Stack(False, "bpftrace", 3)
STACK = StackTrace((Frame(16, "f", 2535),), "bpftrace", False)
HERE = Location("stdin", 1, 9, "stdin:1:9-62", "BEGIN { errorf(1) }\n        ~~~~~~~~~")


class Output:
    """A renderer and what it wrote."""

    def __init__(self) -> None:
        self.out: list[str] = []
        self.err: list[str] = []
        self.renderer = TextRenderer(self.out.append, self.err.append)

    @property
    def text(self) -> str:
        return "".join(self.out)

    @property
    def errors(self) -> str:
        return "".join(self.err)


@pytest.fixture
def output() -> Output:
    return Output()


def test_plain_texts(output: Output) -> None:
    output.renderer.printf("a")
    output.renderer.time("12:00\n")
    output.renderer.cat("whole\nfile")
    output.renderer.join("x y")
    output.renderer.system("hi\n")
    assert output.out == ["a", "12:00\n", "whole\nfile", "x y\n", "hi\n\n"]
    assert output.errors == ""


def test_values(output: Output) -> None:
    pair = Tuple((INT32, Str(4)))
    output.renderer.value(pair, (1, "a"))
    output.renderer.value(pair, (2, "b"))
    output.renderer.value(KERNEL, STACK)
    output.renderer.value(Tuple((INT32, KERNEL)), (1, STACK))
    assert output.text == "(1, a)\n(2, b)\n\n        f+2535\n\n(1, \n        f+2535\n)\n"


def shown(key: Type | None, value: Type, items: list[tuple[Any, Any]], *arguments: int) -> str:
    output = Output()
    output.renderer.map(MapInfo("@x", "x", key, value, False), items, *arguments)
    assert len(output.out) <= 1
    return output.text


def test_maps() -> None:
    assert shown(None, INT32, [(None, 5)]) == "@x: 5\n"
    assert shown(Tuple((INT32, Str(4))), INT32, [((1, "abc"), 5)]) == "@x[1, abc]: 5\n"
    assert shown(Str(4), Count(), [("b", 2), ("a", 3)]) == "@x[b]: 2\n@x[a]: 3\n"
    assert shown(INT32, Count(), []) == ""
    assert shown(Str(4), Count(), [("b", 20), ("a", 31)], 1, 10) == "@x[a]: 3\n"


def test_averages() -> None:
    items = [(None, AverageValue(2, 21))]
    assert shown(None, Average(True, False), items) == "@x: 10\n"
    assert shown(None, Average(True, True), items) == "@x: { .count = 2, .average = 10, .total = 21 }\n"
    assert shown(None, Average(True, True), items, 0, 3) == (
        "@x: { .count = 2, .average = 3, .total = 21 }\n"
    )


def test_stacks_in_maps() -> None:
    frame = "\n        f+2535\n"
    assert shown(KERNEL, Count(), [(STACK, 1)]) == f"@x[{frame}]: 1\n"
    assert shown(Tuple((INT32, KERNEL)), Count(), [((1, STACK), 3)]) == f"@x[1, {frame}]: 3\n"
    assert shown(Tuple((KERNEL, KERNEL, Str(2))), Count(), [((STACK, STACK, "x"), 1)]) == (
        f"@x[{frame}, {frame}, x]: 1\n"
    )
    assert shown(None, KERNEL, [(None, STACK)]) == f"@x: {frame}\n"


def test_histograms() -> None:
    row = f"[5]                    1 |{'@' * 52}|\n"
    linear = LHist(0, 10, 1)
    counts = [0] * linear.buckets
    counts[6] = 1
    assert shown(None, linear, [(None, counts)]) == f"@x:\n{row}\n"
    assert shown(Str(4), linear, [("a", counts), ("b", counts)]) == f"@x[a]:\n{row}\n@x[b]:\n{row}\n"
    assert shown(None, Hist(0), [(None, [0] * 66)]) == "@x:\n\n"


def test_series() -> None:
    assert shown(INT32, TSeries(1, 1, "last", True), [(1, [])]) == "@x[1]:\n<no data>\n"


def test_messages_of_the_script(output: Output) -> None:
    output.renderer.errorf("hello\n", HERE)
    output.renderer.warnf("no newline", HERE)
    assert output.err == ["stdin:1:9-62: ERROR: hello\n", "stdin:1:9-62: WARNING: no newline\n"]
    assert output.text == ""


def test_messages_inside_macros_name_the_calls(output: Output) -> None:
    outer = Location("stdin", 2, 1, "stdin:2:1-6", "m($q);\n~~~~~")
    inner = Location("stdin", 1, 15, "stdin:1:15-40", "excerpt", (outer,))
    output.renderer.errorf("in macro\n", inner)
    assert output.errors == (
        "stdin:1:15-40: ERROR: in macro\nstdin:2:1-6: ERROR: expanded from\nm($q);\n~~~~~\n"
    )


def test_runtime_warnings_show_the_source(output: Output) -> None:
    output.renderer.runtime_warning("Divide or modulo by 0 detected.", HERE)
    assert output.errors == (
        "stdin:1:9-62: WARNING: Divide or modulo by 0 detected.\nBEGIN { errorf(1) }\n        ~~~~~~~~~\n"
    )


@pytest.mark.parametrize(
    ("helper", "result", "start"),
    [
        ("map_update_elem", -7, "Map full; can't update element. "),
        ("map_update_elem", -12, "Cannot allocate memory"),
        ("map_delete_elem", -2, "Can't delete map element because it does not exist."),
        ("map_lookup_elem", 0, "Can't lookup map element because it does not exist."),
        ("probe_read_user", -14, "Bad address"),
    ],
)
def test_helper_failures(output: Output, helper: str, result: int, start: str) -> None:
    output.renderer.helper_failed(helper, result, HERE)
    first, second, *rest = output.errors.splitlines()
    assert first.startswith(f"stdin:1:9-62: WARNING: {start}")
    assert second == f"Additional Info - helper: {helper}, retcode: {result}"
    assert rest == HERE.excerpt.splitlines()


def test_notices(output: Output) -> None:
    output.renderer.attached(1)
    output.renderer.attached(3)
    output.renderer.lost(7)
    assert output.err == ["Attached 1 probe\n", "Attached 3 probes\n", "Lost 7 events\n"]
    assert output.text == ""


def test_end_of_probes(output: Output) -> None:
    output.renderer.end_of_probes()
    assert output.text == "\n\n"


def event(action: Any, *types: Type) -> Event:
    return Event(0, action, Layout(tuple(Slot(type_, 0) for type_ in types), 0))


def test_lines(output: Output) -> None:
    lines = output.renderer.lines(event(Printf("printf", parse_format("%d %s\n")), INT32, Str(4)))
    assert lines is not None
    assert lines.format % (1, "a") == lines.fill((1, "a")) == "1 a\n"
    assert lines.lines([(1, "a"), (2, "b")]) == "1 a\n2 b\n"
    lines = output.renderer.lines(event(PrintValue(), Tuple((INT32, INT64))))
    assert lines is not None
    assert lines.lines([((1, 2),), ((3, 4),)]) == "(1, 2)\n(3, 4)\n"


def test_other_events_have_no_lines(output: Output) -> None:
    assert output.renderer.lines(event(Printf("errorf", parse_format("x"), HERE))) is None
    assert output.renderer.lines(event(Printf("system", parse_format("x")))) is None
    assert output.renderer.lines(event(Exit(), INT32)) is None


@pytest.mark.parametrize("name", FORMATS)
def test_renderers_by_name(name: str) -> None:
    out: list[str] = []
    renderer(name, out.append, out.append).attached(2)
    assert "2" in "".join(out)


def test_unknown_format() -> None:
    with pytest.raises(UsageError, match='Invalid output format "jsonx"') as caught:
        renderer("jsonx", print, print)
    assert "json" in caught.value.hint
