"""Places in a script: lines, columns, marks."""

from __future__ import annotations

import pytest

from tracebee.language.source import Source, Span

TEXT = "first\n\tsecond line\n\nlast"


@pytest.mark.parametrize(
    ("offset", "position"),
    [(0, (1, 1)), (4, (1, 5)), (5, (1, 6)), (6, (2, 1)), (19, (3, 1)), (20, (4, 1)), (24, (4, 5))],
)
def test_an_offset_has_a_line_and_a_column_from_1(offset: int, position: tuple[int, int]) -> None:
    assert Source("a.bt", TEXT).position(offset) == position


def test_lines_come_without_their_newline() -> None:
    source = Source("a.bt", TEXT)
    assert [source.line(number) for number in (1, 2, 3, 4)] == ["first", "\tsecond line", "", "last"]
    assert Source("empty", "").line(1) == ""


def test_a_span_in_one_line_has_marks_under_it() -> None:
    span = Span(Source("a.bt", "BEGIN { $x }"), 8, 10)
    assert span.text == "$x"
    assert span.heading == "a.bt:1:9-11"
    assert span.excerpt == "BEGIN { $x }\n        ~~"


def test_a_tab_stands_in_the_row_of_marks_as_itself() -> None:
    assert Span(Source("a.bt", TEXT), 7, 13).excerpt == "\tsecond line\n\t~~~~~~"


def test_a_span_over_lines_shows_them_without_marks() -> None:
    span = Span(Source("a.bt", TEXT), 2, 22)
    assert span.heading == "a.bt:1-4"
    assert span.excerpt == "first\n\tsecond line\n\nlast"


def test_an_empty_span_has_one_mark() -> None:
    span = Span(Source("a.bt", "abc"), 3, 3)
    assert (span.heading, span.excerpt) == ("a.bt:1:4-4", "abc\n   ~")


def test_to_joins_spans_of_one_source_only() -> None:
    source = Source("a.bt", TEXT)
    assert Span(source, 1, 3).to(Span(source, 8, 9)) == Span(source, 1, 9)
    assert Span(source, 1, 9).to(Span(source, 2, 3)) == Span(source, 1, 9)
    elsewhere = Span(Source("b.bt", TEXT), 8, 9)
    assert Span(source, 1, 3).to(elsewhere) == Span(source, 1, 3)


def test_a_location_tells_the_chain_of_macro_calls() -> None:
    source = Source("a.bt", "macro f() { 1 }\nBEGIN { f() }")
    call = Span(source, 24, 27)
    location = Span(source, 12, 13, call).location()
    assert (location.filename, location.line, location.column) == ("a.bt", 1, 13)
    assert location.heading == "a.bt:1:13-14"
    (outer,) = location.expanded_from
    assert (outer.line, outer.column, outer.heading) == (2, 9, "a.bt:2:9-12")
    assert outer.excerpt == "BEGIN { f() }\n        ~~~"
